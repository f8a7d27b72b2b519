"""Embeddings of n-grams: the last 2, 3, ... tokens together have a vector of their own, as the token itself has.

What an n-gram knows by counting, that "th" is mostly followed by "e", a transformer has to learn in its matrices, slowly. A table
with a row for each n-gram learns it by itself, at the price of a look-up. There are more n-grams than a table has rows, so each
is sent to a row that a hash of its tokens chooses (Weinberger et al. 2009); two that meet there share a vector. On large
vocabularies: Huang et al. 2025, "Over-tokenized transformer".
"""

import torch
from torch import Tensor, nn

from minilm.layers.basic import dropout


def ngram_rows(tokens: Tensor, n_rows: int) -> Tensor:
    """The rows of all n-grams that end at each token, for n = 2 ... N: tokens (..., N), newest first -> rows (..., N - 1).

    A polynomial in the tokens, kept below 2^31, whose lowest bits would be those of the newest token alone: they are mixed
    with the higher ones before the remainder is taken.
    """
    rows, hashed = [], tokens[..., 0]
    for n in range(1, tokens.shape[-1]):
        hashed = (hashed * 1_000_003 + tokens[..., n] + n) % (2**31 - 1)
        rows.append((hashed ^ (hashed >> 15)) % n_rows)
    return torch.stack(rows, dim=-1)


class RowsOf(torch.autograd.Function):
    """table (R, D), rows (...) -> table[rows] (..., D), with a sparse gradient: the rows that were read, and no zeros.

    A batch reads a few thousand of a table's hundred thousand rows; a gradient of the whole table's size would cost more
    than all the rest of the step.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = table.shape  # type: ignore[attr-defined]
        return table[rows]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *douts: Tensor) -> tuple[Tensor, None]:
        (rows,), (dout,) = ctx.saved_tensors, douts  # type: ignore[attr-defined]
        values = dout.reshape(-1, ctx.shape[1])  # type: ignore[attr-defined]
        return torch.sparse_coo_tensor(rows.reshape(1, -1), values, ctx.shape, check_invariants=False), None  # type: ignore[attr-defined]


class NgramEmbedding(nn.Module):
    """tokens (..., N), newest first -> (..., D): the sum of the vectors of the last 2, 3, ... N tokens together.

    A table learns by heart what a text says once. While training, each vector is therefore left out with probability
    `dropout`, so that the rest of the model must also do without it; at a second reading of the text this decides.
    """

    def __init__(self, n_rows: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_rows, d_model))
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        rows = ngram_rows(tokens, len(self.weight))  # (..., N - 1)
        every = torch.ones(rows.shape, dtype=self.weight.dtype, device=rows.device)
        share = dropout(every, self.dropout, self.training)  # 0 or 1 / (1 - dropout)
        return (RowsOf.apply(self.weight, rows) * share[..., None]).sum(-2)
