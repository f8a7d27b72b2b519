"""The recall test finds the right places, asks what it should, and a model that cannot look back is at chance."""

import doctest

import numpy as np
import pytest

from minilm.text import recall
from minilm.text.recall import Place, candidate_log_probs, recall_places, recall_shares
from minilm.text.tokenizer import ByteTokenizer

NAMES = ("Ada", "Adam", "Zoé")


def test_places_are_where_a_word_comes_again_after_long() -> None:
    text = "So Ada saw Adam. 1234567890 Ada, Ada and Adams met Adam again"
    near, far = text.index(" Ada, "), text.index(" Adam again")
    found = list(recall_places(text, NAMES, ByteTokenizer(), gap=19, longest=99))
    told = (" Ada", " Adam", " Zoé")
    assert found == [Place(text[:near], told, 0, ","), Place(text[:far], told, 1, " again")]


def test_the_gap_is_counted_in_tokens_between_the_two_mentions() -> None:
    text = "x Zoé 12345 Zoé."  # between them a blank and five digits
    assert len(list(recall_places(text, NAMES, ByteTokenizer(), gap=5))) == 1
    assert not list(recall_places(text, NAMES, ByteTokenizer(), gap=6))
    assert len(list(recall_places("xé" + text, NAMES, ByteTokenizer(), gap=5, longest=15))) == 1  # é is two bytes
    assert not list(recall_places("xé" + text, NAMES, ByteTokenizer(), gap=5, longest=14))


def test_the_last_mention_counts_and_the_end_of_the_text_asks_nothing() -> None:
    assert not list(recall_places("a Ada 123456789 Ada 1 Ada 2", NAMES, ByteTokenizer(), gap=11))
    assert not list(recall_places("a Ada 123456789 Ada", NAMES, ByteTokenizer(), gap=3))


def test_a_mention_without_a_blank_before_it_begins_a_gap_but_is_not_asked_for() -> None:
    found = list(recall_places("Ada 123456789 Ada!", NAMES, ByteTokenizer(), gap=9))
    assert [place.before for place in found] == ["Ada 123456789"]
    near = 'x Ada 123456789 "Ada 123 Ada!'  # an n-gram that reads five tokens knows the last one
    assert not list(recall_places(near, NAMES, ByteTokenizer(), gap=4))
    assert len(list(recall_places(near, NAMES, ByteTokenizer(), gap=3))) == 1
    assert not list(recall_places("x Ada 123\nAda!", NAMES, ByteTokenizer(), gap=3))
    assert len(list(recall_places("x Ada 123 mAda 1 Ada!", NAMES, ByteTokenizer(), gap=5))) == 1  # mAda is no mention


def test_nothing_to_look_for() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        list(recall_places("text", [], ByteTokenizer()))


def test_each_candidate_is_scored_with_what_follows_it_and_nothing_else() -> None:
    tokenizer = ByteTokenizer()
    places = [Place("é", (" a", " bcd"), 1, "!"), Place("", (" é", " a"), 0, " so")]

    def score(ids: np.ndarray) -> np.ndarray:
        """Each id costs itself, and its place in its document a thousandth."""
        begins = np.flatnonzero(ids == tokenizer.end_of_text)
        assert len(begins) == 4 and ids[0] == tokenizer.end_of_text
        inside = np.arange(len(ids)) - begins[np.searchsorted(begins, np.arange(len(ids)), side="right") - 1]
        return -(ids + inside / 1000)

    def cost(text: str, first: int) -> float:
        return -sum(byte + (first + i) / 1000 for i, byte in enumerate(text.encode()))

    expected = [[cost(" a!", 3), cost(" bcd!", 3)], [cost(" é so", 1), cost(" a so", 1)]]
    np.testing.assert_allclose(candidate_log_probs(places, tokenizer, score), expected, rtol=1e-12)


def test_places_must_have_as_many_candidates() -> None:
    for places in ([], [Place("", (" a",), 0, "."), Place("", (" a", " b"), 0, ".")]):
        with pytest.raises(ValueError, match=f"{len(places)} places"):
            candidate_log_probs(places, ByteTokenizer(), lambda ids: np.zeros(len(ids)))


def test_shares_are_those_of_the_definition_and_survive_small_numbers() -> None:
    rng = np.random.default_rng(4)
    log_probs = -rng.gamma(1.0, 3.0, (5, 3))
    right = np.array([2, 0, 1, 1, 2])
    expected = [np.exp(row[i]) / sum(np.exp(row)) for row, i in zip(log_probs, right, strict=True)]
    np.testing.assert_allclose(recall_shares(log_probs, right), expected, rtol=1e-12)
    far = log_probs - np.array([[0.0], [900.0], [50.0], [2000.0], [7.0]])
    np.testing.assert_allclose(recall_shares(far, right), expected, rtol=1e-9)
    assert sum(recall_shares(log_probs[:1], np.array([k]))[0] for k in range(3)) == pytest.approx(1.0)


def test_its_example() -> None:
    assert doctest.testmod(recall).failed == 0
