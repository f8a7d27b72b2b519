"""The recall test: must a model remember what was said long before, or do the last few tokens do?

A place is where a text says one of several candidates (the names, say) that it has said before, with more than `gap` tokens
since. An n-gram that reads at most `gap` tokens cannot know which: whichever candidate was said, what it reads is the same.
So if all candidates are told equally often, the share that it gives to the right one is 1 / K on average, whatever
it has counted. A model that gives more has looked back.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minilm.text.tokenizer import Tokenizer


class Place(NamedTuple):
    """A text up to a candidate, the K candidates (each begins with a blank), which is right, and the word or mark behind it."""

    before: str
    candidates: tuple[str, ...]
    right: int
    after: str


def recall_places(
    document: str, candidates: Sequence[str], tokenizer: Tokenizer, gap: int = 20, longest: int = 120
) -> Iterator[Place]:
    """The places of a document where a candidate comes again after more than `gap` tokens, the text before at most `longest`.

    A candidate counts where it is a word of its own. The gap begins at its last mention, whatever stands before that one;
    asked for is only a mention behind a blank. What follows it belongs to the question: after "Ada" alone the text
    might go on to "Adam".
    """
    if not candidates:
        raise ValueError("there is no candidate to look for: give at least one word")
    words = "|".join(map(re.escape, candidates))
    last_end: dict[str, int] = {}
    for found in re.finditer(rf"(?<!\w)({words})(?=(\W\w*))", document):
        word, blank = found[1], found.start() - 1
        if word in last_end and document[blank] == " ":
            since = tokenizer.encode(document[last_end[word] : blank])
            before = document[:blank]
            if len(since) > gap and len(tokenizer.encode(before)) <= longest:
                yield Place(before, tuple(f" {one}" for one in candidates), candidates.index(word), found[2])
        last_end[word] = found.end()


def candidate_log_probs(
    places: Iterable[Place], tokenizer: Tokenizer, score: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """ln p(candidate and what stands behind it | the text before), in nats: N places with K candidates each -> (N, K).

    `score` is any model: ids (M,), where each document begins with <|endoftext|> -> ln p (M,) of each id after those before it.
    """
    places = list(places)
    if not places or len({len(place.candidates) for place in places}) > 1:
        raise ValueError(f"{len(places)} places: give at least one, and as many candidates at each of them")
    rows, sizes = [], []
    for place in places:
        before = [tokenizer.end_of_text, *tokenizer.encode(place.before)]
        for candidate in place.candidates:
            answer = tokenizer.encode(candidate + place.after)
            rows.append([*before, *answer])
            sizes.append(len(answer))
    log_probs = score(np.concatenate(rows))
    ends = np.cumsum([len(row) for row in rows])
    sums = [log_probs[end - size : end].sum() for end, size in zip(ends, sizes, strict=True)]
    return np.array(sums).reshape(len(places), -1)


def recall_shares(log_probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """p(right candidate) / sum of p over the candidates: log-probabilities (N, K) in nats, indices (N,) -> (N,).

    The largest log-probability of each row is taken away first, so that the exp of -800 is no trouble.

    >>> recall_shares(np.log([[0.1, 0.3], [0.01, 0.01]]), np.array([1, 0]))
    array([0.75, 0.5 ])
    """
    weights = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
    return weights[np.arange(len(right)), right] / weights.sum(axis=1)
