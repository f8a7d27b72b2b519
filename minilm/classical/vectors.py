"""What can be asked of word vectors: which words are alike, which word completes an analogy, do they agree with people?

How alike two words are is the cosine of the angle between their vectors: 1 for the same direction, 0 for a right angle.
Their lengths, which grow with the words' frequency, play no part.

An analogy "man is to king as woman is to ..." asks for the vector nearest to  king - man + woman  (3CosAdd), where all
vectors have length 1. The words of the question are not allowed as the answer: mostly the nearest is one of them.

Mikolov, Yih and Zweig (2013), "Linguistic regularities in continuous space word representations"; Levy and Goldberg (2014),
"Linguistic regularities in sparse and explicit word representations"; Spearman (1904), "The proof and measurement of
association between two things"; Pearson (1901), "On lines and planes of closest fit".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words (V) and their vectors, the rows of matrix (V, D) float64. ValueError for a word twice, or a NaN."""

    words: tuple[str, ...]
    matrix: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "matrix", np.asarray(self.matrix, dtype=np.float64))
        if self.matrix.ndim != 2 or self.matrix.shape[0] != len(self.words) or 0 in self.matrix.shape:
            raise ValueError(f"{len(self.words)} words with vectors {self.matrix.shape}: give (V, D), at least (1, 1)")
        if len(self.index) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.index[word] != i)
            raise ValueError(f"the word {twice!r} has two vectors: leave one out")
        if not np.isfinite(self.matrix).all():
            broken = self.words[int(np.flatnonzero(~np.isfinite(self.matrix).all(axis=1))[0])]
            raise ValueError(f"the vector of {broken!r} holds a NaN or an infinity: train again with a lower rate")

    @cached_property
    def index(self) -> dict[str, int]:
        """word -> row."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def units(self) -> np.ndarray:
        """The vectors with length 1: (V, D)."""
        return unit_rows(self.matrix)

    def row(self, word: str) -> int:
        """The row of a word; ValueError if it has none."""
        if word not in self.index:
            raise ValueError(f"there is no vector for {word!r} among {len(self.words):,} words: choose another word")
        return self.index[word]

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words."""
        return float(self.units[self.row(a)] @ self.units[self.row(b)])

    def nearest(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """The n words most like this one, and their cosines, the nearest first."""
        row = self.row(word)
        scores = self.units @ self.units[row]
        scores[row] = -np.inf
        return self._best(scores, n)

    def analogy(self, a: str, b: str, c: str, n: int = 1) -> list[tuple[str, float]]:
        """a is to b as c is to ...: the n best answers and their scores, the best first."""
        return self._best(analogy_scores(self.units, self.row(a), self.row(b), self.row(c)), n)

    def _best(self, scores: np.ndarray, n: int) -> list[tuple[str, float]]:
        if n < 1:
            raise ValueError(f"{n} words are asked for: ask for at least 1")
        order = np.argsort(-scores, kind="stable")[:n]
        return [(self.words[i], float(scores[i])) for i in order if scores[i] > -np.inf]

    def part(self, words: Sequence[str]) -> "WordVectors":
        """These words alone, in this order."""
        return WordVectors(tuple(words), self.matrix[[self.row(word) for word in words]])


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """The rows (V, D), each divided by its length; a row of zeros stays.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    scaled = matrix / np.where(largest > 0, largest, 1.0)  # so that no square is too large or too small for a number
    lengths = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return scaled / np.where(lengths > 0, lengths, 1.0)


def analogy_scores(units: np.ndarray, a: int, b: int, c: int) -> np.ndarray:
    """How well each word completes "a is to b as c is to ...": the cosine of b - a + c with each row (V, D) -> (V,).

    The rows have length 1. The three words of the question get -inf.

    >>> analogy_scores(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8]]), 0, 1, 2)
    array([-inf, -inf, -inf,  0.8])
    """
    wanted = units[b] - units[a] + units[c]
    scores = units @ unit_rows(wanted[None])[0]
    scores[[a, b, c]] = -np.inf
    return scores


def analogy_accuracy(vectors: WordVectors, questions: Iterable[Sequence[str]]) -> tuple[int, int]:
    """(how many are right, how many could be asked) of questions (a, b, c, answer); one with an unknown word is left out."""
    asked = [question for question in questions if all(word in vectors.index for word in question)]
    right = sum([word for word, _ in vectors.analogy(a, b, c)] == [answer] for a, b, c, answer in asked)
    return right, len(asked)


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The rank of each value, from 1; equal values share the mean of their ranks.

    >>> ranks([30, 10, 20, 20])
    array([4. , 1. , 2.5, 2.5])
    """
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """The correlation of the ranks of x (N,) with those of y (N,): 1 for the same order, -1 for the opposite one.

    >>> spearman([1, 2, 3], [10, 1000, 20])
    0.5
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"{len(x)} and {len(y)} values: give as many of both, at least 2")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a value is NaN or infinite, which has no rank")
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    if not (a.any() and b.any()):
        raise ValueError("all values on one side are equal: they have no order")
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def similarity_correlation(vectors: WordVectors, pairs: Iterable[tuple[str, str, float]]) -> tuple[float, int]:
    """(Spearman's correlation of the cosines with the scores that people gave, how many pairs have both vectors)."""
    known = [(a, b, score) for a, b, score in pairs if a in vectors.index and b in vectors.index]
    if len(known) < 2:
        raise ValueError(f"{len(known)} of the pairs have vectors for both words: at least 2 are needed")
    return spearman([vectors.similarity(a, b) for a, b, _ in known], [score for *_, score in known]), len(known)


def project(matrix: np.ndarray, n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(points (N, n), share of the variance that each direction holds (n,)): the n directions in which N points differ most.

    Principal components: the right singular vectors of the points less their mean. A direction and its opposite serve alike;
    the one whose largest number is positive is taken.
    """
    if not 1 <= n <= min(matrix.shape):
        raise ValueError(f"{n} directions of points {matrix.shape}: there are at most {min(matrix.shape)}")
    centred = matrix - matrix.mean(axis=0)
    _, S, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:n]
    signs = np.sign(directions[np.arange(n), np.abs(directions).argmax(axis=1)])
    return centred @ (directions * signs[:, None]).T, S[:n] ** 2 / max(float((S**2).sum()), np.finfo(float).tiny)
