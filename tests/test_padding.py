"""Padding against a definition in one sentence: place j of the rectangle is token j of the row, counted from the right end."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.text import padding
from minilm.text.padding import pad_batch

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=7), min_size=1, max_size=5)


def by_definition(rows, pad, length, side):
    """Lists of (id, real): the longer of row and padding, cut at the end that `side` lets go."""
    table = []
    for row in rows:
        real, filling = [(i, True) for i in row], [(pad, False)] * length
        table.append((real + filling)[:length] if side == "right" else (filling + real)[len(row) :])
    return table


@given(ROWS, st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9)), st.sampled_from(["right", "left"]))
def test_definition(rows, pad, length, side):
    ids, mask = pad_batch(rows, pad, length, side)
    size = max(len(row) for row in rows) if length is None else length
    expected = by_definition(rows, pad, size, side)
    assert ids.dtype == np.int64 and mask.dtype == bool and ids.shape == mask.shape == (len(rows), size)
    assert ids.tolist() == [[i for i, _ in row] for row in expected]
    assert mask.tolist() == [[real for _, real in row] for row in expected]


def test_by_hand():
    rows = [[5, 6, 7, 8], [], [0]]
    ids, mask = pad_batch(rows, pad=0, length=3)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 0], [0, 0, 0]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    ids, mask = pad_batch(rows, pad=9, length=3, side="left")
    assert ids.tolist() == [[6, 7, 8], [9, 9, 9], [9, 9, 0]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [False, False, True]]


def test_no_rows_and_rows_of_any_kind():
    assert pad_batch([], pad=4)[0].shape == (0, 0)
    assert pad_batch([], pad=4, length=6)[1].shape == (0, 6)
    ids, _ = pad_batch([(1, 2), np.array([3]), range(4, 6)], pad=70_000, length=3)
    assert ids.tolist() == [[1, 2, 70_000], [3, 70_000, 70_000], [4, 5, 70_000]]


def test_the_rows_are_not_touched():
    rows = [[3, 4, 5], [6]]
    ids, _ = pad_batch(rows, pad=1, length=2, side="left")
    ids[:] = 8
    assert rows == [[3, 4, 5], [6]]


@pytest.mark.parametrize(("length", "side"), [(2, "Left"), (2, ""), (-1, "right"), (-3, "left")])
def test_what_is_no_size_or_side_is_one_clear_error(length, side):
    with pytest.raises(ValueError, match=rf"side is '{side}', length {length}: pad on the 'right' or 'left'"):
        pad_batch([[1]], 0, length, side)


def test_the_worked_example():
    assert doctest.testmod(padding).failed == 0 and doctest.testmod(padding).attempted == 2
