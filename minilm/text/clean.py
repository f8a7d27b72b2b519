"""Clean a corpus: make its text uniform, drop what is no text, drop what is there twice, and report every step.

    >>> cleaned = clean(["One\\r\\ntwo\\r\\n", "One\\ntwo\\n", "...", ""], CleanConfig(min_letters=0.5))
    >>> list(cleaned)
    ['One\\ntwo\\n']
    >>> cleaned.report.dropped
    {'exact duplicate': 1, 'too few letters': 1, 'empty or too short': 1}

What is on by default changes no word: line ends, control characters, empty documents, exact duplicates. Everything else
is a switch, because it may change what a text says or take away good documents with the bad: look at the report first.
`clean` of what is clean changes nothing.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from minilm.text.config import ALPHABETS, CleanConfig
from minilm.text.near_duplicates import Sketch, near_groups, plain, sketch
from minilm.text.normalise import normalise
from minilm.text.tokenizer import utf8

N_EXAMPLES = 3  # of each reason
RUN_WORDS = 5
EXACT, NEAR = "exact duplicate", "near duplicate"
ALPHABET_SHARE = 0.8


@dataclass(frozen=True)
class CleanReport:
    """What a cleaning did. documents = kept + everything dropped; a document is dropped for the first reason that applies.

    `changed[step]` counts the kept documents that a step of normalising changed, `examples` shows the beginnings of the
    first few documents dropped for each reason.
    """

    documents: int
    bytes: int
    kept: int
    kept_bytes: int
    changed: dict[str, int]
    dropped: dict[str, int]
    examples: dict[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            f"  {'':<34}{'documents':>12}{'bytes':>16}",
            f"  {'found':<34}{self.documents:>12,}{self.bytes:>16,}",
            f"  {'kept':<34}{self.kept:>12,}{self.kept_bytes:>16,}",
        ]
        rows += [f"  {'changed: ' + step:<34}{number:>12,}" for step, number in self.changed.items()]
        for reason, number in self.dropped.items():
            rows.append(f"  {'dropped: ' + reason:<34}{number:>12,}")
            rows += [f"      {example}" for example in self.examples[reason] if example]
        return "\n".join(rows)


@dataclass(frozen=True)
class Cleaned:
    """The documents that were kept, normalised, in their old order; each `iter()` reads and normalises them again."""

    documents: Iterable[str]
    config: CleanConfig
    reasons: tuple[str, ...]  # why each document was dropped, "" where it was kept
    report: CleanReport

    def __iter__(self) -> Iterator[str]:
        for document, reason in zip(self.documents, self.reasons, strict=True):
            if not reason:
                yield normalise(document, self.config.steps)[0]


def clean(documents: Iterable[str], config: CleanConfig | None = None) -> Cleaned:
    """Decide which documents stay, without holding their texts: one takes some 200 bytes, with `near` 2.5 kB more.

    They are read once or twice here and again at each use of the result, so `documents` must be a collection. Of equal
    documents the first stays, of near duplicates the longest: which texts stay does not depend on their order.
    """
    if iter(documents) is documents:
        raise ValueError("clean reads the documents twice: give a list or a side of a corpus, not an iterator")
    config = config or CleanConfig()
    reasons: list[str] = []
    steps: list[tuple[str, ...]] = []
    sizes: list[tuple[int, int]] = []  # bytes before and after
    seen: set[bytes] = set()
    kept: list[tuple[int, bytes, int]] = []  # of each document kept so far: minus its length, its hash, its number
    sketches: list[Sketch] = []
    for number, document in enumerate(documents):
        text, changed = normalise(document, config.steps)
        data = utf8(text)
        digest = hashlib.sha256(data).digest()[:16]
        reason = complaint(text, config) or (EXACT if config.duplicates and digest in seen else "")
        reasons.append(reason)
        steps.append(changed)
        sizes.append((len(utf8(document)), len(data)))
        if not reason:
            seen.add(digest)
            kept.append((-len(text), digest, number))
            if config.near:
                sketches.append(sketch(text))
    for group in near_groups(sketches, config.near):
        best = min(kept[i] for i in group)
        for *_, number in (kept[i] for i in group if kept[i] != best):
            reasons[number] = NEAR
    return Cleaned(documents, config, tuple(reasons), _report(documents, reasons, steps, sizes))


def _report(
    documents: Iterable[str], reasons: list[str], steps: list[tuple[str, ...]], sizes: list[tuple[int, int]]
) -> CleanReport:
    """Count, and read the first documents of each reason again to show how they begin."""
    dropped = Counter(reason for reason in reasons if reason)
    shown: dict[str, list[str]] = {reason: [] for reason in dropped}
    missing = sum(min(N_EXAMPLES, number) for number in dropped.values())
    for document, reason in zip(documents, reasons, strict=False) if missing else ():
        if reason and len(shown[reason]) < N_EXAMPLES:
            shown[reason].append(beginning(document))
            missing -= 1
            if not missing:
                break
    survivors = [i for i, reason in enumerate(reasons) if not reason]
    return CleanReport(
        documents=len(reasons),
        bytes=sum(before for before, _ in sizes),
        kept=len(survivors),
        kept_bytes=sum(sizes[i][1] for i in survivors),
        changed=dict(Counter(step for i in survivors for step in steps[i])),
        dropped=dict(dropped),
        examples={reason: tuple(examples) for reason, examples in shown.items()},
    )


# ---- what a document can be dropped for


def complaint(text: str, config: CleanConfig) -> str:
    """The first reason to drop a document for what it is in itself, "" if there is none."""
    if len(text.strip()) < config.min_characters:
        return "empty or too short"
    if config.max_line and max(map(len, text.splitlines()), default=0) > config.max_line:
        return "a line too long"
    if config.lost and "\N{REPLACEMENT CHARACTER}" in text:
        return "lost characters"
    if config.min_letters and letter_share(text) < config.min_letters:
        return "too few letters"
    if config.max_repeated_lines < 1 and repeated_lines(text) > config.max_repeated_lines:
        return "repeated lines"
    if config.max_repeated_words < 1 and repeated_words(text) > config.max_repeated_words:
        return "repeated words"
    if config.alphabet and alphabet_share(text, config.alphabet) < ALPHABET_SHARE:
        return "another alphabet"
    return ""


def letter_share(text: str) -> float:
    """The share of letters, and of marks that belong to letters, among the characters that are not blank."""
    counts = Counter("".join(text.split()))
    letters = sum(number for sign, number in counts.items() if unicodedata.category(sign)[0] in "LM")
    return letters / max(1, counts.total())


def repeated_lines(text: str) -> float:
    """The share of lines that stood before in the document; empty ones do not count."""
    return repeated([line.strip() for line in text.splitlines() if line.strip()])


def repeated_words(text: str) -> float:
    """The share of places at which five words in a row stand that stood so before in the document."""
    words = plain(text).split()
    return repeated(list(zip(*(words[i:] for i in range(RUN_WORDS)), strict=False)))


def repeated(things: Sequence[Hashable]) -> float:
    return 1 - len(set(things)) / len(things) if things else 0.0


def alphabet_share(text: str, alphabet: str) -> float:
    """The share of letters that belong to the alphabet; 1 where there are no letters."""
    counts = Counter(filter(str.isalpha, text))
    own = sum(number for letter, number in counts.items() if script(letter) in ALPHABETS[alphabet])
    return own / counts.total() if counts else 1.0


@lru_cache(maxsize=1 << 16)
def script(letter: str) -> str:
    """The first word of a letter's Unicode name: "LATIN", "CYRILLIC", "CJK"."""
    return unicodedata.name(letter, "").partition(" ")[0]


def beginning(text: str) -> str:
    """How a document begins, on one line of at most 80 printable characters."""
    return "".join(sign if sign.isprintable() else "·" for sign in " ".join(text[:400].split())[:80])
