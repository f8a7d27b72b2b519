"""Kneser-Ney in dictionaries: what `ngram.py` computes in arrays for all contexts at once, here for one context to read.

Counts are {context: {token: how often it came after}}, as `count_ngrams` makes them; probabilities are (V,), in float64. The two
files agree by test, with one discount for all counts of an order ("interpolated-kneser-ney").

Kneser and Ney (1995), "Improved backing-off for m-gram language modeling"; Chen and Goodman (1998).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from minilm.classical.counting import count_ngrams

Context = tuple[int, ...]


def absolute_discount(counts: Mapping[int, int], discount: float, shorter: np.ndarray) -> np.ndarray:
    """p(token | context) of all tokens, (V,), from the counts after one context and p(token | a shorter context), (V,).

    Every count gives up the same discount D, and what they give up together is shared out as the shorter context says:

        p(w) = max(c(w) - D, 0) / total + D * (number of different tokens seen) / total * shorter(w)

    A context that was never seen has no counts: the shorter one decides alone. ValueError unless 0 <= D <= 1 and every
    token seen is in 0 .. V - 1.

    >>> absolute_discount({0: 3, 2: 1}, 0.5, np.array([0.2, 0.4, 0.4]))  # 2.5 and 0.5 of 4 are kept, 1 of 4 is shared out
    array([0.675, 0.1  , 0.225])
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"a discount of {discount}: it must be from 0 to 1, for a count of 1 has no more to give")
    if not counts:
        return shorter.copy()
    if min(counts) < 0 or max(counts) >= len(shorter):
        raise ValueError(f"tokens {min(counts)} to {max(counts)} go beyond 0..{len(shorter) - 1}: check vocab_size")
    total = sum(counts.values())
    p = discount * len(counts) / total * shorter
    for token, count in counts.items():
        p[token] += (count - discount) / total
    return p


def continuation_counts(ngrams: Mapping[Context, Mapping[int, int]]) -> dict[Context, dict[int, int]]:
    """Counts of order n -> continuation counts of order n - 1: how many *different* tokens came before each n-gram.

    ValueError for counts of order 1: nothing can be left out of their contexts.

    >>> continuation_counts({(5,): {7: 40}, (6,): {8: 1}, (9,): {8: 2}})  # 7 comes after 5 alone, 8 after 6 and 9
    {(): {7: 1, 8: 2}}
    """
    if () in ngrams:
        raise ValueError("counts of order 1 have no continuation counts: give those of bigrams or longer n-grams")
    different: dict[Context, dict[int, int]] = {}
    for context, after in ngrams.items():
        shorter = different.setdefault(context[1:], {})
        for token in after:
            shorter[token] = shorter.get(token, 0) + 1
    return different


def kneser_ney_counts(
    ids: Sequence[int] | np.ndarray, order: int, end_of_text: int
) -> list[dict[Context, dict[int, int]]]:
    """What Kneser-Ney counts after the contexts of 0, 1 ... order - 1 tokens: a list of `order` levels.

    The longest n-grams keep their real counts, the shorter ones get continuation counts. But nothing can come before
    the beginning of a document, so n-grams that begin at <|endoftext|> keep their real counts at every length.
    """
    levels = [count_ngrams(ids, order, end_of_text)]
    for n in range(order - 1, 0, -1):
        at_start = {c: after for c, after in count_ngrams(ids, n, end_of_text).items() if c[:1] == (end_of_text,)}
        levels.insert(0, continuation_counts(levels[0]) | at_start)
    return levels


def kneser_ney(
    levels: Sequence[Mapping[Context, Mapping[int, int]]],
    context: Context,
    discounts: Sequence[float],
    vocab_size: int,
) -> np.ndarray:
    """p(token | context) of all tokens, (V,): absolute discounting at each level, from the empty context to the longest.

    Level m has the counts after contexts of m tokens and the discount discounts[m]; it looks at the last m tokens of
    the context, if there are so many. Below level 0 every token has 1 / V. ValueError unless each level has a discount.

    >>> levels = [{(): {0: 2, 1: 1, 2: 1}}, {(0,): {1: 3, 2: 1}}]
    >>> kneser_ney(levels, (2, 0), (0.5, 0.5), vocab_size=4)  # level 0: 0.46875, 0.21875, 0.21875, 0.09375
    array([0.1171875, 0.6796875, 0.1796875, 0.0234375])
    """
    if len(discounts) != len(levels):
        raise ValueError(f"{len(discounts)} discounts for {len(levels)} levels: give one for each level")
    p = np.full(vocab_size, 1 / vocab_size)
    for m, level in enumerate(levels[: len(context) + 1]):
        last = tuple(context[len(context) - m :])
        p = absolute_discount(level.get(last, {}), discounts[m], p)
    return p
