"""A scaling law: the small runs, the curve through them, and what it says of a larger one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm.plots.curves import few_ticks
from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes

LARGER = "#d1590a"


def plot_scaling(
    x: Sequence[float] | np.ndarray,
    losses_by_seed: Sequence[Sequence[float]] | np.ndarray,
    law: Any,
    predicted: tuple[float, float, float, float] | None = None,
    measured: Sequence[float] = (),
    x_label: str = "weights of the blocks",
    y_label: str = "nats per token",
) -> Picture:
    """The losses (S, N) of S seeds at each x (N,), the law through them, and the prediction (at, low, median, high).

    `law(x)` gives the loss at any x; where it has a floor, that is drawn too. `measured` are the losses of the larger runs.
    ValueError where shapes differ or a number is not above 0: both axes are logarithms.
    """
    places, losses = np.asarray(x, dtype=np.float64), np.atleast_2d(np.asarray(losses_by_seed, dtype=np.float64))
    if places.ndim != 1 or losses.shape[1:] != places.shape or not len(places):
        raise ValueError(f"x has shape {places.shape}, the losses {losses.shape}: give (points,) and (seeds, points)")
    if not (places > 0).all() or not (losses > 0).all():
        raise ValueError("x or a loss is not above 0: a logarithmic axis has no place for it")
    figure = new_picture(8, 5)
    axes = figure.subplots()
    last = predicted[0] if predicted else places.max()
    inside = np.geomspace(places.min(), places.max(), 200)
    axes.plot(inside, law(inside), color=ACCENT, linewidth=2)
    if last > places.max():
        beyond = np.geomspace(places.max(), last, 200)
        axes.plot(beyond, law(beyond), "--", color=ACCENT, linewidth=2)
    axes.plot(np.broadcast_to(places, losses.shape).ravel(), losses.ravel(), "o", color=ACCENT, markersize=5, alpha=0.7)
    drawn = [losses.ravel(), np.atleast_1d(law(last)), *([predicted[1:]] if predicted else []), list(measured)]
    if predicted:
        draw_prediction(axes, predicted, measured)
    axes.set_xscale("log")
    axes.set_yscale("log")
    few_ticks(axes.xaxis, np.append(places, last))
    axes.xaxis.set_major_formatter("{x:,g}")
    few_ticks(axes.yaxis, np.concatenate([np.asarray(part, dtype=np.float64) for part in drawn]))
    draw_law(axes, law)
    axes.set_xlabel(x_label, color=INK, fontsize=12)
    axes.set_ylabel(y_label, color=INK, fontsize=12)
    axes.grid(color=GREY, linewidth=0.5)
    quiet_axes(axes, "bottom", "left")
    return figure


def draw_prediction(axes: Any, predicted: Sequence[float], measured: Sequence[float]) -> None:
    """A bar over the interval, and a star for each run that checks it."""
    at, low, median, high = predicted
    axes.plot([at, at], [low, high], color=GREY, linewidth=9, solid_capstyle="butt", zorder=1)
    axes.plot(at, median, "_", color=INK, markersize=14, markeredgewidth=2)
    words = f"predicted {median:.3f}\n({low:.3f} to {high:.3f})"
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # the curve passes behind
    place = {"textcoords": "offset points", "ha": "right", "fontsize": 11}
    axes.annotate(words, (at, high), (-8, 10), color=QUIET, bbox=clear, **place)
    if len(measured):
        axes.plot([at] * len(measured), measured, "*", color=LARGER, markersize=15)
        words = f"measured {', '.join(f'{loss:.3f}' for loss in measured)}"
        foot = (at, min(low, *measured))  # below all, where the curve is not
        axes.annotate(words, foot, (-8, -10), color=LARGER, **place)
        axes.margins(y=0.1)


def draw_law(axes: Any, law: Any) -> None:
    """The law as a formula, as far as it says its numbers."""
    if hasattr(law, "exponent"):
        floor = f"{law.floor:.3g} + " if law.floor > 0 else ""
        words = f"loss = {floor}{law.scale:.3g} / x$^{{{law.exponent:.3g}}}$"
        axes.set_title(words, loc="left", color=INK, fontsize=13)
