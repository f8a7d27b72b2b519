"""Leaks: what the validation side of a split has seen before, because the training side holds it too, or nearly.

A model that has learned a text by heart needs few bits for it, so every leak flatters the loss. Two kinds are looked for:
whole documents that are near duplicates of a training document, and single lines that training holds word for word.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from minilm.text.near_duplicates import Index, plain, sketch


@dataclass(frozen=True)
class LeakReport:
    """How much of the validation side training knows. Examples: the beginnings of documents, and lines as plain words."""

    validation_documents: int
    near_documents: int
    document_examples: tuple[str, ...]
    validation_lines: int  # that are long enough to count
    shared_lines: int
    line_examples: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [f"  {'validation text that training knows':<38}{'found':>10}{'of':>12}"]
        for name, found, total, examples in (
            ("documents, nearly the same", self.near_documents, self.validation_documents, self.document_examples),
            ("long lines, word for word", self.shared_lines, self.validation_lines, self.line_examples),
        ):
            rows.append(f"  {name:<38}{found:>10,}{total:>12,}")
            rows += [f"      {example[:90]}" for example in examples]
        return "\n".join(rows)


def find_leaks(
    train: Iterable[str],
    validation: Iterable[str],
    *,
    threshold: float = 0.8,
    min_characters: int = 40,
    n_examples: int = 3,
) -> LeakReport:
    """Count the validation documents that resemble a training document, and the validation lines that training holds.

    Each side is read twice, so give collections; memory grows by 2.5 kB a document and by the validation lines.
    """
    near, document_examples, n_documents = near_documents(train, validation, threshold, n_examples)
    shared, line_examples, n_lines = shared_lines(train, validation, min_characters, n_examples)
    return LeakReport(n_documents, near, tuple(document_examples), n_lines, shared, tuple(line_examples))


def near_documents(
    train: Iterable[str], validation: Iterable[str], threshold: float, n_examples: int
) -> tuple[int, list[str], int]:
    """(validation documents at least `threshold` similar to a training one, beginnings of the first, number of all)."""
    beginnings: list[str] = []
    sketches = []
    for document in validation:
        sketches.append(sketch(document))
        beginnings.append(" ".join(document[:400].split())[:90])
    n_validation = len(sketches)
    sketches.extend(map(sketch, train))
    index, found = Index(sketches, threshold), set[int]()
    for i, others in index.rows():
        if i < n_validation and i not in found:
            found.update(i for _ in islice(index.similar(i, others[others >= n_validation]), 1))
    return len(found), [beginnings[i] for i in sorted(found)[:n_examples]], n_validation


def shared_lines(
    train: Iterable[str], validation: Iterable[str], min_characters: int = 40, n_examples: int = 5
) -> tuple[int, list[str], int]:
    """(validation lines that training holds too, the first few of them, number of all that count).

    Lines are compared by their words alone, in small letters, and count from `min_characters` characters of words on:
    "To be, or not to be: that is the question:" equals "to be or not to be that is the question".
    """
    waiting = Counter(line for line in plain_lines(validation) if len(line) >= min_characters)
    n_lines, n_found, examples = waiting.total(), 0, []
    for line in plain_lines(train):
        if line in waiting:
            n_found += waiting.pop(line)
            examples.append(line)
    return n_found, examples[:n_examples], n_lines


def plain_lines(documents: Iterable[str]) -> Iterator[str]:
    """Every line as its words in small letters, joined by one space."""
    for document in documents:
        yield from map(plain, document.splitlines())
