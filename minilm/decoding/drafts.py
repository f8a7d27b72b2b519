"""Drafts for speculative decoding: who guesses the next tokens, quickly and without being right.

A draft offers `propose(text, probabilities, uniforms)`: at most one token for each of the n uniforms, and q (m, V), the
distribution from which each was drawn. A draft may be any good or bad; only q has to be true. Two are here:

    ModelDraft(model)          a smaller model of the house, or a counted one, which guesses faster than any GPT reads
    LookupDraft(vocab_size)    no model at all: what followed the last time, in this very text
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from minilm.decoding.reading import Reader
from minilm.decoding.sampling import draw

Probabilities = Callable[
    [Tensor, list[list[int]]], Tensor
]  # logits (B, V), texts -> what is drawn from (B, V), float64


class Draft(Protocol):
    """Whoever can guess. The vocabulary has to be that of the target."""

    vocab_size: int

    def propose(self, text: list[int], probabilities: Probabilities, uniforms: Tensor) -> tuple[list[int], Tensor]:
        """text, uniforms (n,) -> m <= n ids that may follow the text, and q (m, V), from which they were drawn."""
        ...


class ModelDraft:
    """Guesses of a model: `ModelDraft(CountedLM(ngram))`. It samples as the target does, with the same filters.

    Where the text is longer than the draft's own context, it proposes nothing: decoding goes on, one token at a time.
    """

    def __init__(self, model: Any, use_cache: bool = True) -> None:
        self.reader = Reader(model, use_cache=use_cache)
        self.vocab_size: int = model.config.vocab_size
        self.context_length: int | None = getattr(model.config, "context_length", None)

    def propose(self, text: list[int], probabilities: Probabilities, uniforms: Tensor) -> tuple[list[int], Tensor]:
        """text, uniforms (n,) -> m <= n ids, and q (m, V). The last of the ids is not read."""
        if self.context_length is not None:
            uniforms = uniforms[: max(0, self.context_length - len(text) + 1)]
        proposed: list[int] = []
        q = torch.zeros(len(uniforms), self.vocab_size, dtype=torch.double)
        for place in range(len(uniforms)):
            so_far = text + proposed
            q[place] = probabilities(self.reader.last_logits(so_far, 1), [so_far])[0]
            proposed.append(int(draw(q[place : place + 1], uniforms[place : place + 1])))
        return proposed, q


class LookupDraft:
    """Guesses by copying (prompt look-up): where did the last tokens stand before, and what followed them there?

    The longest ending of the text that stands there already decides, up to `longest` tokens; of several places the latest.
    q is sure of itself, all on one token. It helps where texts repeat: code, summaries, refrains (Yang et al. 2023,
    "Inference with Reference").
    """

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        if longest < 1:
            raise ValueError(f"longest is {longest}: a look-up needs at least 1 token")
        self.vocab_size, self.longest = vocab_size, longest

    def propose(self, text: list[int], probabilities: Probabilities, uniforms: Tensor) -> tuple[list[int], Tensor]:
        """text, n uniforms, of which none is used -> n ids (or none), and q (n, V). A copy may go on into itself."""
        source, start = list(text), place_to_copy(text, self.longest)
        n = 0 if start is None else len(uniforms)
        for place in range(n):
            source.append(source[(start or 0) + place])
        proposed = source[len(text) :]
        q = torch.zeros(n, self.vocab_size, dtype=torch.double)
        q[torch.arange(n), torch.tensor(proposed, dtype=torch.long)] = 1.0
        return proposed, q


def place_to_copy(text: list[int], longest: int) -> int | None:
    """The index of the token behind an earlier copy of the text's ending; None if its last token is new.

    >>> place_to_copy([1, 2, 3, 7, 1, 2], longest=3)
    2
    """
    for n in range(min(longest, len(text) - 1), 0, -1):
        ending = text[len(text) - n :]
        for place in range(len(text) - 1, n - 1, -1):
            if text[place - n : place] == ending:
                return place
    return None
