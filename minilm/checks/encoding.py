"""The exercise of lesson 01 that uses learned tokens: the ids of one piece. The oracle looks for ranks; switches make mistakes."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Pair = tuple[int, int]
Function = Callable[..., Any]

# encode_piece(piece, merges) -> ids


def encoding(preference: Function = lambda rank, place, often: (rank, place), letters: Function = list) -> Function:
    """One merge at one place at a time, that of the smallest (rank, place), until none is left; switches make mistakes."""

    def encode(piece: bytes, merges: Sequence[Pair]) -> list[int]:
        ids = letters(piece)
        while True:
            here = list(pairwise(ids))
            known = [(preference(merges.index(p), i, here.count(p)), i) for i, p in enumerate(here) if p in merges]
            if not known:
                return ids
            place = min(known)[1]
            ids[place : place + 2] = [256 + merges.index(here[place])]

    return encode


def passes(order: Function = list, first: int = 256, once: bool = False, ends: bool = False) -> Function:
    """One pass over the ids for each merge; switches make mistakes."""

    def encode(piece: Sequence[int], merges: Sequence[Pair]) -> list[int]:
        ids = list(piece)
        for token, pair in order(enumerate(merges, first)):
            if ends and pair not in pairwise(ids):
                break
            i = 0
            while i < len(ids) - 1:
                if (ids[i], ids[i + 1]) == pair:
                    ids[i : i + 2] = [token]
                    if once:
                        break
                i += 1
        return ids

    return encode


def first_known_pair(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    ids = list(piece)
    while known := [pair for pair in pairwise(ids) if pair in merges]:
        ids = passes()(ids, [(-1, -1)] * merges.index(known[0]) + [known[0]])
    return ids


def longest_match(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    spelled = spellings(merges)
    ids: list[int] = []
    while piece:
        best = max((i for i in range(len(spelled)) if piece.startswith(spelled[i])), key=lambda i: len(spelled[i]))
        ids.append(best)
        piece = piece[len(spelled[best]) :]
    return ids


def one_scan(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    ids: list[int] = []
    i = 0
    while i < len(piece):
        pair = tuple(piece[i : i + 2])
        ids.append(256 + merges.index(pair) if pair in merges else piece[i])
        i += 2 if pair in merges else 1
    return ids


def at_least_one_pair(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    min(pairwise(piece))
    return passes()(piece, merges)


def spellings(merges: Sequence[Pair]) -> list[bytes]:
    """What each token stands for: bytes, then merges."""
    spelled = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    return spelled


def joined_bytes(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    """On byte strings with a table of ids: join the neighbours that make the lowest token, all of them, again and again."""
    table = {token: i for i, token in enumerate(spellings(merges))}
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while joined := [table[a + b] for a, b in pairwise(parts) if a + b in table]:
        i, lowest = 0, min(joined)
        while i < len(parts) - 1:
            if table.get(parts[i] + parts[i + 1]) == lowest:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i += 1
    return [table[part] for part in parts]


def recursive(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    """Undo the last merge: encode with all the others, then apply it."""
    if not merges:
        return list(piece)
    done: list[int] = []
    for i in recursive(piece, merges[:-1]):
        if done and (done[-1], i) == merges[-1]:
            done[-1] = 255 + len(merges)
        else:
            done.append(i)
    return done


def piece_inputs(seed: int) -> list[tuple[Any, ...]]:
    """One to redo on paper, merges that bite each other, runs, characters of several bytes, one byte, none, no merges."""
    a, b, c, d = b"abcd"
    abc = [(b, c), (a, b), (a, 256), (c, d), (a, a), (260, 260), (256, d), (260, a), (d, 258)]
    signs = [(0xC3, 0xA9), (0xF0, 0x9F), (257, 0xA6), (258, 0x94), (0xC3, 0xA8), (256, 259)]
    draw = random.Random(seed)
    noise = [bytes(draw.choices(b"abcd", k=k)) for k in (9, 17, 33)]
    pieces = [b"bcd", b"abcd", b"aaaaaaa", b"aaab", b"dabcab", b"xyz", b"a", b"", *noise]
    others = ["é🦔è".encode(), "été🦔🦁".encode()]
    tiny = [(b"abc", [(b, c), (a, b)]), (b"abab", [(a, b)])]
    return [*tiny, *((p, abc) for p in pieces), *((p, signs) for p in others), (b"abab", [])]


ENCODE = Exercise(
    "encode_piece",
    "begin with the bytes of the piece, list(piece); then take the merges one after the other. You have merge_pair already",
    piece_inputs,
    encoding(),
    (
        Mistake("longest match", longest_match, "do not look for the longest token: apply the merges in their order"),
        Mistake("one scan", one_scan, "merged tokens can be merged again: one walk over the bytes is not enough"),
        Mistake(
            "leftmost first",
            encoding(lambda r, i, n: i),
            "which merge was learned first matters, not which stands first",
        ),
        Mistake(
            "first pair",
            first_known_pair,
            "of all pairs in the piece that are known, the one that was learned first is merged, not the first from the left",
        ),
        Mistake("newest first", encoding(lambda r, i, n: (-r, i)), "what was learned first is applied first"),
        Mistake("backwards", passes(lambda m: list(m)[::-1]), "go through the merges from the first to the last"),
        Mistake(
            "most frequent", encoding(lambda r, i, n: (-n, r, i)), "nothing is counted any more: use the learned order"
        ),
        Mistake("once each", passes(once=True), "a merge applies at every place of the piece"),
        Mistake("gives up", passes(ends=True), "a merge that does not occur is passed over: a later one may occur"),
        Mistake("numbered from 257", passes(first=257), "the first merge makes token 256"),
        Mistake("numbered from 255", passes(first=255), "255 is still a byte: which i has the first merge?"),
        Mistake("numbered from 0", passes(first=0), "ids 0 to 255 are taken by the bytes"),
        Mistake(
            "thrown away",
            lambda piece, merges: list(piece),
            "nothing is merged: merge_pair returns a new list and leaves the old one as it was, so keep what it returns",
        ),
        Mistake(
            "characters", encoding(letters=lambda p: [*map(ord, p.decode())]), "begin with bytes, not with characters"
        ),
        Mistake("one byte", at_least_one_pair, "a piece of one byte, or of none, holds no pair"),
    ),
    (passes(), joined_bytes, recursive),
)

EXERCISES = (ENCODE,)
