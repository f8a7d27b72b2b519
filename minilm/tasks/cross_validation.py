"""Share out labelled texts between training and test, fairly: each label in its proportion, and no text on both sides.

A text that stands twice, be it with other punctuation or in capitals, is a group, and groups are never divided: else a model
would be asked what it has learnt by heart. The order in which groups are dealt out is that of a hash of the seed and the text,
so the same texts are shared out in the same way wherever they stand in the file, on every machine.

k-fold cross-validation: every text is tested once, by a classifier that learnt from the other folds (Kohavi 1995).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

from minilm.metrics import accuracy, confusion_matrix, macro_f1
from minilm.tasks.labelled import Labelled
from minilm.text.near_duplicates import plain

# (training examples, texts to label) -> a label for each text
FitAndPredict = Callable[[list[Labelled], list[str]], Sequence[str]]


class CrossValidation(NamedTuple):
    """What k folds say of a classifier: a number for each fold, and the counts of all of them together."""

    accuracies: list[float]
    macro_f1s: list[float]
    labels: list[str]
    confusion: list[list[int]]  # (C, C): row the true label, column the given one; each example counts once


def split_labelled(
    examples: Sequence[Labelled], test_share: float = 0.2, seed: int = 0
) -> tuple[list[Labelled], list[Labelled]]:
    """(training, test), each in the order of `examples`. Of a label with n examples round(test_share n) are tested, at least one
    group, never all; where a text stands several times, fewer. ValueError for a share not between 0 and 1, or a lone text."""
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share}: give a number between 0 and 1")
    tested: set[int] = set()
    for label, groups in grouped(examples, seed).items():
        if len(groups) < 2:
            raise ValueError(
                f"label {label!r} has {len(groups)} different text: training and test need one each, give more"
            )
        room = round(test_share * sum(map(len, groups)))
        chosen: list[int] = []
        for group in groups[1:]:  # the first one stays for training
            if len(chosen) + len(group) <= room:
                chosen += group
        tested.update(chosen or sorted(groups[1:], key=len)[0])
    return parted(examples, sorted(tested))


def parted(examples: Sequence[Labelled], tested: Sequence[int]) -> tuple[list[Labelled], list[Labelled]]:
    """(training, test): the examples that are not `tested`, in their order, and those that are, in the order of the indices."""
    chosen = set(tested)
    return [example for i, example in enumerate(examples) if i not in chosen], [examples[i] for i in tested]


def stratified_folds(examples: Sequence[Labelled], k: int, seed: int = 0) -> list[list[int]]:
    """k lists of indices, ascending: each example is in one of them. Without repeated texts, folds differ by at most one
    example in each label, and in size. ValueError where a label has fewer different texts than there are folds."""
    if k < 2:
        raise ValueError(f"{k} folds are too few: give at least 2")
    folds: list[list[int]] = [[] for _ in range(k)]
    for label, groups in sorted(grouped(examples, seed).items()):
        if len(groups) < k:
            raise ValueError(
                f"label {label!r} has {len(groups)} different texts, fewer than {k} folds: give fewer folds"
            )
        here = [0] * k
        for group in sorted(groups, key=len, reverse=True):
            fold = min(range(k), key=lambda f: (here[f], len(folds[f])))
            folds[fold] += group
            here[fold] += len(group)
    return [sorted(fold) for fold in folds]


def cross_validate(
    fit_and_predict: FitAndPredict, examples: Sequence[Labelled], k: int = 5, seed: int = 0
) -> CrossValidation:
    """Test each fold with a classifier that learnt from the others. `fit_and_predict` never sees the labels of the test."""
    labels = sorted({example.label for example in examples})
    total = [[0] * len(labels) for _ in labels]
    accuracies, macro_f1s = [], []
    for fold in stratified_folds(examples, k, seed):
        train, test = parted(examples, fold)
        truth = [example.label for example in test]
        given = list(fit_and_predict(train, [example.text for example in test]))
        accuracies.append(accuracy(given, truth))
        macro_f1s.append(macro_f1(given, truth))
        counts = confusion_matrix(given, truth, labels)
        total = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(total, counts, strict=True)]
    return CrossValidation(accuracies, macro_f1s, labels, total)


def grouped(examples: Sequence[Labelled], seed: int) -> dict[str, list[list[int]]]:
    """{label: groups of the indices of equal texts}, the groups in the order of a hash. A group in which labels disagree counts
    for its most frequent one, of equals the first in the alphabet."""
    groups: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(key_of(example.text), []).append(i)
    found: dict[str, list[list[int]]] = {}
    for key in sorted(groups, key=lambda key: sha256(f"{seed} {key}".encode()).digest()):
        counts = Counter(examples[i].label for i in groups[key])
        label = min(counts, key=lambda name: (-counts[name], name))
        found.setdefault(label, []).append(groups[key])
    return found


def key_of(text: str) -> str:
    """What two texts have in common that count as the same: their words in small letters, or their signs if they have none."""
    return plain(text) or "".join(text.split())
