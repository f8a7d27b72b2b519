"""Answers of models with heads: in the order of the texts, whatever the batches; spans by brute force."""

import doctest
import itertools
from typing import Any

import pytest
import torch
from decoding_models import V, build, randomise
from torch import Tensor

from minilm.finetuning import predict as module
from minilm.finetuning.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from minilm.finetuning.predict import (
    Prediction,
    batches_by_length,
    best_span,
    encode_text,
    predict,
    predict_spans,
    predict_tags,
)
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer

TOKENIZER = CharTokenizer("".join(sorted("abcdefghijklmnopqrstu ")))  # 22 characters and <|endoftext|>: V tokens
LABELS = ("bad", "fair", "good")
KINDS = ["learned", "speedrun"]
TEXTS = ["a good dog", "", "no", "the dog ran off", "e", "no", "abc def abc def abc def abc", "tea at noon"]


def head_on(head: Any, kind: str, context: int = 16) -> Any:
    labels = ("start", "end") if head is SpanExtractor else LABELS
    model = head.from_backbone(build(kind, context), labels)
    randomise(model.score, seed=14)
    model.score.bias.data.zero_()  # so that the texts decide
    return model


def rows(*lengths: int) -> list[list[int]]:
    return [torch.randint(0, V, (length,)).tolist() for length in lengths]


def test_doctests() -> None:
    assert doctest.testmod(module) == (0, 4)


# ---- texts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 17, 40, 4096])
def test_each_text_is_judged_as_if_it_were_alone_and_answers_keep_their_order(kind: str, batch_tokens: int) -> None:
    model = head_on(SequenceClassifier, kind)
    found = predict(model, TOKENIZER, TEXTS, batch_tokens)
    assert len(found) == len(TEXTS)
    assert len({prediction.label for prediction in found}) > 1
    for text, prediction in zip(TEXTS, found, strict=True):
        ids = [22, *TOKENIZER.encode(text)[-15:]]
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0]
        expected = (logits.exp() / logits.exp().sum()).tolist()
        assert list(prediction.probabilities) == list(LABELS)
        assert list(prediction.probabilities.values()) == pytest.approx(expected, rel=1e-10)
        assert sum(prediction.probabilities.values()) == pytest.approx(1.0, abs=1e-12)
        assert prediction.label == LABELS[expected.index(max(expected))]


def test_float32_models_answer_with_probabilities_that_add_up_to_1() -> None:
    model = head_on(SequenceClassifier, "learned").float()
    for prediction in predict(model, TOKENIZER, TEXTS):
        assert sum(prediction.probabilities.values()) == pytest.approx(1.0, abs=1e-12)


def test_no_texts_no_answers() -> None:
    assert predict(head_on(SequenceClassifier, "learned"), TOKENIZER, []) == []
    assert predict_tags(head_on(TokenClassifier, "learned"), []) == []
    assert predict_spans(head_on(SpanExtractor, "learned"), []) == []


@pytest.mark.parametrize("length", [0, 1, 4, 5, 6, 40])
def test_a_long_text_keeps_its_end_behind_the_token_of_the_beginning(length: int) -> None:
    text = "abcdefghijklmnopqrstu" * 2
    ids = encode_text(text[:length], TOKENIZER, 6)
    assert ids == [TOKENIZER.end_of_text, *TOKENIZER.encode(text[:length][-5:] if length else "")]
    assert encode_text(text, TOKENIZER, 1) == [TOKENIZER.end_of_text]
    with pytest.raises(ValueError, match="context_length is 0: it must be at least 1"):
        encode_text(text, TOKENIZER, 0)


def test_pitfall_43_dropout_is_off_and_the_mode_of_the_model_stays() -> None:
    """The backbone drops 30 % in training; asked twice, the answers are the same, and the model goes on training."""
    model = head_on(SequenceClassifier, "learned").train()
    ids = torch.tensor([TOKENIZER.encode("noon")])
    assert not torch.equal(model(ids), model(ids))
    first, second = (predict(model, TOKENIZER, TEXTS) for _ in range(2))
    assert first == second == predict(model.eval(), TOKENIZER, TEXTS)
    model.train()
    predict(model, TOKENIZER, TEXTS)
    assert model.training and model.backbone.training
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_is_one_clear_line() -> None:
    model = head_on(SequenceClassifier, "learned")
    wrong: list[tuple[Any, str]] = [
        (lambda: predict(model, TOKENIZER, "one text"), "give a list of texts, not one text"),
        (
            lambda: predict(model, TOKENIZER, ["ok", "a text of UTF"]),
            r"text 1: character 'x' .* was not in the training",
        ),
        (lambda: predict(model, ByteTokenizer(), ["a"]), "the tokenizer has 257 tokens, the model 23"),
        (lambda: predict(model, TOKENIZER, ["a"], 0), "batch_tokens is 0: it must be at least 1"),
        (lambda: predict(build("learned"), TOKENIZER, ["a"]), "needs a sequence-classifier, the model is of kind gpt"),
        (lambda: predict_tags(model, [[1]]), "needs a token-classifier, the model is of kind sequence-classifier"),
        (lambda: predict_spans(model, [[1]]), "needs a span-extractor, the model is of kind sequence-classifier"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_an_adapter_is_asked_through_what_it_holds() -> None:
    class Adapted(torch.nn.Module):
        kind = "adapted"

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

    model = head_on(SequenceClassifier, "learned")
    assert predict(Adapted(model), TOKENIZER, TEXTS) == predict(model, TOKENIZER, TEXTS)
    with pytest.raises(ValueError, match="the model is of kind token-classifier"):
        predict(Adapted(head_on(TokenClassifier, "learned")), TOKENIZER, TEXTS)


def test_batches_are_full_but_no_fuller() -> None:
    lengths = torch.randint(1, 50, (200,)).tolist()
    for limit in (1, 49, 60, 500, 10**6):
        batches = batches_by_length(lengths, limit)
        assert sorted(itertools.chain(*batches)) == list(range(200))
        sizes = [len(batch) * max(lengths[i] for i in batch) for batch in batches]
        assert all(size <= limit or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))
        for batch, following in itertools.pairwise(batches):
            assert max(lengths[i] for i in batch) <= lengths[following[0]]
            assert (len(batch) + 1) * lengths[following[0]] > limit  # one more would not fit
    assert len(batches_by_length(lengths, 10**6)) == 1


# ---- tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
def test_each_token_gets_its_label(kind: str, batch_tokens: int) -> None:
    model = head_on(TokenClassifier, kind)
    inputs = rows(9, 2, 16, 1, 7)
    found = predict_tags(model, inputs, batch_tokens)
    for row, tags in zip(inputs, found, strict=True):
        logits = model(torch.tensor([row]))[0].tolist()
        assert tags == [LABELS[scores.index(max(scores))] for scores in logits]
    assert len({tag for tags in found for tag in tags}) > 1


def test_rows_that_are_too_long_or_empty_are_refused() -> None:
    model = head_on(TokenClassifier, "learned")
    with pytest.raises(ValueError, match="a text has 17 tokens, the model reads 16: shorten it"):
        predict_tags(model, rows(3, 17))
    with pytest.raises(ValueError, match="example 1 has no tokens"):
        predict_tags(model, [[1], []])


# ---- spans


def brute_force(start: Tensor, end: Tensor, max_length: int) -> tuple[int, int]:
    pairs = [(i, j) for i in range(len(start)) for j in range(i, min(len(start), i + max_length))]
    return max(pairs, key=lambda pair: float(start[pair[0]] + end[pair[1]]))  # the first of equals


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("max_length", [1, 2, 4, 100])
def test_the_best_span_is_that_of_all_pairs(n: int, max_length: int) -> None:
    for trial in range(100):
        start, end = torch.randn(2, n)
        if trial % 2:
            start, end = start.round(), end.round()  # so that some are equal
        assert best_span(start, end, max_length) == brute_force(start, end, max_length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
@pytest.mark.parametrize("max_length", [1, 3, 30])
def test_spans_lie_in_their_range_and_are_the_likeliest(kind: str, batch_tokens: int, max_length: int) -> None:
    model = head_on(SpanExtractor, kind)
    inputs = rows(9, 2, 16, 1, 12, 7)
    within = [(4, 9), (0, 2), (3, 11), (0, 1), (11, 12), (1, 6)]
    found = predict_spans(model, inputs, within, max_length, batch_tokens)
    for row, (first, stop), span in zip(inputs, within, found, strict=True):
        scores = model(torch.tensor([row]))[0].detach()
        start, end = scores[first:stop].log_softmax(0).T
        i, j = brute_force(start, end, max_length)
        assert (span.start, span.end) == (first + i, first + j)
        assert span.score == pytest.approx(float(start[i] + end[j]), rel=1e-10, abs=1e-10)
        assert span.score <= 1e-12
    everywhere = predict_spans(model, inputs, None, max_length)
    assert everywhere == predict_spans(model, inputs, [(0, len(row)) for row in inputs], max_length)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"within": [(0, 2)]}, "2 rows have 1 ranges: give one to each"),
        ({"within": [(0, 2), (1, 4)]}, "row 1 has no places 1 to 3: it has 3 tokens"),
        ({"within": [(-1, 2), (1, 3)]}, "row 0 has no places -1 to 1"),
        ({"within": [(0, 2), (2, 2)]}, "row 1 has no places 2 to 1"),
        ({"max_length": 0}, "max_length is 0: a span has at least 1 token"),
    ],
)
def test_ranges_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict_spans(head_on(SpanExtractor, "learned"), rows(5, 3), **settings)


def test_predictions_can_be_compared() -> None:
    assert Prediction("a", {"a": 1.0}) == Prediction("a", {"a": 1.0}) != Prediction("b", {"a": 1.0})
