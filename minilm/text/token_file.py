"""Token ids on disk: encoded once, then read through the memory map, so that a corpus may be larger than the memory.

Layout: one line of JSON (what the ids are, and which tokenizer made them), a newline, then the ids as little-endian uint16 or
uint32. Each document begins with <|endoftext|>. The line holds the SHA-256 of the ids and that of its own other fields: a
changed line is seen when the file is opened, a changed id by `verify_token_file`, which reads them all.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilm.runtime import whole_file
from minilm.text.tokenizer import Tokenizer, utf8

MAGIC = "minilm-tokens-2"
HEADER = 512  # bytes, padded with blanks: the counts are only known after the ids are written


@dataclass(frozen=True)
class TokenFile:
    """A corpus as ids (N,) of uint16 or uint32, and how much text they stand for."""

    ids: np.ndarray
    n_documents: int
    n_bytes: int  # UTF-8 bytes of the original text
    vocab_size: int
    fingerprint: str  # of the tokenizer

    @property
    def n_tokens(self) -> int:
        """Number of ids, the <|endoftext|> before each document included."""
        return len(self.ids)


def id_type(vocab_size: int) -> np.dtype:
    """The smallest type that holds every id: uint16 up to 65,536 tokens, then uint32."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def encode_document(document: str, tokenizer: Tokenizer) -> np.ndarray:
    """<|endoftext|> and the ids of one document. ValueError if the ids do not stand for exactly its bytes."""
    ids = tokenizer.encode(document)
    if tokenizer.decode_bytes(ids) != utf8(document):
        raise ValueError(
            f"the {tokenizer.kind} tokenizer does not give back the text it was given: its bits per byte would lie"
        )
    return np.array([tokenizer.end_of_text, *ids], dtype=id_type(tokenizer.vocab_size))


def encode_corpus(documents: Iterable[str], tokenizer: Tokenizer, path: str | Path | None = None) -> TokenFile:
    """Encode documents, in memory or (with a path) into a file, one document at a time. The file appears whole or not at all."""
    if path is None:
        parts, n_bytes = [], 0
        for document in documents:
            parts.append(encode_document(document, tokenizer))
            n_bytes += len(utf8(document))
        ids = np.concatenate(parts) if parts else np.empty(0, id_type(tokenizer.vocab_size))
        return TokenFile(ids, len(parts), n_bytes, tokenizer.vocab_size, tokenizer.fingerprint)
    counts, digest = {"n_tokens": 0, "n_documents": 0, "n_bytes": 0}, hashlib.sha256()
    with whole_file(path) as unfinished, open(unfinished, "wb") as file:
        file.write(b" " * HEADER)
        for document in documents:
            ids = encode_document(document, tokenizer)
            file.write(ids.tobytes())
            digest.update(ids.tobytes())
            counts["n_tokens"] += len(ids)
            counts["n_documents"] += 1
            counts["n_bytes"] += len(utf8(document))
        kind = {"dtype": id_type(tokenizer.vocab_size).str, "fingerprint": tokenizer.fingerprint}
        fields = {
            "magic": MAGIC,
            **counts,
            "vocab_size": tokenizer.vocab_size,
            **kind,
            "ids_sha256": digest.hexdigest(),
        }
        file.seek(0)
        file.write(header_line(fields))
    return open_token_file(path, tokenizer)


def header_line(fields: Mapping[str, Any]) -> bytes:
    """The first HEADER bytes of a file: its fields, their SHA-256, blanks and a newline."""
    digest = hashlib.sha256(json.dumps(dict(fields)).encode()).hexdigest()
    return json.dumps({**fields, "fields_sha256": digest}).encode().ljust(HEADER - 1) + b"\n"


def open_token_file(path: str | Path, tokenizer: Tokenizer | None = None) -> TokenFile:
    """The ids of a token file, memory-mapped. ValueError if it is foreign, cut off, or made with another tokenizer."""
    header = read_header(path)
    vocab_size, fingerprint, n_tokens = header["vocab_size"], header["fingerprint"], header["n_tokens"]
    dtype = id_type(vocab_size)
    expected = HEADER + n_tokens * dtype.itemsize
    if os.path.getsize(path) != expected:
        raise ValueError(
            f"{path} has {os.path.getsize(path)} bytes, its header says {expected}: encode the corpus again"
        )
    if tokenizer is not None and fingerprint != tokenizer.fingerprint:
        raise ValueError(f"{path} was made with another tokenizer: encode the corpus again")
    ids = np.memmap(path, dtype, "r", HEADER, (n_tokens,)) if n_tokens else np.empty(0, dtype)
    return TokenFile(ids, header["n_documents"], header["n_bytes"], vocab_size, fingerprint)


def read_header(path: str | Path) -> dict[str, Any]:
    """The fields of a file's first line; ValueError if they are not the bytes that were written, or cannot be."""
    with open(path, "rb") as file:
        line = file.read(HEADER)
    try:
        header = json.loads(line)
        fields = {name: value for name, value in header.items() if name != "fields_sha256"}
        vocab_size = fields["vocab_size"]
        numbers = (vocab_size, fields["n_tokens"], fields["n_documents"], fields["n_bytes"])
        if any(type(number) is not int or number < 0 for number in numbers) or vocab_size == 0:
            raise ValueError
        given = (line, fields["magic"], fields["dtype"], type(fields["fingerprint"]), type(fields["ids_sha256"]))
        if given != (header_line(fields), MAGIC, id_type(vocab_size).str, str, str):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path} is not a token file of this version, or was changed: encode the corpus again"
        ) from None
    return fields


def verify_token_file(path: str | Path, tokenizer: Tokenizer | None = None) -> TokenFile:
    """As `open_token_file`, and every id is read: ValueError if one is no longer what was written."""
    tokens = open_token_file(path, tokenizer)
    with open(path, "rb") as file:
        file.seek(HEADER)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != read_header(path)["ids_sha256"]:
        raise ValueError(f"{path} was changed after it was written (its SHA-256 differs): encode the corpus again")
    return tokens
