"""Back-propagation through time by hand, three ways: central differences, autograd in layers/, and torch.nn's own."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from minilm.byhand import recurrent as byhand
from minilm.byhand.agreement import differentiable, error_of, gradients_of, upstream
from minilm.byhand.bricks import Brick
from minilm.layers.recurrent import LAYERS

SIZES = ((3, 5, 4, 6), (2, 4, 7, 3), (5, 2, 3, 4), (4, 1, 5, 2))  # B, T, width of the input, H
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
CELLS = list(GATES)
every_cell = pytest.mark.parametrize("cell", CELLS)
every_size = pytest.mark.parametrize("number", range(len(SIZES)))
both_biases = pytest.mark.parametrize("bias", [True, False])


def brick(cell: str, number: int, bias: bool = True, scale: float = 1.0) -> Brick:
    """A recurrent layer with random inputs, first states and weights."""
    B, T, d_in, H = SIZES[number]
    normal, n = np.random.default_rng([number, GATES[cell]]).standard_normal, GATES[cell] * H
    inputs = {"x": scale * normal((B, T, d_in)), "h": normal((B, H))}
    if cell == "lstm":
        inputs["c"] = 1.5 * normal((B, H))
    inputs |= {"weight_ih": 0.7 * normal((n, d_in)), "weight_hh": 0.9 * normal((n, H))}
    if bias:
        inputs |= {"bias_ih": normal(n), "bias_hh": 0.5 * normal(n)}
    return Brick(getattr(byhand, cell), getattr(byhand, f"{cell}_backward"), inputs)


@every_cell
@every_size
@both_biases
def test_against_central_differences(cell, number, bias):
    """TEST_PLAN 4.3: a random upstream gradient, rectangular sizes, 1e-7."""
    assert error_of(brick(cell, number, bias), number) < 1e-7


def torch_gradients(brick: Brick, forward, dout: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    tensors = {name: torch.tensor(array).requires_grad_() for name, array in brick.inputs.items()}
    out = forward(tensors)
    gradients = torch.autograd.grad(out, list(tensors.values()), torch.from_numpy(dout))
    return out.detach().numpy(), {name: gradient.numpy() for name, gradient in zip(tensors, gradients, strict=True)}


def readable(cell: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The layer of layers/recurrent.py with these weights."""
    bias = "bias_ih" in tensors
    layer = LAYERS[cell](tensors["x"].shape[2], tensors["h"].shape[1], bias).double()
    names = {"weight_ih": "input.weight", "weight_hh": "recurrent.weight"}
    names |= {"bias_ih": "input.bias", "bias_hh": "recurrent.bias"}
    weights = {names[name]: tensor for name, tensor in tensors.items() if name in names}
    state = (tensors["h"], tensors["c"]) if cell == "lstm" else (tensors["h"],)
    return torch.func.functional_call(layer, weights, (tensors["x"], state))[0]


def torchs(cell: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """torch.nn's module with these weights."""
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
    bias = "bias_ih" in tensors
    module = kind(tensors["x"].shape[2], tensors["h"].shape[1], bias=bias, batch_first=True).double()
    weights = {f"{name}_l0": tensor for name, tensor in tensors.items() if name not in ("x", "h", "c")}
    state = (tensors["h"][None], tensors["c"][None]) if cell == "lstm" else tensors["h"][None]
    return torch.func.functional_call(module, weights, (tensors["x"], state))[0]


@every_cell
@every_size
@both_biases
@pytest.mark.parametrize("peer", [readable, torchs])
def test_against_autograd(cell, number, bias, peer):
    """TEST_PLAN 4.3: 1e-12 against autograd, outputs and all gradients, those of the first state too."""
    some = brick(cell, number, bias)
    out, cache = some.forward(**some.inputs)
    dout = upstream(out, number)
    wanted_out, wanted = torch_gradients(some, functools.partial(peer, cell), dout)
    assert wanted_out.std() > 0.1
    np.testing.assert_allclose(out, wanted_out, rtol=0, atol=1e-12)
    got = gradients_of(some, dout, cache)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert np.abs(gradient).max() > 1e-3, name
        np.testing.assert_allclose(got[name], gradient, rtol=0, atol=1e-12 * max(1.0, np.abs(gradient).max()))


@every_cell
def test_arguments_stay_as_they_are_and_twice_is_the_same(cell):
    some = brick(cell, 0)
    for array in some.inputs.values():
        array.flags.writeable = False
    out, cache = some.forward(**some.inputs)
    dout = upstream(out, 0)
    dout.flags.writeable = False
    first, second = (gradients_of(some, dout, cache) for _ in range(2))
    assert differentiable(first).keys() == some.inputs.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@every_cell
def test_float32_stays_float32(cell):
    some = brick(cell, 0)
    inputs = {name: array.astype(np.float32) for name, array in some.inputs.items()}
    out, cache = some.forward(**inputs)
    assert out.dtype == np.float32
    gradients = some.backward(out, cache)
    assert {gradient.dtype for gradient in gradients} == {np.dtype(np.float32)}


@every_cell
def test_huge_inputs_raise_no_warning(cell):
    """Pitfall 49: gates that are shut or open to the last bit, forward and backward, without an overflow."""
    some = brick(cell, 0, scale=1e4)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        out, cache = some.forward(**some.inputs)
        gradients = some.backward(upstream(out, 0), cache)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert np.abs(out).max() > 0.5


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_the_gradient_of_the_first_state_goes_on_to_the_tokens_before(cell):
    """A text cut in two: what the second half says of its first state is one more gradient at the end of the first half."""
    some, cut = brick(cell, 0), 2
    x, h = some.inputs["x"], some.inputs["h"]
    weights = {name: array for name, array in some.inputs.items() if name.startswith(("weight", "bias"))}
    out, cache = some.forward(**some.inputs)
    dout = upstream(out, 3)
    whole = some.backward(dout, cache)
    later, later_cache = some.forward(x[:, cut:], out[:, cut - 1], **weights)
    np.testing.assert_allclose(later, out[:, cut:], rtol=0, atol=1e-14)
    back = some.backward(dout[:, cut:], later_cache)
    joined = dout[:, :cut].copy()
    joined[:, -1] += back[1]
    early = some.backward(joined, some.forward(x[:, :cut], h, **weights)[1])
    np.testing.assert_allclose(np.concatenate([early[0], back[0]], axis=1), whole[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(early[1], whole[1], rtol=0, atol=1e-13)
    for one, other, both in zip(early[2:], back[2:], whole[2:], strict=True):
        np.testing.assert_allclose(one + other, both, rtol=0, atol=1e-12)
