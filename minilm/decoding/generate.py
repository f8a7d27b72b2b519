"""Generation: read the prompt, then one token at a time. It knows ids, never text, and a model only by calling it.

Without a cache each new token would make the model read the whole text again. With one, the prompt is read once
(prefill) and then each step reads only the token just chosen; the logits are the same.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from minilm.runtime import evaluation_mode

OVERFLOWS = ("stop", "slide")
Choice = Callable[[Tensor, list[list[int]]], Tensor]  # logits (B, V), the texts of the rows -> ids (B,)


def generate(
    model: Any,
    prompt_ids: Tensor | Sequence[int],
    sampler: Choice,
    max_new_tokens: int,
    *,
    use_cache: bool = True,
    stop_tokens: Collection[int] = frozenset(),
    overflow: str = "stop",
) -> Iterator[int]:
    """prompt ids (T,) or (1, T) -> at most max_new_tokens ids, one by one, each as soon as it is known.

    The stream ends before a stop token, which is not part of it. A model with a context_length reads no more tokens
    than that: where the text has outgrown it, "stop" ends the stream, and "slide" forgets all but the last half context
    and goes on. A prompt that does not fit needs "slide". `sampler` maps logits (1, V) and [text] to ids (1,); the text is
    whole, with the prompt and with what the model has forgotten.

    >>> ids = list(generate(model, tokenizer.encode("Once"), sampler, max_new_tokens=100))
    """
    text = prompt_list(prompt_ids, getattr(model.config, "vocab_size", None))
    limit = getattr(model.config, "context_length", None)
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: it must be at least 0")
    if overflow not in OVERFLOWS:
        raise ValueError(f"overflow is {overflow!r}: choose one of {', '.join(OVERFLOWS)}")
    if overflow == "stop" and limit is not None and len(text) > limit:
        raise ValueError(f"the prompt has {len(text)} tokens, the model reads at most {limit}: shorten it or use slide")
    longest = len(text) + max_new_tokens
    cache = None
    if use_cache and hasattr(model, "new_cache"):
        cache = model.new_cache(1, longest if limit is None else min(limit, longest))
    return stream(model, text, sampler, max_new_tokens, cache, frozenset(stop_tokens), limit, overflow == "slide")


def stream(
    model: Any,
    text: list[int],
    sampler: Choice,
    max_new_tokens: int,
    cache: Any,
    stop_tokens: frozenset[int],
    limit: int | None,
    slide: bool,
) -> Iterator[int]:
    """The loop of `generate`: the model sees text[start:], and its cache, where there is one, holds text[start:read]."""
    start = read = 0
    for _ in range(max_new_tokens):
        if limit is not None and len(text) - start > limit:
            if not slide:
                return
            if cache is not None:
                cache.rollback(read - start)
            start = read = len(text) - max(1, limit // 2)
        token = int(sampler(next_logits(model, text[read:], cache), [text]))
        if cache is not None:
            read = len(text)
        if token in stop_tokens:
            return
        yield token
        text.append(token)


@torch.inference_mode()
def next_logits(model: Any, ids: list[int], cache: Any = None) -> Tensor:
    """ids that follow those in the cache -> logits (1, V) of the token after them, in evaluation mode (no dropout).

    Mode and gradients are as before on return: between two tokens, the caller may do with the model what it likes.
    """
    with evaluation_mode(model):
        batch = torch.tensor([ids], device=device_of(model))  # (1, T)
        if hasattr(model, "hidden"):  # the head is large: apply it to the last token only
            return model.head(model.hidden(batch, cache)[:, -1])
        logits = model(batch) if cache is None else model(batch, cache=cache)
        return logits[:, -1]


def device_of(model: Any) -> torch.device:
    """Where the model's weights are; counted models have none and are on the CPU."""
    weights = model.parameters() if isinstance(model, torch.nn.Module) else ()
    return next((weight.device for weight in weights), torch.device("cpu"))


def prompt_list(prompt_ids: Tensor | Sequence[int], vocab_size: int | None) -> list[int]:
    """The prompt as a list of ids; ValueError where it is empty, has several rows or an unknown id."""
    ids = torch.as_tensor(prompt_ids)
    if ids.numel() == 0:
        raise ValueError("the prompt is empty: begin with at least one token, <|endoftext|> for a new document")
    if ids.dim() > 2 or (ids.dim() == 2 and len(ids) != 1):
        raise ValueError(f"the prompt has shape {tuple(ids.shape)}: generate takes one row of ids")
    text: list[int] = ids.reshape(-1).tolist()
    if vocab_size is not None and not 0 <= min(text) <= max(text) < vocab_size:
        raise ValueError(f"prompt ids {min(text)}..{max(text)}, the model knows 0..{vocab_size - 1}: use its tokenizer")
    return text
