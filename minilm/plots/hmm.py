"""What hidden states mean, and how Baum-Welch finds them."""

from collections.abc import Mapping, Sequence

import numpy as np

from minilm.plots.curves import plain, plot_curves
from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes


def plot_emissions(emission: np.ndarray, names: Sequence[str], shown: int = 12) -> Picture:
    """A panel for each state with its likeliest tokens, as bars: emission (K, V), the names of the V tokens.

    ValueError where there is nothing to draw, or not one name for each token.
    """
    table = np.asarray(emission, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or table.shape[1] != len(names):
        raise ValueError(
            f"emission {table.shape}, {len(names)} names: give a row for each state, a name for each token"
        )
    K, n = len(table), min(shown, len(names))
    columns = min(K, 4)
    lines = -(-K // columns)
    figure = new_picture(3.1 * columns, lines * (0.7 + 0.24 * n))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[K:]:
        axes.set_visible(False)
    for state, (axes, row) in enumerate(zip(panels, table, strict=False)):
        first = np.argsort(-row, kind="stable")[:n]
        axes.barh(np.arange(n), row[first], color=ACCENT, height=0.75)
        axes.set_yticks(np.arange(n), [plain(names[token]) for token in first])
        axes.set_ylim(n - 0.4, -0.6)
        axes.set_title(f"state {state}", loc="left", color=INK, fontsize=12)
        quiet_axes(axes, "left")
        axes.tick_params(axis="y", colors=INK)
    return figure


def plot_token_states(shares: np.ndarray, names: Sequence[str], marked: Sequence[bool] | None = None) -> Picture:
    """p(state 1 | token) of n tokens, as points from state 0 on the left to state 1 on the right: shares (n,) in 0..1.

    Tokens for which `marked` is True are in colour. ValueError where there is nothing, or not one name for each share.
    """
    place = np.asarray(shares, dtype=np.float64)
    marks = np.zeros(len(place), dtype=bool) if marked is None else np.asarray(marked, dtype=bool)
    if place.ndim != 1 or not len(place) or not len(place) == len(names) == len(marks):
        raise ValueError(f"shares {place.shape}, {len(names)} names, {len(marks)} marks: give one of each for a token")
    figure = new_picture(7.5, 0.9 + 0.2 * len(place))
    axes = figure.subplots()
    order = np.argsort(place, kind="stable")
    for y, token in enumerate(order):
        colour = ACCENT if marks[token] else QUIET
        axes.plot([0.5, place[token]], [y, y], color=GREY, linewidth=1)
        axes.plot([place[token]], [y], marker="o", markersize=6, color=colour)
    axes.axvline(0.5, color=GREY, linewidth=1)
    axes.set_yticks(np.arange(len(place)), [plain(names[token]) for token in order])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1], ["state 0", "either", "state 1"])
    axes.set_title("Which state makes the token", loc="left", color=INK, fontsize=12)
    quiet_axes(axes)
    axes.tick_params(axis="y", colors=INK)
    return figure


def plot_rounds(
    curves: Mapping[str, Sequence[float]], unit: str = "nats a token", since: int = 0, title: str = ""
) -> Picture:
    """For each guess {name: figure after round 0, 1, 2 ...} a falling line, as long as it has rounds, from round `since` on.

    The guess that ends lowest, and whoever ends within a thousandth of it, is in colour. ValueError where there is
    nothing to draw.
    """
    if not curves or not all(len(curve) > since for curve in curves.values()):
        raise ValueError(f"no rounds to draw: give at least one figure for each guess, from round {since} on")
    longest, lowest = max(map(len, curves.values())), min(curve[-1] for curve in curves.values())
    drawn = {name: [*curve[since:], *[np.nan] * (longest - len(curve))] for name, curve in curves.items()}
    title = title or "From each guess, round by round"
    figure = plot_curves(np.arange(since, longest), drawn, "rounds of Baum-Welch", unit, title)
    axes = figure.axes[0]
    for curve, line, name in zip(curves.values(), axes.lines, axes.texts, strict=False):
        best = curve[-1] <= lowest + 1e-3 * abs(lowest)
        line.set(color=ACCENT if best else QUIET, zorder=3 if best else 2, linewidth=2.5 if best else 1.2)
        axes.plot([since + len(curve[since:]) - 1], [curve[-1]], "o", markersize=5, color=line.get_color(), zorder=4)
        name.set_color(line.get_color())
    return figure
