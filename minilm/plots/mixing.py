"""Two models on the same tokens, and how well models remember."""

from collections.abc import Mapping, Sequence

import numpy as np

from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes


def plot_two_losses(
    one: np.ndarray, other: np.ndarray, marked: np.ndarray, names: tuple[str, str], mark: str = "", top: float = 12.0
) -> Picture:
    """A point for each of N tokens: what it costs model one (N,) to the right, what it costs the other (N,) upwards.

    Below the diagonal the other model is better. Tokens where `marked` (N,) is True are in colour, and `mark` says what they are.
    ValueError where the lengths differ or there is no token.
    """
    one, other, marked = np.asarray(one), np.asarray(other), np.asarray(marked, dtype=bool)
    if one.ndim != 1 or not one.shape == other.shape == marked.shape or len(one) == 0:
        raise ValueError(f"losses {one.shape}, {other.shape}, marks {marked.shape}: give one of each for each token")
    figure = new_picture(6.4, 6)
    axes = figure.subplots()
    axes.plot([0, top], [0, top], color=QUIET, linewidth=1, linestyle=":")
    for chosen, colour, size, label in ((~marked, GREY, 10, "other tokens"), (marked, ACCENT, 14, mark)):
        if chosen.any():
            axes.scatter(one[chosen], other[chosen], s=size, color=colour, alpha=0.7, linewidth=0, label=label)
    axes.set_xlim(-0.2, top)
    axes.set_ylim(-0.2, top)
    axes.set_aspect("equal")
    for axis, name in zip((axes.xaxis, axes.yaxis), names, strict=True):
        axis.set_label_text(f"{name}: nats for a token", color=INK, fontsize=12)
    if mark:
        axes.legend(frameon=False, loc="upper right", labelcolor=INK)
    axes.set_title("Who is surprised by what (on the dotted line both are alike)", loc="left", color=INK, fontsize=13)
    quiet_axes(axes, "bottom", "left")
    return figure


def plot_recall(kinds: Sequence[str], shares: Mapping[str, Sequence[float]], chances: Sequence[float]) -> Picture:
    """For each kind of thing, a bar for each model {name: shares, one a kind}; the dash is what pure chance would give.

    The last model is in colour. ValueError where there is nothing to draw, or not one share a kind for each model.
    """
    if not kinds or not shares or any(len(row) != len(kinds) for row in (*shares.values(), chances)):
        sizes = [len(row) for row in (*shares.values(), chances)]
        raise ValueError(f"{len(kinds)} kinds, but rows of {sizes}: give one share a kind for each model, and chances")
    figure = new_picture(8, 1.2 + 0.36 * len(kinds) * (len(shares) + 1))
    axes = figure.subplots()
    lines, wide = [], 1.2 * max(max(row) for row in (*shares.values(), chances))
    for k, kind in enumerate(kinds):
        for m, (model, row) in enumerate(shares.items()):
            y = k * (len(shares) + 1) + m
            axes.barh(y, row[k], height=0.8, color=ACCENT if m == len(shares) - 1 else GREY)
            axes.text(max(row[k], chances[k]) + 0.015 * wide, y, f"{row[k]:.1%}", va="center", fontsize=10, color=INK)
            axes.plot([chances[k]] * 2, [y - 0.5, y + 0.5], color=INK, linewidth=1.5)
            lines.append((y, f"{kind}: {model}"))
    axes.set_yticks([y for y, _ in lines], [name for _, name in lines])
    axes.set_ylim(lines[-1][0] + 0.7, -0.7)
    axes.set_xlim(0, wide)
    axes.set_xticks([])
    axes.set_title("Share of the right one among its kind (the dash is chance)", loc="left", color=INK, fontsize=13)
    quiet_axes(axes, "left")
    return figure
