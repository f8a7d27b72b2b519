"""The exercise of lesson 09 on the recall test. The oracle counts with 50 digits; the mistakes are real ones."""

import decimal
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# recall_shares(log_probs, right) -> (N,)


def shares_in_decimals(log_probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The definition, place by place, in numbers of 50 digits that know exp(-800) as well as any other."""
    with decimal.localcontext(decimal.Context(prec=50)):
        answers = []
        for row, index in zip(log_probs.tolist(), right.tolist(), strict=True):
            chances = [Decimal(number).exp() for number in row]
            answers.append(float(chances[index] / sum(chances)))
        return np.array(answers)


def place_inputs(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two to redo on paper; more places than candidates and fewer; as many; ties; impossible ones; far below each other."""
    rng = np.random.default_rng(seed)
    spread = -rng.gamma(1.0, 3.0, (5, 3))
    far = spread - np.array([[0.0], [800.0], [1600.0], [3.0], [2400.0]])
    with np.errstate(divide="ignore"):
        impossible = np.log([[0.25, 0.0, 0.5], [0.0, 0.125, 0.0]])
    return [
        (np.log([[0.1, 0.3], [0.02, 0.03], [0.5, 0.25]]), np.array([1, 0, 0])),
        (np.log([[0.2, 0.1, 0.1]]), np.array([2])),
        (-rng.gamma(1.0, 3.0, (4, 7)), rng.integers(1, 7, 4)),
        (-rng.gamma(1.0, 1.0, (3, 3)), np.array([2, 0, 2])),
        (np.full((2, 5), -4.0), np.array([4, 1])),
        (impossible, np.array([1, 1])),
        (far, np.array([2, 1, 0, 1, 2])),
        (-rng.uniform(801.0, 809.0, (4, 3)), np.array([1, 2, 0, 2])),
        (-rng.uniform(24.0, 29.0, (2, 3)), np.array([0, 1])),
    ]


Finish = Callable[[np.ndarray, np.ndarray], Any]


def chosen(p: np.ndarray, right: np.ndarray) -> np.ndarray:
    """One number of each row."""
    return p[np.arange(len(right)), right]


def by_exp(finish: Finish, shift: Callable[[np.ndarray], Any] | None = None) -> Callable[..., Any]:
    """The probabilities, with the top of each row taken away first or another number, handed to `finish`."""

    def rule(log_probs: np.ndarray, right: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            top = log_probs.max(axis=1, keepdims=True) if shift is None else shift(log_probs)
            return finish(np.exp(log_probs - top), right)

    return rule


def none(log_probs: np.ndarray) -> float:
    return 0.0


def share(p: np.ndarray, right: np.ndarray) -> np.ndarray:
    return chosen(p, right) / p.sum(axis=1)


def logarithms_divided(log_probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return chosen(log_probs, right) / log_probs.sum(axis=1)


def one_by_one(log_probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 / sum of exp(l - l_right), unless the right one is impossible."""
    answers = []
    for row, index in zip(log_probs, right, strict=True):
        with np.errstate(over="ignore"):
            answers.append(0.0 if np.isneginf(row[index]) else 1 / np.exp(row - row[index]).sum())
    return np.array(answers)


BOTH: tuple[tuple[str, Finish, str], ...] = (  # wrong with the top of the row taken away, and without
    (
        "the whole row",
        lambda p, r: p / p.sum(axis=1, keepdims=True),
        "one number for each place: that of the right one",
    ),
    (
        "odds",
        lambda p, r: chosen(p, r) / (p.sum(axis=1) - chosen(p, r)),
        "the right one is one of all: it counts below too",
    ),
    ("one number", lambda p, r: share(p, r).mean(), "each place has a share of its own; averaging comes later"),
    (
        "the complement",
        lambda p, r: 1 - share(p, r),
        "what is asked for is the right one's share, not that of the others",
    ),
    ("mean below", lambda p, r: chosen(p, r) / p.mean(axis=1), "shares of a whole: divide by the sum, not by the mean"),
    ("logarithm", lambda p, r: np.log(share(p, r)), "a share lies between 0 and 1: no logarithm at the end"),
    (
        "the first",
        lambda p, r: p[:, 0] / p.sum(axis=1),
        "which column is the right one is told in `right`, for each row",
    ),
    (
        "the favourite",
        lambda p, r: p.max(axis=1) / p.sum(axis=1),
        "the right one, not the one that the model likes best",
    ),
    (
        "a square",
        lambda p, r: (p / p.sum(axis=1, keepdims=True))[:, r],
        "p[:, right] takes all those columns of every row",
    ),
    (
        "a square, divided by a row",
        lambda p, r: p[:, r] / p.sum(axis=1),
        "p[:, right] takes all those columns of every row: p[np.arange(len(right)), right] takes one of each",
    ),
)
TOP = "And exp(-800) is 0 for a computer, and 0 / 0 nan: take the largest of the row away first"

RECALL = Exercise(
    "recall_shares",
    "one row first: make probabilities of its logarithms, pick the right one, and divide by their sum",
    place_inputs,
    shares_in_decimals,
    (
        *(Mistake(name, by_exp(finish), hint) for name, finish, hint in BOTH),
        *(
            Mistake(f"{name}, underflow", by_exp(finish, none), f"two things: {hint}. {TOP}")
            for name, finish, hint in BOTH
        ),
        Mistake(
            "underflow",
            by_exp(share, none),
            "exp(-800) is 0 for a computer, and 0 / 0 nan: what is the same for a row may be taken away",
        ),
        Mistake(
            "one top for all",
            by_exp(share, np.max),
            "one largest number for all places leaves rows far below it: each row has its own",
        ),
        Mistake(
            "not normalised",
            by_exp(chosen, none),
            "the rest of the vocabulary does not take part: divide by what the candidates have together",
        ),
        Mistake(
            "part of the best",
            by_exp(chosen),
            "taking the largest away is only half of it: the shares of a row must sum to 1",
        ),
        Mistake(
            "down the columns",
            by_exp(lambda p, r: chosen(p / p.sum(axis=0), r), lambda x: x.max(axis=0)),
            "the candidates of one place compete, and they stand in a row: axis 1",
        ),
        Mistake(
            "down the columns, underflow",
            by_exp(lambda p, r: chosen(p / p.sum(axis=0), r), none),
            f"two things: the candidates of one place stand in a row, axis 1. {TOP}",
        ),
        Mistake(
            "over everything",
            by_exp(lambda p, r: chosen(p / p.sum(), r), np.max),
            "each place is a question of its own: its row sums to 1",
        ),
        Mistake(
            "hits",
            by_exp(lambda p, r: (p.argmax(axis=1) == r).astype(float)),
            "right or wrong loses how sure the model was: give the share",
        ),
        Mistake(
            "logarithms divided",
            logarithms_divided,
            "logarithms are no shares: exp first",
        ),
        Mistake(
            "zeros for nan",
            lambda log_probs, right: np.nan_to_num(by_exp(share, none)(log_probs, right)),
            "0 in place of nan makes up an answer: take the largest of the row away before exp",
        ),
        Mistake(
            "small number below",
            by_exp(lambda p, r: chosen(p, r) / (p.sum(axis=1) + 1e-12), none),
            "a small number below hides 0 / 0 and changes the answer: take the largest of the row away before exp",
        ),
    ),
    (
        one_by_one,
        lambda log_probs, right: np.exp(chosen(log_probs, right) - np.logaddexp.reduce(log_probs, axis=1)),
        by_exp(lambda p, r: np.take_along_axis(p / p.sum(axis=1)[:, None], r[:, None], axis=1)[:, 0]),
    ),
)

EXERCISES = (RECALL,)
