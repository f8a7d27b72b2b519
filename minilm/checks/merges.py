"""The exercise of lesson 01 that learns tokens from words. The oracle works on spellings; switches make the mistakes."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Ids = Sequence[int]
Pair = tuple[int, int]
Function = Callable[..., Any]
Order = Callable[[Iterable[Pair], Callable[[Pair], tuple[bytes, bytes]]], list[Pair]]
# Runs, ties, characters of several bytes, one letter, no letter.
WORDS = [list(text.encode()) for text in ("aaa", "aaaa", "abab", "é", "🦔🦔", "a", "", "zebra", "zab", "aabaa")]

# learn_merges(words, frequencies, n_merges) -> pairs


def counted(words: Sequence[Sequence[Any]], frequencies: Ids) -> Counter[Any]:
    """How often each pair of neighbours occurs."""
    counts: Counter[Any] = Counter()
    for word, frequency in zip(words, frequencies, strict=True):
        for pair in pairwise(word):
            counts[pair] += frequency
    return counts


def merged(word: Sequence[Any], pair: tuple[Any, Any], token: Any) -> list[Any]:
    """The word with the token in place of the pair: each part is put on a stack and joined to its left neighbour, if it may be."""
    stack: list[Any] = []
    fresh = False  # whether the last on the stack is a token made just now
    for right in word:
        fresh = bool(stack) and not fresh and (stack[-1], right) == pair
        if fresh:
            stack[-1] = token
        else:
            stack.append(right)
    return stack


def spelled_merges(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
    """On spellings: a word is a list of byte strings, and what is an id is asked at the very end."""
    vocabulary = [bytes([byte]) for byte in range(256)]
    cut = [[bytes([byte]) for byte in word] for word in words]
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges and (counts := counted(cut, frequencies)):
        best: Any = sorted((count, pair) for pair, count in counts.items())[-1][1]
        vocabulary.append(best[0] + best[1])
        cut = [merged(word, best, vocabulary[-1]) for word in cut]
        merges.append(best)
    return [(vocabulary.index(left), vocabulary.index(right)) for left, right in merges]


def learning(
    order: Order = lambda pairs, spelling: sorted(pairs, key=spelling),
    weighted: bool = True,
    number: Callable[[int], int] = lambda step: 256 + step,
    listed: bool = False,
    more: int = 0,
    rarest: int = 1,
    base: str = "merged words",
) -> Function:
    """Learning with switches: the last in `order` wins among equals, `number` names the token of a step.

    What tokens spell is kept by id, or where `listed` in the order of making; what is counted next is `base`.
    """

    def learn(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
        spelled: Any = [bytes([byte]) for byte in range(256)]
        spelled = spelled if listed else dict(enumerate(spelled))
        current, merges = words, []
        for step in range(n_merges + more):
            counts = counted(current, frequencies if weighted else [1] * len(words))
            if (rarest and not counts) or max(counts.values()) < rarest:
                break
            pairs = order(counts, lambda pair: (spelled[pair[0]], spelled[pair[1]]))
            best = max(reversed(pairs), key=lambda pair: counts[pair])
            made = spelled[best[0]] + spelled[best[1]]
            spelled.append(made) if listed else spelled.update({number(step): made})
            if base != "old words":
                current = [merged(w, best, number(step)) for w in (words if base == "first words" else current)]
            merges.append(best)
        return merges

    return learn


def first_seen(key: Callable[[tuple[bytes, bytes]], Any]) -> Order:
    """Ties by a key of what a pair spells, and where that is equal too, the pair that was counted first."""
    return lambda pairs, spelling: sorted([*pairs][::-1], key=lambda pair: key(spelling(pair)))


def bytes_of_ids(pairs: Iterable[Pair], spelling: Function) -> list[Pair]:
    return sorted(pairs, key=lambda pair: (bytes([pair[0]]), bytes([pair[1]])))


def sorted_twice(pairs: Iterable[Pair], spelling: Function) -> list[Pair]:
    return sorted(sorted(pairs, key=lambda pair: spelling(pair)[1]), key=lambda pair: spelling(pair)[0])


def with_distinct_words(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
    """Each word once, as a tuple; what a token spells is found by taking it apart."""
    table, merges = Counter[Any](), list[Pair]()
    for word, frequency in zip(words, frequencies, strict=True):
        table[tuple(word)] += frequency

    def spell(i: int) -> bytes:
        return bytes([i]) if i < 256 else b"".join(map(spell, merges[i - 256]))

    while len(merges) < n_merges and (counts := counted(list(table), list(table.values()))):
        most = max(counts.values())
        merges.append(max((p for p in counts if counts[p] == most), key=lambda p: [spell(i) for i in p]))
        old, table = table, Counter()
        for word, frequency in old.items():
            table[tuple(merged(word, merges[-1], 255 + len(merges)))] += frequency
    return merges


def counted_once(words: Sequence[Ids], frequencies: Ids, n_merges: int) -> list[Pair]:
    counts = counted(words, frequencies)
    return sorted(counts, key=lambda pair: (counts[pair], pair))[::-1][:n_merges]


def learn_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Some to redo on paper, halves of characters, ties of many kinds, tokens of tokens, too few pairs, no merges."""
    draw = random.Random(seed)
    words = [[draw.choice(b"abcd") for _ in range(draw.randrange(1, 9))] for _ in range(8)]
    some = [draw.randrange(1, 5) for _ in words]
    halves = [[0x80, 97], [0xFF, 97], [0xC3, 97]]
    paper = [(["ab"], [2], 3), (["ab", "ac"], [1, 1], 2), (["ab", "zc"], [3, 2], 1), (["sea", "tea"], [3, 3], 2)]
    paper.append((["bz", "ab", "abz", "aba"], [9, 5, 2, 2], 3))
    tiny: list[tuple[Any, ...]] = [([list(text.encode()) for text in texts], often, n) for texts, often, n in paper]
    tiny.append((halves, [2, 2, 2], 2))
    cases = [(WORDS[:4], [9, 2, 5, 3], 3), (words, some, 9), (words, [1] * 8, 7), (words[:2], [2, 3], 99)]
    return [*tiny, *cases, (WORDS, list(range(3, 3 + len(WORDS))), 12), (words, some, 0)]


LEARN = Exercise(
    "learn_merges",
    "begin with current = [list(word) for word in words] and with `spelled` for the 256 bytes; then again and again: count, "
    "choose the best pair, merge it in every word of current, append to spelled what it spells",
    learn_inputs,
    spelled_merges,
    (
        Mistake("unweighted", learning(weighted=False), "hand the frequencies on to the counting"),
        Mistake("first seen", learning(first_seen(lambda s: 0)), "a tie: the last in the alphabet, not the first seen"),
        Mistake("smallest", learning(lambda p, s: sorted(p, key=s)[::-1]), "a tie: not the first in the alphabet"),
        Mistake("by ids", learning(lambda p, s: sorted(p)), "a tie: compare what the tokens spell, not their ids"),
        Mistake("joined", learning(first_seen(b"".join)), "a tie: compare the left bytes, then the right ones"),
        Mistake(
            "left only",
            learning(first_seen(lambda s: s[0])),
            "a tie whose left bytes are the same too: the right decide",
        ),
        Mistake(
            "as characters",
            learning(first_seen(lambda s: [part.decode(errors="replace") for part in s])),
            "a tie: half a character has no letter of its own, so compare bytes and do not decode them",
        ),
        Mistake(
            "bytes of ids",
            learning(bytes_of_ids),
            "bytes([256]) is an error: only 0 to 255 are bytes. Keep a list of what each id stands for, and append to it",
        ),
        Mistake(
            "off by one",
            learning(number=lambda i: 257 + i),
            "the first merge makes token 256, for the bytes are 0 to 255",
        ),
        Mistake(
            "off by one in a list",
            learning(number=lambda i: 257 + i, listed=True),
            "your words hold an id that your list does not reach: the token's id is the length of the list before it grows",
        ),
        Mistake(
            "always 256",
            learning(number=lambda i: 256, listed=True),
            "each merge makes a token of its own: 256, 257, 258 ...",
        ),
        Mistake("one too many", learning(more=1), "n_merges is how many: with 0, nothing is learned"),
        Mistake("counted once", counted_once, "after each merge the pairs are others: count them again"),
        Mistake("not merged", learning(base="old words"), "keep the merged words for the next count"),
        Mistake("begun anew", learning(base="first words"), "merge in the words of the step before"),
        Mistake("nothing left", learning(rarest=0), "stop when no pair is left: words of one token have none"),
        Mistake("twice at least", learning(rarest=2), "a pair that occurs once is merged too, if it is the best"),
    ),
    (learning(listed=True), learning(sorted_twice), with_distinct_words),
)

EXERCISES = (LEARN,)
