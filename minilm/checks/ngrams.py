"""The exercises of lesson 03 that count. Oracles in loops, the mistakes that people make, and other right solutions."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Counts = dict[tuple[int, ...], dict[int, int]]


# count_ngrams(ids, order, end_of_text) -> {context: {token: count}}


def stream(rng: np.random.Generator, end: int, lengths: list[int], n_tokens: int) -> list[int]:
    """Documents of these lengths behind one another, each begins with `end`; few different tokens, so that n-grams repeat."""
    tokens = [token for token in range(n_tokens + 1) if token != end]
    return [t for length in lengths for t in (end, *(int(t) for t in rng.choice(tokens, length)))]


def streams(seed: int) -> list[tuple[list[int], int, int]]:
    """Empty documents and very short ones are among them; <|endoftext|> is the first, the last or a middle id."""
    rng = np.random.default_rng(seed)
    return [
        (stream(rng, 3, [9, 1, 12, 6], 3), 2, 3),
        (stream(rng, 0, [11, 2, 0, 7], 4), 1, 0),
        (stream(rng, 5, [14, 1, 3, 0, 10], 5), 3, 5),
        (stream(rng, 2, [20, 5, 8], 2), 4, 2),
    ]


def by_documents(ids: list[int], order: int, end: int) -> Counts:
    """Cut the stream into documents, close each with the <|endoftext|> that follows it, and list its windows."""
    starts = [t for t, token in enumerate(ids) if token == end]
    counts: Counts = {}
    for start, stop in zip(starts, [*starts[1:], len(ids) - 1], strict=True):
        document = ids[start : stop + 1]
        windows = [document[i : i + order] for i in range(len(document)) if len(document[i : i + order]) == order]
        for *context, token in windows if order > 1 else windows[1:]:
            counts.setdefault(tuple(context), {}).setdefault(token, 0)
            counts[tuple(context)][token] += 1
    return counts


def windows(
    keep: Callable[[tuple[int, ...], int, int], bool] = lambda context, token, end: end not in context[1:],
    first: int | None = None,
    lost: int = 0,
    step: Callable[[int], int] = lambda order: 1,
    longer: int = 0,
    once: bool = False,
    late: int = 0,
) -> Callable[..., Counts]:
    """A window moves over the stream; the switches make the mistakes."""

    def count(ids: list[int], order: int, end: int) -> Counts:
        width = order - 1 + longer
        counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        begin = (max(1, width) if first is None else max(first, width)) + late * (order > 1)
        for t in range(begin, len(ids) - lost, step(order)):
            context = tuple(ids[t - width : t])
            if keep(context, ids[t], end):
                counts[context][ids[t]] = 1 if once else counts[context][ids[t]] + 1
        return {context: dict(after) for context, after in counts.items()}

    return count


def whole_ngrams(ids: list[int], order: int, end: int) -> dict[tuple[int, ...], int]:
    return {(*c, token): n for c, after in by_documents(ids, order, end).items() for token, n in after.items()}


def short_contexts(ids: list[int], order: int, end: int) -> Counts:
    counts: Counts = {}
    for t in range(1, len(ids)):
        begin = max(s for s in range(t) if ids[s] == end)
        after = counts.setdefault(tuple(ids[max(begin, t - order + 1) : t]), {})
        after[ids[t]] = after.get(ids[t], 0) + 1
    return counts


def zipped(ids: list[int], order: int, end: int) -> Any:
    counts: defaultdict[tuple[int, ...], Counter] = defaultdict(Counter)
    for i, (*context, token) in enumerate(zip(*(ids[i:] for i in range(order)), strict=False)):
        if context.count(end) == (context[:1] == [end]) and i + order > 1:
            counts[tuple(context)][token] += 1
    return counts


def remembering(ids: list[int], order: int, end: int) -> Any:
    past: deque[int] = deque([end], maxlen=max(order - 1, 1))
    counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for token in ids[1:]:
        if len(past) >= order - 1:
            counts[tuple(past) if order > 1 else ()][token] += 1
        if token == end:
            past.clear()
        past.append(token)
    return counts


def with_numpy(ids: list[int], order: int, end: int) -> Counts:
    every = np.lib.stride_tricks.sliding_window_view(np.array(ids), order)[int(order == 1) :]
    inside = every[(every[:, 1:-1] != end).all(axis=1)] if order > 2 else every
    counts: Counts = {}
    for ngram, n in zip(*np.unique(inside, axis=0, return_counts=True), strict=True):
        counts.setdefault(tuple(ngram[:-1].tolist()), {})[int(ngram[-1])] = int(n)
    return counts


COUNT = Exercise(
    "count_ngrams",
    "let a window of `order` tokens slide over the ids: all but its last token are the context, the last is what came after",
    streams,
    by_documents,
    (
        Mistake(
            "across documents",
            windows(keep=lambda context, token, end: True),
            "what stood in the document before says nothing about this one: where may <|endoftext|> stand in a context?",
        ),
        Mistake(
            "the end is not predicted",
            windows(keep=lambda context, token, end: end not in (*context[1:], token)),
            "a model must also learn where documents end: after its last token comes <|endoftext|>",
        ),
        Mistake(
            "no context at the start",
            windows(keep=lambda context, token, end: end not in context),
            "how do documents begin? A context may begin with <|endoftext|>",
        ),
        Mistake("last n-gram lost", windows(lost=1), "is the very last token of the stream counted?"),
        Mistake("first n-gram lost", windows(late=1), "where does the first full window end? Count its places from 0"),
        Mistake("context too long", windows(longer=1), "an n-gram is n tokens together with the one that is predicted"),
        Mistake(
            "jumping windows",
            windows(step=lambda order: order),
            "n-grams overlap: the window moves on by one token, not by its own length",
        ),
        Mistake(
            "seen or not", windows(once=True), "it matters how often a token came after the context, not only that"
        ),
        Mistake(
            "the opening is predicted",
            windows(first=0),
            "the first token of the stream has nothing before it: it is given, not predicted",
        ),
        Mistake(
            "one dictionary", whole_ngrams, "two dictionaries, one inside the other: first the context, then the token"
        ),
        Mistake(
            "short contexts too",
            short_contexts,
            "only contexts of exactly order - 1 tokens belong into this table, also at the start of a document",
        ),
    ),
    (zipped, remembering, with_numpy),
)


# add_k(counts, vocab_size, k) -> (V,)


def few_counts(seed: int) -> list[tuple[dict[int, int], int, float]]:
    """Some tokens seen and some not, all seen, one seen, none; the counts are not in order."""
    rng = np.random.default_rng(seed)
    some = {
        int(token): int(count) for token, count in zip(rng.permutation(11)[:4], rng.integers(2, 30, 4), strict=True)
    }
    return [
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
) -> Callable[..., np.ndarray]:
    """Each token for itself; `added` is what comes to the sum of the counts. The two make the mistakes."""

    def probabilities(counts: dict[int, int], vocab_size: int, k: float) -> np.ndarray:
        whole = sum(counts.values()) + added(counts, vocab_size, k)
        row = [share(counts.get(token, 0), k) / whole for token in range(vocab_size)] if counts else alike(vocab_size)
        return np.array(row)

    return probabilities


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
        Mistake(
            "k for the seen in the sum",
            one_by_one(added=lambda counts, V, k: k * len(counts)),
            "how many tokens are given k more? Not only those that were seen: the row must sum to 1",
        ),
        Mistake(
            "k not in the sum",
            one_by_one(added=lambda counts, V, k: 0),
            "the row sums to more than 1: what was added above must stand below too",
        ),
        Mistake(
            "k for the seen only",
            one_by_one(lambda c, k: c + k if c else 0, lambda counts, V, k: k * len(counts)),
            "the tokens that were never seen need k most of all",
        ),
        Mistake(
            "unseen left at 0",
            one_by_one(lambda c, k: c + k if c else 0),
            "the sum below counts k for every token, but some tokens did not get theirs: the row sums to less than 1",
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
        Mistake(
            "V in the sum",
            one_by_one(added=lambda counts, V, k: V),
            "V tokens are given k each: how much is that together?",
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

EXERCISES = (COUNT, ADD_K)
