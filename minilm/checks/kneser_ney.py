"""Kneser-Ney, of lesson 11: an oracle that climbs down, the mistakes that people make, and other right solutions."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Context = tuple[int, ...]
Counts = Mapping[int, int]
Ngrams = Mapping[Context, Counts]
Levels = Sequence[Ngrams]
Discounts = Sequence[float]

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
    reach: Callable[[int, int], Sequence[int]] = lambda levels, context: range(min(levels, context + 1)),
) -> np.ndarray:
    """From the longest context down: its own part, and what it gives up times the answer of the one below."""

    def answer(lengths: Sequence[int]) -> np.ndarray:
        if not lengths or lengths[-1] <= lowest:
            return base(levels[0].get((), {}), vocab_size)
        *below, m = lengths
        after, D, shorter = levels[m].get(last(context, m), {}), discount(discounts, m), answer(below)
        if not after:
            return shorter
        kept = [max(after.get(w, 0) - D, 0) for w in range(vocab_size)]
        return (np.array(kept) + D * len(after) * shorter) / sum(after.values())

    return answer(reach(len(levels), len(context)))


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


def kneser_ney_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Two levels and three, to do by hand; then three and four: contexts that are new, too long, too short, empty, a beginning.

    Which counts the levels hold does not matter here: these are the real ones on each.
    """
    small = [{(): {0: 2, 1: 2}}, {(0,): {1: 3, 2: 1}, (1,): {0: 2}}]
    cases: list[tuple[Any, ...]] = [(small, context, [0.5, 0.25], 3) for context in ((0,), (), (2,), (2, 0))]
    cases += [([*small, {(2, 0): {1: 2}}], (2, 0), [0.5, 0.25, 0.75], 3)]
    for order, discounts, V in ((3, [0.45, 0.8, 0.65], 8), (4, [0.9, 0.35, 0.6, 0.75], 11)):
        ids = texts(seed + order, 70)
        levels = [count(ids, n) for n in range(1, order + 1)]
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
            "context[-0:] and beyond the top",
            astray(last=lambda context, m: context[-m:], reach=lambda levels, context: range(context + 1)),
            "two things: (1) what is context[-0:]? (2) the context may be longer than the top level asks for",
        ),
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
            astray(reach=lambda levels, context: range(min(levels, context + 1))[::-1]),
            "the longest context has the last word: the short ones come first",
        ),
        Mistake(
            "longest only",
            astray(reach=lambda levels, context: range(min(levels, context + 1))[-1:]),
            "what the longest context gives up goes to the next shorter one, and only at the very end to 1 / V",
        ),
        Mistake(
            "straight to level 0",
            astray(reach=lambda levels, context: sorted({0, min(levels - 1, context)})),
            "no level is left out: from the longest context to the empty one, token by token",
        ),
        Mistake(
            "one context short",
            astray(reach=lambda levels, context: range(min(levels, context))),
            "a context of 2 tokens has an answer on the levels 0, 1 and 2: on how many is that?",
        ),
        Mistake(
            "as many levels as tokens",
            astray(reach=lambda levels, context: range(context)),
            "m tokens of context reach level m, and a context may have more tokens than there are levels",
        ),
        Mistake(
            "beyond the top",
            astray(reach=lambda levels, context: range(context + 1)),
            "the context may be longer than the top level asks for: climb as far as there are levels",
        ),
        Mistake(
            "top level left out",
            astray(reach=lambda levels, context: range(levels - 1)),
            "the top level has its say too: it is levels[len(levels) - 1]",
        ),
        Mistake(
            "always one level short",
            astray(reach=lambda levels, context: range(min(levels - 1, context))),
            "`range` ends before its end: which is the last level that your loop asks?",
        ),
        Mistake(
            "level 0 left out",
            astray(reach=lambda levels, context: range(1, min(levels, context + 1))),
            "the empty context counts as well: the first level is level 0",
        ),
        Mistake(
            "1 / V when new",
            uniform_when_new,
            "the longest context may be new: then the next shorter one decides, not 1 / V",
        ),
    ),
    (upwards, token_by_token, one_token_less),
)

EXERCISES = (KNESER_NEY,)
