"""Reading: what a model says at chosen places of a text, or of several texts at once, with a cache or without.

A cache saves work and changes nothing: what it holds already is not read again. Beam search, batches and speculative
decoding ask their models through this file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from minilm.decoding.generate import device_of
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
        self.model, self.text = model, list[int]()
        self.cache = model.new_cache(1, max_length) if use_cache and hasattr(model, "new_cache") else None

    def last_logits(self, text: list[int], n: int) -> Tensor:
        """What the model says behind each of the last n tokens of the text: (n, V), n from 1 to len(text)."""
        same = 0
        if self.cache is not None:
            same = common_prefix(self.text, text[: len(text) - n])
            self.cache.rollback(len(self.text) - same)
            self.text = self.text[:same]  # true also if the model refuses what follows
        new = torch.tensor([text[same:]])
        places = torch.arange(new.shape[1] - n, new.shape[1])[None]
        with evaluating(self.model):
            logits = logits_at(self.model, new, places, self.cache)[0]
        self.text = list(text)
        return logits


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common from their beginning."""
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
