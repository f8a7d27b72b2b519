"""Where a token stands, as clocks: one hand for each pair of numbers that turns with the place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Circle

from minilm.plots.picture import ACCENT, GREY, INK, Picture, new_picture

MOST = 12  # clocks in a row or column; more could not be read


def plot_hands(angles: Any, places: Sequence[float] | np.ndarray) -> Picture:
    """Angles (T, N) in radians as T rows of N clocks, a row for each of the places (T,), the first hand at the left.

    Angle 0 points to the right and angles grow against the clock, as in mathematics. ValueError where there are more than 12
    rows or columns, or not one row for each place.
    """
    turns = np.asarray(angles, dtype=np.float64)
    if turns.ndim != 2 or len(turns) != len(places) or not 1 <= min(turns.shape) <= max(turns.shape) <= MOST:
        raise ValueError(
            f"angles {turns.shape} do not fit {len(places)} places: give (T, N), a row for each, at most {MOST} by {MOST}"
        )
    rows, columns = turns.shape
    figure = new_picture(0.85 * columns + 1, 0.85 * rows + 0.4)
    axes = figure.subplots()
    for row, column in np.ndindex(rows, columns):
        angle, centre = turns[row, column], np.array([column, -row])
        tip = centre + 0.4 * np.array([np.cos(angle), np.sin(angle)])
        axes.add_patch(Circle(tuple(centre), 0.42, facecolor="white", edgecolor=GREY, linewidth=1.5))
        axes.plot(*zip(centre, tip, strict=True), color=ACCENT, linewidth=2.5, solid_capstyle="round")
    for row, place in enumerate(places):
        axes.text(-0.75, -row, f"place {place:g}", ha="right", va="center", fontsize=11, color=INK)
    for column in range(columns):
        axes.text(column, 0.65, f"hand {column}", ha="center", fontsize=11, color=INK)
    axes.set(xlim=(-1.7, columns - 0.5), ylim=(-rows + 0.5, 0.9), aspect="equal")
    axes.axis("off")
    return figure
