"""Attention for short contexts on a CPU in bfloat16: the same function as the readable one, in fewer passes over the scores.

There the kernel of `minilm.fast.attention` is slow on the way back, and all scores (B, H, T, S) have room in the cache.
What costs is how often they are read and written: scaling the queries instead of the scores, adding -inf where the mask is
False instead of filling it in, and torch's softmax in one pass save most of the readable version's passes.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from minilm.layers.attention import share_heads


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(K)) v: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').

    mask is boolean, broadcast to (B, H, T, S), True = may attend. A query that may attend to nothing gets zeros.
    """
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    scores = (q / math.sqrt(q.shape[-1])) @ k.mT  # (B, H, T, S)
    if mask is None:
        return F.softmax(scores, dim=-1) @ v
    visible = mask.any(-1, keepdim=True)
    barred = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill(~mask & visible, -math.inf)
    return (F.softmax(scores + barred, dim=-1) @ v) * visible  # a fully masked row stays finite, its output becomes 0
