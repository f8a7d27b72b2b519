"""The exercises of lesson 04 on the way from scores to a loss: the gradients of softmax and cross-entropy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Cache = tuple[Any, ...]
Backward = Callable[[Any, Cache], np.ndarray]

# softmax_backward(dout, cache) -> dx; the cache is (p, dim)


def softmax_by_slopes(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """The chain rule as it stands: the slope of every probability i in every score j, one after the other."""
    p, d = (np.moveaxis(array, cache[1], -1) for array in (cache[0], dout))
    dx = np.zeros_like(p)
    for j in range(p.shape[-1]):
        for i in range(p.shape[-1]):
            dx[..., j] += d[..., i] * p[..., i] * ((i == j) - p[..., j])
    return np.moveaxis(dx, -1, cache[1])


def softmax_inputs(seed: int) -> list[Cache]:
    """One to three axes, the softmax along the first, a middle or the last; a probability that is 0."""
    rng = np.random.default_rng(seed)
    cases = []
    for axes, dim in (((4,), -1), ((3, 5), -1), ((4, 3), 0), ((2, 3, 4), 1), ((2, 3, 4), -1)):
        e = np.exp(rng.standard_normal(axes) * 1.5)
        e.flat[1] = 0.0
        cases.append((rng.standard_normal(axes) + 0.5, (e / e.sum(dim, keepdims=True), dim)))
    return cases


def softmax_formula(formula: Callable[..., np.ndarray]) -> Backward:
    """formula(p, dout, total), where total(x) is the sum along the axis of the softmax, kept as an axis of length 1."""
    return lambda dout, cache: formula(cache[0], dout, lambda x: x.sum(cache[1], keepdims=True))


def softmax_by_matrices(dout: np.ndarray, cache: Cache) -> np.ndarray:
    p, d = (np.moveaxis(array, cache[1], -1) for array in (cache[0], dout))
    slopes = p[..., None] * np.eye(p.shape[-1]) - p[..., None] * p[..., None, :]
    return np.moveaxis((slopes @ d[..., None])[..., 0], -1, cache[1])


SOFTMAX = Exercise(
    "softmax_backward",
    "take one score j: the way through its own probability, less what it takes from all of them. Which sum is the same for all j?",
    softmax_inputs,
    softmax_by_slopes,
    (
        Mistake(
            "diagonal only",
            softmax_formula(lambda p, dout, total: dout * p * (1 - p)),
            "a score moves every probability, not only its own: all of them sum to 1",
        ),
        Mistake(
            "sum left out",
            softmax_formula(lambda p, dout, total: p * dout),
            "a score that grows takes something away from the others: where is that part?",
        ),
        Mistake(
            "always the last axis",
            lambda dout, cache: softmax_by_slopes(dout, (cache[0], -1)),
            "the softmax runs along the axis dim of the cache, which need not be the last",
        ),
        Mistake(
            "axis lost",
            lambda dout, cache: cache[0] * (dout - (cache[0] * dout).sum(cache[1])),
            "a sum along an axis makes it vanish, and rows no longer meet their own sum: keepdims=True",
        ),
        Mistake(
            "one sum for all",
            lambda dout, cache: cache[0] * (dout - (cache[0] * dout).sum()),
            "each row is a softmax of its own, and has its own sum",
        ),
        Mistake(
            "mean for sum",
            lambda dout, cache: cache[0] * (dout - (cache[0] * dout).mean(cache[1], keepdims=True)),
            "the p are weights already: what they weigh is summed, not divided once more",
        ),
        Mistake(
            "not weighted",
            lambda dout, cache: cache[0] * (dout - dout.mean(cache[1], keepdims=True)),
            "it has the right answer, 0, where all dout are equal, but an average over i must be weighted with p_i",
        ),
        Mistake(
            "without p_i",
            softmax_formula(lambda p, dout, total: p * (dout - total(dout))),
            "the slope of p_i in another score is -p_i p_j: one of the two is missing in your sum",
        ),
        Mistake(
            "of the logarithm",
            softmax_formula(lambda p, dout, total: dout - p * total(dout)),
            "that is the gradient of log(softmax): here the probabilities themselves go on",
        ),
        Mistake(
            "without p_j",
            softmax_formula(lambda p, dout, total: dout - total(p * dout)),
            "a score whose probability is nearly 0 moves nearly nothing: what must stand in front?",
        ),
        Mistake(
            "sign",
            softmax_formula(lambda p, dout, total: p * (total(p * dout) - dout)),
            "raising a score raises its own probability: look at the sign",
        ),
    ),
    (
        softmax_by_matrices,
        softmax_formula(lambda p, dout, total: p * dout - p * total(p * dout)),
        softmax_formula(lambda p, dout, total: p * (dout * (1 - p) - (total(p * dout) - p * dout))),
    ),
)


# cross_entropy_backward(dout, cache) -> dlogits; the cache is (log_probs, labels, counted, n_counted)


def loss_row_by_row(dout: float, cache: Cache) -> np.ndarray:
    """One target, one score at a time: log p(target) = x_target - log sum exp(x)."""
    log_probs, labels, counted, n_counted = cache
    dlogits = np.zeros_like(log_probs)
    for place in np.ndindex(counted.shape):
        if counted[place]:
            for j in range(log_probs.shape[-1]):
                up = 1.0 if j == labels[place][0] else 0.0
                dlogits[place][j] = -(up - np.exp(log_probs[place][j])) / n_counted * dout
    return dlogits


def loss_inputs(seed: int) -> list[tuple[float, Cache]]:
    """Targets that are not counted and whose label is 0 in the cache; two that are equal; a batch without any target."""
    rng = np.random.default_rng(seed)
    cases = []
    for axes, V, dout in (((3,), 4, 1.0), ((5,), 7, 1.75), ((2, 3), 5, -0.6), ((4,), 3, 1.0)):
        x = rng.standard_normal((*axes, V)) * 2
        counted = np.full(axes, V > 3)
        counted.flat[1] = False
        targets = rng.integers(1, V, axes)
        targets.flat[[0, 2]] = V - 1
        labels = np.where(counted, targets, 0)[..., None]
        log_probs = x - np.log(np.exp(x).sum(-1, keepdims=True))
        cases.append((dout, (log_probs, labels, counted, max(int(counted.sum()), 1))))
    return cases


def loss_formula(formula: Callable[..., np.ndarray], divide_by: Any = lambda cache: cache[3]) -> Backward:
    """formula(p, y, labels) for the counted targets, where y is 1 at the target; 0 for the others; then the mean."""

    def backward(dout: float, cache: Cache) -> np.ndarray:
        log_probs, labels, counted, _ = cache
        y = (np.arange(log_probs.shape[-1]) == labels).astype(log_probs.dtype)
        rows = formula(np.exp(log_probs), y, labels)
        return np.where(counted[..., None], rows, 0.0) * dout / divide_by(cache)

    return backward


def every_target_in_every_row(p: np.ndarray, y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = p.copy()
    rows[..., labels.ravel()] -= 1.0
    return rows


def in_one_axis_of_rows(pick: Callable[[np.ndarray], np.ndarray]) -> Backward:
    """1 is taken away at (row, pick(labels)): made for rows that lie along one axis."""

    def backward(dout: float, cache: Cache) -> np.ndarray:
        rows = np.exp(cache[0])
        rows[np.arange(len(rows)), pick(cache[1])] -= 1.0
        return np.where(cache[2][..., None], rows, 0.0) * dout / cache[3]

    return backward


def loss_of_all(dout: float, cache: Cache) -> np.ndarray:
    return loss_row_by_row(dout, (*cache[:2], np.ones_like(cache[2]), cache[3]))


def loss_in_flat_rows(dout: float, cache: Cache) -> np.ndarray:
    log_probs, labels, counted, n_counted = cache
    rows = np.exp(log_probs).reshape(-1, log_probs.shape[-1])
    rows[np.arange(len(rows)), labels.ravel()] -= 1.0
    rows *= counted.reshape(-1, 1) * dout / n_counted
    return rows.reshape(log_probs.shape)


def loss_through_log_softmax(dout: float, cache: Cache) -> np.ndarray:
    log_probs, labels, counted, n_counted = cache
    d = np.zeros_like(log_probs)
    np.put_along_axis(d, labels, -dout * counted[..., None] / n_counted, -1)
    return d - np.exp(log_probs) * d.sum(-1, keepdims=True)


CROSS_ENTROPY = Exercise(
    "cross_entropy_backward",
    "begin with p for every row and take 1 away at its target: np.arange(V) == labels is True there. Then the mean, and who counts",
    loss_inputs,
    loss_row_by_row,
    (
        Mistake(
            "no mean",
            loss_formula(lambda p, y, labels: p - y, lambda cache: 1),
            "the loss is a mean: the more targets, the less each one of them moves it",
        ),
        Mistake(
            "mean over all",
            loss_formula(lambda p, y, labels: p - y, lambda cache: cache[2].size),
            "the mean was taken over the targets that count, so divide by their number",
        ),
        Mistake(
            "divided twice",
            loss_formula(lambda p, y, labels: p - y, lambda cache: cache[3] ** 2),
            "the mean divides once: look for a second division",
        ),
        Mistake(
            "divided by the vocabulary too",
            loss_formula(lambda p, y, labels: p - y, lambda cache: cache[3] * cache[0].shape[-1]),
            "the loss is a mean over targets, not over scores: how many losses are there in a row?",
        ),
        Mistake("all count", loss_of_all, "a target that is not counted cannot move the loss: what is its row, then?"),
        Mistake(
            "log p for p",
            loss_formula(lambda p, y, labels: np.log(p) - y),
            "the cache holds log p; the formula is about p",
        ),
        Mistake(
            "dout ignored",
            lambda dout, cache: loss_row_by_row(1.0, cache),
            "the loss may be a part of something larger: dout says how much that moves with it",
        ),
        Mistake(
            "sign",
            loss_formula(lambda p, y, labels: y - p),
            "a higher score of the target lowers the loss: which sign must the gradient have there?",
        ),
        Mistake(
            "target only",
            loss_formula(lambda p, y, labels: (p - y) * y),
            "the other scores matter too: each raises the sum under the fraction",
        ),
        Mistake(
            "target left out",
            loss_formula(lambda p, y, labels: p),
            "your answer would lower every score, the target's too: where does the target come in?",
        ),
        Mistake(
            "gradient of p",
            loss_formula(lambda p, y, labels: -y / p),
            "that is how the loss moves with the probabilities; go one step further down, through the softmax",
        ),
        Mistake(
            "label as a number",
            loss_formula(lambda p, y, labels: p - labels),
            "a label is a place in the row, not an amount: y is 1 at that place and 0 elsewhere",
        ),
        Mistake(
            "every target in every row",
            loss_formula(every_target_in_every_row),
            "each row has one target, its own: pair the row with its label when you pick the place",
        ),
        Mistake(
            "an axis too many",
            in_one_axis_of_rows(lambda labels: labels),
            "the labels come as (..., 1): with that last axis they meet every row, not each its own",
        ),
        Mistake(
            "one axis of rows",
            in_one_axis_of_rows(lambda labels: labels[:, 0]),
            "logits may come as (B, T, V): make one list of rows of them, or compare along the last axis",
        ),
    ),
    (loss_in_flat_rows, loss_through_log_softmax, loss_formula(lambda p, y, labels: p * (1 - y) + (p - 1) * y)),
)

EXERCISES = (SOFTMAX, CROSS_ENTROPY)
