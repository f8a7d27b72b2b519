"""Several trainings in one picture: how the loss fell on the text they learn from, and on text they have not seen."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.plots.curves import COLOURS, put_names
from minilm.plots.loss import running_mean
from minilm.plots.picture import GREY, INK, QUIET, Picture, new_picture, quiet_axes

MOST = 12  # runs that a picture has room for
BEGINNING = (
    0.05  # part of a run that may lie above the picture: there the loss falls from that of a model without an idea
)


@dataclass(frozen=True)
class Course:
    """One training: its name, and over x (N,) the loss (N,) of each step; over look_x (M,) the scores (M,) of its looks."""

    name: str
    x: np.ndarray
    loss: np.ndarray
    look_x: np.ndarray
    looks: np.ndarray


def plot_runs(courses: Sequence[Course], x_label: str, unit: str, look_unit: str, window: int | None = None) -> Picture:
    """On the left the loss of each step, thin, and its mean over `window` steps; on the right the looks, the best ringed.

    Without a window the mean is over a thirtieth of each run. Each line bears its name at its end, on the right with the best
    score. ValueError where there is no run, or more than fit.
    """
    if not 1 <= len(courses) <= MOST or not all(len(course.loss) for course in courses):
        raise ValueError(f"{len(courses)} runs: a picture takes 1 to {MOST}, each with at least one step")
    looked = any(len(course.looks) for course in courses)
    figure = new_picture(13.3 if looked else 8, 5)
    panels = figure.subplots(1, 2 if looked else 1, squeeze=False)[0]
    styled = [
        (course, COLOURS[i % len(COLOURS)], "-" if i < len(COLOURS) else "--") for i, course in enumerate(courses)
    ]
    last_x = max(course.x[-1] for course in courses)
    ends: list[tuple[float, str, str]] = []  # where the line ends, its name, its colour
    highest, lowest = -np.inf, np.inf
    for course, colour, style in styled:
        n = max(1, len(course.loss) // 30) if window is None else min(window, len(course.loss))
        places, mean = running_mean(course.x, course.loss, n)
        panels[0].plot(course.x, course.loss, color=colour, linewidth=0.7, alpha=0.22)
        panels[0].plot(places, mean, style, color=colour, linewidth=2.2, marker="o" if len(mean) == 1 else "")
        ends.append((float(mean[-1]), course.name, colour))
        kept = course.loss[int(BEGINNING * len(course.loss)) :]
        highest, lowest = max(highest, kept.max()), min(lowest, kept.min())
    room = 0.04 * (highest - lowest) or 0.1
    panels[0].set_ylim(lowest - room, highest + room)
    finish(panels[0], x_label, unit, "On the text they learn from", ends if len(courses) > 1 else [], last_x)
    if looked:
        ends = [draw_looks(panels[1], *line) for line in styled if len(line[0].looks)]
        finish(panels[1], x_label, look_unit, "On text they have not seen (ring: best)", ends, last_x)
    return figure


def draw_looks(axes: Any, course: Course, colour: str, style: str) -> tuple[float, str, str]:
    """A point for each look, and a ring round the lowest. Returns the height of the end, the name with the score, the colour."""
    best = int(np.argmin(course.looks))
    axes.plot(course.look_x, course.looks, "o" + style, color=colour, linewidth=2.2, markersize=4)
    axes.plot(
        course.look_x[best], course.looks[best], "o", markersize=12, markerfacecolor="none", markeredgecolor=colour
    )
    return float(course.looks[-1]), f"{course.name}  {course.looks[best]:.3f}", colour


def finish(
    axes: Any, x_label: str, y_label: str, title: str, ends: Sequence[tuple[float, str, str]], last: float
) -> None:
    """Labels, a quiet frame, and the names at the right."""
    axes.set_xlim(0, 1.02 * last)  # room for the ring round a last look
    axes.set_xlabel(x_label, color=INK, fontsize=13)
    axes.set_ylabel(y_label, color=INK, fontsize=13)
    axes.set_title(title, loc="left", color=INK, fontsize=14, pad=12)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    axes.xaxis.set_major_formatter("{x:,g}")
    quiet_axes(axes, "bottom", "left")
    axes.tick_params(colors=QUIET, labelsize=12)
    if ends:
        put_names(axes, ends, last)


def short_names(folders: Sequence[str | Path]) -> list[str]:
    """The names of folders, without what all have in common: parents, last parts, and first words before a letter.

    >>> short_names(["checkpoints/stories-gpt", "checkpoints/stories-llama"])
    ['gpt', 'llama']
    >>> short_names(["a/lr-1e-3/run", "a/lr-3e-3/run"])
    ['lr-1e-3', 'lr-3e-3']
    """
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    if len(parts) == 1:
        return [parts[0][-1]]
    while min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    while min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    names = ["/".join(part) for part in parts]
    for cut in reversed([found.end() for found in re.finditer("[-_.]", names[0])]):
        if all(name.startswith(names[0][:cut]) and name[cut:][:1].isalpha() for name in names):
            return [name[cut:] for name in names]
    return names
