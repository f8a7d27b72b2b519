"""What each ingredient of the speed-run recipe is worth: the recipe with one of them taken out, for the same time.

Ingredients of training are fields of its config. Those of the model are parts of `SpeedrunGPT`, which has no switches: here
each is replaced in a finished model, or by a block in which it can be left out. That block, with everything left in, is
the model's own to the last bit (a test sees to it).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from minilm.bench.blocks import relu_squared
from minilm.bench.quality import Recipe, ngram_row, random_order, read_text, recipe_row
from minilm.bench.recipes import speedrun_recipe
from minilm.bench.table import Job, Request
from minilm.layers.attention import merge_heads, split_heads
from minilm.layers.basic import Embedding, LayerNorm, gelu_tanh, rms_norm
from minilm.layers.kv_cache import KVCache
from minilm.layers.positions import rotate_half_split
from minilm.models.speedrun_gpt import SpeedrunCache, SpeedrunGPT
from minilm.runtime import pick_device
from minilm.training.batches import sample_batch
from minilm.training.config import TrainConfig
from minilm.training.loop import Batch

SECONDS = (60.0,)


def unchanged(x: Tensor, *_: Tensor) -> Tensor:
    """x, where a norm or a rotation would stand."""
    return x


class ChangedBlock(nn.Module):
    """A SpeedrunBlock, its weights included, that is given its functions: it computes the same with those of the default."""

    def __init__(
        self,
        block: Any,  # a SpeedrunBlock
        norms: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = (rms_norm, rms_norm),
        query_norm: Callable[[Tensor], Tensor] = rms_norm,
        rotate: Callable[[Tensor, Tensor], Tensor] = rotate_half_split,
        activation: Callable[[Tensor], Tensor] = relu_squared,
    ) -> None:
        super().__init__()
        self.block, self.query_norm, self.rotate, self.activation = block, query_norm, rotate, activation
        self.attention_norm, self.mlp_norm = norms  # modules with weights, or functions without

    def forward(self, x: Tensor, mask: Tensor, angles: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        block = self.block
        q, k, v = (split_heads(part, block.n_heads) for part in block.qkv(self.attention_norm(x)).chunk(3, dim=-1))
        q, k = self.rotate(self.query_norm(q), angles), self.rotate(self.query_norm(k), angles)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        x = x + block.out(merge_heads(block.attention(q, k, v, mask)))
        return x + block.down(self.activation(block.up(self.mlp_norm(x))))


class LearnedPositions(SpeedrunGPT):
    """A vector learned for each position, added where the tokens are, instead of rotations."""

    def __init__(self, *arguments: Any, **parts: Any) -> None:
        super().__init__(*arguments, **parts)
        self.positions = Embedding(self.config.context_length, self.config.d_model, std=0.0)
        change_blocks(self, rotate=unchanged)

    def recent_tokens(self, ids: Tensor, positions: Tensor, cache: SpeedrunCache | None) -> Tensor:
        self.places = positions
        return super().recent_tokens(ids, positions, cache)

    def embed(self, recent: Tensor) -> Tensor:
        return super().embed(recent) + self.positions(self.places)


def change_blocks(model: SpeedrunGPT, **how: Any) -> None:
    """Put a ChangedBlock around every block."""
    model.blocks = nn.ModuleList(ChangedBlock(block, **how) for block in model.blocks)


def without_query_norm(model: SpeedrunGPT) -> None:
    """Queries and keys as they come.

    The matrices that make them start as with the norm, which had brought every query to size 1.
    """
    change_blocks(model, query_norm=unchanged)


def with_gelu(model: SpeedrunGPT) -> None:
    change_blocks(model, activation=gelu_tanh)


def with_layer_norm(model: SpeedrunGPT) -> None:
    """LayerNorm with scale and shift, instead of RMSNorm without, before attention and MLP."""
    D = model.config.d_model
    model.blocks = nn.ModuleList(ChangedBlock(block, (LayerNorm(D), LayerNorm(D))) for block in model.blocks)


@torch.no_grad()
def with_random_outputs(model: SpeedrunGPT) -> None:
    """Output projections and head start as small random matrices instead of zero."""
    for name, weight in model.named_parameters():
        if name.endswith(("out.weight", "down.weight", "lm_head.weight")):
            weight.normal_(std=0.02)


@torch.no_grad()
def with_tied_head(model: SpeedrunGPT) -> None:
    """Head and embedding table are one. It starts small: it is normalised where it is an input, and must not shout as a head."""
    embedding: Any = model.embeddings[0]
    table = embedding.weight
    table.mul_(0.02)
    model.lm_head.weight = table


class DrawnAnywhere:
    """Windows drawn anywhere, with replacement."""

    def __init__(self, ids: np.ndarray, config: TrainConfig, context_length: int) -> None:
        self.ids, self.config, self.context_length = ids, config, context_length

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.config.seed)
        while True:
            yield sample_batch(self.ids, self.config.batch_size, self.context_length, generator)


class Ingredient(NamedTuple):
    """How it is taken out: other settings of model or training, a change of the finished model, another class or order."""

    changes: Mapping[str, Any] = {}
    edit: Callable[[SpeedrunGPT], None] | None = None
    kind: type[SpeedrunGPT] = SpeedrunGPT
    order: Callable[[np.ndarray, TrainConfig, int], Any] = random_order


WITHOUT = {
    "the whole recipe": Ingredient(),
    "without token shift": Ingredient({"n_shift": 0}),
    "without n-grams' vectors": Ingredient({"max_ngram": 1}),
    "without dropout of n-grams": Ingredient({"ngram_dropout": 0.0}),
    "without QK-norm": Ingredient(edit=without_query_norm),
    "learned positions, not rotary": Ingredient(kind=LearnedPositions),
    "GELU, not ReLU squared": Ingredient(edit=with_gelu),
    "LayerNorm, not RMSNorm without weights": Ingredient(edit=with_layer_norm),
    "random outputs, not zero": Ingredient(edit=with_random_outputs),
    "tied head": Ingredient(edit=with_tied_head),
    "AdamW at 0.002, not Muon": Ingredient({"optimizer": "adamw", "learning_rate": 2e-3}),
    "AdamW's usual memory, 0.9 and 0.99": Ingredient({"beta1": 0.9, "beta2": 0.99}),
    "cosine, not level and then linear": Ingredient({"schedule": "cosine", "warmdown": 1.0}),
    "without warm-down": Ingredient({"warmdown": 0.0}),
    "without warm-up": Ingredient({"warmup": 0}),
    "windows drawn anywhere": Ingredient(order=DrawnAnywhere),
    "float32, not bfloat16": Ingredient({"dtype": "float32"}),
}


def table(request: Request) -> list[Job]:
    """The n-gram, the recipe, and the recipe without each ingredient."""
    text = read_text(request)
    ignored = request.ignored(request.data)
    jobs = [Job("n-gram of order 7", request.seeds[0], 2, partial(ngram_row, text), ignored)]
    for limit, name, seed in itertools.product(request.limits(SECONDS), WITHOUT, request.seeds):
        measure = partial(recipe_row, recipe_without(request, WITHOUT[name]), text, seed, **limit.how)
        jobs.append(Job(f"{limit.name}, {name}", seed, limit.expected + 8, measure, ignored))
    return jobs


def recipe_without(request: Request, ingredient: Ingredient) -> Recipe:
    """The recipe, less one ingredient."""
    request = dataclasses.replace(request, changes={**request.changes, **ingredient.changes})  # the latter wins
    recipe = speedrun_recipe(request, kind=ingredient.kind)

    def build(vocab_size: int) -> SpeedrunGPT:
        model = recipe.build(vocab_size)
        if ingredient.edit:
            ingredient.edit(model)
        return model.to(pick_device())  # what the edit put in is made on the CPU

    return dataclasses.replace(recipe, build=build, order=ingredient.order)
