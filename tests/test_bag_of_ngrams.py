"""Words, n-grams, the vocabulary and the sparse products: against cases by hand, brute force and dense matrices."""

import random

import numpy as np
import pytest

from minilm.classical.bag_of_ngrams import BagOfNgrams, SparseCounts, ngrams, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Not good, NOT bad!", ["not", "good", "not", "bad"]),
        ("don't don’t 'quoted' dogs' o'clock", ["don't", "don't", "quoted", "dogs", "o'clock"]),
        ("É e\u0301 Straße ÎLE", ["é", "é", "straße", "île"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs are marks, not letters
        ("Привет, мир 3.5 x2", ["привет", "мир", "3", "5", "x2"]),
        ("well-known snake_case\tnew\nline", ["well", "known", "snake", "case", "new", "line"]),
        ("中文 字", ["中文", "字"]),
        ("… !? — '' 😀", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_ngrams_by_slices() -> None:
    pieces = [4, 0, 4, 4, 7]
    expected = [tuple(pieces[i : i + n]) for n in (1, 2, 3) for i in range(len(pieces) - n + 1)]
    assert list(ngrams(pieces, 3)) == expected
    assert list(ngrams([1, 2], 5)) == [(1,), (2,), (1, 2)]
    assert list(ngrams([], 2)) == []


TEXTS = ["b a b", "a c", "", "b b d", "c"]


def test_the_vocabulary_by_hand() -> None:
    # b 4, a 2, c 2; every pair and d once: equals stand in sorted order
    assert BagOfNgrams(longest=2, min_count=2).vocabulary(TEXTS) == {("b",): 0, ("a",): 1, ("c",): 2}
    once = [("a", "b"), ("a", "c"), ("b", "a"), ("b", "b"), ("b", "d"), ("d",)]
    everything = [("b",), ("a",), ("c",), *once]
    assert list(BagOfNgrams(longest=2).vocabulary(TEXTS)) == everything
    assert list(BagOfNgrams(longest=2).vocabulary(TEXTS).values()) == list(range(len(everything)))


def test_the_order_of_texts_does_not_matter() -> None:
    shuffled = random.Random(3).sample(TEXTS, len(TEXTS))
    bag = BagOfNgrams(longest=3)
    assert shuffled != TEXTS
    assert list(bag.vocabulary(shuffled).items()) == list(bag.vocabulary(TEXTS).items())


def dense(X: SparseCounts) -> np.ndarray:
    table = np.zeros(X.shape)
    for i in range(X.shape[0]):
        for place in range(X.starts[i], X.starts[i + 1]):
            assert table[i, X.columns[place]] == 0 and X.values[place] != 0  # each entry stands once
            table[i, X.columns[place]] = X.values[place]
    return table


def test_counts_by_brute_force() -> None:
    bag = BagOfNgrams(longest=2)
    vocabulary = bag.vocabulary(TEXTS[:3])
    asked = ["b a b a a", "", "z z", "c a c a b", "z b z"]
    expected = [
        [sum(tuple(t.split()[i : i + len(ngram)]) == ngram for i in range(len(t.split()))) for ngram in vocabulary]
        for t in asked
    ]
    X = bag.counts(asked, vocabulary)
    assert X.shape == (5, len(vocabulary))
    np.testing.assert_array_equal(dense(X), expected)
    assert bag.counts([], vocabulary).shape == (0, len(vocabulary))


def test_token_ids_are_pieces_too() -> None:
    bag = BagOfNgrams(longest=2, cut=lambda text: [ord(c) for c in text])
    vocabulary = bag.vocabulary(["aba"])
    assert vocabulary == {(97,): 0, (97, 98): 1, (98,): 2, (98, 97): 3}
    np.testing.assert_array_equal(dense(bag.counts(["ab", "bb"], vocabulary)), [[1, 1, 1, 0], [0, 0, 2, 0]])


@pytest.mark.parametrize(("n", "v", "c"), [(7, 5, 3), (4, 11, 2), (1, 3, 1)])
def test_the_products_are_those_of_the_dense_table(n: int, v: int, c: int) -> None:
    rng = np.random.default_rng(n)
    table = rng.integers(1, 9, (n, v)) * (rng.random((n, v)) < 0.4)
    table[0], table[:, v - 1] = 0, 0  # an empty row and an empty column at the end
    where = [np.flatnonzero(row) for row in table]
    starts = np.cumsum([0, *map(len, where)])
    X = SparseCounts(starts, np.concatenate(where), table[table > 0].astype(float), v)
    np.testing.assert_array_equal(dense(X), table)
    w, r = rng.normal(size=(v, c)), rng.normal(size=(n, c))
    np.testing.assert_allclose(X @ w, table @ w, atol=1e-12)
    np.testing.assert_allclose(X.transposed_matmul(r), table.T @ r, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"), [({"longest": 0}, "longest is 0"), ({"min_count": 0}, "min_count is 0")]
)
def test_settings_out_of_range(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: it must be at least 1"):
        BagOfNgrams(**settings)


@pytest.mark.parametrize(("texts", "least"), [(["a b", "c"], 2), (["!!", ""], 1), ([], 1)])
def test_nothing_to_count(texts: list[str], least: int) -> None:
    with pytest.raises(ValueError, match=f"no n-gram occurs {least} times"):
        BagOfNgrams(min_count=least).vocabulary(texts)
