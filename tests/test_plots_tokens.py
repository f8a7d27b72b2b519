"""The pictures of tokens show the figures that they are given: read back from what was drawn."""

import doctest

import numpy as np
import pytest
from matplotlib.colors import to_hex

from minilm.plots import tokens
from minilm.plots.tokens import FRESH, plot_compression, plot_merges, plot_zipf

ROWS = [[b" ", b"$", b"\xc3", b"\xa9", b"s"], [b" ", b"$", b"\xc3\xa9", b"s"], [b" $", b"\xc3\xa9s"]]


def axes_of(picture):
    (axes,) = picture.axes
    assert picture._repr_png_().startswith(b"\x89PNG")  # it can be drawn, and no sign is missing in the font
    return axes


def texts(axes):
    return [text.get_text() for text in axes.texts]


def lines(axes):
    return {line.get_label(): np.array(line.get_data(), dtype=float).tolist() for line in axes.lines}


def test_merges_are_boxes_as_wide_as_their_bytes():
    axes = axes_of(plot_merges(ROWS))
    assert {round(box.get_y() % 1, 6) for box in axes.patches} == {0.6}  # a row of height 0.8 around each whole number
    boxes = [(box.get_x(), round(box.get_y() + 0.4), box.get_width()) for box in axes.patches]
    assert boxes == [
        *((x, 0, 1) for x in range(5)),
        *((0, 1, 1), (1, 1, 1), (2, 1, 2), (4, 1, 1)),
        *((0, 2, 2), (2, 2, 3)),
    ]
    assert texts(axes) == ["␣", r"\$", "C3", "A9", "s", "␣", r"\$", "é", "s", r"␣\$", "és"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bytes", "step 1", "step 2"]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first step stands above the second


def test_what_a_step_has_made_is_coloured():
    axes = axes_of(plot_merges([[b"a", b"b", b"a", b"b"], [b"ab", b"ab"], [b"abab"], [b"abab"]]))
    fresh = [to_hex(box.get_facecolor()) == FRESH for box in axes.patches]
    assert fresh == [False] * 4 + [True, True] + [True] + [False]


@pytest.mark.parametrize("rows", [[], [[]], [[b"ab"], [b"a"]], [[b"a", b"b"], [b"b", b"a"]], [[b""]]])
def test_rows_that_do_not_belong_together(rows):
    with pytest.raises(ValueError, match="every row must spell the same bytes"):
        plot_merges(rows)


def test_compression():
    axes = axes_of(plot_compression([257, 400, 1000], [1.0, 1.5, 2.25], {"pieces": (700, 3.5), "letters": (60, 0.9)}))
    drawn = [np.array(line.get_data(), dtype=float).tolist() for line in axes.lines]
    assert drawn == [[[257, 400, 1000], [1.0, 1.5, 2.25]], [[700], [3.5]], [[60], [0.9]]]
    assert texts(axes) == ["pieces (700)", "letters (60)"]
    assert axes.get_xscale() == "log" and axes.xaxis.get_transform().base == 2 and axes.get_yscale() == "linear"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["257", "400", "1000"]
    assert len(axes_of(plot_compression([300], [1.2])).lines) == 1


@pytest.mark.parametrize(("sizes", "figures"), [([], []), ([300, 400], [1.0]), ([300], [1.0, 2.0])])
def test_figures_that_do_not_fit(sizes, figures):
    with pytest.raises(ValueError, match=f"{len(sizes)} sizes and {len(figures)} figures"):
        plot_compression(sizes, figures)


def test_zipf():
    counts = {"b": 40, "the$": 90, "c": 0, "a": 12, "d": 40}
    axes = axes_of(plot_zipf(counts))
    assert lines(axes) == {
        "words": [[1, 2, 3, 4], [90, 40, 40, 12]],
        "first / rank": [[1, 2, 3, 4], [90, 45, 30, 22.5]],
    }
    assert texts(axes) == [r"the\$", "b"]  # ranks 1 and 3; of two that are equally common the later letter comes first
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("counts", [{}, {"a": 0}])
def test_nothing_counted(counts):
    with pytest.raises(ValueError, match="nothing has been counted"):
        plot_zipf(counts)


def test_the_worked_examples():
    assert doctest.testmod(tokens).failed == 0 and doctest.testmod(tokens).attempted == 2
