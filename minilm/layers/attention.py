"""Attention: each token asks (query), every token answers (key) with what it has to say (value).

Shapes: q (B, H, T, K), k and v (B, G, S, K), where G divides H: with G < H several query heads share one key/value head
(grouped-query attention, Ainslie et al. 2023; G = 1 is multi-query). Source: Vaswani et al. 2017, "Attention is all you need".
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from minilm.layers.basic import Linear, softmax
from minilm.layers.kv_cache import KVCache

# Any attention function: (q, k, v, mask) -> (B, H, T, K). The model takes one as an argument.
AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(K)) v: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').

    mask is boolean, broadcast to (B, H, T, S), True = may attend. A query that may attend to nothing gets zeros.
    """
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if mask is None:
        return softmax(scores, dim=-1) @ v
    visible = mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask & visible, -math.inf)  # a fully masked row stays finite, its output becomes 0
    return (softmax(scores, dim=-1) * visible) @ v


def share_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, G, S, K) -> (B, H, S, K): each key/value head serves H / G neighbouring query heads (0..H/G-1 share head 0)."""
    return x if x.shape[1] == n_heads else x.repeat_interleave(n_heads // x.shape[1], dim=1)


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, H * K) -> (B, H, T, K): cut the last axis into heads first, then bring the heads forward."""
    B, T, D = x.shape
    return x.reshape(B, T, n_heads, D // n_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, K) -> (B, T, H * K): the way back of `split_heads`."""
    B, H, T, K = x.shape
    return x.transpose(1, 2).reshape(B, T, H * K)


class MultiHeadAttention(nn.Module):
    """(B, T, D) -> (B, T, D): H small attentions side by side, mixed by an output projection.

    `attention` is the function that does the work: the readable one above, a fused one, or yours.
    `rotate`, if given, turns q and k by their positions (rotary embedding) before they meet.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        bias: bool = True,
        output_std: float = 0.02,
        attention: AttentionFunction = scaled_dot_product_attention,
    ) -> None:
        super().__init__()
        d_head = d_model // n_heads
        self.n_heads, self.n_kv_heads, self.attention = n_heads, n_kv_heads, attention
        self.q = Linear(d_model, n_heads * d_head, bias)
        self.k = Linear(d_model, n_kv_heads * d_head, bias)
        self.v = Linear(d_model, n_kv_heads * d_head, bias)
        self.out = Linear(n_heads * d_head, d_model, bias, std=output_std)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        q = split_heads(self.q(x), self.n_heads)  # (B, H, T, K)
        k = split_heads(self.k(x), self.n_kv_heads)  # (B, G, T, K)
        v = split_heads(self.v(x), self.n_kv_heads)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        if cache is not None:
            k, v = cache.append(layer, k, v)  # (B, G, S, K): the past and the present
        return self.out(merge_heads(self.attention(q, k, v, mask)))
