"""How the loss fell: the course of a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilm.plots.picture import ACCENT, GREY, INK, Picture, new_picture, quiet_axes, save


def plot_loss(
    history: Sequence[Mapping[str, Any]],
    path: str | Path | None = None,
    unit: str = "nats per token",
    validation_unit: str = "bits per byte",
) -> Picture:
    """The training loss of each step with its running mean, and the validation text where it was looked at, the best marked.

    `history` is what `train` returns: records with "step", "loss" and now and then "validation", a number or an Evaluation.
    In one unit both share an axis, so that the distance between them can be seen; else each has a panel of its own.
    """
    if not history:
        raise ValueError("the history is empty: train for at least one step, then draw it")
    checks = [(record["step"], record["validation"]) for record in history if record.get("validation") is not None]
    two = bool(checks) and unit != validation_unit
    figure = new_picture(8, 7 if two else 4.5)
    panels = figure.subplots(2 if two else 1, sharex=True, squeeze=False)[:, 0]
    draw_training(panels[0], history)
    panels[0].set_ylabel(unit, color=INK, fontsize=12)
    if checks:
        draw_validation(panels[-1], [(step, getattr(value, "bits_per_byte", value)) for step, value in checks])
        panels[-1].set_ylabel(validation_unit, color=INK, fontsize=12)
    for axes in panels:
        axes.grid(axis="y", color=GREY, linewidth=0.5)
        axes.legend(frameon=False, fontsize=11)
        quiet_axes(axes, "bottom", "left")
    panels[-1].set_xlabel("step", color=INK, fontsize=12)
    if path is not None:
        save(figure, path)
    return figure


def draw_training(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    """The loss of each step, thin, and in its middle the mean over a thirtieth of the run."""
    steps, loss = np.array([(record["step"], record["loss"]) for record in history]).T
    window = max(1, len(loss) // 30)
    places, mean = running_mean(steps, loss, window)
    label = f"training (mean of {window} steps)" if window > 1 else "training"
    axes.plot(steps, loss, color=GREY, linewidth=1)
    axes.plot(places, mean, color=INK, linewidth=2, label=label)


def running_mean(x: np.ndarray, y: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each `window` numbers of y (N,) in a row, and where its middle lies on x (N,): both (N - window + 1,)."""
    mean = np.convolve(y, np.ones(window) / window, mode="valid")
    return x[window // 2 :][: len(mean)], mean


def draw_validation(axes: Any, checks: Sequence[tuple[int, float]]) -> None:
    """A point for each look, and a ring round the lowest with its value: that checkpoint is the one that is used."""
    axes.plot(*zip(*checks, strict=True), "o-", color=ACCENT, linewidth=2, label="validation")
    step, value = min(checks, key=lambda check: check[1])
    late = step > 0.75 * checks[-1][0]
    axes.plot(step, value, "o", markersize=12, markerfacecolor="none", color=ACCENT)
    axes.annotate(
        f"best: {value:#.3g}",
        (step, value),
        xytext=(0, 14),
        textcoords="offset points",
        ha="right" if late else "left",
        color=ACCENT,
        fontsize=12,
    )
