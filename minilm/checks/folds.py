"""The exercise that deals folds: an oracle by definition, the mistakes that people make, and other right solutions."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Folds = list[tuple[list[int], list[int]]]

# k_fold(n, k) -> [(training, validation), ...]


def dealt(n: int, k: int, of_fold: Callable[[int, int, int, int], bool] = lambda i, fold, n, k: i % k == fold) -> Folds:
    """Every index is asked in every fold whether it is validated there; `of_fold` makes the mistakes."""
    folds = []
    for fold in range(k):
        validation = [i for i in range(n) if of_fold(i, fold, n, k)]
        folds.append(([i for i in range(n) if i not in validation], validation))
    return folds


def dealing(of_fold: Callable[[int, int, int, int], bool]) -> Callable[[int, int], Folds]:
    """A wrong idea of which index belongs to which fold."""
    return lambda n, k: dealt(n, k, of_fold)


def dealt_one_by_one(n: int, k: int) -> Folds:
    folds: Folds = [([], []) for _ in range(k)]
    for i in range(n):
        for fold, (training, validation) in enumerate(folds):
            (validation if i % k == fold else training).append(i)
    return folds


def by_slices(n: int, k: int) -> Folds:
    indices = list(range(n))
    return [(sorted(set(indices) - set(indices[fold::k])), indices[fold::k]) for fold in range(k)]


def by_joining(n: int, k: int) -> Folds:
    parts = [list(range(fold, n, k)) for fold in range(k)]
    return [(sorted(itertools.chain(*parts[:fold], *parts[fold + 1 :])), part) for fold, part in enumerate(parts)]


K_FOLD = Exercise(
    "k_fold",
    "deal 7 things to 3 folds on paper first: which indices does fold 0 get, and what do they have in common?",
    lambda seed: [(5, 2), (7, 3), (12, 5), (5, 5), (9 + seed % 5, 4), (6, 2)],
    dealt,
    (
        Mistake(
            "validation inside training",
            lambda n, k: [(list(range(n)), validation) for _, validation in dealt(n, k)],
            "what is validated in a fold must not be counted in it",
        ),
        Mistake(
            "remainder lost",
            dealing(lambda i, fold, n, k: i % k == fold and i < n // k * k),
            "every index is validated once, also where k does not divide n",
        ),
        Mistake(
            "blocks",
            dealing(lambda i, fold, n, k: i * k // n == fold),
            "deal the indices like cards, one to each fold in turn, not in blocks",
        ),
        Mistake(
            "blocks, remainder lost",
            dealing(lambda i, fold, n, k: i // (n // k) == fold),
            "blocks of n // k leave the last indices over: deal them like cards instead",
        ),
        Mistake(
            "blocks, remainder to the last",
            dealing(lambda i, fold, n, k: min(i // (n // k), k - 1) == fold),
            "then the last fold may be almost twice as large: deal one index to each fold in turn",
        ),
        Mistake(
            "array_split",
            lambda n, k: [
                ([i for i in range(n) if i not in part], part.tolist()) for part in np.array_split(np.arange(n), k)
            ],
            "array_split cuts blocks of neighbours: deal the indices like cards, one to each fold in turn",
        ),
        Mistake(
            "training not in order",
            lambda n, k: [
                ([i for shift in range(1, k) for i in range((fold + shift) % k, n, k)], list(range(fold, n, k)))
                for fold in range(k)
            ],
            "the indices of training come in rising order, like those of validation",
        ),
        Mistake(
            "training fold by fold",
            lambda n, k: [
                ([i for other in range(k) if other != fold for i in range(other, n, k)], list(range(fold, n, k)))
                for fold in range(k)
            ],
            "the other folds are put behind one another: training must rise from its first index to its last",
        ),
        Mistake(
            "folds from 1",
            dealing(lambda i, fold, n, k: i % k == fold + 1),
            "the remainders of i % k go from 0 to k - 1: so the folds are numbered from 0 as well",
        ),
        Mistake(
            "fold 0 left out",
            lambda n, k: dealt(n, k)[1:],
            "there must be k folds: does your loop begin at 0?",
        ),
        Mistake(
            "folds of k",
            lambda n, k: dealt(n, math.ceil(n / k), lambda i, fold, n, folds: i // k == fold),
            "k is the number of folds, not their size",
        ),
        Mistake(
            "turned round",
            lambda n, k: [(validation, training) for training, validation in dealt(n, k)],
            "the large part is for training, and it comes first",
        ),
        Mistake(
            "only the past",
            lambda n, k: [([i for i in range(n) if i % k < fold], part) for fold, (_, part) in enumerate(dealt(n, k))],
            "train on all other folds, the later ones too",
        ),
        Mistake(
            "one late",
            dealing(lambda i, fold, n, k: i > 0 and (i - 1) % k == fold),
            "counting begins at 0: who validates index 0?",
        ),
        Mistake(
            "one fold only", lambda n, k: dealt(n, k)[:1], "each of the k folds has its turn: return a list of k pairs"
        ),
    ),
    (dealt_one_by_one, by_slices, by_joining),
)


EXERCISES = (K_FOLD,)
