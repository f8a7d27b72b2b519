"""Tagged words from a file: two columns and a blank line after each sentence, as in the shared tasks of CoNLL, or JSON lines.

    Ada B-PER          {"words": ["Ada", "met", "Bo"], "tags": ["B-PER", "O", "B-PER"]}
    met O
    Bo B-PER

Of more columns, as in CoNLL 2003, the first is the word and the last its tag; lines that begin with -DOCSTART- are left out.
Tags are taken as they are, in whatever scheme.
"""

from collections.abc import Iterator
from pathlib import Path

from minilm.tasks.labelled import MOST_LABELS
from minilm.tasks.tables import JSONS, read_table, read_text
from minilm.tasks.tagging import Tagged
from minilm.text.documents import shown
from minilm.text.joining import join_words

COLUMNS = (".conll", ".bio", ".iob", ".txt", ".tsv")


def load_tagged(path: str | Path) -> list[Tagged]:
    """The sentences of a file. A word gets the blank before it that the file has lost, but for the first of a sentence and
    closing marks; words that bring blanks keep them. ValueError for what is no such data."""
    path = Path(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in COLUMNS + JSONS:
        raise ValueError(f"{shown(path)} has an unknown format: give a file that ends in {', '.join(COLUMNS + JSONS)}")
    found = list(json_sentences(path) if suffix in JSONS else column_sentences(path))
    tags = {tag for sentence in found for tag in sentence.tags}
    if len(tags) < 2:
        raise ValueError(f"{shown(path)} has {len(tags)} different tags: at least two are needed to learn from")
    if len(tags) > MOST_LABELS:
        raise ValueError(f"{shown(path)} has {len(tags)} different tags: this looks like a column of words")
    return found


def column_sentences(path: Path) -> Iterator[Tagged]:
    """The sentences of a file with a word and its tag on a line."""
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        cells = line.strip().split("\t") if "\t" in line.strip() else line.split()
        if not line.strip() or cells[0].startswith("-DOCSTART-"):
            if pairs:
                yield sentence(pairs)
            pairs = []
        elif len(cells) < 2 or not cells[0].strip() or not cells[-1].strip():
            raise ValueError(
                f"line {number} of {shown(path)} is not a word and a tag, but {line.strip()[:40]!r}: give both"
            )
        else:
            pairs.append((cells[0].strip(), cells[-1].strip()))
    if pairs:
        yield sentence(pairs)


def json_sentences(path: Path) -> Iterator[Tagged]:
    """The sentences of JSON objects with "words" and "tags"."""
    table = read_table(path)
    if missing := [name for name in ("words", "tags") if name not in table.names]:
        raise ValueError(f"{table.source} has no {missing[0]!r}, but {', '.join(table.names)}: write words and tags")
    where = [table.names.index(name) for name in ("words", "tags")]
    for row, place in zip(table.rows, table.places, strict=True):
        words, tags = (row[i] for i in where)
        for name, cell in (("words", words), ("tags", tags)):
            if not isinstance(cell, list) or not all(isinstance(item, str) and item.strip() for item in cell):
                raise ValueError(f"{place}: {name!r} is no list of strings that say something: write it as one")
        if len(words) != len(tags):
            raise ValueError(f"{place} has {len(words)} words and {len(tags)} tags: give one tag for each word")
        if words:
            yield sentence(list(zip(words, tags, strict=True)))


def sentence(pairs: list[tuple[str, str]]) -> Tagged:
    """Words and tags as a record; where no word brings its blank, each but the first and closing marks gets one."""
    return Tagged(tuple(join_words([word for word, _ in pairs])), tuple(tag for _, tag in pairs))
