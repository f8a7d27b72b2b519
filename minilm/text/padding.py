"""Rows of ids with different lengths -> one rectangle of ids, and a mask that says which of them are real."""

from collections.abc import Sequence

import numpy as np


def pad_batch(
    rows: Sequence[Sequence[int]], pad: int, length: int | None = None, side: str = "right"
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids -> (ids (B, L) int64, mask (B, L): True where a real token is). L is `length`, or that of the longest row.

    Padding right keeps the first L tokens of a longer row; padding left, as for generation, the last L. The mask tells
    padding from a real token that happens to have the id `pad`.

    >>> ids, mask = pad_batch([[5, 6, 7], [8]], pad=0, length=2, side="left")
    >>> ids.tolist(), mask.tolist()
    ([[6, 7], [0, 8]], [[True, True], [False, True]])
    """
    if side not in ("right", "left") or (length is not None and length < 0):
        raise ValueError(f"side is {side!r}, length {length}: pad on the 'right' or 'left', to a length of 0 or more")
    width = max(map(len, rows), default=0) if length is None else length
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        n = min(len(row), width)
        first, start = (0, 0) if side == "right" else (len(row) - n, width - n)  # of what is kept, of where it goes
        ids[i, start : start + n] = row[first : first + n]
        mask[i, start : start + n] = True
    return ids, mask
