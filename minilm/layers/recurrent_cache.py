"""The memory of a recurrent network between two readings: its state. Two kinds, for two uses.

A state is all that a recurrent layer knows of the past, and it does not grow. `LastState` is just that: it is enough to read
on, and to train in windows. But a token that was read into a state cannot be taken out again, and decoding takes tokens back
(after a wrong guess, or where a batch was filled up). So a `StateCache` keeps the state after every token, which costs as much
memory as a KVCache of as many layers and numbers; forgetting is then only a smaller length.
"""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from minilm.layers.kv_cache import shortened
from minilm.layers.recurrent import RecurrentLayer, State

FIRST_SLOTS = 64  # of a cache that grows


class LastState:
    """The state of every layer behind the last token, (B, S, H) each, S being 2 in an LSTM (h and c) and else 1.

    Nothing is changed in place, so gradients flow through it from one reading into the one before, until `detach`.
    """

    def __init__(self, states: Sequence[Tensor]) -> None:
        self.states = list(states)
        self.lengths = torch.zeros(len(self.states[0]), dtype=torch.long)

    def read(self, number: int, layer: RecurrentLayer, x: Tensor) -> Tensor:
        """Layer `number` reads x (B, T, I) behind its state -> outputs (B, T, H)."""
        outputs, state = layer(x, self.states[number].unbind(1))
        self.states[number] = torch.stack(state, dim=1)
        return outputs

    def advance(self, n_new: int) -> None:
        """Count n_new tokens as read. The model calls it once, after its last layer."""
        self.lengths = self.lengths + n_new

    def detach(self) -> None:
        """Keep the numbers and forget how they came about: no gradient goes back beyond this point."""
        self.states = [state.detach() for state in self.states]

    def to(self, device: torch.device) -> Self:
        """Move the states there, and return itself."""
        self.states = [state.to(device) for state in self.states]
        return self

    def rollback(self, n: int | Tensor) -> None:
        """Forget nothing or everything, row by row (n or n[b] tokens). ValueError for a part of a text: that is gone."""
        n = torch.as_tensor(n).expand(len(self.lengths))
        if bool(((n != 0) & (n != self.lengths)).any()):
            raise ValueError(
                f"rollback of {n.tolist()} tokens: of {self.lengths.tolist()} only the last state is kept, which cannot be "
                "taken back in part; a StateCache (new_cache) can"
            )
        kept = (n == 0).to(self.states[0].device)[:, None, None]
        self.states = [state.where(kept, 0.0) for state in self.states]
        self.lengths = self.lengths - n

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times or not at all."""
        self.states = [state[rows] for state in self.states]
        self.lengths = self.lengths[rows.cpu()]

    def fork(self) -> Self:
        """An independent copy with the same past."""
        twin = copy.copy(self)
        twin.states = list(self.states)
        return twin

    @property
    def n_bytes(self) -> int:
        """The memory that is held now, in bytes."""
        return sum(state.nbytes for state in self.states)

    @property
    def bytes_per_token(self) -> int:
        """The memory that one more token of a row takes, in bytes: none."""
        return 0


class StateCache:
    """The state of every layer after each token of each row: slot s of row b, (S, H), is that after s tokens.

    Slot 0 is the beginning, zeros. What lies behind `lengths` is never seen and is overwritten. Without a max_length the
    arrays (B, slots, S, H) double when they are full.
    """

    def __init__(self, n_layers: int, shape: tuple[int, int | None, int, int], like: Tensor) -> None:
        B, self.max_length, S, H = shape
        slots = FIRST_SLOTS if self.max_length is None else self.max_length + 1
        self.stores = [like.new_zeros(B, slots, S, H) for _ in range(n_layers)]
        self.lengths = torch.zeros(B, dtype=torch.long)  # kept on the CPU: reading it never waits for a GPU

    def read(self, number: int, layer: RecurrentLayer, x: Tensor) -> Tensor:
        """Layer `number` reads x (B, T, I) behind the state of each row -> outputs (B, T, H)."""
        T, rows = x.shape[1], torch.arange(len(self.lengths))
        self.make_room(number, int(self.lengths.max()) + T)
        states = [torch.stack(state, dim=1) for state in layer.steps(x, self.state(number))]
        new = torch.stack(states, dim=1)  # (B, T, S, H)
        self.stores[number][rows[:, None], self.lengths[:, None] + 1 + torch.arange(T)] = new
        return new[:, :, 0]

    def state(self, number: int) -> State:
        """The state of layer `number` behind the last token of each row."""
        return self.stores[number][torch.arange(len(self.lengths)), self.lengths].unbind(1)

    def make_room(self, number: int, longest: int) -> None:
        """See to it that the store has a slot after `longest` tokens; ValueError if it may not."""
        if self.max_length is not None and longest > self.max_length:
            held = int(self.lengths.max())
            raise ValueError(f"the cache holds {self.max_length} tokens: {held} + {longest - held} do not fit")
        B, slots, S, H = self.stores[number].shape
        if longest >= slots:
            larger = self.stores[number].new_zeros(B, 2 * (longest + 1), S, H)
            larger[:, :slots] = self.stores[number]
            self.stores[number] = larger

    def advance(self, n_new: int | Tensor) -> None:
        """Count n_new tokens (one number, or one a row) as read. The model calls it once, after its last layer."""
        self.lengths = self.lengths + n_new

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b)."""
        self.lengths = shortened(self.lengths, n)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times (beam search, or rows that have finished)."""
        self.stores = [store[rows] for store in self.stores]
        self.lengths = self.lengths[rows.cpu()]

    def fork(self) -> Self:
        """An independent copy with the same past."""
        twin = copy.copy(self)
        twin.stores = [store.clone() for store in self.stores]
        return twin  # the lengths are never changed in place, so they may be shared

    @property
    def n_bytes(self) -> int:
        """The memory that is held now, in bytes, filled or not."""
        return sum(store.nbytes for store in self.stores)

    @property
    def bytes_per_token(self) -> int:
        """The memory of one slot of one row, in bytes."""
        return sum(store[0, 0].nbytes for store in self.stores)
