"""Token ids on disk: encoded once, then read through the memory map, so that a corpus may be larger than the memory.

Layout: one line of JSON (what the ids are, and which tokenizer made them), a newline, then the ids as little-endian uint16 or
uint32. Each document begins with <|endoftext|>.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minilm.runtime import whole_file
from minilm.text.tokenizer import Tokenizer, utf8

MAGIC = "minilm-tokens-1"
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
    counts = {"n_tokens": 0, "n_documents": 0, "n_bytes": 0}
    with whole_file(path) as unfinished, open(unfinished, "wb") as file:
        file.write(b" " * HEADER)
        for document in documents:
            ids = encode_document(document, tokenizer)
            file.write(ids.tobytes())
            counts["n_tokens"] += len(ids)
            counts["n_documents"] += 1
            counts["n_bytes"] += len(utf8(document))
        kind = {"dtype": id_type(tokenizer.vocab_size).str, "fingerprint": tokenizer.fingerprint}
        header = {"magic": MAGIC, **counts, "vocab_size": tokenizer.vocab_size, **kind}
        file.seek(0)
        file.write(json.dumps(header).encode().ljust(HEADER - 1) + b"\n")
    return open_token_file(path, tokenizer)


def open_token_file(path: str | Path, tokenizer: Tokenizer | None = None) -> TokenFile:
    """The ids of a token file, memory-mapped. ValueError if it is foreign, cut off, or made with another tokenizer."""
    with open(path, "rb") as file:
        line = file.read(HEADER)
    try:
        header = json.loads(line)
        if header["magic"] != MAGIC:
            raise ValueError
        vocab_size, fingerprint, n_tokens = header["vocab_size"], header["fingerprint"], header["n_tokens"]
        dtype, n_documents, n_bytes = id_type(vocab_size), header["n_documents"], header["n_bytes"]
        numbers = (vocab_size, n_tokens, n_documents, n_bytes)
        if header["dtype"] != dtype.str or any(type(n) is not int or n < 0 for n in numbers) or vocab_size == 0:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a token file of this version: encode the corpus again") from None
    expected = HEADER + n_tokens * dtype.itemsize
    if os.path.getsize(path) != expected:
        raise ValueError(
            f"{path} has {os.path.getsize(path)} bytes, its header says {expected}: encode the corpus again"
        )
    if tokenizer is not None and fingerprint != tokenizer.fingerprint:
        raise ValueError(f"{path} was made with another tokenizer: encode the corpus again")
    ids = np.memmap(path, dtype, "r", HEADER, (n_tokens,)) if n_tokens else np.empty(0, dtype)
    return TokenFile(ids, n_documents, n_bytes, vocab_size, fingerprint)
