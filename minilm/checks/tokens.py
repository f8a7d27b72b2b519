"""The exercises of lesson 01 on pairs of neighbours: counting them, merging one. Oracles by definition; switches make mistakes."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Ids = Sequence[int]
Pair = tuple[int, int]
Function = Callable[..., Any]
# Runs, characters of several bytes, one letter, no letter.
WORDS = [list(text.encode()) for text in ("aaa", "aaaa", "abab", "é", "🦔🦔", "a", "", "zebra", "zab", "aabaa")]
OFTEN = list(range(3, 3 + len(WORDS)))

# count_pairs(words, frequencies) -> {pair: how often}


def word_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Three to redo on paper, words of bytes, words in which merged tokens stand too; each holds a pair."""
    draw = random.Random(seed)
    words = [[draw.choice((97, 98, 99, 256, 300)) for _ in range(draw.randrange(2, 8))] for _ in range(6)]
    weights = [draw.randrange(2, 50) for _ in words]
    tiny = [([[97, 97, 97]], [2]), ([[97, 98], [99, 97, 98]], [2, 3]), ([[97, 97, 98], [98, 97]], [5, 2])]
    return [*tiny, (words, weights), (WORDS, OFTEN)]


def enumerated_counts(words: Sequence[Sequence[Any]], frequencies: Ids) -> dict[Any, int]:
    """For every two ids, look at every place where they may stand."""
    ids = {i for word in words for i in word}
    weighed = list(zip(words, frequencies, strict=True))
    counts = {(a, b): sum(f * list(pairwise(w)).count((a, b)) for w, f in weighed) for a in ids for b in ids}
    return {pair: count for pair, count in counts.items() if count}


def counting(pairs_of: Callable[[Ids], Iterable[Any]], weighted: bool = True, adding: bool = True) -> Function:
    """Counting with an idea of which pairs a word holds and what they weigh; mostly a wrong one."""

    def count(words: Sequence[Ids], frequencies: Ids) -> dict[Pair, int]:
        counts: dict[Pair, int] = {}
        for word, frequency in zip(words, frequencies, strict=True):
            for pair in pairs_of(word):
                counts[pair] = (counts.get(pair, 0) if adding else 0) + (frequency if weighted else 1)
        return counts

    return count


def nothing_there_yet(words: Sequence[Ids], frequencies: Ids) -> dict[Pair, int]:
    counts: dict[Pair, int] = {}
    for word, frequency in zip(words, frequencies, strict=True):
        for pair in pairwise(word):
            counts[pair] += frequency
    return counts


def one_word(words: Sequence[Ids], frequencies: Ids) -> dict[Pair, int]:
    return counting(pairwise)(words[:1], frequencies[:1])


def one_pair(words: Sequence[Ids], frequencies: Ids) -> dict[Pair, int]:
    return next({pair: f} for word, f in zip(words, frequencies, strict=True) for pair in pairwise(word))


def repeated(words: Sequence[Ids], frequencies: Ids) -> dict[Pair, int]:
    return counting(pairwise)([[*word] * f for word, f in zip(words, frequencies, strict=True)], [1] * len(words))


def in_one_row(words: Sequence[Ids], frequencies: Ids) -> dict[Pair, int]:
    return counting(pairwise)([[i for word, f in zip(words, frequencies, strict=True) for i in [*word] * f]], [1])


def without_overlap(word: Ids) -> list[Pair]:
    return [pair for pair in set(pairwise(word)) for _ in range(defined_merge(word, pair, -1).count(-1))]


def pairs(word: Ids) -> list[Any]:
    return [tuple(word[i - 1 : i + 1]) for i in range(1, len(word))]


def with_counters(words: Sequence[Ids], frequencies: Ids) -> Counter[Pair]:
    total: Counter[Pair] = Counter()
    for word, frequency in zip(words, frequencies, strict=True):
        total.update({pair: n * frequency for pair, n in Counter(pairwise(word)).items()})
    return total


COUNT = Exercise(
    "count_pairs",
    "one loop over words and frequencies together, in it one over the places of a word; keep the sums in a dictionary",
    word_inputs,
    enumerated_counts,
    (
        Mistake("unweighted", counting(pairwise, weighted=False), "a word that occurs 5 times counts 5 times"),
        Mistake("across words", in_one_row, "pairs live inside a word: its last id has no right neighbour"),
        Mistake("no overlap", counting(without_overlap), "every place counts: aaa holds the pair (a, a) twice"),
        Mistake("every second", counting(lambda w: [*pairwise(w)][::2]), "a pair begins at every place but the last"),
        Mistake("unordered", counting(lambda w: map(tuple, map(sorted, pairwise(w)))), "(a, b) is not (b, a)"),
        Mistake("last missed", counting(lambda w: [*pairwise(w)][:-1]), "n ids have n - 1 pairs: look at the end"),
        Mistake("once a word", counting(lambda w: set(pairwise(w))), "a pair may stand in one word several times"),
        Mistake("round", counting(lambda w: zip([*w[-1:], *w], w, strict=False)), "w[-1] is the last id: start at 1"),
        Mistake("beyond", counting(lambda w: [(w[i], w[i + 1]) for i in range(len(w))]), "the range ends too late"),
        Mistake("overwritten", counting(pairwise, adding=False), "add to what is already counted for the pair"),
        Mistake(
            "no key yet", nothing_there_yet, "+= reads the old sum first, and a pair seen for the first time has none"
        ),
        Mistake("one word", one_word, "only one word is counted: how far to the right does `return` stand?"),
        Mistake(
            "one pair", one_pair, "only one pair is counted: `return` ends the function, in whatever loop it stands"
        ),
        Mistake(
            "repeated", repeated, "word * 3 puts copies side by side, and their ends become neighbours: multiply counts"
        ),
    ),
    (
        with_counters,
        counting(pairs),
        lambda ws, fs: dict(Counter(p for w, f in zip(ws, fs, strict=True) for p in pairs(w) * f)),
    ),
)


# merge_pair(ids, pair, token) -> ids


def defined_merge(ids: Sequence[Any], pair: tuple[Any, Any], token: Any) -> list[Any]:
    """By definition: the pair is replaced where it stands, unless it was replaced one place before."""

    def begins(place: int) -> bool:
        return place >= 0 and tuple(ids[place : place + 2]) == pair and not begins(place - 1)

    return [token if begins(i) else ids[i] for i in range(len(ids)) if not begins(i - 1)]


def scanning(step: int = 2, once: bool = False, lost: int = 0) -> Function:
    """A walk from left to right; the switches make the mistakes."""

    def merge(ids: Ids, pair: Pair, token: int) -> list[int]:
        merged: list[int] = []
        i = 0
        while i < len(ids) - lost:
            found = tuple(ids[i : i + 2]) == pair and not (once and token in merged)
            merged.append(token if found else ids[i])
            i += step if found else 1
        return merged

    return merge


def overlapping(ids: Ids, pair: Pair, token: int) -> list[int]:
    here = [tuple(ids[i : i + 2]) == pair for i in range(len(ids))]
    return [token if here[i] else ids[i] for i in range(len(ids)) if here[i] or i == 0 or not here[i - 1]]


def walking(
    found: Callable[[Ids, int, Pair], bool], stop: int = 0, rest: bool = False, guarded: bool = False
) -> Function:
    """The walk as students write it: `found` may look too far, the walk may end `stop` early, the last id may follow."""

    def merge(ids: Ids, pair: Pair, token: int) -> list[int]:
        merged: list[int] = []
        i = 0
        while i < len(ids) - stop:
            here = found(ids, i, pair)
            merged.append(token if here else ids[i])
            i += 2 if here else 1
        return [*merged, ids[-1]] if rest or (guarded and ids) else merged

    return merge


def both(ids: Ids, i: int, pair: Pair) -> bool:
    return (ids[i], ids[i + 1]) == pair


def one_after_the_other(ids: Ids, i: int, pair: Pair) -> bool:
    return ids[i] == pair[0] and ids[i + 1] == pair[1]


def for_every_place(ids: Ids, pair: Pair, token: int) -> list[int]:
    return [token if both(ids, i, pair) else ids[i] for i in range(len(ids))]


def as_text(ids: Ids, pair: Pair, token: int) -> list[int]:
    return [int(n) for n in " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(token)).split()]


def merged_on_a_stack(ids: Ids, pair: Pair, token: int) -> list[int]:
    stack: list[int] = []
    for right in ids:
        if stack and (stack[-1], right) == pair:
            stack[-1] = token
        else:
            stack.append(right)
    return stack


def merged_in_a_copy(ids: Ids, pair: Pair, token: int) -> list[int]:
    ids = list(ids)
    for i in range(len(ids)):
        if tuple(ids[i : i + 2]) == pair:
            ids[i : i + 2] = [token]
    return ids


def merge_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Runs, the pair at both ends, its left half at the end, ids whose digits end in those of the pair, none."""
    draw = random.Random(seed)
    noise = [draw.choice((7, 8, 17)) for _ in range(40)]
    short: list[list[int]] = [[7, 8], [7, 7, 7], [8, 7, 8, 7, 8], [17, 8, 7, 8, 88], [256, 7, 8, 256, 7], [7], []]
    rows = [*short, [7] * 6 + [8, 7], noise]
    return [(ids, pair, 300 + i) for i, ids in enumerate(rows) for pair in ((7, 7), (7, 8), (8, 7), (256, 7))]


MERGE = Exercise(
    "merge_pair",
    "walk through the ids with a place i: where the pair stands, append the token and go on by two, else by one",
    merge_inputs,
    defined_merge,
    (
        Mistake("first only", scanning(once=True), "replace every occurrence, not the first only"),
        Mistake("from the right", lambda w, p, t: defined_merge(w[::-1], p[::-1], t)[::-1], "aaa: merge the first two"),
        Mistake("overlap", overlapping, "an id that was merged is used up: aaa becomes one token and an a"),
        Mistake("right half kept", scanning(step=1), "both ids go away: step over both of them"),
        Mistake("end lost", scanning(lost=1), "the last id must not get lost if it has no partner"),
        Mistake(
            "either order", lambda w, p, t: defined_merge(defined_merge(w, p, t), p[::-1], t), "a pair has an order"
        ),
        Mistake("as text", as_text, "digits match inside longer numbers (7 in 17): compare the ids themselves"),
        Mistake(
            "never equal", lambda ids, pair, token: [*ids], "nothing is replaced: is a list ever equal to a tuple?"
        ),
        Mistake(
            "beyond the end",
            walking(one_after_the_other),
            "the left half may stand at the very end: what is ids[i + 1]?",
        ),
        Mistake(
            "always beyond",
            walking(both),
            "the last id has no right neighbour: ask for ids[i + 1] only where there is one",
        ),
        Mistake("for", for_every_place, "a for loop visits every place: the last, and those that a merge has used up"),
        Mistake("end again", walking(both, stop=1, guarded=True), "a last id that a merge used up must not come again"),
        Mistake(
            "end twice", walking(both, stop=1, rest=True), "was the last id used up already? And is there one at all?"
        ),
    ),
    (scanning(), merged_on_a_stack, merged_in_a_copy),
)

EXERCISES = (COUNT, MERGE)
