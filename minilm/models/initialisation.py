"""With which numbers a model starts, as a table: for each parameter its shape, its law, and why. No torch, nothing is built.

It says what `gpt.py`, `expert_block.py` and `speedrun_gpt.py` do; a test draws the models and compares. Two wishes meet:
the first prediction should be nearly uniform (scores near 0: small numbers), and no signal should die or grow on its way
through the layers (numbers of the right size). Two units that start equal get the same gradient and stay equal: so what
reads the stream is random. What writes to it may be small, or even zero.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from minilm.models.config import GPTConfig, SpeedrunConfig

STD = 0.02  # of GPT-2 (Radford et al. 2019)


@dataclass(frozen=True)
class Start:
    """The parameter `name` starts with numbers drawn from a law: "normal" with mean 0 and `std`, or all "ones" or "zeros"."""

    name: str
    shape: tuple[int, ...]
    law: str
    std: float
    why: str


def initialisation(config: GPTConfig | SpeedrunConfig, n_experts: int = 0) -> tuple[Start, ...]:
    """Every parameter of a fresh model of this config, in the order of its modules; a tied head is the embedding.

    With n_experts, of a GPT with blocks from `expert_block`. ValueError for a config of no transformer.

    >>> gpt = GPTConfig(vocab_size=50257, context_length=1024, d_model=768, n_layers=12, n_heads=12)
    >>> [(start.name, start.shape, start.std) for start in initialisation(gpt)[:2]]
    [('embedding.weight', (50257, 768), 0.02), ('positions.weight', (1024, 768), 0.01)]
    """
    if n_experts < 0 or (n_experts and not isinstance(config, GPTConfig)):
        raise ValueError(f"n_experts is {n_experts}: only a gpt has experts, 1 or more, or 0 for a plain MLP")
    if isinstance(config, SpeedrunConfig):
        return tuple(speedrun_starts(config))
    if not isinstance(config, GPTConfig):
        raise ValueError(
            f"a {type(config).__name__} is of no transformer: only a gpt or a speedrun model draws numbers"
        )
    return tuple(gpt_starts(config, n_experts))


def gpt_starts(config: GPTConfig, n_experts: int) -> Iterator[Start]:
    """The parameters of `minilm.models.gpt.GPT`."""
    D, V = config.d_model, config.vocab_size
    head = "also the head: small, so the first scores are near 0"
    alone = "a norm stands before each matrix that reads it"
    yield normal("embedding.weight", (V, D), STD, head if config.tie_embeddings else alone)
    if config.rope_theta is None:
        yield normal(
            "positions.weight",
            (config.context_length, D),
            STD / 2,
            "half a token's size: what it is counts more than where",
        )
    for layer in range(config.n_layers):
        yield from block_starts(f"blocks.{layer}", config, n_experts)
    yield from norm_starts("norm", config)
    if not config.tie_embeddings:
        yield normal("lm_head.weight", (V, D), STD, "small, so that the first scores are near 0")


def block_starts(block: str, config: GPTConfig, n_experts: int) -> Iterator[Start]:
    """The parameters of one block, whose names begin with `block`."""
    D, F, kv = config.d_model, config.d_ff or 4 * config.d_model, config.kv_heads * config.d_head
    yield from norm_starts(f"{block}.attention_norm", config)
    for name, d_out in (("q", D), ("k", kv), ("v", kv)):
        yield from linear_starts(f"{block}.attention.{name}", d_out, D, config)
    yield from linear_starts(f"{block}.attention.out", D, D, config, writes=True)
    yield from norm_starts(f"{block}.mlp_norm", config)
    if n_experts:
        yield normal(f"{block}.mlp.router.weight", (n_experts, D), STD, "at first chance chooses the experts")
    mlps = [f"{block}.mlp.experts.{number}" for number in range(n_experts)] or [f"{block}.mlp"]
    for mlp in mlps:
        for name in ("gate", "up") if config.mlp == "swiglu" else ("up",):
            yield from linear_starts(f"{mlp}.{name}", F, D, config)
        yield from linear_starts(f"{mlp}.down", D, F, config, writes=True)


def linear_starts(name: str, d_out: int, d_in: int, config: GPTConfig, writes: bool = False) -> Iterator[Start]:
    """A matrix (O, I) and its bias. One that writes to the residual stream is smaller: 2 L of them are added up there."""
    if writes:
        yield normal(
            f"{name}.weight",
            (d_out, d_in),
            STD / math.sqrt(2 * config.n_layers),
            "0.02 / sqrt(2 L): 2 L changes add up to the size of one",
        )
    else:
        yield normal(f"{name}.weight", (d_out, d_in), STD, "random, so that no two rows learn the same")
    if config.bias:
        yield Start(f"{name}.bias", (d_out,), "zeros", 0.0, "the rows of the matrix differ already")


def norm_starts(name: str, config: GPTConfig) -> Iterator[Start]:
    """A norm's scale and, with biases, LayerNorm's shift."""
    yield Start(f"{name}.weight", (config.d_model,), "ones", 0.0, "at first a norm only normalises")
    if config.norm == "layer" and config.bias:
        yield Start(f"{name}.bias", (config.d_model,), "zeros", 0.0, "at first a norm only normalises")


def speedrun_starts(config: SpeedrunConfig) -> Iterator[Start]:
    """The parameters of `minilm.models.speedrun_gpt.SpeedrunGPT`: what reads is random, what writes starts at zero."""
    D, V = config.d_model, config.vocab_size
    yield normal("embeddings.0.weight", (V, D), 1.0, "a norm follows at once: only the direction counts")
    for back in range(1, config.n_shift + 1):
        yield zeros(f"embeddings.{back}.weight", (V, D), "at first a token is only itself")
    if config.max_ngram > 1:
        yield zeros("ngrams.weight", (config.ngram_rows, D), "an n-gram that was never read says nothing")
    for layer in range(config.n_layers):
        for name, d_out, d_in in (("qkv", 3 * D, D), ("out", D, D), ("up", 4 * D, D), ("down", D, 4 * D)):
            whole = f"blocks.{layer}.{name}.weight"
            if name in ("qkv", "up"):
                yield normal(whole, (d_out, d_in), 0.5 / math.sqrt(D), "0.5 / sqrt(D): half the size of what it reads")
            else:
                yield zeros(whole, (d_out, d_in), "at first a block changes nothing")
    yield zeros("lm_head.weight", (V, D), "at first all tokens are equally likely")


def normal(name: str, shape: tuple[int, ...], std: float, why: str) -> Start:
    """Drawn from the normal distribution with mean 0."""
    return Start(name, shape, "normal", std, why)


def zeros(name: str, shape: tuple[int, ...], why: str) -> Start:
    """All zero."""
    return Start(name, shape, "zeros", 0.0, why)
