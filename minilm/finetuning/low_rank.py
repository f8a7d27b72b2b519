"""What a change of low rank can be at best, and how many numbers it takes.

A matrix of rank R maps all that it is given into R directions, and no more. It can be written as B A with A (R, I) and B (O, R):
that is what `lora.py` learns. How near another matrix can come to it is known: the largest R parts of its singular value
decomposition are the best there is (Eckart and Young 1936).
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def closest_of_rank(matrix: Tensor, rank: int) -> Tensor:
    """The matrix (O, I) of at most this rank with the least sum of squared differences from the given one.

    >>> closest_of_rank(torch.tensor([[3.0, 0.0], [0.0, -2.0]]), rank=1)
    tensor([[3., 0.],
            [0., 0.]])
    """
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)  # matrix = sum over r of S_r · column r of U · row r of Vh
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]


def adapter_size(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    """How many numbers an adapter has for matrices of these shapes (O, I): A (R, I) and B (O, R) for each.

    >>> adapter_size([(64, 64), (256, 64)], rank=8)  # 8 (64 + 64) + 8 (256 + 64)
    3584
    """
    return sum(rank * (n_out + n_in) for n_out, n_in in shapes)
