"""The exercises of lesson 03 on distributions: average them, draw from them. Oracles in loops, mistakes, alternatives."""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# interpolate(distributions, weights) -> (V,)


def some_distributions(seed: int) -> list[tuple[list[np.ndarray], list[float]]]:
    """Two to four distributions of several sizes, some with zeros; the weights are uneven, and one is 0."""
    rng = np.random.default_rng(seed)

    def distribution(vocab_size: int, zeros: int = 0) -> np.ndarray:
        numbers = rng.random(vocab_size) + 0.01
        numbers[rng.permutation(vocab_size)[:zeros]] = 0
        return numbers / numbers.sum()

    return [
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


# draw(probabilities, u) -> token

BELOW_1 = math.nextafter(1, 0)  # the greatest number that a generator can draw
SHORT = np.array([6, 5, 6, 2, 7, 5, 0]) / 31  # by rounding, its running sum reaches BELOW_1 and no more


def some_draws(seed: int) -> list[tuple[np.ndarray, float]]:
    """Zeros at the beginning, in the middle and at the end; u on a boundary, at 0 and just below 1."""
    rng = np.random.default_rng(seed)
    uneven = rng.permutation(np.array([0.05, 0.31, 0.0, 0.14, 0.22, 0.28]))
    quarters = np.array([0.0, 0.25, 0.0, 0.5, 0.25])
    return [
        *((uneven, float(u)) for u in rng.random(6)),
        *((quarters, u) for u in (0.0, 0.25, 0.6, 0.75)),
        (np.array([0.0, 0.0, 1.0, 0.0]), float(rng.random())),
        *((SHORT, u) for u in (0.5, BELOW_1)),
    ]


def along_the_line(
    p: np.ndarray, u: float, reaches: bool = False, past_the_end: str = "likely", early: int = 0, order: Any = None
) -> int | None:
    """Walk along the line from 0 to 1 until u is passed. The switches make the mistakes."""
    places, gone = range(len(p)) if order is None else order, 0.0
    for place, token in enumerate(places):
        gone += float(p[token])
        if gone > u or (reaches and gone == u):
            return place if past_the_end == "place" else int(token) - early
    ends = {"likely": max(i for i in range(len(p)) if p[i] > 0) - early, "last": len(p) - 1, "beyond": len(p)}
    return ends.get(past_the_end)


def mistaken(**switch: Any) -> Callable[..., int | None]:
    """The walk with switches thrown."""
    return lambda p, u: along_the_line(p, u, **switch)


def likeliest_first(p: np.ndarray, u: float) -> int | None:
    return along_the_line(p, u, order=np.argsort(-p, kind="stable"))


def rank(p: np.ndarray, u: float) -> int | None:
    return along_the_line(np.sort(p)[::-1], u, past_the_end="place")


def used_up(p: np.ndarray, u: float) -> int:
    for token in range(len(p)):
        u -= p[token]
        if u < 0:
            break
    while p[token] == 0:
        token -= 1
    return token


def bisected(p: np.ndarray, u: float) -> int:
    possible = [token for token in range(len(p)) if p[token] > 0]
    ends = list(itertools.accumulate(float(p[token]) for token in possible))
    return possible[min(bisect.bisect_right(ends, u), len(possible) - 1)]


DRAW = Exercise(
    "draw",
    "lay the probabilities behind one another on a line from 0 to 1: on whose piece does u fall? Keep a running sum",
    some_draws,
    along_the_line,
    (
        Mistake(
            "argmax",
            lambda p, u: int(p.argmax()),
            "the likeliest token always: u must decide, or every text is the same",
        ),
        Mistake(
            "at least for more than",
            mistaken(reaches=True),
            "what if u falls exactly between two pieces, or is 0 and the first token impossible? The sum must exceed u",
        ),
        Mistake(
            "nothing at the end",
            mistaken(past_the_end="none"),
            "the sum may stay a hair below 1 by rounding: what do you return when it never exceeds u?",
        ),
        Mistake(
            "beyond the end",
            mistaken(past_the_end="beyond"),
            "by rounding the sum may never exceed u: there is no token V",
        ),
        Mistake(
            "an impossible token",
            mistaken(past_the_end="last"),
            "when the sum never exceeds u, the last id may be a token of probability 0: which is the last possible one?",
        ),
        Mistake(
            "one too early", mistaken(early=1), "the token whose piece ends beyond u is the one, not the one before it"
        ),
        Mistake(
            "one too late",
            mistaken(early=-1),
            "you count one token too many: with u = 0 the first possible token is drawn",
        ),
        Mistake(
            "likeliest first",
            likeliest_first,
            "the pieces lie in the order of the ids: with another order the same u draws another token",
        ),
        Mistake("rank", rank, "a place in the sorted row is not a token: do not sort"),
        Mistake(
            "no running sum",
            lambda p, u: int(np.argmax(p > u)),
            "u is compared with what all tokens so far have together, not with a single probability",
        ),
        Mistake(
            "all alike",
            lambda p, u: int(u * len(p)),
            "each piece is as long as its probability, they are not all alike",
        ),
    ),
    (
        used_up,
        bisected,
        lambda p, u: min(int((np.cumsum(p) <= u).sum()), max(np.nonzero(p)[0])),
        lambda p, u: next(w for w in range(len(p)) if p[: w + 1].sum() > u * p.sum()),
    ),
)

EXERCISES = (INTERPOLATE, DRAW)
