"""Which parts of a block matter: a small GPT trained for the same time with one part changed, on two texts, beside the n-gram.

The base is GPT-2's block: pre-norm, LayerNorm, a residual stream, an MLP with GELU. What a row changes stands in its name.
With --steps all rows get the same number of updates instead of the same time.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minilm.bench.quality import Recipe, ngram_row, read_text, recipe_row
from minilm.bench.table import Job, Request, Row
from minilm.layers.basic import relu
from minilm.layers.blocks import Change, Wiring, pre_norm
from minilm.layers.wirings import parallel, post_norm
from minilm.models.config import gpt2_config
from minilm.models.gpt import GPT, build_block
from minilm.runtime import pick_device
from minilm.training.config import TrainConfig
from minilm.training.prepare import Prepared
from minilm.training.recipes import RECIPES

TEXTS = ("stories:2000", "shakespeare")
SHAPE = {"context_length": 64, "d_model": 128, "n_layers": 4, "n_heads": 4}
SECONDS = (20.0,)


def no_residual(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    """x (B, T, D) -> (B, T, D): each half replaces what it read."""
    return mlp(mlp_norm(attention(attention_norm(x))))


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)², element by element (So et al. 2021)."""
    return relu(x) ** 2


class Nothing(nn.Module):
    """x (B, T, D) -> zeros: what is added to the residual stream changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def without_norms(model: GPT) -> None:
    """No norm in the blocks, and none before the head."""
    model.norm = nn.Identity()
    for block in model.blocks:
        block.attention_norm = block.mlp_norm = nn.Identity()


def without_mlps(model: GPT) -> None:
    """Attention only."""
    for block in model.blocks:
        block.mlp = Nothing()


def with_relu_squared(model: GPT) -> None:
    """ReLU squared in the place of GELU."""
    for block in model.blocks:
        block.mlp.activation = relu_squared  # type: ignore[union-attr]


class Variant(NamedTuple):
    """What differs from the base: the wiring, the finished model, fields of the config."""

    wiring: Wiring = pre_norm
    edit: Callable[[GPT], None] = lambda model: None
    changes: Mapping[str, Any] = {}

    def build(self, request: Request, vocab_size: int) -> GPT:
        """A fresh model."""
        config, device = gpt2_config(vocab_size=vocab_size, **SHAPE, **self.changes), pick_device()
        parts = request.attention(False, device, config.context_length)
        model = GPT(config, block=partial(build_block, wiring=self.wiring), **parts)
        self.edit(model)
        return model.to(device)


VARIANTS = {
    "base": Variant(),
    "norm: RMSNorm": Variant(changes={"norm": "rms"}),
    "norm: none": Variant(edit=without_norms),
    "wiring: post-norm": Variant(post_norm),
    "wiring: parallel": Variant(parallel),
    "residual: none": Variant(no_residual),
    "MLP: ReLU squared": Variant(edit=with_relu_squared),
    "MLP: SwiGLU": Variant(changes={"mlp": "swiglu", "d_ff": 344}),  # three matrices of 8/3 D: as many weights
    "MLP: none": Variant(edit=without_mlps),
}


def table(request: Request) -> list[Job]:
    """For each text the n-gram, then every variant for the same time, or the same number of steps."""
    if unknown := sorted(request.changes.keys() - {field.name for field in dataclasses.fields(TrainConfig)}):
        raise ValueError(f"--set {unknown[0]}: the shape of these models is fixed; give a field of TrainConfig")
    jobs = []
    for name in [request.data] if request.data else TEXTS:
        text = read_text(request, name)
        ignored = request.ignored(name)
        jobs.append(Job(f"{name}: n-gram of order 7", request.seeds[0], 2, partial(ngram_row, text), ignored))
        for limit, variant, seed in itertools.product(request.limits(SECONDS), VARIANTS, request.seeds):
            measure = partial(variant_row, request, text, variant, limit.how, seed)
            jobs.append(Job(f"{name}, {limit.name}, {variant}", seed, limit.expected + 8, measure, ignored))
    return jobs


def variant_row(request: Request, text: Prepared, variant: str, how: Mapping[str, Any], seed: int) -> Row:
    """Train one variant as `minilm train --model gpt` would, and score it."""
    recipe = Recipe(partial(VARIANTS[variant].build, request), TrainConfig(**{**RECIPES["gpt"], **request.changes}))
    return recipe_row(recipe, text, seed, **how)
