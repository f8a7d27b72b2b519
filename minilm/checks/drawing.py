"""The exercise of lesson 03 that draws: an oracle that walks along the line, the mistakes that people make, other solutions."""

import bisect
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# draw(probabilities, u) -> token

BELOW_1 = math.nextafter(1, 0)  # the greatest number that a generator can draw
SHORT = np.array([6, 5, 6, 2, 7, 5, 0]) / 31  # by rounding, its running sum reaches BELOW_1 and no more
SHORTER = np.array([0.7, 0.2, 0.1, 0.0])  # and so does this one's


def some_draws(seed: int) -> list[tuple[np.ndarray, float]]:
    """First the lesson's own; then zeros at the beginning, in the middle and at the end; u on a boundary, at 0 and just below 1."""
    rng = np.random.default_rng(seed)
    uneven = rng.permutation(np.array([0.05, 0.31, 0.0, 0.14, 0.22, 0.28]))
    quarters = np.array([0.0, 0.25, 0.0, 0.5, 0.25])
    return [
        *((np.array([0.25, 0.0, 0.75]), u) for u in (0.2, 0.25, 0.0, 0.9)),
        (SHORTER, BELOW_1),
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


def tested_before(p: np.ndarray, u: float, guard: bool = True) -> int | None:
    gone = 0.0
    for token in range(len(p)):
        if gone > u:
            return token
        gone += float(p[token])
    return int(np.flatnonzero(p)[-1]) if guard else None


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
            "argmax of nothing",
            lambda p, u: int(np.argmax(np.cumsum(p) > u)),
            "if no running sum exceeds u, argmax finds no True and says 0: what should it be then?",
        ),
        Mistake(
            "tested before adding",
            tested_before,
            "add the token's own piece before you ask whether the sum exceeds u, or the next one is drawn",
        ),
        Mistake(
            "tested before adding, nothing at the end",
            lambda p, u: tested_before(p, u, guard=False),
            "two things: (1) add the token's own piece before you ask whether the sum exceeds u (2) after the loop, return a token",
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

EXERCISES = (DRAW,)
