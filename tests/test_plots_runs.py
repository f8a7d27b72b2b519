"""The picture that compares runs: every curve where its numbers are, under the name that tells it from the others."""

from typing import Any

import numpy as np
import pytest

from minilm.plots.loss import running_mean
from minilm.plots.runs import MOST, Course, plot_runs, short_names


def course(name: str, n: int = 90, looks: int = 3, low: float = 2.0) -> Course:
    """The loss falls from 9 to `low`; of the looks the second is the best."""
    x = np.arange(1.0, n + 1)
    scores = low - 1.0 + 0.1 * np.abs(np.arange(looks) - 1.0)
    return Course(name, x, low + (9 - low) / x, x[n // 3 - 1 :: n // 3][:looks], scores)


def points(line: Any) -> list[tuple[float, float]]:
    return [tuple(point) for point in line.get_xydata().tolist()]


def test_both_panels_hold_the_numbers() -> None:
    first, second = course("a"), course("b", low=3.0)
    left, right = plot_runs([first, second], "steps", "nats per token", "bits per byte").axes
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("steps", "nats per token", "bits per byte")
    thin, mean, other_thin, _ = left.lines
    assert points(thin) == list(zip(first.x, first.loss, strict=True))
    assert points(other_thin) == list(zip(second.x, second.loss, strict=True))
    window = [float(first.loss[i : i + 3].mean()) for i in range(88)]  # a thirtieth of 90 steps
    assert np.array(points(mean)) == pytest.approx(np.array(list(zip(range(2, 90), window, strict=True))))
    looks, ring, _, _ = right.lines
    assert points(looks) == [(30, 1.1), (60, 1.0), (90, 1.1)] and points(ring) == [(60, 1.0)]


def test_names_stand_in_the_colour_of_their_lines_the_best_score_beside_them() -> None:
    left, right = plot_runs([course("a"), course("b$", low=3.0)], "steps", "x", "y").axes
    assert [text.get_text() for text in left.texts] == ["a", r"b\$"]
    assert [text.get_text() for text in right.texts] == ["a  1.000", r"b\$  2.000"]
    for panel, lines in ((left, (1, 3)), (right, (0, 2))):
        assert [text.get_color() for text in panel.texts] == [panel.lines[i].get_color() for i in lines]
        assert panel.texts[0].get_position()[1] < panel.texts[1].get_position()[1]


def test_the_fall_of_the_first_steps_leaves_the_picture() -> None:
    """A model without an idea begins at 9; what tells the runs apart lies below 3."""
    (axes,) = plot_runs([course("a", looks=0)], "steps", "x", "y").axes
    low, high = axes.get_ylim()
    assert low < 2.08 and 3.3 < high < 4.0 and not axes.texts  # from the fifth of 90 steps on, and some room
    short = plot_runs([course("a", n=3, looks=0)], "steps", "x", "y").axes[0]
    assert short.get_ylim()[1] > 9


def test_a_window_is_never_longer_than_the_run() -> None:
    left, _ = plot_runs([course("a", n=6, looks=1), course("b", n=60)], "steps", "x", "y", window=10).axes
    assert [len(line.get_xdata()) for line in left.lines] == [6, 1, 60, 51]
    assert points(left.lines[1]) == [(4, pytest.approx(course("a", n=6).loss.mean()))]
    assert [left.lines[i].get_marker() for i in (1, 3)] == ["o", ""]  # a line through one point cannot be seen
    plain, _ = plot_runs([course("b", n=60)], "steps", "x", "y", window=1).axes
    assert points(plain.lines[0]) == points(plain.lines[1])


def test_a_run_without_a_look_is_not_on_the_right() -> None:
    left, right = plot_runs([course("a", looks=0), course("b")], "steps", "x", "y").axes
    assert len(left.texts) == 2 and [text.get_text() for text in right.texts] == ["b  1.000"]
    assert right.lines[0].get_color() == left.lines[2].get_color() != left.lines[0].get_color()


def test_more_runs_than_colours_have_another_stroke() -> None:
    left, _ = plot_runs([course(str(i), low=2 + i / 9) for i in range(MOST)], "steps", "x", "y").axes
    looks = {(line.get_color(), line.get_linestyle()) for line in left.lines[1::2]}
    assert len(looks) == MOST
    for n in (0, MOST + 1):
        with pytest.raises(ValueError, match=f"{n} runs: a picture takes 1 to {MOST}"):
            plot_runs([course(str(i)) for i in range(n)], "steps", "x", "y")
    with pytest.raises(ValueError, match="at least one step"):
        plot_runs([Course("a", *(np.empty(0),) * 4)], "steps", "x", "y")


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/novel"], ["novel"]),
        (["checkpoints/stories-gpt", "checkpoints/stories-llama"], ["gpt", "llama"]),
        (["a/lr-1e-3/run", "a/lr-3e-3/run"], ["lr-1e-3", "lr-3e-3"]),  # a number says nothing without its name
        (["a/gpt-2", "a/gpt-4"], ["gpt-2", "gpt-4"]),
        (["a/gpt", "b/gpt"], ["a", "b"]),
        (["a/gpt", "a/gpt/inner"], ["gpt", "gpt/inner"]),
        (["x/one/gpt", "x/two/llama"], ["one/gpt", "two/llama"]),
        (["stories-gpt", "stories-gpt-long"], ["gpt", "gpt-long"]),
        (["stories_", "stories_b"], ["stories_", "stories_b"]),
    ],
)
def test_names_are_what_differs(folders: list[str], names: list[str]) -> None:
    assert short_names(folders) == names


def test_a_running_mean_by_hand() -> None:
    places, mean = running_mean(np.array([10.0, 20.0, 30.0, 40.0]), np.array([1.0, 2.0, 6.0, 4.0]), 3)
    assert places.tolist() == [20, 30] and mean.tolist() == pytest.approx([3, 4])
