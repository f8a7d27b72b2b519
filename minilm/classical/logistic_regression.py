"""Logistic regression: the weights under which the labels of the training texts are likeliest, kept small.

With P = softmax(X W + b), the probabilities (N, C) of counts X (N, V), and Y (N, C) the classes, a 1 in each row:

    loss(W, b)        =  - mean over texts of log P[its class]  +  strength / 2 * sum of W^2      (b goes free)
    gradient          =  X^T (P - Y) / N + strength W,   and for b the column sums of (P - Y) / N
    Hessian times v   =  the same with  P * (Xv - its mean under P)  in place of  P - Y

The loss is convex, so there is one best place and every way down leads there. Newton's method finds it: go to the minimum
of the parabola that fits here, halve the step while the loss does not fall, and repeat. The parabola's minimum comes from
conjugate gradients, which only multiply by the Hessian: it is never written down. Nothing is drawn at random.

At the minimum the weights of an n-gram have the sum 0 over the classes. Two classes: the usual one weight of an n-gram is
the difference of its two here, and it is penalised with strength / 4.

Cox (1958), "The regression analysis of binary sequences"; Dembo and Steihaug (1983), "Truncated-Newton algorithms".
"""

from collections.abc import Callable, Sequence

import numpy as np

from minilm.classical.bag_of_ngrams import BagOfNgrams, SparseCounts
from minilm.classical.classifier import LinearClassifier, cross_validated_nats, log_normalise
from minilm.classical.tuning import grid_search

TOLERANCE = 1e-9  # the length of the gradient, at which the search ends
MOST_STEPS = 200  # of Newton's method: ten are usual
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # the strongest first: it wins of equals


class LogisticRegression(LinearClassifier):
    """Multinomial logistic regression on the counts of n-grams; `strength` is the penalty's. `tune_strength` chooses it.

    >>> model = LogisticRegression(strength=0.01).fit(["good film", "bad film"], ["pos", "neg"])
    >>> [name for name, weight in model.heaviest("pos", 3)]
    ['good', 'film', 'bad']
    """

    def __init__(self, bag: BagOfNgrams | None = None, strength: float = 0.01) -> None:
        if not 0 < strength < float("inf"):
            raise ValueError(
                f"strength is {strength}: it must be a number above 0, or some weights would grow for ever"
            )
        super().__init__(bag)
        self.strength = strength

    def _solve(self, X: SparseCounts, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        theta = newton(Objective(X, Y, self.strength), np.zeros((X.shape[1] + 1, Y.shape[1])))
        return theta[:-1], theta[-1]


class Objective:
    """The loss as a function of theta (V + 1, C): the weights, and in the last row the bias."""

    def __init__(self, X: SparseCounts, Y: np.ndarray, strength: float) -> None:
        self.X, self.Y, self.strength = X, Y, strength

    def value(self, theta: np.ndarray) -> float:
        log_P = log_normalise(self._scores(theta))
        return float(-(log_P * self.Y).sum() / len(self.Y) + self.strength / 2 * (theta[:-1] ** 2).sum())

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """The slope of `value`: (V + 1, C)."""
        return self._pull_back(np.exp(log_normalise(self._scores(theta))) - self.Y, theta)

    def hessian_times(self, theta: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v -> how the gradient at theta changes along v: both (V + 1, C)."""
        P = np.exp(log_normalise(self._scores(theta)))

        def times(v: np.ndarray) -> np.ndarray:
            change = self._scores(v)
            return self._pull_back(P * (change - (P * change).sum(axis=1, keepdims=True)), v)

        return times

    def _scores(self, theta: np.ndarray) -> np.ndarray:
        return self.X @ theta[:-1] + theta[-1]

    def _pull_back(self, residuals: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Of residuals (N, C) of the scores to (V + 1, C), and the penalty's part for theta."""
        weights = self.X.transposed_matmul(residuals) / len(residuals) + self.strength * theta[:-1]
        return np.vstack([weights, residuals.mean(axis=0)])


def newton(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Where the objective is least, to a gradient no longer than TOLERANCE. ValueError if it does not get there."""
    value = objective.value(theta)
    for _ in range(MOST_STEPS):
        gradient = objective.gradient(theta)
        length = float(np.linalg.norm(gradient))
        if length <= TOLERANCE:
            return theta
        step = -conjugate_gradients(objective.hessian_times(theta), gradient, min(0.1, length**0.5) * length)
        slope, size = float((gradient * step).sum()), 1.0
        # The last digits of a loss are noise, so a fall too small to see counts as one.
        while size > 1e-10 and objective.value(theta + size * step) > value + 1e-4 * size * slope + 1e-14 * abs(value):
            size /= 2
        theta = theta + size * step
        value = objective.value(theta)
    raise ValueError(
        f"no minimum after {MOST_STEPS} steps, the gradient is {length:.0e} long: choose a greater strength"
    )


def conjugate_gradients(times: Callable[[np.ndarray], np.ndarray], target: np.ndarray, tolerance: float) -> np.ndarray:
    """x with A x = target, where times(x) = A x is positive (semi-)definite, until |target - A x| <= tolerance.

    Each direction is A-orthogonal to all before it, so no step undoes another. Hestenes and Stiefel (1952).
    """
    x, rest = np.zeros_like(target), target
    direction, square = rest, float((rest * rest).sum())
    for _ in range(target.size):
        if square <= tolerance**2:
            break
        ahead = times(direction)
        size = square / float((direction * ahead).sum())
        x, rest = x + size * direction, rest - size * ahead
        square, before = float((rest * rest).sum()), square
        direction = rest + square / before * direction
    return x


def tune_strength(
    texts: Sequence[str],
    labels: Sequence[str],
    bag: BagOfNgrams | None = None,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
) -> float:
    """The strength that predicts best, in nats per text, the training texts kept out of the training in their fold."""

    def nats(strength: float) -> float:
        return cross_validated_nats(lambda: LogisticRegression(bag, strength), texts, labels, folds)

    return grid_search(nats, {"strength": strengths})[0]["strength"]
