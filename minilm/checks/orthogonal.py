"""The exercise of lesson 12 on Muon: an oracle that steps each singular value alone, mistakes, and other right solutions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

A, B, C = 3.4445, -4.7750, 2.0315

# orthogonalize(matrix, steps=5) -> a matrix of the same shape


def by_singular_values(matrix: Tensor, steps: int = 5) -> Tensor:
    """The singular value decomposition, and the polynomial applied to each singular value as a plain number."""
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    length = max(sum(value**2 for value in s.tolist()) ** 0.5, 1e-7)
    values = [value / length for value in s.tolist()]
    for _ in range(steps):
        values = [A * x + B * x**3 + C * x**5 for x in values]
    return u @ torch.diag(torch.tensor(values, dtype=matrix.dtype)) @ vt


def steps_with(
    scale: Callable[[Tensor], Any] = lambda x: x.norm().clamp(min=1e-7),
    coefficients: Sequence[float] = (A, B, C),
    count: Callable[[int], int] = lambda steps: steps,
    square: Callable[[Tensor], Tensor] = lambda x: x @ x.mT,
    step: Callable[..., Tensor] = lambda x, s, a, b, c: a * x + (b * s + c * s @ s) @ x,
    again: bool = False,
) -> Any:
    """Newton-Schulz steps with matrices; the arguments make the mistakes."""

    def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
        x = matrix / scale(matrix)
        for _ in range(count(steps)):
            x = step(x, square(x), *coefficients)
            x = x / scale(x) if again else x
        return x

    return orthogonalize


def turned_for_good(matrix: Tensor, steps: int = 5) -> Tensor:
    """A tall matrix is laid down, and never stood up again."""
    x = by_singular_values(matrix, steps)
    return x.mT if x.shape[0] > x.shape[1] else x


def first_square(matrix: Tensor, steps: int = 5) -> Tensor:
    """G is computed once, before the steps."""
    first = matrix / matrix.norm().clamp(min=1e-7)
    return steps_with(square=lambda x: first @ first.mT)(matrix, steps)


def laid_down(orthogonalize: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same steps, but a tall matrix is laid down before and stood up after."""

    def turned(matrix: Tensor, steps: int = 5) -> Tensor:
        if matrix.shape[0] <= matrix.shape[1]:
            return orthogonalize(matrix, steps)
        return orthogonalize(matrix.mT, steps).mT

    return turned


def exactly(matrix: Tensor, steps: int = 5) -> Tensor:
    """U Vᵀ itself."""
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vt


def from_the_right(matrix: Tensor, steps: int = 5) -> Tensor:
    x = matrix / max(matrix.norm().item(), 1e-7)
    for _ in range(steps):
        gram = x.mT @ x
        x = x @ (A * torch.eye(len(gram), dtype=x.dtype) + B * gram + C * gram @ gram)
    return x


def term_by_term(matrix: Tensor, steps: int = 5) -> Tensor:
    """The cube and the fifth power, each from the one before."""
    x = matrix / ((matrix * matrix).sum() ** 0.5 + 1e-30)
    for _ in range(steps):
        cube = x @ x.mT @ x
        x = A * x + B * cube + C * (x @ x.mT @ cube)
    return x


def orthogonal_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Wide, tall and square ones, large and tiny, with another number of steps, of rank one, and nothing but zeros."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        (torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64), 1),
        (drawn(3, 5),),
        (50.0 * drawn(7, 4),),
        (0.001 * drawn(4, 4), 3),
        (drawn(5, 2), 2),
        (drawn(3, 1) @ drawn(1, 4),),
        (torch.zeros(2, 3, dtype=torch.float64),),
    ]


ORTHOGONAL = Exercise(
    "orthogonalize",
    "first divide by the length of all numbers, then repeat the step: G = X Xᵀ, and from it the new X",
    orthogonal_inputs,
    by_singular_values,
    (
        Mistake(
            "not divided",
            steps_with(lambda x: 1.0),
            "a singular value above 1 is thrown far away by the polynomial: make them small first",
        ),
        Mistake(
            "divided by the largest number",
            steps_with(lambda x: x.abs().max().clamp(min=1e-7)),
            "a matrix of small numbers can have a large singular value: divide by the length of all of them",
        ),
        Mistake(
            "divided by the spectral norm",
            steps_with(lambda x: torch.linalg.matrix_norm(x, 2).clamp(min=1e-7)),
            "the largest singular value would do as well, but it is costly: here it is the root of the sum of all squares",
        ),
        Mistake(
            "divided by the sum",
            steps_with(lambda x: x.abs().sum().clamp(min=1e-7)),
            "that is the sum of the sizes: the length is the root of the sum of squares",
        ),
        Mistake(
            "each row by itself",
            steps_with(lambda x: x.norm(dim=1, keepdim=True).clamp(min=1e-7)),
            "one number for the whole matrix: dividing each row by its own turns the directions",
        ),
        Mistake(
            "zeros",
            steps_with(lambda x: x.norm()),
            "a matrix of zeros has the length 0: see that you do not divide by it",
        ),
        Mistake(
            "divided only if long",
            steps_with(lambda x: x.norm().clamp(min=1.0)),
            "a short matrix is divided by its length, too: small values would need more steps to grow",
        ),
        Mistake(
            "a little added",
            steps_with(lambda x: x.norm() + 1e-7),
            "a small number added to the length changes every answer a little: `.clamp(min=1e-7)` is for tiny lengths only",
        ),
        Mistake(
            "very little added",
            steps_with(lambda x: x.norm() + 1e-8),
            "added to the length, a small number changes the answer for small matrices: use `.clamp(min=1e-7)` in its place",
        ),
        Mistake("divided at every step", steps_with(again=True), "divide once, before the steps"),
        Mistake(
            "coefficients backwards",
            steps_with(coefficients=(C, B, A)),
            "a belongs to X itself, c to the fifth power",
        ),
        Mistake("b above 0", steps_with(coefficients=(A, -B, C)), "look at the sign of b"),
        Mistake(
            "classical coefficients",
            steps_with(coefficients=(1.5, -0.5, 0.0)),
            "these are the old coefficients, exact in the end, but slow where s is small: use the three given ones",
        ),
        Mistake("always five", steps_with(count=lambda steps: 5), "the number of steps is an argument"),
        Mistake(
            "one step only", steps_with(count=lambda steps: min(steps, 1)), "is there a loop, or a return inside it?"
        ),
        Mistake("one step less", steps_with(count=lambda steps: steps - 1), "count the rounds of your loop"),
        Mistake(
            "number by number",
            steps_with(step=lambda x, s, a, b, c: a * x + b * x**3 + c * x**5),
            "** works on every number alone: X Xᵀ X is a product of matrices",
        ),
        Mistake(
            "fifth power missing",
            steps_with(step=lambda x, s, a, b, c: a * x + (b * s + c * s) @ x),
            "the last term has G twice",
        ),
        Mistake(
            "G squared number by number",
            steps_with(step=lambda x, s, a, b, c: a * x + (b * s + c * s * s) @ x),
            "G G is a product of matrices: @, not *",
        ),
        Mistake(
            "G squared number by number, tall ones turned",
            laid_down(steps_with(step=lambda x, s, a, b, c: a * x + (b * s + c * s * s) @ x)),
            "you square the numbers of G one by one: G G is a product of matrices, written with @",
        ),
        Mistake(
            "from the wrong side",
            steps_with(step=lambda x, s, a, b, c: a * x + x @ (b * s + c * s @ s)),
            "X Xᵀ has the size of the rows: on which side of X does it fit?",
        ),
        Mistake(
            "exactly",
            exactly,
            "that is where the steps lead, about: asked for is what is reached after `steps` of them, without U, S and V",
        ),
        Mistake(
            "G from the first X",
            first_square,
            "G belongs to the X of this step: compute it anew each time",
        ),
        Mistake("left lying", turned_for_good, "a matrix that you have turned must be turned back at the end"),
        Mistake(
            "rows and columns the wrong way",
            steps_with(square=lambda x: x.mT @ x),
            "Xᵀ X has the size of the columns: which side of X does it fit?",
        ),
    ),
    (from_the_right, term_by_term, steps_with()),
)

EXERCISES = (ORTHOGONAL,)
