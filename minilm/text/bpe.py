"""Byte-pair encoding over bytes, as in GPT-2: any text can be written, and frequent strings become single tokens.

A text is cut into pieces (words with their blank, numbers, signs, blanks). In each piece the two neighbours whose joined bytes
are the token with the lowest id are merged, until no two neighbours make a token. `encode_readable` is that sentence in Python;
`encode` gives the same ids through tiktoken's engine, built from our tokens.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import regex
import tiktoken

from minilm.text.bpe_train import Pair, train_bpe
from minilm.text.tokenizer import END_OF_TEXT, Tokenizer, utf8

# How GPT-2 cuts a text (Radford et al. 2019): English contractions, then words, numbers and signs with the blank before them.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# A piece is all blanks or has none but the first. In long ones the engine's time grows with the square of the length.
LONG_PIECE = regex.compile(r"\S{400}|\s{400}")
CACHE_SIZE = 50_000  # pieces whose ids are remembered


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
                    f"merge ({left}, {right}) uses a token that does not exist yet: there are {len(pieces)}"
                )
            pieces.append(pieces[left] + pieces[right])
        self.ranks = {piece: i for i, piece in enumerate(pieces)}
        if len(self.ranks) != len(pieces):
            raise ValueError("two merges make the same token: a vocabulary needs each only once")
        super().__init__(pieces, specials)
        self.merges, self.pattern = [(int(left), int(right)) for left, right in merges], pattern
        self.split = regex.compile(pattern)
        self.cache: dict[str, list[int]] = {}
        self.engine = tiktoken.Encoding("minilm", pat_str=pattern, mergeable_ranks=self.ranks, special_tokens={})
        # The engine takes a piece that is a token as it is, even where the merges would not lead to it.
        self.unreachable = [piece for piece in pieces if len(self.merge_bytes(piece)) > 1]

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
        """text -> ids, fast. Equal to `encode_readable` by test."""
        utf8(text)
        if self.unreachable or LONG_PIECE.search(text):
            return self.encode_readable(text)
        return self.engine.encode_ordinary(text)

    def encode_readable(self, text: str) -> list[int]:
        """text -> ids: cut into pieces, merge inside each, remember what was done."""
        ids: list[int] = []
        for piece in self.split.findall(text):
            known = self.cache.get(piece)
            if known is None:
                known = self.merge_bytes(utf8(piece))
                if len(self.cache) < CACHE_SIZE:
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
        heap: list[
            tuple[int, int, int]
        ] = []  # (token that the merge makes, place of the left part, length of the token)

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
        merges = [(int(left), int(right)) for left, right in table["merges"]]
        return cls(merges, table["specials"], table["pattern"])
