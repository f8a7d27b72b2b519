"""A model whose matrices are stored rounded to int8, as a kind of its own: so a checkpoint can hold it, at a quarter of the size.

    save_checkpoint("small", Quantized(model), tokenizer)      # model is rounded in place
    model = load_checkpoint("small").model                     # the same logits, bit for bit

What rounding does to the weights is in `decoding/quantize.py`. Like every rounded model it is for decoding: nothing trains it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilm.decoding.quantize import GROUP, arrays, quantize, to_int8
from minilm.models.gpt import load_arrays
from minilm.models.registry import build_model

INSIDE = ("gpt", "speedrun", "rnn")  # the kinds that are nothing but the arrays of a network


@dataclass(frozen=True, kw_only=True)
class QuantizedConfig:
    """The model as {"kind": its kind, "config": its config's fields}, and how many inputs share a scale (None: all)."""

    model: dict[str, Any]
    group: int | None = GROUP

    def __post_init__(self) -> None:
        if self.model["kind"] not in INSIDE:
            raise ValueError(f"a model of kind {self.model['kind']} is not rounded: choose one of {', '.join(INSIDE)}")

    @property
    def vocab_size(self) -> int:
        return self.model["config"]["vocab_size"]

    @property
    def context_length(self) -> int | None:
        return self.model["config"].get("context_length")


class Quantized(nn.Module):
    """ids (B, T) -> logits (B, T, V) of the model that is given, whose matrices are rounded in place."""

    kind = "quantized"

    def __init__(self, model: Any, group: int | None = GROUP) -> None:
        super().__init__()
        self.config = QuantizedConfig(model={"kind": model.kind, "config": asdict(model.config)}, group=group)
        self.model: Any = quantize(model, partial(to_int8, group=group))

    def forward(self, ids: Tensor, cache: Any = None) -> Tensor:
        return self.model(ids, cache=cache)

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        """ids (B, T) -> (B, T, D): all but the head."""
        return self.model.hidden(ids, cache)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V)."""
        return self.model.head(hidden)

    def new_cache(self, batch: int, max_length: int | None = None) -> Any:
        """The cache of the model."""
        return self.model.new_cache(batch, max_length)

    def arrays(self) -> dict[str, Tensor]:
        """Integers and scales of each matrix by name, and the rest as it is; what has two uses once."""
        return arrays(self.model)

    @classmethod
    def from_arrays(
        cls, config: QuantizedConfig, arrays: Mapping[str, Tensor | np.ndarray], **parts: Any
    ) -> "Quantized":
        """The model that these arrays came from, and parts as in its kind; ValueError if a name or a shape does not fit."""
        model = cls(build_model(**config.model, **parts), config.group)
        for name, own in model.arrays().items():
            if own.dtype is torch.int8 and name in arrays and torch.as_tensor(arrays[name]).dtype is not torch.int8:
                raise ValueError(f"{name} is not int8: round the model before it is saved")
        load_arrays(model, arrays)
        return model
