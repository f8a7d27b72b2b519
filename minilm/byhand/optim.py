"""AdamW and gradient clipping, as in `training/optim.py`, for weights that are numpy arrays by name."""

from collections.abc import Iterable, Mapping

import numpy as np


def clip_grad_norm(gradients: Iterable[np.ndarray], max_norm: float) -> float:
    """Shorten the gradient, all arrays as one vector, in place to max_norm if it is longer. Returns its length before."""
    gradients = list(gradients)
    norm = float(np.sqrt(sum(float(np.vdot(g, g)) for g in gradients)))
    if max_norm < norm < np.inf:
        for g in gradients:
            g *= max_norm / norm
    return norm


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017). Per array of weights, with t its own count of steps:

    m = beta1 m + (1 - beta1) g          running mean of the gradients
    v = beta2 v + (1 - beta2) g²         running mean of their squares
    w = w - lr · weight_decay · w - lr · m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Matrices and tables decay, vectors (norms, biases) do not. `lr` is read at each step and may be changed.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.weights, self.lr, self.betas, self.eps, self.weight_decay = weights, lr, betas, eps, weight_decay
        self.steps = dict.fromkeys(weights, 0)
        self.means = {name: np.zeros_like(w) for name, w in weights.items()}
        self.squares = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, gradients: Mapping[str, np.ndarray]) -> None:
        """Change, in place, every array of weights that has a gradient. The others, and their memory, stay as they are."""
        beta1, beta2 = self.betas
        for name, g in gradients.items():
            w, mean, square = self.weights[name], self.means[name], self.squares[name]
            self.steps[name] += 1
            mean += (1.0 - beta1) * (g - mean)
            square += (1.0 - beta2) * (g * g - square)
            if w.ndim >= 2:
                w *= 1.0 - self.lr * self.weight_decay
            spread = np.sqrt(square / (1.0 - beta2 ** self.steps[name])) + self.eps
            w -= self.lr / (1.0 - beta1 ** self.steps[name]) * mean / spread
