"""The pictures of lesson 02 show the numbers that they were given."""

import doctest
import math
from typing import Any

import numpy as np
import pytest

from minilm.plots import measuring
from minilm.plots.ladder import plot_ladder
from minilm.plots.measuring import Row, plot_measures, plot_surprise
from minilm.plots.picture import ACCENT, GREY


def colours(axes: Any) -> list[str]:
    """The colour of each bar, as the house names it."""
    names = {tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)): c for c in (ACCENT, GREY)}
    return [names[tuple(round(255 * x) for x in bar.get_facecolor()[:3])] for bar in axes.patches]


def test_surprise_has_a_bar_for_each_token() -> None:
    figure = plot_surprise(["a", " ", "\n", "$x"], np.array([1.0, 0.5, 4.5, 0.0]), unit="nats")
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [1.0, 0.5, 4.5, 0.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "␣", "⏎", r"\$x"]
    assert colours(axes) == [GREY, GREY, ACCENT, GREY]  # what is above the mean, 1.5
    assert list(axes.lines[0].get_ydata()) == [1.5, 1.5]
    assert "1.50 nats" in axes.get_title(loc="left") and axes.get_ylabel() == "nats"
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("tokens", "surprises", "said"),
    [
        ([], [], "at least one"),
        (["a", "b"], [1.0], r"surprises \(1,\) do not fit 2 tokens"),
        (["a"], [[1.0]], r"surprises \(1, 1\)"),
        (["a", "b"], [1.0, math.inf], "token 1 has no finite surprise"),
        (["a", "b"], [math.nan, 2.0], "token 0 has no finite surprise"),
    ],
)
def test_surprises_that_cannot_be_drawn(tokens: list[str], surprises: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        plot_surprise(tokens, surprises)
    assert "\n" not in str(error.value)


def test_measures_stand_side_by_side_each_with_its_own_best() -> None:
    figure = plot_measures(["x", "yy", "z"], [20.0, 14.25, 180.0], [2.5, 3.75, 1.875])
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [20.0, 14.25, 180.0]
    assert [bar.get_width() for bar in right.patches] == [2.5, 3.75, 1.875]
    assert colours(left) == [GREY, ACCENT, GREY] and colours(right) == [GREY, GREY, ACCENT]
    for axes, title, numbers in ((left, "perplexity", ["20", "14.2", "180"]), (right, "bits", ["2.5", "3.75", "1.88"])):
        assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "yy", "z"]
        assert [text.get_text() for text in axes.texts] == numbers and title in axes.get_title(loc="left")
        top, bottom = axes.get_ylim()[::-1]
        assert top < 0 < 2 < bottom  # the first model on top
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(("names", "perplexities", "bits"), [([], [], []), (["a"], [2.0], []), (["a"], [], [2.0])])
def test_measures_need_one_number_of_each_kind(names: list[str], perplexities: list[float], bits: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(names)} names, {len(perplexities)} perplexities, {len(bits)} bits"):
        plot_measures(names, perplexities, bits)


def test_a_row_stands_on_the_ladder() -> None:
    (axes,) = plot_ladder([Row("no idea", 8.0, "guesses"), Row("some idea", 2.0, "counts")]).axes
    assert [text.get_text() for text in axes.texts if "size" in text.get_text()] == [
        "8.00   (100 % of the size)",
        "2.00   (25 % of the size)",
    ]
    assert doctest.testmod(measuring).failed == 0 and doctest.testmod(measuring).attempted == 1
