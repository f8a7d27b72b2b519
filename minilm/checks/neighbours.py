"""The exercise of lesson 27 on which words meet: an oracle over all pairs of places, its mistakes, and other right solutions."""

import random
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Texts = Sequence[Sequence[Hashable]]
Counts = dict[Any, Any]

LONG = 8000  # words: as many squared are too many, some times as many are not

# count_neighbours(documents, window) -> {(word, other): sum of 1 / distance}


def all_pairs(
    documents: Texts,
    window: int,
    sees: Callable[[int, int], bool] = lambda step, window: 0 < abs(step) <= window,
    worth: Callable[[int, int], float] = lambda distance, window: 1 / distance,
    meets: Callable[[Any, Any], bool] = lambda word, other: True,
    joined: bool = False,
    equals: float = 1.0,
    reach: int = 1,
) -> Counts:
    """Every place of a document with every place near it: which see each other, and how much that counts.

    The switches make the mistakes; `equals` is the part that counts where the two words are the same. Near are those up to
    `reach` places beyond the window, for the sake of time.
    """
    counts: Counts = {}
    for words in [list(chain(*documents))] if joined else documents:
        for s, word in enumerate(words):
            for t in range(max(0, s - window - reach), min(len(words), s + window + reach + 1)):
                other = words[t]
                if sees(t - s, window) and meets(word, other):
                    share = worth(abs(t - s), window) * (equals if word == other else 1.0)
                    counts[word, other] = counts.get((word, other), 0.0) + share
    return counts


def counted(**switch: Any) -> Any:
    """The walk with switches thrown."""
    return lambda documents, window: all_pairs(documents, window, **switch)


def not_added(documents: Texts, window: int) -> Counts:
    counts: Counts = {}
    for words in documents:
        for s, word in enumerate(words):
            for t in range(max(0, s - window), min(len(words), s + window + 1)):
                if t != s:
                    counts[word, words[t]] = 1 / abs(t - s)
    return counts


def round_the_corner(documents: Texts, window: int) -> Counts:
    """Places below 0 count from the end."""
    counts: Counts = Counter()
    for words in documents:
        for s, word in enumerate(words):
            for step in (*range(-window, 0), *range(1, window + 1)):
                if s + step < len(words):
                    counts[word, words[s + step]] += 1 / abs(step)
    return counts


def round_the_corner_both_ways(documents: Texts, window: int) -> Counts:
    """To the left only, both orders counted at once."""
    counts: Counts = Counter()
    for words in documents:
        for s, word in enumerate(words):
            for step in range(1, window + 1):
                counts[word, words[s - step]] += 1 / step
                counts[words[s - step], word] += 1 / step
    return counts


def first_places(documents: Texts, window: int) -> Counts:
    """The place of a word is looked up, and found at its first occurrence."""
    counts: Counts = Counter()
    for words in documents:
        for word in words:
            s = words.index(word)
            for t in range(max(0, s - window), min(len(words), s + window + 1)):
                if t != s:
                    counts[word, words[t]] += 1 / abs(t - s)
    return counts


def one_order(documents: Texts, window: int) -> Counts:
    counts: Counts = Counter()
    for words in documents:
        for s, word in enumerate(words):
            for t in range(s + 1, min(len(words), s + window + 1)):
                counts[tuple(sorted((word, words[t]), key=str))] += 1 / (t - s)
    return counts


def tables_in_a_table(documents: Texts, window: int) -> Counts:
    counts: Counts = {}
    for (word, other), count in all_pairs(documents, window).items():
        counts.setdefault(word, {})[other] = count
    return counts


def by_distance(documents: Texts, window: int) -> Counts:
    """The text beside itself, moved on by one place, by two, ..."""
    counts: Counts = Counter()
    for words in documents:
        for distance in range(1, window + 1):
            for left, right in zip(words, words[distance:], strict=False):
                counts[left, right] += 1 / distance
                counts[right, left] += 1 / distance
    return counts


def by_slices(documents: Texts, window: int) -> Counts:
    """What each word has before it, the nearest first, and behind it."""
    counts: Counts = {}
    for words in documents:
        for s, word in enumerate(words):
            before, behind = words[max(0, s - window) : s][::-1], words[s + 1 : s + 1 + window]
            for side in (before, behind):
                for distance, other in enumerate(side, 1):
                    counts[word, other] = counts.get((word, other), 0) + 1 / distance
    return counts


def by_memory(documents: Texts, window: int) -> Counts:
    """The last words are kept, and each new one meets them; at the end of a document all is forgotten."""
    counts: Counts = Counter()
    for words in documents:
        last: deque[Any] = deque(maxlen=window)
        for word in words:
            for distance, other in enumerate(last, 1):
                for pair in ((word, other), (other, word)):
                    counts[pair] += distance**-1
            last.appendleft(word)
    return dict(counts)


def neighbour_inputs(seed: int) -> list[tuple[Texts, int]]:
    """By hand; words that come again, also side by side; empty and short texts; a window of 1, and one beyond the longest.

    One text is long: who compares all its places with each other takes too long.
    """
    draw = random.Random(seed)

    def text(n: int) -> list[str]:
        return [draw.choice(("the", "cat", "🦔", "sat", "The")) for _ in range(n)]

    some = [text(7), [], text(1), text(12), text(2)]
    hand: list[tuple[Texts, int]] = [([["a", "b"]], 1), ([["a", "b", "c"]], 2), ([["a", "b", "a"], ["b"]], 2)]
    return [
        *hand,
        ([["a", "a"]], 1),
        (some, 1),
        (some, 4),
        ([text(9), text(5)], 3),
        (some, 15),
        ([], 2),
        ([text(LONG)], 2),
    ]


NEIGHBOURS = Exercise(
    "count_neighbours",
    "for each document, for each place t of it, for each distance from 1 to window: which word is there, if any? "
    "Add 1 / distance to the count of the two, in both orders",
    neighbour_inputs,
    all_pairs,
    (
        Mistake("every meeting counts 1", counted(worth=lambda d, n: 1.0), "a word d places away counts 1 / d"),
        Mistake("whole division", counted(worth=lambda d, n: 1 // d), "1 // d is 0 beyond the next word: divide by /"),
        Mistake(
            "shares fall in a straight line",
            counted(worth=lambda d, n: (n + 1 - d) / n),
            "your shares fall in a straight line to the end of the window, as word2vec's do: here it is 1 / distance",
        ),
        Mistake("halves", counted(worth=lambda d, n: 0.5**d), "1 / d, not 1 / 2 to the power of d"),
        Mistake(
            "halves from the second on", counted(worth=lambda d, n: 0.5 ** (d - 1)), "1, 1/2, 1/3, not 1, 1/2, 1/4"
        ),
        Mistake(
            "distance begins at 2",
            counted(worth=lambda d, n: 1 / (d + 1)),
            "two neighbours are 1 place apart, and count 1 whole",
        ),
        Mistake("squares", counted(worth=lambda d, n: 1 / d**2), "1 / d, not 1 / d squared"),
        Mistake(
            "to the right only",
            counted(sees=lambda step, n: 0 < step <= n),
            "your words see only what follows: they see what is before them, too",
        ),
        Mistake(
            "to the left only",
            counted(sees=lambda step, n: 0 < -step <= n),
            "your words see only what is before them: they see what follows, too",
        ),
        Mistake(
            "window too short",
            counted(sees=lambda step, n: 0 < abs(step) < n),
            "the word `window` places away is seen, too: where does range end?",
        ),
        Mistake(
            "window too long",
            counted(sees=lambda step, n: 0 < abs(step) <= n + 1),
            "you see one place too far: `window` is the largest distance",
        ),
        Mistake(
            "window halved",
            counted(sees=lambda step, n: 0 < abs(step) <= n // 2),
            "the window is that wide on either side, not together",
        ),
        Mistake(
            "sees itself",  # ZeroDivisionError
            counted(sees=lambda step, n: abs(step) <= n),
            "a place does not see itself: distances begin at 1",
        ),
        Mistake(
            "no window",
            counted(sees=lambda step, n: step != 0, reach=LONG),
            "words further apart than `window` do not meet",
        ),
        Mistake(
            "over the border",
            counted(joined=True),
            "a document ends what its words can see: the last word of one does not meet the first of the next",
        ),
        Mistake(
            "never its equal",
            counted(meets=lambda word, other: word != other),
            "a word can meet itself, at another place: in `a b a` the two a are 2 apart",
        ),
        Mistake(
            "equals once", counted(equals=0.5), "of two equal words each sees the other, so (a, a) gets 1 / d twice"
        ),
        Mistake("not added", not_added, "add to what the pair has already: pairs meet again"),
        Mistake(
            "begun anew",
            lambda documents, window: all_pairs(documents[-1:], window),
            "one table for all documents: make it before the loop",
        ),
        Mistake(
            "returned too early",
            lambda documents, window: all_pairs(documents[:1], window),
            "you return after the first document: is the `return` inside the loop?",
        ),
        Mistake("round the corner", round_the_corner, "words[-1] is the last word: a place below 0 must be left out"),
        Mistake(
            "round the corner both ways",
            round_the_corner_both_ways,
            "a word near the beginning meets those of the end: words[s - d] is there only if s - d >= 0",
        ),
        Mistake(
            "first places",
            first_places,
            "index() finds the first place of a word, and words come again: go through the places with enumerate",
        ),
        Mistake("one order", one_order, "both (a, b) and (b, a) are keys: the table is symmetric"),
        Mistake("tables in a table", tables_in_a_table, "one dictionary, whose keys are pairs (word, other)"),
    ),
    (by_distance, by_slices, by_memory),
)

EXERCISES = (NEIGHBOURS,)
