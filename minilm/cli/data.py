"""`minilm data`: what a corpus holds, how it is split, what leaks across the split, and how to clean it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser, make_config, seed
from minilm.text.config import CleanConfig


def run(arguments: list[str]) -> int:
    """Parse the flags, read the corpus, print its figures; with --clean clean it, with --out write what is left."""
    parser = Parser(
        "data",
        "Fetch or read a corpus and say what is in it; clean it, if you like, into a new file.",
        "minilm data my-texts --clean --near 0.8 --out clean.jsonl",
    )
    parser.option("corpus", help="shakespeare, stories, or a file, folder, glob, .gz or .jsonl")
    parser.option("--clean", action="store_true", help="clean the documents and report what was changed and dropped")
    parser.option("--out", metavar="FILE.jsonl", help="with --clean: write the cleaned documents to this new file")
    parser.add_config(CleanConfig, shown=("near", "min_letters", "blanks"))
    parser.option(
        "--sample", type=int, default=300, metavar="N", help="characters to show of the first document (default: 300)"
    )
    parser.option(
        "--seed", type=seed, default=0, metavar="S", help="accepted everywhere; the split does not depend on it"
    )
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)
    wanted = {field.name: getattr(options, field.name) for field in dataclasses.fields(CleanConfig)}
    config = make_config(CleanConfig, wanted)
    if not options.clean and (options.out or any(value is not None for value in wanted.values())):
        raise ValueError("this is about cleaning, so add --clean: nothing is changed, dropped or written without it")
    out = Path(options.out) if options.out else None

    from minilm.text.clean import clean
    from minilm.text.corpus import Documents, find_sources, load_corpus
    from minilm.text.documents import check_new, write_json_lines
    from minilm.text.leaks import find_leaks

    if out:
        check_new(out)
    corpus = load_corpus(options.corpus)
    sides = {"train": side_sizes(corpus.train), "validation": side_sizes(corpus.validation)}
    leaks = find_leaks(corpus.train, corpus.validation)
    table: dict[str, Any] = {"corpus": corpus.name, **sides, "lines_in_both": leaks.shared_lines}
    table["leaks"] = leaks.to_dict()
    cleaned = clean(Documents(find_sources(options.corpus)), config) if options.clean else None
    if cleaned:
        table["clean"] = cleaned.report.to_dict()
    if cleaned and out:
        if not cleaned.report.kept:
            raise ValueError(f"no document is left to write: {cleaned.report.dropped}; ask for less")
        write_json_lines(out, cleaned)
    if options.json:
        print(json.dumps(table, ensure_ascii=False))
        return 0
    print(f"corpus {corpus.name}")
    for side, size in sides.items():
        figures = f"{size['documents']:>8,} documents {size['characters']:>13,} characters {size['bytes']:>13,} bytes"
        print(f"  {side:<11}{figures}")
    print(f"\n{leaks}")
    if cleaned:
        print(f"\n{cleaned.report}")
    if cleaned and out:
        print(f"\nwritten to {out}; train on it with --data {out}")
    print(f"\n{next(iter(corpus.train))[: options.sample]}")
    return 0


def side_sizes(documents: Any) -> dict[str, int]:
    """How many documents, characters and UTF-8 bytes one side of the split holds."""
    counts = [(len(text), len(text.encode())) for text in documents]
    return {
        "documents": len(counts),
        "characters": sum(characters for characters, _ in counts),
        "bytes": sum(n_bytes for _, n_bytes in counts),
    }
