"""Positions, as in `layers/positions.py`, in numpy and with their backward passes derived by hand.

Learned positions are a second embedding. Rotary positions have no weights: they turn pairs of numbers by fixed angles.
"""

import numpy as np

from minilm.byhand.basic import Cache, embedding, embedding_backward


def learned_positions(x: np.ndarray, positions: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (B, T, D) plus row positions[t] of the table weight (P, D), the same rows for all B."""
    rows, cache = embedding(positions, weight)  # (T, D)
    return x + rows, cache


def learned_positions_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dout (B, T, D) -> dx, dweight (P, D).

    out_bt = x_bt + row_t: both derivatives are 1. So dx = dout, and row t, which was added B times, gets sum_b dout_bt.
    """
    return dout, embedding_backward(dout.sum(0), cache)


def rotary_angles(positions: np.ndarray, d_head: int, theta: float) -> np.ndarray:
    """positions (T,) -> angles (T, K/2) = position · theta^(-2i/K), in float64."""
    return positions[..., None] * theta ** -(np.arange(0, d_head, 2) / d_head)


def rotate_half_split(x: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Turn pair (i, i + K/2) of x (..., T, K) by angles (..., T, K/2): the layout of Llama as Hugging Face stores it."""
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1), (angles,)


def rotate_half_split_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Turn dout by the opposite angles.

    (a, b) -> (a cos - b sin, b cos + a sin). By the chain rule da = dout_1 cos + dout_2 sin and db = -dout_1 sin + dout_2 cos:
    that is (dout_1, dout_2) turned by -angle, for cos(-w) = cos(w) and sin(-w) = -sin(w).
    """
    (angles,) = cache
    return rotate_half_split(dout, -angles)[0]


def rotate_interleaved(x: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Turn pair (2i, 2i + 1) of x (..., T, K) by angles (..., T, K/2): the layout of the paper, and of GGUF."""
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape), (angles,)


def rotate_interleaved_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Turn dout by the opposite angles, for the same reason."""
    (angles,) = cache
    return rotate_interleaved(dout, -angles)[0]
