"""The exercise of lesson 12 on the direction of Adam: an oracle in plain numbers, mistakes, and other right solutions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake


def number_by_number(rule: Callable[..., float], *tensors: Tensor) -> Tensor:
    """A rule for plain numbers, applied to each place of the tensors."""
    columns = zip(*(t.flatten().tolist() for t in tensors), strict=True)
    return torch.tensor([rule(*column) for column in columns], dtype=tensors[0].dtype).reshape(tensors[0].shape)


def drawn(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# adam_direction(mean, square, t, beta1, beta2, eps) -> direction


def adam_with(rule: Callable[..., float]) -> Any:
    """A rule for plain numbers: (m, v, t, beta1, beta2, eps) -> the direction at one place."""

    def direction(mean: Tensor, square: Tensor, t: int, beta1: float, beta2: float, eps: float) -> Tensor:
        return number_by_number(lambda m, v: rule(m, v, t, beta1, beta2, eps), mean, square)

    return direction


def geometric(beta: float, t: int) -> float:
    """1 - beta^t, as the sum of the weights (1 - beta) beta^i of t gradients."""
    return sum((1 - beta) * beta**i for i in range(t))


def adam_rule(m: float, v: float, t: int, a: float, b: float, eps: float) -> float:
    return m / geometric(a, t) / (math.sqrt(v / geometric(b, t)) + eps)


def adam_in_tensors(mean: Tensor, square: Tensor, t: int, beta1: float, beta2: float, eps: float) -> Tensor:
    m = mean / (1 - beta1**t)
    v = square / (1 - beta2**t)
    return m / (v.sqrt() + eps)


def adam_root_outside(mean: Tensor, square: Tensor, t: int, beta1: float, beta2: float, eps: float) -> Tensor:
    """The second correction taken out of the root."""
    spread = torch.sqrt(square) / math.sqrt(1 - beta2**t) + eps
    return mean / spread / (1 - beta1**t)


def adam_one_fraction(mean: Tensor, square: Tensor, t: int, beta1: float, beta2: float, eps: float) -> Tensor:
    """Everything multiplied by the root of the second correction."""
    root = (1 - beta2**t) ** 0.5
    return mean * root / ((1 - beta1**t) * (square**0.5 + root * eps))


def adam_inputs(seed: int) -> list[tuple[Any, ...]]:
    """The first step by hand; later ones, two betas that differ, an eps that is felt; a weight that never had a gradient."""
    generator = Generator().manual_seed(seed)
    cases: list[tuple[Any, ...]] = []
    hand = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.25, 1.0], dtype=torch.float64)
    cases.append((*hand, 1, 0.5, 0.75, 1.0))
    for shape, t, beta1, beta2, eps in (
        ((3,), 2, 0.9, 0.99, 0.1),
        ((2, 5), 7, 0.8, 0.95, 1e-3),
        ((4, 3), 400, 0.7, 0.9, 0.03),
    ):
        square = drawn(generator, *shape) ** 2 + 0.01
        cases.append((drawn(generator, *shape), square, t, beta1, beta2, eps))
    nothing = torch.zeros(2, 2, dtype=torch.float64)
    return [*cases, (nothing, nothing.clone(), 3, 0.9, 0.999, 1e-8)]


ADAM = Exercise(
    "adam_direction",
    "divide each running mean by 1 - beta^t, each with its own beta; then the first by the root of the second",
    adam_inputs,
    adam_with(adam_rule),
    (
        Mistake(
            "no correction",
            adam_with(lambda m, v, t, a, b, eps: m / (math.sqrt(v) + eps)),
            "both means began at 0 and are too small at first: what is the sum of the weights so far?",
        ),
        Mistake(
            "mean not corrected",
            adam_with(lambda m, v, t, a, b, eps: m / (math.sqrt(v / (1 - b**t)) + eps)),
            "the mean of the gradients began at 0, too",
        ),
        Mistake(
            "squares not corrected",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / (math.sqrt(v) + eps)),
            "the mean of the squares began at 0, too",
        ),
        Mistake(
            "counted from 0",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a ** (t - 1)) / (math.sqrt(v / (1 - b ** (t - 1))) + eps)),
            "t is 1 at the first step: with one less you would divide by 0 there",
        ),
        Mistake(
            "counted one too far",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a ** (t + 1)) / (math.sqrt(v / (1 - b ** (t + 1))) + eps)),
            "t already counts this step: do not add 1",
        ),
        Mistake(
            "no power",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a) / (math.sqrt(v / (1 - b)) + eps)),
            "that is right for the first step only: the bias fades as t grows",
        ),
        Mistake(
            "power of the bracket",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a) ** t / (math.sqrt(v / (1 - b) ** t) + eps)),
            "1 minus a power is not the power of a difference: where does the exponent belong?",
        ),
        Mistake(
            "beta times t",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a * t) / (math.sqrt(abs(v / (1 - b * t))) + eps)),
            "each step multiplies what is left of the zero at the start: a power, not a product",
        ),
        Mistake(
            "betas swapped",
            adam_with(lambda m, v, t, a, b, eps: adam_rule(m, v, t, b, a, eps)),
            "which beta belongs to the gradients, which to their squares?",
        ),
        Mistake(
            "one beta for both",
            adam_with(lambda m, v, t, a, b, eps: adam_rule(m, v, t, a, a, eps)),
            "the squares have a memory of their own",
        ),
        Mistake(
            "eps inside the root",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / math.sqrt(v / (1 - b**t) + eps)),
            "eps is added to the root, not under it: the two differ in size",
        ),
        Mistake(
            "eps after the fraction",
            adam_with(
                lambda m, v, t, a, b, eps: m / (1 - a**t) / math.sqrt(max(v / (1 - b**t), 0.0)) + eps if v else math.nan
            ),
            "eps belongs under the fraction, to the root: set brackets",
        ),
        Mistake(
            "squared again",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / (math.sqrt(v * v / (1 - b**t)) + eps)),
            "`square` holds the mean of the squares already: do not square it",
        ),
        Mistake(
            "minus",
            adam_with(lambda m, v, t, a, b, eps: -adam_rule(m, v, t, a, b, eps)),
            "the direction has the sign of the mean: the minus comes with the step",
        ),
        Mistake(
            "eps corrected",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / ((math.sqrt(v) + eps) / math.sqrt(1 - b**t))),
            "correct the squares first; eps comes in after the correction",
        ),
        Mistake(
            "no eps",
            lambda mean, square, t, a, b, eps: adam_in_tensors(mean, square, t, a, b, 0.0),
            "where no gradient has come yet you divide 0 by 0",
        ),
        Mistake(
            "no root",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / (v / (1 - b**t) + eps)),
            "squares are in other units than gradients: which function brings them back?",
        ),
        Mistake(
            "square of the mean",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / (abs(m / (1 - a**t)) + eps)),
            "that is the square of the mean: all steps would have the same size. Use the mean of the squares",
        ),
        Mistake(
            "correction outside the root",
            adam_with(lambda m, v, t, a, b, eps: m / (1 - a**t) / (math.sqrt(v) / (1 - b**t) + eps)),
            "correct the mean of the squares first, then take the root of all of it",
        ),
        Mistake(
            "times the correction",
            adam_with(lambda m, v, t, a, b, eps: m * (1 - a**t) / (math.sqrt(v * (1 - b**t)) + eps)),
            "the means are too small at first: does your correction make them larger?",
        ),
        Mistake(
            "upside down",
            adam_with(lambda m, v, t, a, b, eps: (math.sqrt(v / (1 - b**t)) + eps) * (m / (1 - a**t))),
            "large gradients must not make large steps: divide by their size",
        ),
    ),
    (adam_in_tensors, adam_root_outside, adam_one_fraction),
)

EXERCISES = (ADAM,)
