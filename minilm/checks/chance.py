"""The exercise on what chance does to two groups: an oracle from the definitions, the mistakes of people, other solutions."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# welch(a, b, level=0.95) -> what the means must differ by

Numbers = Sequence[float]
NODES, WEIGHTS = np.polynomial.legendre.leggauss(160)


def student(p: float, degrees: float) -> float:
    """The number that Student's t stays below with probability p > 0.5: the density, integrated, and the interval halved."""
    height = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi * degrees)
    low, high = 0.0, 100.0
    for _ in range(70):
        t = (low + high) / 2
        density = height * (1 + (t * (NODES + 1) / 2) ** 2 / degrees) ** (-(degrees + 1) / 2)
        low, high = (t, high) if t / 2 * float(WEIGHTS @ density) < p - 0.5 else (low, t)
    return low


def from_pairs(a: Numbers, b: Numbers, level: float = 0.95) -> float:
    """Variances as half the mean square of the differences of all pairs; the degrees from the shares of the two errors."""
    if len(a) < 2 or len(b) < 2:
        return math.inf
    errors = []
    for group in (a, b):
        squares = [(x - y) ** 2 for i, x in enumerate(group) for y in group[:i]]
        errors.append(sum(squares) / len(squares) / 2 / len(group))
    if not any(errors):
        return 0.0
    share = errors[0] / sum(errors)
    degrees = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return student(0.5 + level / 2, degrees) * math.sqrt(sum(errors))


def satterthwaite(va: float, vb: float, na: int, nb: int) -> float:
    return (va + vb) ** 2 / (va**2 / (na - 1) + vb**2 / (nb - 1))


def pooled(a: Numbers, b: Numbers) -> float:
    """The root of the common variance times (1 / na + 1 / nb)."""
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in (a, b))
    return math.sqrt(squares / (len(a) + len(b) - 2) * (1 / len(a) + 1 / len(b)))


def asking(
    variance: Callable[[Numbers], float] = statistics.variance,
    size: Callable[[int], float] = float,
    error: Callable[..., float] = lambda va, vb, a, b: math.sqrt(va + vb),
    degrees: Callable[..., float] = satterthwaite,
    quantile: Callable[[float, float], float] = student,
    p: Callable[[float], float] = lambda level: (1 + level) / 2,
    alone: float | None = math.inf,
    equal: float | None = 0.0,
    answer: Callable[..., Any] = lambda limit, difference: limit,
) -> Any:
    """The short solution; the arguments make the mistakes. `alone` and `equal` None take no care of these cases."""

    def welch(a: Numbers, b: Numbers, level: float = 0.95) -> Any:
        if min(len(a), len(b)) < 2 and alone is not None:
            return alone
        va, vb = variance(a) / size(len(a)), variance(b) / size(len(b))
        if va + vb == 0 and equal is not None:
            return equal
        limit = quantile(p(level), degrees(va, vb, len(a), len(b))) * error(va, vb, a, b)
        return answer(limit, sum(a) / len(a) - sum(b) / len(b))

    return welch


def normal(p: float, degrees: float) -> float:
    return statistics.NormalDist().inv_cdf(p)


def numpy_variance(group: Numbers) -> float:
    return float(np.var(group, ddof=1)) if len(group) > 1 else math.nan


def arrays(a: Numbers, b: Numbers, level: float = 0.95) -> float:
    """With numpy: the squares of the standard errors as an array."""
    groups = [np.asarray(group, dtype=np.float64) for group in (a, b)]
    sizes = np.array([len(group) for group in groups])
    if (sizes < 2).any():
        return np.inf
    v = np.array([group.std(ddof=1) ** 2 for group in groups]) / sizes
    with np.errstate(invalid="ignore"):
        degrees = v.sum() ** 2 / (v**2 / (sizes - 1)).sum()
    return float(student(1 - (1 - level) / 2, degrees) * np.sqrt(v.sum())) if v.sum() > 0 else 0.0


def by_sums(a: Numbers, b: Numbers, level: float = 0.95) -> float:
    """Sums of squares, and the quantile's other end."""
    v, below = 0.0, 0.0
    for group in (a, b):
        n = len(group)
        if n == 1:
            return float("inf")
        mean = sum(group) / n
        part = sum((x - mean) ** 2 for x in group) / (n * (n - 1))
        v, below = v + part, below + part**2 / (n - 1)
    return v**0.5 * student((level + 1) / 2, v * v / below) if v else 0


def welch_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; groups of other sizes and spreads, other levels; a lone score; no spread at all."""
    rng = random.Random(seed)

    def group(n: int, mean: float, spread: float) -> list[float]:
        return [round(rng.gauss(mean, spread), 3) for _ in range(n)]

    return [
        ([2.0, 4.0], [5.0, 7.0], 0.95),
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0.95),
        ([2.5], [1.0, 2.0, 4.0], 0.95),
        ([1.0, 2.0], [3.0], 0.9),
        ([2.0, 2.0, 2.0], [3.0, 3.0], 0.95),
        ([1.5, 1.5, 1.5], group(4, 1.0, 0.5), 0.95),
        (group(3, 2.0, 0.1), group(5, 2.2, 0.4), 0.9),
        (group(6, -1.0, 2.0), group(4, 0.0, 0.3), 0.99),
        (group(12, 4.0, 0.5), group(7, 4.1, 0.6), 0.8),
    ]


ROWS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "variance with n",
        {"variance": statistics.pvariance},
        "the variance of a sample divides by n - 1: with so few seeds n makes it far too small (np.var needs ddof=1)",
    ),
    (
        "deviation for variance",
        {"variance": statistics.stdev},
        "va is the *variance* divided by the size, so the square of the standard deviation",
    ),
    (
        "not divided by the size",
        {"size": lambda n: 1.0},
        "a mean of n scores spreads less than one score: divide each variance by the size of its group",
    ),
    (
        "divided by the root",
        {"size": math.sqrt},
        "the variance is divided by n; it is the standard deviation that is divided by the root of n",
    ),
    (
        "divided by n - 1",
        {"size": lambda n: n - 1.0},
        "n - 1 has its place inside the variance: the variance itself is divided by n",
    ),
    (
        "deviations added",
        {"error": lambda va, vb, a, b: math.sqrt(va) + math.sqrt(vb)},
        "variances add up, standard deviations do not: add first, then take the root",
    ),
    (
        "no root",
        {"error": lambda va, vb, a, b: va + vb},
        "va + vb is a variance: its root is what t is multiplied by",
    ),
    (
        "one spread for both",
        {"error": lambda va, vb, a, b: pooled(a, b), "degrees": lambda va, vb, na, nb: na + nb - 2},
        "this is Student's test, which takes both groups to spread alike; Welch lets each have its own variance",
    ),
    (
        "degrees of Student",
        {"degrees": lambda va, vb, na, nb: na + nb - 2},
        "na + nb - 2 degrees are right where both groups spread alike: here f has a formula of its own",
    ),
    (
        "degrees of the smaller group",
        {"degrees": lambda va, vb, na, nb: min(na, nb) - 1},
        "min(na, nb) - 1 is on the safe side, and too strict: use the formula for f",
    ),
    (
        "degrees with n",
        {"degrees": lambda va, vb, na, nb: (va + vb) ** 2 / (va**2 / na + vb**2 / nb)},
        "in the formula for f the squares are divided by na - 1 and nb - 1",
    ),
    (
        "degrees from the variances",
        {
            "degrees": lambda va, vb, na, nb: (
                (va * na + vb * nb) ** 2 / ((va * na) ** 2 / (na - 1) + (vb * nb) ** 2 / (nb - 1))
            )
        },
        "va and vb in the formula for f are the variances *divided by the sizes*, as before",
    ),
    (
        "degrees without a square",
        {"degrees": lambda va, vb, na, nb: max(1.0, (va + vb) / (va / (na - 1) + vb / (nb - 1)))},
        "the formula for f has squares, above and below",
    ),
    (
        "whole degrees",
        {"degrees": lambda va, vb, na, nb: math.floor(satterthwaite(va, vb, na, nb) + 1e-9)},
        "f need not be whole: rounding it down was for printed tables",
    ),
    (
        "normal",
        {"quantile": normal},
        "the normal distribution (1.96) takes the spread to be known; from a few scores it is a guess: t_quantile",
    ),
    ("one side", {"p": lambda level: level}, "either mean may be the larger one: half of 1 - level lies on each side"),
    (
        "level not used",
        {"p": lambda level: 0.975},
        "0.975 is right for a level of 0.95 only: `level` is an argument",
    ),
    (
        "the other end",
        {"p": lambda level: (1 - level) / 2, "quantile": lambda p, degrees: -student(1 - p, degrees)},
        "this quantile is below 0: the upper end is at 1 - (1 - level) / 2",
    ),
    (
        "a whole for a half",
        {"p": lambda level: 1 - (1 - level) / 4},
        "what is left beside the level, 1 - level, is cut into two halves, one for each side: not into four",
    ),
    (
        "t only",
        {"error": lambda va, vb, a, b: 1.0},
        "the quantile counts in standard errors: multiply it by the root of va + vb",
    ),
    (
        "the difference",
        {"answer": lambda limit, difference: abs(difference)},
        "this is what the means do differ by: asked for is what they must differ by",
    ),
    (
        "yes or no",
        {"answer": lambda limit, difference: abs(difference) > limit},
        "return the number that the difference must exceed: comparing comes later",
    ),
    (
        "lone score, error",
        {"alone": None},
        "one score has no spread that could be computed: then no difference is enough, math.inf",
    ),
    (
        "lone score, nothing",
        {"alone": 0.0},
        "from one score nothing is known of its spread: then no difference is enough, math.inf and not 0",
    ),
    (
        "lone score, None",
        {"alone": math.nan},
        "NaN compares as False with everything, so it would pass unseen: of a lone score say math.inf",
    ),
    (
        "no spread, error",
        {"equal": None},
        "where no group spreads, va + vb is 0 and f is 0 / 0: then any difference counts, so the limit is 0",
    ),
    (
        "no spread, endless",
        {"equal": math.inf},
        "scores that are all alike are very sure, not unsure: then the limit is 0",
    ),
)

WELCH = Exercise(
    "welch",
    "va = statistics.variance(a) / len(a), vb the same of b, f by the formula, then t_quantile((1 + level) / 2, f) times the root",
    welch_inputs,
    from_pairs,
    (
        *(Mistake(name, asking(**switches), hint) for name, switches, hint in ROWS),
        Mistake(
            "lone score, numpy",
            asking(variance=numpy_variance, alone=None),
            "np.var of one score with ddof=1 is NaN: ask for the sizes first, and return math.inf",
        ),
    ),
    (asking(), arrays, by_sums),
)

EXERCISES = (WELCH,)
