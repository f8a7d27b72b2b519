"""Byte-pair encoding over bytes, as in GPT-2: any text can be written, and frequent strings become single tokens.

A text is cut into pieces (words with their blank, numbers, signs, blanks). In each piece the learned merges are applied, the
earliest first. `encode_piece` is that sentence in Python; `encode_readable` does the same without trying what cannot happen;
`encode` gives the same ids through tiktoken's engine, built from our tokens, wherever the engine can be trusted.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tiktoken

from minilm.text.bpe_merge import merge_long, merge_short
from minilm.text.bpe_pieces import GPT2_PATTERN, cutter
from minilm.text.bpe_train import LONGEST, Merge, Pair, merge_pair, train_bpe
from minilm.text.tokenizer import END_OF_TEXT, Tokenizer, utf8

BLOCK = 200  # characters; pieces of twice as many are long
SHORT = 60  # bytes of a piece, up to which the simpler way of merging is the faster one
CACHE_SIZE, CACHED_LENGTH = 50_000, 100  # pieces whose ids are remembered, and characters in the longest of them
STREAM_BLOCK = 65_536  # characters that a stream gathers before it encodes them
UNSETTLED = 2  # characters at the end of a stream that may yet be cut otherwise: 'l is two pieces, 'll is one


def encode_piece(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    """The ids of one piece: apply the merges in the order in which they were learned, each from left to right.

    Ids 0..255 are the bytes, merge i makes 256 + i.

    >>> encode_piece(b"abac", [(97, 98), (256, 97)])
    [257, 99]
    """
    ids = list(piece)
    for i, pair in enumerate(merges):
        ids = merge_pair(ids, pair, 256 + i)
    return ids


class BPETokenizer(Tokenizer):
    """Ids 0..255 are the bytes, then one for each merge, then the special tokens."""

    kind = "bpe"

    def __init__(
        self, merges: Sequence[Pair], specials: Sequence[str] = (END_OF_TEXT,), pattern: str = GPT2_PATTERN
    ) -> None:
        pieces = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            if not (0 <= left < len(pieces) and 0 <= right < len(pieces)):
                raise ValueError(
                    f"merge ({left}, {right}) uses a token that does not exist yet: there are {len(pieces)} before it"
                )
            pieces.append(pieces[left] + pieces[right])
            if len(pieces[-1]) > LONGEST:
                raise ValueError(
                    f"merge ({left}, {right}) makes {len(pieces[-1])} bytes: a token has at most {LONGEST}"
                )
        self.ranks = {piece: i for i, piece in enumerate(pieces)}
        if len(self.ranks) != len(pieces):
            raise ValueError("two merges make the same token: a vocabulary needs each only once")
        super().__init__(pieces, specials)
        self.merges, self.pattern = [(int(left), int(right)) for left, right in merges], pattern
        self.made = {pair: 256 + i for i, pair in enumerate(self.merges)}
        self.cut = cutter(pattern)
        self.cache: dict[str, list[int]] = {}
        # The engine joins whatever makes a token, and takes a piece that is a token as it is. That leads to the same ids if the
        # merges lead from the bytes of every token to that token, as they do after training.
        self.reachable = all(len(merge_long(piece, self.made)) == 1 for piece in pieces)
        # Another pattern may mean something else to the engine, or end the process: it gets only the one we have tested.
        self.engine: Any = None
        if pattern == GPT2_PATTERN and self.reachable:
            self.engine = tiktoken.Encoding("minilm", pat_str=pattern, mergeable_ranks=self.ranks, special_tokens={})

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int = 1024,
        specials: Sequence[str] = (END_OF_TEXT,),
        pattern: str = GPT2_PATTERN,
        min_frequency: int = 1,
        processes: int = 1,
        on_merge: Callable[[Merge], object] | None = None,
    ) -> "BPETokenizer":
        """Learn vocab_size - 256 - len(specials) merges from documents (fewer if no pair occurs min_frequency times).

        The documents may be a stream of any length. More processes help with many millions of characters. `on_merge` is
        called with each merge, its count and its bytes.
        """
        n_merges = vocab_size - 256 - len(specials)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size is {vocab_size}: it must be at least {256 + len(specials)} (bytes and special tokens)"
            )
        return cls(train_bpe(documents, n_merges, pattern, min_frequency, processes, on_merge), specials, pattern)

    def encode(self, text: str) -> list[int]:
        """text -> ids, fast. Equal to `encode_readable` by test. ValueError if the text holds a lone surrogate."""
        utf8(text)
        if self.engine is None or may_hold_long_piece(text) or holds_unassigned(text):
            return self.encode_readable(text)
        return self.engine.encode_ordinary(text)

    def encode_readable(self, text: str) -> list[int]:
        """text -> ids: cut into pieces, merge inside each, remember what was done."""
        return self.encode_pieces(self.cut(text))

    def encode_stream(self, chunks: Iterable[str]) -> Iterator[int]:
        """The ids of the joined chunks, wherever these were cut, while no more than some blocks of text are in memory.

        That holds for GPT-2's pattern, and a piece longer than a block is held whole. Another pattern may look ahead as far
        as it likes, so there the whole text is gathered first.
        """
        if self.pattern != GPT2_PATTERN:
            yield from self.encode("".join(chunks))
            return
        waiting: list[str] = []
        size, enough = 0, STREAM_BLOCK
        for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size < enough:
                continue
            pieces, rest = self.cut("".join(waiting)), ""
            while pieces and len(rest) < UNSETTLED:
                rest = pieces.pop() + rest
            yield from self.encode_pieces(pieces)
            waiting, size = [rest], len(rest)
            enough = max(STREAM_BLOCK, 2 * size)  # or a piece without end would be read anew with every chunk
        yield from self.encode("".join(waiting))

    def encode_pieces(self, pieces: Iterable[str]) -> list[int]:
        """The ids of pieces that are cut already."""
        ids: list[int] = []
        cache = self.cache
        for piece in pieces:
            known = cache.get(piece)
            if known is None:
                known = self.merge_bytes(utf8(piece))
                if len(cache) < CACHE_SIZE and len(piece) <= CACHED_LENGTH:
                    cache[piece] = known
            ids += known
        return ids

    def merge_bytes(self, piece: bytes) -> list[int]:
        """The ids of one piece, as `encode_piece` gives them."""
        if self.reachable and piece in self.ranks:
            return [self.ranks[piece]]
        return (merge_short if len(piece) <= SHORT else merge_long)(piece, self.made)

    def to_dict(self) -> dict[str, Any]:
        merges = [list(pair) for pair in self.merges]
        return {"kind": self.kind, "pattern": self.pattern, "specials": list(self.special_tokens), "merges": merges}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "BPETokenizer":
        merges = [(left, right) for left, right in table["merges"]]
        if not all(type(part) is int for pair in merges for part in pair):
            raise TypeError("merges must be pairs of whole numbers")
        return cls(merges, table["specials"], table["pattern"])


def may_hold_long_piece(text: str) -> bool:
    """Whether a piece of 2 BLOCK characters or more is possible; in those the engine's time grows with the square of the length.

    A piece is all blanks, or has none but its first character. So a long one covers a whole block without a gap inside.
    """
    if any(sign in text for sign in "\x1c\x1d\x1e\x1f"):  # blanks for Python, signs for the pattern
        return True
    starts = range(0, len(text) - BLOCK + 1, BLOCK)
    return any(len(text[start : start + BLOCK].split(None, 1)) < 2 for start in starts)


def holds_unassigned(text: str) -> bool:
    """Whether a character is newer than this Python's Unicode: the engine's may not yet know it as a letter, `regex` may."""
    return not text.isascii() and any(unicodedata.category(character) == "Cn" for character in set(text))
