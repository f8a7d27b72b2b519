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
    empty: Callable[[np.ndarray], np.ndarray] | None = lambda shorter: shorter,
    number: type = float,
) -> np.ndarray:
    """One token at a time: what its count keeps, and its part of what all counts give up. The switches make the mistakes.

    Where `empty` is None, the empty context has no case of its own; `number` says who divides by 0 then, Python or numpy.
    """
    if not counts and empty:
        return empty(shorter)
    p, part, whole = np.empty(len(shorter)), spread(shorter, counts), number(total(counts, discount))
    with np.errstate(all="ignore"):
        for token in range(len(shorter)):
            given_up = float(given(counts, discount) * part[token])
            p[token] = kept(counts.get(token, 0), discount) / whole + given_up / whole
    return p


def slip(**switch: Any) -> Any:
    """The oracle with switches thrown."""
    return lambda counts, discount, shorter: each_token(counts, discount, shorter, **switch)


def with_empty(name: str, hint: str, **switch: Any) -> tuple[Mistake, ...]:
    """A mistake alone, and with the empty case forgotten as well: an error in Python, NaN in numpy."""
    forgotten = "the context that was never seen has a total of 0"
    return (
        Mistake(name, slip(**switch), hint),
        Mistake(
            f"{name}, no empty case",
            slip(empty=None, **switch),
            f"two things: (1) {hint} (2) {forgotten}: decide that case first",
        ),
        Mistake(
            f"{name}, no empty case in numpy",
            slip(empty=None, number=np.float64, **switch),
            f"two things: (1) {hint} (2) {forgotten}, and 0 / 0 is nan: decide that case first",
        ),
    )


def evenly(shorter: np.ndarray, counts: Counts) -> np.ndarray:
    """All tokens alike."""
    return np.full(len(shorter), 1 / len(shorter))


def only_unseen(shorter: np.ndarray, counts: Counts) -> np.ndarray:
    """The shorter context's probabilities of what was not seen, made to sum to 1."""
    part = unseen(shorter, counts)
    return part / part.sum()


def unseen(shorter: np.ndarray, counts: Counts) -> np.ndarray:
    """The shorter context's probabilities of what was not seen, 0 for the others."""
    return np.array([0.0 if token in counts else p for token, p in enumerate(shorter)])


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


def seen_alone(counts: Counts, discount: float, shorter: np.ndarray) -> np.ndarray:
    return np.array([w in counts for w in range(len(shorter))]) * each_token(counts, discount, shorter)


def discount_inputs(seed: int) -> list[tuple[Any, ...]]:
    """First the lesson's own; then one, some and many different tokens, of very different counts, and a context never seen."""
    rng = np.random.default_rng(seed)
    cases: list[tuple[Any, ...]] = [({0: 3, 1: 1}, 0.5, np.array([0.1, 0.1, 0.2, 0.3, 0.3]))]
    for V, seen, discount in ((7, 3, 0.75), (12, 7, 0.4), (8, 1, 0.9), (9, 0, 0.6)):
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
        *with_empty(
            "not given back",
            "what is taken away must go somewhere: sum your answer",
            given=lambda counts, D: 0.0,
        ),
        *with_empty(
            "unseen pay too",
            "a token that was never seen has nothing to give: its count stays 0",
            kept=lambda c, D: c - D,
        ),
        *with_empty(
            "each occurrence pays",
            "a token pays D once, however often it was seen: how many of them pay?",
            given=lambda counts, D: D * sum(counts.values()),
        ),
        *with_empty(
            "one token pays",
            "D is what one token gives up: how much do all that were seen give up together?",
            given=lambda counts, D: D,
        ),
        *with_empty(
            "all V pay",
            "len(shorter) is the number of all tokens: how many of them were seen, and have something to give?",
            given=lambda counts, D: D,
            spread=lambda shorter, counts: len(shorter) * shorter,
        ),
        *with_empty(
            "unseen alone receive",
            "the row sums to less than 1: every token gets its part of what was given up, the seen ones too",
            spread=unseen,
        ),
        *with_empty("in equal parts", "share it out as the shorter context says, not evenly", spread=evenly),
        *with_empty(
            "nobody pays",
            "you hand out D for each different token: from whom did you take it?",
            kept=lambda c, D: c,
        ),
        Mistake("no guard", unguarded, "what is the total of a context that was never seen? Who decides there?"),
        Mistake(
            "0 / 0",
            slip(empty=None, number=np.float64),
            "0 / 0 is nan: what is the total of a context that was never seen, and who decides there?",
        ),
        Mistake(
            "zeros when unseen",
            slip(empty=np.zeros_like),
            "after a context that was never seen, something still comes next: pass the shorter one's answer on",
        ),
        Mistake(
            "all alike when unseen",
            slip(empty=lambda shorter: evenly(shorter, {})),
            "after a context that was never seen, more is known than nothing: ask the shorter one",
        ),
        Mistake(
            "seen alone receive",
            lambda counts, D, shorter: seen_alone(counts, D, shorter) if counts else shorter,
            "the tokens that were never seen have only what they are given: does your loop reach them?",
        ),
        Mistake(
            "seen alone receive, no empty case",
            seen_alone,
            "two things: (1) the tokens that were never seen have only what they are given: does your loop reach them? "
            "(2) zeros are no distribution: after a context that was never seen the shorter one decides",
        ),
        Mistake(
            "only to the unseen",
            slip(spread=only_unseen),
            "every token gets its part of what was given up, not only those that were never seen",
        ),
        Mistake(
            "a percentage",
            slip(kept=lambda c, D: c * (1 - D), given=lambda counts, D: D * sum(counts.values())),
            "every count pays the same amount, be it 1 or 1000: subtract D, do not multiply",
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
