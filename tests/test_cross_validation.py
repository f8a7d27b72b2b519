"""Splits and folds: each label in its share, no text on both sides (pitfalls 12 and 13), the same on every machine."""

import random
from collections import Counter

import pytest

from minilm.tasks.cross_validation import cross_validate, split_labelled, stratified_folds
from minilm.tasks.labelled import Labelled

COUNTS = {"good": 41, "bad": 23, "so so": 9}
EXAMPLES = [Labelled(f"text {i} says {label}", label) for label, n in COUNTS.items() for i in range(n)]


def words(text):
    """What makes two texts the same, in other words than the library's."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split() or text.split()


def with_copies(seed):
    """Examples in random order, some of them again in capitals, with other signs, or with the other label."""
    rng = random.Random(seed)
    copies = [Labelled(f"  {rng.choice(EXAMPLES[:64]).text.upper()}!!", rng.choice(list(COUNTS))) for _ in range(30)]
    examples = EXAMPLES + copies + [Labelled(":-)", "good"), Labelled(":-(", "bad"), Labelled(" : -(", "bad")]
    rng.shuffle(examples)
    return examples


def test_pitfalls_12_and_13_no_text_is_on_both_sides_for_100_seeds():
    for seed in range(100):
        examples = with_copies(seed)
        train, test = split_labelled(examples, 0.25, seed)
        assert not {str(words(e.text)) for e in train} & {str(words(e.text)) for e in test}
        assert Counter(train) + Counter(test) == Counter(examples)
        assert [e for e in examples if e in set(test)] == test and {e.label for e in train} == {
            e.label for e in test
        } == set(COUNTS)
        folds = stratified_folds(examples, 5, seed)
        assert sorted(i for fold in folds for i in fold) == list(range(len(examples)))
        sides = [{str(words(examples[i].text)) for i in fold} for fold in folds]
        assert sum(map(len, sides)) == len(set().union(*sides))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.73])
def test_a_split_keeps_the_share_of_each_label(share):
    for seed in range(10):
        train, test = split_labelled(EXAMPLES, share, seed)
        assert Counter(e.label for e in test) == {label: round(share * n) for label, n in COUNTS.items()}
        assert len(train) + len(test) == len(EXAMPLES)


def test_a_split_has_something_of_each_label_on_each_side():
    few = [*EXAMPLES, Labelled("one rare", "rare"), Labelled("another rare", "rare")]
    for share in (0.01, 0.99):
        assert all({e.label for e in side} == {*COUNTS, "rare"} for side in split_labelled(few, share))
    twins = [Labelled("a a", "x")] * 5 + [Labelled("b", "x")] * 7 + [Labelled("c", "y"), Labelled("d", "y")]
    for seed in range(8):
        _, test = split_labelled(twins, 0.2, seed)
        assert Counter(e.label for e in test) in ({"x": 5, "y": 1}, {"x": 7, "y": 1})


@pytest.mark.parametrize("k", [2, 3, 5, 9])
def test_folds_are_even_in_each_label_and_in_size(k):
    for seed in range(10):
        folds = stratified_folds(EXAMPLES, k, seed)
        for label in COUNTS:
            sizes = [sum(EXAMPLES[i].label == label for i in fold) for fold in folds]
            assert max(sizes) - min(sizes) <= 1
        assert max(map(len, folds)) - min(map(len, folds)) <= 1 and all(fold == sorted(fold) for fold in folds)


def test_large_groups_do_not_make_folds_uneven():
    examples = [Labelled(f"w{i}", "x") for i, n in enumerate([6, 1, 1, 1, 1, 1, 1, 5, 7]) for _ in range(n)]
    assert [sorted(map(len, stratified_folds(examples, 3, seed))) for seed in range(6)] == [[8, 8, 8]] * 6


def test_the_seed_and_the_texts_decide_and_not_their_order():
    train, test = split_labelled(EXAMPLES, seed=3)
    shuffled = random.Random(1).sample(EXAMPLES, len(EXAMPLES))
    assert set(split_labelled(shuffled, seed=3)[1]) == set(test) and (train, test) == split_labelled(EXAMPLES, seed=3)
    here = [{EXAMPLES[i] for i in fold} for fold in stratified_folds(EXAMPLES, 4, 3)]
    assert here == [{shuffled[i] for i in fold} for fold in stratified_folds(shuffled, 4, 3)]
    assert len({tuple(split_labelled(EXAMPLES, seed=seed)[1]) for seed in range(20)}) == 20
    assert len({str(stratified_folds(EXAMPLES, 4, seed)) for seed in range(20)}) == 20
    known = [Labelled(word, label) for label, texts in (("x", "abcdef"), ("y", "ghij")) for word in texts]
    assert stratified_folds(known, 2, 0) == KNOWN_FOLDS


KNOWN_FOLDS = [[2, 4, 5, 8, 9], [0, 1, 3, 6, 7]]  # written down once: the same on every machine, for ever


def test_a_text_with_two_labels_counts_for_the_more_frequent():
    examples = [
        Labelled("odd", "b"),
        Labelled("odd", "b"),
        Labelled("odd", "a"),
        Labelled("two", "a"),
        Labelled("c", "b"),
    ]
    with pytest.raises(ValueError, match="label 'a' has 1 different text"):
        split_labelled(examples)
    train, test = split_labelled([*examples, Labelled("three", "a")], 0.5)
    assert {e.text for e in train} | {e.text for e in test} == {"odd", "two", "c", "three"} and train and test


def test_cross_validation_sums_what_each_fold_says():
    seen = []

    def fit_and_predict(train, texts):
        seen.append((train, texts))
        return ["good" if "7" in text else text.split(" says ")[1] for text in texts]

    result = cross_validate(fit_and_predict, EXAMPLES, k=4, seed=2)
    folds = stratified_folds(EXAMPLES, 4, 2)
    assert [texts for _, texts in seen] == [[EXAMPLES[i].text for i in fold] for fold in folds]
    assert [train for train, _ in seen] == [[e for i, e in enumerate(EXAMPLES) if i not in fold] for fold in folds]
    assert result.labels == ["bad", "good", "so so"]
    wrong = {label: sum("7" in e.text for e in EXAMPLES if e.label == label) for label in COUNTS}
    assert result.confusion == [
        [23 - wrong["bad"], wrong["bad"], 0],
        [0, 41, 0],
        [0, wrong["so so"], 9 - wrong["so so"]],
    ]
    for fold, accuracy, macro in zip(folds, result.accuracies, result.macro_f1s, strict=True):
        bad = Counter(EXAMPLES[i].label for i in fold if "7" in EXAMPLES[i].text)
        n = Counter(EXAMPLES[i].label for i in fold)
        assert accuracy == pytest.approx(1 - (bad["bad"] + bad["so so"]) / len(fold), abs=1e-12)
        scores = [2 * (n[x] - bad[x]) / (2 * n[x] - bad[x]) for x in ("bad", "so so")]
        scores.append(2 * n["good"] / (2 * n["good"] + bad["bad"] + bad["so so"]))
        assert macro == pytest.approx(sum(scores) / 3, abs=1e-12)
    assert len(set(result.macro_f1s)) > 1


def test_what_cannot_be_shared_out_is_refused():
    for share in (0, 1, -0.5, 2):
        with pytest.raises(ValueError, match=r"test_share is .*between 0 and 1"):
            split_labelled(EXAMPLES, share)
    with pytest.raises(ValueError, match="1 folds are too few"):
        stratified_folds(EXAMPLES, 1)
    with pytest.raises(ValueError, match="'so so' has 9 different texts, fewer than 10 folds"):
        stratified_folds(EXAMPLES, 10)
    with pytest.raises(ValueError, match="label 'x' has 1 different text:"):
        split_labelled([*EXAMPLES, Labelled("A", "x"), Labelled("a!", "x")])
    with pytest.raises(ValueError, match="1 labels given"):
        cross_validate(lambda train, texts: ["good"], EXAMPLES)
    with pytest.raises(ValueError, match="label 'great' is not among"):
        cross_validate(lambda train, texts: ["great"] * len(texts), EXAMPLES)
