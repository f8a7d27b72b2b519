"""Attention with a memory, as a pure function: what comes out as keys and values goes in again with the next tokens.

`KVCache` does the same for a whole model: it writes into arrays that have room, where this makes a new tensor each time.
"""

import torch
from torch import Tensor

from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.masks import causal_mask


def attend_to_cache(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """T new tokens behind P that are remembered: q, k (B, H, T, K), v (B, H, T, K'), past_k (B, H, P, K), past_v (B, H, P, K').

    Returns the output (B, H, T, K') of causal attention for the new tokens, and all keys and values so far, P + T of them.
    A P of 0 is the beginning of a text. A text read in pieces gets the same output as one read whole.

    >>> out, keys, values = attend_to_cache(q, k, v, keys, values)
    """
    keys, values = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)  # (B, H, P + T, K)
    mask = causal_mask(q.shape[2], keys.shape[2], q.device)  # the last query is the last key
    return scaled_dot_product_attention(q, keys, values, mask), keys, values
