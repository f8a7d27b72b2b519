"""The exercise of lesson 03 that counts. Oracle in loops, the mistakes that people make, and other right solutions."""

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
    """First the lesson's own; then empty documents and very short ones, <|endoftext|> the first, the last or a middle id."""
    rng = np.random.default_rng(seed)
    return [
        *(([9, 4, 5, 4, 5, 9, 5], order, 9) for order in (2, 3, 1)),
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


def add_one(counts: Any, context: tuple[int, ...], token: int) -> None:
    after = counts.setdefault(context, {})
    after[token] = after.get(token, 0) + 1


def set_one(counts: Any, context: tuple[int, ...], token: int) -> None:
    counts.setdefault(context, {})[token] = 1


def start_again(counts: Any, context: tuple[int, ...], token: int) -> None:
    counts[context] = {token: 1}


def listed(counts: Any, context: tuple[int, ...], token: int) -> None:
    counts.setdefault(context, []).append(token)


def whole_ngram(counts: Any, context: tuple[int, ...], token: int) -> None:
    counts[*context, token] = counts.get((*context, token), 0) + 1


def bare_key(counts: Any, context: tuple[int, ...], token: int) -> None:
    add_one(counts, context if len(context) != 1 else context[0], token)  # type: ignore[arg-type]


def windows(
    keep: Callable[[tuple[int, ...], int, int], bool] = lambda context, token, end: end not in context[1:],
    store: Callable[[Any, tuple[int, ...], int], None] = add_one,
    first: int | None = None,
    lost: int = 0,
    step: Callable[[int], int] = lambda order: 1,
    longer: int = 0,
    late: int = 0,
    stop: bool = False,
) -> Callable[..., Any]:
    """A window moves over the stream; the switches make the mistakes."""

    def count(ids: list[int], order: int, end: int) -> Any:
        width, counts = order - 1 + longer, {}  # type: ignore[var-annotated]
        begin = (max(1, width) if first is None else max(first, width)) + late * (order > 1)
        for t in range(begin, len(ids) - lost, step(order)):
            context = tuple(ids[t - width : t])
            if keep(context, ids[t], end):
                store(counts, context, ids[t])
            elif stop:
                break
        return counts

    return count


def apart(ids: list[int], order: int, end: int) -> Counts:
    """The n-grams of each document by itself, its <|endoftext|> in front and none behind."""
    starts = [t for t, token in enumerate(ids) if token == end]
    counts: Counts = {}
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        for t in range(start + order - 1, stop):
            add_one(counts, tuple(ids[t - order + 1 : t]), ids[t])
    return counts


def with_opening(name: str, hint: str, **switch: Any) -> tuple[Mistake, Mistake]:
    """A mistake alone, and together with the one that most who make it make too."""
    opening = "with order 1, what stands before the first token of the stream? It is given, not predicted"
    return (
        Mistake(name, windows(**switch), hint),
        Mistake(f"{name}, opening too", windows(first=0, **switch), f"two things: (1) {hint} (2) {opening}"),
    )


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
        *with_opening(
            "across documents",
            "what stood in the document before says nothing about this one: where may <|endoftext|> stand in a context?",
            keep=lambda context, token, end: True,
        ),
        *with_opening(
            "looked for at the wrong end",
            "a context may begin with <|endoftext|>, it may not end or go on with it: which of its tokens do you look at?",
            keep=lambda context, token, end: end not in context[:-1],
        ),
        *with_opening(
            "no context at the start",
            "how do documents begin? A context may begin with <|endoftext|>",
            keep=lambda context, token, end: end not in context,
        ),
        Mistake(
            "the end is not predicted",
            windows(keep=lambda context, token, end: end not in (*context[1:], token)),
            "a model must also learn where documents end: after its last token comes <|endoftext|>",
        ),
        Mistake(
            "no end anywhere",
            windows(keep=lambda context, token, end: end not in (*context, token)),
            "<|endoftext|> is a token like any other: contexts may begin with it, and it is predicted where a document ends",
        ),
        Mistake(
            "documents apart",
            apart,
            "cut apart, documents lose what follows their last token, and that is the <|endoftext|> of the next one",
        ),
        *with_opening(
            "break",
            "one window across a border is left out, but many good ones follow: does your loop go on?",
            stop=True,
        ),
        *with_opening("last n-gram lost", "is the very last token of the stream counted?", lost=1),
        Mistake("first n-gram lost", windows(late=1), "where does the first full window end? Count its places from 0"),
        Mistake("context too long", windows(longer=1), "an n-gram is n tokens together with the one that is predicted"),
        *with_opening(
            "jumping windows",
            "n-grams overlap: the window moves on by one token, not by its own length",
            step=lambda order: order,
        ),
        Mistake(
            "seen or not",
            windows(store=set_one),
            "it matters how often a token came after the context, not only that",
        ),
        Mistake(
            "begun again each time",
            windows(store=start_again),
            "what was counted after a context is gone when the context comes again: begin its dictionary only once",
        ),
        *with_opening(
            "followers in a list",
            "do not keep what came after the context one by one: keep how often each came, {token: count}",
            store=listed,
        ),
        *with_opening(
            "a number as key",
            "the context is a tuple for every order: with one token it is (4,), not 4",
            store=bare_key,
        ),
        *with_opening(
            "one dictionary",
            "two dictionaries, one inside the other: first the context, then the token",
            store=whole_ngram,
        ),
        Mistake(
            "the opening is predicted",
            windows(first=0),
            "the first token of the stream has nothing before it: it is given, not predicted",
        ),
        Mistake(
            "short contexts too",
            short_contexts,
            "only contexts of exactly order - 1 tokens belong into this table, also at the start of a document",
        ),
    ),
    (zipped, remembering, with_numpy),
)

EXERCISES = (COUNT,)
