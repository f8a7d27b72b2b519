"""Confusion matrices and learning curves: every number is where it belongs, and what cannot be drawn is refused."""

import numpy as np
import pytest

from minilm.plots.classification import plot_confusion, plot_learning_curves, summaries

COUNTS = [[1200, 300, 0], [2, 6, 0], [0, 0, 0]]
SIZES = [10, 100, 1000]
SCORES = {"naive Bayes": [[0.5, 0.7, 0.9], [0.8], [0.9, 0.8]], "costs $5": [[], [0.6, 0.75, 0.7], [0.9, 0.95]]}


def test_each_square_has_its_count_and_its_share_of_the_row():
    (axes,) = plot_confusion(COUNTS, ["a", "b", "costs $5"], "Who is who").axes
    squares = {text.get_position(): text.get_text() for text in axes.texts}  # (column, row)
    assert (
        len(squares) == 9
        and squares[0, 0] == "1,200\n80 %"
        and squares[1, 0] == "300\n20 %"
        and squares[2, 0] == "0\n0 %"
    )
    assert squares[0, 1] == "2\n25 %" and squares[1, 1] == "6\n75 %"
    assert [squares[j, 2] for j in range(3)] == ["0"] * 3
    shown = np.asarray(axes.images[0].get_array())
    assert np.allclose(shown, [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]], atol=1e-12)
    assert axes.images[0].get_clim() == (0, 1)
    white = [text.get_position() for text in axes.texts if text.get_color() == "white"]
    assert white == [(0, 0), (1, 1)]
    assert (axes.get_ylabel(), axes.get_xlabel(), axes.get_title(loc="left")) == (
        "true label",
        "label given",
        "Who is who",
    )
    assert [t.get_text() for t in axes.get_yticklabels()] == [t.get_text() for t in axes.get_xticklabels()]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", r"costs \$5"]


@pytest.mark.parametrize(
    ("counts", "labels", "says"),
    [
        ([[1, 2]], ["a"], "do not fit 1 labels"),
        ([[1, 2], [3, 4]], ["a"], "do not fit 1 labels"),
        ([], [], "at least one"),
        ([[0.5]], ["a"], "whole numbers"),
        ([[-1]], ["a"], "whole numbers"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(counts, labels, says):
    with pytest.raises(ValueError, match=says):
        plot_confusion(counts, labels)


def test_lines_are_medians_and_bands_go_from_the_worst_to_the_best():
    (axes,) = plot_learning_curves(SIZES, SCORES, "macro F1", "Costs $5", chance=0.5).axes
    curves = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert [list(line.get_xdata()) for line in curves] == [SIZES, SIZES]
    assert np.allclose(curves[0].get_ydata(), [0.7, 0.8, 0.85]) and np.isnan(curves[1].get_ydata()[0])
    assert np.allclose(curves[1].get_ydata()[1:], [0.7, 0.925])
    corners = [{(x, round(y, 6)) for path in band.get_paths() for x, y in path.vertices} for band in axes.collections]
    assert corners[0] >= {(10, 0.5), (10, 0.9), (100, 0.8), (1000, 0.8), (1000, 0.9)} and len(corners) == 2
    assert corners[1] >= {(100, 0.6), (100, 0.75), (1000, 0.9), (1000, 0.95)} and min(x for x, _ in corners[1]) == 100
    assert curves[0].get_color() != curves[1].get_color()
    names = {text.get_text(): text for text in axes.texts}
    assert list(names) == ["chance", "naive Bayes", r"costs \$5"]
    assert names["naive Bayes"].get_color() == curves[0].get_color()
    assert names[r"costs \$5"].get_position()[1] > names["naive Bayes"].get_position()[1]
    (dotted,) = (line for line in axes.lines if line.get_linestyle() == ":")
    assert set(dotted.get_ydata()) == {0.5}


def test_the_axis_counts_examples_in_logarithms():
    figure = plot_learning_curves(SIZES, SCORES, "macro F1", "Costs $5")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and list(axes.get_xticks()) == SIZES and not len(axes.get_xticks(minor=True))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100", "1,000"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training examples", "macro F1")
    assert axes.get_title(loc="left") == r"Costs \$5" and len(axes.lines) == 2
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_summaries_of_lists_of_any_length():
    low, middle, high = summaries([[3.0, 1.0, 10.0], [], [4.0, 1.0]])
    assert np.array_equal(low, [1, np.nan, 1], equal_nan=True) and np.array_equal(high, [10, np.nan, 4], equal_nan=True)
    assert np.array_equal(middle, [3, np.nan, 2.5], equal_nan=True)


@pytest.mark.parametrize(
    ("sizes", "scores", "says"),
    [
        ([], {"a": []}, "no curve to draw"),
        ([1], {}, "no curve to draw"),
        ([0, 1], {"a": [[1], [1]]}, "from 1, ascending"),
        ([2, 2], {"a": [[1], [1]]}, "from 1, ascending"),
        ([1, 2], {"a": [[1]]}, "'a' has scores for 1 sizes, there are 2"),
        ([1], {"a": [[np.nan]]}, "'a' has a score that is no finite number"),
    ],
)
def test_what_is_no_learning_curve_is_refused(sizes, scores, says):
    with pytest.raises(ValueError, match=says):
        plot_learning_curves(sizes, scores)
