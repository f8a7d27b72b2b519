"""Mistakes in attention, positions, norms and modules that were really made, in public projects: each has its test.

The projects that made them passed their own tests, most with sizes that were equal or with an oracle of zeros. `TESTS` says
where each mistake would be seen. The numbers of the rows are those of the catalogue of real bugs that the project keeps.
"""

import ast
import copy
import functools
import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_huggingface
import torch
from test_huggingface import reference_model
from test_layers import assert_close
from torch import Tensor
from torch.nn import functional as F

import minilm.byhand.basic as byhand
import minilm.models.gpt as gpt_module
from minilm.byhand.attention import scaled_dot_product_attention as attention_by_hand
from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.layers import basic
from minilm.layers.attention import AttentionFunction, scaled_dot_product_attention
from minilm.layers.positions import half_split_to_interleaved, interleaved_to_half_split, rotate_interleaved
from minilm.layers.tiled_attention import tiled_attention
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.pretrained.huggingface import from_huggingface, to_huggingface
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.optim import AdamW, decay_groups

HERE, PACKAGE = Path(__file__).parent, Path(gpt_module.__file__).parents[1]

# row -> the mistake, and the tests that would see it
TESTS: dict[int, tuple[str, tuple[str, ...]]] = {
    26: (
        "a causal triangle aligned at the upper left: behind a cache the new token sees only the first key",
        ("test_masks.py::test_row_26_queries_are_the_last_keys",),
    ),
    27: (
        "a row of the mask that hides every key: NaN from one attention, zeros or a mean from another",
        ("test_attention_whole.py::test_row_27_a_query_that_sees_nothing_gets_zeros_and_sends_none_back",),
    ),
    28: (
        "two masks of the lowest finite number, added: minus infinity, then NaN in half precision",
        (
            "test_masks.py::test_row_28_masks_are_boolean_and_join_without_arithmetic",
            "test_attention_whole.py::test_row_28_half_precision_with_padding_and_causality",
        ),
    ),
    29: (
        "a finite number for hidden keys that real scores can fall below",
        ("test_attention_whole.py::test_row_29_scores_may_be_shifted_by_a_million",),
    ),
    30: (
        "a sliding window that is forgotten where a single token is decoded",
        (
            "test_masks.py::test_row_30_a_window_holds_for_one_query_too",
            "test_masks.py::test_row_30_a_window_over_rows_of_different_lengths",
            "test_attention_whole.py::test_rows_30_and_31_with_a_cache_as_without",
        ),
    ),
    31: (
        "the mask of a cache cut at the wrong end, or a position past the end of the table",
        (
            "test_masks.py::test_row_31_positions_and_mask_follow_the_cache",
            "test_attention_whole.py::test_rows_30_and_31_with_a_cache_as_without",
            "test_gpt.py::test_cached_is_uncached_for_every_prompt_and_chunk",
            "test_generate.py::test_cached_equals_uncached_for_every_prompt_length",
        ),
    ),
    32: (
        "rows of a batch that are padded in front get shifted positions",
        (
            "test_positions_whole.py::test_row_32_padding_does_not_move_positions",
            "test_attention_whole.py::test_row_32_every_row_of_a_ragged_batch_is_the_row_alone",
            "test_gpt.py::test_ragged_rows_are_the_rows_alone",
        ),
    ),
    33: (
        "no position, or always position 0, where a single token is read",
        ("test_positions_whole.py::test_row_33_a_single_token_has_its_own_position",),
    ),
    34: (
        "an index error somewhere inside when a text outgrows the table of positions",
        (
            "test_positions_whole.py::test_row_34_past_the_end_of_the_context_there_is_one_clear_error",
            "test_gpt.py::test_more_tokens_than_the_context_are_an_error",
            "test_generate.py::test_slide_keeps_the_last_half",
        ),
    ),
    35: (
        "rotary pairs of one layout with weights of the other: fluent, silently wrong logits",
        (
            "test_positions_whole.py::test_row_35_each_layout_is_that_of_its_models",
            "test_positions_whole.py::test_row_35_the_order_of_the_rows",
            "test_positions_whole.py::test_row_35_converted_weights_in_the_other_layout_are_the_same_attention",
            "test_pitfalls_attention.py::test_row_35_a_llama_in_either_layout_has_the_logits_of_transformers",
        ),
    ),
    36: (
        "sine and cosine mixed up, or a factor too much, when positions are turned",
        ("test_positions_whole.py::test_row_36_scores_depend_on_the_distance_alone",),
    ),
    37: (
        "a variance divided by D - 1 in LayerNorm, which wide models hide",
        ("test_pitfalls_attention.py::test_row_37_the_variance_of_a_narrow_token_divides_by_all_its_numbers",),
    ),
    38: (
        "a norm taken over all tokens of a row together",
        (
            "test_pitfalls_attention.py::test_row_38_a_norm_sees_one_token_at_a_time",
            "test_attention_whole.py::test_row_38_permuting_tokens_permutes_the_output",
        ),
    ),
    39: (
        "one norm used in the place of another, at the wrong place, or with another eps",
        (
            "test_pitfalls_attention.py::test_row_39_each_norm_has_its_own_weights_place_and_eps",
            "test_references.py::test_a_drawn_configuration_has_the_logits_and_gradients_of_transformers",
        ),
    ),
    40: (
        "a target that leaks through the mask: wonderful validation, nonsense in use",
        (
            "test_attention_whole.py::test_row_40_a_gpt_never_looks_ahead",
            "test_attention_whole.py::test_row_40_no_gradient_comes_from_a_hidden_key",
            "test_gpt.py::test_no_token_hears_of_the_future",
        ),
    ),
    41: (
        "an attention that is right only where its widths in and out are equal",
        (
            "test_attention_whole.py::test_row_41_cross_attention_is_torchs",
            "test_references.py::test_cross_attention_with_shared_heads_and_every_mask",
            "test_references.py::test_multi_head_attention",
        ),
    ),
    42: (
        "the tables of tokens and of positions swapped",
        ("test_positions_whole.py::test_row_42_tables_of_tokens_and_of_positions_are_not_each_others",),
    ),
    43: (
        "dropout that goes on at inference: a fused kernel's own is not switched off by eval()",
        (
            "test_pitfalls_attention.py::test_row_43_in_evaluation_nothing_is_drawn",
            "test_gpt.py::test_dropout_acts_in_training_only",
            "test_generate.py::test_mode_and_gradients_are_restored_even_between_tokens",
        ),
    ),
    44: (
        "an override of eval() that is never reached through train(False)",
        (
            "test_pitfalls_attention.py::test_row_44_both_ways_into_evaluation_are_one",
            "test_pitfalls_attention.py::test_row_44_no_module_has_its_own_way_into_evaluation",
        ),
    ),
    45: (
        "GPT-2's matrices lie on their side, which square ones do not show",
        (
            "test_pitfalls_attention.py::test_row_45_square_matrices_are_turned_too",
            "test_huggingface.py::test_logits_and_gradients_are_theirs",
            "test_references.py::test_a_drawn_configuration_has_the_logits_and_gradients_of_transformers",
        ),
    ),
    46: (
        "tied weights that come apart unseen, or a head of its own that is thrown away",
        (
            "test_pitfalls_attention.py::test_row_46_tied_weights_stay_one_tensor",
            "test_pitfalls_attention.py::test_row_46_a_tied_weight_learns_from_both_its_uses",
            "test_gpt.py::test_tied_head_is_the_embedding",
            "test_huggingface.py::test_weights_that_do_not_fit_are_errors",
        ),
    ),
    47: (
        "a softmax that overflows to zeros on both sides of a comparison",
        (
            "test_pitfalls_attention.py::test_row_47_huge_scores_against_an_oracle_that_is_looked_at_first",
            "test_layers.py::test_softmax_survives_extreme_rows",
        ),
    ),
    48: (
        "a lost axis of a mean or a variance, which broadcasts silently where the input is square",
        ("test_pitfalls_attention.py::test_row_48_norms_of_square_and_of_oblong_inputs",),
    ),
    49: (
        "a sigmoid that overflows in the backward pass of GELU",
        ("test_byhand.py::test_huge_inputs_raise_no_floating_point_warning",),
    ),
}


def test_every_row_has_its_tests() -> None:
    """The table is whole, its tests exist, and a test that names a row stands in it."""
    assert list(TESTS) == list(range(26, 50))
    found = set()
    for file in HERE.glob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        found |= {f"{file.name}::{name}" for name in names if name.startswith("test_")}
    for row, (mistake, tests) in TESTS.items():
        assert len(mistake) > 20 and tests and set(tests) <= found, (row, set(tests) - found)
    for test in found:
        if match := re.search(r"::test_rows?_(\d+)(?:_and_(\d+))?_", test):
            rows = [int(number) for number in match.groups() if number and int(number) in TESTS]
            assert all(test in TESTS[row][1] for row in rows), test


float64_llama = test_huggingface.float64_llama  # the fixture, for the tests of this file


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SMALL: dict[str, Any] = dict(vocab_size=23, context_length=9, d_model=24, n_layers=2, n_heads=6, norm_eps=0.03)
GPT2, LLAMA = gpt2_config(**SMALL, d_ff=29), llama_config(**SMALL, d_ff=20, n_kv_heads=2)
both = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])


def random_ids() -> Tensor:
    return torch.randint(23, (3, 9))


# ---- positions


@torch.no_grad()
def test_row_35_a_llama_in_either_layout_has_the_logits_of_transformers(
    float64_llama: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole model goes over to pairs (2i, 2i + 1) and back: the same logits, at last the same bits."""
    theirs, ids = reference_model(LLAMA), random_ids()
    expected, model = theirs(ids).logits, from_huggingface(theirs.state_dict(), LLAMA)
    assert expected.std() > 0.1
    assert_close(model(ids), expected, 1e-10)
    heads = {"q": LLAMA.n_heads, "k": LLAMA.kv_heads}
    turned = model.arrays()
    for name, (part, n_heads) in itertools.product(turned, heads.items()):
        if f"attention.{part}." in name:
            turned[name] = half_split_to_interleaved(turned[name], n_heads)
    monkeypatch.setattr(gpt_module, "rotate_half_split", rotate_interleaved)
    assert_close(GPT.from_arrays(LLAMA, turned)(ids), expected, 1e-10)
    assert (model(ids) - expected).abs().max() > 0.01  # the weights of one layout, the pairs of the other
    for name, (part, n_heads) in itertools.product(turned, heads.items()):
        if f"attention.{part}." in name:
            turned[name] = interleaved_to_half_split(turned[name], n_heads)
    exported = to_huggingface(GPT.from_arrays(LLAMA, turned))
    assert all(torch.equal(exported[name], value) for name, value in theirs.state_dict().items())


# ---- norms


def layer_norm_by_hand(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.from_numpy(byhand.layer_norm(x.numpy(), weight.numpy(), bias.numpy(), eps)[0])


def rms_norm_by_hand(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.from_numpy(byhand.rms_norm(x.numpy(), weight.numpy(), eps)[0])


def rms_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return basic.rms_norm(x, weight, eps)


NORMS = {
    "layer_norm": (basic.layer_norm, True),
    "layer_norm by hand": (layer_norm_by_hand, True),
    "rms_norm": (rms_norm, False),
    "rms_norm by hand": (rms_norm_by_hand, False),
}
every_norm = pytest.mark.parametrize(("norm", "centred"), NORMS.values(), ids=NORMS.keys())
Norm = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def normalised(token: list[float], weight: list[float], bias: list[float], eps: float, centred: bool) -> list[float]:
    """One token, number by number; the mean and the spread are those of the standard library."""
    if not centred:
        size = math.sqrt(statistics.fmean(x * x for x in token) + eps)
        return [w * x / size for x, w in zip(token, weight, strict=True)]
    mean, size = statistics.fmean(token), math.sqrt(statistics.pvariance(token) + eps)
    return [w * (x - mean) / size + b for x, w, b in zip(token, weight, bias, strict=True)]


def by_tokens(x: Tensor, weight: Tensor, bias: Tensor, eps: float, centred: bool) -> Tensor:
    tokens = x.reshape(-1, x.shape[-1]).tolist()
    return torch.tensor([normalised(t, weight.tolist(), bias.tolist(), eps, centred) for t in tokens]).reshape(x.shape)


@pytest.mark.parametrize("width", [2, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("eps", [1e-5, 0.2])
@every_norm
def test_row_37_the_variance_of_a_narrow_token_divides_by_all_its_numbers(
    norm: Norm, centred: bool, eps: float, width: int
) -> None:
    """With 768 numbers a token D - 1 instead of D is off by 0.002, with 4 by 0.1."""
    x, weight, bias = torch.randn(3, width) + 0.5, torch.randn(width), torch.randn(width)
    expected = by_tokens(x, weight, bias, eps, centred)
    assert_close(norm(x, weight, bias, eps), expected)
    unbiased = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias
    assert not centred or (unbiased - expected).abs().max() > 0.03


@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 3, 4, 6)])
@every_norm
def test_row_38_a_norm_sees_one_token_at_a_time(norm: Norm, centred: bool, shape: tuple[int, ...]) -> None:
    """Tokens in another order come out in that order, bit for bit, and one that changes changes no other."""
    x, weight, bias = torch.randn(shape) * 3 + 1, torch.randn(shape[-1]), torch.randn(shape[-1])
    y = norm(x, weight, bias, 1e-5)
    for axis in range(len(shape) - 1):
        order = torch.arange(shape[axis]).roll(1)
        assert torch.equal(norm(x.index_select(axis, order), weight, bias, 1e-5), y.index_select(axis, order))
    other = x.clone()
    other[1, 2] = other[1, 2] * 7 - 4 * torch.rand(shape[2:])
    changed = norm(other, weight, bias, 1e-5) != y
    assert changed[1, 2].any(-1).all()
    changed[1, 2] = False
    assert not changed.any()


@torch.no_grad()
@both
def test_row_39_each_norm_has_its_own_weights_place_and_eps(config: GPTConfig, float64_llama: None) -> None:
    """Equal to transformers with other weights in each norm; and the comparison would see any two norms swapped."""
    theirs, ids = reference_model(config), random_ids()
    model, expected = from_huggingface(theirs.state_dict(), config), theirs(ids).logits
    assert_close(model(ids), expected, 1e-10)

    def differs(changed: GPT) -> bool:
        return bool((changed(ids) - expected).abs().max() > 1e-2)

    paths = [name for name, part in model.named_modules() if isinstance(part, basic.LayerNorm | basic.RMSNorm)]
    assert len(paths) == 2 * config.n_layers + 1
    for one, other in itertools.combinations(paths, 2):
        swapped = copy.deepcopy(model)
        for leaf in swapped.get_submodule(one).state_dict():
            first, second = (swapped.get_submodule(path).get_parameter(leaf) for path in (one, other))
            first.data, second.data = second.data, first.data
        assert differs(swapped), (one, other)
    for path in paths:
        other_eps = copy.deepcopy(model)
        other_eps.get_submodule(path).eps = 0.3
        assert differs(other_eps), path


@pytest.mark.parametrize("shape", [(4, 4), (5, 5, 5), (1, 6), (6, 1, 3), (3, 5), (5, 3), (2, 3, 4)])
@every_norm
def test_row_48_norms_of_square_and_of_oblong_inputs(norm: Norm, centred: bool, shape: tuple[int, ...]) -> None:
    """A spread (B, T) where (B, T, 1) is meant divides by that of another token if B, T and D are equal."""
    x, weight, bias = torch.randn(shape), torch.randn(shape[-1]), torch.randn(shape[-1])
    assert_close(norm(x, weight, bias, 0.01), by_tokens(x, weight, bias, 0.01, centred))
    if centred and set(shape) in ({4}, {5}):
        lost = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0) + 0.01).sqrt() * weight + bias
        assert (lost - by_tokens(x, weight, bias, 0.01, centred)).abs().max() > 0.1


# ---- softmax


def hand_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.from_numpy(
        attention_by_hand(q.numpy(), k.numpy(), v.numpy(), None if mask is None else mask.numpy())[0]
    )


@pytest.mark.parametrize(
    "attend",
    [scaled_dot_product_attention, fused, functools.partial(tiled_attention, block=2), hand_attention],
    ids=["plain", "fused", "tiled", "by hand"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("height", [2.0**10, 2.0**16, -(2.0**16)])
def test_row_47_huge_scores_against_an_oracle_that_is_looked_at_first(
    attend: AttentionFunction, dtype: torch.dtype, height: float
) -> None:
    """Scores around 2^16, exact in float32, of which only the small differences count. exp of each is 0 or infinite."""
    offsets = torch.tensor([[0.0, 0.5, -1.0, 2.0, 1.25], [3.0, -0.25, 0.0, 0.0, -2.5]])  # (H, S)
    shares = [[math.exp(a) / math.fsum(math.exp(b) for b in row) for a in row] for row in offsets.tolist()]
    v = torch.randn(2, 2, 5, 3)
    expected = torch.tensor(shares)[:, None] @ v  # (B, H, 1, K')
    assert expected.isfinite().all() and expected.std() > 0.1 and (expected != 0).all()
    with np.errstate(over="ignore"):
        assert np.exp(np.float32(height)) in (0, math.inf)
    q, k = torch.ones(2, 2, 4, 1, dtype=dtype), (height + offsets).to(dtype).expand(2, 2, 5)[..., None]
    y = attend(q, k.contiguous(), v.to(dtype))
    assert_close(y.double(), expected.expand(2, 2, 4, 3), 1e-12 if dtype == torch.float64 else 1e-6)
    scores = (height + offsets).to(dtype)
    assert_close(basic.softmax(scores).double(), torch.tensor(shares), 1e-12 if dtype == torch.float64 else 1e-6)
    assert_close(
        basic.log_softmax(scores).double(), torch.tensor(shares).log(), 1e-12 if dtype == torch.float64 else 1e-6
    )


# ---- training and evaluation


@torch.no_grad()
@pytest.mark.parametrize("attend", [scaled_dot_product_attention, fused], ids=["plain", "fused"])
@both
def test_row_43_in_evaluation_nothing_is_drawn(
    config: GPTConfig, attend: AttentionFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without a cache: the logits of a model without dropout, and torch's random numbers are left untouched."""
    kernel, given = F.scaled_dot_product_attention, []

    def watched(*arguments: Any, **settings: Any) -> Tensor:
        given.append((len(arguments), settings.get("dropout_p", 0.0)))
        return kernel(*arguments, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    model = GPT(GPTConfig(**(vars(config) | {"dropout": 0.5})), attend)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    without = GPT.from_arrays(config, model.arrays(), attention=attend)
    ids = random_ids()
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    before = torch.get_rng_state()
    expected = without(ids)
    for _ in range(2):
        assert torch.equal(model(ids), expected)
        cache = model.new_cache(3)
        pieces = [model(ids[:, :4], cache), model(ids[:, 4:5], cache), model(ids[:, 5:], cache)]
        assert_close(torch.cat(pieces, 1), expected, 1e-10)
    assert torch.equal(torch.get_rng_state(), before)
    assert (given != []) == (attend is fused)
    assert all(n_positional <= 4 and p == 0.0 for n_positional, p in given)


@torch.no_grad()
@both
def test_row_44_both_ways_into_evaluation_are_one(config: GPTConfig) -> None:
    """eval() is train(False), down to the last part."""
    model, ids = GPT(GPTConfig(**(vars(config) | {"dropout": 0.5}))), random_ids()
    for into in (model.eval, lambda: model.train(False)):
        model.train()
        assert all(part.training for part in model.modules()) and not torch.equal(model(ids), model(ids))
        into()
        assert not any(part.training for part in model.modules()) and torch.equal(model(ids), model(ids))


def test_row_44_no_module_has_its_own_way_into_evaluation() -> None:
    """An own eval() would not be reached through train(False), which is what eval() of the module around it calls."""
    classes = [
        (file.name, node)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Module") for base in node.bases)
    ]
    assert len(classes) > 10
    for file, node in classes:
        methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        assert not methods & {"eval", "train"}, f"{file}: {node.name}"


# ---- weights


@torch.no_grad()
def test_row_45_square_matrices_are_turned_too() -> None:
    """F = D: all matrices but q, k and v are square, and fit both ways; only one gives the logits of transformers."""
    config = gpt2_config(**SMALL, d_ff=24)
    theirs, ids = reference_model(config), random_ids()
    model, expected = from_huggingface(theirs.state_dict(), config), theirs(ids).logits
    assert_close(model(ids), expected, 1e-10)
    for layer, part in itertools.product(range(2), ("attention.out", "mlp.up", "mlp.down")):
        on_its_side = copy.deepcopy(model)
        weight = on_its_side.get_parameter(f"blocks.{layer}.{part}.weight")
        assert weight.shape == (24, 24)
        weight.copy_(weight.T.clone())
        assert (on_its_side(ids) - expected).abs().max() > 0.05, (layer, part)


def train_one_step(model: GPT, optimizer: AdamW) -> None:
    before = model.embedding.weight.detach().clone()
    optimizer.zero_grad()
    model(random_ids()).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.embedding.weight, before)


@both
def test_row_46_tied_weights_stay_one_tensor(config: GPTConfig, tmp_path: Path) -> None:
    """Through files, training that goes on, copies and other number types; a model with two tables keeps two."""
    for tied in (True, False):
        settings = vars(config) | {"tie_embeddings": tied, "vocab_size": ByteTokenizer().vocab_size}
        model = GPT(GPTConfig(**settings))
        optimizer = AdamW(decay_groups(model, lr=0.01))
        train_one_step(model, optimizer)
        save_checkpoint(tmp_path / str(tied), model, ByteTokenizer(), step=1, optimizer=optimizer)
        loaded = load_checkpoint(tmp_path / str(tied))
        again = AdamW(decay_groups(loaded.model, lr=0.01))
        loaded.resume(again)
        train_one_step(loaded.model, again)
        copied, converted = copy.deepcopy(loaded.model), copy.deepcopy(loaded.model).bfloat16().double().to("cpu")
        train_one_step(converted, AdamW(decay_groups(converted, lr=0.01)))
        for each in (model, loaded.model, copied, converted):
            assert (each.lm_head.weight is each.embedding.weight) == tied
            assert torch.equal(each.lm_head.weight, each.embedding.weight) == tied
            assert sum(len(parameter) == settings["vocab_size"] for parameter in each.parameters()) == 2 - tied


@both
def test_row_46_a_tied_weight_learns_from_both_its_uses(config: GPTConfig) -> None:
    """Its gradient is the sum of those that an untied model of the same numbers gives to its two tables."""
    one = GPT(GPTConfig(**(vars(config) | {"tie_embeddings": True})))
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    arrays = one.arrays() | {"lm_head.weight": one.embedding.weight.detach().clone()}
    two = GPT.from_arrays(GPTConfig(**(vars(config) | {"tie_embeddings": False})), arrays)
    ids, upstream = random_ids(), torch.randn(3, 9, 23)
    for model in (one, two):
        model(ids).backward(upstream)
    parts = [table.weight.grad for table in (two.embedding, two.lm_head)]
    assert all(part is not None and part.abs().max() > 0.1 for part in parts)
    assert_close(one.embedding.weight.grad, sum(parts), 1e-10)
    with pytest.raises(ValueError, match=r"missing or unknown lm_head\.weight"):
        GPT.from_arrays(one.config, arrays | {"lm_head.weight": arrays["lm_head.weight"] + 1})
