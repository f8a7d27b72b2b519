"""The exercise of lesson 13 on the rotation: an oracle in loops, its mistakes, and other right solutions."""

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
    """With and without batch and heads, angles far beyond a turn; pairs (1, 0) in float16, whose answers round but once."""
    generator = Generator().manual_seed(seed)
    cases = []
    for shape in ((3, 4), (5, 6), (2, 3, 5, 10)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        rows = (shape[0], 1, shape[2]) if len(shape) == 4 else (shape[0],)
        angles = torch.rand(*rows, shape[-1] // 2, generator=generator, dtype=torch.float64)
        cases.append((x, 200 * angles))
    right = torch.cat([torch.ones(2, 1, 5, 3), torch.zeros(2, 1, 5, 3)], dim=-1).half()
    return [*cases, (right, 2000 * torch.rand(2, 1, 5, 3, generator=generator, dtype=torch.float64))]


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
            "second line in the order of the first",
            rotated(turn=lambda a, b, cos, sin: (a * cos - b * sin, a * cos + b * sin)),
            "the second number is c cos b + a sin b: which of the two goes with the cosine?",
        ),
        Mistake("halves exchanged", rotated(write=lambda i, half: (i + half, i)), "the halves have changed places"),
        Mistake(
            "angles in float32",
            lambda x, angles: loop_rotation(x, angles.float().double()),
            "float32 has seven digits, too few for large angles: leave them in float64",
        ),
        Mistake(
            "angles cast",
            lambda x, angles: turned_halves(x, angles.to(x.dtype).cos(), angles.to(x.dtype).sin()),
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

EXERCISES = (ROTATION,)
