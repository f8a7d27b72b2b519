"""The exercise of lesson 22 on the rank of a matrix: an oracle by eigenvectors, mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# closest_of_rank(matrix, rank) -> (O, I)


def onto_the_best_inputs(matrix: Tensor, rank: int) -> Tensor:
    """Of all directions of input those that the matrix stretches most are kept: eigenvectors of its square, in numpy."""
    M = matrix.numpy()
    _, vectors = np.linalg.eigh(M.T @ M)  # from the least stretched to the most
    kept = vectors[:, ::-1][:, :rank]
    return torch.from_numpy(M @ kept @ kept.T)


def parts(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    return U, S, Vh


def kept(
    size: Callable[[Tensor], Tensor] = lambda S: S, some: Callable[[int], slice] = lambda rank: slice(0, rank)
) -> Any:
    """The parts named by `some`, each of the size that `size` makes of its own."""

    def closest(matrix: Tensor, rank: int) -> Tensor:
        U, S, Vh = parts(matrix)
        which = some(rank)
        return (U[:, which] * size(S)[which]) @ Vh[which]

    return closest


def only_entries(matrix: Tensor, rank: int) -> Tensor:
    """The largest `rank` entries."""
    least = matrix.abs().flatten().sort(descending=True).values[rank - 1 : rank]
    return torch.where(matrix.abs() >= least, matrix, 0.0)


def only_rows(matrix: Tensor, rank: int) -> Tensor:
    out = torch.zeros_like(matrix)
    out[:rank] = matrix[:rank]
    return out


def only_columns(matrix: Tensor, rank: int) -> Tensor:
    out = torch.zeros_like(matrix)
    out[:, :rank] = matrix[:, :rank]
    return out


def not_turned(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = parts(matrix)
    return (U[:, :rank] * S[:rank]) @ Vh.mT[:rank]


def rows_by_diagonal(matrix: Tensor, rank: int) -> Tensor:
    """Rows of U again, with the sizes as a matrix."""
    U, S, Vh = parts(matrix)
    return U[:rank] @ torch.diag(S[:rank]) @ Vh[:rank]


def columns_of_right(matrix: Tensor, rank: int) -> Tensor:
    """Vh taken for V."""
    U, S, Vh = parts(matrix)
    return (U[:, :rank] * S[:rank]) @ Vh[:, :rank]


def rows_of_left(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = parts(matrix)
    return (U[:rank] * S) @ Vh


def all_of_the_space(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = torch.linalg.svd(matrix)
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]


def beyond_the_last(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = parts(matrix)
    out = torch.zeros_like(matrix)
    for r in range(rank):
        out = out + S[r] * torch.outer(U[:, r], Vh[r])
    return out


def left_factor(matrix: Tensor, rank: int) -> Tensor:
    U, S, _ = parts(matrix)
    return U[:, :rank] * S[:rank]


def as_long_as_before(matrix: Tensor, rank: int) -> Tensor:
    near = onto_the_best_inputs(matrix, rank)
    return near * matrix.norm() / near.norm()


def part_by_part(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = parts(matrix)
    out = torch.zeros_like(matrix)
    for r in range(min(rank, len(S))):
        out = out + S[r] * torch.outer(U[:, r], Vh[r])
    return out


def by_diagonal(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    S = torch.where(torch.arange(len(S)) < rank, S, torch.zeros_like(S))
    return U @ torch.diag(S) @ Vh


def onto_the_best_outputs(matrix: Tensor, rank: int) -> Tensor:
    U = parts(matrix)[0][:, :rank]
    return U @ U.mT @ matrix


def nearest_inputs(seed: int) -> list[tuple[Tensor, int]]:
    """By hand; wide, tall and square ones, whose parts differ clearly in size; a rank that is the whole one, and one beyond."""
    generator = Generator().manual_seed(seed)

    def turned(n: int, k: int) -> Tensor:
        return torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64)).Q

    def matrix(n_out: int, n_in: int) -> Tensor:
        n = min(n_out, n_in)
        sizes = 4.0 * 0.6 ** torch.arange(n, dtype=torch.float64) + 0.1 * torch.rand(1, generator=generator)
        return (turned(n_out, n) * sizes) @ turned(n_in, n).mT

    hand = torch.tensor([[3.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
    return [
        (hand, 1),
        (matrix(5, 5), 2),
        (matrix(4, 7), 3),
        (matrix(8, 5), 2),
        (matrix(6, 6), 4),
        (matrix(4, 3), 3),
        (matrix(3, 5), 9),
    ]


CLOSEST = Exercise(
    "closest_of_rank",
    "U, S, Vh = torch.linalg.svd(matrix, full_matrices=False): which columns of U, numbers of S and rows of Vh stay?",
    nearest_inputs,
    onto_the_best_inputs,
    (
        Mistake(
            "sizes forgotten", kept(size=torch.ones_like), "each part has its own size, S: it belongs between U and Vh"
        ),
        Mistake("roots of the sizes", kept(size=torch.sqrt), "the roots of S would do if both factors got them"),
        Mistake("sizes squared", kept(size=torch.square), "S comes in once: in U, in the middle or in Vh"),
        Mistake(
            "the smallest parts",
            kept(some=lambda rank: slice(-rank, None)),
            "S falls from left to right: the large parts come first",
        ),
        Mistake(
            "the rest",
            kept(some=lambda rank: slice(rank, None)),
            "these are the parts to leave out: the first ones stay",
        ),
        Mistake(
            "one part",
            kept(some=lambda rank: slice(rank - 1, rank)),
            "that is one part, number `rank`: all before it stay as well",
        ),
        Mistake(
            "the largest part only",
            kept(some=lambda rank: slice(0, 1)),
            "that is rank 1, whatever was asked for: keep the first `rank` parts",
        ),
        Mistake(
            "one too few", kept(some=lambda rank: slice(0, rank - 1)), "count the parts that you keep: one is missing"
        ),
        Mistake(
            "one too many", kept(some=lambda rank: slice(0, rank + 1)), "count the parts that you keep: one too many"
        ),
        Mistake(
            "nothing left out", lambda matrix, rank: matrix.clone(), "that is the matrix itself: parts must be left out"
        ),
        Mistake(
            "Vh turned",
            not_turned,
            "torch gives Vh, which is transposed already: its rows belong to the parts",
        ),
        Mistake(
            "rows of U",
            rows_of_left,
            "the parts are the columns of U, not its rows: U[:, :rank]",
        ),
        Mistake(
            "rows of U, a diagonal of S",
            rows_by_diagonal,
            "the parts are the columns of U and the rows of Vh: U[:rank] takes rows",
        ),
        Mistake(
            "columns of Vh",
            columns_of_right,
            "the parts are the rows of Vh, not its columns: it is transposed already",
        ),
        Mistake(
            "left factor only",
            left_factor,
            "this is one of two factors: multiplied by rows of Vh it has the shape of the matrix",
        ),
        Mistake(
            "more columns than parts",
            all_of_the_space,
            "without full_matrices=False U and Vh hold more than the parts: a large rank takes too many of them",
        ),
        Mistake(
            "beyond the last part",
            beyond_the_last,
            "a matrix 3 x 5 has three parts: a rank beyond that keeps them all, and there are no more",
        ),
        Mistake("largest entries", only_entries, "few entries are not a low rank: two of them can have rank 2"),
        Mistake(
            "first rows", only_rows, "this has the rank, but it is not the nearest: take parts of the SVD, not rows"
        ),
        Mistake(
            "first columns",
            only_columns,
            "this has the rank, but it is not the nearest: take parts of the SVD, not columns",
        ),
        Mistake(
            "as long as before",
            as_long_as_before,
            "the nearest matrix is shorter than the given one: do not stretch it",
        ),
    ),
    (kept(), part_by_part, by_diagonal, onto_the_best_outputs),
)

EXERCISES = (CLOSEST,)
