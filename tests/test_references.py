"""Whole models and blocks against those that others wrote: transformers and torch.nn, in float64, values and all gradients.

The configurations are drawn, not chosen: some pairs of mistakes cancel at one size and show at another.
"""

import functools
import json
import math
import random
from collections.abc import Callable, Iterator

import pytest
import test_huggingface
import torch
import transformers
from test_huggingface import reference_model
from test_layers import assert_close, assert_same
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.layers import basic
from minilm.layers.attention import AttentionFunction, MultiHeadAttention, scaled_dot_product_attention
from minilm.layers.blocks import MLP, TransformerBlock
from minilm.layers.cross_attention import CrossAttention
from minilm.layers.masks import causal_mask, padding_mask
from minilm.layers.tiled_attention import tiled_attention
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.pretrained.huggingface import (
    ACTIVATIONS,
    arrays_to_huggingface,
    config_from_huggingface,
    config_to_huggingface,
    from_huggingface,
    to_huggingface,
)
from minilm.training.loss import IGNORE, cross_entropy

float64_llama = test_huggingface.float64_llama  # the fixture, for the tests of this file


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---- transformers


def sizes_of(config: GPTConfig) -> list[int]:
    """Every size that could be taken for another one. Where all heads have their own keys, H is there once."""
    sizes = [config.vocab_size, config.context_length, config.n_layers, config.d_model, config.d_head, config.n_heads]
    return [*sizes, config.d_ff or 0, *([config.kv_heads] if config.kv_heads < config.n_heads else [])]


def drawn(seed: int) -> GPTConfig:
    """A configuration in which no two sizes are equal: GPT-2 for an even seed, Llama for an odd one."""
    chance, llama = random.Random(seed), seed % 2
    while True:
        n_kv_heads, shared = (chance.randint(1, 4), chance.randint(1, 4)) if llama else (chance.randint(1, 8), 1)
        n_heads = n_kv_heads * shared
        settings = dict(
            vocab_size=chance.randint(11, 60),
            context_length=chance.randint(7, 19),
            d_model=n_heads * chance.choice([2, 4, 6, 8] if llama else [2, 3, 5, 6, 7]),
            n_layers=chance.randint(1, 4),
            n_heads=n_heads,
            d_ff=chance.randint(5, 70),
            norm_eps=10 ** chance.uniform(-7, -0.5),
            tie_embeddings=chance.random() < 0.5,
        )
        if llama:
            rotary = dict(rope_theta=10 ** chance.uniform(0.5, 6), bias=chance.random() < 0.5)
            config = llama_config(**settings, **rotary, n_kv_heads=n_kv_heads)
        else:
            config = gpt2_config(**settings, mlp=chance.choice(["gelu", "gelu_tanh"]))
        if len(set(sizes_of(config))) == len(sizes_of(config)):
            return config


CONFIGS = [drawn(seed) for seed in range(60)]
GPT2S, LLAMAS = CONFIGS[0::2], CONFIGS[1::2]


def test_the_drawn_configurations_take_every_setting() -> None:
    assert len(set(CONFIGS)) == 60 and len({config.norm_eps for config in CONFIGS}) == 60
    for architecture in (GPT2S, LLAMAS):
        assert {config.tie_embeddings for config in architecture} == {True, False}
        assert {config.n_layers for config in architecture} == {1, 2, 3, 4}
        assert len({config.n_heads for config in architecture}) >= 6
        assert {config.d_ff < config.d_model for config in architecture} == {True, False}
        assert {config.vocab_size < config.d_model for config in architecture} == {True, False}
    assert {config.mlp for config in GPT2S} == {"gelu", "gelu_tanh"} and {config.bias for config in GPT2S} == {True}
    assert {config.bias for config in LLAMAS} == {True, False}
    assert {config.n_heads // config.kv_heads for config in LLAMAS} == {1, 2, 3, 4}
    assert {config.kv_heads for config in LLAMAS} == {1, 2, 3, 4}
    bases = sorted(config.rope_theta or 0 for config in LLAMAS)
    assert bases[5] < 200 and bases[-6] > 1e4


def assert_no_further(x: Tensor, expected: Tensor, name: str) -> None:
    """Equal to 1e-10; of numbers larger than 1, of the largest."""
    assert x.shape == expected.shape, name
    assert (x - expected).abs().max().item() <= 1e-10 * max(1.0, expected.abs().max().item()), name


@pytest.mark.parametrize("seed", range(60))
def test_a_drawn_configuration_has_the_logits_and_gradients_of_transformers(seed: int, float64_llama: None) -> None:
    """Every weight of every norm is another random number, so that no norm can stand in for another."""
    config = CONFIGS[seed]
    theirs = reference_model(config)
    norms = [value for name, value in theirs.named_parameters() if "norm" in name or "ln_" in name]
    assert len(norms) == (2 * config.n_layers + 1) * (1 if seed % 2 else 2)
    assert torch.cat(norms).unique().numel() == len(norms) * config.d_model
    ours = from_huggingface(theirs.state_dict(), config, (scaled_dot_product_attention, fused)[seed // 2 % 2])
    n_rows, length = random.Random(seed).choice([(2, config.context_length), (3, config.context_length - 2), (5, 6)])
    ids = torch.randint(config.vocab_size, (n_rows, length))
    logits, expected = ours(ids), theirs(ids).logits
    assert expected.isfinite().all() and min(expected.std(-1).min(), expected.std((0, 1)).min()) > 0.01
    assert_no_further(logits, expected, "logits")
    upstream = torch.randn_like(expected)
    logits.backward(upstream)
    expected.backward(upstream)
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    gradients = arrays_to_huggingface(gradients, config)
    assert gradients.keys() - {"lm_head.weight"} == dict(theirs.named_parameters()).keys() - {"lm_head.weight"}
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-3 or name.endswith("k_proj.bias"), name
        assert_no_further(gradients[name], parameter.grad, name)


@pytest.mark.parametrize("seed", range(60))
def test_a_drawn_configuration_goes_out_as_it_came_in(seed: int) -> None:
    """Their weights in our model are exported under the same names, bit for bit, and the config is the same again."""
    config = CONFIGS[seed]
    settings, theirs = config_to_huggingface(config), reference_model(config).state_dict()
    assert config_from_huggingface(json.loads(json.dumps(settings))) == config
    exported = to_huggingface(from_huggingface(theirs, config))
    assert exported.keys() == theirs.keys()
    assert all(torch.equal(exported[name], value) for name, value in theirs.items())


def test_what_a_config_leaves_out_is_what_transformers_takes() -> None:
    sizes = dict(vocab_size=23, n_positions=11, n_embd=24, n_layer=2, n_head=6)
    ours, theirs = config_from_huggingface(sizes), transformers.GPT2Config(**sizes)
    assert (ours.norm_eps, ours.tie_embeddings) == (theirs.layer_norm_epsilon, theirs.tie_word_embeddings)
    assert (ours.mlp, ours.d_ff) == (ACTIVATIONS[theirs.activation_function], theirs.n_inner or 4 * theirs.n_embd)
    names = ["vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads"]
    given = dict(zip([*names, "intermediate_size"], (23, 11, 24, 2, 6, 50), strict=True))
    ours, theirs = config_from_huggingface({"model_type": "llama", **given}), transformers.LlamaConfig(**given)
    assert (ours.norm_eps, ours.tie_embeddings) == (theirs.rms_norm_eps, theirs.tie_word_embeddings)
    assert (ours.n_kv_heads, ours.bias) == (theirs.num_key_value_heads, theirs.attention_bias or theirs.mlp_bias)
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"] and theirs.hidden_act == "silu"
    written = transformers.LlamaConfig(**given, rope_parameters={"rope_type": "default", "rope_theta": 77.0}).to_dict()
    assert "rope_theta" not in written  # older versions wrote it there, and nothing else
    assert config_from_huggingface(written).rope_theta == 77.0
    assert config_from_huggingface({"model_type": "llama", **given, "rope_theta": 78.0}).rope_theta == 78.0


# ---- torch.nn: the weights are inputs, too, so that their gradients are compared like those of x

Weights = dict[str, Tensor]
Run = Callable[..., Tensor]  # (module as a function of a tuple of arguments and a dict of settings, *inputs) -> output


def assert_same_module(
    ours: nn.Module,
    theirs: nn.Module,
    translate: Callable[[Weights], Weights],
    run_ours: Run,
    run_theirs: Run,
    *inputs: Tensor,
) -> None:
    """With random weights, `translate`d for theirs: the same outputs and gradients, to 1e-12."""
    names = [name for name, _ in ours.named_parameters()]
    weights = [torch.randn_like(parameter) * 0.4 for parameter in ours.parameters()]

    def with_weights(module: nn.Module, run: Run, translate: Callable[[Weights], Weights]) -> Callable[..., Tensor]:
        def function(*values: Tensor) -> Tensor:
            given = translate(dict(zip(names, values[len(inputs) :], strict=True)))
            assert given.keys() == dict(module.named_parameters()).keys()
            return run(functools.partial(functional_call, module, given), *values[: len(inputs)])

        return function

    same_names = with_weights(ours, run_ours, lambda weights: weights)
    assert_same(same_names, with_weights(theirs, run_theirs, translate), *inputs, *weights)


@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 7), (2, 5, 7), (2, 3, 4, 7)])
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (basic.Linear, nn.Linear, dict(d_out=6)),
        (basic.Linear, nn.Linear, dict(d_out=9, bias=False)),
        (basic.LayerNorm, nn.LayerNorm, dict(eps=0.03)),
        (basic.LayerNorm, nn.LayerNorm, dict(bias=False)),
        (basic.RMSNorm, nn.RMSNorm, dict(eps=0.03)),
        (basic.RMSNorm, functools.partial(nn.RMSNorm, eps=1e-5), {}),
    ],
)
def test_a_module_of_one_brick(
    ours: Callable[..., nn.Module], theirs: Callable[..., nn.Module], settings: dict, shape: tuple[int, ...]
) -> None:
    """For any number of axes in front, for small numbers and for large ones that are all alike."""
    pair = (
        ours(7, **settings),
        theirs(7, **{name.replace("d_out", "out_features"): settings[name] for name in settings}),
    )
    for spread, centre in ((1.0, 0.0), (0.01, 0.0), (1.0, 30.0)):
        x = torch.randn(shape) * spread + centre
        assert_same_module(*pair, lambda weights: weights, lambda call, x: call((x,)), lambda call, x: call((x,)), x)


@pytest.mark.parametrize("shape", [(9,), (3, 5), (2, 3, 4)])
def test_an_embedding_adds_up_what_its_rows_are_told(shape: tuple[int, ...]) -> None:
    """Of eleven rows two are used again and again, most never: these have a gradient of zero."""
    ids = torch.randint(2, shape) * 7 + 3
    ids.view(-1)[0] = 0
    ours, theirs = basic.Embedding(11, 6), nn.Embedding(11, 6)
    assert_same_module(ours, theirs, lambda weights: weights, lambda call: call((ids,)), lambda call: call((ids,)))
    (gradient,) = torch.autograd.grad(ours(ids).square().sum(), ours.weight)
    assert gradient.any(-1).tolist() == [row in (0, 3, 10) for row in range(11)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (basic.sigmoid, nn.Sigmoid()),
        (basic.relu, nn.ReLU()),
        (basic.silu, nn.SiLU()),
        (basic.gelu, nn.GELU()),
        (basic.gelu_tanh, nn.GELU(approximate="tanh")),
    ],
    ids=lambda function: getattr(function, "__name__", str(function)),
)
def test_an_activation_from_end_to_end(ours: Callable[[Tensor], Tensor], theirs: nn.Module) -> None:
    """Values and slopes from -1000 to 1000, close together near 0, where the curve bends."""
    near, far = torch.linspace(-9, 9, 301), torch.logspace(1, 3, 40)
    assert_same(ours, theirs, torch.cat([-far, near, far]).reshape(3, 127))


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, -2])
@pytest.mark.parametrize(("ours", "theirs"), [(basic.softmax, nn.Softmax), (basic.log_softmax, nn.LogSoftmax)])
def test_a_softmax_over_each_axis(ours: Callable[..., Tensor], theirs: type[nn.Module], dim: int) -> None:
    """Scores far apart, far up and far down."""
    for spread, centre in ((1.0, 0.0), (40.0, 0.0), (3.0, 500.0), (3.0, -500.0)):
        assert_same(lambda x: ours(x, dim), theirs(dim), torch.randn(3, 4, 2, 5) * spread + centre)


def test_a_score_of_minus_infinity_is_a_probability_of_zero() -> None:
    x = torch.randn(4, 6)
    x[0, 1:] = x[1, 0] = x[2, ::2] = -math.inf
    assert_same(basic.softmax, nn.Softmax(-1), x)
    assert basic.softmax(x)[0].tolist() == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dropout_decides_for_each_number_alone(axis: int) -> None:
    """Neighbours along each axis agree as often as independent coins do, and as those of torch."""
    p, shape = 0.3, (40, 50, 60)
    expected = p * p + (1 - p) * (1 - p)
    for dropped in (basic.dropout(torch.ones(shape), p, training=True), F.dropout(torch.ones(shape), p)):
        assert dropped.unique().tolist() == [0.0, 1 / (1 - p)]
        here, next_to_it = (part > 0 for part in (dropped.narrow(axis, 0, 39), dropped.narrow(axis, 1, 39)))
        agree = (here == next_to_it).double()
        assert abs(agree.mean().item() - expected) < 6 * math.sqrt(expected * (1 - expected) / agree.numel())
    assert_same(lambda x: basic.dropout(x, 0.0, training=True), nn.Dropout(0.0), torch.randn(3, 5))


@pytest.mark.parametrize("seed", range(12))
def test_cross_entropy_of_drawn_sizes(seed: int) -> None:
    """The label that is not counted is another number each time, a token or none; scores up to a few hundred."""
    chance = random.Random(seed)
    vocab_size, B, T = chance.sample(range(2, 14), 3)
    ignored = chance.choice([IGNORE, -1, vocab_size - 1, 0])
    targets = torch.randint(vocab_size, (B, T))
    targets[torch.rand(B, T) < 0.3] = ignored
    targets[-1, -1] = 1 if ignored != 1 else 0
    theirs = nn.CrossEntropyLoss(ignore_index=ignored)
    for spread in (1.0, 100.0):
        logits = (torch.randn(B, T, vocab_size) * spread).requires_grad_()
        loss, expected = cross_entropy(logits, targets, ignored), theirs(logits.transpose(1, 2), targets)
        assert expected.isfinite() and expected > 1e-3
        assert_close(loss, expected)
        (gradient,), (reference,) = (torch.autograd.grad(value, logits) for value in (loss, expected))
        assert_close(gradient, reference)


# ---- torch.nn: attention and blocks

B, T, S = 3, 5, 7
ATTENDS = {"plain": scaled_dot_product_attention, "fused": fused, "tiled": functools.partial(tiled_attention, block=2)}
every_attention = pytest.mark.parametrize("attend", ATTENDS.values(), ids=ATTENDS.keys())


def masks_of(n_heads: int, n_queries: int, n_keys: int) -> dict[str, Tensor | None]:
    """None of them empties a row, for which torch has NaN: that each query sees something is ours to guarantee."""
    each_its_own = torch.rand(B, n_heads, n_queries, n_keys) < 0.5
    each_its_own[..., 1] = True
    lengths = torch.tensor([n_keys, 1, n_keys - 2])
    masks = {"none": None, "padding": padding_mask(lengths, n_keys), "each head its own": each_its_own}
    if n_queries <= n_keys:
        causal = causal_mask(n_queries, n_keys)
        masks |= {"causal": causal, "causal and padding": causal & padding_mask(lengths, n_keys)}
    return masks


def for_torch(mask: Tensor | None, n_heads: int, n_queries: int, n_keys: int) -> Tensor | None:
    """Our mask as nn.MultiheadAttention wants it: (B * H, T, S), True = may not attend."""
    return None if mask is None else ~mask.expand(B, n_heads, n_queries, n_keys).flatten(0, 1)


def joined(weights: Weights, n_heads: int, n_kv_heads: int) -> Weights:
    """q, k, v and out -> their names; a key head that several heads share is written down for each of them."""
    own = dict(weights)
    for name in own:
        if name[0] in "kv":
            heads = own[name].unflatten(0, (n_kv_heads, -1))
            own[name] = heads.repeat_interleave(n_heads // n_kv_heads, 0).flatten(0, 1)
    theirs = {f"out_proj.{leaf}": own[f"out.{leaf}"] for leaf in ("weight", "bias") if f"out.{leaf}" in own}
    if own["q.weight"].shape[1] == own["k.weight"].shape[1]:
        theirs["in_proj_weight"] = torch.cat([own[f"{part}.weight"] for part in "qkv"])
    else:
        theirs |= {f"{part}_proj_weight": own[f"{part}.weight"] for part in "qkv"}
    if "q.bias" in own:
        theirs["in_proj_bias"] = torch.cat([own[f"{part}.bias"] for part in "qkv"])
    return theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("d_model", "n_heads", "n_kv_heads"), [(12, 4, 4), (18, 6, 2), (14, 2, 1), (10, 1, 1)])
@every_attention
def test_multi_head_attention(
    attend: AttentionFunction, d_model: int, n_heads: int, n_kv_heads: int, bias: bool
) -> None:
    """Every mask. Torch knows no grouped heads: it is given copies, and what these are told adds up by itself."""
    ours = MultiHeadAttention(d_model, n_heads, n_kv_heads, bias, attention=attend)
    theirs = nn.MultiheadAttention(d_model, n_heads, bias=bias, batch_first=True)
    for mask in masks_of(n_heads, T, T).values():
        hidden = for_torch(mask, n_heads, T, T)
        assert_same_module(
            ours,
            theirs,
            lambda weights: joined(weights, n_heads, n_kv_heads),
            lambda call, x, mask=mask: call((x, mask)),
            lambda call, x, hidden=hidden: call((x, x, x), dict(attn_mask=hidden, need_weights=False))[0],
            torch.randn(B, T, d_model),
        )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("d_model", "d_memory", "n_heads", "n_kv_heads", "n_queries"),
    [(12, 9, 6, 2, 5), (10, 16, 5, 1, 8), (8, 3, 2, 2, 1)],
)
@every_attention
def test_cross_attention_with_shared_heads_and_every_mask(
    attend: AttentionFunction, d_model: int, d_memory: int, n_heads: int, n_kv_heads: int, n_queries: int, bias: bool
) -> None:
    ours = CrossAttention(d_model, d_memory, n_heads, n_kv_heads, bias, attention=attend)
    theirs = nn.MultiheadAttention(d_model, n_heads, bias=bias, kdim=d_memory, vdim=d_memory, batch_first=True)
    for mask in masks_of(n_heads, n_queries, S).values():
        hidden = for_torch(mask, n_heads, n_queries, S)
        assert_same_module(
            ours,
            theirs,
            lambda weights: joined(weights, n_heads, n_kv_heads),
            lambda call, x, m, mask=mask: call((x, m, mask)),
            lambda call, x, m, hidden=hidden: call((x, m, m), dict(attn_mask=hidden, need_weights=False))[0],
            torch.randn(B, n_queries, d_model),
            torch.randn(B, S, d_memory),
        )


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(6, 1), (6, 2), (6, 3), (8, 4), (4, 4)])
@every_attention
def test_grouped_heads_are_those_of_torch(attend: AttentionFunction, n_heads: int, n_kv_heads: int) -> None:
    for mask in masks_of(n_heads, T, S).values():
        q, k, v = torch.randn(B, n_heads, T, 6), torch.randn(B, n_kv_heads, S, 6), torch.randn(B, n_kv_heads, S, 4)
        theirs = functools.partial(F.scaled_dot_product_attention, attn_mask=mask, enable_gqa=True)
        assert_same(functools.partial(attend, mask=mask), theirs, q, k, v)


BLOCK_NAMES = {"attention_norm": "norm1", "mlp_norm": "norm2", "mlp.up": "linear1", "mlp.down": "linear2"}


def block_weights(weights: Weights, n_heads: int) -> Weights:
    """The weights of our block by the names of nn.TransformerEncoderLayer."""
    inside = {name.removeprefix("attention."): value for name, value in weights.items() if name[:10] == "attention."}
    theirs = {f"self_attn.{name}": value for name, value in joined(inside, n_heads, n_heads).items()}
    for ours, name in BLOCK_NAMES.items():
        theirs |= {name + key[len(ours) :]: value for key, value in weights.items() if key.startswith(ours + ".")}
    return theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("activation", "theirs"),
    [(basic.relu, F.relu), (basic.gelu, F.gelu), (basic.gelu_tanh, functools.partial(F.gelu, approximate="tanh"))],
    ids=["relu", "gelu", "gelu_tanh"],
)
@pytest.mark.parametrize(("d_model", "n_heads", "d_ff"), [(12, 4, 17), (15, 3, 8)])
def test_a_block_is_an_encoder_layer_with_the_norms_first(
    d_model: int, n_heads: int, d_ff: int, activation: Callable[[Tensor], Tensor], theirs: Run, bias: bool
) -> None:
    ours = TransformerBlock(
        MultiHeadAttention(d_model, n_heads, n_heads, bias),
        MLP(d_model, d_ff, activation, bias),
        basic.LayerNorm(d_model, bias, 0.02),
        basic.LayerNorm(d_model, bias, 0.02),
        basic.Dropout(0.0),
    )
    layer = nn.TransformerEncoderLayer(
        d_model, n_heads, d_ff, 0.0, theirs, layer_norm_eps=0.02, batch_first=True, norm_first=True, bias=bias
    )
    for mask in masks_of(n_heads, T, T).values():
        hidden = for_torch(mask, n_heads, T, T)
        assert_same_module(
            ours,
            layer,
            lambda weights: block_weights(weights, n_heads),
            lambda call, x, mask=mask: call((x, mask)),
            lambda call, x, hidden=hidden: call((x,), dict(src_mask=hidden)),
            torch.randn(B, T, d_model),
        )


class TorchGPT(nn.Module):
    """GPT-2, put together from the parts of torch.nn alone."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        D = config.d_model
        self.embedding, self.positions = nn.Embedding(config.vocab_size, D), nn.Embedding(config.context_length, D)
        layer = nn.TransformerEncoderLayer(
            D, config.n_heads, config.d_ff, 0.0, F.gelu, config.norm_eps, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(D, config.norm_eps)
        self.encoder = nn.TransformerEncoder(layer, config.n_layers, norm, enable_nested_tensor=False)
        self.lm_head = nn.Linear(D, config.vocab_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        causal = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.lm_head(self.encoder(x, mask=causal))


@pytest.mark.parametrize(("n_layers", "n_heads", "length"), [(1, 4, 11), (3, 2, 6), (2, 6, 1)])
def test_a_gpt_is_an_encoder_with_a_causal_mask(n_layers: int, n_heads: int, length: int) -> None:
    config = gpt2_config(
        vocab_size=23,
        context_length=11,
        d_model=24,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=29,
        mlp="gelu",
        tie_embeddings=False,
        norm_eps=0.02,
    )

    def translate(weights: Weights) -> Weights:
        theirs = {name.replace("norm.", "encoder.norm."): weights[name] for name in weights if "blocks" not in name}
        for layer in range(n_layers):
            start = f"blocks.{layer}."
            inside = {name.removeprefix(start): weights[name] for name in weights if name.startswith(start)}
            named = block_weights(inside, n_heads)
            theirs |= {f"encoder.layers.{layer}.{name}": value for name, value in named.items()}
        return theirs

    ids = torch.randint(23, (B, length))
    assert_same_module(GPT(config), TorchGPT(config), translate, lambda call: call((ids,)), lambda call: call((ids,)))
