"""The exercise of lesson 13 on stretching: an oracle in loops, the mistakes that students make, and other right solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minilm.checks.compare import Exercise, Mistake

# interpolated_angles(positions, d_head, theta, factor) -> (..., K / 2) in float64


def loop_interpolated(
    positions: Tensor,
    d_head: int,
    theta: float,
    factor: float,
    place: Callable[[float, float], float] = lambda position, factor: position / factor,
    base: Callable[[float, float, int], float] = lambda theta, factor, K: theta,
) -> Tensor:
    """One place, one pair at a time; the switches make the mistakes."""
    rows = []
    for position in positions.flatten().tolist():
        shrunken = place(float(position), factor)
        rows.append([shrunken / base(theta, factor, d_head) ** (2 * i / d_head) for i in range(d_head // 2)])
    return torch.tensor(rows, dtype=torch.float64).reshape(*positions.shape, d_head // 2)


def stretched(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda positions, d_head, theta, factor: loop_interpolated(positions, d_head, theta, factor, **switch)


def stay(position: float, factor: float) -> float:
    return position


def frequencies(d_head: int, theta: float) -> Tensor:
    return theta ** -(torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)


def outer(positions: Tensor, d_head: int, theta: float, factor: float) -> Tensor:
    """All positions in a row, and only in the end in their axes."""
    flat = torch.outer(positions.double().flatten() / factor, frequencies(d_head, theta))
    return flat.unflatten(0, positions.shape)


def interpolated_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Positions with gaps, out of order, far away, and between two tokens; the factor need not be whole."""
    more = seed % 97
    return [
        (torch.tensor([5, 9, 2]), 6, 500.0, 3.0),
        (torch.tensor([[17, 0, 4099, 1], [3, 3, 1_000_003 + more, 254]]), 10, 777.7, 2.5),
        (torch.tensor([[[0.75], [6.5]]], dtype=torch.float64) + more, 4, 10000.0, 1.75),
    ]


INTERPOLATED = Exercise(
    "interpolated_angles",
    "the angles of which positions does the model know already? Your rotary_angles can give them",
    interpolated_inputs,
    loop_interpolated,
    (
        Mistake("stretched", stretched(place=lambda p, factor: p * factor), "the positions must move closer together"),
        Mistake("not used", stretched(place=stay), "the factor must come in: position p stands at p / factor"),
        Mistake(
            "whole positions",
            stretched(place=lambda p, factor: p // factor),
            "several tokens get the same position: use /, not //, for places between whole numbers are meant",
        ),
        Mistake(
            "theta stretched",
            stretched(place=stay, base=lambda theta, factor, K: theta * factor),
            "theta stays: it is the positions that are divided",
        ),
        Mistake(
            "theta shrunken",
            stretched(place=stay, base=lambda theta, factor, K: theta / factor),
            "theta stays as it is, and every hand slows down alike: divide the positions",
        ),
        Mistake(
            "theta by NTK",
            stretched(place=stay, base=lambda theta, factor, K: theta * factor ** (K / (K - 2))),
            "this is another method, which slows the slow hands only: here all positions are divided",
        ),
        Mistake(
            "both",
            stretched(base=lambda theta, factor, K: theta * factor),
            "divide the positions, and leave theta alone: once is enough",
        ),
        Mistake(
            "factor fixed",
            stretched(place=lambda p, factor: p / 4),
            "the factor is an argument: it is not always 4",
        ),
        Mistake(
            "theta fixed",
            stretched(base=lambda theta, factor, K: 10000.0),
            "theta is an argument: hand on the one that is given",
        ),
        Mistake(
            "in float32",
            lambda positions, d_head, theta, factor: loop_interpolated(positions / factor, d_head, theta, 1.0),
            "whole numbers divided by a number are float32 in torch: take positions.double() first",
        ),
    ),
    (
        lambda positions, d_head, theta, factor: positions.double()[..., None] * frequencies(d_head, theta) / factor,
        lambda positions, d_head, theta, factor: torch.stack(
            [positions.double() / (factor * theta ** (2 * i / d_head)) for i in range(d_head // 2)], dim=-1
        ),
        outer,
    ),
)

EXERCISES = (INTERPOLATED,)
