"""The cross-entropy that never holds all logits beside the plain one and torch's: time, and the memory kept for the way back."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from minilm.bench.attention import Contests, megabytes_kept
from minilm.fast.cross_entropy import next_token_loss as fused
from minilm.fast.loss import next_token_loss as by_torch
from minilm.layers.basic import Linear
from minilm.training.loss import LossFunction
from minilm.training.loss import next_token_loss as plain

TOKENS, D_MODEL, VOCABULARY = 2048, 128, 50_304


def contests() -> Contests:
    """What is compared, and the megabytes that each side keeps for its backward pass -> (ours, peer), each with both ways."""
    peers: dict[str, LossFunction] = {"plain": plain, "torch's": by_torch}
    ours = loss_of(fused)
    rows: Contests = {}
    for name, peer in ((name, loss_of(function)) for name, function in peers.items()):
        kept = " / ".join(f"{megabytes_kept(side):.0f}" for side in (ours, peer))
        rows[f"fused loss / {name}, V = {VOCABULARY:,} ({kept} MB kept)"] = (both_ways(ours), both_ways(peer))
    return rows


def loss_of(loss_function: LossFunction) -> Callable[[], Tensor]:
    """The loss of a model that is only a head: hidden states of TOKENS tokens, and their targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, TOKENS, D_MODEL, generator=generator, requires_grad=True)
    targets = torch.randint(VOCABULARY, (1, TOKENS), generator=generator)
    head = Linear(D_MODEL, VOCABULARY, bias=False)
    with torch.no_grad():
        head.weight.copy_(0.02 * torch.randn(head.weight.shape, generator=generator))
    model: Any = HeadAlone(hidden, head)
    return lambda: loss_function(model, targets, targets)


class HeadAlone(SimpleNamespace):
    """As much of a language model as a loss asks for: what stands behind the ids is always the same."""

    def __init__(self, hidden: Tensor, lm_head: Linear) -> None:
        super().__init__(hidden=lambda ids: hidden, lm_head=lm_head)

    def __call__(self, ids: Tensor) -> Tensor:
        return self.lm_head(self.hidden(ids))


def both_ways(loss: Callable[[], Tensor]) -> Callable[[], object]:
    """The loss, then its gradients."""
    return lambda: loss().backward()
