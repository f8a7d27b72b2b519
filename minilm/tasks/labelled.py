"""Labelled texts, what every classifier of the house learns from, and the files in which the world keeps them.

    load_labelled("aclImdb/train")             a folder for each label, with a .txt for each text; `unsup` is left out
    load_labelled("reviews.csv")               CSV, TSV, a sentence, a tab and 0 or 1, JSON lines, a JSON list; .gz of these
    load_labelled("a.csv", "body", "verdict")  columns by name; else they are guessed, and `say` is told which were taken

A row without text is dropped and counted; a text without a label is refused, for nobody knows what was meant. Labels are
strings: 1, 1.0 and "1" are the same. Texts stay as they are, without the blanks around them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minilm.tasks.tables import Table, first_row_names, read_table, read_text
from minilm.text.documents import shown

TEXT_NAMES = (
    "text",
    "sentence",
    "review",
    "review_text",
    "reviewtext",
    "content",
    "comment",
    "body",
    "message",
    "tweet",
)
LABEL_NAMES = (
    "label",
    "labels",
    "sentiment",
    "class",
    "category",
    "target",
    "polarity",
    "rating",
    "stars",
    "emotion",
    "topic",
)
MOST_LABELS = 1000  # more look like a column of texts
LEFT_OUT = {"unsup"}  # the folder of aclImdb whose texts have no label

Say = Callable[[str], None]
Names = tuple[str | None, str | None]  # of the columns of texts and of labels


class Labelled(NamedTuple):
    text: str
    label: str


def load_labelled(
    path: str | Path,
    text: str | None = None,
    label: str | None = None,
    header: bool | None = None,
    say: Say | None = None,
    least: int = 2,
) -> list[Labelled]:
    """The labelled texts of a file or folder, in their order. `text` and `label` name columns, `header` says whether the first
    row of a table names them (None: find out); `say` gets one line about what was read. ValueError for what is no such data, or
    has fewer than `least` labels: to judge a model one is enough.

    A folder holds a folder for each label, or `train` and `test` that do so: then all of both is read.
    """
    path = Path(path)
    if path.is_dir():
        if text is not None or label is not None:
            raise ValueError(f"{shown(path)} is a folder, which has no columns: leave text and label away")
        examples, notice = read_folder(path), "text from the files, label from their folders"
    else:
        named = header is None and not (text is None and label is None)
        table = read_table(path, TEXT_NAMES + LABEL_NAMES, True if named else header)
        examples, notice = read_columns(table, text, label, guess=header is None)
    kept = [example for example in examples if example.text]
    check_labels(kept, shown(path), least)
    if say is not None:
        counts = ", ".join(f"{name}: {number}" for name, number in sorted(Counter(labels_of(kept)).items()))
        dropped = f"; {len(examples) - len(kept)} without text dropped" if len(kept) < len(examples) else ""
        say(f"{shown(path)}: {len(kept)} examples ({counts}), {notice}{dropped}")
    return kept


def load_texts(
    path: str | Path,
    text: str | None = None,
    label: str | None = None,
    say: Say | None = None,
    likely: Names = (None, None),
) -> list[str]:
    """The texts of a table, labelled or not, from the column that `load_labelled` would take, or the only one; a row without
    text is dropped. `text` and `label` name columns, those of `likely` are looked for first without; `say` gets one line about
    what was read. ValueError for a table without texts."""
    named = None if text is None and label is None else True
    known = [*TEXT_NAMES, *LABEL_NAMES, *(name.casefold() for name in likely if name)]
    table = read_table(Path(path), known, named, one_column=True)
    if not table.rows:
        raise ValueError(f"{table.source} has a header and no row under it: give a row for each text")
    text, label = (
        likely[k] if name is None and likely[k] in table.names else name for k, name in enumerate((text, label))
    )
    i = find_column(table, text, TEXT_NAMES)
    if i is None and len(table.rows[0]) == 1:
        i = 0
    if i is None:
        i, j = pick_columns(table, None, label)
        if not table.names and is_header(table, j):
            table = first_row_names(table)
    found = [text_of(row[i], place) for row, place in zip(table.rows, table.places, strict=True)]
    kept = [one for one in found if one]
    if not kept:
        raise ValueError(
            f"{table.source} holds no text in {column_name(table, i)}: give a row with words for each text"
        )
    if say is not None:
        first = "" if table.names else ", the first row among them"
        dropped = f"; {len(found) - len(kept)} without text dropped" if len(kept) < len(found) else ""
        say(f"{table.source}: {len(kept)} texts from {column_name(table, i)}{first}{dropped}")
    return kept


def load_parts(path: str | Path) -> tuple[list[Labelled], list[Labelled]] | None:
    """(training, test) of a folder that comes with both, as aclImdb does; None for any other file or folder."""
    path = Path(path)
    if not all((path / part).is_dir() for part in ("train", "test")):
        return None
    train, test = load_labelled(path / "train"), load_labelled(path / "test")
    if new := sorted(set(labels_of(test)) - set(labels_of(train))):
        raise ValueError(
            f"{shown(path / 'test')} has the label {new[0]!r}, of which {shown(path / 'train')} has no example"
        )
    return train, test


def labels_of(examples: Sequence[Labelled]) -> list[str]:
    """The label of each example."""
    return [example.label for example in examples]


# ---- folders


def read_folder(path: Path) -> list[Labelled]:
    """The texts of a folder with a folder for each label, or of its `train` and `test`."""
    parts = [path / name for name in ("train", "test") if (path / name).is_dir()] or [path]
    found = []
    for folder in (inner for part in parts for inner in sorted(part.iterdir()) if inner.is_dir()):
        if folder.name in LEFT_OUT or folder.name.startswith("."):
            continue
        files = sorted(file for ending in ("*.txt", "*.txt.gz") for file in folder.glob(ending))
        if not files:
            raise ValueError(f"{shown(folder)} holds no .txt file: put one for each text with this label there")
        found += [Labelled(read_text(file).strip(), folder.name) for file in files if file.stat().st_size]
    if not found:
        raise ValueError(
            f"{shown(path)} has no folder of texts for each label, as in pos/1.txt and neg/1.txt: make them"
        )
    return found


# ---- columns


def read_columns(table: Table, text: str | None, label: str | None, guess: bool) -> tuple[list[Labelled], str]:
    """The examples of a table, those without text too, and which columns they came from."""
    i, j = pick_columns(table, text, label)
    if not table.names and guess and is_header(table, j):
        table = first_row_names(table)
    if not table.rows:
        raise ValueError(f"{table.source} has a header and no row under it: give a row for each example")
    examples = [example_of(row[i], row[j], place) for row, place in zip(table.rows, table.places, strict=True)]
    return examples, f"text from {column_name(table, i)}, label from {column_name(table, j)}"


def column_name(table: Table, column: int) -> str:
    """A column for a message."""
    return f"column {table.names[column]!r}" if table.names else f"column {column + 1} of {len(table.rows[0])}"


def pick_columns(table: Table, text: str | None, label: str | None) -> tuple[int, int]:
    """Where texts and labels stand: as named, else under a usual name; else labels are the column with the fewest different
    cells, two at least, and texts the one of the others with the longest."""
    width = len(table.names or table.rows[0])
    if width < 2:
        raise ValueError(f"{table.source} has one column, {table.names[0]!r}: texts and labels need one each")
    i, j = find_column(table, text, TEXT_NAMES), find_column(table, label, LABEL_NAMES)
    columns = [[str(row[c]) for row in table.rows] for c in range(width)]
    if j is None:
        sizes = {c: len(set(columns[c])) for c in range(width) if c != i}
        varied = [c for c in sizes if sizes[c] > 1]
        if i is None and len(varied) == 1:
            varied = []  # that one holds the texts
        j = min(varied or sizes, key=lambda c: (sizes[c], sum(map(len, columns[c]))))
    if i is None:
        i = max((c for c in range(width) if c != j), key=lambda c: sum(map(len, columns[c])))
    if i == j:
        raise ValueError(f"{table.source}: text and label are both {table.names[i]!r}: name two columns")
    return i, j


def find_column(table: Table, wanted: str | None, usual: Sequence[str]) -> int | None:
    """The place of the column called `wanted`, else of the first usual name that is there, else None."""
    if wanted is None:
        plain = [name.casefold() for name in table.names]
        return next((plain.index(name) for name in usual if name in plain), None)
    if wanted not in table.names:
        there = f"there are {', '.join(map(repr, table.names))}" if table.names else "its columns have no names"
        raise ValueError(f"{table.source} has no column {wanted!r}: {there}")
    return table.names.index(wanted)


def is_header(table: Table, label: int) -> bool:
    """Does the first row name the columns? Yes where its label is a word that no other row has, and others come again or are
    numbers."""
    first, *others = (str(row[label]).strip() for row in table.rows)
    alike = len(set(others)) < len(others) or (others != [] and all(map(is_number, others)))
    return alike and first not in others and not is_number(first)


def example_of(text: Any, label: Any, place: str) -> Labelled:
    """A row's example. ValueError where the text is no string, or has no label."""
    text = text_of(text, place)
    if not text:
        return Labelled("", "")
    if isinstance(label, dict | list):
        raise ValueError(f"{place} has a {type(label).__name__} for a label: give a string or a number")
    name = "" if label is None else str(label).strip()
    if not name:
        raise ValueError(f"{place} has a text and no label: fill it in, or delete the row")
    return Labelled(text, re.sub(r"^([+-]?\d+)\.0+$", r"\1", name))


def text_of(cell: Any, place: str) -> str:
    """A row's text, "" where it has none. ValueError where it is no string."""
    if cell is not None and not isinstance(cell, str):
        raise ValueError(f"{place} has a {type(cell).__name__} for a text: give a string, or name another column")
    return (cell or "").strip()


# ---- labels


def check_labels(examples: Sequence[Labelled], source: str, least: int) -> None:
    """ValueError where the labels of a file are fewer than `least`, or are no labels."""
    labels = sorted(set(labels_of(examples)))
    if not examples:
        raise ValueError(f"{source} holds no text: give a row or file with words for each example")
    if len(labels) < least:
        raise ValueError(f"{source} has one label only, {labels[0]!r}: a classifier needs examples of at least two")
    if len(labels) > MOST_LABELS or (len(labels) == len(examples) >= 10):
        raise ValueError(
            f"{source} has {len(labels)} labels in {len(examples)} examples, such as {labels[0][:30]!r}: this looks like a "
            "column of texts or numbers; name the column of the labels"
        )
    numbers = [name for name in labels if is_number(name)]
    if numbers and len(numbers) < len(labels):
        word = next(name for name in labels if not is_number(name))
        raise ValueError(
            f"{source} mixes labels that are numbers, as {numbers[0]!r}, and words, as {word!r}: use one kind"
        )
    for name in labels:
        same = [other for other in labels if other.casefold() == name.casefold()]
        if len(same) > 1:
            raise ValueError(
                f"{source} has the labels {same[0]!r} and {same[1]!r}, which differ in case only: write one"
            )


def is_number(label: str) -> bool:
    """Is a label a number, as "0" or "-1.5"?"""
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", label) is not None
