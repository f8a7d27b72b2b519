"""Adam's lines in one kernel against the readable ones: weights and memory, step by step."""

import copy

import pytest
import torch
from torch import nn

from minilm.training.fused_adam import FusedAdamW, fits
from minilm.training.optim import AdamW, decay_groups

HOW = {"betas": (0.8, 0.97), "eps": 1e-3}


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(5, 37).to(dtype))
        self.turned = nn.Parameter(torch.randn(3, 2).to(dtype).mT)  # not contiguous
        self.vector = nn.Parameter(torch.randn(3).to(dtype))


def walk(model: nn.Module, optimizer: AdamW, steps: int, seed: int = 0) -> None:
    """Steps with gradients that are the same for every model, those of the matrix stored by columns at times."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(steps):
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            parameter.grad = gradient.mT.contiguous().mT if number % 3 == 1 and gradient.ndim == 2 else gradient
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_adamw_in_weights_and_memory(dtype):
    start = Model(dtype)
    sides = []
    for kind in (AdamW, FusedAdamW):
        model = copy.deepcopy(start)
        optimizer = kind(decay_groups(model, lr=0.03, weight_decay=0.7), **HOW)
        walk(model, optimizer, 7)
        sides.append({**dict(model.named_parameters()), **optimizer.state_arrays()})
    bound = 1e-12 if dtype is torch.float64 else 1e-5
    for name, wanted in sides[0].items():
        torch.testing.assert_close(sides[1][name], wanted, rtol=bound, atol=bound, msg=name)


@pytest.mark.parametrize(("first", "second"), [(AdamW, FusedAdamW), (FusedAdamW, AdamW), (FusedAdamW, FusedAdamW)])
def test_either_goes_on_with_the_memory_of_the_other(first, second):
    whole = Model()
    broken = copy.deepcopy(whole)
    optimizer = AdamW(decay_groups(whole, lr=0.03), **HOW)
    walk(whole, optimizer, 3)
    walk(whole, optimizer, 4, seed=1)
    before, after = (kind(decay_groups(broken, lr=0.03), **HOW) for kind in (first, second))
    walk(broken, before, 3)
    after.load_state_arrays(before.state_arrays())
    walk(broken, after, 4, seed=1)
    for got, wanted in zip(broken.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_the_kernel_is_asked_for_what_lies_side_by_side_from_the_second_step_on(monkeypatch):
    asked, kernel = [], torch._fused_adam_

    def spy(parameters, *others, **how):
        asked.append(tuple(parameters[0].shape))
        return kernel(parameters, *others, **how)

    monkeypatch.setattr(torch, "_fused_adam_", spy)
    model = Model()
    optimizer = FusedAdamW(decay_groups(model), **HOW)
    walk(model, optimizer, 1)
    assert asked == []
    walk(model, optimizer, 2)  # in the second of them the matrix has a gradient stored by columns
    assert asked == [(5, 37), (3,), (3,)]


def test_fits():
    x = torch.zeros(2, 3)
    assert fits(x, torch.zeros(2, 3))
    assert not fits(x, torch.zeros(3, 2).mT)
    assert not fits(x.mT, torch.zeros(3, 2))
    assert not fits(x, torch.zeros(2, 3, dtype=torch.float64))
    assert not fits(x, torch.zeros(2, 3, device="meta"))
