"""The exercise of lesson 16 on products with rounded weights: an oracle in plain sums, mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# product(x, numbers, scales, bias=None) -> (..., O)


def number_by_number(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    """One input of one row at a time, each weight restored when it is its turn."""
    whole, steps = numbers.tolist(), scales.tolist()
    size = len(whole[0]) // len(steps[0])
    rows = []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        sums = [
            sum(value * weights[i] * own[i // size] for i, value in enumerate(row))
            for weights, own in zip(whole, steps, strict=True)
        ]
        rows.append(
            [s + b for s, b in zip(sums, bias.tolist() if bias is not None else [0.0] * len(sums), strict=True)]
        )
    return torch.tensor(rows, dtype=x.dtype).reshape(*x.shape[:-1], len(whole))


def restored(numbers: Tensor, scales: Tensor) -> Tensor:
    return numbers * scales.repeat_interleave(numbers.shape[1] // scales.shape[1], dim=1)


def added(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias


def by_matrix(matrix: Callable[[Tensor, Tensor], Tensor] = restored, bias_too: bool = True) -> Any:
    """The matrix is restored, rightly or wrongly, then one product."""

    def multiply(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
        return added(x @ matrix(numbers, scales).to(x.dtype).mT, bias if bias_too else None)

    return multiply


def group_sums(x: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    """The products of each group of inputs by itself, without its scale: (..., O, G)."""
    groups = scales.shape[1]
    parts = x.unflatten(-1, (groups, -1)), numbers.to(x.dtype).unflatten(-1, (groups, -1))
    return torch.einsum("...gi,ogi->...og", *parts)


def by_groups(
    join: Callable[..., Tensor] = lambda sums, scales, bias: (sums * scales).sum(-1) + bias,
    inputs: Callable[[Tensor], Tensor] = lambda x: x,
) -> Any:
    """The groups' sums, put together rightly or wrongly; without a bias it is 0."""

    def multiply(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
        own = torch.zeros(len(numbers), dtype=x.dtype) if bias is None else bias
        return join(group_sums(inputs(x), numbers, scales), scales, own)

    return multiply


def not_turned(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    return added(x @ restored(numbers, scales), bias)


def two_types(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    return added((x @ numbers.mT) * scales[:, 0], bias)


def on_the_inputs(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    return added((x * scales[:, 0]) @ numbers.to(x.dtype).mT, bias)


def whole_inputs(x: Tensor) -> Tensor:
    return x.to(torch.int8).to(x.dtype)


def group_by_group(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    """Only ever a few columns in x's type: the whole matrix is never restored."""
    groups = scales.shape[1]
    y = torch.zeros(*x.shape[:-1], len(numbers), dtype=x.dtype)
    for part, some, scale in zip(x.chunk(groups, -1), numbers.chunk(groups, -1), scales.mT, strict=True):
        y = y + part @ some.to(x.dtype).mT * scale
    return added(y, bias)


def output_by_output(x: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    size = numbers.shape[1] // scales.shape[1]
    columns = [x @ (row.to(x.dtype) * own.repeat_interleave(size)) for row, own in zip(numbers, scales, strict=True)]
    return added(torch.stack(columns, dim=-1), bias)


def product_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; one scale for each output; groups, with a bias and without; a square matrix; rows in several axes."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)

    def steps(*shape: int) -> Tensor:
        return 0.01 + torch.rand(*shape, generator=generator, dtype=torch.float64)

    hand = torch.tensor([[100, -50]], dtype=torch.int8), torch.tensor([[0.5]], dtype=torch.float64)
    return [
        (torch.tensor([[3.0, 2.0]], dtype=torch.float64), *hand, None),
        (drawn(2, 4), whole(4, 4), steps(4, 1), drawn(4)),
        (drawn(3, 5), whole(7, 5), steps(7, 1), drawn(7)),
        (drawn(5, 6), whole(3, 6), steps(3, 2), None),
        (drawn(2, 3, 12), whole(5, 12), steps(5, 3), drawn(5)),
        (drawn(4, 8), whole(8, 8), steps(8, 4), drawn(8)),
    ]


PRODUCT = Exercise(
    "product",
    "begin with one scale for each output: y = (x times the whole numbers) times the scale. Then ask which scale group g needs",
    product_inputs,
    number_by_number,
    (
        Mistake(
            "scales forgotten",
            by_groups(lambda sums, scales, bias: sums.sum(-1) + bias),
            "whole numbers are not yet the weights: where do the scales come in?",
        ),
        Mistake(
            "divided by the scales",
            by_groups(lambda sums, scales, bias: (sums / scales).sum(-1) + bias),
            "a weight was divided by its scale to become a whole number: what brings it back?",
        ),
        Mistake(
            "groups in turn",
            by_matrix(lambda numbers, scales: numbers * scales.repeat(1, numbers.shape[1] // scales.shape[1])),
            "a group is a run of neighbours: repeat gives 0 1 0 1, and repeat_interleave 0 0 1 1",
        ),
        Mistake(
            "scale of the first group",
            by_groups(lambda sums, scales, bias: sums.sum(-1) * scales[:, 0] + bias),
            "that scale is the first group's: every group of inputs has its own",
        ),
        Mistake(
            "one mean scale",
            by_groups(lambda sums, scales, bias: sums.sum(-1) * scales.mean(1) + bias),
            "scales cannot be averaged: multiply each group's sum by its own",
        ),
        Mistake(
            "scales added up",
            by_groups(lambda sums, scales, bias: sums.sum(-1) * scales.sum(1) + bias),
            "first each group's sum times its own scale, then add: not all sums times all scales",
        ),
        Mistake(
            "groups not added up",
            by_groups(lambda sums, scales, bias: sums * scales + bias[:, None]),
            "one number for each output: the groups are parts of one sum",
        ),
        Mistake(
            "last group only",
            by_groups(lambda sums, scales, bias: (sums * scales)[..., -1] + bias),
            "each group must be added to what is there already: is there an = where += is meant?",
        ),
        Mistake(
            "first group only",
            by_groups(lambda sums, scales, bias: (sums * scales)[..., 0] + bias),
            "is there a return inside the loop over the groups?",
        ),
        Mistake(
            "groups averaged",
            by_groups(lambda sums, scales, bias: (sums * scales).mean(-1) + bias),
            "a product of matrices is a sum over all inputs, not a mean over the groups",
        ),
        Mistake(
            "inputs whole, too",
            by_groups(inputs=whole_inputs),
            "only the weights are rounded: turn them into the type of x, not x into theirs",
        ),
        Mistake(
            "inputs rounded",
            by_groups(inputs=torch.round),
            "x is not rounded: what is computed, is computed with all digits",
        ),
        Mistake("bias forgotten", by_matrix(bias_too=False), "the bias is added at the end, if there is one"),
        Mistake(
            "bias scaled",
            by_groups(lambda sums, scales, bias: ((sums + bias[:, None]) * scales).sum(-1)),
            "the bias was never rounded, so it has no scale: add it at the very end",
        ),
        Mistake(
            "a bias for each group",
            by_groups(lambda sums, scales, bias: (sums * scales + bias[:, None]).sum(-1)),
            "the bias belongs to the output, not to each group: add it once",
        ),
        Mistake(
            "bias taken away", by_groups(lambda sums, scales, bias: (sums * scales).sum(-1) - bias), "the bias is added"
        ),
        Mistake(
            "not turned",
            not_turned,
            "the matrix is (outputs, inputs): it must be transposed, .mT, to stand behind x",
        ),
        Mistake(
            "scales on the inputs",
            on_the_inputs,
            "scales belong to outputs, and x has inputs: multiply after the sum, or the matrix row by row",
        ),
        Mistake(
            "two types",
            two_types,
            "torch multiplies matrices of one type only: numbers.to(x.dtype)",
        ),
    ),
    (by_matrix(), by_groups(), group_by_group, output_by_output),
)

EXERCISES = (PRODUCT,)
