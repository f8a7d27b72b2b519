"""Where tokens look: attention weights as panels of squares."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm.plots.picture import INK, Picture, new_picture, quiet_axes

WIDEST = 11.0  # inches


def plot_attention(weights: Any, tokens: Sequence[str]) -> Picture:
    """Attention weights (T, S), or (H, T, S) for a panel a head: row t shows where token t looks; each row sums to 1.

    The S tokens name the columns, the last T of them the rows. Four panels stand side by side, or as many as the page holds.
    """
    panels = np.asarray(weights)
    panels = panels[None] if panels.ndim == 2 else panels
    if panels.ndim != 3 or panels.shape[2] != len(tokens) or panels.shape[1] > len(tokens):
        raise ValueError(
            f"weights {panels.shape} do not fit {len(tokens)} tokens: give (T, S) or (H, T, S) and S tokens"
        )
    heads, n_queries, n_keys = panels.shape
    size = max(2.2, 0.32 * n_keys + 1)
    columns = min(heads, 4, max(1, int(WIDEST / size)))
    rows = -(-heads // columns)
    figure = new_picture(size * columns, size * rows)
    for head, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
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
