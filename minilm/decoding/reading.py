"""Reading: what a model says at chosen places of a text, or of several texts at once, with a cache or without.

A cache saves work and changes nothing: what it holds already is not read again. Beam search, batches, speculative
decoding and conversations ask their models through this file.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from minilm.decoding.generate import Choice, device_of
from minilm.runtime import evaluation_mode


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside: evaluation mode (no dropout) and no gradients. Afterwards the model's mode is as before."""
    with evaluation_mode(model), torch.inference_mode():
        yield


def logits_at(model: Any, ids: Tensor, places: Tensor, cache: Any = None) -> Tensor:
    """ids (B, T), places (B, N) in 0..T-1 -> logits (B, N, V) float64 on the CPU: what follows each of these places.

    With a cache, ids are the tokens that follow those it holds. The head is large, and is applied to the places only.
    ValueError where the logits are not finite.
    """
    device = device_of(model)
    ids, places, rows = ids.to(device), places.to(device), torch.arange(len(ids), device=device)[:, None]
    if hasattr(model, "hidden"):
        logits = model.head(model.hidden(ids, cache)[rows, places])
    else:
        logits = (model(ids) if cache is None else model(ids, cache=cache))[rows, places]
    logits = logits.cpu().double()
    if not bool(logits.amax(-1).isfinite().all()):
        raise ValueError("the model's logits are not finite: its training has diverged, take an earlier checkpoint")
    return logits


def next_logits_of_texts(model: Any, texts: Sequence[list[int]], cache: Any = None) -> Tensor:
    """B texts of any lengths -> logits (B, V) of the token after each. The cache holds a beginning of each text.

    Shorter rows are filled up at their end. Causality hides the filling from the text, and the cache forgets it.
    """
    held = [0] * len(texts) if cache is None else cache.lengths.tolist()
    new = [text[n:] for text, n in zip(texts, held, strict=True)]
    lengths = torch.tensor([len(ids) for ids in new])
    longest = int(lengths.max())
    batch = torch.tensor([ids + [0] * (longest - len(ids)) for ids in new])  # (B, T)
    logits = logits_at(model, batch, lengths[:, None] - 1, cache)[:, 0]
    if cache is not None and int(lengths.min()) < longest:
        cache.rollback(longest - lengths)
    return logits


class Reader:
    """A model with the text it has read last. Given another text, it reads on from where the two begin to differ.

    Whoever drops the last tokens of a text, or replaces them, need not tell anyone: the cache is rolled back here.
    """

    def __init__(self, model: Any, max_length: int | None = None, use_cache: bool = True) -> None:
        self.model, self.max_length = model, max_length
        self.has_cache = use_cache and hasattr(model, "new_cache")
        self.forget()

    def forget(self) -> None:
        """Begin with nothing read."""
        self.text: list[int] = []
        self.cache = self.model.new_cache(1, self.max_length) if self.has_cache else None

    def last_logits(self, text: list[int], n: int) -> Tensor:
        """What the model says behind each of the last n tokens of the text: (n, V), n from 1 to len(text)."""
        same = common_prefix(self.text, text[: len(text) - n]) if self.has_cache else 0
        new = torch.tensor([text[same:]])
        places = torch.arange(new.shape[1] - n, new.shape[1])[None]
        try:
            if self.cache is not None:
                self.cache.rollback(len(self.text) - same)
            with evaluating(self.model):
                logits = logits_at(self.model, new, places, self.cache)[0]
            self.text = list(text)
        except BaseException:  # also Ctrl-C: nobody knows how much of the text the cache holds
            self.forget()
            raise
        return logits


def generate_on(
    reader: Reader, text: Sequence[int], sampler: Choice, max_new_tokens: int, stop_tokens: Collection[int] = ()
) -> Iterator[int]:
    """The ids of `generate` with overflow "stop", but what the reader has read of the text already is not read again.

    For a conversation, where each text begins with most of the one before. The caller sees to it that the text is not
    empty and fits into the context. In float32 the same token read in another company differs by a rounding: then of two
    tokens that nearly tie the other may win.
    """
    text, limit = list(text), getattr(reader.model.config, "context_length", None)
    for _ in range(max_new_tokens):
        if limit is not None and len(text) > limit:
            return
        token = int(sampler(reader.last_logits(text, 1), [text]))
        if token in stop_tokens:
            return
        yield token
        text.append(token)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common from their beginning."""
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
