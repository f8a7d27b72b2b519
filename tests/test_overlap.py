"""Exact match, F1 of words and ROUGE-L: by hand, against brute force, against the steps of SQuAD's script, and beyond ASCII."""

import itertools
import random
import re
import string
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.metrics import (
    comparable_words,
    exact_match,
    longest_common_subsequence,
    rouge_l,
    rouge_words,
    token_f1,
)

WORDS = st.lists(st.sampled_from(["owl", "fox", "the", "a", "sun"]), max_size=7)
SCORES = [exact_match, token_f1, rouge_l]


def squad_words(text: str) -> list[str]:
    """The published steps, for ASCII text: lower case, punctuation out, articles out, blanks as single ones."""
    without_signs = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", without_signs).split()


@settings(deadline=None)
@given(st.text(st.sampled_from("aAnNtheTHE xyz-'.,!?$_`<>|09 \n\t"), max_size=40))
def test_squad_normalisation(text: str) -> None:
    assert comparable_words(text) == squad_words(text)


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_rouge_words_of_ascii(text: str) -> None:
    assert rouge_words(text) == re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The U.S. Army's well-known man", ["us", "armys", "wellknown", "man"]),
        ("An apple a day; then Anna", ["apple", "day", "then", "anna"]),
        ("„Straße“ – ¿Qué?", ["strasse", "qué"]),
        ("«ΣΊΣΥΦΟΣ»", ["σίσυφοσ"]),
        ("e\u0301te\u0301 E\u0301te\u0301", ["été", "été"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("東京、日本。", ["東京日本"]),
        ("🦔 5 € $5", ["🦔", "5", "€", "5"]),
        (" the\ta \n", []),
    ],
)
def test_comparable_words_by_hand(text: str, words: list[str]) -> None:
    assert comparable_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The U.S. Army's well-known man", ["the", "u", "s", "army", "s", "well", "known", "man"]),
        ("snake_case, Été e\u0301te\u0301", ["snake", "case", "été", "été"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("東京、日本。", ["東京", "日本"]),
        ("🦔 --", []),
    ],
)
def test_rouge_words_by_hand(text: str, words: list[str]) -> None:
    assert rouge_words(text) == words


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "f1", "rouge"),
    [
        ("the fox", "The Fox!", 1, 1, 1),
        ("fox", "the fox", 1, 1, 2 / 3),  # an article is a word for ROUGE
        ("the small red fox", "the red fox", 0, 4 / 5, 6 / 7),
        ("fox owl", "owl fox", 0, 1, 1 / 2),  # the order
        ("sun sun sun", "sun", 0, 1 / 2, 1 / 2),  # a word shared once
        ("sun sun owl", "sun fox sun sun", 0, 4 / 7, 4 / 7),
        ("owl", "fox", 0, 0, 0),
        ("", "fox", 0, 0, 0),
        ("fox", "", 0, 0, 0),
        ("", "", 1, 1, 1),
        ("the", "a", 1, 1, 0),
        ("!", "", 1, 1, 1),
        ("in Paris in May", "in May in Paris", 0, 1, 1 / 2),
        ("café", "cafe\u0301", 1, 1, 1),
        ("police killed the gunman", "police kill the gunman", 0, 2 / 3, 3 / 4),  # Lin 2004, section 3.1
        ("the gunman kill police", "police killed the gunman", 0, 2 * 2 / 6, 2 / 4),
    ],
)
def test_by_hand(answer: str, truth: str, exact: float, f1: float, rouge: float) -> None:
    assert [score(answer, truth) for score in SCORES] == [exact, pytest.approx(f1), pytest.approx(rouge)]


def brute_force(a: Sequence[str], b: Sequence[str]) -> int:
    """The longest of all 2^len(a) parts of a that is also a part of b."""
    parts_of_b = {part for n in range(len(b) + 1) for part in itertools.combinations(b, n)}
    return max(n for n in range(len(a) + 1) for part in itertools.combinations(a, n) if part in parts_of_b)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_longest_common_subsequence_is_that_of_all_parts(a: list[str], b: list[str]) -> None:
    assert longest_common_subsequence(a, b) == brute_force(a, b)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_f1_by_its_definition(a: list[str], b: list[str]) -> None:
    """Each word of the answer crosses out one of the truth; then 2 P R / (P + R)."""
    words, left = [w for w in a if w not in ("a", "the")], [w for w in b if w not in ("a", "the")]
    n_truth, shared = len(left), 0
    for word in words:
        if word in left:
            left.remove(word)
            shared += 1
    expected = float(not words and not n_truth)
    if shared:
        precision, recall = shared / len(words), shared / n_truth
        expected = 2 * precision * recall / (precision + recall)
    assert token_f1(" ".join(a), " ".join(b)) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_what_holds_for_every_score(a: list[str], b: list[str]) -> None:
    """From 0 to 1, the same both ways, 1 for the same text; F1 is at least the exact match."""
    answer, truth = " ".join(a), " ".join(b)
    for score in SCORES:
        assert 0 <= score(answer, truth) == score(truth, answer) <= 1 == score(answer, answer)
    assert token_f1(answer, truth) >= exact_match(answer, truth)


def test_a_long_text_is_compared() -> None:
    """Two thousand words each: one row of the table is kept, not all."""
    draw = random.Random(0)
    shared = [f"w{i}" for i in range(1000)]
    a = list(itertools.chain.from_iterable((word, f"a{draw.random()}") for word in shared))
    b = list(itertools.chain.from_iterable((f"b{draw.random()}", word) for word in shared))
    assert longest_common_subsequence(a, b) == 1000
