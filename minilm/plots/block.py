"""One block of a transformer as a picture: what reads the residual stream, what writes to it, and every shape on the way."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.patches import FancyBboxPatch

from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, save

# The last word of a brick's name -> what it is. Those that read the same array stand side by side.
TITLES = {
    "attention_norm": "norm",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "qkv": "queries, keys, values",
    "scores": "attention: softmax(q kᵀ / √K) v",
    "out": "output projection",
    "mlp_norm": "norm",
    "gate": "gate",
    "up": "up",
    "activation": "activation",
    "down": "down",
}
SIDE_BY_SIDE = (("q", "k", "v"), ("gate", "up"))
STREAM, LEFT, RIGHT, STEP, TALL = 0.9, 1.9, 8.6, 1.4, 0.95  # places and sizes, in inches


def plot_block(bricks: Iterable[Any], path: str | Path | None = None) -> Picture:
    """The block that these bricks of `minilm.models.accounting` describe: boxes from top to bottom, the stream at the left.

    A box says its matrix (out x in) and its parameters; beside an arrow stands the shape of what goes down it.
    ValueError if the bricks hold no block.
    """
    bricks = list(bricks)
    block = {brick.name.split(".")[-1]: brick for brick in bricks if brick.name.startswith("blocks.")}
    block.pop("dropout", None)  # it changes no shape
    if not block:
        raise ValueError("no brick is named blocks.*: give the bricks of a transformer")
    rows = in_rows(list(block))
    height = STEP * len(rows) + 1.7
    figure = new_picture(9, height)
    axes = figure.subplots()
    axes.set(xlim=(0, 9), ylim=(height, 0))
    axes.axis("off")
    copies = next(iter(block.values())).copies
    parameters = sum(brick.parameters for brick in block.values())
    stream = shape(block["attention_norm"].output)
    which = f"One of {copies:,} blocks" if copies > 1 else "The block"
    title = f"{which}: {parameters:,} parameters"
    axes.text(0.4, 0.4, title, color=INK, fontsize=14, va="center")
    axes.text(STREAM - 0.5, 0.85, f"residual stream {stream}", color=ACCENT, fontsize=10, va="center")
    axes.annotate(
        "", (STREAM, height - 0.25), (STREAM, 1.0), arrowprops={"arrowstyle": "-|>", "color": ACCENT, "lw": 3}
    )
    for i, row in enumerate(rows):
        draw_row(axes, 1.2 + STEP * i, [block[name] for name in row])
        if i and not row[0].endswith("norm"):
            draw_way(axes, 1.2 + STEP * (i - 1) + TALL, [block[name] for name in rows[i - 1]], len(row), stream)
    if path is not None:
        save(figure, path)
    return figure


def in_rows(names: list[str]) -> list[list[str]]:
    """The bricks' names, those side by side in one row: ["norm", "q", "k", "v"] -> [["norm"], ["q", "k", "v"]]."""
    rows: list[list[str]] = []
    for name in names:
        if rows and any(name in group and rows[-1][-1] in group for group in SIDE_BY_SIDE):
            rows[-1].append(name)
        else:
            rows.append([name])
    return rows


def places(n: int) -> list[tuple[float, float]]:
    """Left edge and width of n boxes that share a row."""
    gap = 0.25
    width = (RIGHT - LEFT - gap * (n - 1)) / n
    return [(LEFT + i * (width + gap), width) for i in range(n)]


def draw_row(axes: Any, top: float, row: list[Any]) -> None:
    """Boxes side by side; a norm reads the stream, and the last brick of each half adds to it."""
    for brick, (left, width) in zip(row, places(len(row)), strict=True):
        draw_box(axes, left, top, width, brick)
    name, centre = row[-1].name, top + TALL / 2
    if name.endswith("norm"):
        draw_arrow(axes, (STREAM, centre), (LEFT, centre))
    if name.endswith(("out", "down")):
        draw_arrow(axes, (LEFT, centre), (STREAM + 0.17, centre))
        circle = {"boxstyle": "circle,pad=0.15", "facecolor": ACCENT, "edgecolor": "white"}
        axes.text(STREAM, centre, "+", color="white", fontsize=15, ha="center", va="center", bbox=circle)


def draw_way(axes: Any, bottom: float, above: list[Any], n_below: int, stream: str) -> None:
    """Arrows from one row to the next, as many as the finer row has boxes, each with the shape of what goes down it."""
    n = max(len(above), n_below)
    for i, (left, width) in enumerate(places(n)):
        middle = left + width / 2
        brick = above[i] if len(above) == n else above[0]
        label = stream if brick.name.endswith("scores") else shape(brick.output)  # the heads, side by side again
        draw_arrow(axes, (middle, bottom), (middle, bottom + STEP - TALL))
        axes.text(middle + 0.12, bottom + (STEP - TALL) / 2 - 0.03, label, color=QUIET, fontsize=9.5, va="center")


def draw_box(axes: Any, left: float, top: float, width: float, brick: Any) -> None:
    """One brick: its title, and under it the matrix and how many numbers that is."""
    colour = "white" if brick.parameters else "#f3f5f7"
    axes.add_patch(
        FancyBboxPatch((left, top), width, TALL, boxstyle="round,pad=0,rounding_size=0.1", fc=colour, ec=GREY, lw=1.5)
    )
    title = TITLES.get(brick.name.split(".")[-1], brick.name)
    matrix = " × ".join(map(str, brick.weight))
    if brick.name.endswith("scores"):
        matrix = f"scores {shape(brick.output)}"
    numbers = f"{brick.parameters:,} parameters" if brick.parameters else "no parameters"
    axes.text(left + width / 2, top + 0.26, title, color=INK, fontsize=11.5, ha="center", va="center")
    below = f"{matrix}\n{numbers}" if matrix else numbers
    axes.text(left + width / 2, top + 0.62, below, color=QUIET, fontsize=9, ha="center", va="center")


def draw_arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": QUIET, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    )


def shape(sizes: tuple[int, ...]) -> str:
    """Sizes as the reader of code knows them: "(1, 128, 64)"."""
    return f"({', '.join(map(str, sizes))})"
