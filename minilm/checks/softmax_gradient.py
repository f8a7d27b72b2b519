"""The exercise of lesson 04 on the softmax: its gradient. The oracle in loops, mistakes, alternatives."""

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
    """Small ones in quarters and eighths; one to three axes, the softmax along any of them; a probability that is 0."""
    rng = np.random.default_rng(seed)
    cases: list[Cache] = [
        (np.array([4.0, 8.0]), (np.array([0.25, 0.75]), -1)),
        (np.array([[1.0, 2.0, -4.0], [0.0, 8.0, 3.0]]), (np.array([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25]]), -1)),
        (np.array([[2.0, 1.0], [4.0, -8.0]]), (np.array([[0.5, 0.125], [0.5, 0.875]]), 0)),
    ]
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
            "always the first axis",
            lambda dout, cache: cache[0] * (dout - (cache[0] * dout).sum(0, keepdims=True)),
            "along which axis the probabilities sum to 1, says the cache: it is not always the first",
        ),
        Mistake(
            "softmax once more",
            lambda dout, cache: softmax_by_slopes(
                dout, (np.exp(cache[0]) / np.exp(cache[0]).sum(cache[1], keepdims=True), cache[1])
            ),
            "p in the cache is what came out of the softmax: it goes into the formula as it is",
        ),
        Mistake(
            "plus",
            softmax_formula(lambda p, dout, total: p * (dout + total(p * dout))),
            "where one probability grows the others shrink: with which sign does the sum come in?",
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

EXERCISES = (SOFTMAX,)
