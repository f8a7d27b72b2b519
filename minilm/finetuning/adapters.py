"""A small checkpoint: what was learnt beside a base model, and which base that was.

An `AdaptedModel` is used like the model that it holds, and saves only the adapter (and the head, if it has one). Its config
names the folder of the base and the SHA-256 of its weights: on any others the same change would be noise, so they are refused.

    adapted = adapt(load_checkpoint(base), LoRAConfig(), generator)
    train(adapted, ...); save_checkpoint(folder, adapted, tokenizer)
    adapted = load_checkpoint(folder).model             # finds its base; if that has moved: load_checkpoint(folder, base=...)

Several adapters can share one base in memory: load_checkpoint(folder, base=model) uses its weights without copying them.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilm.finetuning.freezing import unfreeze
from minilm.finetuning.lora import add_lora, lora_arrays, merge_lora, remove_lora
from minilm.finetuning.lora_config import AdaptedConfig, LoRAConfig
from minilm.models.gpt import load_arrays
from minilm.models.registry import build_model
from minilm.training.checkpoint import Checkpoint, load_checkpoint


def fingerprint(model: Any) -> str:
    """SHA-256 of a model's weights: their names, types, shapes and bits."""
    digest = hashlib.sha256()
    for name, array in sorted(model.arrays().items()):
        tensor = torch.as_tensor(array).detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def as_json(config: Any) -> dict[str, Any]:
    """The fields of a config as JSON has them, lists for tuples: what is read again equals what was written."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def share(model: nn.Module) -> Any:
    """A second model over the same weights, which are frozen in it; the first stays as it is."""
    own = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, own)


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name, what stands on the backbone; nothing in a model without one."""
    named = dict(model.named_parameters()) if hasattr(model, "backbone") else {}
    return {name: p for name, p in named.items() if not name.startswith("backbone.")}


class AdaptedModel(nn.Module):
    """A model with an adapter, used like the model itself. `adapt` makes one, `from_arrays` finds its base."""

    kind = "adapted"

    def __init__(self, config: AdaptedConfig, model: Any) -> None:
        super().__init__()
        self.config, self.model = config, model

    def forward(self, ids: Tensor, cache: Any = None) -> Tensor:
        return self.model(ids) if cache is None else self.model(ids, cache)

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        """ids (B, T) -> (B, T, D): all but the head."""
        return self.model.hidden(ids, cache)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V)."""
        return self.model.head(hidden)

    def new_cache(self, batch: int, max_length: int | None = None) -> Any:
        """An empty cache, as the base has it."""
        return self.model.new_cache(batch, max_length)

    def arrays(self) -> dict[str, Tensor]:
        """What was learnt, by name: the adapter's A and B, and the parameters of the head. Nothing of the base."""
        return lora_arrays(self.model) | {name: p.detach() for name, p in head_parameters(self.model).items()}

    def merged(self) -> Any:
        """The plain model, a copy, with the changes in its matrices: for a checkpoint of its own, or for speed."""
        model = copy.deepcopy(self.model)
        merge_lora(model)
        remove_lora(model)
        unfreeze(model)
        return model

    @classmethod
    def from_arrays(
        cls,
        config: AdaptedConfig,
        arrays: Mapping[str, Tensor | np.ndarray],
        base: str | Path | nn.Module | None = None,
        **parts: Any,
    ) -> "AdaptedModel":
        """The adapted model that these arrays came from, with `parts` for its base as in `build_model`.

        `base` is the folder of the base where it is no longer that of the config, or the base itself, whose weights are
        shared. ValueError if it cannot be read, or if its weights are others than those the adapter was trained on.
        """
        model = share(base_of(config, base, parts))
        if config.head is not None:
            weight = next(model.parameters())
            model = build_model(**config.head, backbone=model).to(weight.device, weight.dtype)
        adapted = put_adapter(model, config, torch.Generator())
        load_arrays(adapted, arrays)
        return adapted


def adapt(
    checkpoint: Checkpoint,
    lora: LoRAConfig,
    generator: torch.Generator,
    head: Callable[[Any], nn.Module] | None = None,
) -> AdaptedModel:
    """A new adapter on the model of a checkpoint, which stays as it is; only the adapter and the head can learn.

    `head` builds a model with a head round the base, and draws it: functools.partial(SequenceClassifier.from_backbone,
    labels=labels, generator=generator). Before training, the adapted model gives exactly what the model without it gives.
    """
    base: Any = checkpoint.model
    if base.kind == AdaptedModel.kind or hasattr(base, "backbone") or not hasattr(base, "hidden"):
        raise ValueError(
            f"{checkpoint.path} is of kind {base.kind}: the base of an adapter is a plain gpt or speedrun model"
        )
    model: Any = share(base)
    if head is not None and not hasattr(model := head(model), "backbone"):
        raise ValueError(
            f"head gave a {type(model).__name__} without a backbone: a base that was changed is saved, then adapted"
        )
    config = AdaptedConfig(
        base=str(checkpoint.path.resolve()),
        fingerprint=fingerprint(base),
        base_kind=base.kind,
        base_config=as_json(base.config),
        lora=as_json(lora),
        head=None if head is None else {"kind": model.kind, "config": as_json(model.config)},
    )
    return put_adapter(model, config, generator)


def put_adapter(model: Any, config: AdaptedConfig, generator: torch.Generator) -> AdaptedModel:
    """The model with a fresh adapter in it; all else is frozen but the head."""
    add_lora(model, LoRAConfig(**config.lora), generator)
    for p in head_parameters(model).values():
        p.requires_grad_(True)
    return AdaptedModel(config, model)


def base_of(config: AdaptedConfig, base: str | Path | nn.Module | None, parts: Mapping[str, Any]) -> Any:
    """The base that the config tells of, from its folder or from `base`; ValueError if it is not that one."""
    where, model = "the given model", base
    if base is None or isinstance(base, str | Path):
        where = str(config.base if base is None else base)
        try:
            model = load_checkpoint(where, **parts).model
        except (OSError, ValueError) as error:
            raise ValueError(
                f"this adapter needs its base model ({error}): name the folder where it lies now (--base, in Python base=)"
            ) from None
    found = fingerprint(model)
    if found != config.fingerprint:
        raise ValueError(
            f"{where} is not the base of this adapter: the SHA-256 of its weights begins with {found[:12]}, that of its "
            f"base with {config.fingerprint[:12]}: give the folder of that one (base)"
        )
    return model
