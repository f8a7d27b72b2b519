"""What all pictures share. The only room that imports matplotlib; it needs no screen.

The figures belong to no global state: a notebook shows what a function returns, a file is replaced only when whole.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from minilm.runtime import whole_file

INK, QUIET, GREY, ACCENT = "#1f2933", "#7b8794", "#cbd2d9", "#1565c0"


class Picture(Figure):
    """A figure that a notebook displays by itself."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        return buffer.getvalue()


def new_picture(width: float, height: float) -> Picture:
    """An empty white picture; inches."""
    return Picture(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure (.png, .svg or .pdf). The file appears whole or not at all."""
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=160)


def quiet_axes(axes: Any, *kept: str) -> None:
    """Remove all frame lines but the kept ones, and the ticks' dashes."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in kept)
        spine.set_color(GREY)
    axes.tick_params(length=0, colors=QUIET, labelsize=11)
