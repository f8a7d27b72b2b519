"""Read files as documents: plain text, `.gz`, `.jsonl`, folders and globs, of any size in little memory.

A file of text is one document. Of a `.jsonl` file every line is one: `{"text": "Once upon a time ..."}`. Nothing is
kept in memory: a document knows how to read its text again, and one over 16 MB is read in pieces of about 4 MB, cut at
a line end. The text stays as it is, CR LF too; only a byte order mark at the beginning is dropped.
"""

import codecs
import glob
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

from minilm.runtime import whole_file

WHOLE_BYTES = 16_000_000  # a document up to this size is read as one string
PIECE_BYTES = 4_000_000  # a larger one comes in pieces of at most this size
BLOCK_BYTES = 1 << 20
SUFFIXES = {".txt", ".md", ".jsonl"}  # what is read of a folder, packed with .gz or not


class CorpusError(ValueError):
    """A text that cannot be had or read: one line that says which, what is wrong, and what to do about it."""


@dataclass(frozen=True)
class Document:
    """One document: its UTF-8 size, a 64-bit hash of its content, and `pieces()`, which reads its text."""

    n_bytes: int
    digest: int
    pieces: Callable[[], Iterator[str]]


class Source(Protocol):
    """Where documents come from: a file, or a story world."""

    def documents(self) -> Iterator[Document]: ...


@dataclass(frozen=True)
class TextFile:
    """A file of text, read and checked once by `check_text`: one document."""

    path: Path
    n_bytes: int
    digest: int

    def documents(self) -> Iterator[Document]:
        yield Document(self.n_bytes, self.digest, partial(read_pieces, self.path, self.n_bytes))


@dataclass(frozen=True)
class JsonLines:
    """A file of JSON objects, one a line: the field "text" of each is a document. Empty ones do not count."""

    path: Path

    def documents(self) -> Iterator[Document]:
        for number, line in enumerate(read_lines(self.path), start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line.decode("utf-8"))["text"]
                text.encode("utf-8")  # half of a surrogate pair, "\ud83d", is JSON but no text
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise CorpusError(
                    f"line {number} of {shown(self.path)} is not a JSON object with a text ({type(error).__name__}): "
                    'write each line as {"text": "..."} in UTF-8'
                ) from error
            if text:
                yield text_document(text)


def check_new(path: Path) -> None:
    """Can documents be written there? To be asked before a long work, and by `write_json_lines` once more."""
    if path.suffix != ".jsonl":
        raise CorpusError(f"{shown(path)} does not end in .jsonl: a file of documents is told by its name")
    if path.exists():
        raise CorpusError(f"{shown(path)} is there already: name another file, nothing is ever overwritten")
    if not path.parent.is_dir():
        raise CorpusError(f"cannot write {shown(path)}: there is no folder {shown(path.parent)}")


def write_json_lines(path: Path, documents: Iterable[str]) -> None:
    """Write documents as a `.jsonl`, which `JsonLines` reads. It appears whole or not at all, and replaces no file."""
    check_new(path)
    try:
        with whole_file(path) as unfinished, unfinished.open("x", encoding="utf-8", newline="\n") as file:
            for document in documents:
                file.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    except OSError as error:
        raise CorpusError(f"cannot write {shown(path)} ({error.strerror}): check the folder and its space") from error


def text_document(text: str) -> Document:
    """A document whose text is at hand."""
    data = text.encode("utf-8")
    return Document(len(data), content_hash(hashlib.sha256(data).digest()), partial(iter, (text,)))


def content_hash(sha256: bytes) -> int:
    """The first 64 bits of a SHA-256. Should two documents ever share them, they only share a side of the split."""
    return int.from_bytes(sha256[:8], "big")


def open_sources(name: str) -> list[Source]:
    """The documents of a file, a folder or a glob. In a folder or glob empty files do not count."""
    sources: list[Source] = []
    for path in find_files(name):
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            sources.append(JsonLines(path))
        elif (file := check_text(path)).n_bytes:
            sources.append(file)
    return sources


def find_files(name: str) -> list[Path]:
    """The files that a path names, sorted: the file itself, all text in the folder, or the matches of the glob."""
    path = Path(name)
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            found = [file for file in path.rglob("*") if wanted(file.relative_to(path))]
            remedy = f"put files that end in {', '.join(sorted(SUFFIXES))} into it, packed with .gz or not"
        elif path.exists():
            raise CorpusError(f"{shown(name)} is neither a file nor a folder: copy its content to a file first")
        elif glob.has_magic(name):
            found = [Path(match) for match in glob.glob(name, recursive=True)]
            remedy = "check the pattern; ** matches folders in folders"
        else:
            raise CorpusError(
                f"no corpus, file or folder is called {shown(name)}: check the path, or use shakespeare, stories or "
                "stories:50000"
            )
        files = sorted((file for file in found if file.is_file()), key=Path.as_posix)
    except OSError as error:
        raise CorpusError(
            f"cannot open {shown(name)} ({error.strerror}): check the path and its permissions"
        ) from error
    if not files:
        raise CorpusError(f"no text file matches {shown(name)}: {remedy}")
    return files


def wanted(path: Path) -> bool:
    """Does a folder's file count as text? `poems/a.txt`, `b.md.gz` do, `.git/a.txt` and `photo.png` do not."""
    inner = path.with_suffix("") if path.suffix == ".gz" else path
    return inner.suffix in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def check_text(path: Path) -> TextFile:
    """Read a file once, a block at a time: is it UTF-8 text, how long is it, what is its hash?"""
    decoder = codecs.getincrementaldecoder("utf-8")()
    state, n_bytes = hashlib.sha256(), 0
    for block in chain(read_blocks(path), [b""]):
        if b"\0" in block:
            raise CorpusError(
                f"{shown(path)} is not text (a zero byte at offset {n_bytes + block.index(0)}): "
                "give a text file, saved as UTF-8"
            )
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:  # error.object: what the block before left unfinished, then this block
            offset = n_bytes + len(block) - len(error.object) + error.start
            raise CorpusError(
                f"{shown(path)} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {offset}): "
                "save it as UTF-8, for example with iconv"
            ) from error
        state.update(block)
        n_bytes += len(block)
    return TextFile(path, n_bytes, content_hash(state.digest()))


def read_blocks(path: Path) -> Iterator[bytes]:
    """The content of a file, unpacked if it ends in `.gz`, without a byte order mark, 1 MB at a time."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            block = file.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8)
            while block:
                yield block
                block = file.read(BLOCK_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{shown(path)} is damaged or was not packed by gzip ({error}): pack it again") from error
    except OSError as error:
        raise CorpusError(
            f"cannot read {shown(path)} ({error.strerror}): check the file and its permissions"
        ) from error


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends."""
    rest = b""
    for block in read_blocks(path):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def read_pieces(path: Path, n_bytes: int) -> Iterator[str]:
    """The text of a file of `n_bytes`: one string up to 16 MB, else pieces of at most 4 MB that join to the whole."""
    limit = n_bytes if n_bytes <= WHOLE_BYTES else PIECE_BYTES
    waiting = bytearray()
    for block in read_blocks(path):
        waiting += block
        while len(waiting) > limit:
            end = cut_point(waiting, limit // 2, limit)
            yield waiting[:end].decode("utf-8")
            del waiting[:end]
    yield waiting.decode("utf-8")


def cut_point(data: bytes | bytearray, low: int, high: int) -> int:
    """Where to cut UTF-8 text, at `high < len(data)` or before: after the last line end in data[low:high], else after
    the last blank there, else between two characters.

        >>> cut_point(b"to be,\\nor not to be", 3, 12)
        7
    """
    if end := data.rfind(b"\n", low, high) + 1:
        return end
    if end := max(data.rfind(b" ", low, high), data.rfind(b"\t", low, high)) + 1:
        return end
    end = high
    while data[end] & 0xC0 == 0x80:  # 10xxxxxx goes on with a character that began before
        end -= 1
    return end - 1 if data[end - 1 : end + 1] == b"\r\n" else end


def shown(path: str | Path) -> str:
    """A path for an error message: quoted, on one line, its end when it is long."""
    text = str(path)
    return repr(text if len(text) <= 60 else "..." + text[-57:])
