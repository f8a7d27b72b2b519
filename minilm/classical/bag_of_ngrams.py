"""A text as a bag: how often each word, and each pair of neighbours, occurs in it. The order is forgotten beyond that.

    "not good, not bad"  ->  not: 2   good: 1   bad: 1   not good: 1   good not: 1   not bad: 1

A text has a few hundred different n-grams and a collection has many thousands, so a table of counts is nearly all zeros.
`SparseCounts` keeps the others only, row after row ("compressed sparse rows"), and knows the two products that linear
classifiers need. N = texts, V = n-grams of the vocabulary, C = classes.

Harris (1954), "Distributional structure"; for opinions: Pang, Lee and Vaithyanathan (2002), "Thumbs up?".
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import regex

Ngram = tuple[Any, ...]  # neighbouring pieces of a text: ("not", "good")

# Letters and numbers of any script with their marks (the vowel signs of Hindi are marks), and apostrophes inside a word.
WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*(?:['’][\p{L}\p{N}][\p{L}\p{N}\p{M}]*)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case. Signs and blanks only part them; é is é, whether written as one sign or as two.

    A curly apostrophe counts as a straight one. Scripts that write no blanks (Chinese, Thai) need another `cut`, such as the
    `encode` of a tokenizer: here a whole run of their letters is one word.

    >>> words("Don’t say it's «VERY Élégant», 2nd time!")
    ["don't", 'say', "it's", 'very', 'élégant', '2nd', 'time']
    """
    return WORD.findall(unicodedata.normalize("NFC", text.lower()).replace("’", "'"))


def ngrams(pieces: Sequence[Hashable], longest: int) -> Iterator[Ngram]:
    """All n-grams of 1 to `longest` pieces, the short ones first.

    >>> list(ngrams(["a", "b", "a"], 2))
    [('a',), ('b',), ('a',), ('a', 'b'), ('b', 'a')]
    """
    for n in range(1, longest + 1):
        yield from zip(*(pieces[i:] for i in range(n)), strict=False)


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """A table X (N, V) without its zeros: row i has values[starts[i] : starts[i + 1]] in the columns of the same places.

    >>> X = SparseCounts(np.array([0, 2, 2, 3]), np.array([0, 2, 1]), np.array([5.0, 1.0, 4.0]), n_columns=3)
    >>> X @ np.array([[1.0], [10.0], [100.0]])  # X is [[5, 0, 1], [0, 0, 0], [0, 4, 0]]
    array([[105.],
           [  0.],
           [ 40.]])
    """

    starts: np.ndarray  # (N + 1,) int64
    columns: np.ndarray  # (entries,) int64
    values: np.ndarray  # (entries,) float64
    n_columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.starts) - 1, self.n_columns

    @cached_property
    def rows(self) -> np.ndarray:
        """The row of each entry: (entries,) int64."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))

    def __matmul__(self, weights: np.ndarray) -> np.ndarray:
        """X @ weights: (V, C) -> (N, C)."""
        return self._spread(weights, self.columns, self.rows, self.shape[0])

    def transposed_matmul(self, residuals: np.ndarray) -> np.ndarray:
        """X.T @ residuals: (N, C) -> (V, C)."""
        return self._spread(residuals, self.rows, self.columns, self.shape[1])

    def _spread(self, factors: np.ndarray, read: np.ndarray, write: np.ndarray, n: int) -> np.ndarray:
        """(n, C): each entry times the row of factors that it reads, added to the row that it writes."""
        columns = [np.bincount(write, self.values * column[read], n) for column in np.ascontiguousarray(factors.T)]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class BagOfNgrams:
    """How texts are counted. It remembers none, so one bag serves any number of classifiers.

    `cut` is what makes pieces of a text: `words`, or a tokenizer's `encode`; any callable that returns a list of strings,
    or of integers.

    >>> bag = BagOfNgrams(longest=2, min_count=2)
    >>> vocabulary = bag.vocabulary(["not good, not bad", "not good"])
    >>> vocabulary
    {('not',): 0, ('good',): 1, ('not', 'good'): 2}
    >>> bag.counts(["Good? Not so good!"], vocabulary).values
    array([1., 2.])
    """

    longest: int = 1
    min_count: int = 1
    cut: Callable[[str], Sequence[Hashable]] = words

    def __post_init__(self) -> None:
        for name in ("longest", "min_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")

    def ngrams(self, text: str) -> Iterator[Ngram]:
        """The n-grams of a text, each as often as it occurs."""
        return ngrams(self.cut(text), self.longest)

    def vocabulary(self, texts: Iterable[str]) -> dict[Ngram, int]:
        """n-gram -> column, for all that occur at least min_count times in the texts taken together.

        The most frequent come first, equals in sorted order: the order of the texts does not matter. ValueError if none does.
        """
        total = Counter(ngram for text in texts for ngram in self.ngrams(text))
        kept = [(-count, ngram) for ngram, count in total.items() if count >= self.min_count]
        if not kept:
            raise ValueError(
                f"no n-gram occurs {self.min_count} times in the texts: give more texts or a lower min_count"
            )
        return {ngram: column for column, (_, ngram) in enumerate(sorted(kept))}

    def counts(self, texts: Iterable[str], vocabulary: Mapping[Ngram, int]) -> SparseCounts:
        """The counts (N, V) of the n-grams of a vocabulary; others are passed over."""
        starts, columns, values = [0], list[int](), list[int]()
        for text in texts:
            counted = Counter(vocabulary[ngram] for ngram in self.ngrams(text) if ngram in vocabulary)
            columns += counted.keys()
            values += counted.values()
            starts.append(len(columns))
        return SparseCounts(
            np.array(starts), np.array(columns, dtype=np.int64), np.array(values, dtype=np.float64), len(vocabulary)
        )
