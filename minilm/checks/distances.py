"""The exercises of lesson 13 on distances: a rotation, and scores that fall. Oracles in loops, mistakes, other solutions."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# rotate_half_split(x, angles) -> as x


def turned(a: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return a * cos - b * sin, b * cos + a * sin


def loop_rotation(
    x: Tensor,
    angles: Tensor,
    read: Callable[[int, int], tuple[int, int]] = lambda i, half: (i, i + half),
    write: Callable[[int, int], tuple[int, int]] = lambda i, half: (i, i + half),
    turn: Callable[..., tuple[Any, Any]] = turned,
    which: Callable[[int, int], int] = lambda i, half: i,
) -> Tensor:
    """Pair by pair: where it is read, how it is turned, where it is written. The switches make the mistakes."""
    half = x.shape[-1] // 2
    numbers: list[Any] = [None] * x.shape[-1]
    for i in range(half):
        angle = angles[..., which(i, half)]
        pair = [x[..., place].double() for place in read(i, half)]
        for place, number in zip(write(i, half), turn(*pair, angle.cos(), angle.sin()), strict=True):
            numbers[place] = number
    return torch.stack(numbers, dim=-1).to(x.dtype)


def rotated(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda x, angles: loop_rotation(x, angles, **switch)


def neighbours(i: int, half: int) -> tuple[int, int]:
    return 2 * i, 2 * i + 1


def a_overwritten(a: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    a = a * cos - b * sin
    return a, b * cos + a * sin


def turned_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat(turned(a, b, cos, sin), dim=-1)


def swapped_halves(x: Tensor, all_angles: Tensor) -> Tensor:
    """With an angle (..., K) for each number."""
    a, b = x.chunk(2, dim=-1)
    return x * all_angles.cos().to(x.dtype) + torch.cat([-b, a], dim=-1) * all_angles.sin().to(x.dtype)


def as_complex(x: Tensor, angles: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    as_numbers = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.exp(1j * angles)
    return torch.cat([as_numbers.real, as_numbers.imag], dim=-1).to(x.dtype)


def by_matrices(x: Tensor, angles: Tensor) -> Tensor:
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    matrices = torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)
    pairs = x.unflatten(-1, (2, x.shape[-1] // 2)).mT  # (..., K / 2, 2)
    return (matrices @ pairs[..., None])[..., 0].mT.flatten(-2)


def rotation_inputs(seed: int) -> list[tuple[Tensor, Tensor]]:
    """With and without batch and heads, angles far beyond a turn, and zeros in float16, which only ask for the dtype."""
    generator = Generator().manual_seed(seed)
    cases = []
    for shape in ((3, 4), (5, 6), (2, 3, 5, 10)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        rows = (shape[0], 1, shape[2]) if len(shape) == 4 else (shape[0],)
        angles = torch.rand(*rows, shape[-1] // 2, generator=generator, dtype=torch.float64)
        cases.append((x, 200 * angles))
    return [*cases, (torch.zeros(2, 1, 5, 6).half(), torch.rand(2, 1, 5, 3, generator=generator, dtype=torch.float64))]


ROTATION = Exercise(
    "rotate_half_split",
    "a, b = x.chunk(2, dim=-1) are the first numbers of all pairs and the second ones; cos and sin are as wide as each",
    rotation_inputs,
    loop_rotation,
    (
        Mistake("not turned", lambda x, angles: x.clone(), "nothing has turned: the angles must come in"),
        Mistake(
            "backwards",
            rotated(turn=lambda a, b, cos, sin: (a * cos + b * sin, b * cos - a * sin)),
            "this turns the other way: (1, 0) must become (cos, sin)",
        ),
        Mistake(
            "neighbours", rotated(read=neighbours, write=neighbours), "the pairs are (i, i + K / 2), not neighbours"
        ),
        Mistake(
            "written as neighbours",
            rotated(write=neighbours),
            "the right pairs have turned, but each number must go back to where it came from",
        ),
        Mistake(
            "read as neighbours",
            rotated(read=neighbours),
            "you take neighbours as pairs and lay them down half a vector apart: the pairs are (i, i + K / 2)",
        ),
        Mistake(
            "mirrored",
            rotated(read=lambda i, half: (i, 2 * half - 1 - i), write=lambda i, half: (i, 2 * half - 1 - i)),
            "the partner of number i is i + K / 2, not the one at the same distance from the end",
        ),
        Mistake(
            "no minus",
            rotated(turn=lambda a, b, cos, sin: (a * cos + b * sin, b * cos + a * sin)),
            "one of the two sines has a minus: else (1, 1) would grow",
        ),
        Mistake(
            "two minuses",
            rotated(turn=lambda a, b, cos, sin: (a * cos - b * sin, b * cos - a * sin)),
            "only one of the two sines has a minus: which?",
        ),
        Mistake(
            "cosine and sine exchanged",
            rotated(turn=lambda a, b, cos, sin: (a * sin - b * cos, b * sin + a * cos)),
            "by an angle of 0 nothing may change: which of sine and cosine is 1 there?",
        ),
        Mistake(
            "cosines only",
            rotated(turn=lambda a, b, cos, sin: (a * cos, b * cos)),
            "a pair turns together: each of its numbers needs the other one, times the sine",
        ),
        Mistake(
            "a overwritten",
            rotated(turn=a_overwritten),
            "the second line must use the old a: give the new one another name",
        ),
        Mistake(
            "the other pair's angle",
            lambda x, angles: swapped_halves(x, angles.repeat_interleave(2, dim=-1)),
            "repeat_interleave gives neighbours the same angle, but your pairs stand half a vector apart",
        ),
        Mistake(
            "angles in float32",
            lambda x, angles: loop_rotation(x, angles.float().double()),
            "take cos and sin of the angles as they are, in float64, and cast only then",
        ),
        Mistake(
            "not cast",
            lambda x, angles: turned_halves(x, angles.cos(), angles.sin()),
            "the answer has the dtype of x: a float32 model must stay one (cos.to(x.dtype))",
        ),
        Mistake(
            "always float32",
            lambda x, angles: turned_halves(x, angles.cos().float(), angles.sin().float()),
            "take the dtype of cosine and sine from x, whatever it is: .to(x.dtype), not .float()",
        ),
    ),
    (lambda x, angles: swapped_halves(x, torch.cat([angles, angles], dim=-1)), as_complex, by_matrices),
    differentiable=True,
)


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
    return scores - torch.tensor(loop_slopes(scores.shape[1]), dtype=scores.dtype)[:, None] * between(scores)


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

EXERCISES = (ROTATION, ALIBI)
