"""The exercise of lesson 09 on the weight of a mixture. The oracle follows a slope; the mistakes are real ones."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Fit = Callable[[np.ndarray, np.ndarray], float]

# fit_mixture_weight(neural, counted) -> weight


def by_slope(neural: np.ndarray, counted: np.ndarray) -> float:
    """Where d/dw of the sum of log(w p + (1 - w) q) is 0, or an end: the slope only falls, so halve the interval."""

    def slope(weight: float) -> float:
        terms = []
        for a, b in zip(neural.tolist(), counted.tolist(), strict=True):
            p, q = math.exp(a - max(a, b)), math.exp(b - max(a, b))
            below = weight * p + (1 - weight) * q
            terms.append((p - q) / below if below else math.copysign(math.inf, p - q))
        return math.fsum(terms)

    if slope(0.0) <= 0:
        return 0.0
    if slope(1.0) >= 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


def score_inputs(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two to redo on paper; each model better in turn, by much and by little; one always better; numbers like -800."""
    rng = np.random.default_rng(seed)

    def scores(n: int, mean: float) -> np.ndarray:
        return -rng.gamma(0.6, mean / 0.6, n)

    a, b = scores(41, 1.2), scores(41, 2.0)
    close = scores(29, 1.5)
    low = np.array([-810.0, -800.0, -3.0, -900.0])
    return [
        (np.log([0.9, 0.1]), np.log([0.3, 0.3])),
        (np.log([0.2, 0.8, 0.5]), np.log([0.6, 0.3, 0.5])),
        (a, b),
        (scores(37, 2.5), scores(37, 1.0)),
        (close, close + rng.normal(0.0, 0.4, 29)),
        (a, a - 0.5),
        (b[:5] - 1.0, b[:5]),
        (low, np.array([-801.0, -812.0, -5.0, -897.0])),
    ]


def shares(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
    """The neural model's part in each mixed probability (the logarithms are moved first, so nothing underflows)."""
    top = np.maximum(neural, counted)
    mine, other = weight * np.exp(neural - top), (1 - weight) * np.exp(counted - top)
    return mine / (mine + other)


def plain_shares(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
    mine, other = weight * np.exp(neural), (1 - weight) * np.exp(counted)
    with np.errstate(invalid="ignore"):
        return mine / (mine + other)


def repeated(steps: int) -> Fit:
    """The weight becomes the mean share, so many times, from 1/2."""

    def fit(neural: np.ndarray, counted: np.ndarray) -> float:
        weight = 0.5
        for _ in range(steps):
            weight = float(shares(neural, counted, weight).mean())
        return weight

    return fit


def halved(
    steps: int = 45,
    share: Callable[..., np.ndarray] = shares,
    middle: Callable[..., Any] = np.mean,
    up: bool = True,
    bar: float | None = None,
) -> Fit:
    """Halve the interval; `up` is whether a larger mean share means that the weight must grow; `bar` stands for the weight."""

    def fit(neural: np.ndarray, counted: np.ndarray) -> float:
        low, high = 0.0, 1.0
        for _ in range(steps):
            weight = (low + high) / 2
            if (middle(share(neural, counted, weight)) > (weight if bar is None else bar)) == up:
                low = weight
            else:
                high = weight
        return (low + high) / 2

    return fit


def nan_from_underflow(neural: np.ndarray, counted: np.ndarray) -> float:
    """What shares of plain exps, averaged again and again, come to."""
    return math.nan if np.isnan(plain_shares(neural, counted, 0.5)).any() else halved()(neural, counted)


def on_a_grid(points: int) -> Fit:
    def fit(neural: np.ndarray, counted: np.ndarray) -> float:
        weights = np.linspace(0, 1, points)[1:-1]
        values = [np.logaddexp(neural + np.log(w), counted + np.log(1 - w)).sum() for w in weights]
        return float(weights[np.argmax(values)])

    return fit


def newton(neural: np.ndarray, counted: np.ndarray) -> float:
    """Newton's steps on the slope, kept inside an interval that shrinks."""
    top = np.maximum(neural, counted)
    p, q = np.exp(neural - top), np.exp(counted - top)
    low, high, weight = 0.0, 1.0, 0.5
    for _ in range(80):
        terms = (p - q) / (weight * p + (1 - weight) * q)
        low, high = (weight, high) if terms.sum() > 0 else (low, weight)
        step = weight + terms.sum() / (terms**2).sum()
        weight = float(step) if low < step < high else (low + high) / 2
    return weight


def until_it_stays(neural: np.ndarray, counted: np.ndarray) -> float:
    ratio = np.exp(np.clip(counted - neural, -700, 700))
    weight, before = 0.5, 0.0
    while abs(weight - before) > 1e-13 and 1e-11 < weight < 1 - 1e-11:
        before, weight = weight, float((weight / (weight + (1 - weight) * ratio)).mean())
    return weight


EARLY = "each repetition makes the weight better, and it is still moving: go on until it stays, to ten digits"

WEIGHT = Exercise(
    "fit_mixture_weight",
    "take weight 1/2 and compute the neural model's share of each token: is its mean above 1/2? Then the best weight is, too",
    score_inputs,
    by_slope,
    (
        Mistake(
            "one step", repeated(1), "the mean share at weight 1/2 is only a first step: what is it at the new weight?"
        ),
        *(
            Mistake(f"{n} steps", repeated(n), f"{n} steps of it are not the end: {EARLY}")
            for n in (2, 10, 20, 40, 100)
        ),
        Mistake("20 halvings", halved(20), "twenty halvings leave a millionth: ten digits need some more"),
        Mistake("10 halvings", halved(10), "ten halvings leave a thousandth: ten digits need many more"),
        Mistake(
            "the other's weight",
            lambda a, b: 1 - halved()(a, b),
            "the weight that is asked for is that of the neural model, the first argument",
        ),
        Mistake(
            "halved the wrong way", halved(up=False), "below the best weight the mean share is larger than the weight"
        ),
        Mistake(
            "compared with 1/2",
            halved(bar=0.5),
            "1/2 is only the first weight that is tried: compare the mean share with the weight in use",
        ),
        Mistake(
            "balanced",
            halved(up=False, bar=0.5),
            "at the best weight the mean share need not be 1/2: it is the weight itself",
        ),
        *(
            Mistake(
                f"a grid of {n}",
                on_a_grid(n),
                f"a grid of {n} weights gives few digits: where does the mean share cross the weight?",
            )
            for n in (11, 101, 1001)
        ),
        Mistake(
            "who wins",
            lambda a, b: float((a > b).mean()),
            "how often a model is better says nothing of how much: a token that it finds all but impossible costs dearly",
        ),
        Mistake(
            "the better model",
            lambda a, b: float(a.mean() > b.mean()),
            "averaging the two losses gives all weight to the lower one: average probabilities, token by token",
        ),
        Mistake(
            "share of the losses",
            lambda a, b: float(b.mean() / (a.mean() + b.mean())),
            "two mean losses do not know on which tokens each model errs: look at every token",
        ),
        Mistake(
            "share of the typical probabilities",
            lambda a, b: float(1 / (1 + np.exp(b.mean() - a.mean()))),
            "the mean over the tokens comes too early: first each token's share, then their mean",
        ),
        Mistake(
            "share of the mean probabilities",
            lambda a, b: float(np.exp(a).mean() / (np.exp(a).mean() + np.exp(b).mean())),
            "means of probabilities forget the tokens that were nearly impossible: first each token's share, then their mean",
        ),
        Mistake("median", halved(middle=np.median), "the mean of the shares is the weight, not their median"),
        Mistake(
            "underflow",
            nan_from_underflow,
            "exp(-800) is 0 for a computer, and 0 / 0 is nan: a share depends on the difference of the logarithms only",
        ),
        Mistake(
            "underflow, halved",
            halved(share=plain_shares),
            "exp(-800) is 0, 0 / 0 is nan, and a comparison with nan is always False: use the difference of the logarithms",
        ),
        Mistake(
            "underflow counted as nothing",
            halved(share=plain_shares, middle=np.nanmean),
            "a token whose probabilities are 0 for the computer has a share all the same: use the difference of the logarithms",
        ),
        Mistake(
            "the sum of shares",
            lambda a, b: float(shares(a, b, 0.5).sum()),
            "a weight lies between 0 and 1: take the mean of the shares, not their sum",
        ),
    ),
    (newton, until_it_stays, halved()),
)

EXERCISES = (WEIGHT,)
