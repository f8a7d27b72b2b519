"""Co-occurrence counts: against brute force over all pairs of places, whatever the block, and in bounded memory."""

import doctest
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from minilm.bench import classical_glove
from minilm.classical import cooccurrence
from minilm.classical.bag_of_ngrams import SparseCounts, words
from minilm.classical.cooccurrence import OUTSIDE, blocks, cooccurrences, count_neighbours, merge, word_ids


def by_definition(documents: list[np.ndarray], V: int, window: int) -> np.ndarray:
    """X (V, V): every ordered pair of different places of a document, as a fraction."""
    X = [[Fraction(0)] * V for _ in range(V)]
    for document in documents:
        for s, a in enumerate(document):
            for t, b in enumerate(document):
                if s != t and abs(s - t) <= window and a >= 0 and b >= 0:
                    X[a][b] += Fraction(1, abs(s - t))
    return np.array(X, dtype=np.float64)


def dense(X: SparseCounts) -> np.ndarray:
    """The table; each entry must stand once, in order, and be above 0."""
    table = np.zeros(X.shape)
    keys = X.rows * X.n_columns + X.columns
    assert (np.diff(keys) > 0).all() and (X.values > 0).all()
    table[X.rows, X.columns] = X.values
    return table


def random_texts(seed: int) -> tuple[list[np.ndarray], int, int]:
    """(documents, V, window): windows up to three times as long as the documents, words that are repeated or unknown."""
    rng = np.random.default_rng(seed)
    V, window = int(rng.integers(1, 9)), int(rng.integers(1, 25))
    lengths = rng.integers(0, 9 if seed % 2 else 40, size=int(rng.integers(0, 7)))
    return [rng.integers(OUTSIDE, V, size=length) for length in lengths], V, window


@pytest.mark.parametrize("seed", range(200))
def test_counts_are_those_of_brute_force(seed: int) -> None:
    """TEST_PLAN 4.3: 200 texts; PITFALLS row 100 and mistake 85: both directions, 1 / distance, document borders."""
    documents, V, window = random_texts(seed)
    expected = by_definition(documents, V, window)
    X = cooccurrences(documents, V, window, block=1 + seed % 50)
    np.testing.assert_allclose(dense(X), expected, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(dense(X), dense(X).T)
    plain = count_neighbours([document.tolist() for document in documents], window)
    known = {(a, b): count for (a, b), count in plain.items() if OUTSIDE not in (a, b)}
    assert {pair: expected[pair] for pair in known} == pytest.approx(known, rel=1e-12)
    assert len(known) == np.count_nonzero(expected)


@pytest.mark.parametrize("block", [1, 2, 3, 17, 400, 10**6])
def test_the_size_of_a_block_does_not_matter(block: int) -> None:
    rng = np.random.default_rng(7)
    documents = [rng.integers(OUTSIDE, 30, size=n) for n in (0, 1, 500, 3, 299, 2, 2, 1000)]
    expected, X = cooccurrences(documents, 30, 6), cooccurrences(iter(documents), 30, 6, block)
    np.testing.assert_array_equal(X.starts, expected.starts)
    np.testing.assert_array_equal(X.columns, expected.columns)
    np.testing.assert_allclose(X.values, expected.values, rtol=1e-13)


def test_blocks_by_hand() -> None:
    documents = [np.array([4, 5, 6, 7, 8, 9]), np.array([], dtype=np.int64), np.array([3])]
    assert [block.tolist() for block in blocks(documents, window=2, size=3)] == [
        [4, 5, 6, 7, 8, 9],
        [8, 9, -1, -1, -1, -1],  # an empty document is a border more
        [-1, -1, 3, -1, -1],
    ]
    assert list(blocks([], 2, 3)) == []


def test_a_document_ends_what_its_words_see() -> None:
    X = cooccurrences([np.array([0, 1]), np.array([2]), np.array([1, 0])], 3, window=9)
    np.testing.assert_array_equal(dense(X), [[0, 2, 0], [2, 0, 0], [0, 0, 0]])


def test_an_unknown_word_keeps_its_place() -> None:
    X = cooccurrences([np.array([0, OUTSIDE, OUTSIDE, 1])], 2, window=3)
    np.testing.assert_array_equal(dense(X), [[0, 1 / 3], [1 / 3, 0]])


def test_equal_words_see_each_other() -> None:
    X = cooccurrences([np.array([0, 0, 0])], 1, window=2)
    assert X.values.tolist() == [2 * (1 + 1 + 1 / 2)]


@pytest.mark.parametrize("documents", [[], [np.empty(0)], [np.array([1])], [np.full(50, OUTSIDE)]])
def test_nothing_meets(documents: list[np.ndarray]) -> None:
    X = cooccurrences(documents, 3, window=2, block=5)
    assert X.shape == (3, 3) and len(X.values) == 0 and X.starts.tolist() == [0, 0, 0, 0]


def test_the_memory_is_that_of_a_block_and_the_table() -> None:
    """A text of 200,000 words has 2 million pairs in its windows: 16 MB as numbers, and as much again for what sorts them."""

    def text(n: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(1)
        return (rng.integers(0, 40, size=1000) for _ in range(n))

    def peak(n: int, block: int) -> int:
        tracemalloc.start()
        cooccurrences(text(n), 40, window=10, block=block)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(200, block=2000) < 2_500_000
    assert peak(200, block=2000) < 1.2 * peak(20, block=2000)
    assert peak(200, block=200_000) > 20_000_000  # so the blocks it is


def test_merging() -> None:
    parts = [(np.array([1, 5]), np.array([1.0, 2.0])), (np.array([0, 5, 9]), np.array([4.0, 8.0, 16.0]))]
    keys, values = merge([(np.empty(0, dtype=np.int64), np.empty(0)), *parts])
    assert keys.tolist() == [0, 1, 5, 9] and values.tolist() == [4, 1, 10, 16]


def test_words_become_ids() -> None:
    ids = list(word_ids(["The cat, the CAT.", "", "a dog"], {"the": 0, "cat": 1, "dog": 2}, words))
    assert [row.tolist() for row in ids] == [[0, 1, 0, 1], [], [OUTSIDE, 2]]
    assert {row.dtype for row in ids} == {np.dtype(np.int64)}


def test_small_types_of_ids_do_not_overflow() -> None:
    X = cooccurrences([np.array([39_999, 0, 39_999], dtype=np.uint16)], 40_000, window=1)
    assert X.rows.tolist() == [0, 39_999] and X.columns.tolist() == [39_999, 0] and X.values.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("documents", "settings", "message"),
    [
        ([np.array([0, 3])], {}, r"ids lie in -?\d+\.\.3, they must be 0\.\.2, or -1"),
        ([np.array([0, -2])], {}, r"ids lie in -2\.\.0"),
        ([], {"window": 0}, "window is 0: it must be at least 1"),
        ([], {"vocab_size": 0}, "vocab_size is 0"),
        ([], {"block": 0}, "block is 0"),
        ([], {"vocab_size": 2**31, "window": 4}, "too many pairs to be numbered in 64 bits"),
    ],
)
def test_bad_input(documents: list[np.ndarray], settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cooccurrences(documents, **{"vocab_size": 3, "window": 2, **settings})


def test_the_contest_compares_equals() -> None:
    contests = classical_glove.contests(n_stories=20, window=4)
    ((name, (ours, plain)),) = contests.items()
    assert "window 4" in name
    X, counts = ours(), plain()
    assert isinstance(X, SparseCounts) and isinstance(counts, dict)
    assert len(counts) == len(X.values) and sum(counts.values()) == pytest.approx(X.values.sum(), rel=1e-12)


def test_a_contest_of_unequals_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classical_glove, "count_neighbours", lambda lists, window: count_neighbours(lists, window + 1))
    with pytest.raises(ValueError, match="not those of the plain loop"):
        classical_glove.contests(n_stories=5, window=3)


def test_examples() -> None:
    assert doctest.testmod(cooccurrence).failed == 0
