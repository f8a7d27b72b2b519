"""The hidden Markov model behind the protocol of all models: ids (B, T) -> log-probabilities (B, T, V), which are logits.

Its cache is its belief: K numbers a row are all that it needs of the past. One belief is kept for each token that was
read, so that the last ones can be taken back.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from minilm.classical.config import HMMConfig
from minilm.classical.hmm import HMM
from minilm.layers.kv_cache import shortened


class BeliefCache:
    """log p(state of the next token) after each token that a row has read: what lies behind `lengths` (B,) is never seen."""

    def __init__(self, beginning: np.ndarray, max_length: int | None) -> None:
        self.beliefs = np.repeat(
            beginning[:, None], 1 + (max_length or 63), axis=1
        )  # (B, slots, K); the first: nothing read
        self.lengths = torch.zeros(len(beginning), dtype=torch.long)
        self.max_length = max_length

    @property
    def last(self) -> np.ndarray:
        """The belief of every row, (B, K)."""
        return self.beliefs[np.arange(len(self.lengths)), self.lengths.numpy()]

    def make_room(self, n: int) -> None:
        """See to it that n more tokens fit into every row; ValueError if there is a max_length and they do not."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        if self.max_length is not None and longest + n > self.max_length:
            raise ValueError(f"the cache holds {self.max_length} tokens: {longest} + {n} do not fit")
        if longest + n >= self.beliefs.shape[1]:
            B, _, K = self.beliefs.shape
            self.beliefs = np.concatenate([self.beliefs, np.empty((B, longest + n, K))], axis=1)

    def append(self, beliefs: np.ndarray) -> None:
        """Write the beliefs (B, T, K) after T more tokens behind those of every row; `make_room` comes before."""
        B, T, _ = beliefs.shape
        self.beliefs[np.arange(B)[:, None], self.lengths.numpy()[:, None] + np.arange(1, T + 1)] = beliefs
        self.lengths = self.lengths + T

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b)."""
        self.lengths = shortened(self.lengths, n)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times (in beam search) or not at all."""
        self.beliefs, self.lengths = self.beliefs[rows.cpu().numpy()], self.lengths[rows.cpu()]

    def fork(self) -> "BeliefCache":
        """An independent copy with the same past."""
        twin = BeliefCache(self.beliefs[:, 0], self.max_length)
        twin.beliefs, twin.lengths = self.beliefs.copy(), self.lengths.clone()
        return twin

    @property
    def n_bytes(self) -> int:
        """The memory that is held now, in bytes, filled or not."""
        return self.beliefs.nbytes

    @property
    def bytes_per_token(self) -> int:
        """The memory of one slot of one row, in bytes."""
        return self.beliefs.shape[2] * self.beliefs.itemsize


class HmmLM:
    """A hidden Markov model as a language model like any other: `HmmLM(hmm)(ids)`, (B, T) -> (B, T, V) float64.

    Its logits are log-probabilities in nats: their softmax is themselves. Begin a row with <|endoftext|>, as every text does.
    """

    kind = "hmm"
    context_length = None  # reads sequences of any length

    def __init__(self, model: HMM) -> None:
        self.model, self.config = model, model.config

    def __call__(self, ids: Tensor, cache: BeliefCache | None = None) -> Tensor:
        """logits[:, t] predict ids[:, t + 1]. With a cache, ids are the tokens that follow those it holds."""
        new = ids.cpu().numpy()
        if new.size and not 0 <= new.min() <= new.max() < self.config.vocab_size:
            raise ValueError(
                f"ids {new.min()}..{new.max()} go beyond 0..{self.config.vocab_size - 1}: use its tokenizer"
            )
        if cache is not None:
            cache.make_room(new.shape[1])
        beliefs = self.model.follow(new, self.model.beginning(len(new)) if cache is None else cache.last)
        if cache is not None:
            cache.append(beliefs)
        precision = torch.float32 if ids.device.type == "mps" else torch.float64  # Apple GPUs have no float64
        return torch.from_numpy(self.model.predict(beliefs)).to(ids.device, precision)

    def new_cache(self, batch: int, max_length: int | None = None) -> BeliefCache:
        """A cache in which nothing was read, for `batch` rows of at most max_length tokens (default: any number)."""
        return BeliefCache(self.model.beginning(batch), max_length)

    def token_log_probs(self, ids: np.ndarray) -> np.ndarray:
        """log p(ids[t] | the tokens before it in its document), in nats: (N,) -> (N,), without a (N, V) array."""
        return self.model.token_log_probs(ids)

    @property
    def n_parameters(self) -> int:
        """How many probabilities the model holds."""
        return self.model.n_parameters

    def arrays(self) -> dict[str, np.ndarray]:
        """The probabilities by name, for a checkpoint."""
        return self.model.arrays()

    @classmethod
    def from_arrays(cls, config: HMMConfig, arrays: Mapping[str, np.ndarray]) -> "HmmLM":
        """The model that was saved with this config; ValueError if the arrays do not fit it."""
        return cls(HMM.from_arrays(config, arrays))
