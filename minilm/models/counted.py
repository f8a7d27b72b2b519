"""Models you can count, behind the protocol of all models: ids (B, T) -> log-probabilities (B, T, V), which are logits.

The model itself computes in numpy on one row of ids. Here each row of a batch is handed to it, behind the tokens that a
cache remembers of that row.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.layers.kv_cache import shortened


class CountedModel(Protocol):
    """What a model in classical/ offers to be wrapped."""

    kind: str
    config: Any  # a frozen dataclass with vocab_size

    @property
    def context_tokens(self) -> int: ...  # how many past tokens it looks at

    @property
    def n_parameters(self) -> int: ...

    def log_probs(self, ids: np.ndarray, last: int | None = None) -> np.ndarray: ...

    def token_log_probs(self, ids: np.ndarray) -> np.ndarray: ...

    def arrays(self) -> dict[str, np.ndarray]: ...


MODELS = {NgramConfig: NgramLM}  # which model a config belongs to


class TokenCache:
    """The tokens that each row has read. As in KVCache, what lies behind `lengths` (B,) is never seen."""

    def __init__(self, batch: int, max_length: int | None) -> None:
        self.tokens = np.zeros((batch, max_length or 64), dtype=np.int64)  # grows if there is no max_length
        self.lengths = torch.zeros(batch, dtype=torch.long)
        self.max_length = max_length

    def last_tokens(self, row: int, n: int) -> np.ndarray:
        """The last n tokens that the row has read, or all if there are fewer."""
        length = int(self.lengths[row])
        return self.tokens[row, max(0, length - n) : length]

    def append(self, ids: np.ndarray) -> None:
        """Write ids (B, T) behind the tokens of every row."""
        (B, T), longest = ids.shape, int(self.lengths.max())
        if self.max_length is not None and longest + T > self.max_length:
            raise ValueError(f"the cache holds {self.max_length} tokens: {longest} + {T} do not fit")
        if longest + T > self.tokens.shape[1]:
            self.tokens = np.concatenate([self.tokens, np.zeros((B, longest + T), dtype=np.int64)], axis=1)
        self.tokens[np.arange(B)[:, None], self.lengths.numpy()[:, None] + np.arange(T)] = ids
        self.lengths = self.lengths + T

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b)."""
        self.lengths = shortened(self.lengths, n)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times (in beam search) or not at all."""
        self.tokens, self.lengths = self.tokens[rows.cpu().numpy()], self.lengths[rows.cpu()]

    def fork(self) -> "TokenCache":
        """An independent copy with the same past."""
        twin = TokenCache(len(self.lengths), self.max_length)
        twin.tokens, twin.lengths = self.tokens.copy(), self.lengths.clone()
        return twin

    @property
    def n_bytes(self) -> int:
        """The memory that is held now, in bytes, filled or not."""
        return self.tokens.nbytes

    @property
    def bytes_per_token(self) -> int:
        """The memory of one slot of one row, in bytes."""
        return self.tokens.itemsize


class CountedLM:
    """A counted model as a language model like any other: `CountedLM(ngram)(ids)`, (B, T) -> (B, T, V) float64.

    Its logits are log-probabilities in nats: their softmax is themselves. The first token of a row has no context but
    itself; begin a row with <|endoftext|> to ask what a document begins with.
    """

    context_length = None  # reads sequences of any length

    def __init__(self, model: CountedModel) -> None:
        self.model, self.kind, self.config = model, model.kind, model.config

    def __call__(self, ids: Tensor, cache: TokenCache | None = None) -> Tensor:
        """logits[:, t] predict ids[:, t + 1]. With a cache, ids are the tokens that follow those it holds."""
        new, T = ids.cpu().numpy(), ids.shape[1]
        past = [np.empty(0, dtype=np.int64)] * len(new)
        if cache is not None:
            past = [cache.last_tokens(b, self.model.context_tokens) for b in range(len(new))]
        rows = [self.model.log_probs(np.concatenate(pair), last=T) for pair in zip(past, new, strict=True)]
        if cache is not None:
            cache.append(new)  # after the work, so that refused ids leave the cache as it was
        precision = torch.float32 if ids.device.type == "mps" else torch.float64  # Apple GPUs have no float64
        return torch.from_numpy(np.stack(rows)).to(ids.device, precision)

    def new_cache(self, batch: int, max_length: int | None = None) -> TokenCache:
        """An empty cache for `batch` rows of at most max_length tokens (default: any number)."""
        return TokenCache(batch, max_length)

    def token_log_probs(self, ids: np.ndarray) -> np.ndarray:
        """log p(ids[t] | the tokens before it in its document), in nats: (N,) -> (N,), without a (N, V) array."""
        return self.model.token_log_probs(ids)

    @property
    def n_parameters(self) -> int:
        """How many numbers the model has counted."""
        return self.model.n_parameters

    def arrays(self) -> dict[str, np.ndarray]:
        """The counts by name, for a checkpoint."""
        return self.model.arrays()

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "CountedLM":
        """The model that was saved with this config; ValueError if the arrays do not fit it."""
        return cls(MODELS[type(config)].from_arrays(config, arrays))
