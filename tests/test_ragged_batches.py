"""Batches of texts of many lengths: each example once an epoch, little padding, and every run can be resumed."""

import doctest
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from minilm.finetuning import batches as module
from minilm.finetuning.batches import PAD, RaggedBatches
from minilm.training.loss import IGNORE

SIZES = [(1, 1), (5, 1), (5, 7), (12, 4), (103, 3), (203, 2)]  # examples, batch size


def examples(n: int, longest: int = 40, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    """Rows that tell who they are: the first id is the example's number, as is its label."""
    rng = np.random.default_rng(seed)
    return [[i, *rng.integers(0, 9, rng.integers(0, longest)).tolist()] for i in range(n)], list(range(n))


def epoch(batches: RaggedBatches) -> list[tuple[Tensor, Tensor]]:
    return [next(batches) for _ in range(batches.n_batches)]


def numbers(epoch: list[tuple[Tensor, Tensor]]) -> list[int]:
    return [i for _, y in epoch for i in y.tolist()]


def test_doctests() -> None:
    assert doctest.testmod(module) == (0, 2)


@pytest.mark.parametrize(("n", "batch_size"), SIZES)
def test_each_example_once_an_epoch_with_its_own_label_and_padding_behind_it(n: int, batch_size: int) -> None:
    inputs, targets = examples(n)
    batches = RaggedBatches(inputs, targets, batch_size, seed=3)
    for _ in range(3):
        whole = epoch(batches)
        assert sorted(numbers(whole)) == targets
        assert sum(len(x) < batch_size for x, _ in whole) == (n % batch_size > 0)
        for x, y in whole:
            assert x.dtype == y.dtype == torch.int64
            assert x.shape[1] == max(len(inputs[i]) for i in y.tolist())
            for row, label in zip(x.tolist(), y.tolist(), strict=True):
                text = inputs[label]
                assert row == text + [PAD] * (len(row) - len(text))


@pytest.mark.parametrize("pad", [PAD, 256])
def test_labels_of_tokens_are_padded_with_ignore_and_ids_with_pad(pad: int) -> None:
    inputs, _ = examples(23)
    labels = [[10 * token + place for place, token in enumerate(row)] for row in inputs]
    seen = 0
    for x, y in epoch(RaggedBatches(inputs, labels, 4, pad=pad)):
        assert x.shape == y.shape
        for row, tags in zip(x.tolist(), y.tolist(), strict=True):
            length = len(inputs[row[0]])
            assert tags == labels[row[0]] + [IGNORE] * (len(row) - length)
            assert row[length:] == [pad] * (len(row) - length)
            seen += 1
    assert seen == 23


def test_spans_have_two_targets_whatever_the_lengths() -> None:
    inputs, _ = examples(9)
    for x, y in epoch(RaggedBatches(inputs, [[i, i + 100] for i in range(9)], 2)):
        assert y.tolist() == [[i, i + 100] for i in x[:, 0].tolist()]


def test_seeds_and_epochs_differ_and_repeat() -> None:
    def orders(seed: int) -> list[list[int]]:
        batches = RaggedBatches(*examples(60), 4, seed)
        return [numbers(epoch(batches)) for _ in range(3)]

    assert orders(1) == orders(1)
    different = [tuple(order) for seed in (1, 2, 3) for order in orders(seed)]
    assert len(set(different)) == 9


def test_short_texts_do_not_come_first() -> None:
    """Pitfall: batches that go on in order of length teach short texts first and long ones last."""
    batches = RaggedBatches(*examples(400, longest=200), 4)
    lengths = [x.shape[1] for _ in range(10) for x, _ in epoch(batches)]
    places = [i % 100 for i in range(len(lengths))]
    assert abs(np.corrcoef(places, lengths)[0, 1]) < 0.1
    companions = {i: set[int]() for i in range(400)}  # who has shared a batch with whom
    for _ in range(10):
        for _, y in epoch(batches):
            for i in y.tolist():
                companions[i] |= set(y.tolist())
    assert np.mean([len(others) for others in companions.values()]) > 12


def padding_share(batches: list[tuple[Tensor, Tensor]]) -> float:
    return sum(int((x == PAD).sum()) for x, _ in batches) / sum(x.numel() for x, _ in batches)


def test_rows_of_a_batch_have_similar_lengths() -> None:
    inputs, targets = examples(1000, longest=200)
    share = padding_share(epoch(RaggedBatches(inputs, targets, 8)))
    order = np.random.default_rng(0).permutation(1000).reshape(-1, 8)
    widths = np.array([max(len(inputs[i]) for i in rows) for rows in order])
    at_random = 1 - sum(map(len, inputs)) / (8 * widths.sum())
    assert share < 0.06 < 0.35 < at_random


@pytest.mark.parametrize("done", [0, 1, 4, 7, 8, 9, 20])
def test_a_restored_run_goes_on_bit_for_bit(done: int) -> None:
    inputs, targets = examples(31)
    whole, resumed = (RaggedBatches(inputs, targets, 4, seed=5) for _ in range(2))
    for _ in range(done):
        next(whole)
    resumed.restore(json.loads(json.dumps(whole.state())))
    for _ in range(20):
        for ours, theirs in zip(next(resumed), next(whole), strict=True):
            assert torch.equal(ours, theirs)


CHANGES: dict[str, dict[str, Any]] = {
    "another token": {"inputs": [[5, 6], [7], [9, 8]]},
    "tokens cut elsewhere": {"inputs": [[5, 6], [7, 9], [9]]},
    "another label": {"targets": [0, 1, 1]},
    "another batch size": {"batch_size": 3},
    "another seed": {"seed": 1},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_other_examples_cannot_be_resumed(change: dict[str, Any]) -> None:
    given = {"inputs": [[5, 6], [7], [9, 9]], "targets": [0, 1, 0], "batch_size": 2, "seed": 0}
    state = RaggedBatches(**given).state()
    RaggedBatches(**given).restore(state)
    with pytest.raises(ValueError, match=r"^the saved batches have .*: resume with the examples and settings of the"):
        RaggedBatches(**(given | change)).restore(state)


WRONG = {
    "no examples": ([], [], "there are no examples"),
    "an empty text": ([[1], []], [0, 1], "example 1 has no tokens: begin every text with"),
    "padded already": ([[1, -1]], [0], "example 0 holds the id -1"),
    "a label is missing": ([[1], [2]], [0], "2 inputs have 1 targets"),
    "a tag is missing": ([[1, 2], [3, 4, 5]], [[0, 0], [0]], "example 1 has 3 tokens and 1 labels"),
    "mixed targets": ([[1, 2], [3, 4]], [[0, 0], 1], "some targets are one label and some are rows"),
}


@pytest.mark.parametrize(("inputs", "targets", "message"), WRONG.values(), ids=WRONG.keys())
def test_one_clear_line(inputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        RaggedBatches(inputs, targets, 2)
    assert "\n" not in str(error.value)


def test_a_batch_holds_at_least_one_example() -> None:
    with pytest.raises(ValueError, match="batch_size = 0 is too small"):
        RaggedBatches([[1]], [0], 0)
