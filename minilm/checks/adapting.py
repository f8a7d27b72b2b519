"""The exercise of lesson 22 on the change of low rank: an oracle in plain sums, mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# lora(x, A, B, scale) -> (..., O)


def number_by_number(x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """One token at a time, one product at a time."""
    narrow, wide = A.tolist(), B.tolist()
    out = []
    for token in x.reshape(-1, x.shape[-1]).tolist():
        h = [sum(a * value for a, value in zip(row, token, strict=True)) for row in narrow]
        out.append([scale * sum(b * number for b, number in zip(row, h, strict=True)) for row in wide])
    return torch.tensor(out, dtype=x.dtype).reshape(*x.shape[:-1], len(wide))


def in_products(
    first: Callable[[Tensor, Tensor], Tensor] = lambda x, A: x @ A.mT,
    second: Callable[[Tensor, Tensor], Tensor] = lambda h, B: h @ B.mT,
    scaled: Callable[[Tensor, float, int], Tensor] = lambda y, scale, rank: scale * y,
) -> Any:
    """Two products and the scale; a wrong one of the three makes a mistake."""
    return lambda x, A, B, scale: scaled(second(first(x, A), B), scale, len(A))


def direction_by_direction(x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """Each of the R directions adds its part: how much of it is in x, times a column of B."""
    y = torch.zeros(*x.shape[:-1], len(B), dtype=x.dtype)
    for a, b in zip(A, B.mT, strict=True):
        y = y + scale * (x * a).sum(-1, keepdim=True) * b
    return y


def lora_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; rectangles with tokens along no, one and two axes; as many outputs as inputs; all three alike."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def case(axes: tuple[int, ...], n_in: int, rank: int, n_out: int, scale: float) -> tuple[Any, ...]:
        return drawn(*axes, n_in), drawn(rank, n_in), drawn(n_out, rank), scale

    hand = [torch.tensor(numbers).double() for numbers in ([[1, 2]], [[3, 4]], [[1], [0], [-1]])]
    return [
        (*hand, 0.5),
        case((), 5, 2, 3, 1.5),
        case((6,), 4, 3, 4, 0.7),
        case((3,), 3, 3, 3, 2.5),
        case((2, 4), 5, 2, 7, 3.0),
        case((2, 3), 6, 4, 5, -0.3),
    ]


LORA = Exercise(
    "lora",
    "two products, one after the other: what shape has x times A transposed? Then B, then the scale",
    lora_inputs,
    number_by_number,
    (
        Mistake("scale forgotten", in_products(scaled=lambda y, scale, rank: y), "where is the scale?"),
        Mistake(
            "scale twice",
            in_products(scaled=lambda y, scale, rank: scale**2 * y),
            "the scale multiplies the whole change once: not A and B, each",
        ),
        Mistake(
            "divided by the scale",
            in_products(scaled=lambda y, scale, rank: y / scale),
            "the change is multiplied by the scale",
        ),
        Mistake(
            "divided by the rank",
            in_products(scaled=lambda y, scale, rank: scale / rank * y),
            "scale is alpha / rank already: do not divide by the rank again",
        ),
        Mistake(
            "times the rank",
            in_products(scaled=lambda y, scale, rank: scale * rank * y),
            "the rank is nothing to multiply by: scale is all that is asked for",
        ),
        Mistake(
            "B before A",
            lambda x, A, B, scale: scale * (x @ B.mT @ A.mT),
            "x has as many numbers as A has columns: first A, which makes few of them, then B",
        ),
        Mistake(
            "not turned",
            in_products(lambda x, A: x @ A, lambda h, B: h @ B),
            "A and B are stored as (outputs, inputs), as in a Linear: to stand behind x they are transposed, .mT",
        ),
        Mistake(
            "A not turned",
            in_products(first=lambda x, A: x @ A),
            "you transposed B, but A is stored as (outputs, inputs), too",
        ),
        Mistake(
            "B not turned",
            in_products(second=lambda h, B: h @ B),
            "you transposed A, but B is stored as (outputs, inputs), too",
        ),
        Mistake(
            "the product not turned",
            lambda x, A, B, scale: scale * (x @ (B @ A)),
            "B A is a matrix (outputs, inputs), like any weight: transpose it before it stands behind x",
        ),
        Mistake(
            "columns",
            lambda x, A, B, scale: scale * (B @ (A @ x)),
            "B A x is for one x that is a column; here each token is a row: x @ A.mT, and so on",
        ),
        Mistake(
            "A only",
            in_products(second=lambda h, B: h),
            "these are the few numbers in the middle: B makes the outputs of them",
        ),
        Mistake(
            "B only",
            in_products(first=lambda x, A: x),
            "x goes through the narrow A first: B takes as many numbers as A gives",
        ),
        Mistake(
            "A twice",
            lambda x, A, B, scale: scale * (x @ A.mT @ A),
            "the way back to the outputs is B, not A once more",
        ),
        Mistake(
            "x added",
            lambda x, A, B, scale: x + scale * (x @ A.mT @ B.mT),
            "only the change is asked for: whoever calls it adds it to W x",
        ),
        Mistake(
            "bent in between",
            in_products(second=lambda h, B: h.clamp(min=0) @ B.mT),
            "nothing is bent between A and B: else B A would be no matrix that can be added to W",
        ),
    ),
    (
        in_products(),
        direction_by_direction,
        lambda x, A, B, scale: x @ (scale * (B @ A)).mT,
        lambda x, A, B, scale: torch.einsum("...i,ri,or->...o", x, A, scale * B),
    ),
    differentiable=True,
)

EXERCISES = (LORA,)
