"""The trials of a search: a panel for each option, every score over the value that it was tried with."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from minilm.plots.curves import plain
from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes

MOST_PANELS = 6
MOST_TICKS = 8
WIDE = 8.0  # a largest value so many times the smallest asks for a logarithmic axis
NARROW, SHIFT = 0.08, 0.025  # of the width of a panel: nearer ones are moved apart, and by how much

Row = tuple[Mapping[str, Any], int, Sequence[float]]  # options, budget, scores


def plot_trials(rows: Sequence[Row], score_name: str, title: str = "") -> Picture:
    """Every candidate as its scores, one for each seed and fold, joined by a line, with a dash for their mean.

    The best candidate, rows[0], is blue and stands in every panel; what was tried with a shorter budget than it is grey. A score
    that is infinite is a cross at the upper edge. Options of which there is only one value have no panel. ValueError without rows.
    """
    if not rows:
        raise ValueError("there are no trials to draw: give at least one")
    names = [name for name in rows[0][0] if len({repr(row[0].get(name)) for row in rows}) > 1][:MOST_PANELS]
    names = names or list(rows[0][0])[:1]
    columns = min(3, max(1, len(names)))
    figure = new_picture(max(5.0, 3.4 * columns + 0.6), 0.6 + 3.2 * math.ceil(max(1, len(names)) / columns))
    panels = figure.subplots(math.ceil(max(1, len(names)) / columns), columns, sharey=True, squeeze=False).ravel()
    finite = [score for _, _, scores in rows for score in scores if math.isfinite(score)]
    top = max(finite, default=1.0)
    for i, axes in enumerate(panels):
        if i >= len(names):
            axes.set_visible(False)
            continue
        draw_panel(axes, rows, names[i], top)
        if i % columns == 0:
            axes.set_ylabel(plain(score_name), color=INK, fontsize=12)
    heading = title or "each dot is a trial; blue: the best candidate"
    shorter = any(row[1] < rows[0][1] for row in rows)
    figure.suptitle(plain(heading + ("; grey: tried with fewer steps" if shorter and not title else "")), x=0.01, ha="left", color=INK, fontsize=13)
    return figure


def draw_panel(axes: Any, rows: Sequence[Row], name: str, top: float) -> None:
    """The scores of all rows over one option."""
    places = put_places(axes, [row[0].get(name) for row in rows])
    for place, (i, (_, budget, scores)) in reversed(list(zip(places, enumerate(rows), strict=True))):
        best = i == 0
        colour = ACCENT if best else INK if budget >= rows[0][1] else GREY
        order = 3 if best else 2 if budget >= rows[0][1] else 1
        numbers = [score for score in scores if math.isfinite(score)]
        if len(numbers) < len(scores):
            axes.plot([place], [top], "x", color=colour, markersize=7, zorder=order)
        if numbers:
            axes.plot([place] * len(numbers), numbers, "o-", color=colour, markersize=5 if best else 4, linewidth=1, alpha=0.8, zorder=order)
            if len(numbers) == len(scores) > 1:
                axes.plot([place], [np.mean(numbers)], "_", color=colour, markersize=16, markeredgewidth=2.5, zorder=order)
    axes.set_xlabel(plain(name), color=INK, fontsize=12)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    quiet_axes(axes, "bottom", "left")


def put_places(axes: Any, values: Sequence[Any]) -> list[float]:
    """Where the values lie on the x axis: numbers in their size, logarithmic if they are far apart, words side by side.

    Candidates of the same value are moved apart a little, so that none hides another.
    """
    different = sorted({value for value in values}, key=lambda value: (isinstance(value, str), value))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in different)
    few = len(different) <= MOST_TICKS
    if not numbers or (few and len(different) < len(values)):  # a grid: one place for each value
        ticks = {value: float(i) for i, value in enumerate(different)}
        axes.set_xticks(list(ticks.values()), [f"{value:g}" if numbers else plain(str(value)) for value in different])
        axes.set_xlim(-0.6, len(different) - 0.4)
        return moved_apart([ticks[value] for value in values], min(1.0, 0.7 * len(different)))
    if min(different) > 0 and max(different) > WIDE * min(different):
        axes.set_xscale("log")
        if few:
            axes.set_xticks(different, [f"{value:g}" for value in different])
            axes.xaxis.set_minor_locator(NullLocator())
    return [float(value) for value in values]


def moved_apart(places: Sequence[float], width: float) -> list[float]:
    """Equal places side by side, in their order, over at most 0.6 of the width.

    >>> moved_apart([0.0, 1.0, 0.0, 0.0], width=1.0)
    [-0.2, 1.0, 0.0, 0.2]
    """
    moved = []
    for i, place in enumerate(places):
        n = places.count(place)
        step = min(0.2, 0.6 / n) * width
        moved.append(round(place + (list(places[:i]).count(place) - (n - 1) / 2) * step, 9))
    return moved
