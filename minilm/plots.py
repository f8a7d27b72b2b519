"""Pictures of ladders, losses and attention. The only file that imports matplotlib; it needs no screen.

The figures belong to no global state: a notebook shows what a function returns, a file is replaced only when whole.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

INK, QUIET, GREY, ACCENT = "#1f2933", "#7b8794", "#cbd2d9", "#1565c0"


class Picture(Figure):
    """A figure that a notebook displays by itself."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def new_picture(width: float, height: float) -> Picture:
    """An empty white picture; inches."""
    return Picture(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure (.png, .svg or .pdf). The file appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(unfinished, dpi=160)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def quiet_axes(axes: Any, *kept: str) -> None:
    """Remove all frame lines but the kept ones, and the ticks' dashes."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in kept)
        spine.set_color(GREY)
    axes.tick_params(length=0, colors=QUIET, labelsize=11)


def plot_ladder(rungs: Iterable[Any], path: str | Path | None = None) -> Picture:
    """A bar for each rung, the best in colour, under what its model does. Shorter is better; 8 bits is no idea."""
    rungs = list(rungs)
    if not rungs:
        raise ValueError("a ladder without rungs cannot be drawn: give at least one model")
    bits = [rung.bits_per_byte for rung in rungs]
    best = int(np.argmin(bits))
    figure = new_picture(10, 1.3 + 0.72 * len(rungs))
    axes = figure.subplots()
    axes.barh(range(len(rungs)), bits, height=0.46, color=[ACCENT if i == best else GREY for i in range(len(rungs))])
    for i, rung in enumerate(rungs):
        label = f"{bits[i]:.2f}   ({100 * rung.compresses_to:.0f} % of the size)"
        weight = "bold" if i == best else "normal"
        axes.text(bits[i] + 0.08, i, label, va="center", fontsize=12, color=INK, weight=weight)
        axes.text(0, i - 0.27, rung.sentence, va="bottom", fontsize=9, color=QUIET)
    axes.set_yticks(range(len(rungs)), [rung.name for rung in rungs])
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


def plot_loss(history: Sequence[Mapping[str, Any]], path: str | Path | None = None) -> Picture:
    """The training loss of each step with its running mean, and below it the validation text where it was looked at.

    `history` is what `train` returns: records with "step", "loss" (nats per token) and now and then "validation", in bits
    per byte or an Evaluation. The two units do not share an axis.
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
    panels[0].plot(steps[window - 1 :], mean, color=INK, linewidth=2, label=f"training (mean of {window} steps)")
    panels[0].set_ylabel("nats per token", color=INK, fontsize=12)
    if checks:
        values = [getattr(value, "bits_per_byte", value) for _, value in checks]
        panels[1].plot([step for step, _ in checks], values, "o-", color=ACCENT, linewidth=2, label="validation")
        panels[1].set_ylabel("bits per byte", color=INK, fontsize=12)
    for axes in panels:
        axes.grid(axis="y", color=GREY, linewidth=0.5)
        axes.legend(frameon=False, fontsize=11)
        quiet_axes(axes, "bottom", "left")
    panels[-1].set_xlabel("step", color=INK, fontsize=12)
    if path is not None:
        save(figure, path)
    return figure


def plot_attention(weights: Any, tokens: Sequence[str]) -> Picture:
    """Attention weights (T, S), or (H, T, S) for a panel a head: row t shows where token t looks; each row sums to 1.

    The S tokens name the columns, the last T of them the rows.
    """
    panels = np.asarray(weights)
    panels = panels[None] if panels.ndim == 2 else panels
    if panels.ndim != 3 or panels.shape[2] != len(tokens) or panels.shape[1] > len(tokens):
        raise ValueError(
            f"weights {panels.shape} do not fit {len(tokens)} tokens: give (T, S) or (H, T, S) and S tokens"
        )
    heads, n_queries, n_keys = panels.shape
    columns = min(heads, 4)
    size = max(2.2, 0.32 * n_keys + 1)
    figure = new_picture(size * columns, size * -(-heads // columns))
    for head, axes in enumerate(figure.subplots(-(-heads // columns), columns, squeeze=False).flat):
        if head >= heads:
            axes.set_visible(False)
            continue
        axes.imshow(panels[head], cmap="Blues", vmin=0, vmax=1)
        names = [token.replace("\n", "⏎").replace(" ", "␣").replace("$", r"\$") for token in tokens]
        axes.set_xticks(range(n_keys), names, rotation=90)
        axes.set_yticks(range(n_queries), names[n_keys - n_queries :])
        quiet_axes(axes)
        if heads > 1:
            axes.set_title(f"head {head}", fontsize=11, color=INK)
    return figure
