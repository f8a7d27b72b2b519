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
    """The training loss of each step with its running mean, and below it the validation text where it was looked at.

    `history` is what `train` returns: records with "step", "loss" and now and then "validation", a number or an Evaluation.
    The two may have different units, and do not share an axis.
    """
    if not history:
        raise ValueError("the history is empty: train for at least one step, then draw it")
    checks = [(record["step"], record["validation"]) for record in history if record.get("validation") is not None]
    figure = new_picture(8, 7 if checks else 4.5)
    panels = figure.subplots(2 if checks else 1, sharex=True, squeeze=False)[:, 0]
    steps, loss = np.array([(record["step"], record["loss"]) for record in history]).T
    window = max(1, len(loss) // 30)
    mean = np.convolve(loss, np.ones(window) / window, mode="valid")
    panels[0].plot(steps, loss, color=GREY, linewidth=1)
    panels[0].plot(
        steps[window - 1 :],
        mean,
        color=INK,
        linewidth=2,
        label=f"training (mean of {window} steps)" if window > 1 else "training",
    )
    panels[0].set_ylabel(unit, color=INK, fontsize=12)
    if checks:
        values = [getattr(value, "bits_per_byte", value) for _, value in checks]
        panels[1].plot([step for step, _ in checks], values, "o-", color=ACCENT, linewidth=2, label="validation")
        panels[1].set_ylabel(validation_unit, color=INK, fontsize=12)
    for axes in panels:
        axes.grid(axis="y", color=GREY, linewidth=0.5)
        axes.legend(frameon=False, fontsize=11)
        quiet_axes(axes, "bottom", "left")
    panels[-1].set_xlabel("step", color=INK, fontsize=12)
    if path is not None:
        save(figure, path)
    return figure
