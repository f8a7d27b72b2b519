"""The exercise of lesson 27 on analogies: an oracle that measures one angle after the other, its mistakes, other solutions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from minilm.checks.compare import Exercise, Mistake

Array = np.ndarray

# analogy_scores(units, a, b, c) -> (V,)


def dot(u: Sequence[float], v: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(u, v, strict=True))


def cosine(u: Sequence[float], v: Sequence[float]) -> float:
    return dot(u, v) / math.sqrt(dot(u, u) * dot(v, v))


def word_by_word(
    units: Array,
    a: int,
    b: int,
    c: int,
    signs: tuple[int, int, int] = (-1, 1, 1),
    score: Callable[[Sequence[float], Sequence[float]], float] = cosine,
    excluded: Callable[[int, int, int], tuple[int, ...]] = lambda a, b, c: (a, b, c),
    instead: float = -math.inf,
) -> Array:
    """The vector that is looked for, number by number, then each word's angle with it. The switches make the mistakes."""
    A, B, C = (units[i].tolist() for i in (a, b, c))
    wanted = [signs[0] * x + signs[1] * y + signs[2] * z for x, y, z in zip(A, B, C, strict=True)]
    scores = [score(row, wanted) for row in units.tolist()]
    for i in excluded(a, b, c):
        scores[i] = instead
    return np.array(scores)


def scored(**switch: Any) -> Any:
    """The walk with switches thrown."""
    return lambda units, a, b, c: word_by_word(units, a, b, c, **switch)


def distance(u: Sequence[float], v: Sequence[float]) -> float:
    return -math.dist(u, v)


def fewer_rows(units: Array, a: int, b: int, c: int) -> Array:
    return np.delete(word_by_word(units, a, b, c), [a, b, c])


def multiplied(units: Array, a: int, b: int, c: int) -> Array:
    likeness = (units @ units[[a, b, c]].T + 1) / 2
    scores = likeness[:, 1] * likeness[:, 2] / (likeness[:, 0] + 0.001)
    scores[[a, b, c]] = -np.inf
    return scores


def same_direction(units: Array, a: int, b: int, c: int) -> Array:
    steps, wanted = units - units[c], units[b] - units[a]
    with np.errstate(invalid="ignore"):
        scores = steps @ wanted / (np.linalg.norm(steps, axis=1) * np.linalg.norm(wanted))
    scores[[a, b, c]] = -np.inf
    return scores


def axis_of_the_words(units: Array, a: int, b: int, c: int) -> Array:
    """ValueError, but where D is V."""
    scores = (units[b] - units[a] + units[c]) @ units
    scores[[a, b, c]] = -np.inf
    return scores


def the_best(units: Array, a: int, b: int, c: int) -> Any:
    return int(np.argmax(word_by_word(units, a, b, c)))


def by_product(units: Array, a: int, b: int, c: int) -> Array:
    wanted = units[b] + units[c] - units[a]
    scores = (units * wanted).sum(axis=1) / np.sqrt(wanted @ wanted)
    for i in {a, b, c}:
        scores[i] = -np.inf
    return scores


def as_sum_of_cosines(units: Array, a: int, b: int, c: int) -> Array:
    """All three cosines of each word, then their sum: hence the name 3CosAdd."""
    signs = np.array([-1.0, 1.0, 1.0])
    three = units[[a, b, c]]
    scores = (units @ three.T) @ signs / np.sqrt(signs @ three @ three.T @ signs)
    return np.where(np.isin(np.arange(len(units)), [a, b, c]), -np.inf, scores)


def in_torch(units: Array, a: int, b: int, c: int) -> Array:
    table = torch.from_numpy(units)
    wanted = table[b] - table[a] + table[c]
    scores = (table @ wanted) / (table.norm(dim=1) * wanted.norm())
    return scores.index_fill(0, torch.tensor([a, b, c]), -torch.inf).numpy()


def analogy_inputs(seed: int) -> list[tuple[Array, int, int, int]]:
    """By hand; words in any order; a word twice in the question; all answers on the other side, so that 0 would be best."""
    rng = np.random.default_rng(seed)

    def words(V: int, D: int) -> Array:
        rows = rng.normal(size=(V, D))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    hand = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]])
    return [(hand, 0, 1, 2), (hand, 4, 1, 3), (words(6, 4), 5, 0, 3), (words(9, 3), 2, 8, 4), (words(7, 5), 1, 3, 3)]


ANALOGY = Exercise(
    "analogy_scores",
    "the vector that is looked for is units[b] - units[a] + units[c]; give it the length 1, then one product with all rows",
    analogy_inputs,
    word_by_word,
    (
        Mistake("nobody excluded", scored(excluded=lambda a, b, c: ()), "the three words of the question get -inf"),
        Mistake("only c excluded", scored(excluded=lambda a, b, c: (c,)), "a and b are words of the question, too"),
        Mistake("only b excluded", scored(excluded=lambda a, b, c: (b,)), "a and c are words of the question, too"),
        Mistake("a not excluded", scored(excluded=lambda a, b, c: (b, c)), "a is a word of the question, too"),
        Mistake("b not excluded", scored(excluded=lambda a, b, c: (a, c)), "b is a word of the question, too"),
        Mistake("c not excluded", scored(excluded=lambda a, b, c: (a, b)), "c is a word of the question, too"),
        Mistake("0 instead", scored(instead=0.0), "where all others are below 0, a 0 would win: put -inf"),
        Mistake("-1 instead", scored(instead=-1.0), "-1 is a cosine like others: put -inf, and nothing is lower"),
        Mistake(
            "NaN instead", scored(instead=math.nan), "a NaN is neither low nor high, and argmax finds it: put -inf"
        ),
        Mistake(
            "infinity instead", scored(instead=math.inf), "inf would always win: the words of the question get -inf"
        ),
        Mistake("left out", fewer_rows, "one score for each word, or the numbers of the words no longer fit"),
        Mistake("a - b + c", scored(signs=(1, -1, 1)), "the step leads from a to b: b - a, then on from c"),
        Mistake("a + b + c", scored(signs=(1, 1, 1)), "a is taken away"),
        Mistake("a + b - c", scored(signs=(1, 1, -1)), "c is where the step begins: a is taken away, not c"),
        Mistake("a - b - c", scored(signs=(1, -1, -1)), "all signs are turned round: b - a + c"),
        Mistake("b - a - c", scored(signs=(-1, 1, -1)), "the step begins at c: add it"),
        Mistake("no c", scored(signs=(-1, 1, 0)), "b - a is the step only: it begins at c"),
        Mistake("nearest to c", scored(signs=(0, 0, 1)), "that is what is near c: the step b - a is missing"),
        Mistake("b + c", scored(signs=(0, 1, 1)), "a is missing: it is taken away"),
        Mistake("not divided", scored(score=dot), "a cosine: divide by the length of b - a + c, which is not 1"),
        Mistake(
            "divided by the square",
            scored(score=lambda u, v: dot(u, v) / dot(v, v)),
            "the length is the root of the sum of the squares",
        ),
        Mistake("distance", scored(score=distance), "the cosine is asked for, not the distance"),
        Mistake("sizes", scored(score=lambda u, v: abs(cosine(u, v))), "an opposite is not alike: keep the sign"),
        Mistake(
            "angle", scored(score=lambda u, v: math.acos(max(-1, min(1, cosine(u, v))))), "the cosine, not the angle"
        ),
        Mistake("squares", scored(score=lambda u, v: cosine(u, v) ** 2), "the cosine itself, not its square"),
        Mistake("multiplied", multiplied, "that is 3CosMul, another measure: here the vectors are added"),
        Mistake(
            "same direction",
            same_direction,
            "you compare the step from c to each word with that from a to b: compare the words with b - a + c",
        ),
        Mistake("the other axis", axis_of_the_words, "the words are the rows: units @ wanted, not wanted @ units"),
        Mistake("the best alone", the_best, "a score for each word is asked for, not the winner"),
    ),
    (by_product, as_sum_of_cosines, in_torch),
)

EXERCISES = (ANALOGY,)
