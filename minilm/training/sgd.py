"""Gradient descent with momentum: the plain step that Adam, AdamW and Muon refine."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from minilm.training.optim import Group, Memory, Optimizer


def momentum_step(velocity: Tensor, gradient: Tensor, momentum: float, nesterov: bool) -> tuple[Tensor, Tensor]:
    """The new velocity, momentum · velocity + gradient, and the direction of the step: the velocity itself (Polyak 1964).

    Nesterov (1983) looks one step ahead: its direction is gradient + momentum · the new velocity.

    >>> momentum_step(torch.tensor([2.0]), torch.tensor([1.0]), momentum=0.5, nesterov=True)
    (tensor([2.]), tensor([2.]))
    """
    velocity = torch.add(gradient, velocity, alpha=momentum)
    return velocity, torch.add(gradient, velocity, alpha=momentum) if nesterov else velocity


class SGD(Optimizer):
    """Stochastic gradient descent: a step against the gradient, as long as the gradient (Robbins and Monro 1951).

    g = g + weight_decay · p
    u = momentum · u + g                 the velocity, at first g
    p = p - lr · u                       or, with Nesterov's look ahead, lr · (g + momentum · u)

    With momentum 0.9 a constant gradient is added up to ten times its length, one that changes its sign cancels.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Sequence[Group],
        lr: float = 1e-2,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        if nesterov and not momentum:
            raise ValueError("nesterov looks ahead along the momentum, which is 0: give a momentum, say 0.9")
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, p: Tensor, gradient: Tensor, memory: Memory, group: Group) -> None:
        gradient = gradient.add(p, alpha=group["weight_decay"])
        if self.momentum:
            if "velocity" not in memory:
                memory["velocity"] = torch.zeros_like(p)
            velocity = memory["velocity"]
            memory["velocity"], gradient = momentum_step(velocity, gradient, self.momentum, self.nesterov)
        p.sub_(gradient, alpha=group["lr"])
