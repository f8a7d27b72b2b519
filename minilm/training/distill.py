"""Distillation: a small model learns what a large one thinks of every token, not only which one came.

    loss = share * tau² * KL(teacher at tau || student at tau) + (1 - share) * cross-entropy

At the temperature tau the logits are divided by tau, which shows more of what the teacher holds for second and third best.
The gradient of the first term shrinks by 1 / tau², so tau² gives it back its size. Hinton, Vinyals and Dean (2015).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minilm.layers.basic import log_softmax
from minilm.runtime import evaluation_mode
from minilm.training.loss import IGNORE, LossFunction, cross_entropy


def distillation_loss(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean of tau² * KL(teacher || student) over the counted targets: logits (..., V) twice, targets (...) -> ().

    Positions whose target is ignored are left out, as in `cross_entropy`; without any, the loss is 0. The gradient with respect
    to the student's logits is tau * (p_student - p_teacher) / (counted targets), both at the temperature.
    """
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher's logits are {tuple(teacher.shape)}, the student's {tuple(student.shape)}: one vocabulary"
        )
    precision = torch.promote_types(student.dtype, torch.float32)
    wanted, found = (log_softmax(logits.to(precision) / temperature) for logits in (teacher, student))
    p = wanted.exp()
    ruled_out = p == 0  # by the teacher: 0 log 0 counts as 0
    terms = p * (wanted.masked_fill(ruled_out, 0.0) - found.masked_fill(ruled_out, 0.0))
    counted = targets != IGNORE
    return temperature**2 * terms.sum(-1).where(counted, 0.0).sum() / counted.sum().clamp(min=1)


def distilled(teacher: Callable[[Tensor], Tensor], share: float = 0.5, temperature: float = 1.0) -> LossFunction:
    """The loss for `train(loss_function=...)` of a student whose `teacher` is any model over the same tokens.

    `share` of it is the teacher's, the rest the text's. The teacher is asked without gradients and in evaluation mode.
    ValueError for a share outside 0 to 1 or a temperature that is not above 0.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the teacher's share of the loss is {share}: it must be from 0 to 1")
    if not 0 < temperature < math.inf:
        raise ValueError(f"the temperature of distillation is {temperature}: it must be above 0")

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = model(inputs)
        learned = distillation_loss(ask(teacher, inputs), logits, targets, temperature)
        return share * learned + (1 - share) * cross_entropy(logits, targets)

    return loss


@torch.no_grad()
def ask(teacher: Any, inputs: Tensor) -> Tensor:
    """The teacher's logits (B, T, V), without dropout; its mode is as before afterwards."""
    with evaluation_mode(teacher):
        return teacher(inputs)
