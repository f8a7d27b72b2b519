"""What a model with a head looks like, as data. Standard library only."""

from dataclasses import dataclass
from typing import Any

POOLINGS = ("last", "mean", "first")


@dataclass(frozen=True)
class HeadConfig:
    """A backbone, by its kind and the fields of its config, and the labels between which a head decides.

    `pooling` says which hidden state speaks for a whole text: that of its last token, the mean of all, or the first.
    """

    backbone_kind: str
    backbone: dict[str, Any]
    labels: tuple[str, ...]
    pooling: str = "last"

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))  # JSON has lists only
        for name in ("vocab_size", "context_length", "d_model"):
            if name not in self.backbone:
                raise ValueError(f"the backbone's config lacks {name}: give all fields of a {self.backbone_kind} model")
        if not all(isinstance(label, str) and label for label in self.labels):
            raise ValueError(f"labels {list(self.labels)} must be texts of at least one character")
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels {list(self.labels)} must be at least two, all different")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}: choose one of {', '.join(POOLINGS)}")

    @property
    def context_length(self) -> int:
        return self.backbone["context_length"]

    @property
    def vocab_size(self) -> int:
        return self.backbone["vocab_size"]
