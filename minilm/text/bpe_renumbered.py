"""Byte-pair encoding whose tokens have other numbers, as in the files of other people: same pieces, same merges, other ids."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minilm.text.bpe import BPETokenizer
from minilm.text.tokenizer import Tokenizer


class RenumberedBPE(Tokenizer):
    """A BPETokenizer, and numbers[i]: the id by which the outside knows its token i.

    GPT-2 numbers its bytes from "!" on, and many vocabularies begin with their special tokens.
    """

    kind = "renumbered bpe"

    def __init__(self, inner: BPETokenizer, numbers: Sequence[int]) -> None:
        if any(type(n) is not int for n in numbers) or sorted(numbers) != list(range(inner.vocab_size)):
            raise ValueError(f"the ids of {inner.vocab_size} tokens must be 0..{inner.vocab_size - 1}, each once")
        self.inner, self.numbers = inner, list(numbers)
        self.token_bytes = [b""] * inner.vocab_size
        for number, piece in zip(numbers, inner.token_bytes, strict=True):
            self.token_bytes[number] = piece
        self.special_tokens = {name: self.numbers[i] for name, i in inner.special_tokens.items()}

    def encode(self, text: str) -> list[int]:
        numbers = self.numbers
        return [numbers[i] for i in self.inner.encode(text)]

    def encode_stream(self, chunks: Iterable[str]) -> Iterator[int]:
        """The ids of the joined chunks, as `BPETokenizer.encode_stream` gives them."""
        return (self.numbers[i] for i in self.inner.encode_stream(chunks))

    def with_specials(self, names: Iterable[str]) -> Tokenizer:
        inner = self.inner.with_specials(names)
        if inner is self.inner:
            return self
        numbers = [*self.numbers, *range(self.vocab_size, inner.vocab_size)]
        return self.from_dict({"inner": inner.to_dict(), "numbers": numbers})

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "inner": self.inner.to_dict(), "numbers": self.numbers}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "RenumberedBPE":
        return cls(BPETokenizer.from_dict(table["inner"]), table["numbers"])


def numbered(inner: BPETokenizer, numbers: Sequence[int]) -> BPETokenizer | RenumberedBPE:
    """The tokenizer whose token i has the id numbers[i]: the inner one itself if these are 0, 1, 2, ..."""
    return inner if list(numbers) == list(range(inner.vocab_size)) else RenumberedBPE(inner, numbers)
