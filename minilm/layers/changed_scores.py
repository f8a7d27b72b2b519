"""Attention with changed scores: what comes between the dot products and the softmax is a part that is passed in.

A change takes all scores (B, H, T, S) and gives them back changed. `attention_with(softcap(50.0), alibi)` is an attention
function like any other: GPT(config, attention=attention_with(softcap(50.0))).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minilm.layers.attention import AttentionFunction, share_heads
from minilm.layers.basic import softmax

# scores (B, H, T, S) -> scores of the same shape, before the mask.
ScoreChange = Callable[[Tensor], Tensor]


def attention_with(*changes: ScoreChange) -> AttentionFunction:
    """softmax(change(q k^T / sqrt(K))) v: `scaled_dot_product_attention` whose scores go through the changes, in turn.

    The mask comes last, so that no change can bring a hidden key back. Empty rows give zeros, as everywhere.
    """

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)
        for change in changes:
            scores = change(scores)
        if mask is None:
            return softmax(scores, dim=-1) @ v
        visible = mask.any(-1, keepdim=True)
        return (softmax(scores.masked_fill(~mask & visible, -math.inf), dim=-1) * visible) @ v

    return attention


def softcap(cap: float) -> ScoreChange:
    """cap * tanh(score / cap): small scores stay as they are, none leaves (-cap, cap) (Gemma team 2024, with a cap of 50).

    One huge score makes the softmax a one and zeros, through which no gradient flows; a capped one leaves some to the rest.
    """
    if not 0 < cap < math.inf:
        raise ValueError(f"softcap: the cap is {cap}, it must be above 0 and finite; leave the change out for no cap")
    return lambda scores: cap * torch.tanh(scores / cap)
