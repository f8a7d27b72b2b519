"""Cross-entropy against torch's own, and at its edges."""

import math

import pytest
import torch
from torch.nn import functional as F

from minilm.training.loss import IGNORE, cross_entropy


def make_case(shape: tuple[int, ...], vocab_size: int, ignored: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 5.0 * torch.randn(*shape, vocab_size, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocab_size, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < ignored] = IGNORE
    return logits, targets


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], ignored: float) -> None:
    logits, targets = make_case(shape, 11, ignored, seed=len(shape))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = cross_entropy(ours, targets)
    reference = F.cross_entropy(theirs.reshape(-1, 11), targets.reshape(-1), ignore_index=IGNORE)
    torch.testing.assert_close(loss, reference, rtol=0, atol=1e-12)
    (3.7 * loss).backward()
    (3.7 * reference).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_another_ignore_index() -> None:
    logits, targets = make_case((3, 5), 11, 0.0, seed=1)
    targets[1, 2:] = 4  # a real token may serve as the label that is not counted
    reference = F.cross_entropy(logits.reshape(-1, 11), targets.reshape(-1), ignore_index=4)
    torch.testing.assert_close(cross_entropy(logits, targets, ignore_index=4), reference, rtol=0, atol=1e-12)


def test_a_uniform_guess_costs_log_v() -> None:
    targets = torch.tensor([[0, 4, 6], [2, IGNORE, IGNORE]])
    assert cross_entropy(torch.zeros(2, 3, 7), targets).item() == pytest.approx(math.log(7), abs=1e-6)


def test_nothing_counted_is_zero_with_zero_gradients() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 3), IGNORE))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("label", [-1, -99, -101, 7, 1000])
def test_labels_outside_the_vocabulary_are_refused(label: int) -> None:
    with pytest.raises(ValueError, match=rf"target {label} is not a token: labels go from 0 to 6, or are -100"):
        cross_entropy(torch.zeros(2, 3, 7), torch.tensor([[0, 1, 2], [3, label, -100]]))


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(5000.0)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, targets = make_case((13, 17), 101, 0.1, seed=3)
    half = logits.to(dtype)
    loss = cross_entropy(half, targets)
    assert loss.dtype == torch.float32
    reference = F.cross_entropy(half.double().reshape(-1, 101), targets.reshape(-1), ignore_index=IGNORE)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
