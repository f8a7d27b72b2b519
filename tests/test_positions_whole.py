"""Positions: rotary values and layouts, context extension, learned tables, and none at all.

The numbers of rows in names and docstrings are those of the catalogue of real bugs that the project keeps.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_attention_whole import assert_gradients_are_measured
from test_layers import assert_close
from torch import Tensor, nn
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as rotate_gptj
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as rotate_llama

from minilm.layers.attention import MultiHeadAttention
from minilm.layers.basic import Embedding
from minilm.layers.masks import causal_mask
from minilm.layers.positions import (
    half_split_to_interleaved,
    interleaved_to_half_split,
    interpolated_angles,
    rotary_angles,
    rotate_half_split,
    rotate_interleaved,
    silence,
)
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.training.optim import AdamW, decay_groups

Rotation = Callable[[Tensor, Tensor], Tensor]
both = pytest.mark.parametrize("rotate", [rotate_half_split, rotate_interleaved])
PAIR: dict[Rotation, Callable[[int, int], tuple[int, int]]] = {
    rotate_half_split: lambda i, size: (i, i + size // 2),
    rotate_interleaved: lambda i, size: (2 * i, 2 * i + 1),
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---- rotary positions


@pytest.mark.parametrize("theta", [777.7, 10000.0, 5e5, 1.5])
@pytest.mark.parametrize("size", [2, 6, 10])
@both
def test_rotary_has_these_values_number_by_number(rotate: Rotation, size: int, theta: float) -> None:
    places = [[17, 0, 4099, 1], [3, 3, 1_000_003, 254]]  # neither sorted nor different nor the same in both rows
    x = torch.randn(2, 3, 4, size)
    y = rotate(x, rotary_angles(torch.tensor(places), size, theta)[:, None])
    for b, h, t, i in itertools.product(range(2), range(3), range(4), range(size // 2)):
        angle = places[b][t] / theta ** (2 * i / size)
        first, second = PAIR[rotate](i, size)
        one, other = x[b, h, t, first].item(), x[b, h, t, second].item()
        tolerance = 1e-15 * max(1, places[b][t]) + 1e-13  # of the angle's own rounding
        assert y[b, h, t, first].item() == pytest.approx(
            one * math.cos(angle) - other * math.sin(angle), abs=10 * tolerance
        )
        assert y[b, h, t, second].item() == pytest.approx(
            other * math.cos(angle) + one * math.sin(angle), abs=10 * tolerance
        )


@pytest.mark.parametrize("angles_of", [rotary_angles, functools.partial(interpolated_angles, factor=2.5)])
@both
def test_row_36_scores_depend_on_the_distance_alone(rotate: Rotation, angles_of: Callable[..., Tensor]) -> None:
    """Row 36: <R_i q, R_j k> is a function of i - j to 1e-12, lengths are kept, and other distances give other scores."""
    q, k = torch.randn(6), torch.randn(6)

    def turned(x: Tensor, place: int) -> Tensor:
        return rotate(x, angles_of(torch.tensor(place), 6, 777.7))

    for distance in (0, 1, 2, 7, 40):
        score = turned(q, distance) @ turned(k, 0)
        for shift in (1, 3, 19, 256, 1000):
            assert_close(turned(q, distance + shift) @ turned(k, shift), score)
            assert_close(turned(q, shift).norm(), q.norm())
        assert abs(turned(q, distance + 1) @ turned(k, 0) - score) > 1e-3
        assert abs(turned(q, 0) @ turned(k, distance) - score) > 1e-3 or distance == 0  # before is not after


@both
def test_gradients_of_a_rotation(rotate: Rotation) -> None:
    for shape in ((2, 3, 4, 6), (3, 1, 5, 2), (2, 2, 3, 10)):
        angles = rotary_angles(torch.randint(50, (shape[0], 1, shape[2])), shape[3], 50.0)
        assert_gradients_are_measured(lambda x, angles=angles: rotate(x, angles), torch.randn(shape))


# ---- the two layouts


def test_row_35_each_layout_is_that_of_its_models() -> None:
    """Row 35: half-split as Llama turns, interleaved as GPT-J does, by their own code."""
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 1, 5, 8)
    angles = rotary_angles(torch.tensor([[4, 0, 9, 77, 2]] * 2), 8, 500.0)  # (B, T, K / 2)
    theirs = rotate_llama(q, k, torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin())
    for x, expected in zip((q, k), theirs, strict=True):
        assert_close(rotate_half_split(x, angles[:, None]), expected)
        gptj = rotate_gptj(x.transpose(1, 2), angles.sin(), angles.cos()).transpose(1, 2)
        assert_close(rotate_interleaved(x, angles[:, None]), gptj)
    assert (theirs[0] - rotate_interleaved(q, angles[:, None])).abs().max() > 0.1


@pytest.mark.parametrize(("n_heads", "size"), [(1, 2), (3, 4), (2, 6), (5, 10)])
def test_row_35_the_order_of_the_rows(n_heads: int, size: int) -> None:
    """Row 35: each row goes where its partner in the other layout stands; the way there and back changes no bit."""
    for rows in (torch.randn(n_heads * size, 7), torch.randn(n_heads * size), torch.randn(n_heads * size, 2, 3)):
        there, back = half_split_to_interleaved(rows, n_heads), interleaved_to_half_split(rows, n_heads)
        for h, i in itertools.product(range(n_heads), range(size // 2)):
            for half, pair in zip(PAIR[rotate_half_split](i, size), PAIR[rotate_interleaved](i, size), strict=True):
                assert torch.equal(there[h * size + pair], rows[h * size + half])
                assert torch.equal(back[h * size + half], rows[h * size + pair])
        assert torch.equal(interleaved_to_half_split(there, n_heads), rows)
        assert torch.equal(half_split_to_interleaved(back, n_heads), rows)
        assert there.shape == rows.shape and (size == 2) == torch.equal(there, rows)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_row_35_converted_weights_in_the_other_layout_are_the_same_attention(n_kv_heads: int) -> None:
    """Row 35: q and k, weights and biases, converted by their own numbers of heads; v and the output stay."""
    one, other = (MultiHeadAttention(24, 6, n_kv_heads) for _ in range(2))
    for parameter in one.parameters():
        nn.init.normal_(parameter, std=0.4)
    weights = dict(one.state_dict())
    for name in weights:
        if name[0] in "qk":
            weights[name] = half_split_to_interleaved(weights[name], 6 if name[0] == "q" else n_kv_heads)
    x, angles = torch.randn(2, 5, 24), rotary_angles(torch.tensor([3, 0, 11, 4, 70]), 4, 50.0)
    expected = one(x, causal_mask(5), functools.partial(rotate_half_split, angles=angles))
    unconverted = one(x, causal_mask(5), functools.partial(rotate_interleaved, angles=angles))
    other.load_state_dict(weights)
    assert_close(other(x, causal_mask(5), functools.partial(rotate_interleaved, angles=angles)), expected)
    assert (unconverted - expected).abs().max() > 0.05


def test_a_head_has_pairs() -> None:
    for convert in (half_split_to_interleaved, interleaved_to_half_split):
        with pytest.raises(ValueError, match="12 rows do not make 4 heads of an even size"):
            convert(torch.randn(12, 3), 4)
        with pytest.raises(ValueError, match="12 rows do not make 5 heads"):
            convert(torch.randn(12, 3), 5)


# ---- longer texts than in training


@pytest.mark.parametrize("factor", [1.0, 2.5, 8.0])
def test_interpolated_angles_are_those_between(factor: float) -> None:
    places = torch.tensor([[0, 7, 3], [64, 1, 1023]])
    angles = interpolated_angles(places, 6, 777.7, factor)
    for b, t, i in itertools.product(range(2), range(3), range(3)):
        assert angles[b, t, i].item() == pytest.approx(places[b, t].item() / factor / 777.7 ** (2 * i / 6), rel=1e-14)
    # Positions 0 ... 8 * 128 - 1 stretched over 0 ... 127: no angle is larger than those of training.
    stretched = interpolated_angles(torch.arange(8 * 128), 6, 777.7, 8.0)
    trained = rotary_angles(torch.arange(128), 6, 777.7)
    assert torch.equal(stretched[::8], trained)  # 8 is a power of two: exact
    assert (stretched[:, 0] - stretched[:, 0].round()).abs().max() == 0.5 and stretched.max() < trained.max() + 1
    assert torch.equal(interpolated_angles(places, 6, 777.7, 1.0), rotary_angles(places, 6, 777.7))


def test_a_context_does_not_shrink() -> None:
    for factor in (0.5, 0.0, -2.0, math.nan):
        with pytest.raises(ValueError, match="a factor of at least 1, got"):
            interpolated_angles(torch.arange(3), 4, 50.0, factor)


# ---- positions in a model


def model_of(config: GPTConfig) -> GPT:
    model = GPT(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


SMALL = {"vocab_size": 23, "context_length": 9, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 20}
MODELS = {"gpt2": gpt2_config(**SMALL), "llama": llama_config(**SMALL, n_kv_heads=2)}
every_model = pytest.mark.parametrize("name", list(MODELS))


@torch.no_grad()
@every_model
def test_row_33_a_single_token_has_its_own_position(name: str) -> None:
    """Row 33: token i of a decoding, fed alone, has the hidden state of position i."""
    model, ids = model_of(MODELS[name]), torch.randint(23, (2, 9))
    whole, cache = model.hidden(ids), model.new_cache(2)
    for i in range(9):
        assert_close(model.hidden(ids[:, i : i + 1], cache), whole[:, i : i + 1], 1e-10)
        if i:
            alone = model.hidden(ids[:, i : i + 1])  # without a past: position 0, another state
            assert (alone - whole[:, i : i + 1]).abs().max() > 1e-2


@torch.no_grad()
@every_model
def test_row_34_past_the_end_of_the_context_there_is_one_clear_error(name: str) -> None:
    """Row 34: up to the last position all goes well, one step further is a ValueError, at once or behind a cache."""
    model, ids = model_of(MODELS[name]), torch.randint(23, (2, 10))
    with pytest.raises(ValueError, match="10 tokens do not fit into context_length 9"):
        model(ids)
    for past in range(1, 10):
        cache = model.new_cache(2)
        model(ids[:, :past], cache)
        with pytest.raises(ValueError, match="10 tokens do not fit into context_length 9"):
            model(ids[:, past:], cache)
        if past < 9:
            assert_close(model(ids[:, past:9], cache)[:, -1], model(ids[:, :9])[:, -1], 1e-10)


@torch.no_grad()
@pytest.mark.parametrize("n_padding", [0, 1, 2, 5, 32])
@every_model
def test_row_32_padding_does_not_move_positions(name: str, n_padding: int) -> None:
    """Row 32: a row that was padded to a longer one's length has its own positions from 0, and goes on with the next."""
    model = model_of(GPTConfig(**(vars(MODELS[name]) | {"context_length": 41})))
    short, longer = torch.randint(23, (1, 5)), torch.randint(23, (1, 5 + n_padding))
    batch = torch.cat([torch.cat([short, torch.randint(23, (1, n_padding))], 1), longer])
    cache = model.new_cache(2)
    first = model(batch, cache)[0, 4]
    assert_close(first, model(short)[0, 4], 1e-10)
    cache.rollback(torch.tensor([n_padding, 0]))
    new = torch.randint(23, (2, 2))
    assert_close(model(new, cache)[0], model(torch.cat([short, new[:1]], 1))[0, 5:], 1e-10)


@torch.no_grad()
def test_row_42_tables_of_tokens_and_of_positions_are_not_each_others() -> None:
    """Row 42: with 23 tokens and 9 positions, the first block reads token row ids[t] plus position row t."""
    model, read = model_of(MODELS["gpt2"]), []
    model.blocks[0].register_forward_pre_hook(lambda block, inputs: read.append(inputs[0]))
    ids = torch.tensor([[22, 0, 9, 10, 3, 22, 8, 1, 21], [4, 4, 4, 4, 4, 4, 4, 4, 4]])
    model(ids)
    tokens, places = model.embedding.weight, model.positions.weight
    assert tokens.shape == (23, 24) and places.shape == (9, 24)
    expected = [[tokens[ids[b, t]] + places[t] for t in range(9)] for b in range(2)]
    assert_close(read[0], torch.stack([torch.stack(row) for row in expected]))


def test_a_gpt_takes_its_angles_as_a_part() -> None:
    config = llama_config(**SMALL)
    plain = model_of(config)
    ids = torch.tensor([[22, 0, 9, 10, 3, 22, 8, 1, 21], [4, 4, 4, 4, 2, 4, 7, 4, 4]])

    def stretched(positions: Tensor, d_head: int, theta: float) -> Tensor:
        return torch.stack([positions.double() / 3 * theta ** (-2 * i / d_head) for i in range(d_head // 2)], dim=-1)

    def with_angles(angles) -> GPT:
        return GPT.from_arrays(config, plain.arrays(), angles=angles).double()

    by_three = with_angles(functools.partial(interpolated_angles, factor=3.0))
    assert_close(by_three(ids), with_angles(stretched)(ids))
    assert torch.equal(with_angles(functools.partial(interpolated_angles, factor=1.0))(ids), plain(ids))
    assert (by_three(ids) - plain(ids)).abs().max() > 1e-3
    cache = by_three.new_cache(2)
    steps = torch.cat([by_three(ids[:, :4], cache), *(by_three(ids[:, t : t + 1], cache) for t in range(4, 9))], dim=1)
    assert_close(steps, by_three(ids))


# ---- no positions


def one_layer_order(model: GPT) -> float:
    """How much the last logits change when the tokens before the last change places."""
    ids = torch.tensor([[5, 1, 7, 22, 3, 0, 11]])
    other = ids[:, [3, 0, 5, 1, 4, 2, 6]]
    return (model(ids)[:, -1] - model(other)[:, -1]).abs().max().item()


def test_without_positions_one_layer_sees_a_set_and_training_keeps_it_so() -> None:
    config = gpt2_config(**(SMALL | {"n_layers": 1}))
    model = model_of(config)
    assert one_layer_order(model) > 1e-2
    silence(model.positions)
    assert one_layer_order(model) < 1e-12
    optimizer = AdamW(decay_groups(model, lr=1e-2))
    before = model.embedding.weight.clone()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randint(23, (2, 9))).square().mean().backward()
        optimizer.step()
    assert not model.positions.weight.any() and not torch.equal(model.embedding.weight, before)
    copy = GPT.from_arrays(config, model.arrays())  # a checkpoint keeps the zeros
    assert one_layer_order(copy) < 1e-12


def test_silence_is_zeros_without_a_gradient() -> None:
    table = Embedding(9, 4)
    silence(table)
    assert not table(torch.tensor([[8, 0, 3]])).any() and not table.weight.requires_grad


class OnApple:
    """Positions on a device that knows no float64, as Apple's GPUs: whoever does not fetch them first gets a TypeError."""

    device = SimpleNamespace(type="mps")

    def to(self, device: torch.device) -> Tensor:
        assert device == torch.device("cpu")
        return torch.tensor([3, 0, 70])

    def double(self) -> Tensor:
        raise TypeError("this device has no float64")


def test_angles_for_a_device_without_float64_are_made_on_the_cpu() -> None:
    angles: Any = rotary_angles
    assert torch.equal(angles(OnApple(), 8, 500.0), rotary_angles(torch.tensor([3, 0, 70]), 8, 500.0))
    x = torch.randn(3, 8, dtype=torch.float32)
    for rotate in (rotate_half_split, rotate_interleaved):
        assert rotate(x, angles(OnApple(), 8, 500.0)).dtype is torch.float32
