"""The exercise of lesson 04 on tables: the gradient of an embedding. Its oracle in loops, mistakes, alternatives."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Cache = tuple[Any, ...]
Backward = Callable[[np.ndarray, Cache], np.ndarray]

# embedding_backward(dout, cache) -> dweight; the cache is (ids, weight)


def embedding_inputs(seed: int) -> list[Cache]:
    """Small ones in whole numbers; ids that come twice and three times, within a row and across; rows that nobody takes; no ids."""
    rng = np.random.default_rng(seed)
    cases: list[Cache] = []
    for small, D in (([1, 0], 2), ([2, 0, 2], 1), ([[1, 1], [0, 1]], 2)):
        ids = np.array(small)
        dout = 10.0 ** np.arange(ids.size)[:, None] * np.arange(1, D + 1)
        cases.append((dout.reshape(*ids.shape, D), (ids, np.arange(3.0 * D).reshape(3, D))))
    for places, V, D in (([2, 0, 2, 4, 2, 0], 6, 3), ([[1, 3, 1], [3, 4, 4]], 5, 2), ([], 3, 2)):
        ids = rng.permutation(V)[np.array(places, dtype=int)]
        cases.append((rng.standard_normal((*ids.shape, D)), (ids, rng.standard_normal((V, D)))))
    return cases


def embedding_row_by_row(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """For each row of the table all places are searched for those that took it."""
    ids, weight = cache
    dweight = np.zeros_like(weight)
    for v in range(len(weight)):
        for place in np.ndindex(ids.shape):
            if ids[place] == v:
                dweight[v] = dweight[v] + dout[place]
    return dweight


def added_up(
    dout: np.ndarray, cache: Cache, part: Any = lambda d, row: d, share: Any = lambda n: 1.0, start: float = 0.0
) -> np.ndarray:
    """Place by place; a row begins with `start` times itself, and gets part(dout, row), share(how often it was taken)."""
    ids, weight = cache
    dweight = start * weight
    for place in np.ndindex(ids.shape):
        dweight[ids[place]] += part(dout[place], weight[ids[place]]) * share((ids == ids[place]).sum())
    return dweight


def added(**change: Any) -> Backward:
    return lambda dout, cache: added_up(dout, cache, **change)


def last_one_stays(dout: np.ndarray, cache: Cache) -> np.ndarray:
    dweight = np.zeros_like(cache[1])
    for place in np.ndindex(cache[0].shape):
        dweight[cache[0][place]] = dout[place]
    return dweight


def first_one_stays(dout: np.ndarray, cache: Cache) -> np.ndarray:
    dweight = np.zeros_like(cache[1])
    ids, first = np.unique(cache[0], return_index=True)
    dweight[ids] = dout.reshape(-1, dout.shape[-1])[first]
    return dweight


def one_axis_of_ids(dout: np.ndarray, cache: Cache) -> np.ndarray:
    dweight = np.zeros_like(cache[1])
    for t in range(len(cache[0])):
        dweight[cache[0][t]] += dout[t]
    return dweight


def in_the_shape_of_dout(dout: np.ndarray, cache: Cache) -> np.ndarray:
    dweight = np.zeros_like(dout)
    for place in np.ndindex(cache[0].shape):
        dweight[cache[0][place]] += dout[place]
    return dweight


def by_place(dout: np.ndarray, cache: Cache) -> np.ndarray:
    dweight, rows = np.zeros_like(cache[1]), dout.reshape(-1, dout.shape[-1])
    for t in range(len(rows)):
        dweight[t] += rows[t]
    return dweight


def one_hot(cache: Cache) -> np.ndarray:
    return np.eye(len(cache[1]))[cache[0].ravel()]  # (N, V)


EMBEDDING = Exercise(
    "embedding_backward",
    "begin with zeros in the shape of the table; each place adds its dout to the row that it took",
    embedding_inputs,
    embedding_row_by_row,
    (
        Mistake(
            "last one stays",
            last_one_stays,
            "a row that was taken twice must get both parts. (numpy's d[ids] += dout writes once for each id: see np.add.at)",
        ),
        Mistake(
            "first one stays",
            first_one_stays,
            "np.unique names each id once: the other places that took the row count as well",
        ),
        Mistake(
            "divided by the places",
            lambda dout, cache: added_up(dout, cache) / max(cache[0].size, 1),
            "if the loss is a mean, dout was divided already where that mean was taken: not here",
        ),
        Mistake(
            "place for id",
            by_place,
            "place t took row ids[t] of the table, not row t",
        ),
        Mistake(
            "in the shape of dout",
            in_the_shape_of_dout,
            "a gradient has the shape of what it belongs to: begin with zeros as large as the table",
        ),
        Mistake(
            "a table for each text",
            lambda dout, cache: np.eye(len(cache[1]))[cache[0]].swapaxes(-1, -2) @ dout,
            "all texts take from one table, and their parts are added up: two axes",
        ),
        Mistake(
            "one-hot not turned",
            lambda dout, cache: one_hot(cache) @ dout.reshape(-1, dout.shape[-1]),
            "the one-hot rows stand for places, and the answer has a row for each id: which axis is summed away?",
        ),
        Mistake(
            "all of it in every row",
            lambda dout, cache: (
                np.isin(np.arange(len(cache[1])), cache[0])[:, None] * dout.reshape(-1, dout.shape[-1]).sum(0)
            ),
            "a row gets only what came from the places that took it: a sum over all places is too much",
        ),
        Mistake("averaged", added(share=lambda n: 1 / n), "the parts of a row that was taken n times add up: no mean"),
        Mistake(
            "one axis of ids",
            one_axis_of_ids,
            "ids may have two axes, and an id may come twice within a row of them: go through every single place",
        ),
        Mistake("added to the table", added(start=1.0), "the gradient is not the new table: begin with zeros"),
        Mistake(
            "written into the table",
            lambda dout, cache: cache[1] + last_one_stays(dout, cache),
            "the table is not what is asked for, nor may it change: begin with zeros, and mind ids that come twice",
        ),
        Mistake(
            "one axis, one-hot",
            lambda dout, cache: np.eye(len(cache[1]))[cache[0]].T @ dout,
            "with two axes of ids .T turns three axes round: make one list of places first",
        ),
        Mistake("times the row", added(part=lambda d, row: d * row), "a row is taken as it is: its slope is 1"),
        Mistake(
            "counted only",
            added(part=lambda d, row: np.ones_like(d)),
            "it matters how often a row was taken, and how much each place moves the loss: that is dout",
        ),
        Mistake(
            "gradient of the ids",
            lambda dout, cache: dout,
            "an id cannot be moved a little, the table can: the answer has the table's shape",
        ),
        Mistake(
            "taken rows only",
            lambda dout, cache: added_up(dout, cache)[np.unique(cache[0])],
            "a row that nobody took is part of the table too: its gradient is 0",
        ),
        Mistake(
            "transposed",
            lambda dout, cache: added_up(dout, cache).T,
            "one row for each token, one column for each of its numbers: as in the table",
        ),
    ),
    (
        added_up,
        lambda dout, cache: np.array([dout[cache[0] == v].sum(0) for v in range(len(cache[1]))]),
        lambda dout, cache: one_hot(cache).T @ dout.reshape(-1, dout.shape[-1]),
    ),
)

EXERCISES = (EMBEDDING,)
