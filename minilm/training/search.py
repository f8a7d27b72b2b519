"""Searching for good options: what to try, how long to try it, and what a difference between two scores means.

A candidate is a dict of options, a score a number of which the lower is better (say, bits per byte). Nothing here knows a model,
and nothing is slow but the `score` that is passed in. Three ways to spend a budget:

    grid                every combination of a few values each
    draw                random combinations: each trial tries a new value of every option (Bergstra and Bengio 2012)
    successive_halving  many short trials, of which the best are tried longer (Jamieson and Talwalkar 2016)

Two trainings that differ in their seed alone have different scores too. How much is the `Spread`, and what two options differ by
means nothing unless it is larger than what seeds do: Student's t for groups of equal spread, Welch's (1947) for any two.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, stdev
from typing import Any, NamedTuple, TypeVar

from minilm.classical.tuning import grid as grid  # how a grid goes through its choices is written once

Candidate = TypeVar("Candidate")


# ---- what to try


@dataclass(frozen=True)
class Range:
    """The numbers from low to high, to draw from; `log` gives every factor of ten the same chance. ValueError for a wrong one.

    Two whole numbers make a range of whole numbers, both ends included.

    >>> Range(0.25, 1.25).draw(0.5), Range(2, 4).draw(0.99), Range(1e-4, 1e-2, log=True).draw(0.5)
    (0.75, 4, 0.001)
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range from {self.low} to {self.high}: give two numbers, the smaller one first")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range from {self.low}: it must begin above 0")

    def draw(self, uniform: float) -> float:
        """The number at that share of the range, from 0 (low) up to 1, which is excluded."""
        if not 0 <= uniform < 1:
            raise ValueError(f"uniform is {uniform}: it must be at least 0 and less than 1")
        return at_share(uniform, self.low, self.high, self.log)


def at_share(share: float, low: float, high: float, log: bool = False) -> float:
    """The number at that share of a range, from 0 (low) up to 1, which is excluded; `log` gives every factor the same width.

    Two whole numbers make whole ones, both ends included: every one of them has its part of the range.

    >>> at_share(0.5, 0.25, 1.25), at_share(0.99, 2, 4), at_share(0.5, 1e-4, 1e-2, log=True)
    (0.75, 4, 0.001)
    """
    whole = isinstance(low, int) and isinstance(high, int)
    end = high + 1 if whole else high
    number = low * (end / low) ** share if log else low + share * (end - low)
    return min(math.floor(number), int(high)) if whole else min(number, high)


def draw(space: Mapping[str, Range | Sequence[Any]], rng: random.Random) -> dict[str, Any]:
    """One random choice of options: of a Range a number, of a list one of its values, each with the same chance.

    Every option takes exactly one uniform number of `rng`, in the order of the names. So what is drawn k-th depends on the seed
    and k alone, not on how many follow, and an option whose range changes leaves the others as they were.

    >>> rng = random.Random(0)
    >>> [draw({"n_layers": Range(1, 8), "optimizer": ["adamw", "muon"]}, rng) for _ in range(2)]
    [{'n_layers': 7, 'optimizer': 'muon'}, {'n_layers': 4, 'optimizer': 'adamw'}]
    """
    chosen: dict[str, Any] = {}
    for name, choices in space.items():
        uniform = rng.random()
        if isinstance(choices, Range):
            chosen[name] = choices.draw(uniform)
        elif len(choices):
            chosen[name] = choices[int(uniform * len(choices))]
        else:
            raise ValueError(f"{name} has no values to draw from: give at least one")
    return chosen


# ---- how long to try it


class Round(NamedTuple):
    """One round of successive halving: each of the candidates had this budget and got the score in the same place."""

    budget: int
    candidates: list[Any]
    scores: list[float]
    kept: list[Any]  # who goes on, the best first; in the last round the winner alone

    @property
    def cost(self) -> int:
        """What the round costs, in the unit of the budget, with every candidate trained from its start."""
        return self.budget * len(self.candidates)


def successive_halving(
    candidates: Sequence[Candidate], score: Callable[[Candidate, int], float], budget: int, keep: int = 3
) -> list[Round]:
    """Try all candidates with a small budget, the best 1 / keep of them with `keep` times as much, and so on, to one winner.

    `budget` is what each candidate gets in the first round, say steps of training, and score(candidate, budget) trains from the
    start: a schedule that ends after 30 steps is another training than the first 30 of 90. n = keep^r candidates make r rounds of
    the same cost, n budget each: r n budget together. A grid that gives all of them the last round's budget pays n / keep times
    n budget.

    Of n candidates ceil(n / keep) go on; of equals the first, and NaN counts as infinite. ValueError without candidates, and if all
    scores of a round are infinite. The winner is rounds[-1].kept[0].

    >>> rounds = successive_halving([5, 1, 4, 2, 3, 6], lambda candidate, budget: candidate + 1 / budget, budget=10)
    >>> [(one.budget, len(one.candidates), one.kept, one.cost) for one in rounds]
    [(10, 6, [1, 2], 60), (30, 2, [1], 60)]
    """
    if not candidates:
        raise ValueError("there are no candidates: give at least one")
    if keep < 2 or budget < 1:
        raise ValueError(f"keep is {keep}, budget {budget}: keep must be at least 2 and the budget at least 1")
    rounds: list[Round] = []
    left = list(candidates)
    while not rounds or len(left) > 1:
        scores = [score(candidate, budget) for candidate in left]
        order = best_first(scores)
        if not order:
            raise ValueError(f"none of {len(left)} candidates has a score below infinity with a budget of {budget}")
        kept = [left[i] for i in islice(order, math.ceil(len(left) / keep))]
        rounds.append(Round(budget, left, scores, kept))
        left, budget = kept, budget * keep
    return rounds


def best_first(scores: Sequence[float]) -> list[int]:
    """The places of all finite scores, the lowest first, of equals the first one.

    >>> best_first([0.5, math.nan, 0.25, 0.5])
    [2, 0, 3]
    """
    return sorted((i for i in range(len(scores)) if math.isfinite(scores[i])), key=lambda i: scores[i])


def count_rounds(n: int, keep: int = 3) -> int:
    """How many rounds successive halving makes of n candidates.

    >>> [count_rounds(n) for n in (1, 3, 4, 9, 10, 27)]
    [1, 1, 2, 2, 3, 3]
    """
    rounds = 1
    while (n := math.ceil(n / keep)) > 1:
        rounds += 1
    return rounds


# ---- what a difference means


class Spread(NamedTuple):
    """Scores of one candidate with n seeds: their mean, their standard deviation (with n - 1), and what another candidate's mean of
    n seeds with the same deviation must differ by, to be more than chance (95 %, both sides). One seed: NaN, and infinity."""

    mean: float
    deviation: float
    n: int
    least_difference: float


def seed_spread(scores: Sequence[float], level: float = 0.95) -> Spread:
    """Mean and spread of a candidate's scores, and the least difference: t(2n - 2) deviation sqrt(2 / n).

    >>> spread = seed_spread([2.0, 2.25, 2.5])
    >>> spread.mean, spread.deviation, round(spread.least_difference, 4)  # t(4) = 2.7764
    (2.25, 0.25, 0.5667)
    """
    n = len(scores)
    if n == 0:
        raise ValueError("the spread of no scores: give at least one")
    if n == 1:
        return Spread(float(scores[0]), math.nan, 1, math.inf)
    deviation = stdev(scores)
    return Spread(fmean(scores), deviation, n, t_quantile((1 + level) / 2, 2 * n - 2) * deviation * math.sqrt(2 / n))


def welch(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> float:
    """What the means of two groups of scores, of any sizes and spreads, must differ by, to be more than chance.

    t(f) times the root of va + vb, where va = variance of a / size of a, and f = (va + vb)^2 / (va^2 / (na - 1) + vb^2 / (nb - 1)).
    Infinite where a group has one score only: its spread is unknown.
    """
    if min(len(a), len(b)) < 2:
        return math.inf
    va, vb = (stdev(group) ** 2 / len(group) for group in (a, b))
    if va + vb == 0:
        return 0.0
    degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    return t_quantile((1 + level) / 2, degrees) * math.sqrt(va + vb)


def exceeds(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> bool:
    """Whether the means of two groups of scores differ by more than chance: by more than `welch` asks for.

    >>> exceeds([2.0, 2.1, 1.9], [2.5, 2.6, 2.4]), exceeds([2.0, 2.1, 1.9], [2.1, 2.2, 2.0])
    (True, False)
    """
    return abs(fmean(a) - fmean(b)) > welch(a, b, level)


def paired(a: Sequence[float], b: Sequence[float], overlap: float = 0.0, level: float = 0.95) -> float:
    """As `welch`, for scores that belong together in pairs, as those of the same folds: a hard fold is hard for both.

    Only the differences spread: t(n - 1) deviation sqrt(1 / n + overlap). Trainings of k folds share most of their text, and so
    are no independent experiments: `overlap`, the size of the test over that of the training, 1 / (k - 1), makes up for that
    (Nadeau and Bengio 2003). ValueError for groups of different sizes.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    return math.inf if n < 2 else t_quantile((1 + level) / 2, n - 1) * stdev(differences) * math.sqrt(1 / n + overlap)


def t_quantile(p: float, degrees: float) -> float:
    """The number that a t-distributed one stays below with probability p: the tables' 12.706 for p = 0.975 and 1 degree.

    With t = sqrt(degrees) tan(angle) the probability from 0 to t is the integral of cos(angle)^(degrees - 1) over a constant. The
    angle is found by halving its interval. ValueError unless 0 < p < 1 and degrees >= 1.

    >>> round(t_quantile(0.975, 4), 4)
    2.7764
    """
    if not (0 < p < 1 and 1 <= degrees < math.inf):
        raise ValueError(f"p is {p}, degrees {degrees}: p must lie between 0 and 1, and degrees be at least 1")
    degrees = float(degrees)  # a tensor would be a hundred times slower
    if p < 0.5:
        return -t_quantile(1 - p, degrees)
    constant = math.sqrt(math.pi) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))
    low, high = 0.0, min(math.pi / 2, 40 / math.sqrt(degrees))  # beyond, many degrees leave nothing to add up
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if area(angle, degrees) < (p - 0.5) * constant else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def area(angle: float, degrees: float, parts: int = 200) -> float:
    """The integral of cos(x)^(degrees - 1) from 0 to the angle, by Simpson's rule."""
    heights = [math.cos(angle * i / parts) ** (degrees - 1) for i in range(parts + 1)]
    return angle / (3 * parts) * (heights[0] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2]) + heights[-1])
