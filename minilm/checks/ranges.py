"""The exercise that finds a number at a share of a range: an oracle in steps, the mistakes that people make, other solutions."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# at_share(share, low, high, log=False) -> number

Finding = Callable[..., float]


def is_whole(low: float, high: float) -> bool:
    return isinstance(low, int) and isinstance(high, int)


def step_by_step(share: float, low: float, high: float, log: bool = False) -> float:
    """Whole numbers by going up as long as the next one begins at or below the share; others by logarithms in base 2."""

    def begins(number: float, end: float) -> float:
        return math.log2(number / low) / math.log2(end / low) if log else (number - low) / (end - low)

    if is_whole(low, high):
        number = low
        while number < high and begins(number + 1, high + 1) <= share:
            number += 1
        return number
    return 2 ** ((1 - share) * math.log2(low) + share * math.log2(high)) if log else low + (high - low) * share


def finding(
    whole: Callable[[float, float], bool] = is_whole,
    beyond: Callable[[float], float] = lambda high: high + 1,
    by_factor: Callable[[float, float, float], float] = lambda share, low, end: low * (end / low) ** share,
    by_sum: Callable[[float, float, float], float] = lambda share, low, end: low + share * (end - low),
    to_whole: Callable[[float], float] = math.floor,
    is_log: Callable[[bool, bool], bool] = lambda log, whole: log,
    of: Callable[[float], float] = lambda share: share,
) -> Finding:
    """The short solution; the arguments make the mistakes."""

    def at_share(share: float, low: float, high: float, log: bool = False) -> float:
        counted = whole(low, high)
        end = beyond(high) if counted else high
        number = (by_factor if is_log(log, counted) else by_sum)(of(share), low, end)
        return to_whole(number) if counted else number

    return at_share


def logarithms(share: float, low: float, high: float, log: bool = False) -> float:
    """Straight between the logarithms."""
    change, back = (math.log, math.exp) if log else (float, float)
    if type(low) is int and type(high) is int:
        return min(high, math.floor(back(change(low) + share * (change(high + 1) - change(low)))))
    return back(change(low) * (1 - share) + share * change(high))


def with_numpy(share: float, low: float, high: float, log: bool = False) -> float:
    """Ten to a power between two powers, and an array of all whole numbers."""
    if is_whole(low, high):
        numbers = np.arange(low, high + 1)
        ends = np.log10(np.append(numbers, high + 1)) if log else np.append(numbers, high + 1).astype(float)
        place = (1 - share) * ends[0] + share * ends[-1]
        return int(numbers[np.searchsorted(ends, place, side="right") - 1])
    return float(
        10 ** np.interp(share, [0, 1], np.log10([low, high])) if log else np.interp(share, [0, 1], [low, high])
    )


def range_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; then ranges of both kinds, below 0 too. A share of whole numbers lies well inside the part of one of them."""
    rng = random.Random(seed)
    cases: list[tuple[Any, ...]] = [
        (0.5, 1.0, 9.0, False),
        (0.5, 1.0, 9.0, True),
        (0.875, 2, 5, False),
        (0.125, -3, 4, False),
        (0.6, 1, 15, True),
        (rng.uniform(0.3, 0.4), 1.0, 9.0, False),
    ]
    for low, high, log in ((-0.3, 2.1, False), (2e-4, 0.3, True), (0.07, 0.11, True), (3, 4.5, False), (0.5, 2, True)):
        cases += [(share, low, high, log) for share in (0.0, rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.95))]
    for low, high, log in ((-4, 2, False), (7, 8, False), (2, 40, True), (16, 512, True)):
        for k in [*sorted(rng.sample(range(low, high + 1), 2)), high]:
            number = k + rng.uniform(0.15, 0.85)
            width = math.log(number / low) / math.log((high + 1) / low) if log else (number - low) / (high + 1 - low)
            cases.append((width, low, high, log))
    return cases


ROWS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "never by factors",
        {"is_log": lambda log, whole: False},
        "with log=True the same step of the share *multiplies*: halfway between 1 and 9 lies 3, not 5",
    ),
    (
        "always by factors",
        {"is_log": lambda log, whole: True},
        "with log=False the same step of the share *adds*: halfway between 1 and 9 lies 5",
    ),
    (
        "whole numbers never by factors",
        {"is_log": lambda log, whole: log and not whole},
        "whole numbers can have a logarithmic range, too: first find the number, then round down",
    ),
    (
        "ends taken for exponents",
        {"by_factor": lambda share, low, end: 10 ** (low + share * (end - low))},
        "low and high are the numbers themselves, not exponents of 10: take their logarithms first",
    ),
    (
        "left in logarithms",
        {"by_factor": lambda share, low, end: math.log(low) + share * (math.log(end) - math.log(low))},
        "this is the logarithm of the number: go back with exp",
    ),
    (
        "left in logarithms of 10",
        {"by_factor": lambda share, low, end: math.log10(low) + share * (math.log10(end) - math.log10(low))},
        "this is the logarithm in base 10 of the number: go back with 10 ** it",
    ),
    (
        "another base on the way back",
        {"by_factor": lambda share, low, end: 10 ** (math.log(low) + share * math.log(end / low))},
        "math.log is the natural logarithm: its way back is math.exp, while 10 ** belongs to math.log10",
    ),
    (
        "another base on the way back, e",
        {"by_factor": lambda share, low, end: math.exp(math.log10(low) + share * math.log10(end / low))},
        "math.log10 has the base 10: its way back is 10 **, while math.exp belongs to math.log",
    ),
    (
        "factor not raised",
        {"by_factor": lambda share, low, end: low * (end / low) * share},
        "half of the way is the *root* of the whole factor, not half of it: ** and not *",
    ),
    (
        "share of the top",
        {"by_factor": lambda share, low, end: low * end**share},
        "at share 1 this gives low times high: which factor leads from low to high?",
    ),
    (
        "width squeezed by a power",
        {"by_factor": lambda share, low, end: low + (end - low) ** share},
        "powers of the difference are no equal factors: look at high / low",
    ),
    (
        "from the other end",
        {"of": lambda share: 1 - share},
        "share 0 is low, and a share near 1 is near high: yours runs the other way",
    ),
    (
        "not moved to low",
        {
            "by_sum": lambda share, low, end: share * (end - low),
            "by_factor": lambda share, low, end: (end / low) ** share,
        },
        "at share 0 the answer is low: begin there",
    ),
    (
        "share of high",
        {"by_sum": lambda share, low, end: share * end},
        "at share 0 the answer is low: begin there, and add a share of the *difference*",
    ),
    ("not whole", {"to_whole": lambda number: number}, "two whole numbers ask for a whole one: round down"),
    (
        "high never comes",
        {"beyond": lambda high: high},
        "high belongs to the range, but rounded down it never comes: let the range of whole numbers end at high + 1",
    ),
    (
        "rounded to the nearest",
        {"beyond": lambda high: high, "to_whole": round},
        "rounded to the nearest, both ends get half a part only: round down, from a range that ends at high + 1",
    ),
    (
        "rounded and one more",
        {"to_whole": round},
        "a range that ends at high + 1 is rounded *down*: round may give high + 1 itself",
    ),
    (
        "cut at the point",
        {"to_whole": int},
        "int(-2.5) is -2, which is up: math.floor goes down below 0, too",
    ),
    ("rounded up", {"to_whole": math.ceil}, "rounded up, high + 1 comes and low does not: round down"),
    (
        "always whole",
        {"whole": lambda low, high: True},
        "only where low and high are *both* whole numbers (isinstance(low, int)) is the answer whole",
    ),
    (
        "whole where low is",
        {"whole": lambda low, high: isinstance(low, int)},
        "ask high as well: from 3 to 4.5 there are more than whole numbers",
    ),
    (
        "whole where high is",
        {"whole": lambda low, high: isinstance(high, int)},
        "ask low as well: from 0.5 to 2 there are more than whole numbers",
    ),
    (
        "whole by value",
        {"whole": lambda low, high: low == int(low) and high == int(high)},
        "1.0 is no whole number for Python: ask for the type, isinstance(low, int)",
    ),
    (
        "one more for all",
        {"whole": lambda low, high: False, "by_sum": lambda share, low, end: low + share * (end + 1 - low)},
        "the end is high + 1 for whole numbers only, and those are rounded down",
    ),
)

AT_SHARE = Exercise(
    "at_share",
    "which factor leads from low to high? Half of the way is its root, a share of the way this factor ** share",
    range_inputs,
    step_by_step,
    tuple(Mistake(name, finding(**switches), hint) for name, switches, hint in ROWS),
    (finding(), logarithms, with_numpy),
)

EXERCISES = (AT_SHARE,)
