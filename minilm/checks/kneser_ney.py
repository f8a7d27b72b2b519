"""Two exercises of lesson 11: oracles that go token by token, the mistakes that people make, and other right solutions."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Context = tuple[int, ...]
Counts = Mapping[int, int]
Ngrams = Mapping[Context, Counts]
Levels = Sequence[Ngrams]
Discounts = Sequence[float]

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


def count(ids: Sequence[int], order: int, end: int = 0) -> dict[Context, dict[int, int]]:
    """{context: {token: how often}}; no context reaches back beyond `end`, which stands before each text."""
    found: dict[Context, dict[int, int]] = {}
    for t in range(max(1, order - 1), len(ids)):
        context = tuple(ids[t - order + 1 : t])
        if end not in context[1:]:
            after = found.setdefault(context, {})
            after[ids[t]] = after.get(ids[t], 0) + 1
    return found


def texts(seed: int, length: int) -> list[int]:
    """Tokens 0..6 with a liking for some, and 0 before each text and at the end. Token 7 never occurs."""
    rng = random.Random(seed)
    return [0, *rng.choices(range(7), weights=(2, 9, 6, 4, 3, 2, 1), k=length), 0]


CONTINUATION = Exercise(
    "continuation_counts",
    "go through all contexts and the tokens after them: which n-gram is left when the first token falls away?",
    lambda seed: [
        ({(1,): {2: 3, 4: 1}, (3,): {2: 1}, (5,): {2: 7, 5: 2}},),
        (count(texts(seed, 40), 2),),
        (count(texts(seed, 60), 3),),
        (count(texts(seed, 90), 4),),
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


# kneser_ney(levels, context, discounts, vocab_size) -> (V,)


def recursive(
    levels: Levels,
    context: Context,
    discounts: Discounts,
    vocab_size: int,
    base: Callable[[Counts, int], np.ndarray] = lambda unigrams, V: np.full(V, 1 / V),
    lowest: int = -1,
    last: Callable[[Context, int], Context] = lambda context, m: context[len(context) - m :],
    discount: Callable[[Discounts, int], float] = lambda discounts, m: discounts[m],
    steps: Callable[[list[int]], list[int]] = lambda lengths: lengths,
) -> np.ndarray:
    """From the longest context down: its own part, and what it gives up times the answer of the one below."""

    def answer(lengths: list[int]) -> np.ndarray:
        if not lengths or lengths[-1] <= lowest:
            return base(levels[0].get((), {}), vocab_size)
        *below, m = lengths
        after, D, shorter = levels[m].get(last(context, m), {}), discount(discounts, m), answer(below)
        if not after:
            return shorter
        kept = [max(after.get(w, 0) - D, 0) for w in range(vocab_size)]
        return (np.array(kept) + D * len(after) * shorter) / sum(after.values())

    return answer(steps(list(range(min(len(levels), len(context) + 1)))))


def astray(**switch: Any) -> Any:
    """The recursion with switches thrown."""
    return lambda levels, context, discounts, V: recursive(levels, context, discounts, V, **switch)


def shares_of(counts: Counts, vocab_size: int) -> np.ndarray:
    """c / total, without a discount."""
    return np.array([counts.get(w, 0) for w in range(vocab_size)]) / sum(counts.values())


def uniform_when_new(levels: Levels, context: Context, discounts: Discounts, V: int) -> np.ndarray:
    m = min(len(levels) - 1, len(context))
    known = context[len(context) - m :] in levels[m]
    return recursive(levels, context, discounts, V) if known else np.full(V, 1 / V)


def upwards(levels: Levels, context: Context, discounts: Discounts, V: int) -> np.ndarray:
    p = [1 / V] * V
    for m in range(len(levels)):
        after = levels[m].get(context[len(context) - m :]) if m <= len(context) else None
        if not after:
            break
        total = sum(after.values())
        p = [
            max(after.get(w, 0) - discounts[m], 0) / total + discounts[m] * len(after) / total * p[w] for w in range(V)
        ]
    return np.array(p)


def token_by_token(levels: Levels, context: Context, discounts: Discounts, V: int) -> np.ndarray:
    p = np.zeros(V)
    for w in range(V):
        left = 1.0  # what all longer contexts gave up, multiplied
        for m in reversed(range(min(len(levels), len(context) + 1))):
            after = levels[m].get(tuple(context[i] for i in range(-m, 0)), {})
            total = sum(after.values()) or 1
            p[w] += left * max(after.get(w, 0) - discounts[m], 0) / total
            left *= discounts[m] * len(after) / total if after else 1
        p[w] += left / V
    return p


def one_token_less(levels: Levels, context: Context, discounts: Discounts, V: int) -> np.ndarray:
    m = min(len(context), len(levels) - 1)
    context = context[len(context) - m :]
    shorter = one_token_less(levels[:m], context[1:], discounts, V) if m else np.full(V, 1 / V)
    if context not in levels[m]:
        return shorter
    p = np.zeros(V)
    for token, times in levels[m][context].items():
        p[token] = (times - discounts[m]) / sum(levels[m][context].values())
    return p + (1 - p.sum()) * shorter


def kneser_ney_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Three levels and four: contexts that are new, too long, too short, empty, and where a text begins."""
    cases: list[tuple[Any, ...]] = []
    for order, discounts, V in ((3, [0.45, 0.8, 0.65], 8), (4, [0.9, 0.35, 0.6, 0.75], 11)):
        ids = texts(seed + order, 70)
        levels = [count(ids, order)]
        for _ in range(1, order):
            levels.insert(0, by_sets(levels[0]))
        long = tuple(ids[20:26])
        cases += [(levels, context, discounts, V) for context in (long, (*long[:3], 7, 1), (7,), (2, 1), (), (0,))]
    return cases


KNESER_NEY = Exercise(
    "kneser_ney",
    "begin with 1 / V for every token, then go up level by level: absolute_discount, with what you have so far as the shorter one",
    kneser_ney_inputs,
    recursive,
    (
        Mistake(
            "nothing below", astray(base=lambda unigrams, V: np.zeros(V)), "what lies below level 0 is 1 / V, not 0"
        ),
        Mistake(
            "level 0 for free",
            astray(base=shares_of, lowest=0),
            "level 0 gives up its discount as well: a token that was never seen lives on that",
        ),
        Mistake("context[-0:]", astray(last=lambda context, m: context[-m:]), "what is context[-0:]?"),
        Mistake(
            "first tokens",
            astray(last=lambda context, m: context[:m]),
            "a shorter context keeps its last tokens, those next to the gap",
        ),
        Mistake("whole context", astray(last=lambda context, m: context), "level m knows contexts of m tokens alone"),
        Mistake(
            "one discount", astray(discount=lambda discounts, m: discounts[0]), "each level has its own: discounts[m]"
        ),
        Mistake(
            "discounts turned round",
            astray(discount=lambda discounts, m: discounts[len(discounts) - 1 - m]),
            "the first discount is that of the empty context",
        ),
        Mistake(
            "from above",
            astray(steps=lambda lengths: lengths[::-1]),
            "the longest context has the last word: the short ones come first",
        ),
        Mistake(
            "longest only",
            astray(steps=lambda lengths: lengths[-1:]),
            "what the longest context gives up goes to the next shorter one, and only at the very end to 1 / V",
        ),
        Mistake(
            "straight to level 0",
            astray(steps=lambda lengths: sorted({0, lengths[-1]})),
            "no level is left out: from the longest context to the empty one, token by token",
        ),
        Mistake(
            "1 / V when new",
            uniform_when_new,
            "the longest context may be new: then the next shorter one decides, not 1 / V",
        ),
    ),
    (upwards, token_by_token, one_token_less),
)

EXERCISES = (CONTINUATION, KNESER_NEY)
