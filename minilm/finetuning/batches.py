"""From labelled examples of many lengths to batches (B, T): little padding, and each example once an epoch.

A rectangle of ids needs every row to be as long as the longest, and the filling costs as much time as text. So an epoch is
shuffled, cut into chunks of 20 batches, each chunk is sorted by length and cut into batches, and these are shuffled again:
rows of one batch have similar lengths, yet both the batches and their order are new in each epoch.

Padding stands on the right and has the id PAD = -1. No token has this id, so padding can never be mistaken for a token.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from minilm.text.padding import pad_batch
from minilm.training.batches import check_state, saved_count
from minilm.training.loss import IGNORE

PAD = -1  # the id of padding
CHUNK = 20  # batches that are sorted by length together: enough that neighbours are alike, few enough to stay random


def as_rows(inputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Rows of ids as int64 arrays; ValueError for a row without a token and for an id that is none."""
    rows = [np.asarray(row, dtype=np.int64) for row in inputs]
    for i, row in enumerate(rows):
        if not row.size:
            raise ValueError(f"example {i} has no tokens: begin every text with the tokenizer's end_of_text")
        if row.min() < 0:
            raise ValueError(f"example {i} holds the id {row.min()}: ids count from 0, padding is added here")
    return rows


def _check_targets(rows: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    """A target is one label, or a row: a label for each token, or always the same number of them (2 for a span)."""
    if len(rows) != len(targets):
        raise ValueError(f"{len(rows)} inputs have {len(targets)} targets: give one target to each input")
    if not rows:
        raise ValueError("there are no examples: give at least one")
    if len({target.ndim for target in targets}) > 1:
        raise ValueError("some targets are one label and some are rows of labels: give all alike")
    sizes = [target.size for target in targets]
    if targets[0].ndim == 0 or len(set(sizes)) == 1:
        return
    for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if len(row) != size:
            raise ValueError(f"example {i} has {len(row)} tokens and {size} labels: give one label to each token")


class RaggedBatches:
    """An endless iterator of (x (B, T), y (B,) or (B, T')), int64: in an epoch each example once.

    `inputs` are rows of token ids. `targets` are one label an example, or a row of labels for each: as many as tokens, or
    the same number everywhere (start and end of a span). x is padded on the right with `pad`, y with IGNORE. The order
    depends on seed and epoch alone; the last batch of a chunk may be smaller. `state()` is a small dict for JSON, and
    `restore` continues exactly there.

    >>> batches = RaggedBatches([[5, 6, 7], [8]], targets=[1, 0], batch_size=2)
    >>> [rows.tolist() for rows in next(batches)]
    [[[8, -1, -1], [5, 6, 7]], [0, 1]]
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[int]],
        targets: Sequence[int] | Sequence[Sequence[int]],
        batch_size: int,
        seed: int = 0,
        pad: int = PAD,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} is too small: give at least 1")
        self.inputs = as_rows(inputs)
        self.targets = [np.asarray(target, dtype=np.int64) for target in targets]
        _check_targets(self.inputs, self.targets)
        self.batch_size, self.seed, self.pad = batch_size, seed, pad
        self.lengths = np.array([len(row) for row in self.inputs])
        self.fingerprint = _fingerprint([*self.inputs, *self.targets])
        self._begin_epoch(0)

    @property
    def n_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self.inputs) // self.batch_size)

    def _begin_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.inputs))
        batches = []
        for start in range(0, len(order), CHUNK * self.batch_size):
            chunk = order[start : start + CHUNK * self.batch_size]
            chunk = chunk[np.argsort(self.lengths[chunk], kind="stable")]
            batches += [chunk[first : first + self.batch_size] for first in range(0, len(chunk), self.batch_size)]
        self.batches = [batches[i] for i in rng.permutation(len(batches))]  # each the numbers of its examples

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.position == self.n_batches:
            self._begin_epoch(self.epoch + 1)
        chosen = self.batches[self.position]
        self.position += 1
        x, _ = pad_batch([self.inputs[i] for i in chosen], self.pad)
        targets = [self.targets[i] for i in chosen]
        y = np.stack(targets) if targets[0].ndim == 0 else pad_batch(targets, IGNORE)[0]
        return torch.from_numpy(x), torch.from_numpy(y)

    def state(self) -> dict[str, Any]:
        """Where we are: what `restore` needs, and what it checks."""
        return {
            "examples": self.fingerprint,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken. ValueError unless examples, batch size and seed are the same."""
        check_state(state, self.state(), ("examples", "batch_size", "seed"), "examples")
        self._begin_epoch(saved_count(state, "epoch"))
        self.position = saved_count(state, "position", self.n_batches)


def _fingerprint(rows: Sequence[np.ndarray]) -> str:
    """The first 16 digits of a SHA-256 of all rows and their lengths."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.size.to_bytes(8, "little") + row.tobytes())
    return digest.hexdigest()[:16]
