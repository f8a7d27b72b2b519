"""What a change of low rank can be at best.

A matrix of rank R maps all that it is given into R directions, and no more. It can be written as B A with A (R, I) and B (O, R):
that is what `lora.py` learns. How near another matrix can come to it is known: the largest R parts of its singular value
decomposition are the best there is (Eckart and Young 1936).
"""

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
