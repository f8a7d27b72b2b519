"""From one long array of token ids to batches (B, T) of inputs and targets: y is x moved by one place.

`sample_batch` draws windows anywhere, which is the simplest thing that works. `Batches` cuts the text into windows side
by side and visits them in a random order, so that every token is seen once before any is seen twice: at equal time this
trains better. Both read only the windows they need, so that a memory-mapped file of any size stays on the disk.
"""

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


def _check_length(ids: np.ndarray, context_length: int) -> None:
    if len(ids) < context_length + 1:
        raise ValueError(
            f"the text has {len(ids)} tokens, a window needs {context_length + 1}: "
            "give more text or a smaller context_length"
        )


def _windows(ids: np.ndarray, starts: np.ndarray, context_length: int) -> tuple[Tensor, Tensor]:
    """Cut windows of T + 1 ids: starts (B,) -> x (B, T), y (B, T), both int64 on the CPU."""
    rows = np.stack([ids[start : start + context_length + 1] for start in starts.tolist()])  # (B, T + 1)
    tokens = torch.from_numpy(rows.astype(np.int64))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def check_state(saved: dict[str, Any], here: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    """ValueError unless both states agree in these names: then the batches that follow are those of the first run."""
    for name in names:
        if saved.get(name) != here[name]:
            raise ValueError(
                f"the saved batches have {name} = {saved.get(name)}, these have {here[name]}: "
                f"resume with the {what} and settings of the first run"
            )


def saved_count(state: dict[str, Any], name: str, most: float = math.inf) -> int:
    """The whole number from 0 to `most` that the state holds under this name; ValueError for anything else."""
    count = state.get(name)
    if type(count) is not int or not 0 <= count <= most:
        raise ValueError(f"the saved batches have {name} = {count!r}, which cannot be: use another checkpoint")
    return count


def sample_batch(
    ids: np.ndarray, batch_size: int, context_length: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw windows that start anywhere, with replacement: ids (N,) -> x (B, T), y (B, T), with y[:, t] == x[:, t + 1].

    >>> x, y = sample_batch(np.arange(100), batch_size=4, context_length=8)
    >>> bool((y == x + 1).all())
    True
    """
    _check_length(ids, context_length)
    n_starts = len(ids) - context_length  # the last window ends with the last token
    starts = torch.randint(n_starts, (batch_size,), generator=generator)
    return _windows(ids, starts.numpy(), context_length)


class Batches:
    """An endless iterator of (x, y), each (B, T): in an epoch every window once, in an order drawn from seed and epoch.

    Windows lie side by side from a random offset, new in each epoch, so that the borders move. A batch may span two
    epochs; none is cut short. `state()` is a small dict for JSON, and `restore` continues exactly there.

    >>> batches = Batches(np.arange(100), batch_size=4, context_length=8, seed=1)
    >>> x, y = next(batches)
    """

    def __init__(self, ids: np.ndarray, batch_size: int, context_length: int, seed: int = 0) -> None:
        _check_length(ids, context_length)
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} is too small: give at least 1")
        self.ids, self.batch_size, self.context_length, self.seed = ids, batch_size, context_length, seed
        self._begin_epoch(0)

    def _begin_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0
        rng = np.random.default_rng((self.seed, epoch))
        n_offsets = min(self.context_length, len(self.ids) - self.context_length)
        offset = int(rng.integers(n_offsets))
        n_windows = (len(self.ids) - 1 - offset) // self.context_length
        self.starts = offset + self.context_length * rng.permutation(n_windows)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        pieces, missing = [], self.batch_size
        while missing:
            if self.position == len(self.starts):
                self._begin_epoch(self.epoch + 1)
            piece = self.starts[self.position : self.position + missing]
            self.position += len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return _windows(self.ids, np.concatenate(pieces), self.context_length)

    def state(self) -> dict[str, Any]:
        """Where we are: what `restore` needs, and what it checks."""
        return {
            "n_ids": len(self.ids),
            "context_length": self.context_length,
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken. The text and the window must be the same; the batch size may differ."""
        check_state(state, self.state(), ("n_ids", "context_length", "seed"), "text")
        self._begin_epoch(saved_count(state, "epoch"))
        self.position = saved_count(state, "position", len(self.starts))
