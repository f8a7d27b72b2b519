"""From a corpus to what training eats: a tokenizer, and the two sides of the split as files of token ids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.text.bpe import BPETokenizer
from minilm.text.corpus import Corpus, sample_evenly
from minilm.text.token_file import TokenFile, encode_corpus
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from minilm.training.storage import make_directory

BPE_BYTES = 50_000_000  # a larger text teaches the merges nothing new
HELD_OUT = 0.02  # last part of the training ids, from which no gradient is taken: it decides how models are mixed


@dataclass(frozen=True)
class Prepared:
    """The token ids of both sides of a corpus, and the tokenizer that made them."""

    tokenizer: Tokenizer
    train: TokenFile
    validation: TokenFile

    @property
    def learned(self) -> np.ndarray:
        """The training ids that a neural model learns from: all but the last HELD_OUT."""
        return self.train.ids[: len(self.train.ids) - int(HELD_OUT * len(self.train.ids))]

    @property
    def held_out(self) -> np.ndarray:
        """The other training ids, as a document of their own."""
        rest = self.train.ids[len(self.learned) :]
        return np.concatenate([[self.tokenizer.end_of_text], rest.astype(np.int64)])


def train_tokenizer(kind: str, corpus: Corpus, vocab_size: int, **how: Any) -> Tokenizer:
    """A tokenizer of this kind: bpe learns from the training side only; char must know every character of both sides.

    `how` goes to `BPETokenizer.train`: min_frequency, processes, on_merge.
    """
    if kind == "bpe":
        return BPETokenizer.train(sample_evenly(corpus.train, BPE_BYTES), vocab_size, **how)
    if kind == "char":
        return CharTokenizer.train(text for side in (corpus.train, corpus.validation) for text in side)
    if kind == "byte":
        return ByteTokenizer()
    raise ValueError(f"tokenizer {kind!r} is unknown: choose one of bpe, char, byte")


def prepare(corpus: Corpus, tokenizer: Tokenizer, directory: Path) -> Prepared:
    """Write both sides as token files into `directory`, and open them memory-mapped."""
    make_directory(directory)
    train, validation = (
        encode_corpus(documents, tokenizer, directory / f"{side}.tokens")
        for side, documents in (("train", corpus.train), ("validation", corpus.validation))
    )
    return Prepared(tokenizer, train, validation)
