"""The exercise of lesson 27 on AdaGrad with rows that come again: an oracle in plain numbers, mistakes, other right solutions."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Array = np.ndarray
Answer = tuple[Any, ...]
EPSILON = 1e-10

# adagrad(table, squares, rows, gradients, learning_rate) -> (touched (R,), their new rows (R, D), their new squares (R, D))


def row_by_row(
    table: Array,
    squares: Array,
    rows: Array,
    gradients: Array,
    learning_rate: float,
    together: Callable[[list[float]], float] = sum,
    grown: Callable[[float, float, list[float]], float] = lambda s, g, parts: s + g * g,
    scale: Callable[[float, float], float] = lambda s, old: s**0.5 + EPSILON,
    step: Callable[[float, float], float] = lambda x, change: x - change,
    order: Callable[[Iterable[int]], Iterable[int]] = sorted,
    place: Callable[[int, int], int] = lambda row, number: row,
) -> Answer:
    """What each row gets is collected, then each number takes one step. The switches make the mistakes."""
    parts: dict[int, list[Array]] = {}
    for row, gradient in zip(rows.tolist(), gradients, strict=True):
        parts.setdefault(row, []).append(gradient)
    touched = list(order(parts))
    D = table.shape[1]
    moved, squared = np.zeros((len(touched), D)), np.zeros((len(touched), D))
    for r, row in enumerate(touched):
        for k in range(D):
            given = [float(gradient[k]) for gradient in parts[row]]
            g, s = together(given), float(squares[place(row, r), k])
            squared[r, k] = grown(s, g, given)
            change = learning_rate * g / scale(squared[r, k], s)
            moved[r, k] = step(float(table[place(row, r), k]), change)
    return np.array(touched, dtype=rows.dtype), moved, squared


def with_rules(**switch: Any) -> Any:
    """The walk with switches thrown."""
    return lambda *arguments: row_by_row(*arguments, **switch)


def changed(change: Callable[..., Answer]) -> Any:
    """The right three, then something is done to them: change(touched, moved, grown, *arguments)."""
    return lambda *arguments: change(*row_by_row(*arguments), *arguments)


def one_after_the_other(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    table, squares = table.copy(), squares.copy()
    for row, g in zip(rows, gradients, strict=True):
        squares[row] += g**2
        table[row] -= learning_rate * g / (np.sqrt(squares[row]) + EPSILON)
    touched = np.unique(rows)
    return touched, table[touched], squares[touched]


def row_for_each_gradient(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    new = squares[rows] + gradients**2
    return rows.copy(), table[rows] - learning_rate * gradients / (np.sqrt(new) + EPSILON), new


def no_epsilon(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    touched, _, new = row_by_row(table, squares, rows, gradients, learning_rate)
    total = np.stack([gradients[rows == row].sum(0) for row in touched])
    with np.errstate(invalid="ignore"):
        return touched, table[touched] - learning_rate * total / np.sqrt(new), new


def without_what_cancels(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    touched, moved, new = row_by_row(table, squares, rows, gradients, learning_rate)
    kept = np.array([bool(gradients[rows == row].sum(0).any()) for row in touched])
    return touched[kept], moved[kept], new[kept]


def one_rate_a_row(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    touched, _, new = row_by_row(table, squares, rows, gradients, learning_rate)
    total = np.stack([gradients[rows == row].sum(0) for row in touched])
    return touched, table[touched] - learning_rate * total / (np.sqrt(new.sum(1, keepdims=True)) + EPSILON), new


def with_add_at(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    touched, which = np.unique(rows, return_inverse=True)
    total = np.zeros((len(touched), table.shape[1]))
    np.add.at(total, which, gradients)
    new = squares[touched] + total**2
    return touched, table[touched] - learning_rate * total / (np.sqrt(new) + EPSILON), new


def by_a_dictionary(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    total: dict[int, Any] = {}
    for row, gradient in zip(rows.tolist(), gradients, strict=True):
        total[row] = total.get(row, 0) + gradient
    touched, moved, grown = sorted(total), [], []
    for row in touched:
        grown.append(squares[row] + total[row] ** 2)
        moved.append(table[row] - learning_rate * total[row] / (np.sqrt(grown[-1]) + EPSILON))
    return np.array(touched), np.array(moved), np.array(grown)


def whole_tables(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    touched, moved, grown = row_by_row(table, squares, rows, gradients, learning_rate)
    table, squares = table.copy(), squares.copy()
    table[touched], squares[touched] = moved, grown
    return touched, table, squares


def whole_table_first(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    total = np.zeros_like(table)
    for row, gradient in zip(rows, gradients, strict=True):
        total[row] += gradient
    squares = squares + total**2
    table = table - learning_rate * total / (np.sqrt(squares) + EPSILON)
    touched = np.array(sorted(set(rows.tolist())))
    return touched, table[touched], squares[touched]


def by_a_product(table: Array, squares: Array, rows: Array, gradients: Array, learning_rate: float) -> Answer:
    """A matrix of ones and zeros says which gradient belongs to which row."""
    touched = np.unique(rows)
    total = (touched[:, None] == rows).astype(float) @ gradients
    new = squares[touched] + np.square(total)
    return touched, table[touched] - learning_rate / (new**0.5 + EPSILON) * total, new


def rate_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand: one row twice. Rows in any order, some often, some never; a gradient that is 0 where nothing was before.

    Gradients of about a millionth; two that cancel; and rows that a set of Python's does not give in order.
    """
    rng = np.random.default_rng(seed)
    hand = np.array([[1.0], [2.0]]), np.array([[0.0], [7.0]]), np.array([1, 1]), np.array([[1.0], [2.0]])
    cases: list[tuple[Any, ...]] = [(*hand, 0.4)]
    for V, D, N in ((4, 3, 2), (7, 3, 12), (9, 2, 5), (5, 4, 1)):
        gradients = rng.normal(size=(N, D))
        rows = rng.permutation(np.arange(V))[: min(N, V - 2)]
        rows = np.concatenate([rows[::-1], rows[rng.integers(0, len(rows), size=N - len(rows))]])
        cases.append((rng.normal(size=(V, D)), rng.uniform(0.2, 3.0, size=(V, D)), rows, gradients, 0.3))
    zero = np.array([[0.0, 2.0], [0.0, -1.0], [3.0, 0.0]])
    cancel = np.array([[1.0, -2.0], [0.5, 1.0], [-1.0, 2.0]])
    cases += [(rng.normal(size=(4, 2)), np.zeros((4, 2)), np.array([3, 3, 1]), zero, 0.05)]
    cases += [(rng.normal(size=(5, 2)), rng.uniform(0.2, 3.0, size=(5, 2)), np.array([2, 4, 2]), cancel, 0.1)]
    cases += [
        (rng.normal(size=(3, 2)), np.zeros((3, 2)), np.array([2, 0]), tiny * rng.uniform(1, 2, (2, 2)), 0.05)
        for tiny in (1e-6, 1e-8)
    ]
    return [*cases, (rng.normal(size=(12, 2)), np.ones((12, 2)), np.array([9, 1, 9]), rng.normal(size=(3, 2)), 0.2)]


ADAGRAD = Exercise(
    "adagrad",
    "touched, which = np.unique(rows, return_inverse=True) gives each row once, and for each gradient to which of them it belongs",
    rate_inputs,
    row_by_row,
    (
        Mistake(
            "last one wins",
            with_rules(together=lambda parts: parts[-1]),
            "of the gradients of one row only the last was used: total[rows] += gradients forgets the others, np.add.at does not",
        ),
        Mistake(
            "first one wins",
            with_rules(together=lambda parts: parts[0]),
            "of the gradients of one row only the first was used: add them up",
        ),
        Mistake(
            "mean of the gradients",
            with_rules(together=lambda parts: sum(parts) / len(parts)),
            "a row gets the sum of its gradients, not their mean",
        ),
        Mistake(
            "sum of the squares",
            with_rules(grown=lambda s, g, parts: s + sum(part * part for part in parts)),
            "square the sum of a row's gradients: you have added up squares",
        ),
        Mistake(
            "one after the other",
            one_after_the_other,
            "your row takes a step for each of its gradients: add them up first, then one step",
        ),
        Mistake("row for each gradient", row_for_each_gradient, "each row that occurs is to be returned once"),
        Mistake(
            "as they came",
            with_rules(order=list),
            "the rows are to be returned in ascending order, as np.unique gives them",
        ),
        Mistake(
            "old squares",
            with_rules(scale=lambda s, old: old**0.5 + EPSILON),
            "the new squares divide: today's gradient is in them already",
        ),
        Mistake("no root", with_rules(scale=lambda s, old: s + EPSILON), "divide by the root of the squares"),
        Mistake(
            "not divided",
            with_rules(scale=lambda s, old: 1.0),
            "each number has its own rate: divide by the root of its squares",
        ),
        Mistake(
            "no memory", with_rules(grown=lambda s, g, parts: g * g), "the squares add up: the old ones have to come in"
        ),
        Mistake(
            "squares that fade",
            with_rules(grown=lambda s, g, parts: 0.9 * s + 0.1 * g * g),
            "nothing fades in AdaGrad (that is RMSProp): the squares add up",
        ),
        Mistake(
            "squares that fade slowly",
            with_rules(grown=lambda s, g, parts: 0.99 * s + 0.01 * g * g),
            "nothing fades in AdaGrad (that is RMSProp, with 0.99): the squares add up",
        ),
        Mistake("sizes", with_rules(grown=lambda s, g, parts: s + abs(g)), "what is added is the square, not the size"),
        Mistake("uphill", with_rules(step=lambda x, change: x + change), "a step goes down, against the gradient"),
        Mistake(
            "only the steps", with_rules(step=lambda x, change: change), "the new rows are asked for, not the steps"
        ),
        Mistake(
            "the changes",
            with_rules(step=lambda x, change: -change),
            "the new rows are asked for: add the change to the old ones",
        ),
        Mistake("no epsilon", no_epsilon, "0 / 0 is no number: a gradient of 0 needs the 1e-10 below it"),
        Mistake(
            "epsilon in the root",
            with_rules(scale=lambda s, old: (s + EPSILON) ** 0.5),
            "the 1e-10 is added to the root: inside it is as much as 1e-5, and small gradients feel it",
        ),
        Mistake(
            "epsilon of torch's Adam",
            with_rules(scale=lambda s, old: s**0.5 + 1e-8),
            "1e-10 is added to the root, not 1e-8: the gradients may be as small as that",
        ),
        Mistake(
            "epsilon of 1e-8 in the root",
            with_rules(scale=lambda s, old: (s + 1e-8) ** 0.5),
            "what is added stands outside of the root, and is 1e-10",
        ),
        Mistake(
            "what cancels is left out",
            without_what_cancels,
            "a row whose gradients add up to 0 has been touched all the same: `rows` says which occur",
        ),
        Mistake(
            "as a set has them",
            with_rules(order=lambda parts: list(set(parts))),
            "a set has no order, though small numbers often look sorted: np.unique sorts, and so does sorted()",
        ),
        Mistake(
            "one rate a row",
            one_rate_a_row,
            "each number of a row has its own squares: do not add them up along the row",
        ),
        Mistake(
            "the first rows",
            with_rules(place=lambda row, number: number),
            "you step with the first rows of the table: which rows are meant, `touched` says",
        ),
        Mistake("whole table", whole_tables, "only the rows that have moved are asked for: table[touched]"),
        Mistake(
            "squares of before",
            changed(lambda touched, moved, grown, table, squares, *rest: (touched, moved, squares[touched])),
            "the new squares are asked for, or the next step would not remember this one",
        ),
        Mistake(
            "squares for rows",
            changed(lambda touched, moved, grown, *rest: (touched, grown, moved)),
            "the order is touched, rows, squares",
        ),
        Mistake(
            "touched forgotten",
            changed(lambda touched, moved, grown, *rest: (moved, grown)),
            "three are asked for: first which rows have moved",
        ),
    ),
    (with_add_at, whole_table_first, by_a_product, by_a_dictionary),
)

EXERCISES = (ADAGRAD,)
