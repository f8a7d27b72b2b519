"""The step of a table of which a batch reads a few rows: only those move, and only their memory.

An optimizer that visits every row at every step would spend its time on rows that nobody read. A row that was not read has
no gradient, and here also no step: its past steps do not carry it on.
"""

from typing import Any

from torch import Tensor

BETA = 0.99  # memory of a row's squares, counted in its own reads
EPS = 1e-10  # gradients far below it move nothing: their squares may be 0 in float32


def update_rows(table: Tensor, gradient: Tensor, memory: dict[str, Any], lr: float) -> None:
    """Move the rows of table (R, D) that occur in the sparse gradient (R, D). Per row, with t its own count of reads:

    v = beta v + (1 - beta) mean(g²)                 one number a row
    row = row - lr · g / sqrt(v / (1 - beta^t))      so the first step of a row moves its numbers by about lr

    It is Adam without a mean of the gradients, whose memory would cost as much as the table.
    """
    if "reads" not in memory:
        memory.update(reads=table.new_zeros(len(table), 1), square=table.new_zeros(len(table), 1))
    gradient = gradient.coalesce()
    rows, values = gradient.indices()[0], gradient.values()  # (N,), (N, D): each row once
    reads = memory["reads"][rows] + 1
    square = memory["square"][rows].lerp(values.square().mean(1, keepdim=True), 1 - BETA)
    memory["reads"][rows], memory["square"][rows] = reads, square
    size = (square / (1 - BETA**reads)).sqrt_().clamp_(min=EPS)
    table.index_add_(0, rows, values / size, alpha=-lr)
