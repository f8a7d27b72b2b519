"""The exercises of lesson 01 that use learned tokens: the ids of one piece, and rows of ids as one rectangle."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Pair = tuple[int, int]
Function = Callable[..., Any]

# encode_piece(piece, merges) -> ids


def encoding(
    preference: Function = lambda rank, place, often: (rank, place), first: int = 256, letters: Function = list
) -> Function:
    """One merge at one place at a time, that of the smallest (rank, place), until none is left; switches make mistakes."""

    def encode(piece: bytes, merges: Sequence[Pair]) -> list[int]:
        ids = letters(piece)
        while True:
            here = list(pairwise(ids))
            known = [(preference(merges.index(p), i, here.count(p)), i) for i, p in enumerate(here) if p in merges]
            if not known:
                return ids
            place = min(known)[1]
            ids[place : place + 2] = [first + merges.index(here[place])]

    return encode


def passes(order: Function = list, once: bool = False, ends: bool = False) -> Function:
    """One pass over the ids for each merge; switches make mistakes."""

    def encode(piece: bytes, merges: Sequence[Pair]) -> list[int]:
        ids = list(piece)
        for token, pair in order(enumerate(merges, 256)):
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
    """Merges that bite each other, runs, characters of several bytes, one byte, none, no merges."""
    a, b, c, d = b"abcd"
    abc = [(b, c), (a, b), (a, 256), (c, d), (a, a), (260, 260), (256, d), (260, a), (d, 258)]
    signs = [(0xC3, 0xA9), (0xF0, 0x9F), (257, 0xA6), (258, 0x94), (0xC3, 0xA8), (256, 259)]
    draw = random.Random(seed)
    noise = [bytes(draw.choices(b"abcd", k=k)) for k in (9, 17, 33)]
    pieces = [b"abcd", b"aaaaaaa", b"aaab", b"dabcab", b"xyz", b"a", b"", *noise]
    others = ["é🦔è".encode(), "été🦔🦁".encode()]
    return [(b"abab", [(a, b)]), *((p, abc) for p in pieces), *((p, signs) for p in others), (b"abab", [])]


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
        Mistake("newest first", encoding(lambda r, i, n: (-r, i)), "what was learned first is applied first"),
        Mistake("backwards", passes(lambda m: list(m)[::-1]), "go through the merges from the first to the last"),
        Mistake(
            "most frequent", encoding(lambda r, i, n: (-n, r, i)), "nothing is counted any more: use the learned order"
        ),
        Mistake("once each", passes(once=True), "a merge applies at every place of the piece"),
        Mistake("gives up", passes(ends=True), "a merge that does not occur is passed over: a later one may occur"),
        Mistake("numbered from 257", encoding(first=257), "the first merge makes token 256"),
        Mistake("numbered from 0", encoding(first=0), "ids 0 to 255 are taken by the bytes"),
        Mistake(
            "characters", encoding(letters=lambda p: [*map(ord, p.decode())]), "begin with bytes, not with characters"
        ),
        Mistake("one byte", at_least_one_pair, "a piece of one byte, or of none, holds no pair"),
    ),
    (passes(), joined_bytes, recursive),
)


# pad_batch(rows, pad, length, side) -> (ids, mask)


def padding(
    shift: Function = lambda side, n, L: n - L if side == "left" else 0,
    width: Function = lambda longest, length: longest if length is None else length,
    filled: bool = True,
    mask_of: Function = lambda real, ids, pad: real,
) -> Function:
    """Place j of the rectangle holds token j + shift of the row, if there is one; switches make the mistakes."""

    def pad_rows(rows: Any, pad: int, length: int | None = None, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
        L = width(max(len(row) for row in rows), length)
        ids, real = np.zeros((len(rows), L), dtype=np.int64), np.zeros((len(rows), L), dtype=bool)
        for i, row in enumerate(rows):
            for j in range(L):
                k = j + shift(side, len(row), L)
                real[i, j] = 0 <= k < len(row)
                ids[i, j] = row[k] if real[i, j] else pad * filled
        return ids, mask_of(real, ids, pad)

    return pad_rows


def minus_nought(rows: Any, pad: int, length: int | None = None, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
    ids, mask = padding()(rows, pad, length, side)
    for i, row in enumerate(rows):
        if side == "left":
            ids[i, -len(row) :] = row[-ids.shape[1] :]
    return ids, mask


def in_lists(rows: Any, pad: int, length: int | None = None, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
    L = max(map(len, rows)) if length is None else length
    if side == "left":
        ids, mask = in_lists([row[::-1] for row in rows], pad, L)
        return ids[:, ::-1], mask[:, ::-1]
    ids = np.array([(list(row) + [pad] * L)[:L] for row in rows], dtype=np.int64).reshape(len(rows), L)
    return ids, np.array([[j < len(row) for j in range(L)] for row in rows], dtype=bool).reshape(len(rows), L)


def by_mask(rows: Any, pad: int, length: int | None = None, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array([len(row) for row in rows])
    L = int(sizes.max()) if length is None else length
    place = np.arange(L)[None, :] if side == "right" else np.arange(L)[None, ::-1]
    mask = place < sizes[:, None]
    kept = [row[:L] if side == "right" else row[max(0, len(row) - L) :] for row in rows]
    ids = np.full(mask.shape, pad)
    ids[mask] = [i for row in kept for i in row]
    return ids, mask


def row_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Empty rows, a pad that is a real token too, lengths below and above the longest row, both sides."""
    draw = random.Random(seed)
    rows = [[draw.randrange(5, 90) for _ in range(n)] for n in (3, 7, 0, 1, 5)]
    rows[1][3] = rows[3][0] = 7
    sizes = (None, 4, 9, 1)
    return [(rows, 7, length, side) for length in sizes for side in ("right", "left")] + [([[], []], 3, None, "left")]


PAD = Exercise(
    "pad_batch",
    "first the size, then a rectangle full of `pad` (np.full) and one of False; then write each row to its place in both",
    row_inputs,
    padding(),
    (
        Mistake(
            "mask inverted", padding(mask_of=lambda real, ids, pad: ~real), "the mask is True where a token is real"
        ),
        Mistake(
            "by value", padding(mask_of=lambda real, ids, pad: ids != pad), "a real token may have the id `pad` too"
        ),
        Mistake(
            "numbers",
            padding(mask_of=lambda real, ids, pad: real.astype(int)),
            "the mask holds True and False, not 1 and 0",
        ),
        Mistake("side ignored", padding(lambda side, n, L: 0), "look at `side`: on the left the padding comes first"),
        Mistake(
            "sides swapped",
            padding(lambda side, n, L: n - L if side == "right" else 0),
            "`side` is where the padding goes",
        ),
        Mistake(
            "left keeps the first",
            padding(lambda side, n, L: n - L if side == "left" and n < L else 0),
            "padding left keeps the last tokens of a long row: they are what the next token follows",
        ),
        Mistake(
            "right keeps the last",
            padding(lambda side, n, L: n - L if side == "left" or n > L else 0),
            "padding right keeps the first tokens of a long row",
        ),
        Mistake(
            "length ignored", padding(width=lambda longest, length: longest), "where a length is given, it is the size"
        ),
        Mistake(
            "only cut", padding(width=lambda a, b: min(a, b or a)), "the length counts also where every row is shorter"
        ),
        Mistake("never cut", padding(width=lambda a, b: max(a, b or a)), "a row that is longer than the length is cut"),
        Mistake("filled with 0", padding(filled=False), "fill with `pad`, whatever number it is"),
        Mistake("minus nought", minus_nought, "an empty row: [-0:] is the whole row, so count from the front"),
    ),
    (padding(), in_lists, by_mask),
)

EXERCISES = (ENCODE, PAD)
