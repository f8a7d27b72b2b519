"""What only a mutation showed: mistakes that the tests of a file would not have seen."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from minilm.byhand import agreement
from minilm.byhand.bricks import Brick
from minilm.fast.attention import scaled_dot_product_attention
from minilm.layers.basic import Dropout


def test_a_dropout_module_drops_in_training_and_nowhere_else() -> None:
    x = torch.arange(1.0, 78.0).reshape(7, 11)
    dropout = Dropout(0.4)
    dropped = dropout(x)
    assert 0 < int((dropped == 0).sum()) < x.numel()
    torch.testing.assert_close(dropped[dropped != 0], x[dropped != 0] / 0.6)
    assert torch.equal(dropout.eval()(x), x)


def test_the_table_shows_the_worst_size_of_each_brick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that shows in one size only is not hidden by the sizes before and behind it."""

    def error_of(brick: Brick, seed: int) -> float:
        return (0.25, 0.75, 0.5)[seed]

    monkeypatch.setattr(agreement, "error_of", error_of)
    table = agreement.agreement()
    assert table and set(table.values()) == {0.75}


def test_no_kernel_is_asked_what_it_makes_of_an_empty_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels differ there: this one has NaN, as a softmax of nothing would have it. Ours are zeros, and so the gradients."""
    kernel = functional.scaled_dot_product_attention

    def strict(*inputs: Tensor, attn_mask: Tensor, **settings: bool) -> Tensor:
        return kernel(*inputs, attn_mask=attn_mask, **settings) / attn_mask.any(-1, keepdim=True)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", strict)
    q, k, v = (torch.randn(2, 3, length, width) for length, width in ((4, 5), (7, 5), (7, 6)))
    mask = torch.arange(7) < torch.tensor([3, 0])[:, None, None, None]  # (B, 1, 1, S): the second row sees nothing
    y = scaled_dot_product_attention(q.requires_grad_(), k, v, mask)
    y.sum().backward()
    assert y[0].isfinite().all() and y[0].all() and not y[1].any()
    assert q.grad is not None and q.grad[0].any() and not q.grad[1].any()
