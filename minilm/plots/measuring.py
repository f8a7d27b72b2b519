"""What a model did not expect, two measures that disagree, and the plainest row of a ladder."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes


class Row(NamedTuple):
    """A model of which no more is known than what `plot_ladder` shows.

    >>> Row("half", 4.0, "knows half of it").compresses_to
    0.5
    """

    name: str
    bits_per_byte: float
    sentence: str

    @property
    def compresses_to(self) -> float:
        """The fraction of its size to which the model would compress the text."""
        return self.bits_per_byte / 8


def plot_surprise(tokens: Sequence[str], surprises: Sequence[float] | np.ndarray, unit: str = "bits") -> Picture:
    """A bar over each of the N tokens, as high as its surprise (N,); the line is their mean.

    ValueError where there is no token, or not one finite surprise for each.
    """
    heights = np.asarray(surprises, dtype=np.float64)
    if not tokens or heights.shape != (len(tokens),):
        raise ValueError(f"surprises {heights.shape} do not fit {len(tokens)} tokens: give one for each, at least one")
    if not np.isfinite(heights).all():
        raise ValueError(f"token {int(np.argmin(np.isfinite(heights)))} has no finite surprise: no bar is so high")
    figure = new_picture(max(4.0, 0.24 * len(tokens) + 1), 3.4)
    axes = figure.subplots()
    axes.bar(range(len(tokens)), heights, width=0.8, color=[ACCENT if h > heights.mean() else GREY for h in heights])
    axes.axhline(heights.mean(), color=INK, linewidth=1, linestyle=":")
    axes.set_xticks(range(len(tokens)), [visible(token) for token in tokens], family="monospace")
    axes.set_xlim(-0.8, len(tokens) - 0.2)
    axes.set_ylabel(unit, color=INK, fontsize=12)
    title = f"Surprise at each token (dotted: the mean, {heights.mean():.2f} {unit})"
    axes.set_title(title, loc="left", color=INK, fontsize=13)
    quiet_axes(axes, "bottom")
    return figure


def plot_measures(names: Sequence[str], perplexities: Sequence[float], bits: Sequence[float]) -> Picture:
    """The same N models twice, in the same order: their perplexity per token, and their bits per byte. The lowest is in colour.

    ValueError where there is no model, or not one number of each kind for each.
    """
    if not names or not len(names) == len(perplexities) == len(bits):
        raise ValueError(
            f"{len(names)} names, {len(perplexities)} perplexities, {len(bits)} bits per byte: one of each for each model"
        )
    figure = new_picture(10, 1.2 + 0.55 * len(names))
    panels = figure.subplots(1, 2)
    for axes, title, values in zip(
        panels, ("perplexity per token", "bits per byte"), (perplexities, bits), strict=True
    ):
        best = int(np.argmin(values))
        axes.barh(
            range(len(names)), values, height=0.6, color=[ACCENT if i == best else GREY for i in range(len(names))]
        )
        for i, value in enumerate(values):
            axes.text(value + 0.02 * max(values), i, f"{value:.3g}", va="center", fontsize=12, color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, max(values) * 1.2)
        axes.set_xticks([])
        axes.set_yticks(range(len(names)), names)
        axes.set_title(title, loc="left", color=INK, fontsize=13)
        quiet_axes(axes, "left")
        axes.tick_params(axis="y", colors=INK if axes is panels[0] else QUIET, labelsize=12)
    return figure


def visible(token: str) -> str:
    """A token as a label: blanks and line ends can be seen, and a dollar sign begins no formula."""
    return token.replace("\n", "⏎").replace(" ", "␣").replace("$", r"\$")
