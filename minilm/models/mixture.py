"""The mixture: ask two models and average their probabilities. It beats both where they err on different tokens.

    p(w | context) = weight * p_neural(w | context) + (1 - weight) * p_counted(w | context)

The n-gram remembers names and phrases exactly, the GPT knows what fits: on a token where one is badly wrong, the other
still leaves it at least its share. Jelinek and Mercer (1980).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from minilm.layers.basic import log_softmax
from minilm.models.registry import build_model


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Two models over one vocabulary, each as {"kind": its kind, "config": its config's fields}."""

    neural: dict[str, Any]
    counted: dict[str, Any]

    def __post_init__(self) -> None:
        sizes = [part["config"]["vocab_size"] for part in (self.neural, self.counted)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"a mixture needs models over one vocabulary, got {sizes[0]} and {sizes[1]} tokens")

    @property
    def vocab_size(self) -> int:
        return self.neural["config"]["vocab_size"]

    @property
    def context_length(self) -> int | None:
        return self.neural["config"].get("context_length")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(PairConfig):
    """Both models and the weight of the neural one."""

    weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.weight < 1:
            raise ValueError(f"the weight of a mixture is {self.weight}: it must lie between 0 and 1, both excluded")


@dataclass
class MixtureCache:
    """A pair of caches that go the same way."""

    neural: Any
    counted: Any

    @property
    def lengths(self) -> Tensor:
        return self.neural.lengths

    @property
    def n_bytes(self) -> int:
        """The memory that both hold now, in bytes."""
        return self.neural.n_bytes + self.counted.n_bytes

    @property
    def bytes_per_token(self) -> int:
        """The memory of one slot of one row in both, in bytes."""
        return self.neural.bytes_per_token + self.counted.bytes_per_token

    def rollback(self, n: int | Tensor) -> None:
        """Forget the last n tokens of every row (or n[b] of row b)."""
        self.neural.rollback(n)
        self.counted.rollback(n)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        self.neural.select(rows)
        self.counted.select(rows)

    def fork(self) -> "MixtureCache":
        """An independent copy with the same past."""
        return MixtureCache(self.neural.fork(), self.counted.fork())


class Pair(nn.Module):
    """Two models that are asked together, and what every way of joining their answers has in common."""

    def __init__(self, neural: Any, counted: Any, config_class: type[PairConfig], **how: Any) -> None:
        super().__init__()
        parts = [{"kind": model.kind, "config": asdict(model.config)} for model in (neural, counted)]
        self.config: Any = config_class(neural=parts[0], counted=parts[1], **how)
        self.neural, self.counted = neural, counted

    def both(self, ids: Tensor, cache: MixtureCache | None = None) -> tuple[Tensor, Tensor]:
        """ids (B, T) -> the log-probabilities (B, T, V) of the neural model and of the counted one."""
        neural = log_softmax(self.neural(ids, cache=cache and cache.neural))
        return neural, log_softmax(self.counted(ids, cache=cache and cache.counted)).to(neural)

    def new_cache(self, batch: int, max_length: int | None = None) -> MixtureCache:
        """Empty caches of both models for `batch` rows of at most max_length tokens."""
        max_length = max_length or self.config.context_length
        return MixtureCache(self.neural.new_cache(batch, max_length), self.counted.new_cache(batch, max_length))

    def arrays(self) -> dict[str, Any]:
        """The arrays of both models, their names beginning with `neural.` and `counted.`."""
        parts = {"neural": self.neural, "counted": self.counted}
        return {f"{part}.{name}": array for part, model in parts.items() for name, array in model.arrays().items()}

    @classmethod
    def from_arrays(cls, config: PairConfig, arrays: Mapping[str, Any]) -> Self:
        """The pair that these arrays came from; ValueError if a name does not fit."""
        parts: dict[str, dict[str, Any]] = {"neural": {}, "counted": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            if part not in parts:
                raise ValueError(f"array {name!r} belongs to no part of a mixture: expected neural.* and counted.*")
            parts[part][rest] = array
        neural, counted = (build_model(**getattr(config, part), arrays=own) for part, own in parts.items())
        return cls(neural, counted, **{name: value for name, value in vars(config).items() if name not in parts})


class Mixture(Pair):
    """ids (B, T) -> log-probabilities (B, T, V) of weight * neural + (1 - weight) * counted."""

    kind = "mixture"

    def __init__(self, neural: Any, counted: Any, weight: float) -> None:
        super().__init__(neural, counted, MixtureConfig, weight=weight)

    def forward(self, ids: Tensor, cache: MixtureCache | None = None) -> Tensor:
        (neural, counted), weight = self.both(ids, cache), self.config.weight
        return torch.logaddexp(neural + math.log(weight), counted + math.log1p(-weight))


def mix_log_probs(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
    """Log-probabilities (N,), (N,) of the same tokens under two models -> (N,) under their mixture, in nats."""
    return np.logaddexp(neural + math.log(weight), counted + math.log1p(-weight))


def fit_mixture_weight(neural: np.ndarray, counted: np.ndarray) -> float:
    """The weight between 0 and 1 under which the tokens are likeliest; inputs (N,), (N,) as in `mix_log_probs`.

    Give it text that neither model was trained on and that is not the validation split either. At the best weight the
    share of the neural model in each token's probability, averaged, is the weight itself (the fixed point of EM,
    Dempster et al. 1977). Below the best weight the average is larger, above it smaller: halve the interval 40 times.
    """
    if neural.shape != counted.shape or neural.size == 0:
        raise ValueError(f"need two scores for each of at least one token, got {neural.shape} and {counted.shape}")
    log_ratio = neural - counted
    low, high = 0.0, 1.0
    for _ in range(40):
        weight = (low + high) / 2
        shares = 0.5 + 0.5 * np.tanh(0.5 * (log_ratio + math.log(weight / (1 - weight))))  # sigmoid, without overflow
        low, high = (weight, high) if shares.mean() > weight else (low, weight)
    return weight
