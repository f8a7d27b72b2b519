"""The trials of a search: a panel for each option, every score over the value that it was tried with."""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from minilm.plots.curves import plain
from minilm.plots.picture import ACCENT, GREY, INK, Picture, new_picture, quiet_axes

MOST_PANELS, COLUMNS = 6, 3
MOST_WORDS = 6  # values named below a panel

Row = tuple[Mapping[str, Any], int, Sequence[float]]  # options, budget, scores


def plot_trials(rows: Sequence[Row], score_name: str, drawn: Mapping[str, bool] | None = None) -> Picture:
    """Every candidate as its scores, one for each seed and fold, joined by a line, with a dash for their mean.

    The best candidate, rows[0], is blue and stands in every panel; what was tried with a smaller budget is grey. A score that is
    infinite is a cross at the upper edge. The values of an option stand side by side; only for those that were `drawn` from a range
    the axis is a scale, a logarithmic one where it says True. Options with one value have no panel. ValueError without rows.
    """
    if not rows:
        raise ValueError("there are no trials to draw: give at least one")
    names = [name for name in rows[0][0] if len({repr(row[0].get(name)) for row in rows}) > 1][:MOST_PANELS]
    names = names or list(rows[0][0])[:1]
    n_columns = min(COLUMNS, len(names))
    n_lines = math.ceil(len(names) / n_columns)
    figure = new_picture(max(5.5, 3.4 * n_columns + 0.6), 0.6 + 3.2 * n_lines)
    panels = figure.subplots(n_lines, n_columns, sharey=True, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for i, (axes, name) in enumerate(zip(panels, names, strict=False)):
        draw_panel(axes, rows, name, drawn or {})
        if i % n_columns == 0:
            axes.set_ylabel(plain(score_name), color=INK, fontsize=12)
    heading = "a dot is a trial; blue: the best candidate"
    if any(budget < rows[0][1] for _, budget, _ in rows):
        heading += ("\n" if n_columns == 1 else "; ") + "grey: tried with fewer steps"
    figure.suptitle(heading, x=0.01, ha="left", color=INK, fontsize=13)
    return figure


def draw_panel(axes: Any, rows: Sequence[Row], name: str, drawn: Mapping[str, bool]) -> None:
    """The scores of all rows over one option."""
    top = max((score for _, _, scores in rows for score in scores if math.isfinite(score)), default=1.0)
    values: list[Any] = [row[0].get(name) for row in rows]
    if name in drawn:
        places = [float(value) for value in values]
        if drawn[name]:
            axes.set_xscale("log")
            apart = max(places) / min(places)
            axes.xaxis.set_major_locator(
                LogLocator(subs=range(1, 10) if apart < 4 else (1, 3) if apart < 1000 else (1,))
            )
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        places = side_by_side(axes, values)
    for i in reversed(range(len(rows))):  # the best one last, above the others
        _, budget, scores = rows[i]
        colour = ACCENT if i == 0 else INK if budget >= rows[0][1] else GREY
        numbers = [score for score in scores if math.isfinite(score)]
        axes.plot([places[i]] * len(numbers), numbers, "o-", color=colour, markersize=6 if i == 0 else 4, linewidth=1)
        if len(numbers) < len(scores):
            axes.plot([places[i]], [top], "x", color=colour, markersize=7)
        elif len(numbers) > 1:
            axes.plot([places[i]], [np.mean(numbers)], "_", color=colour, markersize=11, markeredgewidth=2.5)
    axes.set_xlabel(plain(name), color=INK, fontsize=12)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    quiet_axes(axes, "bottom", "left")


def side_by_side(axes: Any, values: Sequence[Any]) -> list[float]:
    """A place on the x axis for each value, equal ones near each other, and their names below; of many values only some names."""
    different = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    named = range(0, len(different), math.ceil(len(different) / MOST_WORDS))
    words = [f"{different[i]:g}" if type(different[i]) is float else plain(fill(str(different[i]), 13)) for i in named]
    axes.set_xticks(list(named), words)
    axes.set_xlim(-0.6, len(different) - 0.4)
    return moved_apart([float(different.index(value)) for value in values])


def moved_apart(places: Sequence[float], width: float = 0.7) -> list[float]:
    """Equal places side by side in their order, at most 0.2 apart, all of them within the width.

    >>> moved_apart([0.0, 1.0, 0.0, 0.0])
    [-0.2, 1.0, 0.0, 0.2]
    """
    moved = []
    for i, place in enumerate(places):
        n, before = places.count(place), places[:i].count(place)
        moved.append(round(place + (before - (n - 1) / 2) * min(0.2, width / n), 9))
    return moved
