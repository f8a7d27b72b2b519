"""`minilm vectors`: what word vectors know: neighbours, analogies, agreement with people; as a file, as a picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser, seed

DRAWN = 40  # words in a picture, if nobody says which


def parser_of_vectors() -> Parser:
    """The flags."""
    parser = Parser(
        "vectors",
        "What word vectors know. SOURCE is the folder of a run of minilm train --model glove, or a file in the text format\n"
        "of GloVe or word2vec, also packed as .gz. Without a question: how many words there are, and which are frequent.",
        "minilm vectors checkpoints/stories-glove --near river --analogy bake cake sew",
    )
    parser.option("source", metavar="SOURCE", help="a run's folder, or a file of vectors")
    parser.option("--near", action="append", metavar="WORD", help="the words most like this one (may be given again)")
    parser.option(
        "--analogy", nargs=3, action="append", metavar=("A", "B", "C"), help="A is to B as C is to which word?"
    )
    parser.option("--top", type=int, default=10, metavar="N", help="answers to each question (default: 10)")
    parser.option(
        "--similarity",
        metavar="FILE",
        help="lines of WORD WORD SCORE: do people's scores rank the pairs as the vectors do (Spearman)?",
    )
    parser.option("--export", metavar="FILE", help="write the vectors as text, packed if the name ends in .gz")
    parser.option("--plot", metavar="FILE", help="draw words in the plane, by PCA, into this .png, .svg or .pdf")
    parser.option(
        "--words", nargs="+", metavar="WORD", help=f"the words to draw (default: --near's, or the first {DRAWN})"
    )
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; vectors draw nothing")
    parser.option("--json", action="store_true", help="one JSON object")
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags, read the vectors, answer every question."""
    options = parser_of_vectors().read(arguments)
    if options.top < 1:
        raise ValueError(f"--top is {options.top}: it must be at least 1")
    if options.plot and Path(options.plot).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot {options.plot}: the name of a picture ends in .png, .svg or .pdf")
    if options.words and not options.plot:
        raise ValueError("--words says which words --plot draws: give --plot FILE too")
    for flag in ("export", "plot"):
        path = getattr(options, flag)
        if path and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"--{flag} {path}: there is no folder {Path(path).parent}")
    vectors = load_vectors(options.source)
    V, D = vectors.matrix.shape
    table: dict[str, Any] = {"words": V, "dimensions": D, "near": [], "analogies": []}
    for asked in options.near or ():
        word = spelled(vectors, asked)
        table["near"].append({"word": word, "found": vectors.nearest(word, options.top)})
    for question in options.analogy or ():
        words = [spelled(vectors, asked) for asked in question]
        table["analogies"].append({"question": words, "found": vectors.analogy(*words, options.top)})
    if options.similarity:
        from minilm.classical.vectors import similarity_correlation

        rho, known = similarity_correlation(vectors, read_pairs(options.similarity))
        table["similarity"] = {"spearman": rho, "pairs": known}
    if options.export:
        from minilm.classical.vector_file import write_vectors

        write_vectors(vectors, options.export)
    if options.plot:
        chosen = [spelled(vectors, asked) for asked in options.words or ()]
        draw(vectors, chosen or [word for part in table["near"] for word in words_of(part)], options.plot)
    if options.json:
        print(json.dumps(table, ensure_ascii=False))
    else:
        print("\n".join(lines_of(table, vectors, options)))
    return 0


def load_vectors(source: str) -> Any:
    """The vectors in a file, or in the checkpoint of a run."""
    from minilm.classical.vector_file import read_vectors

    if not Path(source).is_dir():
        return read_vectors(source)
    from minilm.training.checkpoint import load_checkpoint

    model = load_checkpoint(source).model
    if model.kind != "glove":
        raise ValueError(
            f"{source} holds a model of kind {model.kind}, no word vectors: minilm train --model glove makes some"
        )
    return model.vectors


def spelled(vectors: Any, word: str) -> str:
    """The word as the vectors know it: as it is, in lower case, or as the name of a token; ValueError if in no way."""
    from minilm.classical.arpa import to_word

    known = [form for form in (word, word.lower(), to_word(word.encode())) if form in vectors.index]
    return known[0] if known else vectors.words[vectors.row(word)]


def read_pairs(path: str) -> list[tuple[str, str, float]]:
    """Lines of two words and a score, with blanks or tabs between; lines that begin with # are left out."""
    pairs = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            a, b, score = fields
            pairs.append((a, b, float(score)))
        except ValueError:
            raise ValueError(f"line {number} of {path} is not WORD WORD SCORE: write two words and a number") from None
    return pairs


def words_of(part: dict[str, Any]) -> list[str]:
    """A word and its neighbours."""
    return [part["word"], *(word for word, _ in part["found"])]


def draw(vectors: Any, words: Sequence[str], path: str) -> None:
    """The words in the plane, each once; without any the first of the vectors, which in most files are the frequent ones."""
    from minilm.classical.vectors import project
    from minilm.plots.picture import save
    from minilm.plots.vectors import plot_vectors

    words = list(dict.fromkeys(words or vectors.words[:DRAWN]))
    if len(words) < 2 or vectors.matrix.shape[1] < 2:
        raise ValueError("--plot needs at least two words, with vectors of at least two numbers: name more --words")
    points, shares = project(vectors.part(words).units, 2)
    save(plot_vectors(points, words, shares=shares), path)


def lines_of(table: dict[str, Any], vectors: Any, options: Any) -> list[str]:
    """What is printed for people."""
    lines = []
    for part in table["near"]:
        lines += [f"nearest to {part['word']}:", *answers(part["found"])]
    for part in table["analogies"]:
        a, b, c = part["question"]
        lines += [f"{a} is to {b} as {c} is to:", *answers(part["found"])]
    if "similarity" in table:
        rho, known = table["similarity"]["spearman"], table["similarity"]["pairs"]
        lines.append(f"Spearman's correlation with the scores of {known} pairs: {rho:.3f} (1: the same order, 0: none)")
    lines += [f"{name}: {path}" for name, path in (("written", options.export), ("drawn", options.plot)) if path]
    if not lines:
        lines.append(
            f"{table['words']:,} words with {table['dimensions']} numbers each: {', '.join(vectors.words[:20])} ..."
        )
        lines.append("ask with --near WORD or --analogy A B C, write with --export FILE, draw with --plot FILE")
    return lines


def answers(found: Sequence[tuple[str, float]]) -> list[str]:
    """A line an answer, with its cosine."""
    return [f"  {score:6.3f}  {word}" for word, score in found]
