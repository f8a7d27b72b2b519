"""Lines over a common x, each named at its right end."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from minilm.plots.picture import ACCENT, GREY, INK, Picture, new_picture, quiet_axes

COLOURS = (ACCENT, "#d1590a", "#2e7d32", "#7b3fa0", INK, "#a67c00")
NEAREST = 0.075  # how close two names may stand, in heights of the axes


def plot_curves(
    x: Sequence[float] | np.ndarray,
    curves: Mapping[str, Sequence[float] | np.ndarray],
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    mark_best: bool = False,
) -> Picture:
    """Curves {name: y (N,)} over x (N,). Infinities and NaN are gaps. `mark_best` circles the lowest point of each.

    ValueError where there is nothing to draw, lengths differ, or a logarithmic axis meets a number that is not above 0.
    """
    places = np.asarray(x, dtype=np.float64)
    lines = {name: np.asarray(y, dtype=np.float64) for name, y in curves.items()}
    check(places, lines, log_x, log_y)
    figure = new_picture(8, 4.5)
    axes = figure.subplots()
    ends: list[tuple[float, str, str]] = []  # where the line ends, its name, its colour
    for i, (name, y) in enumerate(lines.items()):
        colour, finite = COLOURS[i % len(COLOURS)], np.flatnonzero(np.isfinite(y))
        drawn = np.where(np.isfinite(y), y, np.nan)
        axes.plot(places, drawn, "o-" if len(places) <= 30 else "-", color=colour, linewidth=2, markersize=4)
        ends.append((y[finite[-1]] if len(finite) else np.nan, name, colour))
        if mark_best and len(finite):
            best = finite[np.argmin(y[finite])]
            axes.plot(places[best], y[best], "o", markersize=12, markerfacecolor="none", markeredgecolor=colour)
    if log_x:
        axes.set_xscale("log")
        few_ticks(axes.xaxis, places)
    if log_y:
        axes.set_yscale("log")
        few_ticks(axes.yaxis, np.concatenate([*lines.values()]))
    if len(places) <= 12:
        axes.set_xticks(places)
    if len(lines) > 1:
        put_names(axes, ends, places[-1])
    axes.set_xlabel(x_label, color=INK, fontsize=12)
    axes.set_ylabel(y_label, color=INK, fontsize=12)
    axes.set_title(plain(title), loc="left", color=INK, fontsize=13)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    quiet_axes(axes, "bottom", "left")
    return figure


def check(places: np.ndarray, lines: Mapping[str, np.ndarray], log_x: bool, log_y: bool) -> None:
    """ValueError for what `plot_curves` cannot draw."""
    if not lines or len(places) == 0:
        raise ValueError("there is no curve to draw: give at least one, over at least one x")
    for name, y in lines.items():
        if places.ndim != 1 or y.shape != places.shape:
            raise ValueError(f"the curve {name!r} has shape {y.shape}, x has {places.shape}: one y for each x")
        if log_y and (y <= 0).any():
            raise ValueError(f"the curve {name!r} goes down to {y.min():g}: a logarithmic axis needs numbers above 0")
    if log_x and (places <= 0).any():
        raise ValueError(f"x goes down to {places.min():g}: a logarithmic axis needs numbers above 0")


def few_ticks(axis: Any, numbers: np.ndarray) -> None:
    """Plain numbers for ticks on the logarithmic axis of these numbers, and not too many of them."""
    numbers = numbers[np.isfinite(numbers)]
    wide = len(numbers) > 0 and numbers.max() > 1000 * numbers.min()
    axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def put_names(axes: Any, ends: Sequence[tuple[float, str, str]], last_x: float) -> None:
    """Write each name to the right of the axes, as high as its line ends: (height in data, name, colour)."""
    axes.autoscale_view()  # now, because the places of the names are read off the axes
    points = axes.transData.transform([(last_x, height) for height, *_ in ends])
    heights = axes.transAxes.inverted().transform(points)[:, 1]
    for height, (_, name, colour) in zip(spread(heights), ends, strict=True):
        axes.text(1.02, height, plain(name), transform=axes.transAxes, va="center", fontsize=11, color=colour)


def spread(heights: np.ndarray, nearest: float = NEAREST) -> np.ndarray:
    """The heights (N,) of names, moved apart to stand `nearest` from each other and not above 1; a NaN goes to the bottom.

    >>> spread(np.array([0.5, 0.5, 1.0, 0.875]), nearest=0.25)
    array([0.25, 0.5 , 1.  , 0.75])
    """
    placed = np.nan_to_num(heights, nan=0.0)
    order = np.argsort(placed, kind="stable")
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + nearest)
    highest = 1.0
    for i in order[::-1]:
        placed[i] = min(placed[i], highest)
        highest = placed[i] - nearest
    return placed


def plain(text: str) -> str:
    """The text with no dollar sign read as the beginning of a formula."""
    return text.replace("$", r"\$")
