"""Text <-> token ids: what every tokenizer offers, and the two simplest ones, characters and bytes.

Ids count up from 0; special tokens take the last ids. A special token is a signal to the model, never a piece of text: the
text "<|endoftext|>" encodes to ordinary tokens, so nothing that a user types can become a signal.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from minilm.runtime import whole_file

END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """A vocabulary of byte strings. token_bytes[id] is what a token stands for; a special one stands for its name."""

    kind: ClassVar[str]

    def __init__(self, pieces: Sequence[bytes], specials: Sequence[str] = (END_OF_TEXT,)) -> None:
        if END_OF_TEXT not in specials or len(set(specials)) != len(specials):
            raise ValueError(f"special tokens {list(specials)} must be different and include {END_OF_TEXT}")
        if not all(isinstance(name, str) and name for name in specials):
            raise ValueError(f"special tokens {list(specials)} must be texts of at least one character")
        self.special_tokens = {name: len(pieces) + i for i, name in enumerate(specials)}
        self.token_bytes = [*pieces, *(utf8(name) for name in specials)]

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self.token_bytes)

    @property
    def end_of_text(self) -> int:
        """The id that stands before every document."""
        return self.special_tokens[END_OF_TEXT]

    def encode(self, text: str) -> list[int]:
        """text -> ids. decode(encode(text)) == text for every text that is accepted."""
        raise NotImplementedError  # each kind of tokenizer has its own

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """ids -> the bytes they stand for. ValueError for an id outside the vocabulary."""
        ids = list(ids)
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            raise ValueError(f"ids lie in {min(ids)}..{max(ids)}, the tokenizer knows 0..{self.vocab_size - 1}")
        return b"".join(self.token_bytes[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """ids -> text. The bytes are joined first: one character may be spread over several tokens."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def with_specials(self, names: Iterable[str]) -> "Tokenizer":
        """This tokenizer with more special tokens, behind its last id: no old id changes. Those it has are passed over.

        >>> tokenizer = ByteTokenizer().with_specials(["<|endoftext|>", "<|user|>"])
        >>> tokenizer.special_tokens
        {'<|endoftext|>': 256, '<|user|>': 257}
        """
        new = [name for name in names if name not in self.special_tokens]
        return self.from_dict(self.to_dict() | {"specials": [*self.special_tokens, *new]}) if new else self

    def more_specials(self) -> dict[str, Any]:
        """The entry of `to_dict` for special tokens, none if <|endoftext|> is the only one: older descriptions stay true."""
        return {"specials": list(self.special_tokens)} if len(self.special_tokens) > 1 else {}

    def to_dict(self) -> dict[str, Any]:
        """All that makes this tokenizer, ready for JSON."""
        raise NotImplementedError  # each kind of tokenizer has its own

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that `to_dict` described."""
        raise NotImplementedError  # each kind of tokenizer has its own

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the description. Token files and checkpoints keep it, so that ids never meet the wrong vocabulary."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def save(self, path: str | Path) -> None:
        """Write the description as JSON. The file appears whole or not at all."""
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(self.to_dict(), sort_keys=True) + "\n", encoding="utf-8")


def utf8(text: str) -> bytes:
    """The UTF-8 bytes of a text; ValueError if it holds half a surrogate pair, which is no character."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds a lone surrogate at character {error.start}: it cannot be written as UTF-8"
        ) from None


class ByteTokenizer(Tokenizer):
    """Each of the 256 bytes is a token: no training, no unknown text, and long sequences."""

    kind = "byte"

    def __init__(self, specials: Sequence[str] = (END_OF_TEXT,)) -> None:
        super().__init__([bytes([i]) for i in range(256)], specials)

    def encode(self, text: str) -> list[int]:
        return list(utf8(text))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.more_specials()}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "ByteTokenizer":
        return cls(table.get("specials", (END_OF_TEXT,)))


class CharTokenizer(Tokenizer):
    """Each character of the training text is a token. A character that did not occur there is an error."""

    kind = "char"

    def __init__(self, characters: str, specials: Sequence[str] = (END_OF_TEXT,)) -> None:
        if list(characters) != sorted(set(characters)):
            raise ValueError("a character tokenizer needs its characters sorted, each once")
        super().__init__([utf8(character) for character in characters], specials)
        self.characters = characters
        self.ids = {character: i for i, character in enumerate(characters)}

    @classmethod
    def train(cls, documents: Iterable[str]) -> "CharTokenizer":
        """The tokenizer of all characters that occur."""
        found: set[str] = set()
        for document in documents:
            found.update(document)
        return cls("".join(sorted(found)))

    def encode(self, text: str) -> list[int]:
        try:
            return [self.ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"character {character!r} (U+{ord(character):04X}) was not in the training text: use a bpe or byte tokenizer"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters, **self.more_specials()}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "CharTokenizer":
        if not isinstance(table["characters"], str):
            raise TypeError("characters must be a string")
        return cls(table["characters"], table.get("specials", (END_OF_TEXT,)))


class StreamDecoder:
    """Text from tokens one at a time: what is fed comes out as soon as its characters are whole.

    >>> decoder = StreamDecoder(ByteTokenizer())
    >>> [decoder.feed(i) for i in "é!".encode()]
    ['', 'é', '!']
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The characters that this token completes; often one word, sometimes nothing."""
        return self.decoder.decode(self.tokenizer.decode_bytes([token]))

    def flush(self) -> str:
        """What is left at the end: U+FFFD if the text stopped inside a character."""
        return self.decoder.decode(b"", final=True)


def tokenizer_from_dict(table: dict[str, Any]) -> Tokenizer:
    """The tokenizer that a `to_dict` described; ValueError if the description is not one."""
    from minilm.text.bpe import BPETokenizer  # which itself stands on this file
    from minilm.text.bpe_renumbered import RenumberedBPE

    known: list[type[Tokenizer]] = [BPETokenizer, ByteTokenizer, CharTokenizer, RenumberedBPE]
    kinds = {kind.kind: kind for kind in known}
    if not isinstance(table, dict) or str(table.get("kind")) not in kinds:
        raise ValueError(f"this is not the description of a tokenizer of kind {', '.join(sorted(kinds))}")
    try:
        return kinds[table["kind"]].from_dict(table)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the description of this {table['kind']} tokenizer is incomplete: {error!r}") from None


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at this path; ValueError in one line if the file holds none."""
    try:
        return tokenizer_from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # also what json and a wrong encoding raise
        raise ValueError(f"{path} is not a tokenizer file: {error}") from None
