"""Accuracy, F1, the confusion matrix, names in tags: against exact fractions counted by hand, for all answers to small tests."""

import math
from fractions import Fraction
from itertools import product

import pytest

from minilm.metrics import accuracy, confusion_matrix, entities, entity_f1, f1, macro_f1

LABELS = ["a", "b", "c"]
PAIRS = [(list(g), list(t)) for n in (1, 2, 4) for g in product(LABELS, repeat=n) for t in product(LABELS, repeat=n)]


def exact_f1(given, truth, label):
    """The harmonic mean of precision and recall, each a share of a set of places; 0 where one of them is of nothing."""
    here = {i for i, name in enumerate(given) if name == label}
    there = {i for i, name in enumerate(truth) if name == label}
    if not here & there:
        return Fraction(0)
    precision, recall = Fraction(len(here & there), len(here)), Fraction(len(here & there), len(there))
    return 1 / ((1 / precision + 1 / recall) / 2)


def test_every_answer_to_every_small_test():
    for given, truth in PAIRS:
        right = [i for i in range(len(truth)) if given[i] == truth[i]]
        assert accuracy(given, truth) == pytest.approx(len(right) / len(truth), abs=1e-15)
        for label in LABELS:
            assert f1(given, truth, label) == pytest.approx(float(exact_f1(given, truth, label)), abs=1e-15)
        used = set(given) | set(truth)
        mean = sum(exact_f1(given, truth, label) for label in used) / len(used)
        assert macro_f1(given, truth) == pytest.approx(float(mean), abs=1e-15)
        counts = confusion_matrix(given, truth, ["c", "a", "b"])
        assert counts == [[sum(p == (j, i) for p in zip(given, truth, strict=True)) for j in "cab"] for i in "cab"]
    assert len(PAIRS) == 9 + 81 + 6561


def test_accuracy_hides_a_rare_label_and_macro_f1_shows_it():
    truth = ["no"] * 97 + ["yes"] * 3
    assert accuracy(["no"] * 100, truth) == 0.97
    assert macro_f1(["no"] * 100, truth) == pytest.approx((2 * 97 / 197) / 2, abs=1e-15)
    assert f1(["no"] * 100, truth, "yes") == f1(["no"] * 100, truth, "unheard of") == 0.0


def test_rows_are_true_and_columns_given():
    assert confusion_matrix(["x", "x"], ["y", "x"], ["x", "y", "z"]) == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert math.isclose(f1(["x", "x", "y"], ["y", "x", "x"], "x"), 0.5)


@pytest.mark.parametrize(
    "measure", [accuracy, macro_f1, lambda g, t: f1(g, t, "a"), lambda g, t: confusion_matrix(g, t, LABELS)]
)
def test_what_cannot_be_compared_is_refused(measure):
    for given, truth, says in ([], [], "0 labels given, 0 true"), (["a"], ["a", "b"], "1 labels given, 2 true"):
        with pytest.raises(ValueError, match=says):
            measure(given, truth)


def test_a_label_outside_the_matrix_is_refused():
    for given, truth in (["d"], ["a"]), (["a"], ["d"]):
        with pytest.raises(ValueError, match="label 'd' is not among 'a', 'b', 'c'"):
            confusion_matrix(given, truth, LABELS)


# ---- names in rows of tags

TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]
ROWS = [list(tags) for n in range(5) for tags in product(TAGS, repeat=n)]


def is_name(tags, start, stop, kind):
    """By definition: it begins with a B, or with an I that goes on with nothing, goes on with I, and cannot be longer."""
    goes_on = f"I-{kind}"
    begins = tags[start] == f"B-{kind}" or (
        tags[start] == goes_on and (start == 0 or tags[start - 1] not in (f"B-{kind}", goes_on))
    )
    longest = stop == len(tags) or tags[stop] != goes_on
    return begins and longest and all(tag == goes_on for tag in tags[start + 1 : stop])


def all_names(tags):
    """Every stretch of words and every kind is tried: nothing is read from left to right."""
    stretches = [(i, j) for i in range(len(tags)) for j in range(i + 1, len(tags) + 1)]
    return [(i, j, kind) for i, j in stretches for kind in "xy" if is_name(tags, i, j, kind)]


def test_the_names_of_every_short_row_of_tags():
    for tags in ROWS:
        assert entities(tags) == all_names(tags), tags
    assert len(ROWS) == 1 + 5 + 25 + 125 + 625


def test_names_by_hand():
    """The kind may hold dashes itself; an I of another kind, or behind an O, begins a name."""
    assert entities(["I-A", "I-A", "I-B", "O", "I-B", "B-B"]) == [(0, 2, "A"), (2, 3, "B"), (4, 5, "B"), (5, 6, "B")]
    assert entities(["B-work-of-art", "I-work-of-art", "I-work"]) == [(0, 2, "work-of-art"), (2, 3, "work")]
    assert entities([]) == [] == entities(["O", "O"])


def test_entity_f1_of_every_pair_of_short_rows():
    """Precision and recall of the names, from a list of names that are crossed out one by one."""
    short = [tags for tags in ROWS if len(tags) == 3]
    for given in short:
        for truth in short[::3]:
            left, right = all_names(truth), 0
            for name in all_names(given):
                if name in left:
                    left.remove(name)
                    right += 1
            ours, theirs = len(all_names(given)), len(all_names(truth))
            expected = Fraction(1) if ours == theirs == 0 else Fraction(0)
            if right:
                precision, recall = Fraction(right, ours), Fraction(right, theirs)
                expected = 2 * precision * recall / (precision + recall)
            assert entity_f1([given], [truth]) == pytest.approx(float(expected), abs=1e-15)


def test_entity_f1_counts_the_names_of_all_rows_together():
    given = [["B-x", "I-x", "O"], ["B-x"], [], ["B-y", "B-y"]]
    truth = [["B-x", "I-x", "B-y"], ["B-y"], [], ["B-y", "I-y"]]
    # given 4 names, true 4, right 1: neither a wrong kind, nor half of a name, nor the same place in another row counts
    assert entity_f1(given, truth) == 0.25
    assert entity_f1([["B-x"], ["O"]], [["O"], ["B-x"]]) == 0.0
    assert entity_f1([["B-x", "B-x"], ["B-x"]], [["B-x", "O"], ["O"]]) == 0.5
    assert entity_f1([["O"], []], [["O"], []]) == entity_f1([], []) == 1.0
    assert entity_f1([["O"]], [["B-x"]]) == entity_f1([["B-x"]], [["O"]]) == 0.0


@pytest.mark.parametrize(("given", "truth"), [([["O"]], [["O", "O"]]), ([["O"]], []), ([["O"], []], [[], ["O"]])])
def test_rows_of_other_lengths_are_refused(given, truth):
    with pytest.raises(ValueError, match="rows of tags differ in length: give one tag for each word"):
        entity_f1(given, truth)
