"""Words as points: those with similar vectors lie near each other, and a relation is a direction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minilm.plots.curves import COLOURS, plain
from minilm.plots.picture import GREY, INK, QUIET, Picture, new_picture, quiet_axes

WIDTH, HEIGHT = 8.5, 6.0  # inches
SIZE = 72 * np.array([0.8 * WIDTH, 0.87 * HEIGHT])  # of the axes, about, in printer's points
TENTHS = np.arange(0.1, 1.0, 0.1)
FONT = 12  # points
NEAR = 7.0  # points: nearer to a point that is not its own no name should stand
LONGEST = (
    3.0  # times a unit of the second direction may be as long as one of the first: what is small shall not look large
)
Box = tuple[float, float, float, float]  # left, bottom, right, top, in points

# Where a name may stand: beside its point in one of eight directions, if need be some steps away, on a thin line.
DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
STEPS, STEP = 8, 14.0  # points
CROSSED = 20.0  # what it costs, in square points, where such a line lies on another name or point, at each tenth of it


def plot_vectors(
    points: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    shares: Sequence[float] | np.ndarray | None = None,
    title: str = "",
) -> Picture:
    """Points (N, 2) with their names. Words of a group share a colour, and the group's name stands in the legend.

    `pairs` are joined by a line: where the same relation is the same step, the lines are parallel. `shares` are the parts
    of the variance that the two directions hold. The second is drawn larger than the first where its differences are
    smaller, at most `LONGEST` times, and then its label says so. ValueError where points and names differ in number, a
    point is no number, or a group or pair names a word that is not there.
    """
    points = np.asarray(points, dtype=np.float64)
    groups = groups or {}
    check(points, names, [*(word for words in groups.values() for word in words), *(w for pair in pairs for w in pair)])
    figure = new_picture(WIDTH, HEIGHT)
    axes = figure.subplots()
    place = dict(zip(names, points, strict=True))
    for a, b in pairs:
        axes.plot(*np.stack([place[a], place[b]]).T, color=GREY, linewidth=1.5, zorder=1)
    colour = dict.fromkeys(names, INK)
    for i, (group, words) in enumerate(groups.items()):
        shade = COLOURS[i % len(COLOURS)]
        colour |= dict.fromkeys(words, shade)
        axes.plot([], [], "o", color=shade, label=plain(group))
    axes.scatter(points[:, 0], points[:, 1], s=18, color=[colour[name] for name in names], zorder=2)
    low, room = window(points)
    axes.set_xlim(low[0], low[0] + room[0])
    axes.set_ylim(low[1], low[1] + room[1])
    put_labels(axes, (points - low) / room * SIZE, points, names, colour)
    if groups:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=FONT)
    longer = SIZE[1] / room[1] / (SIZE[0] / room[0])
    for set_label, number in ((axes.set_xlabel, 0), (axes.set_ylabel, 1)):
        held = f": {shares[number]:.0%} of the differences" if shares is not None else ""
        held += f", drawn {longer:.1f} times as long" if number and longer > 1.05 else ""
        set_label(f"{('first', 'second')[number]} direction{held}", color=QUIET, fontsize=FONT)
    axes.set_title(plain(title), loc="left", color=INK, fontsize=14)
    axes.set_xticks([])
    axes.set_yticks([])
    quiet_axes(axes, "bottom", "left")
    return figure


def check(points: np.ndarray, names: Sequence[str], mentioned: Sequence[str]) -> None:
    """ValueError for what `plot_vectors` cannot draw."""
    if points.shape != (len(names), 2) or len(names) == 0:
        raise ValueError(f"points {points.shape} for {len(names)} names: give (N, 2) and N names, at least one")
    if not np.isfinite(points).all():
        raise ValueError("a point is NaN or infinite: leave that word out")
    if unknown := [word for word in mentioned if word not in set(names)]:
        raise ValueError(f"{unknown[0]!r} is in a group or a pair, but is no point: give its vector, too")


def window(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower left corner of the axes, and their width and height, in the units of the points: room for all, and for names."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, high - low, 1.0)
    middle = low + (high - low) / 2
    room = room * (1 + 2 * np.array([0.16, 0.08]))  # an edge on either side
    room[1] = max(room[1], SIZE[1] / LONGEST / (SIZE[0] / room[0]))
    return middle - room / 2, room


def put_labels(
    axes: Any, spots: np.ndarray, points: np.ndarray, names: Sequence[str], colour: Mapping[str, str]
) -> None:
    """Write each name beside its point, where it covers as little as can be of other names and points.

    `spots` (N, 2) are the points, in printer's points from the lower left corner of the axes.
    """
    taken: list[Box] = [(x - NEAR, y - NEAR, x + NEAR, y + NEAR) for x, y in spots]
    for i in np.argsort(-spots[:, 1], kind="stable"):
        step, offset, box = free_place(spots[i], names[i], [*taken[:i], *taken[i + 1 :]], SIZE)
        taken.append(box)
        shade = colour[names[i]]
        line = {"arrowstyle": "-", "color": shade, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2} if step else None
        axes.annotate(
            plain(names[i]), points[i], xytext=offset, textcoords="offset points", ha="center", va="center",
            color=shade, fontsize=FONT, arrowprops=line,
        )  # fmt: skip


def free_place(
    spot: np.ndarray, name: str, taken: Sequence[Box], size: np.ndarray
) -> tuple[int, tuple[float, float], Box]:
    """(steps away, the middle of the name as seen from its point, the box that it fills), in points.

    The place is the nearest of those that cover least of what is taken and of what lies outside of the axes (of this size).
    """
    half = np.array([0.31 * FONT * len(name), 0.6 * FONT])  # of the name's width and height, about
    far, (wide, high) = 9999.0, size
    beside, above = [(-far, -far, 0, far), (wide, -far, far, far)], [(0, -far, wide, 0), (0, high, wide, far)]
    found = []
    for step in range(STEPS):
        for direction in np.array(DIRECTIONS, dtype=np.float64):
            away = direction * (half + np.array([5, 2])) + step * STEP * direction / np.hypot(*direction)
            (left, bottom), (right, top) = spot + away - half, spot + away + half
            box = (left, bottom, right, top)
            cost = overlap(box, [*taken, *beside, *above]) + step * FONT
            if step:
                line = [spot + part * (away - np.sign(away) * half * (np.abs(away) > half)) for part in TENTHS]
                cost += CROSSED * sum(overlap((x, y, x + 1, y + 1), taken) > 0 for x, y in line)
            found.append((cost, step, (float(away[0]), float(away[1])), box))
    _, step, offset, box = min(found, key=lambda place: place[0])
    return step, offset, box


def overlap(box: Box, others: Sequence[Box]) -> float:
    """The area that the box shares with the others.

    >>> overlap((0, 0, 2, 2), [(1, 1, 5, 5), (2, 0, 3, 3)])
    1.0
    """
    a, b = np.asarray(box, dtype=np.float64), np.asarray(others, dtype=np.float64).reshape(-1, 4)
    sides = np.minimum(a[2:], b[:, 2:]) - np.maximum(a[:2], b[:, :2])  # (N, 2)
    return float(np.prod(np.maximum(sides, 0), axis=1).sum())
