"""Where a token stands: attention alone sees a set, not a sequence, so the order must be told.

Learned positions are a table of vectors that is added to the token embedding (an `Embedding` indexed by position).
Sinusoidal positions are a fixed table (Vaswani et al. 2017). Rotary positions turn queries and keys by an angle that grows
with the position (Su et al. 2021), so that their dot product depends only on the distance. ALiBi lowers the scores by the
distance itself (`alibi.py`). And a causal model can do without: it still learns something of the order, as the
mask shows token t exactly t + 1 keys (Haviv et al. 2022).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minilm.layers.basic import Embedding


def sinusoidal_positions(n_positions: int, d_model: int) -> Tensor:
    """The fixed table (n_positions, D): even columns sin(t w_i), odd columns cos(t w_i), w_i = 10000^(-2i/D)."""
    angles = rotary_angles(torch.arange(n_positions), d_model, theta=10000.0)  # (T, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()


AnglesFunction = Callable[[Tensor, int, float], Tensor]


def rotary_angles(positions: Tensor, d_head: int, theta: float) -> Tensor:
    """positions (...,) -> angles (..., K/2) = position * theta^(-2i/K), in float64: long positions lose nothing."""
    exact = torch.device("cpu") if positions.device.type == "mps" else positions.device  # Apple's GPUs have no float64
    exponents = torch.arange(0, d_head, 2, dtype=torch.float64, device=exact) / d_head
    return positions.to(exact).double()[..., None] * theta**-exponents


def rotate_half_split(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pair (i, i + K/2) of x (..., T, K) by angles (..., T, K/2): the layout of Llama as Hugging Face stores it."""
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def rotate_interleaved(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pair (2i, 2i + 1) of x (..., T, K) by angles (..., T, K/2): the layout of the paper, and of GGUF."""
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def half_split_to_interleaved(rows: Tensor, n_heads: int) -> Tensor:
    """Reorder what makes queries or keys, weight (H * K, D) or bias (H * K,), from the half-split layout to the interleaved.

    In each head, row i goes to 2i and row i + K/2 to 2i + 1. Queries and keys then have their numbers in another order, the
    same for both, so the scores stay as they were; v and the output projection are not touched.

    >>> half_split_to_interleaved(torch.tensor([0, 1, 2, 3, 4, 5]), n_heads=1)
    tensor([0, 3, 1, 4, 2, 5])
    """
    return swap_pairs(rows, n_heads, 2, -1)


def interleaved_to_half_split(rows: Tensor, n_heads: int) -> Tensor:
    """The way back of `half_split_to_interleaved`: row 2i goes to i and row 2i + 1 to i + K/2. No number changes."""
    return swap_pairs(rows, n_heads, -1, 2)


def swap_pairs(rows: Tensor, n_heads: int, *shape: int) -> Tensor:
    """Read the rows of each head as a matrix of this shape, (2, K/2) or (K/2, 2), and write them down column by column."""
    if len(rows) % (2 * n_heads):
        raise ValueError(
            f"{len(rows)} rows do not make {n_heads} heads of an even size: is it the number of key heads?"
        )
    return rows.reshape(n_heads, *shape, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def interpolated_angles(positions: Tensor, d_head: int, theta: float, factor: float) -> Tensor:
    """`rotary_angles` of position / factor: a text `factor` times as long has no angle beyond those of training.

    Beyond the positions of training, rotary scores may become huge. Between them the model has only to learn that tokens stand
    closer together, for which it needs a short training (Chen et al. 2023, "position interpolation").
    """
    if not factor >= 1:
        raise ValueError(f"interpolated_angles: the context is stretched by a factor of at least 1, got {factor}")
    return rotary_angles(positions, d_head, theta) / factor


def silence(table: Embedding) -> None:
    """No positions: make a learned table say nothing, for ever. Its weights become 0, and training leaves them there."""
    with torch.no_grad():
        table.weight.zero_()
    table.weight.requires_grad_(False)
