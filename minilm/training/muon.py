"""Muon: steps for matrices in which every direction counts the same (Jordan et al. 2024), with AdamW for the rest.

A gradient matrix G = U S Vᵀ is dominated by a few large singular values. Muon replaces S by ones: the step U Vᵀ is the
longest one whose spectral norm is 1, and it moves the rare directions as far as the frequent ones.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minilm.layers.basic import Embedding
from minilm.layers.ngram_embedding import NgramEmbedding
from minilm.training.config import TrainConfig
from minilm.training.fused_adam import FusedAdamW
from minilm.training.newton_schulz import orthogonalize, orthogonalize_by_gram
from minilm.training.optim import Adam, AdamW, Group, Memory, Optimizer, decay_groups
from minilm.training.sgd import SGD

HEADS = {"lm_head", "score"}  # what our models call the layer behind which logits come out: of tokens, of labels


class Muon(AdamW):
    """Muon in the groups that say "matrices": True, AdamW in all others. With Nesterov momentum:

    m = momentum m + (1 - momentum) g
    p = p - lr · weight_decay · p - lr · sqrt(max(1, R / C)) · orthogonalize((1 - momentum) g + momentum m)

    `orthogonalize` is a part: the readable one, or its fast twin.
    """

    def __init__(
        self,
        groups: list[Group],
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-10,
        momentum: float = 0.95,
        orthogonalize: Callable[[Tensor], Tensor] = orthogonalize,
    ) -> None:
        super().__init__(groups, betas=betas, eps=eps)
        self.momentum, self.orthogonalize = momentum, orthogonalize

    def update(self, p: Tensor, gradient: Tensor, memory: Memory, group: Group) -> None:
        if not group.get("matrices"):
            super().update(p, gradient, memory, group)
            return
        if "mean" not in memory:
            memory["mean"] = torch.zeros_like(p)
        mean = memory["mean"]
        mean.lerp_(gradient, 1.0 - self.momentum)
        direction = self.orthogonalize(gradient.lerp(mean, self.momentum))
        p.mul_(1.0 - group["lr"] * group["weight_decay"])
        p.add_(direction, alpha=-group["lr"] * math.sqrt(max(1.0, p.shape[0] / p.shape[1])))


def muon_groups(model: nn.Module, lr: float, matrix_lr: float, weight_decay: float) -> list[Group]:
    """The model's hidden matrices for Muon; embedding tables, heads (HEADS) and vectors for AdamW, as Jordan et al. do.

    A table's rows are tokens, each with its own frequency: they are no map whose directions could be made equal. The rows of a
    head are tokens or labels, and only a head's own size says how sure the model is.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, Embedding | NgramEmbedding)}
    groups = []
    for group in decay_groups(model, lr, weight_decay):
        for matrices in (True, False):
            chosen = [
                (name, p)
                for name, p in zip(group["names"], group["params"], strict=True)
                if matrices == (p.ndim == 2 and id(p) not in tables and not HEADS & set(name.split(".")))
            ]
            if chosen:
                names, params = zip(*chosen, strict=True)
                rate = matrix_lr if matrices else lr
                groups.append({**group, "names": list(names), "params": list(params), "lr": rate, "matrices": matrices})
    return groups


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer that the config names, over all parameters of the model that are not frozen."""
    betas = (config.beta1, config.beta2)
    if config.optimizer == "muon":
        groups = muon_groups(model, config.learning_rate, config.matrix_learning_rate, config.weight_decay)
        return Muon(groups, betas, momentum=config.momentum, orthogonalize=orthogonalize_by_gram)
    groups = decay_groups(model, config.learning_rate, config.weight_decay)
    if config.optimizer == "sgd":
        return SGD(groups, momentum=config.momentum)
    return (FusedAdamW if config.optimizer == "adamw" else Adam)(groups, betas=betas)
