"""The speed-run recipe as the benches train it: its shape and its way of training, with the changes that are asked for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from minilm.bench.quality import Recipe
from minilm.bench.table import Request
from minilm.models.config import SpeedrunConfig
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.runtime import pick_device
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES, SHAPES


def speedrun_recipe(
    request: Request, changes: Mapping[str, Any] | None = None, kind: type[SpeedrunGPT] = SpeedrunGPT
) -> Recipe:
    """The recipe of `minilm train --model speedrun`, then `changes`, then what the request changes: fields of both configs.

    ValueError for a name that is no field of either.
    """
    wanted = {**RECIPES["speedrun"], **SHAPES["speedrun"], **(changes or {}), **request.changes}
    shape, train = ({field.name for field in dataclasses.fields(config)} for config in (SpeedrunConfig, TrainConfig))
    if unknown := sorted(wanted.keys() - shape - train):
        raise ValueError(f"{unknown[0]} is no setting of the recipe: give a field of SpeedrunConfig or TrainConfig")
    config = SpeedrunConfig(**{name: value for name, value in wanted.items() if name in shape})
    device = pick_device()

    def build(vocab_size: int) -> SpeedrunGPT:
        sized = dataclasses.replace(config, vocab_size=vocab_size)
        return kind(sized, **request.attention(False, device, config.context_length)).to(device)

    return Recipe(build, TrainConfig(**{name: value for name, value in wanted.items() if name in train}))
