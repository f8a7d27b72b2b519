"""What the caller forbids or favours: processors, which change logits before temperature and filters.

A processor is any callable `(logits (B, V), texts) -> logits (B, V)`; `texts` holds for each row all ids so far, the
prompt included. It returns new logits and leaves its input as it is. Three simple ones are here:

    bias = LogitBias({13: 2.0, 50: -math.inf})   more of token 13, never token 50
    words = BadWords([[7], [3, 5]])              never token 7, never 5 straight after 3
    known = Vocabulary(50257)                    none of the ids that the tokenizer cannot decode
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Texts = Sequence[Sequence[int]]
Processor = Callable[[Tensor, Texts], Tensor]


class LogitBias:
    """Add a number to the logits of some ids: log(2) doubles the odds of a token, -inf forbids it."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        for token, value in bias.items():
            if not -math.inf <= value < math.inf:
                raise ValueError(f"the bias of token {token} is {value}: it must be a number, or -inf to forbid it")
        self.bias = dict(bias)

    def __call__(self, logits: Tensor, texts: Texts) -> Tensor:
        check_ids(self.bias, logits.shape[-1], "logit bias")
        added = logits.new_zeros(logits.shape[-1])  # (V,)
        for token, value in self.bias.items():
            added[token] = value
        return logits + added


class BadWords:
    """Forbid sequences of ids: where a text ends with all of a sequence but its last id, that id gets -inf.

    A sequence that the prompt has begun may not be completed either. It knows ids and not letters: a word that the
    tokenizer writes in several ways (with a space before it, say) must be given in each of them.
    """

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        if not all(len(word) for word in words):
            raise ValueError("bad words: one of them is empty, each must have at least one id")
        self.ids = {token for word in words for token in word}
        self.endings: dict[tuple[int, ...], list[int]] = defaultdict(list)  # the ids before the last -> the last
        for word in words:
            self.endings[tuple(word[:-1])].append(word[-1])
        self.lengths = sorted({len(beginning) for beginning in self.endings})

    def __call__(self, logits: Tensor, texts: Texts) -> Tensor:
        check_ids(self.ids, logits.shape[-1], "bad words")
        check_texts(texts, len(logits))
        logits = logits.clone()
        for row, text in zip(logits, texts, strict=True):
            for n in self.lengths:
                if n <= len(text):
                    row[self.endings.get(tuple(text[len(text) - n :]), [])] = -torch.inf
        return logits


class Vocabulary:
    """Forbid ids from `size` up. Models often have more rows than the tokenizer has tokens, to make V a round number."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a vocabulary of {size} tokens: it must have at least 1, pass the tokenizer's vocab_size")
        self.size = size

    def __call__(self, logits: Tensor, texts: Texts) -> Tensor:
        logits = logits.clone()
        logits[:, self.size :] = -torch.inf
        return logits


def check_ids(ids: Sequence[int] | Mapping[int, float] | set[int], V: int, name: str) -> None:
    for token in ids:
        if not 0 <= token < V:
            raise ValueError(f"{name}: token {token}, the model knows 0..{V - 1}")


def check_texts(texts: Texts, rows: int) -> None:
    if len(texts) != rows:
        raise ValueError(f"{len(texts)} texts for {rows} rows of logits: pass for each row all its ids so far")
