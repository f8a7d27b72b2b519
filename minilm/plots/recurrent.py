"""Pictures of recurrent networks: how far gradients reach, and where a decoder looks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm

from minilm.plots.curves import plain, plot_curves
from minilm.plots.picture import INK, Picture, new_picture, quiet_axes

SMALLEST = 1e-12  # a gradient below it is drawn there


def plot_gradient_flow(norms: Mapping[str, Sequence[float]], title: str = "") -> Picture:
    """{name: the gradient's length at distance 0, 1, 2, ...} -> curves on a logarithmic axis; all of the same length."""
    lengths = {len(values) for values in norms.values()}
    if len(lengths) != 1:
        raise ValueError(f"the curves have {sorted(lengths)} distances: give at least one curve, all of one length")
    curves = {name: np.maximum(np.asarray(values, dtype=np.float64), SMALLEST) for name, values in norms.items()}
    return plot_curves(
        range(lengths.pop()),
        curves,
        "steps back",
        "length of the gradient",
        title or "How far a gradient reaches",
        log_y=True,
    )


def plot_alignment(weights: Any, source: Sequence[str], target: Sequence[str]) -> Picture:
    """Attention weights (T, S): row t shows where the decoder looked in the source when it wrote target[t].

    The colour goes with the root of the weight, as the scale beside it says, so that small weights are seen.
    """
    weights = np.asarray(weights)
    if weights.shape != (len(target), len(source)):
        raise ValueError(f"weights {weights.shape} do not fit {len(target)} target and {len(source)} source tokens")
    figure = new_picture(max(3.5, 0.28 * len(source) + 1.7), max(1.6, 0.32 * len(target) + 0.8))
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    scale = figure.colorbar(image, ax=axes, ticks=[0, 0.1, 0.25, 0.5, 1], format="{x:g}", pad=0.01)
    scale.set_label("weight", color=INK)
    quiet_axes(scale.ax)
    scale.outline.set_visible(False)
    axes.set_xticks(range(len(source)), [plain(token).replace(" ", "␣") for token in source])
    axes.set_yticks(range(len(target)), [plain(token).replace(" ", "␣") for token in target])
    axes.set_ylabel("writes", color=INK)
    axes.set_xlabel("looks at", color=INK)
    quiet_axes(axes)
    return figure
