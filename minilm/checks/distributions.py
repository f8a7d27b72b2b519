"""The exercise of lesson 03 that averages distributions: an oracle in loops, the mistakes that people make, other solutions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# interpolate(distributions, weights) -> (V,)


def some_distributions(seed: int) -> list[tuple[list[np.ndarray], list[float]]]:
    """First two to do by hand; then two to four of several sizes, some with zeros; the weights are uneven, and one is 0."""
    rng = np.random.default_rng(seed)

    def distribution(vocab_size: int, zeros: int = 0) -> np.ndarray:
        numbers = rng.random(vocab_size) + 0.01
        numbers[rng.permutation(vocab_size)[:zeros]] = 0
        return numbers / numbers.sum()

    return [
        ([np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.2, 0.6])], [0.75, 0.25]),
        ([distribution(5), distribution(5)], [0.3, 0.7]),
        ([distribution(7), distribution(7, 2), distribution(7)], [0.55, 0.15, 0.3]),
        ([distribution(3), distribution(3), distribution(3, 1), distribution(3)], [0.1, 0.25, 0.45, 0.2]),
        ([distribution(4), distribution(4), distribution(4, 2)], [0.2, 0.0, 0.8]),
    ]


def token_by_token(distributions: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """One token after another, one distribution after another."""
    mixed = [0.0] * len(distributions[0])
    for token in range(len(mixed)):
        for i in range(len(weights)):
            mixed[token] += weights[i] * float(distributions[i][token])
    return np.array(mixed)


def reweighed(change: Callable[[list[float]], Sequence[float]]) -> Callable[..., np.ndarray]:
    """The average, with other weights than those given."""
    return lambda distributions, weights: token_by_token(distributions, change(weights))


def in_logarithms(distributions: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(sum(w * np.log(p) for w, p in zip(weights, distributions, strict=True)))


def in_logarithms_rescaled(distributions: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    p = in_logarithms(distributions, weights)
    return p / p.sum()


def nested(distributions: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    mixed = distributions[0]
    for w, p in zip(weights[1:], distributions[1:], strict=True):
        mixed = w * p + (1 - w) * mixed
    return mixed


def combined(how: Any) -> Callable[..., np.ndarray]:
    """The weighted distributions, joined by something else than a sum."""
    return lambda distributions, weights: how(np.array([w * p for w, p in zip(weights, distributions, strict=True)]))


INTERPOLATE = Exercise(
    "interpolate",
    "try it by hand for one token: its first probability times the first weight, plus the second times the second ...",
    some_distributions,
    token_by_token,
    (
        Mistake(
            "in logarithms",
            in_logarithms,
            "the probabilities themselves are averaged: in the logarithm one zero would win over all others",
        ),
        Mistake(
            "in logarithms, rescaled",
            in_logarithms_rescaled,
            "scaling the row to sum to 1 does not mend it: average the probabilities, not their logarithms",
        ),
        Mistake(
            "equal weights",
            reweighed(lambda weights: [1 / len(weights)] * len(weights)),
            "some distributions deserve more trust than others: use the weights",
        ),
        Mistake("no weights", reweighed(lambda weights: [1] * len(weights)), "a sum of n distributions sums to n"),
        Mistake("reversed", reweighed(lambda weights: weights[::-1]), "which weight belongs to which distribution?"),
        Mistake(
            "divided again",
            reweighed(lambda weights: [w / len(weights) for w in weights]),
            "the weights sum to 1 already: nothing is left to divide by",
        ),
        Mistake(
            "softmax of the weights",
            reweighed(lambda weights: [math.exp(w) / sum(map(math.exp, weights)) for w in weights]),
            "the weights are shares already: take them as they are",
        ),
        Mistake(
            "product",
            combined(lambda rows: rows.prod(axis=0)),
            "is it this distribution *or* that one: sum or product?",
        ),
        Mistake(
            "maximum", combined(lambda rows: rows.max(axis=0)), "every distribution has its say, not the loudest alone"
        ),
        Mistake(
            "one number", combined(lambda rows: rows.sum(axis=1)), "add up over the distributions, not over the tokens"
        ),
        Mistake(
            "one number for all",
            lambda distributions, weights: sum(w * float(p.sum()) for w, p in zip(weights, distributions, strict=True)),
            "the answer is a whole row: every token has an average of its own",
        ),
        Mistake(
            "np.average without its axis",
            lambda distributions, weights: np.average(distributions, weights=weights),
            "the list has n rows of V numbers, and there are n weights: say which of the two directions they belong to",
        ),
        Mistake(
            "wrong way round",
            lambda distributions, weights: np.dot(distributions, weights),
            "shapes (n, V) and (n,) do not fit that way round: a weight belongs to a whole row, not to a token",
        ),
        Mistake(
            "return in the loop",
            lambda distributions, weights: weights[0] * distributions[0],
            "only the first distribution got in: does your function return before the loop is through?",
        ),
        Mistake(
            "the first two",
            lambda distributions, weights: weights[0] * distributions[0] + weights[1] * distributions[1],
            "there may be more than two distributions: go through all of them",
        ),
        Mistake(
            "nested",
            nested,
            "each step shrinks what was mixed before: with three distributions, how much of the first one is left?",
        ),
    ),
    (
        lambda distributions, weights: np.average(distributions, axis=0, weights=weights),
        lambda distributions, weights: np.einsum("nv,n->v", np.array(distributions), np.array(weights)),
        lambda distributions, weights: sum(w * p for w, p in zip(weights, distributions, strict=True)),
        lambda distributions, weights: np.stack(distributions, axis=1) @ np.array(weights),
    ),
)


EXERCISES = (INTERPOLATE,)
