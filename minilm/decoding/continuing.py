"""Generation at its barest: prefill, then one token a step. `generate` is this loop, with streams, stops and slides."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def continue_text(
    model: Any, prompt: Sequence[int], choose: Callable[[Tensor], Tensor], max_new_tokens: int
) -> list[int]:
    """Prompt (at least one id) -> the ids that follow it, max_new_tokens of them. The model reads each token once.

    `model.new_cache(1, max_length)` makes a cache for one row; `model(ids (1, T), cache)` reads the T ids that follow those
    in the cache, and gives logits (1, T, V); `choose` maps the logits (1, V) of the next token to its id (1,).

    >>> ids = continue_text(model, tokenizer.encode("Once"), Sampler(SampleConfig(temperature=0)), 20)
    """
    cache = model.new_cache(1, len(prompt) + max_new_tokens)
    new: list[int] = []
    unread = list(prompt)
    for _ in range(max_new_tokens):
        logits = model(torch.tensor([unread]), cache)  # (1, T, V)
        unread = [int(choose(logits[:, -1]))]
        new += unread
    return new
