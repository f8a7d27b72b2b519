"""A landscape of two weights, seen from above, and the ways that optimizers take through it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minilm.plots.curves import COLOURS, plain
from minilm.plots.picture import GREY, INK, Picture, new_picture, quiet_axes


def plot_paths(
    loss: Callable[[Any, Any], Any],
    paths: Mapping[str, Any],
    x_label: str = "x",
    y_label: str = "y",
    title: str = "",
) -> Picture:
    """Paths {name: points (N, 2)} over lines of equal loss, one panel a path; a dot at each step, a cross at the end.

    `loss(x, y)` takes arrays. ValueError where there is no path, or a point that is no number.
    """
    ways = {name: np.asarray(points, dtype=np.float64) for name, points in paths.items()}
    if not ways:
        raise ValueError("there is no path to draw: give at least one")
    for name, way in ways.items():
        if way.ndim != 2 or way.shape[1] != 2 or not len(way) or not np.isfinite(way).all():
            raise ValueError(f"the path {name!r} has shape {way.shape}: give finite points, (N, 2), at least one")
    every = np.concatenate([*ways.values(), np.zeros((1, 2))])
    low, high = every.min(axis=0), every.max(axis=0)
    room = 0.1 * np.maximum(high - low, 1e-9)
    x, y = np.meshgrid(*(np.linspace(low[i] - room[i], high[i] + room[i], 120) for i in range(2)))
    heights = loss(x, y)
    figure = new_picture(8, 2.4 * len(ways))
    panels = figure.subplots(len(ways), sharex=True, squeeze=False)[:, 0]
    for i, (axes, (name, way)) in enumerate(zip(panels, ways.items(), strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        axes.contour(x, y, heights, levels=np.quantile(heights, np.linspace(0.03, 0.97, 9)), colors=GREY, linewidths=1)
        axes.plot(*way.T, "o-", color=colour, linewidth=1.5, markersize=3)
        axes.plot(*way[-1], "x", color=INK, markersize=9)
        axes.set_title(plain(name), loc="left", color=colour, fontsize=11)
        axes.set_ylabel(y_label, color=INK, fontsize=12)
        quiet_axes(axes, "bottom", "left")
    panels[-1].set_xlabel(x_label, color=INK, fontsize=12)
    if title:
        figure.suptitle(plain(title), color=INK, fontsize=13)
    return figure
