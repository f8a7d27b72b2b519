"""What a classifier confuses, and how fast several of them learn."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from minilm.plots.curves import COLOURS, plain, put_names
from minilm.plots.picture import GREY, INK, QUIET, Picture, new_picture, quiet_axes

DARK = 0.5  # a share above this is written in white


def plot_confusion(
    counts: Sequence[Sequence[int]] | np.ndarray, labels: Sequence[str], title: str = "", given: str = "label given"
) -> Picture:
    """Counts (C, C), row the true label, column the given one: in each square the count, and its share of the row.

    The colour is the share, so that a rare label is seen as well as a frequent one. A row without examples stays white.
    ValueError where counts do not fit the labels, or are no counts.
    """
    numbers = np.asarray(counts)
    if len(labels) == 0 or numbers.shape != (len(labels), len(labels)):
        raise ValueError(
            f"counts {numbers.shape} do not fit {len(labels)} labels: give (C, C) and C labels, at least one"
        )
    if not np.issubdtype(numbers.dtype, np.integer) or (numbers < 0).any():
        raise ValueError("the squares hold counts: give whole numbers from 0")
    shares = numbers / np.maximum(1, numbers.sum(axis=1, keepdims=True))
    size = max(3.2, 0.85 * len(labels) + 1.6)
    figure = new_picture(size, size)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        text = f"{numbers[i, j]:,}\n{100 * share:.0f} %" if numbers[i].sum() else "0"
        axes.text(j, i, text, ha="center", va="center", fontsize=11, color="white" if share > DARK else INK)
    names = [plain(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90 if max(map(len, names)) > 8 else 0)
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel(given, color=INK, fontsize=12)
    axes.set_ylabel("true label", color=INK, fontsize=12)
    axes.set_title(plain(title), loc="left", color=INK, fontsize=13)
    quiet_axes(axes)
    return figure


def plot_learning_curves(
    sizes: Sequence[int],
    scores: Mapping[str, Sequence[Sequence[float]]],
    y_label: str = "accuracy",
    title: str = "",
    chance: float | None = None,
) -> Picture:
    """What N numbers of training examples are good for: {classifier: for each size its scores, one a run} -> a line through
    the medians, in a band from the worst run to the best. Without a score for a size there is a gap. Both runs and sizes
    count: a logarithmic axis. `chance` is a dotted line.

    ValueError where there is nothing to draw, sizes are not ascending from 1, or a classifier has not one list for each.
    """
    check(sizes, scores)
    figure = new_picture(8, 4.5)
    axes = figure.subplots()
    ends: list[tuple[float, str, str]] = []
    for i, (name, rows) in enumerate(scores.items()):
        colour = COLOURS[i % len(COLOURS)]
        low, middle, high = summaries(rows)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(sizes, middle, "o-", color=colour, linewidth=2, markersize=4)
        known = middle[np.isfinite(middle)]
        ends.append((known[-1] if len(known) else np.nan, name, colour))
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    if chance is not None:
        axes.axhline(chance, color=QUIET, linewidth=1, linestyle=":")
        axes.annotate("chance", (sizes[0], chance), xytext=(0, 3), textcoords="offset points", color=QUIET, fontsize=11)
    put_names(axes, ends, sizes[-1])
    axes.set_xlabel("training examples", color=INK, fontsize=12)
    axes.set_ylabel(y_label, color=INK, fontsize=12)
    axes.set_title(plain(title), loc="left", color=INK, fontsize=13)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    quiet_axes(axes, "bottom", "left")
    return figure


def summaries(rows: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lowest, median, highest), each (N,), of N lists of scores of any length; NaN for an empty one.

    >>> [values.tolist() for values in summaries([[0.5, 1.0], [0.25, 0.5, 1.0]])]
    [[0.5, 0.25], [0.75, 0.5], [1.0, 1.0]]
    """
    filled = [np.asarray(row if len(row) else [np.nan], dtype=np.float64) for row in rows]
    low, middle, high = zip(*((row.min(), np.median(row), row.max()) for row in filled), strict=True)
    return np.array(low), np.array(middle), np.array(high)


def check(sizes: Sequence[int], scores: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """ValueError for what `plot_learning_curves` cannot draw."""
    if not scores or len(sizes) == 0:
        raise ValueError("there is no curve to draw: give at least one classifier, over at least one size")
    if sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
        raise ValueError(f"sizes are {list(sizes)}: give numbers of examples from 1, ascending")
    for name, rows in scores.items():
        if len(rows) != len(sizes):
            raise ValueError(f"{name!r} has scores for {len(rows)} sizes, there are {len(sizes)}: give a list for each")
        if not all(np.isfinite(row).all() for row in rows):
            raise ValueError(f"{name!r} has a score that is no finite number: leave that run out")
