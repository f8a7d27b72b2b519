"""Examples as ids: what a fine-tuning run learns from and is judged by, kept in its folder so that it can go on later."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minilm.finetuning.batches import PAD, RaggedBatches
from minilm.runtime import evaluation_mode
from minilm.training.loss import IGNORE, LossFunction


@dataclass(frozen=True)
class Examples:
    """N rows of ids, and for each what is to be answered: one label, or a label for each id (IGNORE: not counted)."""

    inputs: Sequence[Sequence[int]]
    targets: Sequence[Any]
    pad: int = PAD  # the id behind the end of a row
    shortened: int = 0  # rows of which a part did not fit into the context
    dropped: int = 0  # examples of which too little would have been left

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{len(self.inputs)} rows and {len(self.targets)} answers: give one for each")

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, batch_size: int, seed: int = 0) -> RaggedBatches:
        """Endless batches of these examples, in an order drawn from the seed."""
        return RaggedBatches(self.inputs, self.targets, batch_size, seed, self.pad)

    def mean_loss(self, model: nn.Module, loss_function: LossFunction, batch_size: int = 32) -> float:
        """The loss per counted label over all examples, each once, with the model in evaluation mode; 0 without any."""
        total, counted = 0.0, 0
        batches, device = self.batches(batch_size), next(model.parameters()).device
        with evaluation_mode(model), torch.no_grad():
            for x, y in itertools.islice(batches, batches.n_batches):
                n = int((y != IGNORE).sum())
                total += n * loss_function(model, x.to(device), y.to(device)).item()
                counted += n
        return total / max(counted, 1)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """What `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
