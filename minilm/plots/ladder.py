"""The ladder as a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes, save


def plot_ladder(rungs: Iterable[Any], path: str | Path | None = None, mine: str | None = None) -> Picture:
    """A bar for each rung, one in colour, under what its model does. Shorter is better; 8 bits is no idea.

    In colour is the rung named `mine`, or else the best. A rung named "true floor" is no model but what bounds them all: its
    bar is hollow, and never the best. ValueError if there are no rungs, or none of them has the name.
    """
    rungs = list(rungs)
    if not rungs:
        raise ValueError("a ladder without rungs cannot be drawn: give at least one model")
    bits = [rung.bits_per_byte for rung in rungs]
    hollow = [rung.name == "true floor" for rung in rungs]
    names = [rung.name for rung in rungs]
    if mine is not None and mine not in names:
        raise ValueError(f"no rung is named {mine!r}: `mine` is one of {', '.join(names)}")
    best = min(range(len(rungs)), key=lambda i: (hollow[i], bits[i]))
    chosen = best if mine is None else names.index(mine)
    colours = [ACCENT if i == chosen else "white" if hollow[i] else GREY for i in range(len(rungs))]
    figure = new_picture(10, 1.3 + 0.72 * len(rungs))
    axes = figure.subplots()
    axes.barh(range(len(rungs)), bits, height=0.46, color=colours, edgecolor=[QUIET if h else "none" for h in hollow])
    for i, rung in enumerate(rungs):
        label = f"{bits[i]:.2f}   ({100 * rung.compresses_to:.0f} % of the size)"
        weight = "bold" if i == chosen else "normal"
        axes.text(bits[i] + 0.08, i, label, va="center", fontsize=12, color=INK, weight=weight)
        axes.text(0, i - 0.27, rung.sentence, va="bottom", fontsize=9, color=QUIET)
    axes.set_yticks(range(len(rungs)), names)
    axes.set_ylim(len(rungs) - 0.4, -0.75)
    axes.set_xlim(0, max(bits) * 1.33)
    title = "Bits per byte of text the models have not seen (shorter bars are better)"
    axes.set_title(title, loc="left", color=INK, fontsize=13)
    quiet_axes(axes, "left")
    axes.tick_params(axis="y", colors=INK, labelsize=12)
    axes.set_xticks([])
    if path is not None:
        save(figure, path)
    return figure
