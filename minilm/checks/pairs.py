"""The exercise on scores that belong together: an oracle from all pairs of differences, the mistakes of people, other solutions."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# paired(a, b, overlap=0.0, level=0.95) -> what the means must differ by

Numbers = Sequence[float]


def student(p: float, degrees: int) -> float:
    """The number that Student's t stays below with probability p > 0.5: the known sums for whole degrees, halved until exact."""
    low, high = 0.0, math.pi / 2
    for _ in range(70):
        angle = (low + high) / 2
        sine, cosine = math.sin(angle), math.cos(angle)
        term, total = (cosine, 0.0) if degrees % 2 else (1.0, 0.0)
        for k in range(2 + degrees % 2, degrees + 1, 2):  # cos + 2/3 cos^3 + ..., or 1 + 1/2 cos^2 + ...
            total += term
            term *= cosine**2 * (k - 1) / k
        inside = 2 / math.pi * (angle + sine * total) if degrees % 2 else sine * total  # the probability of -t to t
        low, high = (angle, high) if inside < 2 * p - 1 else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def from_pairs(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    """The variance of the differences as half the mean square of what each two of them differ by."""
    n = len(a)
    if n < 2:
        return math.inf
    squares = [((a[i] - b[i]) - (a[j] - b[j])) ** 2 for i in range(n) for j in range(i)]
    variance = sum(squares) / len(squares) / 2
    return student(0.5 + level / 2, n - 1) * math.sqrt(variance / n + variance * overlap)


def subtract(a: Numbers, b: Numbers) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def asking(
    differences: Callable[[Numbers, Numbers], list[float]] = subtract,
    deviation: Callable[[Numbers], float] = statistics.stdev,
    error: Callable[[float, int, float], float] = lambda s, n, overlap: s * math.sqrt(1 / n + overlap),
    degrees: Callable[[int], int] = lambda n: n - 1,
    quantile: Callable[[float, int], float] = student,
    p: Callable[[float], float] = lambda level: (1 + level) / 2,
    alone: float | None = math.inf,
    answer: Callable[[float, float], Any] = lambda limit, mean: limit,
) -> Any:
    """The short solution; the arguments make the mistakes. `alone` None takes no care of one pair."""

    def paired(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> Any:
        n = len(a)
        if n < 2 and alone is not None:
            return alone
        some = differences(a, b)
        return answer(quantile(p(level), degrees(n)) * error(deviation(some), n, overlap), sum(some) / n)

    return paired


def normal(p: float, degrees: int) -> float:
    return statistics.NormalDist().inv_cdf(p)


def two_groups(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    """As Welch would, had the groups nothing to do with each other."""
    if len(a) < 2:
        return math.inf
    va, vb = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    if va + vb == 0:
        return 0.0
    degrees = (va + vb) ** 2 / (va**2 + vb**2) * (len(a) - 1)
    return student(0.5 + level / 2, round(degrees)) * math.sqrt(va + vb)


def spreads_added(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    """With the variances of both groups in the place of that of the differences."""
    if len(a) < 2:
        return math.inf
    variance = statistics.variance(a) + statistics.variance(b)
    return student(0.5 + level / 2, len(a) - 1) * math.sqrt(variance * (1 / len(a) + overlap))


def spreads_subtracted(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    """With the difference of the two deviations in the place of the deviation of the differences."""
    if len(a) < 2:
        return math.inf
    gap = abs(statistics.stdev(a) - statistics.stdev(b))
    return student(0.5 + level / 2, len(a) - 1) * gap * math.sqrt(1 / len(a) + overlap)


def nan_alone(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    return math.nan if len(a) < 2 else from_pairs(a, b, overlap, level)


def arrays(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    """With numpy."""
    differences = np.subtract(a, b)
    n = differences.size
    if n == 1:
        return np.inf
    return student(1 - (1 - level) / 2, n - 1) * np.sqrt(differences.var(ddof=1) * (1 + n * overlap) / n)


def by_sums(a: Numbers, b: Numbers, overlap: float = 0.0, level: float = 0.95) -> float:
    """Sums of squares about the mean, in loops."""
    n, mean, squares = len(b), sum(b) / len(b) - sum(a) / len(a), 0.0
    for i in range(n):
        squares += (b[i] - a[i] - mean) ** 2
    if n <= 1:
        return float("inf")
    return student((level + 1) / 2, n - 1) * (squares / (n - 1)) ** 0.5 * (overlap + 1 / n) ** 0.5


def pair_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; then pairs that move together, with and without an overlap, at other levels; one pair; differences all alike."""
    rng = random.Random(seed)

    def folds(n: int, shift: float, spread: float) -> tuple[list[float], list[float]]:
        base = [rng.gauss(3.0, 1.0) for _ in range(n)]
        return [round(x, 3) for x in base], [round(x + rng.gauss(shift, spread), 3) for x in base]

    few, five, eight = folds(3, 0.2, 0.1), folds(5, -0.1, 0.2), folds(8, 0.3, 0.5)
    return [
        ([1.0, 4.0], [2.0, 3.0], 0.0, 0.95),
        ([1.0, 5.0, 9.0], [1.5, 5.0, 8.5], 0.0, 0.95),
        ([3.0], [2.0], 0.25, 0.95),
        ([1.0, 2.0, 4.0], [2.0, 3.0, 5.0], 0.5, 0.95),
        (*few, 0.5, 0.9),
        (*five, 0.0, 0.8),
        (*five, 0.25, 0.95),
        (*eight, 1 / 7, 0.99),
    ]


ROWS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "deviation with n",
        {"deviation": statistics.pstdev},
        "the deviation of a sample divides by n - 1: statistics.stdev, or np.std with ddof=1",
    ),
    (
        "variance for deviation",
        {"deviation": statistics.variance},
        "this multiplies by the variance: its root, the standard deviation, belongs here",
    ),
    (
        "sizes of the differences",
        {"differences": lambda a, b: [abs(x - y) for x, y in zip(a, b, strict=True)]},
        "keep the sign: that one fold is for a and another for b is just what spreads",
    ),
    (
        "sorted first",
        {"differences": lambda a, b: [x - y for x, y in zip(sorted(a), sorted(b), strict=True)]},
        "sorting tears the pairs apart: place i of both is the same fold",
    ),
    (
        "sums",
        {"differences": lambda a, b: [x + y for x, y in zip(a, b, strict=True)]},
        "what both have in common goes away in the *difference*",
    ),
    (
        "ratios",
        {"differences": lambda a, b: [x / y for x, y in zip(a, b, strict=True)]},
        "subtract, do not divide: the answer has the unit of the scores",
    ),
    (
        "overlap not used",
        {"error": lambda s, n, overlap: s * math.sqrt(1 / n)},
        "`overlap` is an argument: it is added to 1 / n, under the root",
    ),
    (
        "overlap outside the root",
        {"error": lambda s, n, overlap: s * (math.sqrt(1 / n) + overlap)},
        "the overlap is added to 1 / n *under* the root",
    ),
    (
        "overlap multiplies",
        {"error": lambda s, n, overlap: s * math.sqrt(1 / n * (1 + overlap))},
        "the overlap is added to 1 / n as it is: it does not grow smaller with n",
    ),
    (
        "overlap taken away",
        {"error": lambda s, n, overlap: s * math.sqrt(max(1 / n - overlap, 0.0))},
        "trainings that share their text tell less, so the limit grows with the overlap",
    ),
    (
        "overlap from the folds",
        {"error": lambda s, n, overlap: s * math.sqrt(1 / n + 1 / (n - 1))},
        "take `overlap` from the arguments: it is 1 / (n - 1) for folds, and 0 for seeds",
    ),
    (
        "not divided by n",
        {"error": lambda s, n, overlap: s * math.sqrt(1 + overlap)},
        "a mean of n differences spreads less than one: 1 / n stands under the root",
    ),
    (
        "divided by n",
        {"error": lambda s, n, overlap: s * (1 / n + overlap)},
        "the root is missing: variances are divided by n, deviations by its root",
    ),
    (
        "1 / (n - 1)",
        {"error": lambda s, n, overlap: s * math.sqrt(1 / (n - 1) + overlap)},
        "n - 1 is inside the deviation already: under the root stands 1 / n",
    ),
    ("degrees n", {"degrees": lambda n: n}, "n differences about their own mean leave n - 1 degrees"),
    (
        "degrees of two groups",
        {"degrees": lambda n: 2 * n - 2},
        "there is one group here, the differences: n - 1 degrees, not 2 n - 2",
    ),
    (
        "normal",
        {"quantile": normal},
        "1.96 and its like take the spread to be known: it comes from a few differences, so t_quantile",
    ),
    ("one side", {"p": lambda level: level}, "either may be the better one: half of 1 - level lies on each side"),
    (
        "level not used",
        {"p": lambda level: 0.975},
        "0.975 is right for a level of 0.95 only: `level` is an argument",
    ),
    ("t only", {"error": lambda s, n, overlap: 1.0}, "t counts in standard errors: multiply it by one"),
    (
        "standard error only",
        {"quantile": lambda p, degrees: 1.0},
        "this is one standard error: t_quantile says how many of them chance may make",
    ),
    (
        "the difference",
        {"answer": lambda limit, mean: abs(mean)},
        "this is what the means do differ by: asked for is what they must differ by",
    ),
    (
        "yes or no",
        {"answer": lambda limit, mean: abs(mean) > limit},
        "return the number that the difference must exceed: comparing comes later",
    ),
    ("lone pair, error", {"alone": None}, "one difference has no spread that could be computed: return math.inf"),
    (
        "lone pair, nothing",
        {"alone": 0.0},
        "of one difference the spread is not known: then no difference is enough, math.inf and not 0",
    ),
)

PAIRED = Exercise(
    "paired",
    "make one list of differences, place by place; their statistics.stdev is what matters, not that of a or b",
    pair_inputs,
    from_pairs,
    (
        *(Mistake(name, asking(**switches), hint) for name, switches, hint in ROWS),
        Mistake(
            "two groups",
            two_groups,
            "this is Welch's limit, as if the scores had nothing to do with each other: subtract pair by pair first",
        ),
        Mistake(
            "spreads added",
            spreads_added,
            "the variances of a and b add up only where they do not move together: take that of the differences",
        ),
        Mistake(
            "spreads subtracted",
            spreads_subtracted,
            "the deviation of the differences is not the difference of the deviations: subtract pair by pair first",
        ),
        Mistake(
            "lone pair, NaN",
            nan_alone,
            "NaN compares as False with everything, so it would pass unseen: of one pair say math.inf",
        ),
    ),
    (asking(), arrays, by_sums),
)

EXERCISES = (PAIRED,)
