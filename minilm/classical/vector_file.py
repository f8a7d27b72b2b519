"""Word vectors as text, the format of GloVe's own files: a line for each word, the word and its numbers, blanks between.

    the 0.418 0.24968 -0.41242
    of 0.70853 0.57088 -0.4716

word2vec writes the same below a first line that says how many words and numbers follow, "2 3"; it is read, not written.
Files that end in .gz are packed. Some published files have words with blanks (". . ."); they are taken as such if nothing
in them could be one of the numbers. Everything else that is odd is an error of one line: half a table is worse than none.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minilm.classical.vectors import WordVectors
from minilm.runtime import whole_file

MARK = "\ufeff"  # a byte order mark, which some editors put at the beginning of a file


def read_vectors(path: str | Path) -> WordVectors:
    """The vectors of a file. ValueError that names the line for anything that is not as it should be."""
    names: dict[str, int] = {}  # word -> its line
    rows: list[np.ndarray] = []
    promised: tuple[int, int] | None = None  # words and numbers, by the first line
    width = 0
    for number, line in read_lines(Path(path)):
        where, fields = f"line {number} of {path}", line.split(" ")
        if number == 1 and len(fields) == 2 and all(field.isascii() and field.isdecimal() for field in fields):
            promised = (int(fields[0]), int(fields[1]))
            width = promised[1]
            if width == 0:
                raise ValueError(f"{where} promises vectors of 0 numbers: get a whole copy")
            continue
        width = width or numbers_at_end(fields)
        word, row = read_line(fields, width, where)
        if word in names:
            raise ValueError(
                f"{where} has a second vector for {word!r} (the first is in line {names[word]}): delete one"
            )
        names[word] = number
        rows.append(row)
    if promised and promised[0] != len(rows):
        raise ValueError(f"{path} says that it has {promised[0]:,} words, it has {len(rows):,}: get a whole copy")
    if not rows:
        raise ValueError(f"{path} holds no vectors: give a file with a word and its numbers on each line")
    return WordVectors(tuple(names), np.stack(rows))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers from 1, without their ends and the blanks before those."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8").rstrip(" \r\n")
    except UnicodeDecodeError:
        raise ValueError(
            f"line {number} of {path} is not UTF-8: save the file as text (word2vec's .bin files are none)"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or was not packed by gzip ({error}): pack it again") from None


def read_line(fields: Sequence[str], width: int, where: str) -> tuple[str, np.ndarray]:
    """The word and its numbers (width,)."""
    before = fields[: max(1, len(fields) - width)]
    found = len(fields) - 1 if any(is_number(field) for field in before[1:]) else len(fields) - len(before)
    word = " ".join(before)
    if not all(before) or word.startswith(MARK):
        raise ValueError(f"{where} does not begin with a word: write the word, a blank, and its numbers")
    if found != width or width == 0:
        raise ValueError(
            f"{where} has {found} numbers for {word[:40]!r}, it should have {width or 'some'}: mend the line"
        )
    numbers = fields[len(before) :]
    if bad := [field for field in numbers if not is_number(field)]:
        raise ValueError(f"{where} has {bad[0][:40]!r} where a number should be: mend the line")
    row = np.array([float(field) for field in numbers])
    if not np.isfinite(row).all():
        raise ValueError(f"{where} has a number that is NaN or infinite for {word[:40]!r}: such a vector is of no use")
    return word, row


def is_number(field: str) -> bool:
    """Whether the field reads as a number, which NaN is here too.

    >>> [field for field in ("-1.5", "2e-3", "nan", "1_0", "x", "") if is_number(field)]
    ['-1.5', '2e-3', 'nan']
    """
    if "_" in field or not field.isascii():
        return False
    try:
        float(field)
    except ValueError:
        return False
    return field == field.strip()


def numbers_at_end(fields: Sequence[str]) -> int:
    """How many numbers a line has that nobody has said so of: those at its end, or all but the first field in case of doubt.

    >>> numbers_at_end(["7", "0.5", "1"]), numbers_at_end([".", ".", "0.5"]), numbers_at_end(["a", "0.5", "x", "1"])
    (2, 1, 3)
    """
    n = 0
    while n < len(fields) - 1 and is_number(fields[len(fields) - 1 - n]):
        n += 1
    return len(fields) - 1 if any(is_number(field) for field in fields[1 : len(fields) - n]) else n


def write_vectors(vectors: WordVectors, path: str | Path) -> None:
    """Write the file, packed if its name ends in .gz; it appears whole or not at all. What is read back is equal to a bit.

    ValueError for a word that could not be read back: with a line end, or with blanks and a part that looks like a number.
    """
    for word in vectors.words:
        parts = word.split(" ")
        odd = not all(parts) or any(is_number(part) for part in parts[1:])
        if odd or "\n" in word or word.startswith(MARK):
            raise ValueError(f"the word {word!r} cannot stand in a file of vectors: leave it out")
    path = Path(path)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if path.suffix == ".gz" else None
        for word, row in zip(vectors.words, vectors.matrix.tolist(), strict=True):
            (packed or file).write(f"{word} {' '.join(map(repr, row))}\n".encode())
        if packed:
            packed.close()
