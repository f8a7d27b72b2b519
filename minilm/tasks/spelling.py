"""Spelled numbers: "four thousand and seven" -> "4007", letter by letter. A small translation, in which every answer is known.

The digits stand in the order of the words, but not at their places: "thousand" is one digit's worth of position, "and" is nothing,
"twelve" is two digits, and a zero has no word at all. Where a model looks while it writes a digit can be read off.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from minilm.text.padding import pad_batch
from minilm.training.loss import IGNORE, cross_entropy

# fmt: off
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
# fmt: on
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
PAD, END = 0, 1  # of both sides; END also begins the decoder's inputs
LETTERS = " abcdefghijklmnopqrstuvwxyz"
SOURCE_SIZE, TARGET_SIZE = 2 + len(LETTERS), 2 + 10
LIMIT = 10_000


class Spelled(NamedTuple):
    words: str
    digits: str


def number_words(n: int) -> str:
    """0 to 9,999 in British English.

    >>> number_words(4007), number_words(512), number_words(90)
    ('four thousand and seven', 'five hundred and twelve', 'ninety')
    """
    if not 0 <= n < LIMIT:
        raise ValueError(f"{n} has no words here: give a number from 0 to {LIMIT - 1:,}")
    if n < 20:
        return ONES[n]
    if n < 100:
        tens, rest = TENS[n // 10 - 2], n % 10
        return f"{tens} {ONES[rest]}" if rest else tens
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    head, rest = f"{number_words(n // size)} {name}", n % size
    if not rest:
        return head
    return f"{head} and {number_words(rest)}" if rest < 100 else f"{head} {number_words(rest)}"


def spelled_numbers(n_test: int = 1000, seed: int = 0) -> tuple[list[Spelled], list[Spelled]]:
    """All numbers below 10,000 in an order drawn from the seed: (those to learn from, n_test others)."""
    if not 0 < n_test < LIMIT:
        raise ValueError(f"n_test is {n_test}: give 1 to {LIMIT - 1:,}")
    order = np.random.default_rng(seed).permutation(LIMIT).tolist()
    pairs = [Spelled(number_words(n), str(n)) for n in order]
    return pairs[n_test:], pairs[:n_test]


def encode_words(words: str) -> list[int]:
    """The letters as ids; ValueError for any other character."""
    if unknown := sorted(set(words) - set(LETTERS)):
        raise ValueError(f"{words!r} holds {unknown[0]!r}: write small letters and spaces")
    return [2 + LETTERS.index(letter) for letter in words]


def decode_digits(ids: Sequence[int]) -> str:
    """Ids of the target side as digits; PAD and END become "?"."""
    return "".join(str(token - 2) if token >= 2 else "?" for token in ids)


def batch_of(pairs: Sequence[Spelled]) -> tuple[Tensor, Tensor]:
    """sources (B, S), filled up with PAD, and targets (B, T): digits, END, and IGNORE behind it."""
    sources, _ = pad_batch([encode_words(pair.words) for pair in pairs], PAD)
    targets, _ = pad_batch([[*(2 + int(digit) for digit in pair.digits), END] for pair in pairs], IGNORE)
    return torch.from_numpy(sources), torch.from_numpy(targets)


def decoder_inputs(targets: Tensor) -> Tensor:
    """targets (B, T) -> what the decoder reads (B, T): END, then the target without its last token."""
    moved = targets.roll(1, dims=1)
    moved[:, 0] = END
    return moved.where(moved != IGNORE, PAD)


def spelling_loss(model: Any, sources: Tensor, targets: Tensor) -> Tensor:
    """The loss for `train(loss_function=...)`, in nats per token: each token is predicted behind the true ones before it."""
    return cross_entropy(model(sources, decoder_inputs(targets)), targets)


class SpellingBatches:
    """An endless iterator of batches of pairs, drawn with replacement by the seed."""

    def __init__(self, pairs: Sequence[Spelled], batch_size: int, seed: int = 0) -> None:
        self.pairs, self.batch_size, self.random = pairs, batch_size, np.random.default_rng(seed)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        return batch_of([self.pairs[i] for i in self.random.integers(len(self.pairs), size=self.batch_size)])


def answers(model: Any, pairs: Sequence[Spelled], batch_size: int = 250) -> Iterator[str]:
    """What the model writes for the words of each pair, by the likeliest token each time."""
    for first in range(0, len(pairs), batch_size):
        sources, _ = batch_of(pairs[first : first + batch_size])
        yield from map(decode_digits, model.translate(sources, END, max_length=6)[0])


def accuracy(model: Any, pairs: Sequence[Spelled]) -> float:
    """The share of pairs whose digits are all right."""
    right = [answer == pair.digits for answer, pair in zip(answers(model, pairs), pairs, strict=True)]
    return sum(right) / len(right)
