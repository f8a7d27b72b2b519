"""The rolling cache of sliding-window attention: no query sees more than `window` tokens, so no more are kept.

A KVCache grows with the text. This one holds the last window - 1 tokens of each row, whatever the length of the text, and
what was read last until the next reading: one token a step makes it exactly a window (Jiang et al. 2023, "Mistral 7B").
The numbers are those of a KVCache with the same attention. It takes a model whose attention knows it:

    model = GPT(config, attention=with_rolling_window(scaled_dot_product_attention, 256))
    cache = RollingCache.like(model.new_cache(batch, 1), window=256)
"""

from typing import Self

import torch
from torch import Tensor

from minilm.layers.attention import AttentionFunction
from minilm.layers.kv_cache import KVCache
from minilm.layers.masks import causal_mask
from minilm.layers.sliding_window import with_window


class RollingCache(KVCache):
    """Keys and values (B, G, S, K) of every layer: the last slot is the newest token of each row, whatever its length.

    Rows that have read less than S tokens have something else in their first slots, which no mask lets through. Tokens
    can be forgotten as long as the last window - 1 before them are still there: all that were read by the last call,
    `spare` more, or the whole text.
    """

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        spare: int = 0,
    ) -> None:
        B, G, window, K = shape
        if window < 1 or spare < 0:
            raise ValueError(f"RollingCache: window {window}, spare {spare}: at least 1 and at least 0 are needed")
        super().__init__(n_layers, (B, G, 0, K), dtype, device)
        self.max_length = None
        self.window, self.kept = window, window - 1 + spare
        self.held = torch.zeros(B, dtype=torch.long)  # how many of a row's slots, from the last, hold its tokens

    @classmethod
    def like(cls, cache: KVCache, window: int, spare: int = 0) -> Self:
        """An empty rolling cache for the model, and the number of rows, that the cache was made for."""
        keys = cache.keys[0]
        shape = (keys.shape[0], keys.shape[1], window, keys.shape[3])
        return cls(len(cache.keys), shape, keys.dtype, keys.device, spare)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, G, T, K) -> keys and values (B, G, S, K) for these T queries: the last kept tokens and the new ones.

        If these are as many as a KVCache would return, they lie as there, slot s at position s. If fewer, row by row at
        the end: so the attention can tell.
        """
        self.keys[layer] = torch.cat([last_slots(self.keys[layer], self.kept), k], dim=2)
        self.values[layer] = torch.cat([last_slots(self.values[layer], self.kept), v], dim=2)
        ends = self.lengths + k.shape[2]  # (B,)
        if self.keys[layer].shape[2] < int(ends.max()):
            return self.keys[layer], self.values[layer]
        return by_position(self.keys[layer], ends), by_position(self.values[layer], ends)

    def advance(self, n_new: int | Tensor) -> None:
        super().advance(n_new)
        self.held = self.held.clamp(max=self.kept) + n_new

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b); ValueError where a window would not be whole then."""
        left = (self.held - n).clamp(min=0)
        if bool((left < (self.lengths - n).clamp(max=self.window - 1)).any()):
            raise ValueError(
                f"rollback of {n} tokens: the rolling cache holds the last {self.held.tolist()}; use spare"
            )
        super().rollback(n)
        self.held = left
        back = torch.as_tensor(n).expand(len(self.lengths))
        self.keys = [shift_right(k, back) for k in self.keys]
        self.values = [shift_right(v, back) for v in self.values]

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self.held = self.held[rows.cpu()]


def with_rolling_window(attention: AttentionFunction, window: int) -> AttentionFunction:
    """As `with_window`, but also for keys from a RollingCache. It is right with a KVCache and without a cache as well."""
    windowed = with_window(attention, window)

    def rolling(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = causal_mask(q.shape[2], k.shape[2], q.device) if mask is None else mask
        return windowed(q, k, v, mask if k.shape[2] >= mask.shape[-1] else last_columns(mask, k.shape[2]))

    return rolling


def last_columns(mask: Tensor, n_keys: int) -> Tensor:
    """Of a causal mask (..., T, S), the columns of each row's last n_keys tokens: (..., T, n_keys).

    The last query of a row sees all of its tokens: their number is where the row ends. Columns before its begin are False.
    """
    end = mask[..., -1, :].sum(-1, keepdim=True)  # (..., 1)
    columns = end - n_keys + torch.arange(n_keys, device=mask.device)  # (..., n_keys)
    columns = columns[..., None, :].expand(*mask.shape[:-1], n_keys)
    return mask.gather(-1, columns.clamp(min=0)) & (columns >= 0)


def last_slots(store: Tensor, n: int) -> Tensor:
    """The last n slots of (B, G, S, K), or all if there are fewer."""
    return store[:, :, max(0, store.shape[2] - n) :]


def by_position(store: Tensor, ends: Tensor) -> Tensor:
    """A store (B, G, S, K) whose rows lie at the end -> (B, G, max(ends), K) with row b in slots 0 to ends[b] - 1."""
    return take_slots(store, store.shape[2] - ends[:, None] + torch.arange(int(ends.max())))


def shift_right(store: Tensor, n: Tensor) -> Tensor:
    """Row b of (B, G, S, K) moved by n[b] slots to the right: its last n[b] are lost."""
    return take_slots(store, torch.arange(store.shape[2]) - n[:, None])


def take_slots(store: Tensor, slots: Tensor) -> Tensor:
    """Slots (B, N) of each row of (B, G, S, K) -> (B, G, N, K); those outside 0..S-1 give the first or the last."""
    if store.shape[2] == 0:
        return store
    rows = torch.arange(len(store))[:, None]
    return store[rows, :, slots.clamp(0, store.shape[2] - 1)].transpose(1, 2)
