"""Additive attention, the first one (Bahdanau et al. 2014): a decoder looks back at all that an encoder has read.

Without it a whole sentence had to go through one vector, the encoder's last state. Here each step of the decoder asks with its
state, every place of the source answers by how well it fits, and the decoder gets the mean of the places by these weights:

    score_s = v · tanh(W_q query + W_m memory_s)        weights = softmax(score)        context = sum_s weights_s memory_s

Transformers keep the idea and replace the small network by a product of query and key, which is one matrix product for all
pairs (`layers/attention.py`); here each pair needs a tanh of its own.
"""

import math

import torch
from torch import Tensor, nn

from minilm.layers.basic import Linear, linear, softmax


def additive_attention(
    query: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    weight_query: Tensor,
    weight_memory: Tensor,
    v: Tensor,
) -> tuple[Tensor, Tensor]:
    """query (B, Q), memory (B, S, M), weight_query (A, Q), weight_memory (A, M), v (A,) -> context (B, M), weights (B, S).

    mask (B, S) is boolean, True = may be looked at. A query that may look nowhere gets zeros.
    """
    fit = torch.tanh(linear(query, weight_query)[:, None] + linear(memory, weight_memory))  # (B, S, A)
    scores = fit @ v  # (B, S)
    visible = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    anywhere = visible.any(-1, keepdim=True)
    weights = softmax(scores.masked_fill(~visible & anywhere, -math.inf)) * anywhere
    return (weights[:, None] @ memory)[:, 0], weights


class AdditiveAttention(nn.Module):
    """`additive_attention` with its weights: a query (B, D) and a memory (B, S, D) -> context (B, D), weights (B, S)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        std = d_model**-0.5
        self.query = Linear(d_model, d_model, bias=False, std=std)
        self.memory = Linear(d_model, d_model, bias=False, std=std)
        self.v = nn.Parameter(torch.randn(d_model) * std)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return additive_attention(query, memory, mask, self.query.weight, self.memory.weight, self.v)


class LastPlace(nn.Module):
    """What there was before attention: whatever is asked, the answer is the memory's last place. The bottleneck, to compare."""

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = torch.zeros_like(memory[..., 0])
        last = memory.shape[1] - 1 if mask is None else mask.sum(-1, keepdim=True) - 1
        weights = weights.scatter(1, torch.as_tensor(last, device=weights.device).expand(len(weights), 1), 1.0)
        return (weights[:, None] @ memory)[:, 0], weights
