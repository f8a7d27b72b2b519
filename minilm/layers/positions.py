"""Where a token stands: attention alone sees a set, not a sequence, so the order must be told.

Learned positions are a table of vectors that is added to the token embedding (an `Embedding` indexed by position).
Sinusoidal positions are a fixed table (Vaswani et al. 2017). Rotary positions turn queries and keys by an angle that grows
with the position (Su et al. 2021), so that their dot product depends only on the distance.
"""

import torch
from torch import Tensor


def sinusoidal_positions(n_positions: int, d_model: int) -> Tensor:
    """The fixed table (n_positions, D): even columns sin(t w_i), odd columns cos(t w_i), w_i = 10000^(-2i/D)."""
    angles = rotary_angles(torch.arange(n_positions), d_model, theta=10000.0)  # (T, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()


def rotary_angles(positions: Tensor, d_head: int, theta: float) -> Tensor:
    """positions (...,) -> angles (..., K/2) = position * theta^(-2i/K), in float64: long positions lose nothing."""
    exponents = torch.arange(0, d_head, 2, dtype=torch.float64, device=positions.device) / d_head
    return positions.double()[..., None] * theta**-exponents


def rotate_half_split(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pair (i, i + K/2) of x (..., T, K) by angles (..., T, K/2): the layout of Llama as Hugging Face stores it."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def rotate_interleaved(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pair (2i, 2i + 1) of x (..., T, K) by angles (..., T, K/2): the layout of the paper, and of GGUF."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
