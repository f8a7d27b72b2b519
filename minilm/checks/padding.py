"""The exercise of lesson 01 that makes one rectangle of rows of ids. The oracle goes place by place; switches make mistakes."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]

# pad_batch(rows, pad, length, side) -> (ids, mask)


def longest(rows: Any) -> int:
    return max(len(row) for row in rows)


def padding(
    shift: Function = lambda side, n, L: n - L if side == "left" else 0,
    width: Function = lambda rows, length: longest(rows) if length is None else length,
    filled: bool = True,
    mask_of: Function = lambda real, ids, pad: real,
    ids_of: Function = lambda ids: ids,
) -> Function:
    """Place j of the rectangle holds token j + shift of the row, if there is one; switches make the mistakes."""

    def pad_rows(rows: Any, pad: int, length: int | None = None, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
        L = width(rows, length)
        ids, real = np.zeros((len(rows), L), dtype=np.int64), np.zeros((len(rows), L), dtype=bool)
        for i, row in enumerate(rows):
            for j in range(L):
                k = j + shift(side, len(row), L)
                real[i, j] = 0 <= k < len(row)
                ids[i, j] = row[k] if real[i, j] else pad * filled
        return ids_of(ids), mask_of(real, ids, pad)

    return pad_rows


def in_slices(start: Callable[[int, int], int], kept: Callable[[Any, int, str], Any]) -> Function:
    """As students write it: a whole slice at a time, from `start` on for padding left, of what is `kept` of the row."""

    def pad_rows(rows: Any, pad: int, length: int | None = None, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
        L = longest(rows) if length is None else length
        ids, mask = np.full((len(rows), L), pad), np.zeros((len(rows), L), dtype=bool)
        for i, row in enumerate(rows):
            part = kept(row, L, side)
            place = slice(len(part)) if side == "right" else slice(start(len(part), L), None)
            ids[i, place] = part
            mask[i, place] = True
        return ids, mask

    return pad_rows


def cut(row: Any, L: int, side: str) -> Any:
    return row[:L] if side == "right" else row[-L:]


def ids_only(rows: Any, pad: int, length: int | None = None, side: str = "right") -> np.ndarray:
    return padding()(rows, pad, length, side)[0]


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
    """Two rows to redo on paper; an empty row, a pad that is a real token too, all lengths, both sides."""
    draw = random.Random(seed)
    rows = [[draw.randrange(5, 90) for _ in range(n)] for n in (3, 7, 0, 1, 5)]
    rows[1][3] = rows[3][0] = 7
    tiny = [([[5], [6, 7, 8]], 9, length, side) for length in (None, 2) for side in ("right", "left")]
    return [*tiny, *((rows, 7, length, side) for length in (None, 4, 9, 1) for side in ("right", "left"))]


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
            "length ignored",
            padding(width=lambda rows, length: longest(rows)),
            "where a length is given, it is the size",
        ),
        Mistake(
            "only cut",
            padding(width=lambda rows, n: min(longest(rows), n or 99)),
            "the length counts also where every row is shorter",
        ),
        Mistake(
            "never cut",
            padding(width=lambda rows, n: max(longest(rows), n or 0)),
            "a row that is longer than the length is cut",
        ),
        Mistake("filled with 0", padding(filled=False), "fill with `pad`, whatever number it is"),
        Mistake(
            "minus nought",
            in_slices(lambda n, L: -n, cut),
            "an empty row: [-0:] is the whole row, so count from the front",
        ),
        Mistake(
            "rows not cut",
            in_slices(lambda n, L: L - n, lambda row, L, side: row),
            "a row longer than L does not fit into its place: which of its tokens are kept?",
        ),
        Mistake(
            "minus nought, rows not cut",
            in_slices(lambda n, L: -n, lambda row, L, side: row),
            "a long row does not fit into its place, and for an empty one [-0:] is the whole row of the rectangle",
        ),
        Mistake(
            "size of the first row",
            padding(width=lambda rows, length: len(rows[0]) if length is None else length),
            "without a length the longest row says how wide the rectangle is, and that need not be the first",
        ),
        Mistake(
            "float mask",
            padding(mask_of=lambda real, ids, pad: real.astype(float)),
            "np.zeros and np.ones make floats unless they are told a dtype: the mask is of bool",
        ),
        Mistake(
            "float ids",
            padding(ids_of=lambda ids: ids.astype(float)),
            "ids are whole numbers: np.zeros, np.ones and np.empty make floats unless they are told a dtype",
        ),
        Mistake(
            "int32", padding(ids_of=lambda ids: ids.astype(np.int32)), "ids are np.int64, the whole numbers of models"
        ),
        Mistake("ids only", ids_only, "two things are asked for: return ids, mask"),
    ),
    (padding(), in_lists, by_mask),
)

EXERCISES = (PAD,)
