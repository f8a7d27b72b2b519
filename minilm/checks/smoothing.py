"""The exercise of lesson 03 that smooths: an oracle that goes token by token, the mistakes that people make, other solutions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# add_k(counts, vocab_size, k) -> (V,)


def few_counts(seed: int) -> list[tuple[dict[int, int], int, float]]:
    """First some to do by hand; then some tokens seen and some not, all seen, one seen, none; the counts are not in order."""
    rng = np.random.default_rng(seed)
    some = {
        int(token): int(count) for token, count in zip(rng.permutation(11)[:4], rng.integers(2, 30, 4), strict=True)
    }
    return [
        ({0: 3, 2: 1}, 4, 0.5),
        ({}, 4, 0.125),
        (some, 11, 0.3),
        (some | {10: 1}, 11, 0.0),
        ({4: 7, 0: 1, 2: 3, 1: 1, 3: 12}, 5, 0.01),
        ({6: int(rng.integers(1, 9))}, 7, 2.0),
        ({}, 3, 0.7),
        ({}, 6, 0.0),
    ]


def alike(vocab_size: int) -> np.ndarray:
    """All tokens equally likely."""
    return np.ones(vocab_size) / vocab_size


def one_by_one(
    share: Callable[[int, float], float] = lambda count, k: count + k,
    added: Callable[[dict[int, int], int, float], float] = lambda counts, V, k: k * V,
    later: Callable[[float], float] = lambda k: 0,
    empty: bool = True,
    number: type = float,
) -> Callable[..., np.ndarray]:
    """Each token for itself; `added` is what comes to the sum of the counts, `later` to each quotient. They make the mistakes.

    Without `empty` the empty context has no case of its own; `number` says who divides by 0 then, Python or numpy.
    """

    def probabilities(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
        if empty and not counts:
            return alike(vocab_size)
        whole = number(sum(counts.values()) + added(counts, vocab_size, k))
        with np.errstate(all="ignore"):
            return np.array([share(counts.get(token, 0), k) / whole + later(k) for token in range(vocab_size)])

    return probabilities


def with_empty(name: str, hint: str, **switch: Any) -> tuple[Mistake, ...]:
    """A mistake alone, and with the empty case forgotten as well: an error in Python, NaN or infinity in numpy."""
    return (
        Mistake(name, one_by_one(**switch), hint),
        Mistake(
            f"{name}, no empty case",
            one_by_one(empty=False, **switch),
            f"two things: (1) {hint} (2) a context that was never seen has no counts to divide: decide that case first",
        ),
        Mistake(
            f"{name}, no empty case in numpy",
            one_by_one(empty=False, number=np.float64, **switch),
            f"two things: (1) {hint} (2) without any counts numpy divides by 0 and gives nan or inf: decide that case first",
        ),
    )


def unguarded(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
    p = np.array([counts.get(token, 0) + k for token in range(vocab_size)])
    with np.errstate(invalid="ignore"):
        return p / p.sum()


def unguarded_python(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
    total = sum(counts.values()) + k * vocab_size
    return np.array([(counts.get(token, 0) + k) / total for token in range(vocab_size)])


def frequencies(counts: dict[int, int], vocab_size: int) -> np.ndarray:
    if not counts:
        return alike(vocab_size)
    return np.array([counts.get(token, 0) / sum(counts.values()) for token in range(vocab_size)])


def k_on_frequencies(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
    p = frequencies(counts, vocab_size) + k
    return p / p.sum()


def as_mixture(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
    total = sum(counts.values())
    trust = total / (total + k * vocab_size) if total else 0.0
    return trust * frequencies(counts, vocab_size) + (1 - trust) * alike(vocab_size)


def added_up(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
    p = np.full(vocab_size, k if counts else 1.0)
    np.add.at(p, np.array([*counts], dtype=int), np.array([*counts.values()], dtype=float))
    return p / p.sum()


ADD_K = Exercise(
    "add_k",
    "begin with a row of V numbers that are all k, add the counts to it, and think what it must be divided by to sum to 1",
    few_counts,
    one_by_one(),
    (
        *with_empty(
            "k for the seen in the sum",
            "how many tokens are given k more? Not only those that were seen: the row must sum to 1",
            added=lambda counts, V, k: k * len(counts),
        ),
        *with_empty(
            "k not in the sum",
            "the row sums to more than 1: what was added above must stand below too",
            added=lambda counts, V, k: 0,
        ),
        *with_empty(
            "one k in the sum",
            "k is given to more than one token: how much is that together?",
            added=lambda counts, V, k: k,
        ),
        *with_empty(
            "k for the seen only",
            "the tokens that were never seen need k most of all",
            share=lambda c, k: c + k if c else 0,
            added=lambda counts, V, k: k * len(counts),
        ),
        *with_empty(
            "k after dividing",
            "k is a part of a count, not of a probability: add it before you divide, and to what you divide by",
            share=lambda c, k: c,
            added=lambda counts, V, k: 0,
            later=lambda k: k,
        ),
        *with_empty(
            "V in the sum",
            "V tokens are given k each: how much is that together?",
            added=lambda counts, V, k: V,
        )[:2],
        Mistake(
            "at least 1 below",
            one_by_one(added=lambda counts, V, k: 0 if counts else 1, empty=False),
            "max(1, total) spares the error and not the sum: the V tokens have been given k each, which stands below too",
        ),
        Mistake(
            "at least 1 below with k",
            one_by_one(added=lambda counts, V, k: k * V if counts else max(1, k * V), empty=False),
            "without counts max(1, ...) gives a row that does not sum to 1: decide that case for itself",
        ),
        Mistake(
            "unseen left at 0",
            one_by_one(lambda c, k: c + k if c else 0),
            "the sum below counts k for every token, but some tokens did not get theirs: the row sums to less than 1",
        ),
        Mistake(
            "unseen left at 0, no empty case",
            lambda counts, V, k: one_by_one(lambda c, k: c + k if c else 0)(counts, V, k) * bool(counts),
            "two things: (1) the tokens that were never seen must get their k too: does your loop reach them? "
            "(2) a context that was never seen must not give zeros: decide that case first",
        ),
        Mistake(
            "k for the unseen only",
            one_by_one(lambda c, k: c or k, lambda counts, V, k: k * (V - len(counts))),
            "every token is given k more, also those that were seen",
        ),
        Mistake(
            "one for k",
            one_by_one(lambda c, k: c + 1, lambda counts, V, k: V),
            "how much is added to each count is an argument",
        ),
        Mistake("k on frequencies", k_on_frequencies, "k is added to the counts, before anything is divided"),
        Mistake(
            "0 / 0 in numpy",
            unguarded,
            "a context that was never seen, with k = 0, is 0 / 0 = nan: decide that case first",
        ),
        Mistake(
            "0 / 0 in Python",
            unguarded_python,
            "what is the sum of no counts, when k is 0? All tokens are equally likely then",
        ),
        Mistake(
            "zeros for the unseen context",
            lambda counts, V, k: as_mixture(counts, V, k) * bool(counts),
            "a row of zeros is no distribution: if nothing is known, every token is as likely as any other",
        ),
    ),
    (as_mixture, added_up, lambda counts, V, k: unguarded(counts, V, k) if counts else alike(V)),
)

EXERCISES = (ADD_K,)
