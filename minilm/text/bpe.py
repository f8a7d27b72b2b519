"""Byte-pair encoding over bytes, as in GPT-2: any text can be written, and frequent strings become single tokens.

A text is cut into pieces (words with their blank, numbers, signs, blanks). In each piece the two neighbours whose joined bytes
are the token with the lowest id are merged, until no two neighbours make a token. `encode_readable` is that sentence in Python;
`encode` gives the same ids through tiktoken's engine, built from our tokens, wherever the engine can be trusted.
"""

import heapq
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import regex
import tiktoken

from minilm.text.bpe_train import Pair, merge_pair, train_bpe
from minilm.text.tokenizer import END_OF_TEXT, Tokenizer, utf8

# How GPT-2 cuts a text (Radford et al. 2019): English contractions, then words, numbers and signs with the blank before them.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

BLOCK = 200  # characters; pieces of twice as many are long
CACHE_SIZE, CACHED_LENGTH = 50_000, 100  # pieces whose ids are remembered, and characters in the longest of them


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
        self.ranks = {piece: i for i, piece in enumerate(pieces)}
        if len(self.ranks) != len(pieces):
            raise ValueError("two merges make the same token: a vocabulary needs each only once")
        super().__init__(pieces, specials)
        self.merges, self.pattern = [(int(left), int(right)) for left, right in merges], pattern
        self.split = compile_pattern(pattern)
        self.cache: dict[str, list[int]] = {}
        # The engine takes a piece that is a token as it is, even where the merges would not lead to it.
        self.unreachable = [piece for piece in pieces if len(self.merge_bytes(piece)) > 1]
        # Another pattern may mean something else to the engine, or end the process: it gets only the one we have tested.
        self.engine: Any = None
        if pattern == GPT2_PATTERN and not self.unreachable:
            self.engine = tiktoken.Encoding("minilm", pat_str=pattern, mergeable_ranks=self.ranks, special_tokens={})

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int = 1024,
        specials: Sequence[str] = (END_OF_TEXT,),
        pattern: str = GPT2_PATTERN,
    ) -> "BPETokenizer":
        """Learn vocab_size - 256 - len(specials) merges from documents (fewer if the text holds no more pairs)."""
        n_merges = vocab_size - 256 - len(specials)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size is {vocab_size}: it must be at least {256 + len(specials)} (bytes and special tokens)"
            )
        return cls(train_bpe(documents, n_merges, pattern), specials, pattern)

    def encode(self, text: str) -> list[int]:
        """text -> ids, fast. Equal to `encode_readable` by test. ValueError if the text holds a lone surrogate."""
        utf8(text)
        if self.engine is None or may_hold_long_piece(text) or holds_unassigned(text):
            return self.encode_readable(text)
        return self.engine.encode_ordinary(text)

    def encode_readable(self, text: str) -> list[int]:
        """text -> ids: cut into pieces, merge inside each, remember what was done."""
        ids: list[int] = []
        for piece in self.split.findall(text):
            known = self.cache.get(piece)
            if known is None:
                known = self.merge_bytes(utf8(piece))
                if len(self.cache) < CACHE_SIZE and len(piece) <= CACHED_LENGTH:
                    self.cache[piece] = known
            ids += known
        return ids

    def merge_bytes(self, piece: bytes) -> list[int]:
        """The ids of one piece: merge the neighbours that make the lowest token, the leftmost first, until none is left.

        A chain of neighbours and a heap of possible merges keep the time at n log n, also for a million equal characters.
        """
        parts: list[bytes] = [piece[i : i + 1] for i in range(len(piece))]
        after = list(range(1, len(parts) + 1))
        before = list(range(-1, len(parts) - 1))
        # What a heap entry holds: the token that a merge makes, the place of its left part, the token's length.
        heap: list[tuple[int, int, int]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(parts):
                joined = parts[left] + parts[right]
                if joined in self.ranks:
                    heapq.heappush(heap, (self.ranks[joined], left, len(joined)))

        for left in range(len(parts) - 1):
            offer(left, left + 1)
        while heap:
            _, left, length = heapq.heappop(heap)
            right = after[left]
            if not parts[left] or right >= len(parts) or len(parts[left]) + len(parts[right]) != length:
                continue  # one of the two has been merged with another since
            parts[left], parts[right] = parts[left] + parts[right], b""
            after[left] = after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [self.ranks[part] for part in parts if part]

    def to_dict(self) -> dict[str, Any]:
        merges = [list(pair) for pair in self.merges]
        return {"kind": self.kind, "pattern": self.pattern, "specials": list(self.special_tokens), "merges": merges}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "BPETokenizer":
        merges = [(left, right) for left, right in table["merges"]]
        if not all(type(part) is int for pair in merges for part in pair):
            raise TypeError("merges must be pairs of whole numbers")
        return cls(merges, table["specials"], table["pattern"])


def encode_piece(piece: bytes, merges: Sequence[Pair]) -> list[int]:
    """The ids of one piece: apply the merges in the order in which they were learned, each from left to right.

    Ids 0..255 are the bytes, merge i makes 256 + i.

    >>> encode_piece(b"abab", [(97, 98), (256, 97)])
    [257, 98]
    """
    ids = list(piece)
    for i, pair in enumerate(merges):
        ids = merge_pair(ids, pair, 256 + i)
    return ids


def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """The pattern, ready to cut; ValueError if it is none, or if pieces would get lost (groups) or be empty."""
    try:
        split = regex.compile(pattern)
    except (regex.error, TypeError) as error:
        raise ValueError(f"{pattern!r} is not a pattern that cuts text: {error}") from None
    if split.groups or split.match(""):
        raise ValueError(f"pattern {pattern!r} must not match the empty text, and its groups must be (?:...)")
    return split


def may_hold_long_piece(text: str) -> bool:
    """Whether a piece of 2 BLOCK characters or more is possible; in those the engine's time grows with the square of the length.

    A piece is all blanks, or has none but its first character. So a long one covers a whole block without a gap inside.
    """
    starts = range(0, len(text) - BLOCK + 1, BLOCK)
    return any(len(text[start : start + BLOCK].split(None, 1)) < 2 for start in starts)


def holds_unassigned(text: str) -> bool:
    """Whether a character is newer than this Python's Unicode: the engine's may not yet know it as a letter, `regex` may."""
    return not text.isascii() and any(unicodedata.category(character) == "Cn" for character in set(text))
