"""What an adapter looks like, as data: frozen dataclasses from which checkpoints and flags are made. No torch."""

from dataclasses import dataclass
from typing import Any

from minilm.runtime import option

# The linear maps of our blocks: of attention q, k, v (`qkv` where they are one) and out, of the MLP gate, up and down;
# of a recurrent layer what reads the token and what reads the state.
MAPS = ("q", "k", "v", "qkv", "out", "gate", "up", "down", "input", "recurrent")


@dataclass(frozen=True)
class LoRAConfig:
    """How large the change of a weight matrix may be, and of which matrices. ValueError for a value out of its range.

    alpha / rank multiplies the change: with alpha fixed, another rank needs no other learning rate (Hu et al. 2021).

    >>> LoRAConfig(rank=4, alpha=6.0).scale
    1.5
    >>> LoRAConfig(targets="q,v").targets
    ('q', 'v')
    """

    rank: int = option(8, "rank R of the change of each matrix", low=1)
    alpha: float = option(16.0, "the change is multiplied by alpha / rank")
    targets: tuple[str, ...] = option(
        (), f"the maps that change, by name, with commas: of {', '.join(MAPS)}; none = all"
    )
    dropout: float = option(0.0, "probability of dropping an input of the change in training")

    def __post_init__(self) -> None:
        targets = self.targets.split(",") if isinstance(self.targets, str) else self.targets
        object.__setattr__(self, "targets", tuple(name.strip() for name in targets if name.strip()))
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}: it must be at least 1")
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"alpha is {self.alpha}: it must be above 0 (0 would switch the adapter off)")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: it must be at least 0 and below 1")

    @property
    def scale(self) -> float:
        """What multiplies B A."""
        return self.alpha / self.rank


@dataclass(frozen=True, kw_only=True)
class AdaptedConfig:
    """Which base an adapter belongs to, how large it is, and which head, if any, was trained with it.

    `base` is the folder of the base's checkpoint and `fingerprint` the SHA-256 of its weights; `base_config` holds the
    fields of its config, `lora` those of a LoRAConfig; `head` is {"kind": ..., "config": ...} of the model with a head.
    """

    base: str
    fingerprint: str
    base_kind: str
    base_config: dict[str, Any]
    lora: dict[str, Any]
    head: dict[str, Any] | None = None

    @property
    def vocab_size(self) -> int:
        return self.base_config["vocab_size"]

    @property
    def context_length(self) -> int:
        return self.base_config["context_length"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the head; none without one."""
        return tuple(self.head["config"]["labels"]) if self.head else ()
