"""Curves: every finite number is drawn where it belongs, gaps stay gaps, and names stand at the ends of their lines."""

import numpy as np
import pytest

from minilm.plots.curves import plot_curves, spread

X = [1, 2, 3, 5, 8]
CURVES = {"falls": [40, 10, 4, 2, 1], "has gaps": [40, 20, np.nan, 60, np.inf], "costs $5": [40, 30, 35, 38, 39.5]}


def lines(figure):
    """{colour: the points of the line} of the curves; rings and ticks are left out."""
    (axes,) = figure.axes
    return [line for line in axes.lines if line.get_linestyle() != "None"]


def test_every_number_is_drawn_and_gaps_are_gaps():
    drawn = lines(plot_curves(X, CURVES, "order", "perplexity"))
    assert len({line.get_color() for line in drawn}) == len(drawn) == 3
    for line, y in zip(drawn, CURVES.values(), strict=True):
        assert list(line.get_xdata()) == X
        assert np.array_equal(np.isnan(line.get_ydata()), ~np.isfinite(y))
        assert np.array_equal(line.get_ydata()[np.isfinite(y)], np.array(y)[np.isfinite(y)])


def test_labels_scales_and_ticks():
    (axes,) = plot_curves(X, {"one": CURVES["falls"]}, "order", "perplexity", title="Costs $5", log_y=True).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("order", "perplexity")
    assert axes.get_title(loc="left") == r"Costs \$5" and not axes.texts
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert list(axes.get_xticks()) == X
    (axes,) = plot_curves(X, {"one": CURVES["falls"]}, "k", "perplexity", log_x=True).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear") and list(axes.get_xticks()) == X


@pytest.mark.parametrize("log_y", [False, True])
def test_names_stand_apart_and_in_the_order_of_the_ends_in_the_colour_of_their_lines(log_y):
    curves = CURVES | {"twin": [*CURVES["costs $5"][:-1], 39.4]}
    figure = plot_curves(X, curves, "order", "perplexity", log_y=log_y)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["falls", "has gaps", r"costs \$5", "twin"]
    assert [text.get_color() for text in axes.texts] == [line.get_color() for line in lines(figure)]
    heights = [text.get_position()[1] for text in axes.texts]
    assert np.diff(sorted(heights)).min() > 0.07 and min(heights) >= 0 and max(heights) <= 1
    assert heights[0] < heights[3] < heights[2] < heights[1]  # the ends: 1, 39.4, 39.5 and, the last finite one, 60
    end = axes.transAxes.inverted().transform(axes.transData.transform((X[-1], 1)))
    assert heights[0] == pytest.approx(end[1], abs=1e-9)


def test_names_find_the_ends_of_long_linear_curves():
    x = np.arange(17) / 3
    (axes,) = plot_curves(x, {"up": 5 * x, "down": 7 - x}, "x", "y").axes
    ends = axes.transAxes.inverted().transform(axes.transData.transform([(x[-1], 5 * x[-1]), (x[-1], 7 - x[-1])]))
    assert [text.get_position()[1] for text in axes.texts] == pytest.approx(ends[:, 1], abs=1e-9)
    assert ends[0, 1] > 0.9 > 0.2 > ends[1, 1]


def test_the_best_is_ringed():
    figure = plot_curves(X, CURVES, "order", "perplexity", mark_best=True)
    rings = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [(8, 1), (2, 20), (2, 30)]
    assert not [line for line in plot_curves(X, CURVES, "x", "y").axes[0].lines if line.get_linestyle() == "None"]


def test_many_points_are_a_line_without_dots_and_any_wide_scale_has_few_ticks():
    x = np.logspace(-4, 4, 60)
    figure = plot_curves(x, {"a": x**2, "nothing": np.full(60, np.nan)}, "x", "y", log_x=True, log_y=True)
    (axes,) = figure.axes
    assert [line.get_marker() for line in lines(figure)] == ["None", "None"]
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    end = axes.transAxes.inverted().transform(axes.transData.transform((x[-1], x[-1] ** 2)))
    assert axes.texts[0].get_position()[1] == pytest.approx(end[1], abs=1e-9) and 0.9 < end[1] < 1
    assert len(ticks) == 9 and all(np.isclose(np.log10(ticks) % 1, 0))
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_it_can_be_shown_when_all_is_infinite():
    assert plot_curves([3], {"a": [np.inf], "b": [np.nan]}, "x", "y", log_y=True, mark_best=True)._repr_png_()


@pytest.mark.parametrize(
    ("x", "curves", "switches", "complaint"),
    [
        (X, {}, {}, "no curve"),
        ([], {"a": []}, {}, "no curve"),
        (X, {"a": [1, 2, 3]}, {}, r"'a' has shape \(3,\), x has \(5,\)"),
        ([X], {"a": [X]}, {}, "one y for each x"),
        (X, {"a": [5, 4, 0, 1, 2]}, {"log_y": True}, "'a' goes down to 0"),
        ([-1, 2], {"a": [1, 2]}, {"log_x": True}, "x goes down to -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(x, curves, switches, complaint):
    with pytest.raises(ValueError, match=complaint):
        plot_curves(x, curves, "x", "y", **switches)


def test_names_move_no_further_than_they_must():
    assert np.allclose(spread(np.array([0.1, 0.9, 0.5]), 0.2), [0.1, 0.9, 0.5])
    assert np.allclose(spread(np.array([0.5, 0.5, np.nan]), 0.2), [0.5, 0.7, 0.0])
    assert np.allclose(spread(np.array([0.98, 0.97, 0.96]), 0.1), [1.0, 0.9, 0.8])
