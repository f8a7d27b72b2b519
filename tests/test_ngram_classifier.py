"""The n-gram classifier: against Bayes' rule text by text, naive Bayes in fractions, and a language that only order tells."""

import math

import numpy as np
import pytest

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.classical.ngram_classifier import NgramClassifier

V, END = 7, 5


def encode(text: str) -> list[int]:
    return ["abcde".index(letter) for letter in text]


def collection() -> tuple[list[str], list[str]]:
    """23 texts of three classes, some of them empty; in each class another letter follows a letter."""
    rng = np.random.default_rng(4)
    texts, labels = [], []
    for i in range(23):
        c, at, text = i % 5 % 3, int(rng.integers(5)), ""
        for _ in range(int(rng.integers(0, 14))):
            at = (at + c + 1) % 5 if rng.random() < 0.7 else int(rng.integers(5))
            text += "abcde"[at]
        texts.append(text)
        labels.append(("up", "by two", "by three")[c])
    return texts, labels


@pytest.mark.parametrize("smoothing", ["kneser-ney", "interpolated-kneser-ney", "add-k"])
def test_bayes_rule_text_by_text(smoothing: str) -> None:
    texts, labels = collection()
    config = NgramConfig(V, 3, smoothing)
    model = NgramClassifier(config, encode, END).fit(texts, labels)
    assert model.labels == ("by three", "by two", "up")
    asked = ["abcde", "", "acebd", "eeee", "adbec", "b"]
    joint = np.empty((len(asked), 3))
    for c, label in enumerate(model.labels):
        own = [text for text, each in zip(texts, labels, strict=True) if each == label]
        stream = [END] + [token for text in own for token in (*encode(text), END)]
        counted = NgramLM(config).fit(np.array(stream), END)
        joint[:, c] = [len(own) / len(texts) * math.exp(counted.score(encode(text))) for text in asked]
    np.testing.assert_allclose(model.predict_proba(asked), joint / joint.sum(axis=1, keepdims=True), atol=1e-12)
    assert model.predict(["abcdeabcde", "acebdacebd", "adbecadbec"]) == ["up", "by two", "by three"]


def test_order_one_by_hand() -> None:
    config = NgramConfig(vocab_size=V, order=1, smoothing="add-k", k=0.5)
    model = NgramClassifier(config, encode, END).fit(["aab", "", "bc"], ["x", "x", "y"])
    # x: a 2, b 1, end 2 of 5 tokens; y: b 1, c 1, end 1 of 3; each count + 1/2, each total + 7/2
    x = 2 / 3 * (1.5 / 8.5) ** 2 * (2.5 / 8.5)
    y = 1 / 3 * (1.5 / 6.5) ** 2 * (1.5 / 6.5)
    np.testing.assert_allclose(model.predict_proba(["bb"]), [[x / (x + y), y / (x + y)]], atol=1e-14)


def test_texts_do_not_see_each_other() -> None:
    texts, labels = collection()
    model = NgramClassifier(NgramConfig(V, 4), encode, END).fit(texts, labels)
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(model.predict_proba(texts), alone, atol=1e-14)


def test_the_end_is_evidence() -> None:
    """Same letters, other lengths: only where the text ends tells the classes apart."""
    config = NgramConfig(vocab_size=V, order=2, smoothing="add-k", k=0.01)
    model = NgramClassifier(config, encode, END).fit(
        ["a", "a", "aaaaaaaa", "aaaaaaa"], ["short", "short", "long", "long"]
    )
    assert model.predict(["a", "aaaaaa"]) == ["short", "long"]


def test_long_texts_keep_finite_logs() -> None:
    model = NgramClassifier(NgramConfig(V, 2, "add-k"), encode, END).fit(
        ["ab" * 9, "ba" * 9, "cd" * 9], ["x", "x", "y"]
    )
    logs = model.log_proba(["ab" * 2000])
    assert np.isfinite(logs).all() and logs[0, 1] < -1000


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="maximum-likelihood gives unseen tokens probability 0"):
        NgramClassifier(NgramConfig(V, 2, "maximum-likelihood"), encode, END)
    model = NgramClassifier(NgramConfig(V, 2, "add-k"), lambda text: [int(c) for c in text], END)
    with pytest.raises(ValueError, match="encodes to the end of text, 5, before its end: '151'"):
        model.fit(["12", "151"], ["x", "y"])
    with pytest.raises(ValueError, match=r"go beyond 0\.\.6"):
        model.fit(["12", "8"], ["x", "y"])
