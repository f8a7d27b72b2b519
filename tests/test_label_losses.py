"""Losses over labels: against torch where it means the same, against the formula where it does not, and exact in pieces."""

import doctest
import math
from typing import Any

import pytest
import torch
from decoding_models import V, build, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.finetuning import losses as module
from minilm.finetuning.batches import PAD, RaggedBatches
from minilm.finetuning.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from minilm.finetuning.losses import class_weights, label_loss, smoothed_cross_entropy, span_loss
from minilm.training.loop import accumulate_gradients
from minilm.training.loss import IGNORE

WEIGHTS = [0.4, 3.0, 1.1, 0.7, 2.2]
CPU = torch.device("cpu")


class Scores(nn.Module):
    """A model that says what it is told."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, ids: Tensor) -> Tensor:
        return self.scores


def random_scores(*shape: int) -> Tensor:
    return 3.0 * torch.randn(*shape, dtype=torch.float64)


def loss_and_gradient(loss: Any, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    model = Scores(scores.clone())
    value = loss(model, torch.zeros(1), targets)
    value.backward()
    return value.detach(), model.scores.grad  # type: ignore[return-value]


def by_formula(scores: Tensor, targets: Tensor, smoothing: float, weights: list[float]) -> float:
    """Example by example, from the definition: weight times cross-entropy with the smoothed target."""
    total, counted, C = 0.0, 0, scores.shape[-1]
    for row, y in zip(scores.reshape(-1, C).tolist(), targets.flatten().tolist(), strict=True):
        if y == IGNORE:
            continue
        counted += 1
        norm = math.log(sum(math.exp(score) for score in row))
        for c, score in enumerate(row):
            wanted = smoothing / C + (1.0 - smoothing) * (c == y)
            total += weights[y] * wanted * (norm - score)
    return total / counted


def test_doctests() -> None:
    assert doctest.testmod(module) == (0, 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_smoothing_is_that_of_torch(smoothing: float, shape: tuple[int, ...]) -> None:
    scores, targets = random_scores(*shape, 5), torch.randint(0, 5, shape)
    targets.view(-1)[2] = IGNORE

    def theirs(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten(), label_smoothing=smoothing)

    for ours, expected in zip(
        loss_and_gradient(label_loss(smoothing), scores, targets),
        loss_and_gradient(theirs, scores, targets),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_weights_are_those_of_torch_but_for_the_number_they_are_divided_by() -> None:
    """torch divides by the sum of the weights in the batch, so that a rare label alone in its batch counts as much as any
    other one: the weights then act within batches only. Ours are divided by the number of examples."""
    scores, targets = random_scores(9, 5), torch.tensor([0, 1, 1, 2, 3, 4, 4, 0, IGNORE])
    total = F.cross_entropy(scores, targets, torch.tensor(WEIGHTS, dtype=torch.float64), reduction="sum")
    value, _ = loss_and_gradient(label_loss(0.0, WEIGHTS), scores, targets)
    torch.testing.assert_close(value, total / 8, rtol=1e-12, atol=1e-12)
    alone = [loss_and_gradient(label_loss(0.0, WEIGHTS), scores[:1], torch.tensor([y]))[0].item() for y in (0, 1)]
    plain = [loss_and_gradient(label_loss(), scores[:1], torch.tensor([y]))[0].item() for y in (0, 1)]
    assert alone == pytest.approx([0.4 * plain[0], 3.0 * plain[1]], rel=1e-12)


@pytest.mark.parametrize("shape", [(7,), (3, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_weights_and_smoothing_by_formula(shape: tuple[int, ...], smoothing: float) -> None:
    scores, targets = random_scores(*shape, 5), torch.randint(0, 5, shape)
    targets.view(-1)[:2] = torch.tensor([1, IGNORE])
    value, gradient = loss_and_gradient(label_loss(smoothing, WEIGHTS), scores, targets)
    assert value.item() == pytest.approx(by_formula(scores, targets, smoothing, WEIGHTS), rel=1e-12)
    for place in [(0,) * len(shape), tuple(size - 1 for size in shape)]:  # the slope, by a small step either way
        for c in range(5):
            step = torch.zeros_like(scores)
            step[(*place, c)] = 1e-5
            rise = [by_formula(scores + sign * step, targets, smoothing, WEIGHTS) for sign in (1, -1)]
            assert gradient[(*place, c)].item() == pytest.approx((rise[0] - rise[1]) / 2e-5, abs=1e-8)


def test_torch_smooths_weighted_classes_in_another_way() -> None:
    """There the smoothed share of a class carries the weight of that class, here that of the example's label."""
    scores, targets = random_scores(6, 5), torch.tensor([0, 1, 2, 3, 4, 1])
    theirs = F.cross_entropy(
        scores, targets, torch.tensor(WEIGHTS, dtype=torch.float64), reduction="sum", label_smoothing=0.3
    ).item()
    assert abs(6 * smoothed_cross_entropy(scores, targets, 0.3, torch.tensor(WEIGHTS)).item() - theirs) > 0.1


def test_smoothing_makes_certainty_costly() -> None:
    """The smallest loss is at p(y) = 1 - s + s / C, its value the entropy of the smoothed target."""
    targets = torch.tensor([1])
    wanted = torch.tensor([[0.05, 0.85, 0.05, 0.05]], dtype=torch.float64)
    best, slope = loss_and_gradient(label_loss(0.2), wanted.log(), targets)
    assert best.item() == pytest.approx(-(0.85 * math.log(0.85) + 0.15 * math.log(0.05)))
    assert slope.abs().max() < 1e-12
    assert loss_and_gradient(label_loss(0.2), 50 * wanted.log(), targets)[0] > 2 * best


def test_class_weights_by_definition() -> None:
    counts = [7, 1, 12, 4]
    weights = class_weights(counts)
    assert sum(n * w for n, w in zip(counts, weights, strict=True)) == pytest.approx(24)  # the mean example weighs 1
    assert {round(n * w, 12) for n, w in zip(counts, weights, strict=True)} == {6.0}  # each class as much as any other
    assert class_weights([3, 3]) == [1.0, 1.0]


def classifier(kind: str, head: Any) -> Any:
    labels = ("start", "end") if head is SpanExtractor else ("a", "b", "c")
    model = head.from_backbone(build(kind), labels, "mean")
    randomise(model.score, seed=2)
    return model


def texts(n: int = 23) -> list[list[int]]:
    return [torch.randint(0, V, (int(length),)).tolist() for length in torch.randint(2, 12, (n,))]


def targets_for(head: Any, inputs: list[list[int]]) -> Any:
    if head is SequenceClassifier:
        return [i % 3 if i % 5 else IGNORE for i in range(len(inputs))]
    if head is TokenClassifier:
        return [[(i + t) % 3 if (i * t) % 4 else IGNORE for t in range(len(row))] for i, row in enumerate(inputs)]
    return [[0, len(row) - 1] if i % 5 else [IGNORE, IGNORE] for i, row in enumerate(inputs)]


@pytest.mark.parametrize("head", [SequenceClassifier, TokenClassifier, SpanExtractor])
@pytest.mark.parametrize("kind", ["rotary", "speedrun"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_pitfalls_1_and_2_many_unequal_batches_give_what_one_big_batch_gives(
    head: Any, kind: str, batch_size: int
) -> None:
    model = classifier(kind, head)
    inputs = texts()
    loss = span_loss if head is SpanExtractor else label_loss(0.2, WEIGHTS[:3])
    found = []
    for size in (batch_size, 23):
        batches = RaggedBatches(inputs, targets_for(head, inputs), size)
        model.zero_grad()
        pieces = [next(batches) for _ in range(batches.n_batches)]
        total, counted = accumulate_gradients(model, pieces, loss, CPU)
        found.append((total, counted, [p.grad.to_dense().clone() for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12) and found[0][1] == found[1][1] > 15
    for ours, expected in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("head", [SequenceClassifier, TokenClassifier, SpanExtractor])
def test_pitfall_4_without_a_counted_target_loss_and_gradients_are_0(head: Any) -> None:
    model = classifier("rotary", head)
    ids = torch.tensor([[3, 4, 5], [6, PAD, PAD]])
    targets = {SequenceClassifier: (2,), TokenClassifier: (2, 3), SpanExtractor: (2, 2)}[head]
    for loss in [span_loss] if head is SpanExtractor else [label_loss(), label_loss(0.1, WEIGHTS[:3])]:
        model.zero_grad()
        value, counted = accumulate_gradients(model, [(ids, torch.full(targets, IGNORE))], loss, CPU)
        assert (value, counted) == (0.0, 0)
        assert all(float(p.grad.to_dense().abs().max()) == 0.0 for p in model.parameters())


@pytest.mark.parametrize("loss", [label_loss(), label_loss(0.1), label_loss(0.0, WEIGHTS)])
@pytest.mark.parametrize("label", [-1, 5, -99, 1000])
def test_pitfall_5_labels_that_are_none_are_refused(loss: Any, label: int) -> None:
    with pytest.raises(ValueError, match=f"target {label} is not a token: labels go from 0 to 4"):
        loss(Scores(random_scores(2, 5)), torch.zeros(1), torch.tensor([1, label]))


@pytest.mark.parametrize("loss", [label_loss(), label_loss(0.1, WEIGHTS)])
def test_half_precision_is_computed_in_float32(loss: Any) -> None:
    scores, targets = random_scores(50, 5).bfloat16(), torch.randint(0, 5, (50,))
    value = loss(Scores(scores), torch.zeros(1), targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(Scores(scores.float()), torch.zeros(1), targets))


def test_spans_are_scored_by_both_ends() -> None:
    scores = random_scores(3, 7, 2)
    scores[1, 5:] = float("-inf")
    targets = torch.tensor([[2, 6], [0, 4], [IGNORE, IGNORE]])
    value, gradient = loss_and_gradient(span_loss, scores, targets)
    start, end = (F.cross_entropy(scores[:, :, side], targets[:, side]) for side in (0, 1))
    assert value.item() == pytest.approx((start + end).item() / 2, rel=1e-12)
    assert bool(gradient.isfinite().all()) and float(gradient[1, 5:].abs().max()) == 0.0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[2, 5], [0, 1]], "place 5 lies behind the end of its text"),
        ([[2, 7], [0, 1]], "place 7 lies behind the end of its text"),
        ([2, 5], r"a span is two places, start and end: targets have shape \(2,\)"),
        ([[2, -5], [0, 1]], "target -5 is not a token"),
    ],
)
def test_places_that_are_none_are_refused(targets: Any, message: str) -> None:
    scores = random_scores(2, 7, 2)
    scores[0, 5:] = float("-inf")
    with pytest.raises(ValueError, match=message):
        span_loss(Scores(scores), torch.zeros(1), torch.tensor(targets))


def test_settings_that_cannot_be_are_refused_in_one_line() -> None:
    for smoothing in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"smoothing is .*: it must be at least 0 and below 1"):
            label_loss(smoothing)
    for weights in ([1.0, 0.0], [1.0, math.inf], [-1.0, 2.0]):
        with pytest.raises(ValueError, match=r"class weights are .*: they must be above 0"):
            label_loss(0.0, weights)
    with pytest.raises(ValueError, match="there are 2 class weights for 5 labels"):
        label_loss(0.0, [1.0, 2.0])(Scores(random_scores(3, 5)), torch.zeros(1), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"logits \(3, 4, 5\) need targets \(3, 4\), not \(3,\)"):
        label_loss()(Scores(random_scores(3, 4, 5)), torch.zeros(1), torch.tensor([0, 1, 2]))
    for counts in ([], [3, 0]):
        with pytest.raises(ValueError, match="a class weight needs every class at least once"):
            class_weights(counts)
