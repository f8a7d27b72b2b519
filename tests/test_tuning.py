"""Folds, the grid and cross-validation: against enumeration, and against a model counted and scored document by document."""

import math

import numpy as np
import pytest

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.classical.tuning import cross_validated_nats, grid_search, held_out_nats, k_fold

V, EOT = 9, 4


@pytest.mark.parametrize(("n", "k"), [(2, 2), (7, 3), (8, 3), (9, 3), (11, 10), (11, 11), (23, 5)])
def test_every_index_is_validated_once(n: int, k: int) -> None:
    folds = k_fold(n, k)
    assert len(folds) == k
    assert sorted(i for _, validation in folds for i in validation) == list(range(n))
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    for training, validation in folds:
        assert training == sorted(set(range(n)) - set(validation)) and validation == sorted(validation)


def test_indices_are_dealt_like_cards() -> None:
    expected = [([1, 2, 4, 5], [0, 3, 6]), ([0, 2, 3, 5, 6], [1, 4]), ([0, 1, 3, 4, 6], [2, 5])]
    assert k_fold(7, 3) == expected


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 0), (5, 6), (1, 2), (0, 2)])
def test_folds_that_cannot_be(n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} folds of {n} things"):
        k_fold(n, k)


def test_the_grid_is_searched_whole_and_in_order() -> None:
    tried = []

    def score(b: str, a: int) -> float:
        tried.append((a, b))
        return {(1, "x"): 5.0, (1, "y"): math.nan, (2, "x"): 3.0, (2, "y"): 3.0, (3, "x"): 4.0, (3, "y"): math.inf}[
            a, b
        ]

    assert grid_search(score, {"a": [1, 2, 3], "b": "xy"}) == ({"a": 2, "b": "x"}, 3.0)
    assert tried == [(1, "x"), (1, "y"), (2, "x"), (2, "y"), (3, "x"), (3, "y")]
    assert grid_search(lambda a: {0: math.nan, 1: -2.0}[a], {"a": (0, 1)}) == ({"a": 1}, -2.0)
    assert grid_search(lambda: 0.5, {}) == ({}, 0.5)


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, math.nan]])
def test_a_grid_without_a_winner(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no combination of a "):
        grid_search(lambda a: a, {"a": values})


def documents() -> list[list[int]]:
    """Thirteen documents of very different lengths, one of them empty; what follows depends on the token before."""
    rng, made = np.random.default_rng(6), [[]]
    for length in rng.integers(3, 60, 12):
        ids = [0]
        for _ in range(length):
            ids.append(int(ids[-1] * 2 + rng.integers(3)) % V)
        made.append([token for token in ids if token != EOT])
    return made


@pytest.mark.parametrize("discount", [0.4, 0.8])
def test_cross_validation_document_by_document(discount: float) -> None:
    config = NgramConfig(V, 3, discounts=((discount,) * 3,) * 3)
    texts = documents()
    nats = 0.0
    for held_out in range(len(texts)):
        counted = [EOT]
        for i, text in enumerate(texts):
            if i % 4 != held_out % 4:
                counted += [*text, EOT]
        nats -= NgramLM(config).fit(np.array(counted), EOT).score(texts[held_out], with_end=False)
    expected = nats / sum(len(text) for text in texts)
    assert cross_validated_nats(config, texts, EOT, k_fold(13, 4)) == pytest.approx(expected, rel=1e-12)
    arrays = [np.array(text, dtype=np.uint16) for text in texts]
    assert cross_validated_nats(config, arrays, EOT, k_fold(13, 4)) == pytest.approx(expected, rel=1e-12)


def test_the_end_of_a_text_is_not_scored() -> None:
    model = NgramLM(NgramConfig(V, 1, "add-k", k=0.5)).fit(np.array([EOT, 1, 1, 2, EOT]), EOT)
    p = {1: 2.5 / 8.5, 2: 1.5 / 8.5}  # of 4 tokens, <|endoftext|> among them, and half a token for each of the 9
    expected = -math.log(p[2]) - 2 * math.log(p[1])
    assert held_out_nats(model, np.array([EOT, 2, EOT, 1, 1, EOT])) == pytest.approx(expected, rel=1e-12)


def test_only_what_is_validated_is_scored() -> None:
    texts = documents()
    model = NgramLM(NgramConfig(V, 2, "add-k")).fit(
        np.array([EOT, *texts[5], EOT, *texts[0], EOT, *texts[2], EOT]), EOT
    )
    expected = -(model.score(texts[7], with_end=False) + model.score(texts[8], with_end=False))
    found = cross_validated_nats(model.config, texts, EOT, [([5, 0, 2], [7, 8])])
    assert found == pytest.approx(expected / (len(texts[7]) + len(texts[8])), rel=1e-12)


def test_cross_validation_needs_tokens() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        cross_validated_nats(NgramConfig(V, 2, "add-k"), [[], [], []], EOT, k_fold(3, 3))
