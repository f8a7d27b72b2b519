"""Scoring: how likely a model finds a text that is already there. Generation asks what comes next, this what that was worth.

With the prompt in front, the last numbers are those of an answer: which of several answers is likeliest, or how sure the
model was of its own (the same numbers that `generate_batch` returns). Perplexity over a corpus is in evaluation/.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minilm.decoding.generate import prompt_list
from minilm.decoding.reading import evaluating, logits_at
from minilm.layers.basic import log_softmax


def score(model: Any, ids: Tensor | Sequence[int], cache: Any = None, chunk: int = 256) -> Tensor:
    """ids (T,) -> log p(ids[t] | the ids before it) in nats, for t = 1 to T - 1: (T - 1,) float64.

    The first id is only read: put <|endoftext|> in front to score a document from its beginning. With a cache the text
    goes on behind what it holds, and all ids but the last are added to it: begin the next piece with that one. A model
    with a cache reads `chunk` tokens at a time, so that no (T, V) logits are held.

    >>> answer_log_prob = score(model, [*prompt, *answer])[-len(answer) :].sum()
    """
    text = prompt_list(ids, getattr(model.config, "vocab_size", None))
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: it must be at least 1")
    n, limit = len(text) - 1, getattr(model.config, "context_length", None)
    held = 0 if cache is None else int(cache.lengths[0])
    if limit is not None and held + n > limit:
        raise ValueError(f"{held + n} tokens are to be read, the model reads at most {limit}: score shorter pieces")
    if cache is None and hasattr(model, "new_cache") and n > chunk:
        cache = model.new_cache(1, n)
    step = n if cache is None else chunk
    pieces = [pair_log_probs(model, text[t : t + step + 1], cache) for t in range(0, n, max(step, 1))]
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.double)


def pair_log_probs(model: Any, ids: list[int], cache: Any) -> Tensor:
    """log p of each id but the first (N,), each read behind those before it and what the cache holds."""
    n = len(ids) - 1
    with evaluating(model):
        logits = logits_at(model, torch.tensor([ids[:-1]]), torch.arange(n)[None], cache)[0]  # (N, V)
    return log_softmax(logits).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
