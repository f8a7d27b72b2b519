"""The pictures of lesson 08 show the numbers that they were given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from minilm.plots.decoding import plot_draws, plot_kept
from minilm.plots.picture import ACCENT, GREY

ROW, STAYS = np.array([0.125, 0.5, 0.0625, 0.3125]), np.array([False, True, False, True])


def test_kept_tokens_stand_in_falling_order_and_in_colour() -> None:
    figure = plot_kept([ROW, ROW[:2]], [STAYS, STAYS[:2]], ["a place", "costs $5"], shown=3)
    first, second = figure.axes
    assert [bar.get_height() for bar in first.patches] == [0.5, 0.3125, 0.125]
    assert [to_hex(bar.get_facecolor()) for bar in first.patches] == [ACCENT, ACCENT, GREY]
    assert first.texts[0].get_text() == "2 of 4 stay: 81%" and second.texts[0].get_text() == "1 of 2 stay: 50%"
    assert second.get_title(loc="left") == r"costs \$5"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_draws_are_bars_and_what_is_expected_is_a_dash_between_two_deviations() -> None:
    figure = plot_draws(["a", "b"], [30, 70], [36.0, 64.0])
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [30, 70]
    spread, dashes = axes.collections
    assert [segment[0][1] for segment in dashes.get_segments()] == [36, 64]
    np.testing.assert_allclose(
        [s[:, 1] for s in spread.get_segments()], [[26.4, 45.6], [54.4, 73.6]]
    )  # 2 sqrt(36 · 0.64)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    "bad", [([], [], []), ([ROW], [STAYS], []), ([ROW], [STAYS[:3]], ["t"]), ([ROW[:0]], [STAYS[:0]], ["t"])]
)
def test_what_cannot_be_drawn(bad) -> None:
    with pytest.raises(ValueError, match="give"):
        plot_kept(*bad)
    with pytest.raises(ValueError, match="give one of each"):
        plot_draws(bad[2], [1, 2], [1.0])
