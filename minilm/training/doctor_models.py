"""What the doctor asks of a device as a whole: small models, their gradients, their cache and their text, and a few steps.

The readable parts and their fast twins are `Variant`s: a twin is handed in, since this room does not know `minilm.fast`.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training.doctor import CPU, Case, Place, Results
from minilm.training.doctor_operations import Draw, dense
from minilm.training.fused_adam import FusedAdamW
from minilm.training.loss import IGNORE, LossFunction, next_token_loss
from minilm.training.muon import Muon
from minilm.training.newton_schulz import orthogonalize_by_gram
from minilm.training.optim import AdamW, Optimizer, clip_grad_norm
from minilm.training.sgd import SGD

FLOATS = (torch.float32,)
V, T = 53, 24  # vocabulary and context
SHAPE = {"vocab_size": V, "context_length": T, "d_model": 48, "n_layers": 2}
CONFIGS: dict[str, GPTConfig | SpeedrunConfig] = {
    "gpt": gpt2_config(**SHAPE, n_heads=4),
    "llama": llama_config(**SHAPE, n_heads=6, n_kv_heads=2),
    "speedrun": SpeedrunConfig(**SHAPE, n_heads=3, max_ngram=3, ngram_rows=61, ngram_dropout=0.0),
}
WRITTEN = 12  # tokens of a text
CLEAR = 0.02  # the least by which the best token of each step leads, in parts of the spread of the logits

Write = Callable[[Any, Sequence[int], int], list[int]]  # (model, prompt, number of tokens) -> the likeliest text


@dataclass(frozen=True)
class Variant:
    """How a model computes: with its readable parts, or with fast twins; `finish` may change a model that is built."""

    name: str = "readable"
    parts: Mapping[str, Any] = field(default_factory=dict)
    finish: Callable[[Any], Any] = lambda model: model
    loss: LossFunction = next_token_loss


READABLE = Variant()


def model_cases(variants: Sequence[Variant] = (READABLE,), seed: int = 0) -> list[Case]:
    """Logits and gradients of each model in each variant, and what follows from one token after the other.

    In bfloat16 a model computes as in training: its weights in float32, its products in bfloat16.
    """
    cases = []
    for kind in CONFIGS:
        for variant in variants:
            about = (kind, variant, seed)
            name = f"{kind}, {variant.name}"
            cases += [
                Case(name, "logits", partial(logits, *about), slack=16.0, floor=0.1),
                Case(name, "gradients", partial(model_gradients, *about), slack=32.0, floor=0.3),
                Case(
                    name, "cache", partial(cached_logits, *about), slack=6.0, floor=0.1, dtypes=FLOATS, training=False
                ),
            ]
    return cases


def text_cases(
    write: Write, variants: Sequence[Variant] = (READABLE,), seed: int = 0, kinds: Sequence[str] = tuple(CONFIGS)
) -> list[Case]:
    """The likeliest text of each model, token by token; in float32, whose rounding decides nothing here."""
    return [
        Case(
            f"{kind}, {variant.name}",
            "text",
            partial(text, kind, variant, seed, write),
            dtypes=FLOATS,
            training=False,
        )
        for kind in kinds
        for variant in variants
    ]


def prototype(kind: str, seed: int) -> nn.Module:
    """A model of this kind in float64 on the CPU, all of whose weights matter: none is 0 or 1."""
    with torch.random.fork_rng(devices=[]):  # what a fresh model draws is nobody's business
        config = CONFIGS[kind]
        model: nn.Module = SpeedrunGPT(config) if isinstance(config, SpeedrunConfig) else GPT(config)
    draw = Draw(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = draw.normal(*parameter.shape)
            scale = name.endswith("weight") and parameter.ndim == 1  # of a norm
            size = 0.1 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_(size * numbers + scale)
    return model.double().eval()


@functools.lru_cache(maxsize=64)
def arrays_of(kind: str, seed: int) -> dict[str, Tensor]:
    """The weights of `prototype`, as float32 holds them."""
    model: Any = prototype(kind, seed)
    return {name: weight.float().double() for name, weight in model.arrays().items()}


@functools.lru_cache(maxsize=64)
def built(kind: str, parts: tuple[tuple[str, Any], ...], seed: int) -> nn.Module:
    """A model with these parts in float64 on the CPU, kept to be copied: what builds it is not what is examined."""
    config, arrays = CONFIGS[kind], arrays_of(kind, seed)
    build: Any = SpeedrunGPT if isinstance(config, SpeedrunConfig) else GPT
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = build(config, **dict(parts)).double().eval()
    with torch.no_grad():
        for name, weight in model.arrays().items():  # type: ignore[operator]
            weight.copy_(arrays[name])
    return model


def model_at(kind: str, variant: Variant, seed: int, place: Place) -> Any:
    """The model at the place, in float64 for the reference, else in float32."""
    model = built(kind, tuple(variant.parts.items()), seed)
    return variant.finish(copy.deepcopy(model).to(place.wide).to(place.device))


def half(place: Place) -> torch.autocast:
    """Products in bfloat16 where the place asks for it, as the training loop does."""
    return torch.autocast(place.device.type, torch.bfloat16, enabled=place.dtype is torch.bfloat16)


def batch(seed: int, place: Place) -> tuple[Tensor, Tensor]:
    """ids and labels (3, T): some tokens occur several times, some labels are ignored."""
    draw = Draw(seed + 1)
    ids, labels = draw.ids(V, 3, T), draw.ids(V, 3, T)
    labels[:, ::5] = IGNORE
    return place.put(ids), place.put(labels)


def logits(kind: str, variant: Variant, seed: int, place: Place) -> Results:
    """ids (3, T) -> logits (3, T, V)."""
    model, (ids, _) = model_at(kind, variant, seed, place), batch(seed, place)
    with torch.no_grad(), half(place):
        return {"logits": model(ids)}


def model_gradients(kind: str, variant: Variant, seed: int, place: Place) -> Results:
    """The loss, the length of its gradient, and all gradients by the names of the weights."""
    model, (ids, labels) = model_at(kind, variant, seed, place).train(), batch(seed, place)
    with half(place):
        loss = variant.loss(model, ids, labels)
    loss.backward()
    found = {name: dense(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    length = clip_grad_norm(model.parameters(), 1e9)
    return {"loss": loss, "length of the gradient": torch.tensor(length, dtype=torch.float64), **found}


def cached_logits(kind: str, variant: Variant, seed: int, place: Place) -> Results:
    """Logits by a cache: several tokens at once, then one by one, after a step back, and of rows of different lengths."""
    model, (ids, _) = model_at(kind, variant, seed, place), batch(seed, place)
    cache = model.new_cache(len(ids))
    found = {}
    with torch.no_grad(), half(place):
        found["beginning"] = model(ids[:, :5], cache)
        found["one by one"] = torch.cat([model(ids[:, t : t + 1], cache) for t in range(5, 9)], dim=1)
        cache.rollback(2)
        found["after a step back"] = model(ids[:, 7:10], cache)
        cache.rollback(torch.tensor([0, 2, 5]))
        cache.select(place.put(torch.tensor([2, 0, 1])))
        found["rows of different lengths"] = model(ids[:, 10:12], cache)
    return found


def text(kind: str, variant: Variant, seed: int, write: Write, place: Place) -> Results:
    """The likeliest text behind a prompt, as `write` writes it."""
    prompt = clear_prompt(kind, seed, write)
    return {"tokens": torch.tensor(write(model_at(kind, variant, seed, place), prompt, WRITTEN))}


@functools.lru_cache(maxsize=64)
def clear_prompt(kind: str, seed: int, write: Write) -> tuple[int, ...]:
    """A prompt behind which no two tokens nearly tie, so that rounding does not choose: found by trying."""
    model = model_at(kind, READABLE, seed, Place(CPU, torch.float64, torch.float64))
    for attempt in range(100):
        prompt = Draw(1000 * seed + attempt).ids(V, 5).tolist()
        whole = torch.tensor([prompt + write(model, prompt, WRITTEN)])
        with torch.no_grad():
            scores = model(whole)[0, len(prompt) - 1 : -1]  # (WRITTEN, V)
        best, second = scores.topk(2).values.unbind(-1)
        if bool((best - second > CLEAR * scores.std()).all()):
            return tuple(prompt)
    raise AssertionError(f"all texts of the {kind} model nearly tie")


# ---- what a step makes of weights and gradients

STEPS = 3
HALF_ON = {"Muon": ("cuda",)}
OPTIMIZERS: dict[str, Callable[[list[Any]], Optimizer]] = {
    "AdamW": lambda groups: AdamW(groups, betas=(0.8, 0.95)),
    "AdamW in one pass": lambda groups: FusedAdamW(groups, betas=(0.8, 0.95)),
    "SGD": lambda groups: SGD(groups, momentum=0.9),
    "Muon": lambda groups: Muon(groups, orthogonalize=orthogonalize_by_gram),
}


def optimizer_cases(seed: int = 0) -> list[Case]:
    """A few steps of each optimizer. On CUDA, Muon's products are in bfloat16 by design: there it may be as far off as they."""
    return [
        Case(
            name, f"{STEPS} steps", partial(steps, name, seed), slack=10.0, dtypes=FLOATS, half_on=HALF_ON.get(name, ())
        )
        for name in OPTIMIZERS
    ]


def steps(name: str, seed: int, place: Place) -> Results:
    """How far each weight has moved: a matrix, one that is long, a vector, and a table of which a few rows were read."""
    draw = Draw(seed)
    shapes = {"matrix": (12, 19), "long matrix": (48, 11), "vector": (37,), "table": (23, 11)}
    weights = {what: nn.Parameter(place.put(draw.normal(*shape).float().double())) for what, shape in shapes.items()}
    before = {what: weight.detach().clone() for what, weight in weights.items()}
    matrices = [weight for what, weight in weights.items() if "matrix" in what]
    others = [weight for what, weight in weights.items() if "matrix" not in what]
    shared = {"lr": 0.37, "weight_decay": 0.2}
    optimizer = OPTIMIZERS[name](
        [{"params": matrices, "matrices": name == "Muon", **shared}, {"params": others, **shared}]
    )
    for _ in range(STEPS):
        for what, weight in weights.items():
            if what == "table":
                rows, values = place.put(draw.ids(23, 1, 9)), place.put(draw.normal(9, 11))
                weight.grad = torch.sparse_coo_tensor(rows, values, weight.shape, check_invariants=False)
            else:
                weight.grad = place.put(draw.normal(*weight.shape))
        optimizer.step()
    return {what: weight.detach() - before[what] for what, weight in weights.items()}
