"""Attention for short contexts: what torch's own kernel says in float64, gradients included, and the number types it keeps."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minilm.fast.short_attention import scaled_dot_product_attention as short
from minilm.layers.attention import scaled_dot_product_attention as readable


def draw(B: int, H: int, G: int, T: int, S: int, K: int, V: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(T)
    shapes = ((B, H, T, K), (B, G, S, K), (B, G, S, V))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def some_mask(*shape: int) -> Tensor:
    """About half of it True, with rows in which nothing is, and rows in which all is."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[..., 1, :], mask[..., 2, :] = False, True
    return mask


def of_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """torch's kernel, row by row of the queries that see anything; the others are zeros."""
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    seen = mask.expand(*q.shape[:3], k.shape[2]).any(-1)
    full = mask | torch.ones((), dtype=torch.bool).where(~mask.any(-1, keepdim=True), False)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=full, enable_gqa=True)
    return torch.where(seen[..., None], out, 0.0)


@pytest.mark.parametrize("mask", [None, (5, 7), (1, 1, 5, 7), (3, 1, 5, 7), (3, 6, 5, 7)])
@pytest.mark.parametrize("G", [6, 3, 2, 1])
def test_values_and_gradients_are_those_of_torchs_kernel(mask: tuple[int, ...] | None, G: int) -> None:
    parts = draw(3, 6, G, 5, 7, 4, 9)
    which = None if mask is None else some_mask(*mask)
    weights = torch.randn(3, 6, 5, 9, dtype=torch.float64)
    ours, theirs = short(*parts, which), of_torch(*parts, which)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    if which is not None:
        assert not ours[:, :, 1].any()
    for a, b in zip(*(torch.autograd.grad((out * weights).sum(), parts) for out in (ours, theirs)), strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_where_nothing_may_be_seen_nothing_comes_out_and_nothing_goes_back() -> None:
    parts = draw(2, 4, 2, 3, 5, 4, 4)
    out = short(*parts, torch.zeros(3, 5, dtype=torch.bool))
    assert torch.equal(out, torch.zeros(2, 4, 3, 4, dtype=torch.float64))
    assert all(not gradient.any() for gradient in torch.autograd.grad(out.sum(), parts))


def test_huge_scores_stay_finite() -> None:
    q, k, v = draw(2, 3, 3, 4, 4, 5, 5, torch.float32)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    expected = readable(1e4 * q.double(), k.double(), v.double(), mask).float()
    torch.testing.assert_close(short(1e4 * q, k, v, mask), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("masked", [True, False])
def test_under_autocast_all_scores_are_bfloat16_and_as_near_as_the_readable_ones(masked: bool) -> None:
    parts = draw(2, 4, 2, 33, 33, 16, 16, torch.float32)
    mask = torch.ones(33, 33, dtype=torch.bool).tril() if masked else None
    exact = of_torch(*(part.double() for part in parts), mask)
    kept: list[Tensor] = []
    with torch.autocast("cpu", torch.bfloat16):
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
            ours = short(*parts, mask)
        theirs = readable(*parts, mask)
    assert ours.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in kept if tensor.shape[-2:] == (33, 33)} <= {torch.bfloat16, torch.bool}
    errors = [(out.double() - exact).square().mean() for out in (ours, theirs)]
    assert errors[0] < 2 * errors[1]
    ways_back = [torch.autograd.grad(out.double().square().sum(), parts) for out in (ours, theirs, exact)]
    for ours_back, theirs_back, exact_back in zip(*ways_back, strict=True):
        errors = [(gradient - exact_back).square().mean() for gradient in (ours_back, theirs_back)]
        assert errors[0] < 3 * errors[1]
