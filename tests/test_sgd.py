"""Gradient descent with momentum, step by step on paper. A thousand steps against torch are in test_optim.py."""

import pytest
import torch
from torch import Tensor, nn

from minilm.training.sgd import SGD


def steps(optimizer: SGD, p: Tensor, gradients: list[float]) -> list[float]:
    """Where p, all of whose elements are alike, stands after each step."""
    places = []
    for gradient in gradients:
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        assert (p == p.flatten()[0]).all()
        places.append(p.flatten()[0].item())
    return places


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.9, 0.7, 0.7]),
        ({"momentum": 0.5}, [0.9, 0.65, 0.525]),  # velocities 1, 2.5, 1.25
        ({"momentum": 0.5, "nesterov": True}, [0.85, 0.525, 0.4625]),  # 1 + 0.5, 2 + 1.25, 0 + 0.625
        ({"weight_decay": 1.0}, [0.8, 0.52, 0.468]),  # gradients 1 + 1, 2 + 0.8, 0 + 0.52
    ],
)
def test_three_steps_on_paper(settings: dict, expected: list[float]) -> None:
    p = nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    assert steps(SGD([p], lr=0.1, **settings), p, [1.0, 2.0, 0.0]) == pytest.approx(expected, abs=1e-12)


def test_a_constant_gradient_is_added_up_to_its_limit_and_a_changing_one_cancels() -> None:
    """With momentum m the velocity tends to 1 / (1 - m), or to 1 / (1 + m) where the sign changes at each step."""
    for gradients, limit in (([1.0] * 200, 10.0), ([(-1.0) ** i for i in range(201)], 1 / 1.9)):
        p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        places = steps(SGD([p], lr=0.5, momentum=0.9), p, gradients)
        assert places[-2] - places[-1] == pytest.approx(0.5 * limit, rel=1e-6)


def test_without_momentum_there_is_no_memory() -> None:
    p = nn.Parameter(torch.zeros(4))
    optimizer = SGD([p], lr=0.1)
    steps(optimizer, p, [1.0, 2.0])
    assert optimizer.state_arrays() == {}


def test_the_gradient_is_left_as_it_was() -> None:
    p = nn.Parameter(torch.ones(4))
    for settings in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        optimizer = SGD([p], lr=0.1, weight_decay=0.5, **settings)
        steps(optimizer, p, [3.0, 3.0])
        assert p.grad is not None
        assert torch.equal(p.grad, torch.full((4,), 3.0))


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov looks ahead along the momentum, which is 0: give a momentum"):
        SGD([nn.Parameter(torch.zeros(2))], nesterov=True)
