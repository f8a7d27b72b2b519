"""The pictures of lesson 09 show the numbers that they were given."""

import numpy as np
import pytest

from minilm.plots.mixing import plot_recall, plot_two_losses


def test_two_losses_are_points_and_the_marked_ones_stand_out() -> None:
    one, other = np.array([0.5, 3.0, 1.25]), np.array([2.0, 0.25, 1.5])
    figure = plot_two_losses(one, other, np.array([False, True, False]), ("A", "B"), mark="names")
    (axes,) = figure.axes
    plain, marked = axes.collections
    np.testing.assert_array_equal(plain.get_offsets(), [[0.5, 2.0], [1.25, 1.5]])
    np.testing.assert_array_equal(marked.get_offsets(), [[3.0, 0.25]])
    assert axes.get_xlabel().startswith("A") and axes.get_ylabel().startswith("B")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["other tokens", "names"]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_losses_that_cannot_be_drawn() -> None:
    for one, other, marked in (([], [], []), ([1.0], [1.0, 2.0], [True]), ([1.0, 2.0], [1.0, 2.0], [True])):
        with pytest.raises(ValueError, match="one of each"):
            plot_two_losses(np.array(one), np.array(other), np.array(marked), ("A", "B"))


def test_recall_has_a_bar_for_each_model_and_kind_and_a_dash_for_chance() -> None:
    figure = plot_recall(["names", "things"], {"short": [0.03, 0.5], "long": [0.75, 0.125]}, [0.25, 0.0625])
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.03, 0.75, 0.5, 0.125]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["names: short", "names: long", "things: short", "things: long"]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.25, 0.25, 0.0625, 0.0625]
    assert [text.get_text() for text in axes.texts] == ["3.0%", "75.0%", "50.0%", "12.5%"]


def test_recall_that_cannot_be_drawn() -> None:
    for kinds, shares, chances in (([], {}, []), (["a"], {"m": [0.1, 0.2]}, [0.5]), (["a"], {"m": [0.1]}, [])):
        with pytest.raises(ValueError, match="one share a kind"):
            plot_recall(kinds, shares, chances)
