"""Read a file of rows, whatever wrote it: CSV, TSV, lines with a tab, JSON lines or a JSON list, packed with .gz or not.

What a text file is made of is found out, not asked: the sign between the cells (tab, comma, semicolon or bar), whether quotes
are doubled ("") or marked by a backslash inside quotes, and whether quotes mean anything at all. A line without cells is no
row. Whatever stays unclear is refused with one line that names the file, the line, and what to do.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from minilm.text.documents import read_blocks, shown

TABLES, JSONS = (".csv", ".tsv", ".tab", ".txt"), (".jsonl", ".ndjson", ".json")
DELIMITERS = "\t,;|"
BETWEEN_TEXTS = "\x1f"  # a sign that no text holds, for a file of one column
SAMPLE = 200  # rows that decide how a file is written


class Table(NamedTuple):
    """The rows of a file. `names` are those of the columns, or empty where there is none; rows are of equal length."""

    source: str  # the file, as an error message shows it
    names: tuple[str, ...]
    rows: list[list[Any]]  # of strings, or of what JSON holds
    places: list[str]  # "line 3 of 'reviews.csv'", for each row


def read_table(path: Path, known: Collection[str] = (), header: bool | None = None, one_column: bool = False) -> Table:
    """The rows of a file. The first row of a table names the columns if `header`, or, by default, if one of its cells is in
    `known` (in small letters); the caller may still decide otherwise. `one_column` allows a table to have just one: then lines
    whose commas are those of sentences are whole texts. ValueError for what cannot be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in TABLES + JSONS:
        raise ValueError(
            f"{shown(path)} has an unknown format: give a file that ends in {', '.join(TABLES + JSONS)}, with .gz or not"
        )
    text = read_text(path)
    if suffix in JSONS:
        return json_table(text, shown(path))
    if not re.search(rf'[^\s"{DELIMITERS}]', text):
        raise ValueError(f"{shown(path)} holds no text: give a row with words for each example")

    def is_named(cells: list[str]) -> bool:
        return any(cell.strip().casefold() in known for cell in cells) if header is None else header

    if one_column and is_column(text, is_named):
        rows, lines = column_of(text, shown(path))
    else:
        rows, lines = cells_of(text, shown(path))
    places = [f"line {line} of {shown(path)}" for line in lines]
    if is_named(rows[0]):
        return Table(shown(path), tuple(name.strip() for name in rows[0]), rows[1:], places[1:])
    return Table(shown(path), (), rows, places)


def first_row_names(table: Table) -> Table:
    """A table without names, read as one whose first row names the columns."""
    return Table(table.source, tuple(cell.strip() for cell in table.rows[0]), table.rows[1:], table.places[1:])


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark. ValueError if it is empty or no UTF-8."""
    data = b"".join(read_blocks(path))
    if b"\0" in data:
        raise ValueError(
            f"{shown(path)} is not UTF-8 text (it holds zero bytes): save it as UTF-8, not as UTF-16 or .xls"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} of {shown(path)} is not UTF-8 (byte 0x{data[error.start]:02x}): save it as UTF-8, for example "
            "with iconv"
        ) from error
    if not text.strip():
        raise ValueError(f"{shown(path)} is empty: give a file with a row for each example")
    return text


# ---- tables of text


def cells_of(text: str, source: str) -> tuple[list[list[str]], list[int]]:
    """The rows of a CSV or TSV, all of one length of at least 2, and the line where each begins."""
    if plain := plain_lines(text):
        return plain
    dialect = best_dialect(text)
    if dialect is None:
        raise ValueError(
            f"{source} has one column, or quotes that never close: put a tab, comma or semicolon between text and label, "
            'and write a quote inside a quoted text as ""'
        )
    return even_rows(text, source, dialect)


def even_rows(text: str, source: str, dialect: dict[str, Any]) -> tuple[list[list[str]], list[int]]:
    """The rows of a file that is written so, all of one length, and the line where each begins."""
    rows, lines = [], []
    try:
        for line, row in records(text, **dialect):
            rows.append(row)
            lines.append(line)
    except csv.Error as error:
        line = lines[-1] if lines else 0
        raise ValueError(
            f'after line {line} of {source} a quoted text does not end well ({error}): write a quote inside it as ""'
        ) from error
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"line {line} of {source} has {len(row)} cells, the first row {len(rows[0])}: put a text that holds "
                f"{dialect['delimiter']!r} in quotes"
            )
    return rows, lines


def is_column(text: str, is_named: Callable[[list[str]], bool]) -> bool:
    """Has the file one column? Yes where nothing stands between cells, or only commas with a blank behind, as in sentences;
    not where the first line names several columns."""
    first = re.split(f"[{DELIMITERS}]", text.strip().splitlines()[0].replace('"', ""))
    if plain_lines(text) or (len(first) > 1 and is_named(first)):
        return False
    dialect = best_dialect(text)
    if dialect is None:
        return True
    rows = (row for _, row in islice(records(text, **dialect), SAMPLE))
    return dialect["delimiter"] in ",;" and all(cell.startswith(" ") for row in rows for cell in row[1:])


def column_of(text: str, source: str) -> tuple[list[list[str]], list[int]]:
    """The rows of a file of one column, and the line where each begins."""
    try:
        return even_rows(text, source, {"delimiter": BETWEEN_TEXTS, "doublequote": True})
    except ValueError:
        return even_rows(text, source, {"delimiter": BETWEEN_TEXTS, "doublequote": False, "escapechar": "\\"})


def plain_lines(text: str) -> tuple[list[list[str]], list[int]] | None:
    """Lines with the same number of tabs, at least one, whose quotes are just signs of the text, as in the files of the UCI;
    None for others, and where quotes read as signs of a spreadsheet give even rows too, that fit better or are as many."""
    found = [(i, line.rstrip("\r").split("\t")) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len({len(row) for _, row in found}) != 1 or len(found[0][1]) < 2:
        return None
    try:
        quoted = [row for _, row in records(text, delimiter="\t")]
    except csv.Error:
        quoted = []
    plain = [row for _, row in found]
    even = len({len(row) for row in quoted}) == 1 and len(quoted[0]) > 1
    if even and (len(quoted) == len(plain) or fewest_values(quoted) < fewest_values(plain)):
        return None
    return plain, [i for i, _ in found]


def fewest_values(rows: list[list[str]]) -> int:
    """How many different values the column of rows has that has fewest: labels come again and again."""
    return min(len(set(column)) for column in zip(*rows, strict=True))


def records(text: str, **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, cells) of each row that has cells. csv.Error for a quote in the wrong place."""
    csv.field_size_limit(2**31 - 1)  # a text may be as long as its file, which is in memory anyway
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, **dialect)
    begins = 1
    for row in reader:
        if any(cell.strip() for cell in row):
            yield begins, row
        begins = reader.line_num + 1


def best_dialect(text: str) -> dict[str, Any] | None:
    """How the file is written: most rows as long as the first; then, since labels come again and again, fewest different
    values in a column; then the more usual sign. None where nothing gives two columns."""
    best, best_score = None, (0.0, 0)
    for delimiter in DELIMITERS:
        for quoting in ({"doublequote": True}, {"doublequote": False, "escapechar": "\\"}):
            dialect = {"delimiter": delimiter, **quoting}
            try:
                rows = [row for _, row in islice(records(text, **dialect), SAMPLE)]
            except csv.Error:
                continue
            if not rows or len(rows[0]) < 2:
                continue
            even = [row for row in rows if len(row) == len(rows[0])]
            score = (len(even) / len(rows), -fewest_values(even))
            if score > best_score:
                best, best_score = dialect, score
    return best


# ---- JSON


def json_table(text: str, source: str) -> Table:
    """A JSON list of objects, or one object a line. The columns are the keys of the first; every other needs them too."""
    if text.lstrip().startswith("["):
        items = [(f"item {i} of {source}", item) for i, item in enumerate(parsed(text, source), 1)]
    else:
        lines = ((f"line {i} of {source}", line) for i, line in enumerate(re.split(r"\r?\n", text), 1))
        items = [(place, parsed(line, place)) for place, line in lines if line.strip()]
    if not items:
        raise ValueError(f"{source} is an empty list: give an object for each example")
    names: tuple[str, ...] = ()
    for place, item in items:
        if not isinstance(item, dict):
            raise ValueError(
                f'{place} is no JSON object but {type(item).__name__}: write {{"text": ..., "label": ...}}'
            )
        if re.search("[\ud800-\udfff]", json.dumps(item, ensure_ascii=False)):
            raise ValueError(f"{place} holds half of a surrogate pair, which is no text: take it out")
        names = names or tuple(item)
        if not names:
            raise ValueError(f'{place} is an object without names: write {{"text": ..., "label": ...}}')
        if missing := [name for name in names if name not in item]:
            raise ValueError(f"{place} lacks {missing[0]!r}: give each object the same names, {', '.join(names)}")
    return Table(source, names, [[item[name] for name in names] for _, item in items], [place for place, _ in items])


def parsed(text: str, place: str) -> Any:
    """What a piece of JSON says; ValueError with its place where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{place} is no valid JSON ({error}): write a list of objects, or one object a line"
        ) from error
