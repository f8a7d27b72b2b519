"""The exercises of lesson 01 that learn tokens from words. Oracles by definition or enumeration; switches make the mistakes."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Ids = Sequence[int]
Pair = tuple[int, int]
Function = Callable[..., Any]
# Runs, ties, characters of several bytes, one letter, no letter.
WORDS = [list(text.encode()) for text in ("aaa", "aaaa", "abab", "é", "🦔🦔", "a", "", "zebra", "zab", "aabaa")]
OFTEN = list(range(3, 3 + len(WORDS)))


def word_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Words of bytes, words in which merged tokens stand too, and none."""
    draw = random.Random(seed)
    words = [[draw.choice((97, 98, 99, 256, 300)) for _ in range(draw.randrange(2, 8))] for _ in range(6)]
    easy, weights = ([[97, 97, 98], [98, 97]], [5, 2]), [draw.randrange(2, 50) for _ in words]
    return [easy, (words, weights), (WORDS, OFTEN), ([], [])]


# count_pairs(words, frequencies) -> {pair: how often}


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


def looking_beyond(ids: Ids, pair: Pair, token: int) -> list[int]:
    here = [ids[i] == pair[0] and ids[i + 1] == pair[1] for i in range(len(ids))]
    return defined_merge(ids, pair, token) if here else []


def always_looking_beyond(ids: Ids, pair: Pair, token: int) -> list[int]:
    return [token if (ids[i], ids[i + 1]) == pair else ids[i] for i in range(len(ids))]


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
    short: list[list[int]] = [[7, 7, 7], [8, 7, 8, 7, 8], [17, 8, 7, 8, 88], [256, 7, 8, 256, 7], [7], []]
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
        Mistake("beyond the end", looking_beyond, "the left half may stand at the very end: nothing is to its right"),
        Mistake("always beyond", always_looking_beyond, "the last id has no right neighbour that you could look at"),
    ),
    (scanning(), merged_on_a_stack, merged_in_a_copy),
)


# learn_merges(words, frequencies, n_merges) -> pairs


def spelled_merges(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
    """On spellings: a word is a list of byte strings, and what is an id is asked at the very end."""
    vocabulary = [bytes([byte]) for byte in range(256)]
    cut = [[bytes([byte]) for byte in word] for word in words]
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges and (counts := enumerated_counts(cut, frequencies)):
        best: Any = sorted((count, pair) for pair, count in counts.items())[-1][1]
        vocabulary.append(best[0] + best[1])
        cut = [defined_merge(word, best, vocabulary[-1]) for word in cut]
        merges.append(best)
    return [(vocabulary.index(left), vocabulary.index(right)) for left, right in merges]


def learning(
    order: Function = lambda pairs, spelling: sorted(pairs, key=spelling),
    weighted: bool = True,
    first: int = 256,
    rarest: int = 1,
    base: str = "merged words",
) -> Function:
    """Learning with switches: the last in `order` wins among equals; what is counted for the next merge is `base`."""

    def learn(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
        spelled = {byte: bytes([byte]) for byte in range(256)}
        current, merges = words, []
        for token in range(first, first + n_merges):
            counts = counting(pairwise, weighted)(current, frequencies)
            if (rarest and not counts) or max(counts.values()) < rarest:
                break
            pairs = order(counts, lambda pair: (spelled[pair[0]], spelled[pair[1]]))
            best = max(reversed(pairs), key=lambda pair: counts[pair])
            spelled[token] = spelled[best[0]] + spelled[best[1]]
            if base != "old words":
                current = [merged_on_a_stack(w, best, token) for w in (words if base == "first words" else current)]
            merges.append(best)
        return merges

    return learn


def joined_order(pairs: Iterable[Pair], spelling: Function) -> list[Pair]:
    return sorted(list(pairs)[::-1], key=lambda pair: b"".join(spelling(pair)))


def sorted_twice(pairs: Iterable[Pair], spelling: Function) -> list[Pair]:
    return sorted(sorted(pairs, key=lambda pair: spelling(pair)[1]), key=lambda pair: spelling(pair)[0])


def with_distinct_words(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
    """Each word once, as a tuple; what a token spells is found by taking it apart."""
    table, merges = Counter[Any](), list[Pair]()
    for word, frequency in zip(words, frequencies, strict=True):
        table[tuple(word)] += frequency

    def spell(i: int) -> bytes:
        return bytes([i]) if i < 256 else b"".join(map(spell, merges[i - 256]))

    while len(merges) < n_merges and (counts := counting(pairs)(list(table), list(table.values()))):
        most = max(counts.values())
        merges.append(max((p for p in counts if counts[p] == most), key=lambda p: [spell(i) for i in p]))
        old, table = table, Counter()
        for word, frequency in old.items():
            table[tuple(merged_on_a_stack(word, merges[-1], 255 + len(merges)))] += frequency
    return merges


def counted_once(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
    counts = enumerated_counts(words, frequencies)
    return sorted(counts, key=lambda pair: (counts[pair], pair))[::-1][:n_merges]


def learn_inputs(seed: int) -> list[tuple[Any, ...]]:
    """An easy case, then ties of many kinds, tokens made of tokens, more merges than there are pairs, none."""
    draw = random.Random(seed)
    words = [[draw.choice(b"abcd") for _ in range(draw.randrange(1, 9))] for _ in range(8)]
    some = [draw.randrange(1, 5) for _ in words]
    cases = [(WORDS[:4], [9, 2, 5, 3], 3), (words, some, 9), (words, [1] * 8, 7), (words[:2], [2, 3], 99)]
    return [*cases, (WORDS, OFTEN, 12), (words, some, 0)]


LEARN = Exercise(
    "learn_merges",
    "again and again: count the pairs, choose the best, merge it in every word. Your two functions do most of the work",
    learn_inputs,
    spelled_merges,
    (
        Mistake("unweighted", learning(weighted=False), "hand the frequencies on to the counting"),
        Mistake("first seen", learning(lambda p, s: [*p][::-1]), "a tie: the last in the alphabet, not the first seen"),
        Mistake("smallest", learning(lambda p, s: sorted(p, key=s)[::-1]), "a tie: not the first in the alphabet"),
        Mistake("by ids", learning(lambda p, s: sorted(p)), "a tie: compare what the tokens spell, not their ids"),
        Mistake("joined", learning(joined_order), "a tie: compare the left bytes, then the right ones"),
        Mistake("off by one", learning(first=257), "the first merge makes token 256, for the bytes are 0 to 255"),
        Mistake("counted once", counted_once, "after each merge the pairs are others: count them again"),
        Mistake("not merged", learning(base="old words"), "keep the merged words for the next count"),
        Mistake("begun anew", learning(base="first words"), "merge in the words of the step before"),
        Mistake("nothing left", learning(rarest=0), "stop when no pair is left: words of one token have none"),
        Mistake("twice at least", learning(rarest=2), "a pair that occurs once is merged too, if it is the best"),
    ),
    (learning(), learning(sorted_twice), with_distinct_words),
)

EXERCISES = (COUNT, MERGE, LEARN)
