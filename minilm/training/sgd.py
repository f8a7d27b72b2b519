"""Gradient descent with momentum: the plain step that Adam, AdamW and Muon refine."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from minilm.training.optim import Group, Memory, Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent: a step against the gradient, as long as the gradient (Robbins and Monro 1951).

    g = g + weight_decay · p
    u = momentum · u + g                 the velocity (Polyak 1964), at first g
    p = p - lr · u

    With momentum 0.9 a constant gradient is added up to ten times its length, one that changes its sign cancels. Nesterov
    (1983) looks one step ahead: p = p - lr · (g + momentum · u).
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
            velocity = memory["velocity"].mul_(self.momentum).add_(gradient)
            gradient = gradient.add(velocity, alpha=self.momentum) if self.nesterov else velocity
        p.sub_(gradient, alpha=group["lr"])
