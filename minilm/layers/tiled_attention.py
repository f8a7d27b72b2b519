"""Attention in tiles: the same function, but the scores (T, S) never exist as a whole (Dao et al. 2022, "FlashAttention").

The softmax of a row seems to need the whole row: its maximum, and its sum. It does not. Read the keys block by block, and
keep of each query, for the keys read so far, three things:

    top    the largest score m
    total  sum_s exp(score_s - m)
    mix    sum_s exp(score_s - m) v_s

If the next block raises the maximum to m', what was summed is too large by exp(m' - m): multiply it by exp(m - m') and go on
(Milakov and Gimelshein 2018, the online softmax). After the last block, mix / total is the result.

The backward pass needs the probabilities again. Instead of keeping them, it computes each tile a second time from q, k and
one number a query, log_total = m + log(total): p = exp(score - log_total). Memory grows with T, not with T S. The price is
one more matrix product; for long texts it is won back, as a tile stays in the processor's cache and T S numbers do not, and as
tiles of which the mask shows nothing are left out.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from minilm.layers.attention import share_heads

Tile = tuple[slice, slice, Tensor | None]


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, block: int = 128) -> Tensor:
    """softmax(q k^T / sqrt(K)) v: q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K'), block by block.

    mask is boolean, broadcast to (B, H, T, S), True = may attend. A query that may attend to nothing gets zeros.
    """
    if block < 1:
        raise ValueError(f"tiled_attention: a block has at least 1 token, got {block}")
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    if mask is not None:
        mask = mask.expand(*q.shape[:3], k.shape[2])  # a view: it takes no memory
    return TiledAttention.apply(q, k, v, mask, block)


def blocks(n: int, block: int) -> Iterator[slice]:
    """0 ... n - 1 cut into slices of `block`; the last may be shorter."""
    return (slice(start, start + block) for start in range(0, n, block))


def seen_tiles(queries: slice, n_keys: int, mask: Tensor | None, block: int) -> Iterator[Tile]:
    """The blocks of keys that these queries see something of, with their masks. A causal mask spares nearly half of them."""
    for keys in blocks(n_keys, block):
        tile_mask = None if mask is None else mask[:, :, queries, keys]
        if tile_mask is None or tile_mask.any():
            yield queries, keys, tile_mask


def tile_scores(q: Tensor, k: Tensor, tile: Tile) -> Tensor:
    """The scores (B, H, t, s) of one tile, -inf where the mask hides the key."""
    queries, keys, mask = tile
    scores = q[:, :, queries] @ k[:, :, keys].mT / math.sqrt(q.shape[-1])
    return scores if mask is None else scores.masked_fill(~mask, -math.inf)


def attend_to_all(q: Tensor, k: Tensor, v: Tensor, queries: slice, mask: Tensor | None, block: int) -> list[Tensor]:
    """One block of queries over all keys: its output (B, H, t, K') and its log_total (B, H, t, 1)."""
    top = q.new_full((*q[:, :, queries].shape[:3], 1), -math.inf)
    total, mix = torch.zeros_like(top), torch.zeros_like(top)
    for tile in seen_tiles(queries, k.shape[2], mask, block):
        scores = tile_scores(q, k, tile)
        new_top = torch.maximum(top, scores.amax(-1, keepdim=True))
        reference = new_top.masked_fill(new_top == -math.inf, 0.0)  # no key so far: -inf - -inf would be NaN
        weights, shrink = torch.exp(scores - reference), torch.exp(top - reference)
        total = total * shrink + weights.sum(-1, keepdim=True)
        mix = mix * shrink + weights @ v[:, :, tile[1]]
        top = new_top
    empty = total == 0  # a query that saw no key: its output is 0 / 1
    return [mix / total.masked_fill(empty, 1.0), (top + total.log()).masked_fill(empty, 0.0)]


class TiledAttention(torch.autograd.Function):
    """The forward pass in tiles, and a backward pass that computes the tiles again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, block: int) -> Tensor:
        out = q.new_zeros(*q.shape[:3], v.shape[-1])
        log_total = q.new_zeros(*q.shape[:3], 1)
        for queries in blocks(q.shape[2], block):
            out[:, :, queries], log_total[:, :, queries] = attend_to_all(q, k, v, queries, mask, block)
        ctx.save_for_backward(q, k, v, mask, out, log_total)
        ctx.block = block
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """The steps of attention back, in tiles: dv = p^T dout, dp = dout v^T, ds = p (dp - sum_s p dp), dq = ds k, dk = ds^T q.

        The sum over a whole row looks as if it needed all tiles, but sum_s p_s dp_s = sum_s p_s v_s · dout = out · dout.
        """
        q, k, v, mask, out, log_total = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        row_sums = (dout * out).sum(-1, keepdim=True)  # (B, H, T, 1)
        for queries in blocks(q.shape[2], ctx.block):
            for tile in seen_tiles(queries, k.shape[2], mask, ctx.block):
                keys, dout_tile = tile[1], dout[:, :, queries]
                p = torch.exp(tile_scores(q, k, tile) - log_total[:, :, queries])
                dp = dout_tile @ v[:, :, keys].mT
                ds = p * (dp - row_sums[:, :, queries]) / math.sqrt(q.shape[-1])
                dq[:, :, queries] += ds @ k[:, :, keys]
                dk[:, :, keys] += ds.mT @ q[:, :, queries]
                dv[:, :, keys] += p.mT @ dout_tile
        return dq, dk, dv, None, None
