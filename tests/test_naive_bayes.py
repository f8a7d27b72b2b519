"""Naive Bayes by hand and in exact fractions, what all classifiers refuse, and cross-validation fold by fold."""

import math
from fractions import Fraction

import numpy as np
import pytest

from minilm.classical.bag_of_ngrams import BagOfNgrams
from minilm.classical.classifier import Classifier, cross_validated_nats, log_normalise
from minilm.classical.config import NgramConfig
from minilm.classical.logistic_regression import LogisticRegression
from minilm.classical.naive_bayes import NaiveBayes
from minilm.classical.ngram_classifier import NgramClassifier

TEXTS = ["good good film", "bad film plot", "good plot", "plain film", "bad bad bad", "fine"]
LABELS = ["pos", "neg", "pos", "mixed", "neg", "pos"]
ASKED = ["good bad film", "film film plot", "unheard of", "", "bad good good good fine"]


def exact_posterior(text: str, smoothing: Fraction) -> list[Fraction]:
    """p(class | text) for words alone, in fractions: the definition, word by word."""
    vocabulary = {word for t in TEXTS for word in t.split()}
    joint = []
    for label in sorted(set(LABELS)):
        own = [word for t, each in zip(TEXTS, LABELS, strict=True) if each == label for word in t.split()]
        p = Fraction(LABELS.count(label), len(LABELS))
        for word in text.split():
            if word in vocabulary:
                p *= (own.count(word) + smoothing) / (len(own) + smoothing * len(vocabulary))
        joint.append(p)
    return [p / sum(joint) for p in joint]


@pytest.mark.parametrize("smoothing", [Fraction(1), Fraction(1, 4), Fraction(7, 2)])
def test_the_posterior_in_fractions(smoothing: Fraction) -> None:
    model = NaiveBayes(smoothing=float(smoothing)).fit(TEXTS, LABELS)
    expected = np.array([[float(p) for p in exact_posterior(text, smoothing)] for text in ASKED])
    assert model.labels == ("mixed", "neg", "pos")
    np.testing.assert_allclose(model.predict_proba(ASKED), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(expected[2], [1 / 6, 1 / 3, 1 / 2])  # nothing known: the prior
    assert model.predict(ASKED) == [model.labels[row.index(max(row))] for row in expected.tolist()]


def test_each_class_tells_texts_with_total_probability_one() -> None:
    model = NaiveBayes(BagOfNgrams(longest=2), smoothing=0.3).fit(TEXTS, LABELS)
    np.testing.assert_allclose(np.exp(model.weights).sum(axis=0), 1, atol=1e-14)
    np.testing.assert_allclose(np.exp(model.bias), [1 / 6, 1 / 3, 1 / 2], atol=1e-14)


def test_long_texts_keep_finite_logs() -> None:
    model = NaiveBayes().fit(["a a a b", "b b b a"], ["x", "y"])
    with np.errstate(all="raise", under="ignore"):
        logs = model.log_proba(["a " * 5000])
        proba = model.predict_proba(["a " * 5000])
    np.testing.assert_allclose(logs, [[0, -5000 * math.log(2)]], atol=1e-8)  # p(a | x) = 4 / 6, p(a | y) = 2 / 6
    np.testing.assert_array_equal(proba, [[1, 0]])


def test_the_heaviest_are_log_ratios() -> None:
    model = NaiveBayes().fit(["a a a b", "b b b a c c"], ["x", "y"])
    ratio = {w: math.log(p / q) / 2 for w, p, q in [("a", 4 / 7, 2 / 9), ("b", 2 / 7, 4 / 9), ("c", 1 / 7, 3 / 9)]}
    for label, sign in (("x", 1), ("y", -1)):
        expected = sorted(((w, sign * value) for w, value in ratio.items()), key=lambda pair: -pair[1])
        found = model.heaviest(label, 2)
        assert [w for w, _ in found] == [w for w, _ in expected[:2]]
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected[:2]], atol=1e-14)
    tied = NaiveBayes(BagOfNgrams(longest=2)).fit(["b a", "c"], ["x", "y"])
    assert [name for name, _ in tied.heaviest("x", 9)] == ["a", "b", "b a", "c"]  # equals as in the vocabulary


@pytest.mark.parametrize("label", ["z", ""])
def test_heaviest_of_no_class(label: str) -> None:
    with pytest.raises(ValueError, match=f"no class is called '{label}': choose one of x, y"):
        NaiveBayes().fit(["a", "b"], ["x", "y"]).heaviest(label)
    with pytest.raises(ValueError, match="call fit"):
        NaiveBayes().heaviest(label)


@pytest.mark.parametrize("smoothing", [0.0, -1.0, math.inf, math.nan])
def test_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match="it must be a number above 0"):
        NaiveBayes(smoothing=smoothing)


def kinds() -> list[Classifier]:
    config = NgramConfig(vocab_size=300, order=2, smoothing="add-k")
    return [NaiveBayes(), LogisticRegression(), NgramClassifier(config, lambda text: list(text.encode()), 299)]


@pytest.mark.parametrize("model", kinds(), ids=lambda model: type(model).__name__)
def test_what_every_classifier_does_and_refuses(model: Classifier) -> None:
    with pytest.raises(ValueError, match=r"call fit\(texts, labels\) first"):
        model.predict_proba(["a"])
    for texts, labels, message in [
        (["a", "b"], ["x"], "2 texts and 1 labels"),
        ([], [], "no texts to learn from"),
        (["a", "b"], ["x", "x"], "all 2 texts are 'x'"),
        ("ab", ["x", "y"], "give a list of texts"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(texts, labels)
    assert model.fit(TEXTS, LABELS) is model
    proba = model.predict_proba(ASKED)
    assert proba.shape == (5, 3) and model.predict_proba([]).shape == (0, 3) and model.predict([]) == []
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-14)
    np.testing.assert_allclose(model.predict_proba(ASKED[::-1]), proba[::-1], atol=1e-14)  # each text by itself
    assert model.labels == ("mixed", "neg", "pos") and model.predict(["bad bad"]) == ["neg"]
    with pytest.raises(ValueError, match="give a list of texts"):
        model.predict_proba("good")


def test_a_bag_serves_two_classifiers() -> None:
    bag = BagOfNgrams(longest=2)
    first = NaiveBayes(bag).fit(TEXTS, LABELS)
    before = first.predict_proba(ASKED)
    NaiveBayes(bag).fit(["other words", "than these"], ["x", "y"])
    np.testing.assert_array_equal(first.predict_proba(ASKED), before)


def test_log_normalise_far_from_zero() -> None:
    scores = np.array([[1000.0, 1001.0, 999.0], [-5000.0, -5000.0, -5000.0]])
    total = math.log(1 + math.e + 1 / math.e)
    np.testing.assert_allclose(log_normalise(scores), [[-total, 1 - total, -1 - total], [-math.log(3)] * 3], atol=1e-12)


def test_cross_validation_fold_by_fold() -> None:
    labels = ["pos", "neg", "pos", "neg", "neg", "pos"]
    nats = 0.0
    for held_out in [{1, 0}, {3, 2}, {4, 5}]:  # neg is 1, 3, 4 and pos 0, 2, 5: dealt over the folds like cards
        keep = [i for i in range(6) if i not in held_out]
        model = NaiveBayes().fit([TEXTS[i] for i in keep], [labels[i] for i in keep])
        for i in held_out:
            nats -= math.log(model.predict_proba([TEXTS[i]])[0, model.labels.index(labels[i])])
    assert math.isclose(cross_validated_nats(NaiveBayes, TEXTS, labels, folds=3), nats / 6, rel_tol=1e-12)


def test_cross_validation_needs_two_of_each_class() -> None:
    with pytest.raises(ValueError, match="class 'mixed' has one text"):
        cross_validated_nats(NaiveBayes, TEXTS, LABELS, folds=2)
