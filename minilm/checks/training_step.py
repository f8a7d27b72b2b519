"""The exercises of lesson 07 on the step: the length of the gradient, and the shares of batches whose gradients are added."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# clip_factor(gradients, max_norm) -> (norm, factor)


def number_by_number(gradients: Sequence[Tensor]) -> float:
    """The length of all numbers as one vector, in plain Python."""
    return math.hypot(*(number for g in gradients for number in g.flatten().tolist()))


def shorten_if_longer(norm: float, max_norm: float) -> float:
    return max_norm / norm if norm > max_norm else 1.0


def clip_with(
    length: Callable[[Sequence[Tensor]], float] = number_by_number,
    factor: Callable[[float, float], float] = shorten_if_longer,
    says: Callable[[float, float], float] = lambda norm, factor: norm,
) -> Any:
    """How the length is measured, what the factor is, which length is returned: the switches make the mistakes."""

    def clip(gradients: Sequence[Tensor], max_norm: float) -> tuple[float, float]:
        norm = length(gradients)
        scale = factor(norm, max_norm)
        return says(norm, scale), scale

    return clip


def clip_by_cat(gradients: Sequence[Tensor], max_norm: float) -> tuple[float, float]:
    """All numbers in one row."""
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    return norm, min(1.0, max_norm / max(norm, 1e-300))


def clip_by_squares(gradients: Sequence[Tensor], max_norm: float) -> tuple[float, float]:
    norm = sum((g * g).sum().item() for g in gradients) ** 0.5
    return (norm, 1.0) if norm <= max_norm else (norm, max_norm / norm)


def clip_by_lengths(gradients: Sequence[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
    """The length of the lengths, as tensors: 1 / 0 is infinite there, and clamped."""
    norm = torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()
    return norm, (max_norm / norm).clamp(max=1.0)


def gradient_inputs(seed: int) -> list[tuple[Any, ...]]:
    """3, 0 and 4 by hand; long and short ones, vectors and matrices; nothing but zeros; a bound that is infinite."""
    generator = Generator().manual_seed(seed)

    def drawn(*shapes: tuple[int, ...], size: float = 1.0) -> list[Tensor]:
        return [size * torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]

    by_hand = [torch.tensor([3.0, 0.0], dtype=torch.float64), torch.tensor([[4.0]], dtype=torch.float64)]
    return [
        (by_hand, 1.0),
        (drawn((3,), (2, 5)), 0.37),
        (drawn((2, 3), (4,), (2, 2, 2), size=0.1), 2.5),
        (drawn((4, 3), (5,), size=3.0), 1.7),
        ([torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)], 1.3),
        (drawn((2, 4)), math.inf),
    ]


def norm_by_matrix(gradients: Sequence[Tensor]) -> float:
    """What `torch.linalg.norm(g, 2)` is for a matrix: its largest singular value, not the length of its numbers."""
    norms = [torch.linalg.matrix_norm(g, 2) if g.ndim == 2 else torch.linalg.vector_norm(g) for g in gradients]
    return torch.stack(norms).norm().item()


CLIP = Exercise(
    "clip_factor",
    "first the length: the squares of all numbers of all gradients, their sum, its root. Then ask whether it is above max_norm",
    gradient_inputs,
    clip_with(),
    (
        Mistake(
            "longest of the gradients",
            clip_with(lambda gradients: max(g.norm().item() for g in gradients)),
            "all gradients are one vector: the length of the longest part is less than that of the whole",
        ),
        Mistake(
            "sum of the lengths",
            clip_with(lambda gradients: sum(g.norm().item() for g in gradients)),
            "lengths of parts do not add up: 3 to the east and 4 to the north are 5, not 7",
        ),
        Mistake(
            "first gradient only",
            clip_with(lambda gradients: gradients[0].norm().item()),
            "there is a list of gradients: look at all of them",
        ),
        Mistake(
            "squared",
            clip_with(lambda gradients: number_by_number(gradients) ** 2),
            "that is the square of the length: Pythagoras ends with a root",
        ),
        Mistake(
            "root of the mean",
            clip_with(lambda gradients: number_by_number(gradients) / math.sqrt(sum(g.numel() for g in gradients))),
            "a length is not an average: the squares are added up, and not divided by their number",
        ),
        Mistake(
            "sizes added",
            clip_with(lambda gradients: sum(g.abs().sum().item() for g in gradients)),
            "you add up how large the numbers are; a length needs their squares",
        ),
        Mistake(
            "largest number",
            clip_with(lambda gradients: max(g.abs().max().item() for g in gradients)),
            "that looks at one number only: a long vector may consist of many small ones",
        ),
        Mistake(
            "plain sum",
            clip_with(lambda gradients: abs(sum(g.sum().item() for g in gradients))),
            "numbers above and below 0 cancel in a sum: square them first",
        ),
        Mistake(
            "norm of a matrix",
            clip_with(norm_by_matrix),
            "for a matrix, that norm is something else, its largest singular value: flatten it to a vector first",
        ),
        Mistake(
            "short ones stretched",
            clip_with(factor=lambda norm, max_norm: max_norm / norm if norm else 1.0),
            "a gradient that is short enough stays as it is: its factor is 1",
        ),
        Mistake(
            "upside down",
            clip_with(factor=lambda norm, max_norm: norm / max_norm if norm > max_norm else 1.0),
            "a factor that shortens is below 1: what times norm gives max_norm?",
        ),
        Mistake(
            "wrong side",
            clip_with(factor=lambda norm, max_norm: max(1.0, max_norm / norm if norm else 1.0)),
            "your factor is never below 1, so it never shortens: which of the two must win, the larger or the smaller?",
        ),
        Mistake(
            "not divided",
            clip_with(factor=lambda norm, max_norm: max_norm if norm > max_norm else 1.0),
            "times max_norm does not make it max_norm long: how long was it before?",
        ),
        Mistake(
            "division by 0",
            clip_with(factor=lambda norm, max_norm: min(1.0, max_norm / norm)),
            "a gradient of zeros has the length 0: see that you do not divide by it",
        ),
        Mistake(
            "a little added",
            clip_with(factor=lambda norm, max_norm: min(1.0, max_norm / (norm + 1e-6))),
            "with a small number under the fraction the result is not max_norm long: ask first, then divide by norm alone",
        ),
        Mistake(
            "length after",
            clip_with(says=lambda norm, factor: norm * factor),
            "the length that is asked for is the one before it is shortened: that one tells how wild the step would be",
        ),
        Mistake(
            "the other way round",
            lambda gradients, max_norm: clip_with()(gradients, max_norm)[::-1],
            "first the length, then the factor",
        ),
    ),
    (clip_by_cat, clip_by_squares, clip_by_lengths),
)

# token_shares(counts) -> list of shares


def share_target_by_target(counts: Sequence[int]) -> list[float]:
    """Every counted target is one lot in an urn, marked with its batch; a share is the chance to draw that batch."""
    urn = Counter(i for i, count in enumerate(counts) for _ in range(count))
    return [float(Fraction(urn[i], max(urn.total(), 1))) for i in range(len(counts))]


def shares_with(divide_by: Callable[[Sequence[int]], float]) -> Any:
    """Shares with another number below: `divide_by(counts)`."""
    return lambda counts: [count / divide_by(counts) for count in counts]


def shares_by_torch(counts: Sequence[int]) -> list[float]:
    numbers = torch.tensor(counts, dtype=torch.float64)
    return (numbers / numbers.sum().clamp(min=1)).tolist()


def shares_by_loop(counts: Sequence[int]) -> list[float]:
    total, shares = sum(counts), []
    for count in counts:
        shares.append(count / total if total > 0 else 0.0)
    return shares


def shares_by_inverse(counts: Sequence[int]) -> list[float]:
    """What one target weighs, times the number of targets."""
    one = 1.0 / (sum(counts) or 1)
    return [one * count for count in counts]


def shares_inputs(seed: int) -> list[tuple[list[int]]]:
    """By hand, then drawn: different lengths, with and without batches that are empty, one batch alone, and nothing at all."""
    generator = Generator().manual_seed(seed)

    def drawn(n: int) -> list[int]:
        return torch.randint(3, 60, (n,), generator=generator).tolist()

    first, second = drawn(2), drawn(3)
    return [([6, 2, 0],), (drawn(1),), (first,), ([0, *second, 0],), (drawn(7),), ([0, 0],)]


SHARES = Exercise(
    "token_shares",
    "how many targets are there in all the batches together? Each batch has a part of them",
    shares_inputs,
    share_target_by_target,
    (
        Mistake(
            "all alike",
            lambda counts: [1 / len(counts)] * len(counts),
            "that is the mean of means: a target in a batch with few of them would weigh more than one in a full batch",
        ),
        Mistake(
            "alike where there is something",
            lambda counts: [1 / max(sum(c > 0 for c in counts), 1) if count else 0.0 for count in counts],
            "a batch with many targets speaks for more of them than one with few: its share must be larger",
        ),
        Mistake("counts as they are", lambda counts: list(counts), "the shares of all batches together are 1: divide"),
        Mistake(
            "divided by the number of batches",
            shares_with(lambda counts: len(counts)),
            "you divide by how many batches there are: it is the targets that are shared out",
        ),
        Mistake(
            "not divided by the number of batches",
            shares_with(lambda counts: max(sum(counts) / len(counts), 1)),
            "your shares sum to the number of batches, so the gradient becomes that many times too long",
        ),
        Mistake(
            "of the largest",
            shares_with(lambda counts: max(*counts, 1)),
            "you compare with the largest batch: compare with all of them together",
        ),
        Mistake(
            "total so far",
            lambda counts: [
                count / max(total, 1) for count, total in zip(counts, itertools.accumulate(counts), strict=True)
            ],
            "every batch is divided by the same total: that of all batches, also of those that come later",
        ),
        Mistake(
            "one more",
            shares_with(lambda counts: sum(counts) + 1),
            "adding 1 below saves the division where there is nothing, and makes every other share too small",
        ),
        Mistake(
            "nothing at all",
            shares_with(lambda counts: sum(counts)),
            "if no batch has a target, you divide by 0: what share should each have then?",
        ),
        Mistake(
            "nothing shared out alike",
            lambda counts: [count / sum(counts) if sum(counts) else 1 / len(counts) for count in counts],
            "where there is no target in any batch, no batch has a part in anything",
        ),
        Mistake(
            "float32",
            lambda counts: (torch.tensor(counts) / max(sum(counts), 1)).tolist(),
            "right to seven digits only: a tensor of counts divides in float32; Python's own numbers keep 16",
        ),
        Mistake("upside down", lambda counts: [sum(counts) / n for n in counts], "no share is larger than 1"),
        Mistake(
            "whole numbers",
            lambda counts: [count // max(sum(counts), 1) for count in counts],
            "// rounds down: a share lies between 0 and 1",
        ),
        Mistake(
            "the rest",
            lambda counts: [1 - count / max(sum(counts), 1) for count in counts],
            "that is what all the other batches have",
        ),
        Mistake(
            "few targets weigh most",
            lambda counts: [1 / count if count else 0.0 for count in counts],
            "the more targets a batch has, the larger its share: yours goes the other way",
        ),
    ),
    (shares_by_torch, shares_by_loop, shares_by_inverse),
)

EXERCISES = (CLIP, SHARES)
