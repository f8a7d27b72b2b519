"""Attention in one fused kernel: the same function as `minilm.layers.attention.scaled_dot_product_attention`, faster.

The readable version writes the scores (B, H, T, S) to memory several times. PyTorch's kernel, where it can, works
through them in tiles that stay in the processor's cache, and never stores them (Dao et al. 2022, "FlashAttention").
"""

from torch import Tensor
from torch.nn import functional as F


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(K)) v: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').

    mask is boolean, broadcast to (B, H, T, S), True = may attend. A query that may attend to nothing gets zeros.
    The kernel's own `is_causal` is not used: it aligns the triangle at the upper left, which is wrong behind a cache.
    """
    grouped = q.shape[1] != k.shape[1]
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
    visible = mask.any(-1, keepdim=True)
    # What a kernel makes of an empty row depends on the kernel: let such a row see everything, then make it 0.
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask | ~visible, enable_gqa=grouped) * visible
