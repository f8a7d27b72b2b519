"""The exercises of lesson 13 on hands and their table: oracles in loops, the mistakes that students make, other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minilm.checks.compare import Exercise, Mistake

# rotary_angles(positions, d_head, theta) -> (..., K / 2) in float64


def loop_angles(
    positions: Tensor,
    d_head: int,
    theta: float,
    exponent: Callable[[int, int], float] = lambda i, K: -2 * i / K,
    place: Callable[[tuple[int, ...], float], float] = lambda at, position: position,
    hands: int = 1,
) -> Tensor:
    """One place, one pair of numbers at a time, as `hands` hands each; the switches make the mistakes."""
    half = d_head // 2 * hands
    out = torch.zeros(*positions.shape, half, dtype=torch.float64)
    for at in itertools.product(*map(range, positions.shape)):
        for i in range(half):
            out[(*at, i)] = place(at, float(positions[at])) * theta ** exponent(i, d_head)
    return out


def angled(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda positions, d_head, theta: loop_angles(positions, d_head, theta, **switch)


def frequencies(d_head: int, theta: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return theta ** (-torch.arange(0, d_head, 2, dtype=dtype) / d_head)


def pair_by_pair(positions: Tensor, d_head: int, theta: float) -> Tensor:
    return torch.stack([positions.double() / theta ** (2 * i / d_head) for i in range(d_head // 2)], dim=-1)


def by_logarithm(positions: Tensor, d_head: int, theta: float) -> Tensor:
    steps = torch.arange(d_head // 2, dtype=torch.float64) * (-2 * math.log(theta) / d_head)
    return positions.to(torch.float64).unsqueeze(-1) * steps.exp()


def places(seed: int) -> list[Tensor]:
    """Positions with gaps, out of order and far away; the rows of a batch differ; some lie between two tokens."""
    more = seed % 97
    rows = torch.tensor([[17, 0, 4099, 1], [3, 3, 1_000_003 + more, 254]])
    return [torch.tensor([5, 9, 2]), rows, torch.tensor([[[0.75], [6.5]]], dtype=torch.float64) + more]


ANGLES = Exercise(
    "rotary_angles",
    "the exponents first: torch.arange(0, d_head, 2, dtype=torch.float64) / d_head. Then positions[..., None] meets them all",
    lambda seed: [(p, K, theta) for p, K, theta in zip(places(seed), (6, 10, 4), (500.0, 777.7, 10000.0), strict=True)],
    loop_angles,
    (
        Mistake(
            "theta fixed",
            lambda positions, d_head, theta: loop_angles(positions, d_head, 10000.0),
            "theta is an argument: it is not always 10000",
        ),
        Mistake(
            "positions not used",
            angled(place=lambda at, position: at[-1]),
            "the positions are given: they may have gaps, begin anywhere, and differ from row to row",
        ),
        Mistake(
            "grows", angled(exponent=lambda i, K: 2 * i / K), "each hand is slower than the one before: mind a sign"
        ),
        Mistake(
            "without the 2", angled(exponent=lambda i, K: -i / K), "pair i has the exponent 2 i / K: where is the 2?"
        ),
        Mistake("twice the 2", angled(exponent=lambda i, K: -4 * i / K), "is the 2 of 2 i in your exponent twice?"),
        Mistake(
            "down to theta",
            angled(exponent=lambda i, K: -i / max(1, K // 2 - 1)),
            "the last exponent is not 1 but (K - 2) / K",
        ),
        Mistake(
            "whole exponents", angled(exponent=lambda i, K: -(2 * i // K)), "// cuts the exponents down to 0: use /"
        ),
        Mistake(
            "an angle for each number",
            angled(exponent=lambda i, K: -i / K, hands=2),
            "two numbers make a pair and turn together: K / 2 angles, not K",
        ),
        Mistake(
            "all angles twice",
            lambda positions, d_head, theta: torch.cat([loop_angles(positions, d_head, theta)] * 2, dim=-1),
            "each pair has its angle once: do not repeat them here",
        ),
        Mistake(
            "turns, not radians",
            angled(place=lambda at, position: position * 2 * math.pi),
            "the first hand turns by one radian at each place, not by a whole turn: leave 2 pi out",
        ),
        Mistake(
            "whole positions",
            angled(place=lambda at, position: math.floor(position)),
            "a position may lie between two tokens: do not round it",
        ),
        Mistake(
            "one axis only",
            lambda positions, d_head, theta: torch.outer(positions.double(), frequencies(d_head, theta)),
            "positions may have several axes: give them one more at the end, and let it broadcast",
        ),
        Mistake(
            "axis in the second place",
            lambda positions, d_head, theta: positions.double()[:, None] * frequencies(d_head, theta),
            "[:, None] puts the new axis second: it belongs at the end, however many axes there are",
        ),
        Mistake(
            "K hands",
            angled(hands=2),
            "K numbers have K / 2 hands: the last i is K / 2 - 1, so its exponent is below 1",
        ),
        Mistake(
            "begins at hand 1",
            angled(exponent=lambda i, K: -2 * (i + 1) / K),
            "the first hand is i = 0: its exponent is 0, and it turns by 1 at each place",
        ),
        Mistake(
            "whole turns taken away",
            lambda positions, d_head, theta: loop_angles(positions, d_head, theta) % (2 * math.pi),
            "leave whole turns in: cos and sin do not mind them",
        ),
        Mistake(
            "in float32",
            lambda positions, d_head, theta: positions[..., None] * frequencies(d_head, theta, torch.float32),
            "float32 has seven digits, too few for long positions: all in float64, from the exponents on",
        ),
        Mistake(
            "float32 throughout",
            lambda positions, d_head, theta: positions[..., None].float() * frequencies(d_head, theta, torch.float32),
            "both the positions and the exponents are float32: float64 for both, dtype=torch.float64 and .double()",
        ),
        Mistake(
            "speeds in float32",
            lambda positions, d_head, theta: positions.double()[..., None] * frequencies(d_head, theta, torch.float32),
            "the speeds are rounded to seven digits already: make the exponents in float64",
        ),
        Mistake(
            "made float64 at the end",
            lambda p, d_head, theta: (p[..., None] * frequencies(d_head, theta, torch.float32)).double(),
            "what float32 has lost .double() does not bring back: it must come before the product, and for the exponents",
        ),
    ),
    (pair_by_pair, by_logarithm, lambda p, K, theta: torch.einsum("...,i->...i", p.double(), frequencies(K, theta))),
)


# sinusoidal_positions(n_positions, d_model) -> (T, D) in float32


def loop_table(
    n_positions: int,
    d_model: int,
    theta: float = 10000.0,
    exponent: Callable[[int, int], float] = lambda i, D: 2 * i / D,
    columns: Callable[[int, int], tuple[int, int]] = lambda i, D: (2 * i, 2 * i + 1),
    waves: tuple[Callable[[float], float], Callable[[float], float]] = (math.sin, math.cos),
    begin: int = 0,
) -> Tensor:
    """One sine and one cosine at a time; the switches make the mistakes."""
    table = torch.zeros(n_positions, d_model, dtype=torch.float64)
    for t in range(n_positions):
        for i in range(d_model // 2):
            angle = (t + begin) / theta ** exponent(i, d_model)
            for column, wave in zip(columns(i, d_model), waves, strict=True):
                table[t, column] = wave(angle)
    return table.float()


def tabled(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda n_positions, d_model: loop_table(n_positions, d_model, **switch)


def filled_columns(n_positions: int, d_model: int) -> Tensor:
    table = torch.empty(n_positions, d_model)
    angles = by_logarithm(torch.arange(n_positions), d_model, 10000.0)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


def waves_of(angles: Tensor) -> Tensor:
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def as_waves(n_positions: int, d_model: int) -> Tensor:
    """A cosine is a sine that is a quarter of a turn ahead."""
    odd = torch.arange(d_model) % 2
    speeds = 10000.0 ** (-(torch.arange(d_model) - odd).double() / d_model)
    return torch.sin(torch.outer(torch.arange(n_positions).double(), speeds) + odd.double() * (math.pi / 2)).float()


def as_clocks(n_positions: int, d_model: int) -> Tensor:
    """Each hand is a complex number of length 1."""
    hands = torch.exp(1j * by_logarithm(torch.arange(n_positions), d_model, 10000.0))
    return torch.view_as_real(hands).flip(-1).flatten(-2).float()


TABLE = Exercise(
    "sinusoidal_positions",
    "the angles of places 0 to n_positions - 1 are your rotary_angles; then torch.stack puts sines beside cosines",
    lambda seed: [(3, 4), (7, 6), (40 + seed % 7, 10), (1, 2)],
    loop_table,
    (
        Mistake(
            "not interleaved",
            tabled(columns=lambda i, D: (i, i + D // 2)),
            "sine and cosine of one hand stand side by side: even columns sines, odd ones cosines",
        ),
        Mistake("cosine first", tabled(waves=(math.cos, math.sin)), "the sine comes first, in the even columns"),
        Mistake("sines only", tabled(waves=(math.sin, math.sin)), "a hand has two numbers: its sine and its cosine"),
        Mistake("begins at 1", tabled(begin=1), "the first token stands at place 0: all its sines are 0"),
        Mistake(
            "without the 2", tabled(exponent=lambda i, D: i / D), "look at theta and at the exponent: one is not right"
        ),
        Mistake("speeds up", tabled(exponent=lambda i, D: -2 * i / D), "each hand is slower than the one before"),
        Mistake("another theta", tabled(theta=1000.0), "theta is 10000 here: count the zeros"),
        Mistake(
            "the angles themselves",
            tabled(waves=(lambda a: a, lambda a: a)),
            "an angle grows for ever: what the table holds is its sine and its cosine",
        ),
        Mistake(
            "an angle for each column",
            lambda n_positions, d_model: torch.stack(
                [
                    (torch.cos if c % 2 else torch.sin)(torch.arange(n_positions) * 10000.0 ** (-c / d_model))
                    for c in range(d_model)
                ],
                dim=-1,
            ).float(),
            "the sine and the cosine of a pair have the same angle",
        ),
        Mistake(
            "float32 before the waves",
            lambda n_positions, d_model: waves_of(by_logarithm(torch.arange(n_positions), d_model, 10000.0).float()),
            "take sin and cos of the angles as they are, in float64: .float() comes last",
        ),
        Mistake(
            "in float64",
            lambda n_positions, d_model: tabled()(n_positions, d_model).double(),
            "the model computes in float32: count in float64, and hand out .float()",
        ),
        Mistake(
            "turned",
            lambda n_positions, d_model: loop_table(n_positions, d_model).T.contiguous(),
            "one row for each place, one column for each number",
        ),
    ),
    (filled_columns, as_waves, as_clocks),
)

EXERCISES = (ANGLES, TABLE)
