"""Ask a model with a head: texts in, labels with their probabilities out, in the order of the texts.

Texts of similar length share a batch, as many as fit into `batch_tokens` ids, so that little time goes into padding. In which
batch a text is makes no difference to its answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minilm.finetuning.batches import PAD, as_rows
from minilm.layers.basic import log_softmax, softmax
from minilm.runtime import evaluation_mode
from minilm.text.padding import pad_batch
from minilm.text.tokenizer import Tokenizer

BATCH_TOKENS = 4096  # ids in one batch, padding included


@dataclass(frozen=True)
class Prediction:
    """The likeliest label of a text, and the probability of each label; they add up to 1."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Span:
    """The likeliest answer: its first and its last token, and the log-probability of start and end together, in nats."""

    start: int
    end: int
    score: float


def encode_text(text: str, tokenizer: Tokenizer, context_length: int) -> list[int]:
    """<|endoftext|> and the text's ids, at most context_length in all: of a longer text its end is kept.

    Before every document of its training a backbone has seen <|endoftext|>; and an empty text has a token to be judged by.
    Whether a story went well, or a review is one of praise, is mostly said at the end: Sun et al. (2019) found the last
    tokens of film reviews to tell more than the first.

    >>> from minilm.text.tokenizer import ByteTokenizer
    >>> encode_text("abcd", ByteTokenizer(), context_length=3)
    [256, 99, 100]
    """
    if context_length < 1:
        raise ValueError(f"context_length is {context_length}: it must be at least 1")
    ids = tokenizer.encode(text)
    return [tokenizer.end_of_text, *ids[max(0, len(ids) - context_length + 1) :]]


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """The numbers of rows that go together: sorted by length, each batch at most batch_tokens ids, or one row.

    >>> batches_by_length([3, 9, 2, 4], batch_tokens=8)
    [[2, 0], [3], [1]]
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens is {batch_tokens}: it must be at least 1")
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


@torch.no_grad()
def outputs(
    model: Any, inputs: Sequence[Sequence[int]], batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[int, Tensor]]:
    """(number of the row, what the model says of it), batch by batch: (C,) for a text, (its tokens, C) for its tokens.

    The numbers are float64 on the CPU.
    """
    rows, device = as_rows(inputs), next(model.parameters()).device
    longest, limit = max(map(len, rows), default=0), model.config.context_length
    if longest > limit:
        raise ValueError(f"a text has {longest} tokens, the model reads {limit}: shorten it")
    with evaluation_mode(model):
        for batch in batches_by_length([len(row) for row in rows], batch_tokens):
            ids, _ = pad_batch([inputs[i] for i in batch], PAD)
            logits = model(torch.from_numpy(ids).to(device)).double().cpu()
            for i, row in zip(batch, logits, strict=True):
                yield i, row if row.ndim == 1 else row[: len(rows[i])]


def predict(
    model: Any, tokenizer: Tokenizer, texts: Sequence[str], batch_tokens: int = BATCH_TOKENS
) -> list[Prediction]:
    """Texts -> a label and its probability for each, from a sequence classifier. Long texts: see `encode_text`."""
    head = _head(model, "sequence-classifier")
    labels, inputs = head.config.labels, _encode(head, tokenizer, texts)
    predictions = {}
    for i, logits in outputs(head, inputs, batch_tokens):
        best = labels[int(logits.argmax())]
        predictions[i] = Prediction(best, dict(zip(labels, softmax(logits).tolist(), strict=True)))
    return [predictions[i] for i in range(len(inputs))]


def predict_tags(model: Any, inputs: Sequence[Sequence[int]], batch_tokens: int = BATCH_TOKENS) -> list[list[str]]:
    """Rows of ids -> a label for each token of each row, from a token classifier."""
    head = _head(model, "token-classifier")
    best = {i: logits.argmax(-1).tolist() for i, logits in outputs(head, inputs, batch_tokens)}
    return [[head.config.labels[label] for label in best[i]] for i in range(len(best))]


def best_span(start: Tensor, end: Tensor, max_length: int) -> tuple[int, int]:
    """The places i <= j < i + max_length with the largest start[i] + end[j], scores (T,) each; among equals the first i, then j.

    >>> best_span(torch.tensor([0.0, 5.0, 3.0]), torch.tensor([6.0, 1.0, 2.0]), max_length=3)
    (1, 2)
    """
    n = len(start)
    pairs = start[:, None] + end[None, :]  # (T, T)
    distance = torch.arange(n)[None, :] - torch.arange(n)[:, None]  # end minus start
    pairs = pairs.masked_fill((distance < 0) | (distance >= max_length), float("-inf"))
    return divmod(int(pairs.argmax()), n)


def predict_spans(
    model: Any,
    inputs: Sequence[Sequence[int]],
    within: Sequence[tuple[int, int]] | None = None,
    max_length: int = 30,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Span]:
    """Rows of ids -> the likeliest span of at most max_length tokens in each, from a span extractor.

    `within` says for each row in which range(first, stop) the answer lies: in the context, not in the question. The
    probabilities are shared out among the places of this range.
    """
    head = _head(model, "span-extractor")
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}: a span has at least 1 token")
    ranges = [(0, len(row)) for row in inputs] if within is None else list(within)
    if len(ranges) != len(inputs):
        raise ValueError(f"{len(inputs)} rows have {len(ranges)} ranges: give one to each")
    for i, ((first, stop), row) in enumerate(zip(ranges, inputs, strict=True)):
        if not 0 <= first < stop <= len(row):
            raise ValueError(f"row {i} has no places {first} to {stop - 1}: it has {len(row)} tokens")
    spans = {}
    for i, scores in outputs(head, inputs, batch_tokens):
        first, stop = ranges[i]
        start, end = log_softmax(scores[first:stop].mT)  # (places,) each
        a, b = best_span(start, end, max_length)
        spans[i] = Span(first + a, first + b, (start[a] + end[b]).item())
    return [spans[i] for i in range(len(spans))]


def _head(model: Any, kind: str) -> Any:
    """The model, or what an adapter holds, if it has this kind of head; ValueError for another model."""
    head = model.model if model.kind == "adapted" else model
    if head.kind != kind:
        raise ValueError(f"this needs a {kind}, the model is of kind {head.kind}: fine-tune one first")
    return head


def _encode(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    if isinstance(texts, str):
        raise ValueError("give a list of texts, not one text")
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}: they do not belong together"
        )
    inputs = []
    for i, text in enumerate(texts):
        try:
            inputs.append(encode_text(text, tokenizer, model.config.context_length))
        except ValueError as error:
            raise ValueError(f"text {i}: {error}") from None
    return inputs
