"""The exercise of lesson 04 on the loss: the gradient of cross-entropy. Its oracle in loops, mistakes, alternatives."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Cache = tuple[Any, ...]
Backward = Callable[[Any, Cache], np.ndarray]

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
    """Small ones by hand, then drawn ones. Targets that are not counted, whose label is 0 in the cache; two that are equal; a
    batch without any target."""
    rng = np.random.default_rng(seed)
    cases = []

    def add(dout: float, x: np.ndarray, labels: np.ndarray, counted: np.ndarray) -> None:
        log_probs = x - np.log(np.exp(x).sum(-1, keepdims=True))
        labels = np.where(counted, labels, 0)[..., None]
        cases.append((dout, (log_probs, labels, counted, max(int(counted.sum()), 1))))

    add(1.0, np.log([[1.0, 3.0], [1.0, 1.0]]), np.array([1, 1]), np.array([True, True]))
    add(
        2.0,
        np.log([[1.0, 1.0, 2.0], [2.0, 1.0, 1.0], [1.0, 5.0, 2.0]]),
        np.array([2, 0, 1]),
        np.array([True, False, True]),
    )
    add(
        1.0,
        np.log([[[1.0, 3.0], [3.0, 1.0]], [[1.0, 1.0], [7.0, 1.0]]]),
        np.array([[1, 0], [1, 1]]),
        np.array([[1, 1], [1, 0]]) > 0,
    )
    for axes, V, dout in (((3,), 4, 1.0), ((5,), 7, 1.75), ((2, 3), 5, -0.6), ((4,), 3, 1.0)):
        counted = np.full(axes, V > 3)
        counted.flat[1] = False
        targets = rng.integers(1, V, axes)
        targets.flat[[0, 2]] = V - 1
        add(dout, rng.standard_normal((*axes, V)) * 2, targets, counted)
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


def counted_by_broadcast(dout: float, cache: Cache) -> np.ndarray:
    return loss_of_all(dout, cache) * cache[2]


def divided_by_who_counts(dout: float, cache: Cache) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return loss_row_by_row(dout, (*cache[:3], 1)) / cache[2].sum()


def labels_as_rows(dout: float, cache: Cache) -> np.ndarray:
    log_probs, labels, counted, n_counted = cache
    y = np.zeros_like(log_probs)
    y[labels] = 1.0
    return (np.exp(log_probs) - y) * counted[..., None] * dout / n_counted


def eye_with_an_axis(dout: float, cache: Cache) -> np.ndarray:
    log_probs, labels, counted, n_counted = cache
    return (np.exp(log_probs) - np.eye(log_probs.shape[-1])[labels]) * counted[..., None] * dout / n_counted


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
        Mistake(
            "mean over the first axis",
            loss_formula(lambda p, y, labels: p - y, lambda cache: len(cache[0])),
            "how many targets were counted stands in the cache: the first axis may be that of the texts",
        ),
        Mistake(
            "divided by nobody",
            divided_by_who_counts,
            "where no target counts, that is 0 / 0: the forward pass divided by the number in the cache",
        ),
        Mistake(
            "who counts along the wrong axis",
            counted_by_broadcast,
            "counted has an entry for each row, and numpy lines it up with the last axis: give it one more axis",
        ),
        Mistake(
            "one softmax of all rows",
            loss_formula(lambda p, y, labels: p / p.sum() - y),
            "each row is a softmax of its own: a sum without an axis goes over all of them",
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
            "labels as rows",
            labels_as_rows,
            "one index picks whole rows: each row needs its own place along the last axis",
        ),
        Mistake(
            "a row of y for each pair",
            eye_with_an_axis,
            "the labels come as (..., 1), so y got an axis more than p: compare their shapes",
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

EXERCISES = (CROSS_ENTROPY,)
