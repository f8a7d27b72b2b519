"""Naive Bayes: how often each class used each n-gram, turned round by Bayes' rule.

The model tells how a text comes about: a class is drawn, then n-gram after n-gram, each for itself ("naive"):

    p(class, text)  =  p(class) * product over the n-grams of p(n-gram | class)
    p(n-gram | class)  =  (count in the texts of the class + smoothing) / (all counts of the class + smoothing * V)

Training is counting. Nothing is searched for, and the answer is exact. N-grams are not independent, so it is too sure of
itself: the same evidence counts again with each n-gram that carries it.

Maron (1961), "Automatic indexing"; McCallum and Nigam (1998), "A comparison of event models for naive Bayes".
"""

import numpy as np

from minilm.classical.bag_of_ngrams import BagOfNgrams, SparseCounts
from minilm.classical.classifier import LinearClassifier


class NaiveBayes(LinearClassifier):
    """Multinomial naive Bayes; smoothing 1 is Laplace's, another number above 0 Lidstone's.

    weights are log p(n-gram | class), bias is log p(class), the share of the texts that have it.

    >>> model = NaiveBayes().fit(["good film", "bad film"], ["pos", "neg"])
    >>> model.predict_proba(["good"])  # p(good | neg) = (0 + 1) / (2 + 3), p(good | pos) = (1 + 1) / (2 + 3)
    array([[0.33333333, 0.66666667]])
    """

    def __init__(self, bag: BagOfNgrams | None = None, smoothing: float = 1.0) -> None:
        if not 0 < smoothing < float("inf"):
            raise ValueError(
                f"smoothing is {smoothing}: it must be a number above 0, an unseen n-gram would rule a class out"
            )
        super().__init__(bag)
        self.smoothing = smoothing

    def _solve(self, X: SparseCounts, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = X.transposed_matmul(Y) + self.smoothing  # (V, C)
        return np.log(counts / counts.sum(axis=0)), np.log(Y.mean(axis=0))
