"""The picture of a training: one panel where both losses have one unit, two where they have not, and the best is marked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.plots.loss import plot_loss


def history(n: int = 60, every: int = 10, lowest: int = 40) -> list[dict[str, Any]]:
    """The loss of a step is 3 / step; the validation score is lowest after the step that is named."""
    return [
        {"step": step, "loss": 3 / step, **({"validation": 1 + abs(step - lowest) / 100} if step % every == 0 else {})}
        for step in range(1, n + 1)
    ]


def lines(axes: Any) -> list[list[tuple[float, float]]]:
    return [[tuple(point) for point in line.get_xydata().tolist()] for line in axes.lines]


def test_one_unit_one_panel() -> None:
    (axes,) = plot_loss(history(), unit="nats per label", validation_unit="nats per label").axes
    raw, mean, looks, best = lines(axes)
    assert raw == [(step, 3 / step) for step in range(1, 61)]
    assert mean == pytest.approx(np.array([(step, (3 / step + 3 / (step - 1)) / 2) for step in range(2, 61)]))
    assert looks == pytest.approx(np.array([(step, 1 + abs(step - 40) / 100) for step in range(10, 61, 10)]))
    assert best == [(40, 1.0)]
    assert axes.get_ylabel() == "nats per label" and axes.get_xlabel() == "step"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training (mean of 2 steps)", "validation"]


def test_two_units_two_panels() -> None:
    above, below = plot_loss(history()).axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("nats per token", "bits per byte")
    assert above.get_xlabel() == "" and below.get_xlabel() == "step"
    assert [len(axes.lines) for axes in (above, below)] == [2, 2]


@pytest.mark.parametrize("lowest", [10, 60])
def test_the_best_is_named_and_stays_inside(lowest: int) -> None:
    (axes,) = plot_loss(history(lowest=lowest), unit="x", validation_unit="x").axes
    (words,) = axes.texts
    assert words.get_text() == "best: 1.00" and words.xy == (lowest, 1.0)
    assert words.get_ha() == ("left" if lowest == 10 else "right")


def test_without_a_look_and_without_a_step(tmp_path: Path) -> None:
    bare = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "validation": None}]
    (axes,) = plot_loss(bare, tmp_path / "loss.png").axes
    assert not axes.texts and len(axes.lines) == 2 and (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = plot_loss([{"step": 7, "loss": 2.0, "validation": 1.5}], unit="x", validation_unit="x").axes
    assert lines(axes)[2] == [(7, 1.5)]  # one look is the best
    with pytest.raises(ValueError, match="the history is empty"):
        plot_loss([])


def test_the_mean_stands_in_the_middle() -> None:
    """Of a loss that falls in a straight line the mean is the line: at the end of its window it would lag behind."""
    falling = [{"step": step, "loss": 500.0 - step} for step in range(1, 151)]
    (axes,) = plot_loss(falling).axes
    mean = axes.lines[1].get_xydata()
    assert axes.get_legend().get_texts()[0].get_text() == "training (mean of 5 steps)"
    assert mean == pytest.approx(np.array([(step, 500.0 - step) for step in range(3, 149)]))
