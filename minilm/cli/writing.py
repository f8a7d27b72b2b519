"""Text from a model, as the verbs need it: the prompt becomes ids, the ids that come out become text."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.processors import Processor
from minilm.decoding.sampling import Sampler
from minilm.text.tokenizer import StreamDecoder, Tokenizer


def stream_text(
    model: Any,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    config: SampleConfig | None = None,
    seed: int = 0,
    processors: Sequence[Processor] = (),
    **how: Any,
) -> Iterator[str]:
    """What the model adds to the prompt, in pieces, as it comes. It ends with the document, if the model ends it.

    `how` goes to `generate`: use_cache, overflow (here "slide" unless said otherwise).
    """
    if model.config.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}: "
            "they do not belong together, use another checkpoint"
        )
    sampler = Sampler(config or SampleConfig(), torch.Generator().manual_seed(seed), processors)
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)]  # each document begins at <|endoftext|>
    how = {"overflow": "slide", "stop_tokens": frozenset([tokenizer.end_of_text])} | how
    decoder = StreamDecoder(tokenizer)
    for token in generate(model, ids, sampler, max_new_tokens, **how):
        yield decoder.feed(token)
    yield decoder.flush()
