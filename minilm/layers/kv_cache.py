"""The memory of decoding: keys and values of the tokens already read, so that each new token costs one step, not all.

Slot s of row b holds the token at position s. `lengths` says how many slots of a row are filled; whatever lies behind is
never seen and is overwritten by the next append. Forgetting is therefore only a smaller length.
"""

import copy
from typing import Self

import torch
from torch import Tensor

FIRST_SLOTS = 64  # of a cache that grows


class KVCache:
    """Keys and values of every layer, (B, G, max_length, K) each, and the length of every row (B,).

    A max_length of None sets no bound: the arrays begin small and double when they are full, so that on average each
    token is copied once, however long the text becomes.
    """

    def __init__(
        self, n_layers: int, shape: tuple[int, int, int | None, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        B, G, self.max_length, K = shape
        slots = (B, G, FIRST_SLOTS if self.max_length is None else self.max_length, K)
        self.keys = [torch.zeros(slots, dtype=dtype, device=device) for _ in range(n_layers)]
        self.values = [torch.zeros(slots, dtype=dtype, device=device) for _ in range(n_layers)]
        self.lengths = torch.zeros(B, dtype=torch.long)  # kept on the CPU: reading it never waits for a GPU

    def positions(self, n_new: int) -> Tensor:
        """The positions (B, T) of the next n_new tokens of each row."""
        if self.max_length is not None and int(self.lengths.max()) + n_new > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} tokens: {int(self.lengths.max())} + {n_new} do not fit"
            )
        return self.lengths[:, None] + torch.arange(n_new)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k, v (B, G, T, K) behind each row's length; return all keys and values up to the longest row (B, G, S, K)."""
        n_new, longest = k.shape[2], int(self.lengths.max())
        positions = self.positions(n_new)  # (B, T)
        if self.keys[layer].shape[2] < longest + n_new:
            self.keys[layer] = with_slots(self.keys[layer], 2 * (longest + n_new))
            self.values[layer] = with_slots(self.values[layer], 2 * (longest + n_new))
        for store, new in ((self.keys[layer], k), (self.values[layer], v)):
            if bool((self.lengths == longest).all()):
                store[:, :, longest : longest + n_new] = new
            else:
                store[torch.arange(len(positions))[:, None], :, positions] = new.transpose(1, 2)
        return self.keys[layer][:, :, : longest + n_new], self.values[layer][:, :, : longest + n_new]

    def advance(self, n_new: int | Tensor) -> None:
        """Count n_new tokens (one number, or one a row) as read. The model calls it once, after its last layer."""
        self.lengths = self.lengths + n_new

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b)."""
        self.lengths = shortened(self.lengths, n)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times (beam search, or rows that have finished)."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]
        self.lengths = self.lengths[rows.cpu()]

    def fork(self) -> Self:
        """An independent copy with the same past."""
        twin = copy.copy(self)
        twin.keys, twin.values = [k.clone() for k in self.keys], [v.clone() for v in self.values]
        return twin  # the lengths are never changed in place, so they may be shared

    @property
    def n_bytes(self) -> int:
        """The memory that is held now, in bytes, filled or not."""
        return sum(store.nbytes for store in (*self.keys, *self.values))

    @property
    def bytes_per_token(self) -> int:
        """The memory of one slot of one row, in bytes."""
        return sum(store.shape[1] * store.shape[3] * store.itemsize for store in (*self.keys, *self.values))


def with_slots(store: Tensor, n: int) -> Tensor:
    """A copy of the store (B, G, S, K) with n >= S slots; the new ones are zero."""
    larger = store.new_zeros(*store.shape[:2], n, store.shape[3])
    larger[:, :, : store.shape[2]] = store
    return larger


def shortened(lengths: Tensor, n: int | Tensor) -> Tensor:
    """The lengths (B,) of rows that forget their last n (or n[b]) tokens. ValueError where a row has fewer, and for n below 0."""
    left = lengths - n
    if bool(((left < 0) | (left > lengths)).any()):
        raise ValueError(f"rollback of {n} tokens, but the rows hold {lengths.tolist()}")
    return left
