"""How good is a model: bits per byte of held-out text, the same measure for every model and every tokenizer.

Each document is a stream <|endoftext|> t1 t2 ... tn. The model scores t1 to tn, each once and from what stands before
it in its own document; <|endoftext|> is context and costs nothing. A model with a context_length C reads windows of C
tokens that move on by C / 2, and only tokens that no earlier window has scored count: but for the first C, each is
predicted from more than C / 2 tokens. An n-gram sees its full history.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from minilm.metrics import bits_per_byte, perplexity
from minilm.models.mixture import Mixture, mix_log_probs
from minilm.runtime import evaluation_mode
from minilm.text.token_file import TokenFile
from minilm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """What a model needs for a text. Lower is better for the first three; seconds is how long the scoring took."""

    bits_per_byte: float
    nats_per_token: float
    perplexity: float
    tokens: int
    bytes: int
    seconds: float


def evaluate(
    model: Any,
    data: TokenFile | np.ndarray,
    tokenizer: Tokenizer,
    *,
    max_bytes: int | None = None,
    batch_tokens: int = 4096,
) -> Evaluation:
    """Score a token file, or ids (N,) that begin with <|endoftext|>, or as many of their tokens as max_bytes holds.

    ValueError where the data come from another tokenizer, hold no text, or lose bytes of it.
    """
    ids, n_bytes = text_ids(data, tokenizer, max_bytes)
    started = time.perf_counter()
    log_probs = token_log_probs(model, ids, tokenizer.end_of_text, batch_tokens=batch_tokens)
    seconds = time.perf_counter() - started
    tokens = int(np.count_nonzero(ids != tokenizer.end_of_text))
    return summary(-float(log_probs.sum()), tokens, n_bytes, seconds)


def summary(nats: float, tokens: int, n_bytes: int, seconds: float) -> Evaluation:
    """The measures that follow from a text's total cost in nats."""
    return Evaluation(bits_per_byte(nats, n_bytes), nats / tokens, perplexity(nats, tokens), tokens, n_bytes, seconds)


def text_ids(
    data: TokenFile | np.ndarray, tokenizer: Tokenizer, max_bytes: int | None = None
) -> tuple[np.ndarray, int]:
    """The ids (N,) to score, and how many UTF-8 bytes of the original text they stand for."""
    ids = data.ids if isinstance(data, TokenFile) else np.asarray(data)
    if isinstance(data, TokenFile) and data.fingerprint != tokenizer.fingerprint:
        raise ValueError("the token file was written with another tokenizer: encode the text with the model's own")
    if max_bytes is not None and max_bytes < 1:
        raise ValueError(f"max_bytes is {max_bytes}: it must be at least 1")
    if len(ids) == 0 or ids[0] != tokenizer.end_of_text:
        raise ValueError("the ids do not begin with <|endoftext|>: each document must; encode_corpus sees to that")
    if ids.min() < 0 or ids.max() >= tokenizer.vocab_size:
        raise ValueError(f"ids lie in {ids.min()}..{ids.max()}, the tokenizer knows 0..{tokenizer.vocab_size - 1}")
    sizes = np.array([len(token) for token in tokenizer.token_bytes], dtype=np.int32)
    sizes[tokenizer.end_of_text] = 0
    n_bytes = int(sizes[ids].sum(dtype=np.int64))
    if isinstance(data, TokenFile) and n_bytes != data.n_bytes:
        raise ValueError(f"the tokens stand for {n_bytes} bytes, the text has {data.n_bytes}: the tokenizer loses text")
    if max_bytes is not None and n_bytes > max_bytes:
        ends = np.cumsum(sizes[ids], dtype=np.int64)
        ids = ids[: int(np.searchsorted(ends, max_bytes, side="right"))]
        n_bytes = int(ends[len(ids) - 1])
    if n_bytes == 0:
        raise ValueError("there is no text to evaluate: give at least one token, and max_bytes that hold it")
    return ids, n_bytes


def token_log_probs(model: Any, ids: np.ndarray, end_of_text: int, *, batch_tokens: int = 4096) -> np.ndarray:
    """log p(ids[t] | the tokens before it in its document), in nats, of any model: (N,) -> (N,) float64.

    <|endoftext|> gets 0: it is given, not predicted. Counted models score the whole in one go, a mixture asks each part
    in its own way, and every other model reads windows of its context_length (or whole documents, if it has no limit).
    """
    vocab_size = getattr(model.config, "vocab_size", None)
    if vocab_size is not None and int(ids.max()) >= vocab_size:
        raise ValueError(f"the text has token {int(ids.max())}, the model knows 0..{vocab_size - 1}: use its tokenizer")
    if isinstance(model, Mixture):
        neural = token_log_probs(model.neural, ids, end_of_text, batch_tokens=batch_tokens)
        counted = token_log_probs(model.counted, ids, end_of_text, batch_tokens=batch_tokens)
        log_probs = mix_log_probs(neural, counted, model.config.weight)
    elif hasattr(model, "token_log_probs"):
        log_probs = model.token_log_probs(ids)
    else:
        log_probs = windowed_log_probs(model, ids, end_of_text, batch_tokens)
    return np.where(ids == end_of_text, 0.0, log_probs)


def windowed_log_probs(model: Any, ids: np.ndarray, end_of_text: int, batch_tokens: int) -> np.ndarray:
    """`token_log_probs` of a model that must be run: windows of similar length share a batch.

    A shorter window is filled up at its end, where a model that sees only the past does not look.
    """
    context_length = getattr(model.config, "context_length", None) or len(ids)
    todo = sorted(windows(ids, end_of_text, context_length), key=lambda window: window[2] - window[0])
    log_probs = np.zeros(len(ids))
    with evaluating(model) as device:
        while todo:
            width = todo[-1][2] - todo[-1][0] - 1
            rows = max(1, batch_tokens // width)
            todo, batch = todo[:-rows], todo[-rows:]
            inputs, targets = (np.full((len(batch), width), end_of_text, dtype=np.int64) for _ in range(2))
            for row, (start, _, stop) in enumerate(batch):
                inputs[row, : stop - start - 1] = ids[start : stop - 1]
                targets[row, : stop - start - 1] = ids[start + 1 : stop]
            logits = model(torch.from_numpy(inputs).to(device))  # (B, T, V)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            chosen = logits.gather(-1, torch.from_numpy(targets).to(device)[..., None])[..., 0]
            scores = (chosen - logits.logsumexp(-1)).cpu().double().numpy()
            for row, (start, first, stop) in enumerate(batch):
                log_probs[first:stop] = scores[row, first - start - 1 : stop - start - 1]
    return log_probs


def windows(ids: np.ndarray, end_of_text: int, context_length: int) -> Iterator[tuple[int, int, int]]:
    """(start, first, stop) for each window: read ids[start : stop - 1], then score ids[first : stop].

    A document of ten tokens behind <|endoftext|> and a context of 4 give (0, 1, 5), (2, 5, 7), (4, 7, 9), (6, 9, 11).
    """
    begins = np.flatnonzero(ids == end_of_text).tolist()
    for begin, end in zip(begins, [*begins[1:], len(ids)], strict=True):
        start, first = begin, begin + 1
        while first < end:
            stop = min(start + context_length + 1, end)
            yield start, first, stop
            start, first = start + max(1, context_length // 2), stop


@contextmanager
def evaluating(model: Any) -> Iterator[torch.device]:
    """No gradients and no dropout; the model's mode is as before at the end. Yields the device of the weights."""
    weights = model.parameters() if isinstance(model, torch.nn.Module) else ()
    device = next((weight.device for weight in weights), torch.device("cpu"))
    with evaluation_mode(model), torch.inference_mode():
        yield device
