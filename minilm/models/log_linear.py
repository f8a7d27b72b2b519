"""The log-linear mixture: two models vote by multiplying. A token is likely if both find it so.

    p(w | context) = p_neural(w | context)^a * p_counted(w | context)^b / Z(context)

Z sums the product over all w, so that the probabilities add up to one: to score one token, both models must be asked about
every token of the vocabulary. The linear mixture (mixture.py) is an "or", this is an "and": one sure model can rule a
token out. The powers also sharpen or soften: (a, b) = (2, 0) is the neural model at temperature 1/2.

Log-linear interpolation: Klakow (1998). It is the product of experts of Hinton (2002) with powers.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from minilm.layers.basic import log_softmax
from minilm.models.mixture import MixtureCache, Pair, PairConfig

LEAST = -50.0  # nats: what a model finds less likely than e^-50 counts as that, so that the other can still decide


@dataclass(frozen=True, kw_only=True)
class LogLinearConfig(PairConfig):
    """Both models and the powers (a, b) of their probabilities."""

    powers: tuple[float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "powers", tuple(float(power) for power in self.powers))
        if len(self.powers) != 2 or not all(map(math.isfinite, self.powers)):
            raise ValueError(f"the powers of a log-linear mixture are {self.powers}: give two finite numbers")


class LogLinear(Pair):
    """ids (B, T) -> log-probabilities (B, T, V) of neural^a * counted^b, made to sum to one."""

    kind = "log-linear"

    def __init__(self, neural: Any, counted: Any, powers: tuple[float, float]) -> None:
        super().__init__(neural, counted, LogLinearConfig, powers=powers)

    def forward(self, ids: Tensor, cache: MixtureCache | None = None) -> Tensor:
        (neural, counted), (a, b) = self.both(ids, cache), self.config.powers
        return log_softmax(a * neural.clamp(min=LEAST) + b * counted.clamp(min=LEAST))


def fit_powers(neural: np.ndarray, counted: np.ndarray, targets: np.ndarray, steps: int = 20) -> tuple[float, float]:
    """The powers (a, b) under which the tokens `targets` (N,) are likeliest; both models' log-probabilities are (N, V).

    Give it text that neither model was trained on and that is not the validation split either. The mean log-probability
    is concave in (a, b): its gradient is what the two models say of the target, less what they say on average, and
    its curvature is minus their covariance. So Newton's method finds the one maximum; a step that does not climb is halved.
    """
    if neural.shape != counted.shape or neural.ndim != 2 or targets.shape != neural.shape[:1] or targets.size == 0:
        raise ValueError(
            f"need rows (N, V) of both and N targets, got {neural.shape}, {counted.shape}, {targets.shape}"
        )
    votes = np.maximum(np.stack([neural, counted]), LEAST)  # (2, N, V)
    powers = np.array([0.5, 0.5])
    value, gradient, curvature = climb(votes, targets, powers)
    for _ in range(steps):
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        while (new := climb(votes, targets, powers + step))[0] < value and np.abs(step).max() > 1e-9:
            step = step / 2
        if new[0] <= value:
            break
        powers, (value, gradient, curvature) = powers + step, new
    return float(powers[0]), float(powers[1])


def climb(votes: np.ndarray, targets: np.ndarray, powers: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean log-probability of the targets under these powers, its gradient (2,) and minus its curvature (2, 2)."""
    N = len(targets)
    value, gradient, curvature = 0.0, np.zeros(2), np.zeros((2, 2))
    for begin in range(0, N, 1024):
        part = votes[:, begin : begin + 1024].astype(np.float64)  # (2, n, V)
        target = part[:, np.arange(part.shape[1]), targets[begin : begin + 1024]]  # (2, n)
        scores = np.einsum("m,mnv->nv", powers, part)
        top = scores.max(1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(1, keepdims=True)
        p = weights / total
        flat, expected = part.reshape(2, -1), part * p
        mean = expected.sum(2)  # (2, n)
        value += float((powers @ target - (top + np.log(total))[:, 0]).sum())
        gradient += (target - mean).sum(1)
        curvature += expected.reshape(2, -1) @ flat.T - mean @ mean.T
    return value / N, gradient / N, curvature / N
