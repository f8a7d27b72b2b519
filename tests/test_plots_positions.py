"""The clocks of lesson 13 point where the angles say."""

import math

import numpy as np
import pytest

from minilm.plots.picture import ACCENT
from minilm.plots.positions import plot_hands


def test_each_hand_points_along_its_angle() -> None:
    angles = np.array([[0.0, 0.5, -1.0], [math.pi / 2, 3.0, 7.0]])
    (axes,) = plot_hands(angles, [4, 9]).axes
    hands = [line for line in axes.lines if line.get_color() == ACCENT]
    assert len(hands) == angles.size == len(axes.patches)
    for hand, (row, column) in zip(hands, np.ndindex(2, 3), strict=True):
        (x0, x1), (y0, y1) = hand.get_xdata(), hand.get_ydata()
        assert (x0, y0) == (column, -row)
        turn = complex(x1 - x0, y1 - y0) / complex(math.cos(angles[row, column]), math.sin(angles[row, column]))
        assert turn == pytest.approx(0.4)
    assert [text.get_text() for text in axes.texts] == ["place 4", "place 9", "hand 0", "hand 1", "hand 2"]


@pytest.mark.parametrize(("shape", "places"), [((2, 3), 3), ((13, 2), 13), ((2, 13), 2), ((3,), 3), ((0, 2), 0)])
def test_angles_that_cannot_be_drawn(shape: tuple[int, ...], places: int) -> None:
    with pytest.raises(ValueError, match=f"do not fit {places} places") as error:
        plot_hands(np.zeros(shape), range(places))
    assert "\n" not in str(error.value)
