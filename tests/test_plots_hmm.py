"""The pictures of hidden states show the numbers that they were given."""

import numpy as np
import pytest

from minilm.plots.hmm import plot_emissions, plot_rounds, plot_token_states
from minilm.plots.picture import ACCENT, QUIET


def test_each_state_shows_its_likeliest_tokens() -> None:
    emission = np.array([[0.1, 0.6, 0.25, 0.05], [0.4, 0.1, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
    figure = plot_emissions(emission, [" a", "b", "\n", "$"], shown=2)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == ["state 0", "state 1", "state 2"]
    assert [[bar.get_width() for bar in axes.patches] for axes in panels] == [[0.6, 0.25], [0.4, 0.3], [0.25, 0.25]]
    labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in panels]
    assert labels == [["b", "\n"], [" a", r"\$"], [" a", "b"]] or labels[1][0] == " a"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_tokens_stand_between_the_states() -> None:
    (axes,) = plot_token_states([0.9, 0.2, 0.5], ["e", "t", "y"], [True, False, False]).axes
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert points == [0.2, 0.5, 0.9]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["t", "y", "e"]
    colours = [line.get_color() for line in axes.lines if line.get_marker() == "o"]
    assert colours[0] == colours[1] != colours[2]


def test_rounds_of_different_lengths() -> None:
    (axes,) = plot_rounds({"guess 0": [3.0, 2.5, 2.25], "guess 1": [3.5, 2.0]}).axes
    first, second = axes.lines[:2]
    assert first.get_ydata().tolist() == [3.0, 2.5, 2.25]
    assert second.get_ydata()[:2].tolist() == [3.5, 2.0] and np.isnan(second.get_ydata()[2])
    assert axes.get_ylabel() == "nats a token"


def test_the_first_rounds_may_be_left_out_and_the_best_guesses_are_in_colour() -> None:
    curves = {"guess 0": [9.0, 2.5, 2.3], "guess 1": [8.0, 2.4, 2.2, 2.0], "guess 2": [7.0, 2.001]}
    (axes,) = plot_rounds(curves, since=1, title="Guesses").axes
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3] and axes.lines[0].get_ydata()[:2].tolist() == [2.5, 2.3]
    assert axes.get_title("left") == "Guesses" and axes.get_ylim()[1] < 3
    assert [line.get_color() for line in axes.lines[:3]] == [QUIET, ACCENT, ACCENT]
    assert [name.get_color() for name in axes.texts] == [QUIET, ACCENT, ACCENT]
    assert [name.get_text() for name in axes.texts] == list(curves)
    ends = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[3:]]
    assert ends == [(2, 2.3), (3, 2.0), (1, 2.001)]


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: plot_emissions(np.ones((2, 3)), ["a", "b"]), "2 names"),
        (lambda: plot_emissions(np.ones((0, 0)), []), "0 names"),
        (lambda: plot_token_states([], []), "0 names"),
        (lambda: plot_token_states([0.5], ["a"], [True, False]), "2 marks"),
        (lambda: plot_rounds({}), "no rounds"),
        (lambda: plot_rounds({"a": []}), "no rounds"),
        (lambda: plot_rounds({"a": [3.0, 2.0], "b": [1.0]}, since=1), "from round 1 on"),
    ],
)
def test_what_cannot_be_drawn(draw, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw()
