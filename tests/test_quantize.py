"""Rounded weights: no weight moves by more than half a step, the product is that of the restored matrix, a model stays a model."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.quantize import (
    QuantizedEmbedding,
    QuantizedLinear,
    Rounded,
    arrays,
    product,
    quantize,
    restore,
    stored_bytes,
    to_bfloat16,
    to_int8,
)
from minilm.decoding.sampling import Sampler
from minilm.layers.basic import Embedding, LayerNorm, Linear
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT

SHAPE = {"vocab_size": 37, "context_length": 20, "d_model": 24, "n_layers": 2, "n_heads": 3}
CONFIGS = {
    "tied": gpt2_config(**SHAPE),
    "llama": llama_config(**SHAPE, n_kv_heads=1, tie_embeddings=False),
}


def random_gpt(config, seed=1):
    """A model whose every parameter is random, biases and norms included."""
    torch.manual_seed(seed)
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def by_hand(weight, group):
    """int8 in plain Python, number by number: (rows of integers, rows of scales)."""
    integers, scales = [], []
    for row in weight.tolist():
        integers.append([])
        scales.append([])
        for start in range(0, len(row), group):
            part = row[start : start + group]
            scale = max(abs(number) for number in part) / 127
            scales[-1].append(scale)
            integers[-1] += [round(number / scale) if scale else 0 for number in part]
    return integers, scales


def evened(n_in, group):
    """The largest size that makes no more groups than `group` does: of 13 in groups of at most 12, two, so 7 and 6."""
    fewest = len(range(0, n_in, group))
    return next(size for size in range(1, n_in + 1) if len(range(0, n_in, size)) <= fewest)


@pytest.mark.parametrize("group", [1, 4, 5, 12, 13, 64, None])
def test_int8_is_what_plain_python_makes(group):
    weight = torch.randn(7, 13, dtype=torch.float64)
    weight[2, 4:8] = 0  # a group of zeros for group 4
    rounded = to_int8(weight, group)
    integers, scales = by_hand(weight, evened(13, group or 13))
    assert rounded.numbers.dtype is torch.int8
    assert rounded.numbers.tolist() == integers
    torch.testing.assert_close(rounded.scales, torch.tensor(scales, dtype=torch.float64), rtol=1e-14, atol=0)


@given(
    n_out=st.integers(1, 9),
    n_in=st.integers(1, 70),
    group=st.integers(1, 80),
    size=st.sampled_from([1e-30, 0.02, 1e20]),
)
@settings(max_examples=40, deadline=None)
def test_no_weight_moves_by_more_than_half_a_step(n_out, n_in, group, size):
    weight = size * torch.randn(n_out, n_in, generator=torch.Generator().manual_seed(n_in)).double()
    rounded = to_int8(weight, group)
    size = evened(n_in, group)
    step = torch.stack([rounded.scales[:, i // size] for i in range(n_in)], dim=1)
    assert bool(((restore(*rounded) - weight).abs() <= step * (0.5 + 1e-9)).all())
    assert int(rounded.numbers.abs().max()) == 127  # the range is used to its end
    assert size <= group and rounded.scales.shape == (n_out, len(range(0, n_in, size)))


def test_the_range_is_symmetric():
    """-128 would have no counterpart: the rounding of -w is the negative of that of w."""
    weight = torch.randn(5, 48)
    assert torch.equal(to_int8(-weight, 16).numbers, -to_int8(weight, 16).numbers)
    assert int(to_int8(weight, 16).numbers.min()) >= -127


def test_smaller_groups_are_closer_and_an_outlier_spoils_only_its_own():
    weight = torch.randn(6, 128)
    weight[3, 5] = 1000.0
    errors = [(restore(*to_int8(weight, group)) - weight).abs() for group in (16, None)]
    assert float(errors[0][3, 16:].max()) < 0.02 < 1.0 < float(errors[1][3, 16:].max())
    torch.testing.assert_close(
        errors[0][3, :16].max(), weight[3, :16].abs()[weight[3, :16] < 1000].max(), rtol=0, atol=4
    )
    assert torch.equal(errors[0][0] <= to_int8(weight, 16).scales[0].repeat_interleave(16), torch.ones(128).bool())


def test_bfloat16_errs_by_one_part_in_256():
    weight = torch.randn(9, 33)
    rounded = to_bfloat16(weight)
    assert rounded.numbers.dtype is torch.bfloat16 and rounded.scales is None
    assert bool(((restore(*rounded) - weight).abs() <= weight.abs() / 256).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(bad):
    weight = torch.ones(3, 4)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        to_int8(weight)


def test_a_group_has_at_least_one_input():
    with pytest.raises(ValueError, match="at least 1"):
        to_int8(torch.ones(3, 4), 0)


@pytest.mark.parametrize("rounding", [lambda w: to_int8(w, 5), lambda w: to_int8(w, None), to_bfloat16])
@pytest.mark.parametrize("shape", [(13,), (4, 13), (2, 3, 13), (0, 13)])
def test_the_product_is_that_of_the_restored_matrix(rounding, shape):
    weight, bias, x = torch.randn(7, 13), torch.randn(7), torch.randn(shape)
    matrix = rounding(weight)
    rows = x.reshape(-1, 13).double()
    restored = restore(*matrix).double()
    expected = torch.stack([(restored * row).sum(1) + bias for row in rows]) if len(rows) else torch.zeros(0, 7)
    found = product(x, matrix.numbers, matrix.scales, bias)
    assert found.shape == (*shape[:-1], 7) and found.dtype is torch.float32
    torch.testing.assert_close(found.reshape(-1, 7).double(), expected.double(), rtol=1e-5, atol=1e-5)


def rounded_copy(model, rounding):
    """The readable model with weights rounded in place: what a quantized model must equal."""
    twin = copy.deepcopy(model)
    for part in twin.modules():
        if isinstance(part, Linear) and part is not twin.lm_head:
            part.weight.data = restore(*rounding(part.weight))
    twin.lm_head.weight.data = restore(*rounding(twin.lm_head.weight))  # and the embedding, where they are one
    return twin


@pytest.mark.parametrize("rounding", [to_int8, to_bfloat16], ids=["int8", "bfloat16"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_quantized_model_is_the_model_with_rounded_weights(config, rounding):
    model = random_gpt(config)
    expected = rounded_copy(model, rounding)
    quantized = quantize(model, rounding)
    assert quantized is model
    assert not any(type(part) is Linear for part in model.modules())
    ids = torch.randint(37, (3, 11))
    torch.testing.assert_close(quantized(ids), expected(ids), rtol=1e-4, atol=1e-5)
    cache = quantized.new_cache(3, 11)
    assert cache.keys[0].dtype is torch.float32  # and not the type of the stored numbers
    parts = torch.cat([quantized(ids[:, :6], cache), quantized(ids[:, 6:], cache)], dim=1)
    torch.testing.assert_close(parts, expected(ids), rtol=1e-4, atol=1e-5)
    sampler = Sampler(SampleConfig(temperature=0))
    assert list(generate(quantized, [1, 2], sampler, 9)) == list(generate(expected, [1, 2], sampler, 9))


@torch.no_grad()
def test_int8_stays_near_the_model():
    """The logits move, and far less than they are large."""
    model = random_gpt(CONFIGS["tied"])
    before = model(torch.arange(15)[None])
    after = quantize(model)(torch.arange(15)[None])
    assert 0 < float((after - before).abs().max()) < 0.05 * float(before.abs().max())


def test_a_tied_head_is_stored_once():
    model = quantize(random_gpt(CONFIGS["tied"]))
    assert isinstance(model.embedding, QuantizedEmbedding) and isinstance(model.lm_head, QuantizedLinear)
    assert model.embedding.numbers.data_ptr() == model.lm_head.numbers.data_ptr()
    assert torch.equal(model.embedding(torch.tensor([[3, 0, 3]])), model.lm_head.weight[torch.tensor([[3, 0, 3]])])
    assert model.embedding(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 24)


def test_two_layers_with_one_matrix_store_it_once():
    layers = torch.nn.Sequential(Linear(6, 6), Linear(6, 6))
    layers[1].weight = layers[0].weight
    quantize(layers)
    assert layers[0].numbers.data_ptr() == layers[1].numbers.data_ptr()


def test_an_untied_embedding_and_positions_stay():
    model = quantize(random_gpt(gpt2_config(**SHAPE, tie_embeddings=False)))
    assert type(model.embedding) is Embedding and type(model.positions) is Embedding


def test_memory_is_saved():
    """8 bits and 4 bytes for each group of 64 inputs: 1.0625 bytes of 4; biases, norms and positions stay."""
    model = GPT(gpt2_config(vocab_size=512, context_length=16, d_model=128, n_layers=2, n_heads=2))
    matrices = 512 * 128 + 2 * 12 * 128 * 128
    rest = 4 * (model_parameters(model) - matrices)
    assert stored_bytes(model) == 4 * matrices + rest
    assert stored_bytes(quantize(copy.deepcopy(model))) == matrices + 4 * matrices // 64 + rest
    assert stored_bytes(quantize(model, to_bfloat16)) == 2 * matrices + rest


def model_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("rounding", [to_int8, to_bfloat16], ids=["int8", "bfloat16"])
def test_arrays_go_into_a_file_and_back(rounding, tmp_path):
    model = quantize(random_gpt(CONFIGS["tied"]), rounding)
    save_file(arrays(model), tmp_path / "weights.safetensors")
    other = quantize(random_gpt(CONFIGS["tied"], seed=2), rounding)
    ids = torch.arange(8)[None]
    assert not torch.equal(model(ids), other(ids))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=False)
    assert torch.equal(model(ids), other(ids))


def test_a_speedrun_model_can_be_quantized():
    torch.manual_seed(3)
    model = SpeedrunGPT(SpeedrunConfig(vocab_size=19, context_length=12, d_model=24, n_layers=2, n_heads=2)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    before = list(generate(quantize(copy.deepcopy(model), to_bfloat16), [1], Sampler(SampleConfig(temperature=0)), 5))
    assert len(before) == 5


def test_product_is_a_part():
    calls = []

    def counting(x, numbers, scales, bias):
        calls.append(numbers.shape)
        return product(x, numbers, scales, bias)

    model = random_gpt(CONFIGS["tied"])
    quantize(model, product=counting)(torch.tensor([[1, 2]]))
    assert len(calls) == 2 * 6 + 1


def test_nothing_to_quantize_is_an_error():
    with pytest.raises(ValueError, match="no Linear"):
        quantize(torch.nn.ModuleList([LayerNorm(4)]))


def test_rounded_leaves_the_weight_alone():
    weight = torch.nn.Parameter(torch.randn(4, 10))
    before = weight.detach().clone()
    assert isinstance(to_int8(weight, 3), Rounded) and not to_int8(weight, 3).scales.requires_grad
    assert torch.equal(weight, before)
