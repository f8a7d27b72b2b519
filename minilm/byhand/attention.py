"""Attention, as in `layers/attention.py`, in numpy and with its backward pass derived by hand.

Shapes: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K'), where G divides H: with G < H query heads share key/value heads.
"""

import math

import numpy as np

from minilm.byhand.basic import Cache, softmax, softmax_backward
from minilm.byhand.parts import LINEAR, Gradients, Weights, inside, outside
from minilm.byhand.positions import rotate_half_split, rotate_half_split_backward


def scaled_dot_product_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """softmax(q k^T / sqrt(K)) v: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').

    mask is boolean, broadcast to (B, H, T, S), True = may attend. A query that may attend to nothing gets zeros.
    """
    G, scale = k.shape[1], 1.0 / math.sqrt(q.shape[-1])
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    mask = np.ones((1, 1), dtype=bool) if mask is None else mask
    visible = mask.any(-1, keepdims=True)
    scores = q @ k.swapaxes(-1, -2) * scale  # (B, H, T, S)
    scores = np.where(mask | ~visible, scores, -math.inf)  # a fully masked row stays finite, its output becomes 0
    p, softmax_cache = softmax(scores)
    p = p * visible
    return p @ v, (q, k, v, G, scale, visible, p, softmax_cache)


def scaled_dot_product_attention_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dout (B, H, T, K') -> dq (B, H, T, K), dk (B, G, S, K), dv (B, G, S, K').

    One step back at a time, out = p v, p = softmax(s), s = q k^T c with c = 1 / sqrt(K). A product C = A B has
    dA = dC B^T and dB = A^T dC (linear_backward says the same), so

        dv = p^T dout,   dp = dout v^T,   ds = softmax_backward(dp),   dq = ds k c,   dk = ds^T q c

    A masked score had p = 0, so its ds is 0: nothing flows to a key that was not seen.

    >>> q, k, v = np.zeros((1, 1, 1, 1)), np.array([[[[1.0], [3.0]]]]), np.array([[[[0.0], [8.0]]]])
    >>> out, cache = scaled_dot_product_attention(q, k, v)  # p = 1/2 and 1/2
    >>> dq, dk, dv = scaled_dot_product_attention_backward(np.ones((1, 1, 1, 1)), cache)
    >>> dq  # dp = 0 and 8, ds = -2 and 2: dq = -2 · 1 + 2 · 3
    array([[[[4.]]]])
    """
    q, k, v, G, scale, visible, p, softmax_cache = cache
    dv = p.swapaxes(-1, -2) @ dout  # (B, H, S, K')
    dp = dout @ v.swapaxes(-1, -2) * visible  # (B, H, T, S)
    ds = softmax_backward(dp, softmax_cache) * scale
    dk = ds.swapaxes(-1, -2) @ q  # (B, H, S, K)
    return ds @ k, share_heads_backward(dk, G), share_heads_backward(dv, G)


def share_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    """(B, G, S, K) -> (B, H, S, K): each key/value head serves H / G neighbouring query heads (0..H/G-1 share head 0)."""
    return x if x.shape[1] == n_heads else x.repeat(n_heads // x.shape[1], axis=1)


def share_heads_backward(dout: np.ndarray, n_kv_heads: int) -> np.ndarray:
    """(B, H, S, K) -> (B, G, S, K): a head that served H / G queries gets the sum of what the H / G copies got."""
    B, H, S, K = dout.shape
    return dout.reshape(B, n_kv_heads, H // n_kv_heads, S, K).sum(2)


def split_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    """(B, T, H * K) -> (B, H, T, K). It only moves numbers, so the way back of a gradient is `merge_heads`: no cache."""
    B, T, D = x.shape
    return x.reshape(B, T, n_heads, D // n_heads).swapaxes(1, 2)


def merge_heads(x: np.ndarray) -> np.ndarray:
    """(B, H, T, K) -> (B, T, H * K): the way back of `split_heads`, and the other way round for gradients."""
    B, H, T, K = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * K)


def multi_head_attention(
    x: np.ndarray,
    weights: Weights,
    n_heads: int,
    n_kv_heads: int,
    mask: np.ndarray | None = None,
    angles: np.ndarray | None = None,
) -> tuple[np.ndarray, Cache]:
    """(B, T, D) -> (B, T, D): H small attentions side by side, mixed by an output projection.

    The weights are named as in the module: q.weight, q.bias, k..., v..., out...; biases may be missing. angles
    (T, K/2), if given, turn q and k by their positions.
    """
    q, q_cache = LINEAR.forward(x, inside(weights, "q"))
    k, k_cache = LINEAR.forward(x, inside(weights, "k"))
    v, v_cache = LINEAR.forward(x, inside(weights, "v"))
    q, k, v = split_heads(q, n_heads), split_heads(k, n_kv_heads), split_heads(v, n_kv_heads)  # (B, H or G, T, K)
    if angles is not None:
        (q, _), (k, _) = rotate_half_split(q, angles), rotate_half_split(k, angles)
    mixed, attention_cache = scaled_dot_product_attention(q, k, v, mask)
    out, out_cache = LINEAR.forward(merge_heads(mixed), inside(weights, "out"))
    return out, (q_cache, k_cache, v_cache, angles, n_heads, attention_cache, out_cache)


def multi_head_attention_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
    """The steps of the forward pass in reverse. x was read three times, for q, k and v: dx is the sum of the three."""
    q_cache, k_cache, v_cache, angles, n_heads, attention_cache, out_cache = cache
    dmixed, out_gradients = LINEAR.backward(dout, out_cache)
    dq, dk, dv = scaled_dot_product_attention_backward(split_heads(dmixed, n_heads), attention_cache)
    if angles is not None:
        dq, dk = rotate_half_split_backward(dq, (angles,)), rotate_half_split_backward(dk, (angles,))
    dx_q, q_gradients = LINEAR.backward(merge_heads(dq), q_cache)
    dx_k, k_gradients = LINEAR.backward(merge_heads(dk), k_cache)
    dx_v, v_gradients = LINEAR.backward(merge_heads(dv), v_cache)
    gradients = outside("q", q_gradients) | outside("k", k_gradients) | outside("v", v_gradients)
    return dx_q + dx_k + dx_v, gradients | outside("out", out_gradients)
