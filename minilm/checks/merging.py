"""The exercise of lesson 22 on merging: one matrix for a weight and its change. An oracle in sums, mistakes, alternatives."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# merged_weight(weight, A, B, scale) -> (O, I)


def entry_by_entry(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """w_oi + scale · sum over r of b_or a_ri."""
    w, a, b = weight.tolist(), A.tolist(), B.tolist()
    rows = [
        [w[o][i] + scale * sum(b[o][r] * a[r][i] for r in range(len(a))) for i in range(len(w[0]))]
        for o in range(len(w))
    ]
    return torch.tensor(rows, dtype=weight.dtype)


def joined(
    join: Callable[[Tensor, Tensor, float], Tensor] = lambda weight, change, scale: weight + scale * change,
    product: Callable[[Tensor, Tensor], Tensor] = lambda A, B: B @ A,
) -> Any:
    """A product of B and A, and how it meets the weight; either makes mistakes."""
    return lambda weight, A, B, scale: join(weight, product(A, B), scale)


def by_directions(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """One outer product after the other."""
    merged = weight.clone()
    for r in range(len(A)):
        merged = merged + scale * torch.outer(B[:, r], A[r])
    return merged


def by_columns(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """What comes out of each unit vector is a column of the matrix."""
    units = torch.eye(weight.shape[1], dtype=weight.dtype)
    return (units @ weight.mT + scale * (units @ A.mT) @ B.mT).mT


def merged_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; wide and tall ones; a square matrix; rank 1; all sizes alike."""
    generator = Generator().manual_seed(seed)

    def case(n_out: int, n_in: int, rank: int, scale: float) -> tuple[Any, ...]:
        shapes = ((n_out, n_in), (rank, n_in), (n_out, rank))
        return *(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes), scale

    hand = [torch.tensor(numbers).double() for numbers in ([[1, 0], [0, 1]], [[3, 4]], [[1], [0]])]
    return [
        (*hand, 0.5),
        case(3, 5, 2, 1.5),
        case(7, 4, 3, 0.4),
        case(5, 5, 2, 3.0),
        case(3, 3, 3, -0.7),
        case(4, 6, 1, 2.0),
    ]


MERGED = Exercise(
    "merged_weight",
    "the product of B and A has the shape of the weight: which stands first?",
    merged_inputs,
    entry_by_entry,
    (
        Mistake(
            "scale forgotten",
            joined(lambda weight, change, scale: weight + change),
            "the layer multiplies its change by the scale: so must you",
        ),
        Mistake(
            "scale twice",
            joined(lambda weight, change, scale: weight + scale**2 * change),
            "the scale multiplies the product once, not A and B, each",
        ),
        Mistake(
            "all scaled",
            joined(lambda weight, change, scale: scale * (weight + change)),
            "the scale belongs to the change alone: the weight is frozen as it is",
        ),
        Mistake(
            "weight scaled",
            joined(lambda weight, change, scale: scale * weight + change),
            "you scaled the weight: it is the change that has a scale",
        ),
        Mistake(
            "between the two",
            joined(lambda weight, change, scale: (1 - scale) * weight + scale * change),
            "no mean of the two: the whole weight stays, and the change is added",
        ),
        Mistake(
            "divided by the scale",
            joined(lambda weight, change, scale: weight + change / scale),
            "the change is multiplied by the scale",
        ),
        Mistake(
            "divided by the rank",
            lambda weight, A, B, scale: weight + scale / len(A) * (B @ A),
            "scale is alpha / rank already: do not divide by the rank again",
        ),
        Mistake(
            "change only",
            joined(lambda weight, change, scale: scale * change),
            "that is the change: the matrix that does both holds the weight, too",
        ),
        Mistake(
            "taken away",
            joined(lambda weight, change, scale: weight - scale * change),
            "the change is added; taking it away is what unmerging would do",
        ),
        Mistake(
            "weight multiplied",
            joined(lambda weight, change, scale: weight * (1 + scale * change)),
            "the two stand beside each other, and their outputs are added: so are the matrices",
        ),
        Mistake(
            "A before B",
            joined(product=lambda A, B: A @ B),
            "x meets A first, so A stands on the right: B A x",
        ),
        Mistake(
            "transposed",
            joined(product=lambda A, B: A.mT @ B.mT),
            "that is B A transposed: the weight is (outputs, inputs), and the rows of B are outputs",
        ),
        Mistake(
            "first direction only",
            joined(product=lambda A, B: torch.outer(B[:, 0], A[0])),
            "there are R directions: all rows of A and columns of B count",
        ),
        Mistake(
            "place by place",
            joined(product=lambda A, B: B.sum(1, keepdim=True) * A.sum(0)),
            "first each column of B with its own row of A, then add: not all with all",
        ),
    ),
    (joined(), by_directions, by_columns, lambda weight, A, B, scale: torch.addmm(weight, B, A, alpha=scale)),
    differentiable=True,
)

EXERCISES = (MERGED,)
