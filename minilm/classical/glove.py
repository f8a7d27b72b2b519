"""GloVe: a vector for each word, such that the product of two says how often the two words meet.

    w_i . c_j + b_i + d_j  should be  log X_ij            X: cooccurrence.py

Each word has two vectors: w for itself, c for it as the context of others, and a bias for either. The objective is that of
weighted least squares, over the pairs that occur at all (log 0 is no number, and most pairs of a table never meet):

    J  =  1/2  sum over X_ij > 0 of  f(X_ij) (w_i . c_j + b_i + d_j - log X_ij)^2,      f(x) = min(1, (x / x_max)^alpha)

f lets rare pairs, whose counts are mostly chance, say little, and no pair of frequent words more than 1. With the residual
r_ij and the pull g_ij = f(X_ij) r_ij the gradients are one product each:

    dJ/dw_i = sum_j g_ij c_j       dJ/dc_j = sum_i g_ij w_i       dJ/db_i = sum_j g_ij       dJ/dd_j = sum_i g_ij

They are followed by AdaGrad, in batches of pairs in random order. A word that occurs several times in a batch gets the sum
of its gradients, and one step: the square that AdaGrad remembers is that of the sum. With a batch of one pair this is the
algorithm of the paper; a larger batch is a little slower to learn and far quicker to compute. Rows of which a batch holds
no pair have the gradient 0 and stay where they are, so only the others are touched.

X is symmetric, so w and c mean the same and differ by their first random numbers only; their sum is the vector of a word.

Pennington, Socher and Manning (2014), "GloVe: Global vectors for word representation"; Duchi, Hazan and Singer (2011),
"Adaptive subgradient methods for online learning and stochastic optimization".
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from minilm.classical.bag_of_ngrams import BagOfNgrams, SparseCounts, words
from minilm.classical.cooccurrence import cooccurrences, word_ids
from minilm.classical.glove_config import GloveConfig
from minilm.classical.vectors import WordVectors

EPSILON = 1e-10  # keeps AdaGrad from dividing 0 by 0
AT_ONCE = 2**16  # pairs whose residuals are computed at a time
OnEpoch = Callable[[int, float], object]


class VectorsFailed(ValueError):
    """The objective is no longer a number."""

    exit_code = 3  # of the command line: training failed


def weight(counts: np.ndarray, x_max: float = 100.0, alpha: float = 0.75) -> np.ndarray:
    """How much pairs with these counts (N,) count: (x / x_max)^alpha, and 1 from x_max on.

    >>> weight(np.array([1.0, 16.0, 100.0]), x_max=16.0, alpha=0.5)
    array([0.25, 1.  , 1.  ])
    """
    return np.minimum(1.0, (counts / x_max) ** alpha)


def residuals(w: np.ndarray, c: np.ndarray, b: np.ndarray, d: np.ndarray, log_x: np.ndarray) -> np.ndarray:
    """w . c + b + d - log x of N pairs: vectors (N, D), the rest (N,)."""
    return np.einsum("nd,nd->n", w, c) + b + d - log_x


def slopes(
    w: np.ndarray, c: np.ndarray, b: np.ndarray, d: np.ndarray, log_x: np.ndarray, f: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The objective of N pairs and its gradients: (J, dw (N, D), dc (N, D), db (N,)); that of d is that of b.

    Row n of the arguments belongs to pair n: the vector (D,) and bias of its word, those of its context, log X, f(X).

    >>> one = np.ones(1)
    >>> slopes(np.array([[2.0]]), np.array([[3.0]]), one, one, log_x=4 * one, f=one / 2)  # the residual is 4
    (4.0, array([[6.]]), array([[4.]]), array([2.]))
    """
    residual = residuals(w, c, b, d, log_x)
    pull = f * residual
    return 0.5 * float(pull @ residual), pull[:, None] * c, pull[:, None] * w, pull


def sum_by_row(rows: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows occur (R,), each once and ascending, and the sum of the gradients of each: (N,), (N, D) -> (R, D).

    >>> sum_by_row(np.array([4, 1, 4]), np.array([[1.0], [2.0], [3.0]]))
    (array([1, 4]), array([[2.],
           [4.]]))
    """
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    return rows[starts], np.add.reduceat(gradients[order], starts)


def adagrad(
    table: np.ndarray, squares: np.ndarray, rows: np.ndarray, gradients: np.ndarray, learning_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A step of the rows of a table (V, D) that have gradients: rows (N,), which may come again, gradients (N, D).

        squares += gradient^2        row -= learning_rate * gradient / (sqrt(squares) + epsilon)

    where `gradient` is the sum of all that a row gets. Each number has a rate of its own, which falls with what it has been
    through: frequent words slow down, rare ones do not. Returns (which rows have moved (R,), each once and ascending, the new
    rows (R, D), their new squares (R, D)); table and squares stay as they are.

    >>> table, squares = np.array([[1.0], [2.0]]), np.array([[0.0], [7.0]])
    >>> adagrad(table, squares, np.array([1, 1]), np.array([[1.0], [2.0]]), learning_rate=0.4)
    (array([1]), array([[1.7]]), array([[16.]]))
    """
    touched, gradient = sum_by_row(rows, gradients)
    grown = squares[touched] + gradient**2
    return touched, table[touched] - learning_rate * gradient / (np.sqrt(grown) + EPSILON), grown


class GloVe:
    """Words and their two tables (V, D + 1), `word_table` [w, b] and `context_table` [c, d]: the last column is the bias.

    It is no language model: it predicts nothing, it only knows which words are alike. `vectors` is what it is made for.
    """

    kind = "glove"

    def __init__(self, config: GloveConfig, names: Sequence[str], generator: np.random.Generator | None = None) -> None:
        """Vectors drawn evenly from -1/2D to 1/2D (with no generator all are 0), biases 0."""
        if len(names) != config.vocab_size or len(set(names)) != len(names):
            raise ValueError(
                f"{len(names)} words, {len(set(names))} different ones, for vocab_size {config.vocab_size}"
            )
        if any(not name or "\n" in name for name in names):
            raise ValueError("a word is empty or holds a line end: no file could tell it from its neighbours")
        self.config, self.words = config, tuple(names)
        V, D = config.vocab_size, config.dimensions
        self.word_table, self.context_table = np.zeros((V, D + 1)), np.zeros((V, D + 1))
        if generator is not None:
            for table in (self.word_table, self.context_table):
                table[:, :D] = (generator.random((V, D)) - 0.5) / D

    def fit(self, X: SparseCounts, generator: np.random.Generator, on_epoch: OnEpoch | None = None) -> Self:
        """Train on X (V, V). `on_epoch(number, mean objective of a pair on the way)` is called after each epoch.

        The same generator gives the same vectors. ValueError for an X of another size, without a pair, or with one that
        never occurs; VectorsFailed where the numbers run away.
        """
        self._check(X)
        log_x, f = np.log(X.values), weight(X.values, self.config.x_max, self.config.alpha)
        squares = np.zeros_like(self.word_table), np.zeros_like(self.context_table)
        n, size = len(X.values), self.config.batch_size
        for epoch in range(1, self.config.epochs + 1):
            order = generator.permutation(n)
            objective = 0.0
            with np.errstate(over="ignore", invalid="ignore"):  # seen below, in one place
                for batch in (order[start : start + size] for start in range(0, n, size)):
                    objective += self._step(X.rows[batch], X.columns[batch], log_x[batch], f[batch], squares)
            if not np.isfinite(objective):
                raise VectorsFailed(f"epoch {epoch}: the objective is {objective}: choose a lower learning_rate")
            if on_epoch is not None:
                on_epoch(epoch, objective / n)
        return self

    def _step(
        self, i: np.ndarray, j: np.ndarray, log_x: np.ndarray, f: np.ndarray, squares: tuple[np.ndarray, np.ndarray]
    ) -> float:
        """One step on the pairs (i, j) of a batch; returns their objective before it."""
        word, context = self.word_table[i], self.context_table[j]
        objective, dw, dc, db = slopes(word[:, :-1], context[:, :-1], word[:, -1], context[:, -1], log_x, f)
        tables = (self.word_table, squares[0], i, dw), (self.context_table, squares[1], j, dc)
        for table, remembered, rows, gradients in tables:
            gradients = np.column_stack([gradients, db])
            touched, moved, grown = adagrad(table, remembered, rows, gradients, self.config.learning_rate)
            table[touched], remembered[touched] = moved, grown
        return objective

    def objective(self, X: SparseCounts) -> float:
        """J of all pairs of X."""
        self._check(X)
        total = 0.0
        for start in range(0, len(X.values), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            word, context = self.word_table[X.rows[part]], self.context_table[X.columns[part]]
            r = residuals(word[:, :-1], context[:, :-1], word[:, -1], context[:, -1], np.log(X.values[part]))
            total += 0.5 * float(weight(X.values[part], self.config.x_max, self.config.alpha) @ r**2)
        return total

    def _check(self, X: SparseCounts) -> None:
        V = self.config.vocab_size
        if X.shape != (V, V):
            raise ValueError(f"the counts are {X.shape}, there are {V} words: count with the same vocabulary")
        if len(X.values) == 0:
            raise ValueError("no two words meet in these texts: give longer texts, or a lower min_count")
        if not (X.values > 0).all():
            raise ValueError("a pair has a count that is not above 0, which has no logarithm: leave it out")

    @property
    def vectors(self) -> WordVectors:
        """w + c of each word."""
        return WordVectors(self.words, self.word_table[:, :-1] + self.context_table[:, :-1])

    @property
    def n_parameters(self) -> int:
        return self.word_table.size + self.context_table.size

    def arrays(self) -> dict[str, np.ndarray]:
        """The tables by name, and the words as UTF-8, one a line, for a checkpoint."""
        names = np.frombuffer("\n".join(self.words).encode(), dtype=np.uint8)
        return {"words": names, "word_table": self.word_table, "context_table": self.context_table}

    @classmethod
    def from_arrays(cls, config: GloveConfig, arrays: Mapping[str, np.ndarray]) -> Self:
        """The model that was saved with this config; ValueError if the arrays do not fit it."""
        if arrays.keys() != {"words", "word_table", "context_table"}:
            raise ValueError(f"the arrays {', '.join(sorted(arrays))} are not those of word vectors")
        model = cls(config, arrays["words"].tobytes().decode().split("\n"))
        for name in ("word_table", "context_table"):
            expected = getattr(model, name).shape
            if arrays[name].shape != expected:
                raise ValueError(f"{name} has shape {arrays[name].shape}, the config needs {expected}")
            setattr(model, name, np.array(arrays[name], dtype=np.float64))
        return model


def train_glove(
    texts: Iterable[str],
    config: GloveConfig,
    generator: np.random.Generator,
    cut: Callable[[str], Sequence[Any]] = words,
    on_epoch: OnEpoch | None = None,
) -> GloVe:
    """From texts to vectors: the most frequent words, their counts, the fit. The texts are read twice,
    so they must be a list or a side of a corpus, no iterator (ValueError).

    `cut` makes strings of a text: words, or the names of a tokenizer's tokens. The model's vocab_size is what was found.
    """
    if iter(texts) is texts:
        raise ValueError("texts are read twice, to find the words and to count them: give a list, not an iterator")
    ranked = BagOfNgrams(longest=1, min_count=config.min_count, cut=cut).vocabulary(texts)
    names = [name for (name,) in ranked][: config.vocab_size]
    model = GloVe(dataclasses.replace(config, vocab_size=len(names)), names, generator)
    index = {name: i for i, name in enumerate(names)}
    X = cooccurrences(word_ids(texts, index, cut), len(names), config.window)
    return model.fit(X, generator, on_epoch)
