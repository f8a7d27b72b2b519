"""The mixture of experts by hand, beside test_byhand: any k, experts that nobody chooses, ties, float32."""

import functools
from typing import Any

import numpy as np
import pytest
import torch

from minilm.byhand import basic, blocks, mixture_of_experts
from minilm.byhand.bricks import SIZES, Size, mixture_and_balance, mixture_and_balance_backward, mlp_weights
from minilm.byhand.parts import Part, outside
from minilm.layers import mixture_of_experts as layers
from minilm.layers.basic import gelu_tanh
from minilm.layers.blocks import MLP, SwiGLU

E = 6
GELU = (basic.gelu_tanh, basic.gelu_tanh_backward)
PARTS = (
    Part(functools.partial(blocks.mlp, activation=GELU), blocks.mlp_backward),
    Part(blocks.swiglu, blocks.swiglu_backward),
)
EXPERTS = tuple(PARTS[i % 2] for i in range(E))
ks = pytest.mark.parametrize("k", [1, 2, 5, E])
sizes = pytest.mark.parametrize("size", SIZES, ids=["B3", "B5", "B2"])


def inputs(size: Size, avoided: int = -1) -> dict[str, Any]:
    """x and weights; `avoided` is an expert that no token chooses."""
    generator = np.random.default_rng(size.B)
    x = generator.standard_normal((size.B, size.T, size.D))
    x[..., 0] = np.abs(x[..., 0]) + 0.1
    weights = {"router.weight": 0.5 * generator.standard_normal((E, size.D))}
    if avoided >= 0:
        weights["router.weight"][avoided] = -1000.0 * np.eye(size.D)[0]
    for i in range(E):
        weights |= outside(f"experts.{i}", mlp_weights(size, generator, gated=i % 2 == 1))
    return {"x": x, "weights": weights}


def torch_layer(size: Size, k: int, weights: dict[str, np.ndarray]) -> layers.MixtureOfExperts:
    experts = [SwiGLU(size.D, size.F) if i % 2 else MLP(size.D, size.F, gelu_tanh) for i in range(E)]
    layer = layers.MixtureOfExperts(experts, size.D, k).double()
    layer.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return layer


@ks
@sizes
@pytest.mark.parametrize("avoided", [-1, 3])
def test_it_is_the_layer(size: Size, k: int, avoided: int) -> None:
    if k == E:
        avoided = -1  # all are chosen
    given = inputs(size, avoided)
    layer = torch_layer(size, k, given["weights"])
    x = torch.tensor(given["x"], requires_grad=True)
    out = layer(x)
    expected = torch.cat([out.flatten(), layer.take_balance().reshape(1)])
    ours, cache = mixture_and_balance(**given, experts=EXPERTS, k=k)
    np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    upstream = np.random.default_rng(5).standard_normal(ours.shape)
    upstream[-1] *= 50.0  # the balance is one number of many
    expected.backward(torch.tensor(upstream))
    dx, gradients = mixture_and_balance_backward(upstream, cache)
    assert x.grad is not None
    np.testing.assert_allclose(dx, x.grad.numpy(), rtol=1e-10, atol=1e-10)
    assert gradients.keys() == given["weights"].keys()
    for name, parameter in layer.named_parameters():
        true = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        np.testing.assert_allclose(gradients[name], true.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)
        assert (parameter.grad is None and not gradients[name].any()) or not name.startswith(f"experts.{avoided}.")


@ks
def test_a_route_tells_only_the_scores_of_the_chosen(k: int) -> None:
    """And none with k = 1: the weight is 1 whatever the score."""
    generator = np.random.default_rng(k)
    logits, dweights = generator.standard_normal((9, E)), generator.standard_normal((9, k))
    weights, cache = mixture_of_experts.route(logits, k)
    expected, chosen = layers.route(torch.tensor(logits), k)
    assert (cache[0] == chosen.numpy()).all()
    np.testing.assert_allclose(weights, expected.numpy(), rtol=1e-12)
    dlogits = mixture_of_experts.route_backward(dweights, cache)
    assert (np.count_nonzero(dlogits, axis=-1) == (k if k > 1 else 0)).all()


def test_ties_go_to_the_lower_number() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    weights, (chosen, *_) = mixture_of_experts.route(logits, 3)
    assert chosen.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert weights == pytest.approx(np.full((2, 3), 1 / 3))
    many = np.random.default_rng(2).integers(0, 3, (4, 300)).astype(float)  # short rows are sorted in another way
    _, (chosen, *_) = mixture_of_experts.route(many, 120)
    for scores, own in zip(many.tolist(), chosen.tolist(), strict=True):
        assert own == sorted(range(300), key=lambda i: (-scores[i], i))[:120]
    assert layers.route(torch.tensor(many), 120)[1].tolist() == chosen.tolist()


def test_float32_stays_and_nothing_is_changed() -> None:
    given = inputs(SIZES[0])
    x, weights = given["x"].astype(np.float32), {n: w.astype(np.float32) for n, w in given["weights"].items()}
    kept = x.copy(), {name: array.copy() for name, array in weights.items()}
    (out, balance), cache = mixture_of_experts.mixture_of_experts(x, weights, EXPERTS, 2)
    dout = np.ones_like(out)
    dx, gradients = mixture_of_experts.mixture_of_experts_backward(dout, np.float32(1.0), cache)
    assert {array.dtype for array in (out, balance, dx, *gradients.values())} == {np.dtype(np.float32)}
    assert (dout == 1).all() and (x == kept[0]).all()
    assert all((weights[name] == array).all() for name, array in kept[1].items())
