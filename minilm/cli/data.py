"""`minilm data`: what a corpus holds, how it is split, and whether the two sides share lines."""

import json

from minilm.cli.options import Parser, seed


def run(arguments: list[str]) -> int:
    """Parse the flags, read the corpus, print its figures."""
    parser = Parser("data", "Fetch or read a corpus and say what is in it.", "minilm data shakespeare")
    parser.option("corpus", help="shakespeare, stories, or a file, folder, glob, .gz or .jsonl")
    parser.option(
        "--sample", type=int, default=300, metavar="N", help="characters to show of the first document (default: 300)"
    )
    parser.option(
        "--seed", type=seed, default=0, metavar="S", help="accepted everywhere; the split does not depend on it"
    )
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)

    from minilm.text.corpus import load_corpus, near_duplicates

    corpus = load_corpus(options.corpus)
    sizes = {}
    for side, documents in (("train", corpus.train), ("validation", corpus.validation)):
        counts = [(len(text), len(text.encode())) for text in documents]
        sizes[side] = {
            "documents": len(counts),
            "characters": sum(characters for characters, _ in counts),
            "bytes": sum(n_bytes for _, n_bytes in counts),
        }
    shared, examples = near_duplicates(corpus)
    if options.json:
        print(json.dumps({"corpus": corpus.name, **sizes, "lines_in_both": shared}))
        return 0
    print(f"corpus {corpus.name}")
    for side, size in sizes.items():
        print(
            f"  {side:<11}{size['documents']:>8,} documents {size['characters']:>13,} characters {size['bytes']:>13,} bytes"
        )
    print(f"  long lines of the validation text that also stand in the training text: {shared:,}")
    for example in examples[:3]:
        print(f"    {example[:90]}")
    print(f"\n{next(iter(corpus.train))[: options.sample]}")
    return 0
