"""The n-gram in dictionaries: four functions, small enough to read at one go.

`count_ngrams` counts, `add_k` and `interpolate` make probabilities of the counts, `draw` chooses a token. `ngram.py` does
the same in sorted arrays, for all places of a text at once; the two agree by test.

Which n-grams count: at every place of the stream, the order - 1 tokens before it are the context, where there are so many
and none but the first of them is <|endoftext|>. So no context reaches into the document before, <|endoftext|> is what is
predicted at the end of each document, and only the one that opens the stream is never predicted.

Jelinek and Mercer (1980), "Interpolated estimation of Markov source parameters from sparse data".
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def count_ngrams(
    ids: Sequence[int] | np.ndarray, order: int, end_of_text: int
) -> dict[tuple[int, ...], dict[int, int]]:
    """Ids (N,) -> {context of order - 1 tokens: {token: how often it came after}}.

    Each document of the stream begins with end_of_text; which n-grams count stands at the top of this file. ValueError for
    an order below 1.

    >>> count_ngrams([9, 4, 5, 4, 5, 9, 5], order=2, end_of_text=9)
    {(9,): {4: 1, 5: 1}, (4,): {5: 2}, (5,): {4: 1, 9: 1}}
    """
    if order < 1:
        raise ValueError(f"order is {order}: it must be at least 1, the tokens alone")
    tokens = [int(token) for token in ids]
    first = 1 if tokens[:1] == [end_of_text] else 0  # what opens the stream is given
    counts: dict[tuple[int, ...], dict[int, int]] = {}
    for t in range(max(first, order - 1), len(tokens)):
        context, token = tuple(tokens[t - order + 1 : t]), tokens[t]
        if end_of_text not in context[1:]:
            after = counts.setdefault(context, {})
            after[token] = after.get(token, 0) + 1
    return counts


def add_k(counts: Mapping[int, int], vocab_size: int, k: float) -> np.ndarray:
    """p(token | context) of all tokens, (V,), from the counts after one context: each of the V tokens is given k more.

        p(w) = (c(w) + k) / (total + k V)

    A context that was never seen has no counts: all tokens are equally likely, whatever k is, also 0. ValueError for a k
    below 0 and for a token that is not in 0 .. V - 1.

    >>> add_k({0: 3, 2: 1}, vocab_size=4, k=0.5)  # 3.5, 0.5, 1.5 and 0.5 of 6
    array([0.58333333, 0.08333333, 0.25      , 0.08333333])
    """
    if not 0 <= k < math.inf:
        raise ValueError(f"k is {k}: it must be 0 (no smoothing) or a number above it")
    if any(not 0 <= token < vocab_size for token in counts):
        raise ValueError(f"tokens {min(counts)} to {max(counts)} go beyond 0..{vocab_size - 1}: check vocab_size")
    if not counts:
        return np.full(vocab_size, 1 / vocab_size)
    p = np.full(vocab_size, float(k))
    for token, count in counts.items():
        p[token] += count
    return p / p.sum()


def interpolate(distributions: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """The weighted average of n distributions (V,), after Jelinek and Mercer: the sum of weight_i * p_i(w).

    ValueError unless there is one weight for each, none is below 0 and they sum to 1.

    >>> interpolate([np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.25, 0.75])], [0.25, 0.75])
    array([0.125 , 0.3125, 0.5625])
    """
    if len(distributions) != len(weights) or len(weights) == 0:
        raise ValueError(f"{len(weights)} weights for {len(distributions)} distributions: give one for each")
    if min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-9):
        raise ValueError(f"weights {list(weights)} sum to {sum(weights):g}: none may be below 0, the sum must be 1")
    return np.asarray(weights, dtype=np.float64) @ np.stack(distributions)


def draw(probabilities: np.ndarray, u: float) -> int:
    """The first token at which the running sum of the probabilities (V,) exceeds u: a random token, for a random u in [0, 1).

    Token w is drawn with probability p(w), for its part of the line from 0 to 1 has that length. Where rounding leaves the
    whole sum at u or below, it is the last token that has any probability. ValueError for a u outside [0, 1) and where no
    token has any.

    >>> [draw(np.array([0.25, 0.0, 0.75]), u) for u in (0.0, 0.2, 0.25, 0.9)]
    [0, 0, 2, 2]
    """
    if not 0 <= u < 1:
        raise ValueError(f"a draw of {u}: it must be at least 0 and below 1, as from numpy's Generator.random")
    possible = np.flatnonzero(probabilities)
    if len(possible) == 0:
        raise ValueError("every token has probability 0: give a distribution that sums to 1")
    token = int(np.searchsorted(np.cumsum(probabilities), u, side="right"))
    return min(token, int(possible[-1]))
