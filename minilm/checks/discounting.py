"""The first exercise of lesson 11, absolute discounting: an oracle that goes token by token, mistakes, other right solutions."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Counts = Mapping[int, int]

# absolute_discount(counts, discount, shorter) -> (V,)


def each_token(
    counts: Counts,
    discount: float,
    shorter: np.ndarray,
    kept: Callable[[int, float], float] = lambda c, D: c - D if c else 0.0,
    given: Callable[[Counts, float], float] = lambda counts, D: D * len(counts),
    total: Callable[[Counts, float], float] = lambda counts, D: sum(counts.values()),
    spread: Callable[[np.ndarray, Counts], np.ndarray] = lambda shorter, counts: shorter,
) -> np.ndarray:
    """One token at a time: what its count keeps, and its part of what all counts give up. The switches make the mistakes."""
    if not counts:
        return shorter
    p, part = np.empty(len(shorter)), spread(shorter, counts)
    for token in range(len(shorter)):
        p[token] = (kept(counts.get(token, 0), discount) + given(counts, discount) * part[token]) / total(
            counts, discount
        )
    return p


def slip(**switch: Any) -> Any:
    """The oracle with switches thrown."""
    return lambda counts, discount, shorter: each_token(counts, discount, shorter, **switch)


def only_unseen(shorter: np.ndarray, counts: Counts) -> np.ndarray:
    """The shorter context's probabilities of what was not seen, made to sum to 1."""
    part = np.array([0.0 if token in counts else p for token, p in enumerate(shorter)])
    return part / part.sum()


def unguarded(counts: Counts, discount: float, shorter: np.ndarray) -> np.ndarray:
    total = sum(counts.values())
    given = discount * len(counts) / total
    return np.array([max(counts.get(w, 0) - discount, 0) / total + given * shorter[w] for w in range(len(shorter))])


def in_one_line(counts: Counts, discount: float, shorter: np.ndarray) -> np.ndarray:
    c = np.array([counts.get(w, 0) for w in range(len(shorter))], dtype=float)
    return (np.maximum(c - discount, 0) + discount * (c > 0).sum() * shorter) / c.sum() if c.any() else shorter


def what_is_missing(counts: Counts, discount: float, shorter: np.ndarray) -> np.ndarray:
    p = np.zeros(len(shorter))
    for token, count in counts.items():
        p[token] = (count - discount) / sum(counts.values())
    return p + (1 - p.sum()) * shorter


def discount_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Contexts with one, some and many different tokens, of very different counts, and one never seen."""
    rng = np.random.default_rng(seed)
    cases: list[tuple[Any, ...]] = []
    for V, seen, discount in ((7, 3, 0.75), (12, 7, 0.4), (5, 1, 0.9), (9, 0, 0.6)):
        tokens = rng.choice(V, seen, replace=False)
        counts = {int(token): int(count) for token, count in zip(tokens, rng.geometric(0.3, seen), strict=True)}
        shorter = rng.gamma(0.7, size=V)
        cases.append((counts, discount, shorter / shorter.sum()))
    return cases


DISCOUNT = Exercise(
    "absolute_discount",
    "count two things first: how often any token came (the total), and how many different ones came",
    discount_inputs,
    each_token,
    (
        Mistake(
            "not given back", slip(given=lambda counts, D: 0.0), "what is taken away must go somewhere: sum your answer"
        ),
        Mistake(
            "unseen pay too",
            slip(kept=lambda c, D: c - D),
            "a token that was never seen has nothing to give: its count stays 0",
        ),
        Mistake(
            "each occurrence pays",
            slip(given=lambda counts, D: D * sum(counts.values())),
            "a token pays D once, however often it was seen: how many of them pay?",
        ),
        Mistake("no guard", unguarded, "what is the total of a context that was never seen? Who decides there?"),
        Mistake(
            "zeros when unseen",
            lambda counts, D, shorter: each_token(counts, D, shorter) if counts else np.zeros(len(shorter)),
            "after a context that was never seen, something still comes next: pass the shorter one's answer on",
        ),
        Mistake(
            "only to the unseen",
            slip(spread=only_unseen),
            "every token gets its part of what was given up, the seen ones too",
        ),
        Mistake(
            "in equal parts",
            slip(spread=lambda shorter, counts: np.full(len(shorter), 1 / len(shorter))),
            "share it out as the shorter context says, not evenly",
        ),
        Mistake(
            "a percentage",
            slip(kept=lambda c, D: c * (1 - D), given=lambda counts, D: D * sum(counts.values())),
            "every count pays the same amount, be it 1 or 1000: subtract D, do not multiply",
        ),
        Mistake(
            "nobody pays",
            slip(kept=lambda c, D: c),
            "you hand out D for each different token: from whom did you take it?",
        ),
        Mistake(
            "divided by what is left",
            slip(total=lambda counts, D: sum(counts.values()) - D * len(counts)),
            "divide by the total as it was before anything was taken away",
        ),
        Mistake(
            "different ones seen once",
            slip(given=lambda counts, D: D * sum(count == 1 for count in counts.values())),
            "all different tokens pay, not only those that were seen once",
        ),
    ),
    (
        in_one_line,
        what_is_missing,
        lambda counts, D, shorter: unguarded(counts, D, shorter) if counts else 1.0 * shorter,
    ),
)

EXERCISES = (DISCOUNT,)
