"""Cutting text into the pieces inside which byte-pair encoding merges, and counting them, in one process or several."""

import re
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context

import regex

# How GPT-2 cuts a text (Radford et al. 2019): English contractions, then words, numbers and signs with the blank before them.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
# The same for texts of plain ASCII, in the words of Python's own `re`, which is twice as fast.
GPT2_ASCII = r"""'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"""
GAP = regex.compile(r"(?<=\S)\s")

BATCH = 1_000_000  # characters that are counted at a time
ALONE = 8  # batches that one process counts before others are started: a start takes as long as counting some millions


def cutter(pattern: str) -> Callable[[str], list[str]]:
    """What cuts a text into its pieces: the matches, and what lies between them. Together they are the text.

    ValueError if the pattern is none, or if it has groups or matches nothing at all.

    >>> cutter(GPT2_PATTERN)("They're 12 cats.  No!")
    ['They', "'re", ' 12', ' cats', '.', ' ', ' No', '!']
    """
    try:
        split = regex.compile(pattern)
        around = regex.compile(f"({pattern})")
    except (regex.error, TypeError) as error:
        raise ValueError(f"{pattern!r} is not a pattern that cuts text: {error}") from None
    if split.groups or split.match(""):
        raise ValueError(f"pattern {pattern!r} must not match the empty text, and its groups must be (?:...)")
    if pattern != GPT2_PATTERN:
        return lambda text: [piece for piece in around.split(text) if piece]
    quick = re.compile(GPT2_ASCII, re.ASCII)
    return lambda text: (quick if text.isascii() else split).findall(text)


def count_pieces(documents: Iterable[str], pattern: str, processes: int = 1) -> Counter[str]:
    """How often each piece occurs. The documents are read once and only a few are held at a time.

    With several processes, the text beyond the first eight million characters is dealt out to them. A script that asks for
    them needs `if __name__ == "__main__":`. Where no process can be started, this one counts everything.

    >>> count_pieces(["to be or", "not to be"], r" ?[a-z]+")
    Counter({' be': 2, 'to': 1, ' or': 1, 'not': 1, ' to': 1})
    """
    cutter(pattern)  # a wrong pattern is an error here, and not in another process
    batches = in_batches(part for document in documents for part in parts_of(document, pattern))
    counts: Counter[str] = Counter()
    for batch in islice(batches, ALONE if processes > 1 else None):
        counts.update(count_batch(batch, pattern))
    for part in count_elsewhere(batches, pattern, processes):
        counts.update(part)
    return counts


def parts_of(document: str, pattern: str) -> Iterator[str]:
    """A long document in parts of little more than BATCH characters, with the same pieces; whole, for other patterns than GPT-2's.

    GPT-2's pieces end wherever a blank follows something else, and what comes before that place does not depend on the rest.
    """
    start = 0
    while pattern == GPT2_PATTERN and len(document) - start > BATCH:
        gap = GAP.search(document, start + BATCH)
        if gap is None:
            break
        yield document[start : gap.start()]
        start = gap.start()
    yield document[start:]


def in_batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of BATCH characters or little more."""
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_batch(documents: list[str], pattern: str) -> Counter[str]:
    """How often each piece of these documents occurs."""
    cut = cutter(pattern)
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(cut(document))
    return counts


def count_elsewhere(batches: Iterator[list[str]], pattern: str, processes: int) -> Iterator[Counter[str]]:
    """The counts of each batch in turn, from several processes, for each of which at most two batches wait."""
    first = next(batches, None)
    if first is None:
        return
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends this process, and this one ends the others
    with ProcessPoolExecutor(processes, get_context("spawn"), signal.signal, ignore) as pool:
        waiting: deque[tuple[list[str], Future[Counter[str]] | None]] = deque()
        for batch in chain([first], batches):
            try:
                waiting.append((batch, pool.submit(count_batch, batch, pattern)))
            except (OSError, BrokenExecutor):
                waiting.append((batch, None))
            if len(waiting) >= 2 * processes:
                yield answer(*waiting.popleft(), pattern)
        while waiting:
            yield answer(*waiting.popleft(), pattern)


def answer(batch: list[str], future: Future[Counter[str]] | None, pattern: str) -> Counter[str]:
    """What another process has counted; if there is none, or it has died, what this one counts."""
    try:
        return future.result() if future else count_batch(batch, pattern)
    except BrokenExecutor:
        return count_batch(batch, pattern)
