"""The bricks of layers/ against torch's own, or against loops: outputs and all gradients, in float64."""

import doctest
import importlib
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.layers import basic, masks, positions


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_close(x: Tensor, y: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(x, y, rtol=0, atol=atol)


def assert_same(ours: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Equal outputs, equal gradients of every input under a random upstream gradient, and inputs left as they were."""
    mine = [x.clone().requires_grad_() for x in inputs]
    theirs = [x.clone().requires_grad_() for x in inputs]
    y, expected = ours(*mine), reference(*theirs)
    assert expected.isfinite().all() and expected.std() > 0, "an oracle of zeros or NaN proves nothing"
    assert_close(y, expected)
    upstream = torch.randn_like(expected)
    y.backward(upstream)
    expected.backward(upstream)
    for x, reference_x in zip(mine, theirs, strict=True):
        assert x.grad is not None and reference_x.grad is not None
        assert_close(x.grad, reference_x.grad)
    for x, original in zip(mine, inputs, strict=True):
        assert torch.equal(x, original)


# ---- basic.py


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (basic.sigmoid, torch.sigmoid),
        (basic.relu, F.relu),
        (basic.silu, F.silu),
        (basic.gelu, F.gelu),
        (basic.gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
    ],
)
def test_activations(ours: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor]) -> None:
    assert_same(ours, reference, torch.randn(3, 5) * 3)
    assert ours(torch.tensor([-1e3, 1e3])).isfinite().all()


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(("ours", "reference"), [(basic.softmax, F.softmax), (basic.log_softmax, F.log_softmax)])
def test_softmax(ours: Callable[..., Tensor], reference: Callable[..., Tensor], dim: int) -> None:
    assert_same(lambda x: ours(x, dim), lambda x: reference(x, dim), torch.randn(3, 4, 5))


def test_softmax_survives_extreme_rows() -> None:
    # One row far up, one far down, one torn: with one maximum for the whole tensor the second row would be 0 / 0.
    x = torch.tensor([[1e3, 999.0, 998.0], [-1e3, -1001.0, -1002.0], [1e3, -1e3, 0.0]])
    for dtype in (torch.float64, torch.float32):
        y = x.to(dtype)
        assert_close(basic.softmax(y), F.softmax(y, -1), 1e-7)
        assert_close(basic.log_softmax(y), F.log_softmax(y, -1), 1e-6)
    assert basic.log_softmax(x)[2].tolist() == [0.0, -2000.0, -1000.0]
    assert_same(basic.softmax, lambda x: F.softmax(x, -1), x)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_norms(eps: float) -> None:
    # Width 4: there a division by D - 1, or eps outside the root, cannot hide.
    x, weight, bias = torch.randn(2, 3, 4) + 1, torch.randn(4), torch.randn(4)
    inputs = (x, weight, bias)
    assert_same(
        lambda x, w, b: basic.layer_norm(x, w, b, eps), lambda x, w, b: F.layer_norm(x, (4,), w, b, eps), *inputs
    )
    assert_same(lambda x, w: basic.layer_norm(x, w, eps=eps), lambda x, w: F.layer_norm(x, (4,), w, eps=eps), x, weight)
    assert_same(lambda x, w: basic.rms_norm(x, w, eps), lambda x, w: F.rms_norm(x, (4,), w, eps), x, weight)
    assert_same(lambda x: basic.rms_norm(x, eps=eps), lambda x: F.rms_norm(x, (4,), None, eps), x)
    assert basic.layer_norm(torch.full((1, 4), 7.0), weight, bias).tolist() == [bias.tolist()]  # a constant row


@pytest.mark.parametrize("bias", [True, False])
def test_modules_keep_their_weights_and_call_the_function(bias: bool) -> None:
    x, ids = torch.randn(2, 3, 4), torch.randint(0, 7, (2, 3))
    pairs = [
        (basic.Linear(4, 5, bias), nn.Linear(4, 5, bias), x),
        (basic.LayerNorm(4, bias, eps=0.2), nn.LayerNorm(4, bias=bias, eps=0.2), x),
        (basic.RMSNorm(4, eps=0.2), nn.RMSNorm(4, eps=0.2), x),
        (basic.Embedding(7, 4), nn.Embedding(7, 4), ids),
    ]
    for ours, theirs, argument in pairs:
        if isinstance(ours, basic.LayerNorm | basic.RMSNorm):  # at the start a norm only normalises
            assert_close(ours(argument), theirs(argument))
        for parameter in theirs.parameters():
            nn.init.normal_(parameter)
        ours.load_state_dict(theirs.state_dict())  # strict: the same names and shapes as torch
        y, expected = ours(argument), theirs(argument)
        assert_close(y, expected)
        upstream = torch.randn_like(y)
        y.backward(upstream)
        expected.backward(upstream)
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.grad is not None and reference.grad is not None
            assert_close(mine.grad, reference.grad)


def test_initial_weights_have_the_stated_spread() -> None:
    for weight in (basic.Linear(400, 300, std=0.05).weight, basic.Embedding(400, 300, std=0.05).weight):
        sigma = 0.05 / math.sqrt(2 * weight.numel())  # of a measured standard deviation
        assert abs(weight.std().item() - 0.05) < 5 * sigma
        assert abs(weight.mean().item()) < 5 * 0.05 / math.sqrt(weight.numel())
    assert not basic.Linear(4, 3).get_parameter("bias").any()


def test_dropout() -> None:
    n, p = 200_000, 0.3
    x = torch.randn(n).requires_grad_()
    y = basic.dropout(x, p, training=True, generator=torch.Generator().manual_seed(5))
    kept = y != 0
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    assert_close(y[kept], x[kept] / (1 - p))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert_close(gradient, kept / (1 - p))
    before = torch.get_rng_state()
    assert torch.equal(y, basic.dropout(x, p, True, torch.Generator().manual_seed(5)))
    assert not torch.equal(y, basic.dropout(x, p, True, torch.Generator().manual_seed(6)))
    assert torch.equal(before, torch.get_rng_state())  # a given generator is the only source
    assert torch.equal(basic.dropout(x, p, training=False), x)
    assert torch.equal(basic.dropout(x, 0.0, training=True), x)
    assert basic.dropout(x.float(), p, training=True).dtype == torch.float32


# ---- masks.py


def test_masks_are_their_definitions() -> None:
    for n_keys in range(1, 9):
        for n_queries in range(1, n_keys + 1):
            past = n_keys - n_queries
            causal = [[s <= past + t for s in range(n_keys)] for t in range(n_queries)]
            assert masks.causal_mask(n_queries, n_keys).tolist() == causal
            for window in (1, 2, 5):
                mask = masks.causal_mask(n_queries, n_keys) & masks.window_mask(n_queries, n_keys, window)
                expected = [[past + t - window < s <= past + t for s in range(n_keys)] for t in range(n_queries)]
                assert mask.tolist() == expected
    assert torch.equal(masks.causal_mask(5), masks.causal_mask(5, 5))
    with pytest.raises(ValueError, match=r"5 queries .* got 3"):
        masks.causal_mask(5, 3)


def test_masks_of_rows() -> None:
    padding = masks.padding_mask(torch.tensor([3, 0, 1]), 4)
    assert padding.int().tolist() == [[[[1, 1, 1, 0]]], [[[0, 0, 0, 0]]], [[[1, 0, 0, 0]]]]
    at = masks.position_mask(torch.tensor([[2, 3], [0, 1]]), 4)
    assert at.int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]], [[[1, 0, 0, 0], [1, 1, 0, 0]]]]
    documents = masks.document_mask(torch.tensor([[0, 0, 1], [4, 9, 9]]))
    assert documents.int().tolist() == [[[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], [[[1, 0, 0], [0, 1, 1], [0, 1, 1]]]]


# ---- positions.py


def test_sinusoidal_positions() -> None:
    table = positions.sinusoidal_positions(9, 6)
    for t in range(9):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-7)


PLACES = torch.tensor([[5, 9, 2], [0, 1, 70]])[:, None]  # (B, 1, T), neither sorted nor equal in the rows


def rotate_complex(x: Tensor, theta: float, first: list[int], second: list[int]) -> Tensor:
    """Read x[first] + i x[second] as complex numbers and multiply by e^(i * position * theta^(-2j/K))."""
    y = torch.empty_like(x)
    for j, (a, b) in enumerate(zip(first, second, strict=True)):
        turn = torch.exp(1j * PLACES * theta ** (-2 * j / x.shape[-1]))
        z = torch.complex(x[..., a], x[..., b]) * turn
        y[..., a], y[..., b] = z.real, z.imag
    return y


@pytest.mark.parametrize("theta", [500.0, 10000.0])
@pytest.mark.parametrize(
    ("rotate", "first", "second"),
    [
        (positions.rotate_half_split, [0, 1, 2], [3, 4, 5]),
        (positions.rotate_interleaved, [0, 2, 4], [1, 3, 5]),
    ],
)
def test_rotary_is_a_complex_multiplication(
    rotate: Callable[[Tensor, Tensor], Tensor], first: list[int], second: list[int], theta: float
) -> None:
    angles = positions.rotary_angles(PLACES, 6, theta)
    x = torch.randn(2, 5, 3, 6)
    assert_same(lambda x: rotate(x, angles), lambda x: rotate_complex(x, theta, first, second), x)
    assert_close(rotate(x, angles).norm(dim=-1), x.norm(dim=-1))
    # A dot product depends on the distance alone, and float32 stays exact far out.
    q, k = torch.randn(6), torch.randn(6)

    def score(i: int, j: int) -> float:
        a, b = (positions.rotary_angles(torch.tensor(p), 6, theta) for p in (i, j))
        return (rotate(q, a) @ rotate(k, b)).item()

    assert score(13, 4) == pytest.approx(score(1009, 1000), abs=1e-12)
    assert abs(score(13, 4) - score(13, 5)) > 1e-3
    far = positions.rotary_angles(torch.tensor(1_000_003), 6, theta)
    assert_close(rotate(q.float(), far).double(), rotate(q, far), 1e-6)


@pytest.mark.parametrize("name", ["basic", "masks", "positions", "attention", "kv_cache", "blocks"])
def test_examples_in_docstrings(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    assert doctest.testmod(importlib.import_module(f"minilm.layers.{name}")).failed == 0
