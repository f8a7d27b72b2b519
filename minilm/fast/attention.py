"""Attention in one fused kernel: the same function as `minilm.layers.attention.scaled_dot_product_attention`, faster.

The readable version writes the scores (B, H, T, S) to memory several times. PyTorch's kernel, where it can, works
through them in tiles that stay in the processor's cache, and never stores them (Dao et al. 2022, "FlashAttention").
Told that the mask is the lower triangle, it leaves out the tiles above, half of the work.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from minilm.layers.masks import causal_mask


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(K)) v: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').

    mask is boolean, broadcast to (B, H, T, S), True = may attend. A query that may attend to nothing gets zeros.
    """
    grouped = q.shape[1] != k.shape[1]
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
    if is_triangle(mask, q.shape[2], k.shape[2]):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    visible = mask.any(-1, keepdim=True)
    # What a kernel makes of an empty row depends on the kernel: let such a row see everything, then make it 0.
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask | ~visible, enable_gqa=grouped) * visible


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The same, for models whose every mask with as many queries as keys is the triangle, as those of GPT and SpeedrunGPT are.

    Nothing is looked at: so the kernel can leave out half of the work also where looking is dear (a GPU) or impossible
    (torch.compile). A square mask of another kind, of a window or of packed documents, would not be heard.
    """
    if mask is not None and q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    return scaled_dot_product_attention(q, k, v, mask)


def is_triangle(mask: Tensor, n_queries: int, n_keys: int) -> bool:
    """Whether a mask is causal with as many queries as keys: behind a cache the kernel would align it at the wrong corner.

    Only on the CPU, where to look costs little, and not while torch.compile traces, which cannot look.
    """
    if n_queries != n_keys or mask.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return torch.equal(mask, triangle(n_queries))


@functools.lru_cache(maxsize=4)
def triangle(n: int) -> Tensor:
    """`causal_mask` of n queries and n keys."""
    return causal_mask(n)
