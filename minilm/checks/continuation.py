"""Continuation counts, of lesson 11: an oracle with sets, the mistakes that people make, and other right solutions."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Context = tuple[int, ...]
Counts = Mapping[int, int]
Ngrams = Mapping[Context, Counts]

# continuation_counts(ngrams) -> {shorter context: {token: how many different tokens came before}}


def by_sets(ngrams: Ngrams) -> dict[Context, dict[int, int]]:
    """The set of what came before each shorter n-gram, and then its size."""
    before: dict[Context, dict[int, set[int]]] = {}
    for (first, *rest), after in ngrams.items():
        for token in after:
            before.setdefault(tuple(rest), {}).setdefault(token, set()).add(first)
    return {context: {token: len(them) for token, them in after.items()} for context, after in before.items()}


def added(
    ngrams: Ngrams,
    key: Callable[[Context, int], tuple[Context, int]] = lambda context, token: (context[1:], token),
    amount: Callable[[Counts, int], int] = lambda after, token: 1,
) -> dict[Context, dict[int, int]]:
    """Something for each n-gram, to something; the switches make the mistakes."""
    found: dict[Context, dict[int, int]] = {}
    for context, after in ngrams.items():
        for token in after:
            shorter, last = key(context, token)
            place = found.setdefault(shorter, {})
            place[last] = place.get(last, 0) + amount(after, token)
    return found


def adding(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda ngrams: added(ngrams, **switch)


def always_one(ngrams: Ngrams) -> dict[Context, dict[int, int]]:
    return {context: dict.fromkeys(after, 1) for context, after in by_sets(ngrams).items()}


def last_context_wins(ngrams: Ngrams) -> dict[Context, dict[int, int]]:
    return {context[1:]: dict.fromkeys(after, 1) for context, after in ngrams.items()}


def as_shares(ngrams: Ngrams) -> dict[Context, dict[int, float]]:
    found = by_sets(ngrams)
    return {context: {w: c / sum(after.values()) for w, c in after.items()} for context, after in found.items()}


def by_counter(ngrams: Ngrams) -> dict[Context, Counter[int]]:
    found: defaultdict[Context, Counter[int]] = defaultdict(Counter)
    for context, after in ngrams.items():
        found[context[1:]].update(after.keys())
    return dict(found)


def by_enumeration(ngrams: Ngrams) -> dict[Context, dict[int, int]]:
    shorter = {context[1:] for context in ngrams}
    return {
        short: {w: n for w in range(8) if (n := sum(w in after for c, after in ngrams.items() if c[1:] == short))}
        for short in shorter
    }


def some_ngrams(seed: int, n_contexts: int, length: int) -> dict[Context, dict[int, int]]:
    """Contexts of `length` tokens, many of which end alike, with one to four tokens after each."""
    rng = random.Random(seed)
    contexts = {tuple(rng.choices(range(7), k=length)) for _ in range(n_contexts)}
    return {c: {w: rng.choice((1, 1, 2, 5)) for w in rng.sample(range(8), rng.randint(1, 4))} for c in sorted(contexts)}


CONTINUATION = Exercise(
    "continuation_counts",
    "go through all contexts and the tokens after them: which n-gram is left when the first token falls away?",
    lambda seed: [
        ({(1,): {2: 3, 4: 1}, (3,): {2: 1}, (5,): {2: 7, 5: 2}},),
        *((some_ngrams(seed + length, 9 * length, length),) for length in (1, 2, 3)),
    ],
    by_sets,
    (
        Mistake(
            "occurrences",
            adding(amount=lambda after, token: after[token]),
            "it does not matter how often: a token that comes before it nine times is one token",
        ),
        Mistake(
            "last token of the context dropped",
            adding(key=lambda context, token: (context[:-1], token)),
            "the token that is furthest away falls away, and that is the first of the context",
        ),
        Mistake(
            "after instead of before",
            adding(key=lambda context, token: (context[:-1], context[-1])),
            "you count how many different tokens come after it: how many come before?",
        ),
        Mistake(
            "not shortened", adding(key=lambda context, token: (context, token)), "new contexts are one token shorter"
        ),
        Mistake("down to one token", adding(key=lambda context, token: ((), token)), "only one token falls away"),
        Mistake("always one", always_one, "a second token before it must make 2 of the 1: add, do not set"),
        Mistake(
            "last context wins",
            last_context_wins,
            "several long contexts end alike: they share one dictionary, which the next one must not replace",
        ),
        Mistake("shares", as_shares, "counts are asked for: dividing comes later, in the discounting"),
        Mistake(
            "how many follow",
            adding(amount=lambda after, token: len(after)),
            "each long context brings one token before it: what else followed that context does not matter",
        ),
        Mistake(
            "seen twice",
            lambda ngrams: by_sets({c: {w: n for w, n in after.items() if n > 1} for c, after in ngrams.items()}),
            "an n-gram that was seen once counts as much as any other",
        ),
    ),
    (added, by_counter, by_enumeration),
)


EXERCISES = (CONTINUATION,)
