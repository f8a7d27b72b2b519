"""The memory of decoding: keys and values of the tokens already read, so that each new token costs one step, not all.

Slot s of row b holds the token at position s. `lengths` says how many slots of a row are filled; whatever lies behind is
never seen and is overwritten by the next append. Forgetting is therefore only a smaller length.
"""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of every layer, (B, G, max_length, K) each, and the length of every row (B,)."""

    def __init__(
        self, n_layers: int, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.lengths = torch.zeros(shape[0], dtype=torch.long)  # kept on the CPU: reading it never waits for a GPU
        self.max_length = shape[2]

    def positions(self, n_new: int) -> Tensor:
        """The positions (B, T) of the next n_new tokens of each row."""
        if int(self.lengths.max()) + n_new > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} tokens: {int(self.lengths.max())} + {n_new} do not fit"
            )
        return self.lengths[:, None] + torch.arange(n_new)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k, v (B, G, T, K) behind each row's length; return all keys and values up to the longest row (B, G, S, K)."""
        n_new, longest = k.shape[2], int(self.lengths.max())
        for store, new in ((self.keys[layer], k), (self.values[layer], v)):
            if bool((self.lengths == longest).all()):
                store[:, :, longest : longest + n_new] = new
            else:
                rows = torch.arange(len(self.lengths))[:, None]
                store[rows, :, self.positions(n_new)] = new.transpose(1, 2)
        return self.keys[layer][:, :, : longest + n_new], self.values[layer][:, :, : longest + n_new]

    def advance(self, n_new: int | Tensor) -> None:
        """Count n_new tokens (one number, or one a row) as read. The model calls it once, after its last layer."""
        self.lengths = self.lengths + n_new

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b)."""
        if bool((self.lengths < n).any()):
            raise ValueError(f"rollback of {n} tokens, but the rows hold {self.lengths.tolist()}")
        self.lengths = self.lengths - n

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times (beam search, or rows that have finished)."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]
        self.lengths = self.lengths[rows.cpu()]

    def fork(self) -> "KVCache":
        """An independent copy with the same past."""
        twin = object.__new__(KVCache)
        twin.keys, twin.values = [k.clone() for k in self.keys], [v.clone() for v in self.values]
        twin.lengths, twin.max_length = self.lengths.clone(), self.max_length
        return twin
