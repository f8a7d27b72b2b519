"""The pictures of lesson 16 show the numbers that they were given."""

import numpy as np
import pytest

from minilm.plots.smaller import plot_limits, plot_sizes


def test_sizes_are_points_and_the_joined_ones_have_a_line() -> None:
    series = {"rows": [(4.0, 0.5), (1.0, 0.75)], "seeds": [(2.0, 0.6), (2.0, 0.7), (2.0, 0.65)]}
    figure = plot_sizes(series, "bytes", "bits", joined=["rows"])
    (axes,) = figure.axes
    rows, seeds = axes.lines
    np.testing.assert_array_equal(np.column_stack(rows.get_data()), series["rows"])
    np.testing.assert_array_equal(np.column_stack(seeds.get_data()), series["seeds"])
    assert rows.get_linestyle() == "-" and seeds.get_linestyle() == "None" and axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["rows", "seeds"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("bytes", "bits")
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ({}, "nothing to draw"),
        ({"a": []}, "nothing to draw"),
        ({"a": [(0.0, 1.0)]}, "above 0"),
        ({"a": [(1.0, float("nan"))]}, "finite"),
    ],
)
def test_sizes_that_cannot_be_drawn(series: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plot_sizes(series, "x", "y")


def test_a_limit_is_dotted_in_the_colour_of_its_curve() -> None:
    measured = {"float32": [20.0, 15.0], "readable": [5.0, 4.0], "int8": [50.0, 30.0]}
    limits = {"float32": [40.0, 25.0], "int8": [160.0, 60.0]}
    (axes,) = plot_limits([1, 512], measured, limits, "length", "tokens a second", "Speed").axes
    drawn = [(line.get_ydata().tolist(), line.get_linestyle(), line.get_color()) for line in axes.lines]
    assert [row for row, *_ in drawn] == [[20.0, 15.0], [40.0, 25.0], [5.0, 4.0], [50.0, 30.0], [160.0, 60.0]]
    assert [style for _, style, _ in drawn] == ["-", ":", "-", "-", ":"]
    assert drawn[0][2] == drawn[1][2] != drawn[2][2] and drawn[3][2] == drawn[4][2] != drawn[0][2]
    names = ["float32", "limit of float32", "readable", "int8", "limit of int8"]
    assert [text.get_text() for text in axes.texts] == names and axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("x", "measured", "limits", "said"),
    [
        ([], {"a": []}, {}, "one number for each place"),
        ([1, 2], {}, {}, "one number for each place"),
        ([1, 2], {"a": [1.0]}, {}, "one number for each place"),
        ([1, 2], {"a": [1.0, 2.0]}, {"a": [1.0]}, "one number for each place"),
        ([1], {"a": [0.0]}, {}, "above 0"),
        ([1], {"a": [1.0]}, {"a": [float("inf")]}, "above 0"),
        ([1], {"a": [1.0]}, {"b": [1.0]}, "no curve"),
    ],
)
def test_limits_that_cannot_be_drawn(x: list, measured: dict, limits: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plot_limits(x, measured, limits, "x", "y")
