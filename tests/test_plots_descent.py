"""The picture of paths: what is drawn is what was given, and what cannot be drawn is said."""

import numpy as np
import pytest

from minilm.plots.descent import plot_paths


def bowl(x, y):
    return x * x + 3 * y * y


def test_each_path_has_a_panel_with_its_points_and_its_end():
    paths = {"steep": [[3.0, 1.0], [1.0, -0.5], [0.25, 0.125]], "costs $5": [[3.0, 1.0], [2.0, 0.0]]}
    figure = plot_paths(bowl, paths, "a", "b", "ways")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["steep", r"costs \$5"]
    for axes, points in zip(figure.axes, paths.values(), strict=True):
        way, end = axes.get_lines()
        assert np.array_equal(np.column_stack(way.get_data()), points)
        assert np.array_equal(np.column_stack(end.get_data())[0], points[-1])
    assert figure.axes[-1].get_xlabel() == "a" and figure.axes[0].get_ylabel() == "b"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_view_holds_every_point_and_the_lowest_place():
    figure = plot_paths(bowl, {"one": [[7.0, 2.0], [5.0, 4.0]]})
    axes = figure.axes[0]
    assert axes.get_xlim()[0] <= 0 <= 7 <= axes.get_xlim()[1] and axes.get_ylim()[0] <= 0 <= 4 <= axes.get_ylim()[1]


@pytest.mark.parametrize("paths", [{}, {"flat": [1.0, 2.0]}, {"lost": [[0.0, np.inf]]}, {"none": np.zeros((0, 2))}])
def test_what_cannot_be_drawn_is_said(paths):
    with pytest.raises(ValueError, match="path"):
        plot_paths(bowl, paths)
