"""A corpus: named texts or the user's files, split by document into training and validation before anything else.

    >>> corpus = load_corpus("shakespeare")  # or "stories", "stories:50000", "book.txt", "folder", "*.md", "a.jsonl.gz"
    >>> next(iter(corpus.validation))[:20]
    'ANTONY AND CLEOPATRA'

A validation text must be new to the model, so no document is on both sides. What goes where depends on the documents'
contents and the seed, never on names or on the order in which a disk lists files.
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from minilm.runtime import minilm_home
from minilm.text.documents import (
    CorpusError,
    Document,
    Source,
    check_text,
    cut_point,
    open_sources,
    shown,
    text_document,
)
from minilm.text.fetch import Progress, fetch_shakespeare
from minilm.text.stories import stories

N_STORIES, REMEMBERED_STORIES, MAX_STORIES = 20_000, 50_000, 10_000_000
MIN_CORPUS_BYTES = 200
MIN_DOCUMENTS = 20  # fewer are not split by document
LONG_WORK_BYTES = 20_000


@dataclass(frozen=True)
class Corpus:
    """Two sides, each an iterable of documents (`str`) that can be read again and again; a file is not held in memory."""

    name: str
    train: Iterable[str]
    validation: Iterable[str]


def load_corpus(
    name_or_path: str | Path, *, seed: int = 0, home: str | Path | None = None, progress: Progress | None = None
) -> Corpus:
    """A named corpus, a file, a folder or a glob -> its training and validation documents.

    The seed picks the split and the stories, so a model is trained and evaluated with the same one. Named corpora are
    kept under `home/data`; `progress` is called with a line before a download. Raises CorpusError, a ValueError, with
    one line that says what is wrong and what to do.
    """
    name, sources = str(name_or_path), find_sources(name_or_path, seed, home, progress)
    digests, sizes = array("Q"), array("Q")
    for source in sources:
        for document in source.documents():
            digests.append(document.digest)
            sizes.append(document.n_bytes)
    if sum(sizes) < MIN_CORPUS_BYTES:
        raise CorpusError(
            f"{shown(name)} holds {sum(sizes)} bytes of text: give at least {MIN_CORPUS_BYTES}, better 100,000"
        )
    split = choose_split(np.array(digests), np.array(sizes), seed)
    return Corpus(name, Side(sources, split, False), Side(sources, split, True))


def find_sources(
    name_or_path: str | Path, seed: int = 0, home: str | Path | None = None, progress: Progress | None = None
) -> tuple[Source, ...]:
    """Where the documents of a named corpus, a file, a folder or a glob come from."""
    if name_or_path == "shakespeare":
        return tuple(check_text(path) for path in fetch_shakespeare(Path(home or minilm_home()), progress))
    if isinstance(name_or_path, str) and re.match(r"stories(:|$)", name_or_path):
        return (StoryDocuments(stories_wanted(name_or_path), seed),)
    return tuple(open_sources(str(name_or_path)))


@dataclass(frozen=True)
class Documents:
    """All documents of the sources, before any split; each `iter()` reads them again. Over 16 MB they come in pieces."""

    sources: tuple[Source, ...]

    def __iter__(self) -> Iterator[str]:
        for source in self.sources:
            for document in source.documents():
                yield from document.pieces()


@dataclass(frozen=True)
class StoryDocuments:
    """`n` stories of the story world: remembered up to 50,000 (40 MB), else told anew at each reading."""

    n: int
    seed: int

    def documents(self) -> Iterator[Document]:
        tell = remembered_stories if self.n <= REMEMBERED_STORIES else stories
        return map(text_document, tell(self.n, self.seed))


@lru_cache(maxsize=1)
def remembered_stories(n: int, seed: int) -> tuple[str, ...]:
    """Told once, in seconds; a corpus is read several times, by the tokenizer, the encoder and the evaluation."""
    return tuple(stories(n, seed))


def stories_wanted(name: str) -> int:
    """ "stories" -> 20,000, "stories:50000" -> 50,000."""
    _, colon, number = name.partition(":")
    if not colon:
        return N_STORIES
    if not re.fullmatch(r"[0-9]{1,8}", number) or not 1 <= int(number) <= MAX_STORIES:
        raise CorpusError(f"{shown(name)}: the number of stories must be from 1 to {MAX_STORIES}, as in stories:50000")
    return int(number)


# ---- the split


@dataclass(frozen=True)
class HashSplit:
    """Whole documents: those whose rank is at most `cutoff` are validation, unless short or giant ones must stay."""

    seed: int
    cutoff: int
    min_bytes: int
    giants: frozenset[int]

    def part(self, document: Document, validation: bool) -> Iterator[str]:
        chosen = (
            document.n_bytes >= self.min_bytes
            and document.digest not in self.giants
            and rank(document.digest, self.seed) <= self.cutoff
        )
        if chosen == validation:
            yield from document.pieces()


@dataclass(frozen=True)
class TailSplit:
    """The last tenth of each document is validation: up to a fifth, where the last line end before it is that far."""

    def part(self, document: Document, validation: bool) -> Iterator[str]:
        tenth = document.n_bytes // 10
        left = document.n_bytes - tenth  # bytes from here to the cut
        for piece in document.pieces():
            data = piece.encode("utf-8")
            if 0 < left < len(data):
                end = cut_point(data, max(0, left - tenth), left)
                if part := data[end:] if validation else data[:end]:
                    yield part.decode("utf-8")
            elif validation == (left <= 0):
                yield piece
            left -= len(data)


Split = HashSplit | TailSplit


@dataclass(frozen=True)
class Side:
    """The documents of one side of the split; each `iter()` reads them again."""

    sources: tuple[Source, ...]
    split: Split
    validation: bool

    def __iter__(self) -> Iterator[str]:
        for source in self.sources:
            for document in source.documents():
                yield from self.split.part(document, self.validation)


def rank(digest: int, seed: int) -> int:
    """A document's place in the order that decides the split: a hash of its content and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {digest}".encode()).digest()[:8], "big")


def choose_split(digests: np.ndarray, sizes: np.ndarray, seed: int) -> Split:
    """Content hashes and sizes of all documents -> the split.

    Twenty or more different documents: in the order of their ranks they become validation until it holds a tenth of the
    bytes. Equal documents go together. Two kinds stay in training: what holds more than a tenth of the bytes by itself,
    and, where works over 20 kB hold half of the bytes or more, works under 20 kB: a sonnet says little about plays.
    Fewer documents, or nine tenths of the bytes in a few giants: the last tenth of each, cut at a line end.
    """
    different, first, group_of = np.unique(digests, return_index=True, return_inverse=True)
    if len(different) < MIN_DOCUMENTS:
        return TailSplit()
    weights = np.bincount(group_of, weights=sizes)  # bytes of each document with its copies
    tenth = weights.sum() / 10
    may_leave = weights <= tenth
    long = may_leave & (sizes[first] >= LONG_WORK_BYTES)
    min_bytes = LONG_WORK_BYTES if weights[long].sum() >= weights.sum() / 2 else 0
    eligible = long if min_bytes else may_leave
    if weights[eligible].sum() < tenth:
        return TailSplit()
    ranks = np.array([rank(digest, seed) for digest in different[eligible].tolist()], dtype=np.uint64)
    order = np.argsort(ranks)
    filled = np.cumsum(weights[eligible][order])
    cutoff = ranks[order][np.searchsorted(filled, tenth)]
    return HashSplit(seed, int(cutoff), min_bytes, frozenset(different[~may_leave].tolist()))


# ---- a part of a corpus


def sample_evenly(documents: Iterable[str], max_bytes: int = 50_000_000) -> Iterator[str]:
    """At most `max_bytes` of the documents, taken from beginning to end alike; everything if it is no more than that.

    Documents are cut at line ends into blocks of up to 64 thousand characters, and a block is taken whenever the share
    taken so far is behind the share wanted. `documents` is read twice, so it must be a collection, not an iterator.
    """
    if iter(documents) is documents:
        raise ValueError("sample_evenly reads the documents twice: give a list or a side of a corpus, not an iterator")
    total = sum(len(document.encode("utf-8")) for document in documents)
    if total <= max_bytes:
        yield from documents
        return
    seen = taken = 0
    for document in documents:
        for block in cut_in_blocks(document, max(1, min(65_536, max_bytes // 100))):
            size = len(block.encode("utf-8"))
            seen += size
            if (taken + size) * total <= seen * max_bytes:
                taken += size
                yield block


def cut_in_blocks(text: str, size: int) -> Iterator[str]:
    """Cut a text into parts of at most `size` characters, after a line end where there is one."""
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= size else text.rfind("\n", start, start + size) + 1 or start + size
        yield text[start:end]
        start = end
