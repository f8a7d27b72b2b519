"""How a token is chosen: what a filter leaves of a distribution, and what was drawn beside what should be."""

from collections.abc import Sequence

import numpy as np

from minilm.plots.curves import plain
from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes


def plot_kept(
    rows: Sequence[np.ndarray], kept: Sequence[np.ndarray], titles: Sequence[str], shown: int = 30
) -> Picture:
    """For each row of probabilities (V,) a panel with bars for its likeliest tokens, in colour those that are kept (V,).

    Each panel says how many of all V tokens stay, and what they have together. ValueError where there is nothing to draw, or
    not one mark for each probability and one title for each row.
    """
    if len(rows) == 0 or not len(rows) == len(kept) == len(titles):
        raise ValueError(f"{len(rows)} rows, {len(kept)} of marks, {len(titles)} titles: give one of each for a panel")
    figure = new_picture(4.2 * len(rows), 3.2)
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    for axes, row, marks, title in zip(panels, rows, kept, titles, strict=True):
        p, stays = np.asarray(row, dtype=np.float64), np.asarray(marks, dtype=bool)
        if p.ndim != 1 or p.shape != stays.shape or len(p) == 0:
            raise ValueError(f"probabilities {p.shape}, marks {stays.shape}: give a mark for each token")
        first = np.argsort(-p, kind="stable")[:shown]
        colours = [ACCENT if stays[token] else GREY for token in first]
        axes.bar(np.arange(1, len(first) + 1), p[first], color=colours, width=0.85)
        axes.set_title(plain(title), loc="left", color=INK, fontsize=12)
        said = f"{int(stays.sum())} of {len(p)} stay: {p[stays].sum():.0%}"
        axes.text(0.98, 0.92, said, transform=axes.transAxes, ha="right", color=INK, fontsize=11)
        axes.set_xlabel("tokens, the likeliest first", color=INK, fontsize=11)
        quiet_axes(axes, "bottom", "left")
    panels[0].set_ylabel("probability", color=INK, fontsize=11)
    return figure


def plot_draws(labels: Sequence[str], observed: Sequence[int], expected: Sequence[float]) -> Picture:
    """A bar for each label, as high as it was drawn; the dash is how often it should be, the thin line two deviations.

    The deviation of a count that should be E of n is sqrt(E (1 - E / n)). ValueError where there is nothing, or not one of each.
    """
    if len(labels) == 0 or not len(labels) == len(observed) == len(expected):
        raise ValueError(
            f"{len(labels)} labels, {len(observed)} and {len(expected)} counts: give one of each for a bar"
        )
    counts, mean = np.asarray(observed, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    spread = 2 * np.sqrt(np.maximum(mean * (1 - mean / mean.sum()), 0))
    figure = new_picture(7, 3.4)
    axes = figure.subplots()
    places = np.arange(len(labels))
    axes.bar(places, counts, color=GREY, width=0.7)
    axes.vlines(places, mean - spread, mean + spread, color=ACCENT, linewidth=1.5)
    axes.hlines(mean, places - 0.4, places + 0.4, color=ACCENT, linewidth=2.5)
    axes.set_xticks(places, labels)
    axes.set_ylabel("times drawn", color=INK, fontsize=11)
    axes.set_title("Drawn (bars) and expected (dash, give or take 2 deviations)", loc="left", color=INK, fontsize=12)
    quiet_axes(axes, "bottom", "left")
    axes.tick_params(axis="x", colors=QUIET)
    return figure
