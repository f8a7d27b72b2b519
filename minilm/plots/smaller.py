"""The pictures of lesson 16: what a model's quality costs in bytes, and what its speed is beside what the memory allows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minilm.plots.curves import COLOURS, few_ticks, plain, put_names
from minilm.plots.picture import GREY, INK, Picture, new_picture, quiet_axes


def plot_sizes(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    title: str = "",
    joined: Sequence[str] = (),
) -> Picture:
    """Points {name: [(size, cost), ...]} over a logarithmic axis of sizes. Those of the series in `joined` are joined by a line.

    ValueError where there is nothing to draw, a size is not above 0, or a number is not finite.
    """
    points = {name: np.array(pairs, dtype=np.float64).reshape(-1, 2) for name, pairs in series.items()}
    sizes = np.concatenate([*(pairs for pairs in points.values()), np.empty((0, 2))])
    if len(sizes) == 0 or any(len(pairs) == 0 for pairs in points.values()):
        raise ValueError("there is nothing to draw: give at least one point for each name")
    if not np.isfinite(sizes).all() or (sizes[:, 0] <= 0).any():
        raise ValueError("every point is a size above 0 and a cost, both finite")
    figure = new_picture(8, 4.5)
    axes = figure.subplots()
    axes.set_xscale("log")
    for i, (name, pairs) in enumerate(points.items()):
        line, colour = "-" if name in joined else "", COLOURS[i % len(COLOURS)]
        axes.plot(*pairs.T, marker="o", linestyle=line, color=colour, linewidth=2, alpha=0.85, label=plain(name))
    few_ticks(axes.xaxis, sizes[:, 0])
    axes.legend(frameon=False, labelcolor=INK, fontsize=11)
    label(axes, x_label, y_label, title)
    return figure


def plot_limits(
    x: Sequence[float],
    measured: Mapping[str, Sequence[float]],
    limits: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    title: str = "",
) -> Picture:
    """Measured curves {name: y (N,)} over x (N,), and for each name in `limits` a dotted line in the same colour: its roof.

    The axis of y is logarithmic. ValueError where there is nothing to draw, lengths differ, a number is not above 0, or
    a limit has no curve.
    """
    rows = {**measured, **{f"{name} (limit)": row for name, row in limits.items()}}
    if not measured or len(x) == 0 or any(len(row) != len(x) for row in rows.values()):
        raise ValueError(
            f"{len(x)} places, and rows of {[len(row) for row in rows.values()]}: one number for each place"
        )
    if any(not np.isfinite(row).all() or min(row) <= 0 for row in rows.values()):
        raise ValueError("the axis is logarithmic: all numbers must be above 0 and finite")
    if unknown := [name for name in limits if name not in measured]:
        raise ValueError(f"a limit for {unknown[0]!r}, which has no curve")
    figure = new_picture(8, 4.5)
    axes, ends = figure.subplots(), []
    axes.set_yscale("log")
    for i, (name, row) in enumerate(measured.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(x, row, "o-", color=colour, linewidth=2, markersize=5)
        ends.append((row[-1], name, colour))
        if name in limits:
            axes.plot(x, limits[name], ":", color=colour, linewidth=2)
            ends.append((limits[name][-1], f"limit of {name}", colour))
    axes.set_xticks(list(x))
    few_ticks(axes.yaxis, np.concatenate([np.asarray(row, dtype=np.float64) for row in rows.values()]))
    put_names(axes, ends, x[-1])
    label(axes, x_label, y_label, title)
    return figure


def label(axes: Any, x_label: str, y_label: str, title: str) -> None:
    """Names of the axes, the title, and lines to read heights by."""
    axes.set_xlabel(x_label, color=INK, fontsize=12)
    axes.set_ylabel(y_label, color=INK, fontsize=12)
    axes.set_title(plain(title), loc="left", color=INK, fontsize=13)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    quiet_axes(axes, "bottom", "left")
