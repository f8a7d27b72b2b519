"""The exercise of lesson 13 on scores that fall with the distance: an oracle in loops, its mistakes, and other right solutions."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# alibi(scores) -> as scores (B, H, T, S)


def loop_slopes(n_heads: int) -> list[float]:
    """2^(-8h/P) for h = 1 ... P, the largest power of two; then every second one of 2P, as many as are missing."""
    power = 1
    while 2 * power <= n_heads:
        power *= 2
    more = [2 ** (-4 * h / power) for h in range(1, 2 * power, 2)]
    return ([2 ** (-8 * h / power) for h in range(1, power + 1)] + more)[:n_heads]


def loop_alibi(
    scores: Tensor,
    first: int | None = None,
    distance: Callable[[int, int], float] = lambda t, s: t - s,
    slope: Callable[[list[float], int, int], float] = lambda slopes, h, t: slopes[h],
    sign: int = -1,
) -> Tensor:
    """One score at a time, query t at place t + S - T; the switches make the mistakes."""
    _, H, T, S = scores.shape
    out, slopes = scores.clone(), loop_slopes(H)
    for h, t, s in itertools.product(range(H), range(T), range(S)):
        place = t + (S - T if first is None else first)
        out[:, h, t, s] += sign * slope(slopes, h, t) * distance(place, s)
    return out


def lowered(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda scores: loop_alibi(scores, **switch)


def head_by_head(scores: Tensor) -> Tensor:
    _, H, T, S = scores.shape
    behind = torch.arange(S)[None] - torch.arange(S)[-T:, None]
    return torch.stack([scores[:, h] + loop_slopes(H)[h] * behind for h in range(H)], dim=1)


def line_by_line(scores: Tensor) -> Tensor:
    _, H, T, S = scores.shape
    slopes = torch.tensor(loop_slopes(H), dtype=scores.dtype)[:, None]
    rows = [scores[:, :, t] + slopes * (torch.arange(S) - (S - T + t)) for t in range(T)]
    return torch.stack(rows, dim=2)


def alibi_by_einsum(scores: Tensor) -> Tensor:
    H, T, S = scores.shape[1:]
    distance = torch.arange(S - T, S).unsqueeze(1) - torch.arange(S).unsqueeze(0)
    slopes = torch.tensor(loop_slopes(H), dtype=torch.float64)
    return scores - torch.einsum("h,ts->hts", slopes, distance.double()).to(scores.dtype)


def by_head_and_query(scores: Tensor) -> Tensor:
    """The slopes laid along the queries, which fits only where there are as many queries as heads."""
    return scores - slopes_of(scores.shape[1], scores)[:, None] * between(scores)


def slopes_of(n: int, scores: Tensor) -> Tensor:
    return torch.tensor(loop_slopes(n), dtype=scores.dtype)


def between(scores: Tensor) -> Tensor:
    T, S = scores.shape[-2:]
    return torch.arange(S - T, S)[:, None] - torch.arange(S)


def hiding(scores: Tensor) -> Tensor:
    return loop_alibi(scores).masked_fill(between(scores) < 0, -torch.inf)


def alibi_inputs(seed: int) -> list[tuple[Tensor]]:
    """Heads that are a power of two and not, fewer queries than keys; whole numbers in float32, which nothing rounds."""
    generator = Generator().manual_seed(seed)
    shapes = ((2, 3, 3, 5), (3, 6, 4, 7), (1, 4, 6, 6), (2, 1, 1, 4))
    cases = [(torch.randn(shape, generator=generator, dtype=torch.float64),) for shape in shapes]
    return [*cases, (torch.randint(-9, 9, (2, 4, 3, 8), generator=generator).float(),)]


ALIBI = Exercise(
    "alibi",
    "a column of the places of the queries less a row of the places of the keys gives all distances; then a slope for each head",
    alibi_inputs,
    loop_alibi,
    (
        Mistake("raised", lowered(sign=1), "a key that is far away must lose: mind the sign"),
        Mistake(
            "upper left",
            lowered(first=0),
            "the last query stands at the last key: with 2 queries and 5 keys the first is at place 3",
        ),
        Mistake(
            "by the key alone",
            lowered(distance=lambda t, s: -s),
            "the softmax would not see it, but here a score falls by slope times distance: a token loses nothing to itself",
        ),
        Mistake(
            "absolute",
            lowered(distance=lambda t, s: abs(t - s)),
            "place of the query less place of the key, below 0 for a key ahead: the mask hides those, not you",
        ),
        Mistake(
            "no keys ahead",
            lowered(distance=lambda t, s: max(0, t - s)),
            "leave the distance of a key ahead below 0: the mask is there to hide it",
        ),
        Mistake("hides keys ahead", hiding, "no -inf here: the mask is the business of the attention"),
        Mistake("off by one", lowered(distance=lambda t, s: t - s + 1), "the distance of a token to itself is 0"),
        Mistake(
            "one slope",
            lowered(slope=lambda slopes, h, t: slopes[0]),
            "each head has a slope of its own: give the slopes two axes more, (H, 1, 1)",
        ),
        Mistake(
            "slopes reversed",
            lowered(slope=lambda slopes, h, t: slopes[-1 - h]),
            "the first head has the first slope",
        ),
        Mistake(
            "slopes along the queries",
            by_head_and_query,
            "the slopes belong to the heads, and scores have two axes after these: make the slopes (H, 1, 1)",
        ),
        Mistake(
            "a slope for each query",
            lambda scores: scores - slopes_of(scores.shape[2], scores)[:, None] * between(scores),
            "the slopes belong to the heads: every query of a head has the same one",
        ),
        Mistake(
            "as many slopes as queries",
            lambda scores: scores - slopes_of(scores.shape[2], scores)[:, None, None] * between(scores),
            "there are as many slopes as heads: which axis of the scores are those?",
        ),
        Mistake(
            "not cast",
            lambda scores: loop_alibi(scores.double()),
            "the answer has the dtype of the scores: cast what you take away with .to(scores.dtype)",
        ),
        Mistake(
            "scores forgotten", lambda scores: loop_alibi(0 * scores), "the scores themselves must be in the answer"
        ),
    ),
    (head_by_head, line_by_line, alibi_by_einsum),
)

EXERCISES = (ALIBI,)
