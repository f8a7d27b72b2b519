"""From gradients to better weights: what all optimizers share, and Adam and AdamW, written out.

An optimizer holds groups, dicts with "params", "names", "lr" (read at each step), "base_lr" (its peak, which the
schedule multiplies) and "weight_decay". Its memory is a few tensors a parameter, in float32 at least, saved by name.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minilm.training.rows import update_rows

Group = dict[str, Any]
Memory = dict[str, Any]  # of one parameter: tensors of its shape, and its count of steps, "step"


def decay_groups(model: nn.Module, lr: float = 1e-3, weight_decay: float = 0.1) -> list[Group]:
    """Two groups of the model's parameters: matrices and tables, which decay, and vectors (norms, biases), which don't.

    A matrix can shrink because the norm after it rescales; a norm's scale pulled towards 0 would silence its layer.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = []
    for decays in (True, False):
        chosen = [(name, p) for name, p in named if (p.ndim >= 2) == decays]
        if chosen:
            names, params = zip(*chosen, strict=True)
            decay = weight_decay if decays else 0.0
            groups.append({"names": list(names), "params": list(params), "lr": lr, "weight_decay": decay})
    return groups


def clip_factor(gradients: Sequence[Tensor], max_norm: float) -> tuple[float, float]:
    """The length of all gradients as one vector, and the factor that shortens it to max_norm: 1 if it is no longer.

    One factor for all keeps the direction (Pascanu et al. 2013). It is 1 for a length that is infinite or no number.

    >>> clip_factor([torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], max_norm=1.0)
    (5.0, 0.2)
    """
    if not gradients:
        return 0.0, 1.0
    lengths = [torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float32)) for g in gradients]
    norm = torch.linalg.vector_norm(torch.stack([length.to(lengths[0].device) for length in lengths])).item()
    return norm, max_norm / norm if max_norm < norm < math.inf else 1.0


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Shorten the gradient, all parameters as one vector, to max_norm if it is longer. Returns its length before.

    A gradient that is short enough is not touched at all.
    """
    gradients = [numbers(p) for p in parameters if p.grad is not None]
    norm, factor = clip_factor(gradients, max_norm)
    if factor < 1.0:
        for kind in {type(gradient) for gradient in gradients}:  # whole ones, and parts of some that are cut
            torch._foreach_mul_([gradient for gradient in gradients if type(gradient) is kind], factor)
    return norm


def numbers(p: Tensor) -> Tensor:
    """What the gradient of p holds: itself, or where it is sparse the rows that it names, each summed up."""
    if p.grad is None or not p.grad.is_sparse:
        return p.grad  # type: ignore[return-value]
    p.grad = p.grad.coalesce()
    return p.grad.values()


class Optimizer:
    """What SGD, Adam, AdamW and Muon share: groups, memory by name, and how it is saved. `update` is theirs."""

    def __init__(self, params: Iterable[Tensor] | Sequence[Group], lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        given: list[Any] = list(params)
        if not given:
            raise ValueError("the optimizer got no parameters: unfreeze at least one layer")
        self.groups: list[Group] = [dict(g) for g in given] if isinstance(given[0], dict) else [{"params": given}]
        self.memory: dict[str, Memory] = {}
        for number, group in enumerate(self.groups):
            group.setdefault("names", [f"{number}.{i}" for i in range(len(group["params"]))])
            group.setdefault("lr", lr)
            group.setdefault("base_lr", group["lr"])
            group.setdefault("weight_decay", weight_decay)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient. The others, and their memory, stay as they are."""
        for group in self.groups:
            for name, p in zip(group["names"], group["params"], strict=True):
                if p.grad is None:
                    continue
                dtype = torch.promote_types(p.dtype, torch.float32)
                memory = self.memory.setdefault(name, {})
                update = self.update_rows if p.grad.is_sparse else self.update
                if dtype is p.dtype:
                    update(p, p.grad, memory, group)
                    continue
                # In bfloat16 1 + 0.001 is 1: small steps are collected in a float32 copy of the weights.
                if "weights" not in memory:
                    memory["weights"] = p.to(dtype)
                update(memory["weights"], p.grad.to(dtype), memory, group)
                p.copy_(memory["weights"])

    def update(self, p: Tensor, gradient: Tensor, memory: Memory, group: Group) -> None:
        """Change one parameter in place, given its gradient and what `memory` keeps from earlier steps."""
        raise NotImplementedError  # each optimizer has its own

    def update_rows(self, p: Tensor, gradient: Tensor, memory: Memory, group: Group) -> None:
        """Change the rows of a table that a sparse gradient names; the same rule for all optimizers."""
        update_rows(p, gradient, memory, group["lr"])

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for group in self.groups:
            for p in group["params"]:
                p.grad = None

    def state_arrays(self) -> dict[str, Tensor]:
        """The memory as one flat dict, "name/what" -> tensor."""
        return {
            f"{name}/{what}": torch.as_tensor(value)
            for name, kept in self.memory.items()
            for what, value in kept.items()
        }

    def load_state_arrays(self, arrays: dict[str, Tensor]) -> None:
        """Take over what `state_arrays` gave. A name or shape that does not fit is a ValueError."""
        params = {name: p for group in self.groups for name, p in zip(group["names"], group["params"], strict=True)}
        memory: dict[str, Memory] = {}
        for key, value in arrays.items():
            name, _, what = key.rpartition("/")
            if name not in params or value.shape not in shapes(what, params[name]):
                raise ValueError(f"the saved optimizer's {key} {tuple(value.shape)} fits no parameter of this model")
            kept = memory.setdefault(name, {})
            kept[what] = int(value) if what == "step" else value.to(params[name].device, copy=True)
        self.memory = memory


def shapes(what: str, p: Tensor) -> tuple[tuple[int, ...], ...]:
    """The shapes that this memory of a parameter may have: one number, as many as it has, or one for each row."""
    return ((),) if what == "step" else (tuple(p.shape), (*p.shape[:1], 1))


def adam_direction(mean: Tensor, square: Tensor, t: int, beta1: float, beta2: float, eps: float) -> Tensor:
    """Adam's step for a learning rate of 1, from the running means of g and of g² after t updates, the first being 1.

    Both began at 0: dividing by 1 - beta^t removes that bias.

    >>> adam_direction(torch.tensor([0.5]), torch.tensor([0.25]), t=1, beta1=0.5, beta2=0.75, eps=1.0)
    tensor([0.5000])
    """
    spread = (square / (1.0 - beta2**t)).sqrt_().add_(eps)
    return torch.div(mean, spread, out=spread).div_(1.0 - beta1**t)


class Adam(Optimizer):
    """Steps of one size for all weights, whatever the size of their gradients (Kingma and Ba 2014).

    Per parameter, with g its gradient and t its own count of steps:

    g = g + weight_decay · p
    m = beta1 m + (1 - beta1) g          running mean of the gradients
    v = beta2 v + (1 - beta2) g²         running mean of their squares
    p = p - lr · m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    The means start at 0; dividing by 1 - beta^t removes that bias. So the first step moves every weight by lr.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Sequence[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.betas, self.eps = betas, eps

    def update(self, p: Tensor, gradient: Tensor, memory: Memory, group: Group) -> None:
        self.adapt(p, gradient.add(p, alpha=group["weight_decay"]), memory, group["lr"])

    def adapt(self, p: Tensor, gradient: Tensor, memory: Memory, lr: float) -> None:
        """The last three lines of the formula."""
        if "step" not in memory:
            memory.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        (beta1, beta2), mean, square = self.betas, memory["mean"], memory["square"]
        memory["step"] += 1
        mean.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        p.sub_(adam_direction(mean, square, memory["step"], beta1, beta2, self.eps), alpha=lr)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017): the pull towards 0 does not go through the means.

    p = p - lr · weight_decay · p        and then Adam's step, with the gradient as it is

    In Adam the pull is divided by sqrt(v) with the rest: weights with large gradients hardly decay. Here all do alike.
    """

    def update(self, p: Tensor, gradient: Tensor, memory: Memory, group: Group) -> None:
        p.mul_(1.0 - group["lr"] * group["weight_decay"])
        self.adapt(p, gradient, memory, group["lr"])
