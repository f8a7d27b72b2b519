"""The picture of words shows what it is given: points, names, groups, pairs; names do not lie on each other."""

import doctest

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from minilm.plots import vectors
from minilm.plots.curves import COLOURS
from minilm.plots.picture import INK
from minilm.plots.vectors import plot_vectors

POINTS = np.array([[0.0, 0.0], [1.0, 2.0], [4.0, 1.0], [-2.0, 0.5]])
NAMES = ["cat", "d$g", "oak", "elm"]


def test_points_names_groups_and_pairs():
    picture = plot_vectors(
        POINTS, NAMES, {"animals": ["cat", "d$g"], "trees": ["oak"]}, [("cat", "d$g")], (0.5, 0.25), "$ words"
    )
    assert picture._repr_png_().startswith(b"\x89PNG")
    (axes,) = picture.axes
    (scatter,) = axes.collections
    np.testing.assert_array_equal(scatter.get_offsets(), POINTS)
    assert [to_hex(c) for c in scatter.get_facecolors()] == [COLOURS[0], COLOURS[0], COLOURS[1], INK]
    named = {text.get_text(): (tuple(text.xy), to_hex(text.get_color())) for text in axes.texts}
    assert named == {
        "cat": ((0, 0), COLOURS[0]),
        r"d\$g": ((1, 2), COLOURS[0]),
        "oak": ((4, 1), COLOURS[1]),
        "elm": ((-2, 0.5), INK),
    }
    lines = [np.array(line.get_data()).T.tolist() for line in axes.lines if len(line.get_xdata())]
    assert lines == [[[0, 0], [1, 2]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["animals", "trees"]
    assert axes.get_xlabel() == "first direction: 50% of the differences"
    assert axes.get_ylabel() == "second direction: 25% of the differences, drawn 2.6 times as long"
    assert axes.get_title(loc="left") == r"\$ words"
    low, high = axes.get_xlim()
    assert low < -2 and high > 4


@pytest.mark.parametrize(
    ("high", "said"), [(6.0, ""), (3.0, ", drawn 1.7 times as long"), (1.0, ", drawn 3.0 times as long")]
)
def test_the_second_direction_is_drawn_at_most_three_times_as_long_and_that_is_said(high, said):
    points = np.array([[0.0, 0.0], [6.0, high], [3.0, high / 2]])
    (axes,) = plot_vectors(points, ["a", "b", "c"], shares=(0.9, 0.1)).axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    longer = (vectors.SIZE[1] / (top - bottom)) / (vectors.SIZE[0] / (right - left))
    assert (
        longer <= 3.0 + 1e-9
        and (left + right) / 2 == pytest.approx(3)
        and (bottom + top) / 2 == pytest.approx(high / 2)
    )
    assert left < 0 and right > 6 and bottom < 0 and top > high
    assert axes.get_ylabel().endswith(said or "of the differences")
    assert high > 1 or longer == pytest.approx(3.0)


def test_the_line_to_a_name_keeps_clear_of_other_names(monkeypatch):
    spot, size = np.array([200.0, 200.0]), np.array([600.0, 400.0])
    beside = [(100.0, 160.0, 184.0, 240.0), (216.0, 160.0, 300.0, 240.0)]
    below = [(180.0, 185.0, 195.0, 197.0), (205.0, 185.0, 215.0, 197.0)]
    above = [(188.0, 207.0, 212.0, 208.0)]  # a flat one: there is room for the name behind it, but not for its line
    step, (x, y), _ = vectors.free_place(spot, "name", beside + below + above, size)
    assert (step, x, np.sign(y)) == (1, 0.0, -1)
    monkeypatch.setattr(vectors, "CROSSED", 0.0)
    step, (x, y), _ = vectors.free_place(spot, "name", beside + below + above, size)
    assert (step, x, np.sign(y)) == (1, 0.0, 1)


def test_without_groups_and_shares():
    (axes,) = plot_vectors(POINTS[:1], NAMES[:1]).axes
    assert axes.get_legend() is None and axes.get_xlabel() == "first direction"


@pytest.mark.parametrize("seed", range(3))
def test_names_keep_clear_of_each_other(seed):
    rng = np.random.default_rng(seed)
    picture = plot_vectors(rng.normal(size=(18, 2)), [f"word{i}" for i in range(18)])
    renderer = FigureCanvasAgg(picture).get_renderer()
    picture.draw(renderer)
    (axes,) = picture.axes
    boxes = [text.get_window_extent(renderer).extents for text in axes.texts]
    overlapping = sum(vectors.overlap(a, [b]) > 2 for i, a in enumerate(boxes) for b in boxes[:i])
    assert overlapping <= 1


@pytest.mark.parametrize(
    ("points", "names", "more", "message"),
    [
        (POINTS, NAMES[:3], {}, "for 3 names"),
        (POINTS[:, :1], NAMES, {}, r"points \(4, 1\)"),
        (POINTS[:0], [], {}, "at least one"),
        (np.full((1, 2), np.nan), ["a"], {}, "NaN or infinite"),
        (POINTS, NAMES, {"groups": {"x": ["cat", "yew"]}}, "'yew' is in a group or a pair"),
        (POINTS, NAMES, {"pairs": [("cat", "yew")]}, "'yew' is in a group or a pair"),
    ],
)
def test_what_cannot_be_drawn(points, names, more, message):
    with pytest.raises(ValueError, match=message):
        plot_vectors(points, names, **more)


def test_examples():
    assert doctest.testmod(vectors).failed == 0
