"""The exercise of lesson 10 that judges labels: macro F1. The oracle counts with exact fractions; switches make the mistakes."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]
Labels = Sequence[str]

# macro_f1(given, truth) -> from 0 to 1


def harmonic(precision: Fraction, recall: Fraction) -> Fraction:
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def scores(
    one: Function = harmonic,
    labels_of: Function = lambda given, truth: sorted({*given, *truth}),
    mean: Function = lambda values, labels, truth: sum(values) / len(values),
    share: Function = lambda right, asked: Fraction(right, asked) if asked else Fraction(0),
) -> Function:
    """Precision and recall of each label, made one number, and the mean of these: the switches make the mistakes."""

    def macro(given: Labels, truth: Labels) -> float:
        values, labels = [], labels_of(given, truth)
        for label in labels:
            right = sum(a == label and b == label for a, b in zip(given, truth, strict=True))
            values.append(one(share(right, list(given).count(label)), share(right, list(truth).count(label))))
        return float(mean(values, labels, truth))

    return macro


def of_the_means(given: Labels, truth: Labels) -> float:
    """F1 of the mean precision and the mean recall: another number, though both are called macro F1 in papers."""
    precision = scores(one=lambda precision, recall: precision)(given, truth)
    recall = scores(one=lambda precision, recall: recall)(given, truth)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def right_share(given: Labels, truth: Labels) -> float:
    return sum(a == b for a, b in zip(given, truth, strict=True)) / len(truth)


def counted_with(fraction: Callable[[int, int, int], float]) -> Function:
    """`fraction`(right, given, true) for each label, then the mean."""

    def macro(given: Labels, truth: Labels) -> float:
        right = Counter(a for a, b in zip(given, truth, strict=True) if a == b)
        said, true = Counter(given), Counter(truth)
        names = sorted({*said, *true})
        return sum(fraction(right[name], said[name], true[name]) for name in names) / len(names)

    return macro


def by_table(given: Labels, truth: Labels) -> float:
    """From a confusion table."""
    names = list(dict.fromkeys([*truth, *given]))
    table = np.zeros((len(names), len(names)))
    for a, b in zip(given, truth, strict=True):
        table[names.index(b), names.index(a)] += 1
    return float((2 * table.diagonal() / (table.sum(0) + table.sum(1))).mean())


def by_kinds_of_errors(given: Labels, truth: Labels) -> float:
    """True positives, false positives, false negatives, as textbooks have them."""
    total = 0.0
    names = set(given) | set(truth)
    for name in names:
        tp = fp = fn = 0
        for a, b in zip(given, truth, strict=True):
            tp += a == name and b == name
            fp += a == name and b != name
            fn += a != name and b == name
        total += tp / (tp + (fp + fn) / 2)
    return total / len(names)


def weighted(values: Sequence[Fraction], labels: Labels, truth: Labels) -> Fraction:
    """A mean in which a label counts as often as it is true."""
    return sum(
        (value * list(truth).count(label) for value, label in zip(values, labels, strict=True)), Fraction(0)
    ) / len(truth)


def scoring_inputs(seed: int) -> list[tuple[list[str], list[str]]]:
    """By hand, all right, all wrong, labels that are never given and such that are never true, and two and more drawn ones."""
    draw = random.Random(seed)

    def drawn(n: int, names: Sequence[str], right: float) -> tuple[list[str], list[str]]:
        truth = [*names, *(draw.choice(names[: 1 + draw.randrange(len(names))]) for _ in range(n))]
        given = [label if draw.random() < right else draw.choice(names) for label in truth]
        return given, truth

    return [
        (["bad"] * 4, ["good", "bad", "bad", "bad"]),
        (["good", "bad", "bad", "bad"], ["good", "good", "bad", "bad"]),
        (["b", "b", "a"], ["b", "b", "a"]),
        (["b", "a"], ["a", "b"]),
        (["a", "c", "a", "b", "c"], ["a", "a", "a", "b", "b"]),
        drawn(11, ("positive", "negative"), 0.7),
        drawn(17, ("gut", "schlecht", "😐"), 0.6),
        drawn(23, ("x", "z", "y", "w"), 0.5),
    ]


MACRO_F1 = Exercise(
    "macro_f1",
    "which labels are there, in `given` or in `truth`? For each of them three numbers: how often right, given, true",
    scoring_inputs,
    scores(),
    (
        Mistake("accuracy", right_share, "that is the accuracy: whoever always says the frequent label comes off well"),
        Mistake(
            "precision",
            scores(one=lambda precision, recall: precision),
            "that looks only at how often a label was given: one that is often missed is not noticed",
        ),
        Mistake(
            "recall",
            scores(one=lambda precision, recall: recall),
            "that looks only at how often a label is true: one that is given far too often is not noticed",
        ),
        Mistake(
            "precision, 0 / 0",
            counted_with(lambda right, given, true: right / given),
            "right / given is the precision only, and 0 / 0 for a label that is never given: how often it is true counts, too",
        ),
        Mistake(
            "recall, 0 / 0",
            counted_with(lambda right, given, true: right / true),
            "right / true is the recall only, and 0 / 0 for a label that is never true: how often it is given counts, too",
        ),
        Mistake(
            "two labels known in advance",
            scores(labels_of=lambda given, truth: ["negative", "positive"]),
            "you have a fixed list of labels: take all that occur, in `given` or in `truth`",
        ),
        Mistake(
            "two labels known in advance, 0 / 0",
            scores(
                labels_of=lambda given, truth: ["negative", "positive"],
                share=lambda right, asked: right / asked,
            ),
            "a label of your fixed list occurs nowhere, hence 0 / 0: take the labels from `given` and `truth`",
        ),
        Mistake(
            "plain mean of both",
            scores(one=lambda precision, recall: (precision + recall) / 2),
            "F1 is 2 right / (given + true), not the plain mean of precision and recall",
        ),
        Mistake(
            "product of both",
            scores(one=lambda precision, recall: precision * recall),
            "F1 is 2 right / (given + true), not precision times recall",
        ),
        Mistake("F1 of the means", of_the_means, "first an F1 for each label, then one mean: not the other way round"),
        Mistake(
            "without the 2",
            counted_with(lambda right, given, true: right / (given + true)),
            "a label that is always right should have 1: count the right ones twice, they are in both numbers below",
        ),
        Mistake(
            "counted once below",
            counted_with(lambda right, given, true: right / (given + true - right)),
            "right / (right or wrong anywhere) is the Jaccard index: F1 has 2 right above and given + true below",
        ),
        Mistake(
            "labels that are true",
            scores(labels_of=lambda given, truth: sorted(set(truth))),
            "a label that was given and is never true has an F1, too: 0",
        ),
        Mistake(
            "labels that were given",
            scores(labels_of=lambda given, truth: sorted(set(given))),
            "a label that is never given has an F1, too: 0, and forgetting it is what this measure is there to notice",
        ),
        Mistake(
            "labels without a right one left out",
            scores(mean=lambda values, labels, truth: sum(values) / max(1, sum(value > 0 for value in values))),
            "a label of which nothing is right counts as 0 in the mean: it may not drop out",
        ),
        Mistake(
            "frequent labels weigh more",
            scores(mean=weighted),
            "here all labels weigh alike, however rare: a plain mean over the labels",
        ),
        Mistake(
            "sum",
            scores(mean=lambda values, labels, truth: sum(values)),
            "one step is left: the mean over the labels",
        ),
        Mistake(
            "of two labels",
            scores(mean=lambda values, labels, truth: sum(values) / 2),
            "there may be more than two labels: divide by how many there are",
        ),
        Mistake(
            "worst label",
            scores(mean=lambda values, labels, truth: min(values)),
            "that is the worst label; what is asked for is the mean over all",
        ),
        Mistake(
            "F1 of one label",
            scores(mean=lambda values, labels, truth: values[-1]),
            "that is the F1 of one label: macro means the mean over all labels",
        ),
        Mistake(
            "0 / 0",
            scores(share=lambda right, asked: right / asked),
            "a label that was never given has no precision: 2 right / (given + true) needs no division by 0",
        ),
        Mistake(
            "precision by recall",
            scores(one=lambda precision, recall: 2 * precision * recall / (precision + recall)),
            "where nothing is right, precision + recall is 0: 2 right / (given + true) is never 0 / 0 for a label that occurs",
        ),
    ),
    (by_table, by_kinds_of_errors, counted_with(lambda right, given, true: 2 * right / (given + true))),
)

EXERCISES = (MACRO_F1,)
