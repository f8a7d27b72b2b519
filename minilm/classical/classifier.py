"""What every classifier of texts here can do, and how it is judged on texts that were kept out of its training.

    fit(texts, labels) -> self        log_proba(texts), predict_proba(texts) -> (N, C)        .labels: C names, sorted

N = texts, C = classes. `LinearClassifier` is the kind that adds up weights, one for each n-gram and class:

    log p(class c | text)  =  bias_c + sum over n-grams j of count_j * weight_jc  -  log(the sum over classes of exp(..))

Naive Bayes reads such weights off from counts, logistic regression searches for the best ones. The form is the same.
Ng and Jordan (2001), "On discriminative vs. generative classifiers".
"""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from minilm.classical.bag_of_ngrams import BagOfNgrams, Ngram, SparseCounts
from minilm.classical.tuning import k_fold


class Classifier:
    """Texts -> probabilities of labels. A kind of classifier brings `fit` and `_log_scores`."""

    labels: tuple[str, ...] = ()

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> Self:
        raise NotImplementedError  # each kind of classifier has its own

    def _log_scores(self, texts: Sequence[str]) -> np.ndarray:
        """log p(class | text) + any number that is the same for all classes: (N, C)."""
        raise NotImplementedError  # each kind of classifier has its own

    def log_proba(self, texts: Sequence[str]) -> np.ndarray:
        """log p(class | text), in nats: (N, C). It stays finite where the probability itself is too small for a float."""
        if not self.labels:
            raise ValueError("this classifier has seen no texts: call fit(texts, labels) first")
        check_texts(texts)
        return log_normalise(self._log_scores(texts)) if len(texts) else np.zeros((0, len(self.labels)))

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """p(class | text): (N, C), columns in the order of `labels`, rows with the sum 1."""
        return np.exp(self.log_proba(texts))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text; of equals the first in the order of `labels`."""
        return [self.labels[c] for c in self.log_proba(texts).argmax(axis=1)]


class LinearClassifier(Classifier):
    """A bias for each class and a weight for each n-gram and class; `_solve` finds them."""

    def __init__(self, bag: BagOfNgrams | None = None) -> None:
        self.bag = bag or BagOfNgrams()
        self.vocabulary: dict[Ngram, int] = {}
        self.weights, self.bias = np.zeros((0, 0)), np.zeros(0)  # (V, C), (C,)

    def _solve(self, X: SparseCounts, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts X (N, V) and classes Y (N, C), a 1 in each row -> weights (V, C), bias (C,)."""
        raise NotImplementedError  # each kind of classifier has its own

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> Self:
        names, Y = one_hot(texts, labels)
        vocabulary = self.bag.vocabulary(texts)
        self.weights, self.bias = self._solve(self.bag.counts(texts, vocabulary), Y)
        self.labels, self.vocabulary = names, vocabulary
        return self

    def _log_scores(self, texts: Sequence[str]) -> np.ndarray:
        return self.bag.counts(texts, self.vocabulary) @ self.weights + self.bias

    def heaviest(self, label: str, n: int = 10) -> list[tuple[str, float]]:
        """The n n-grams that speak most for a label: (n-gram, what it adds per occurrence, in nats), largest first.

        What an n-gram adds to all classes alike decides nothing, so the mean over the classes is taken away from its weights.
        """
        if label not in self.labels:
            raise ValueError(
                f"no class is called {label!r}: choose one of {', '.join(self.labels) or '(none: call fit)'}"
            )
        weights = self.weights[:, self.labels.index(label)] - self.weights.mean(axis=1)
        names = list(self.vocabulary)
        return [(" ".join(map(str, names[j])), float(weights[j])) for j in np.argsort(-weights, kind="stable")[:n]]


def check_texts(texts: Sequence[str]) -> None:
    """ValueError for one text in place of a list: its letters would pass for texts."""
    if isinstance(texts, str):
        raise ValueError(f"texts is one text ({texts[:20]!r}): give a list of texts")


def one_hot(texts: Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The different labels in sorted order (C,), and which of them each text has: (N, C), one 1.0 in each row.

    ValueError for no texts, for as many labels as there are not texts, and for a single class.

    >>> one_hot(["fine", "dull", "dear"], ["pos", "neg", "pos"])
    (('neg', 'pos'), array([[0., 1.],
           [1., 0.],
           [0., 1.]]))
    """
    check_texts(texts)
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts and {len(labels)} labels: give each text one label")
    if not len(texts):
        raise ValueError("no texts to learn from: give at least one of each class")
    names = tuple(sorted(set(labels)))
    if len(names) == 1:
        raise ValueError(f"all {len(texts)} texts are {names[0]!r}: there is nothing to tell apart, give two classes")
    column = {name: c for c, name in enumerate(names)}
    return names, np.eye(len(names))[[column[label] for label in labels]]


def log_normalise(scores: np.ndarray) -> np.ndarray:
    """Scores (N, C) minus the log of the sum of their exponentials, row by row: the logs of probabilities."""
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def cross_validated_nats(
    make: Callable[[], Classifier], texts: Sequence[str], labels: Sequence[str], folds: int = 5
) -> float:
    """Nats per text, -log p(its label), when each text is asked of a fresh classifier that has not seen it.

    Every class is dealt over the folds by itself, so all folds have their share of it. ValueError for a class with one
    text only: whoever has not seen it cannot know its class.
    """
    names, Y = one_hot(texts, labels)
    if Y.sum(axis=0).min() < 2:
        raise ValueError(
            f"class {names[Y.sum(axis=0).argmin()]!r} has one text: cross-validation needs two of each class"
        )
    order = np.argsort(Y.argmax(axis=1), kind="stable")
    nats = 0.0
    for training, validation in k_fold(len(texts), folds):
        seen, asked = order[training], order[validation]
        classifier = make().fit([texts[i] for i in seen], [labels[i] for i in seen])
        nats -= float((classifier.log_proba([texts[i] for i in asked]) * Y[asked]).sum())
    return nats / len(texts)
