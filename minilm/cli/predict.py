"""`minilm predict`: a text in, its label out, or a tag for each of its words, from a model that was taught them."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from minilm.cli.generate import read_text
from minilm.cli.options import Parser, seed
from minilm.tasks.labelled import Names, load_texts
from minilm.tasks.tables import JSONS, TABLES

FILES = tuple(suffix for suffix in TABLES + JSONS if suffix != ".txt")
WORD = re.compile(r"\s*(?:[^\W_]+(?:['’-][^\W_]+)*|\S)")  # with the blanks before it; a mark is a word of its own


def run(arguments: list[str]) -> int:
    """Parse the flags, load the model, print what it says of each text."""
    parser = Parser(
        "predict",
        "The label of a text with its probability, or a tag for each of its words, from a model made by minilm finetune.",
        "minilm predict checkpoints/my-critic 'A book to remember.'",
    )
    parser.option("checkpoint", help="a run's folder (its best checkpoint, else the last) or one checkpoint")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="the texts (default: the lines of --data)")
    parser.option("--data", metavar="FILE", help="a text on each line, or CSV, TSV, JSONL; - is standard input")
    parser.option(
        "--text-column",
        metavar="NAME",
        rare=True,
        help="the column of the texts (default: as in fine-tuning, or guessed)",
    )
    parser.option(
        "--label-column", metavar="NAME", rare=True, help="a column of labels, which holds no texts (default: the same)"
    )
    parser.option("--base", metavar="DIR", rare=True, help="where the base of a LoRA adapter lies now, if it has moved")
    parser.option("--device", default="cpu", rare=True, help="auto, cpu, cuda or mps (default: cpu)")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; predicting draws nothing")
    parser.option("--json", action="store_true", help="one JSON object a text, one a line")
    options = parser.read(arguments, intermixed=True)
    if bool(options.texts) == (options.data is not None):
        raise ValueError("give either texts or --data FILE: minilm predict checkpoints/my-critic 'A book to remember.'")
    columns = (options.text_column, options.label_column)
    if columns != (None, None) and not is_table(options.data or ""):
        raise ValueError(
            f"--text-column and --label-column are for a table: give --data FILE, one of {', '.join(FILES)}"
        )
    if empty := [i for i, text in enumerate(options.texts, 1) if not text.strip()]:
        raise ValueError(f"text {empty[0]} of {len(options.texts)} is empty: there is nothing to judge")

    from minilm.cli.word_vectors import refuse_vectors
    from minilm.cli.writing import load_with_base
    from minilm.runtime import pick_device

    checkpoint = load_with_base(options.checkpoint, options.base)
    model: Any = checkpoint.model
    refuse_vectors(options.checkpoint, model)
    plan = checkpoint.state.get("finetune", {})
    texts = options.texts or texts_of(options.data, columns, (plan.get("text_column"), plan.get("label_column")))
    kind = getattr(getattr(model, "model", model), "kind", model.kind)
    if kind not in SAY:
        raise ValueError(
            f"{options.checkpoint} holds a model of kind {kind}, which labels nothing: teach one by "
            f"minilm finetune {options.checkpoint} --task classify --data reviews.csv"
        )
    model.to(pick_device(options.device))
    for answer in SAY[kind](model, checkpoint.tokenizer, texts):
        print(json.dumps(answer, ensure_ascii=False) if options.json else line_of(answer))
    return 0


def is_table(path: str) -> bool:
    """Is a file a table by its name? A .txt has a text on each line."""
    return path.lower().removesuffix(".gz").endswith(FILES)


def texts_of(path: str, columns: Names = (None, None), likely: Names = (None, None)) -> list[str]:
    """The texts of a table, or the lines, of a file or standard input, that are not empty; ValueError if there is none.
    `columns` are those of texts and labels as they were named, `likely` as they were in fine-tuning."""
    if is_table(path):
        return load_texts(path, *columns, say=lambda line: print(line, file=sys.stderr), likely=likely)
    text = read_text("--data", path)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"--data {path} holds no text: write one on each line")
    return lines


def labels(model: Any, tokenizer: Any, texts: list[str]) -> Iterator[dict[str, Any]]:
    """What a classifier says of each text."""
    from minilm.finetuning.predict import predict

    for text, said in zip(texts, predict(model, tokenizer, texts), strict=True):
        yield {"text": text, "label": said.label, "probabilities": said.probabilities}


def tags(model: Any, tokenizer: Any, texts: list[str]) -> Iterator[dict[str, Any]]:
    """What a tagger says of the words of each text; those beyond its context have no tag."""
    from minilm.finetuning.predict import predict_tags
    from minilm.finetuning.words import encode_words

    words = [[word[0] for word in WORD.finditer(text)] for text in texts]
    rows = [encode_words(some, tokenizer, model.config.context_length) for some in words]
    for text, some, (_, places), said in zip(
        texts, words, rows, predict_tags(model, [ids for ids, _ in rows]), strict=True
    ):
        yield {"text": text, "words": [word.strip() for word in some], "tags": [said[place] for place in places]}


SAY = {"sequence-classifier": labels, "token-classifier": tags}


def line_of(answer: dict[str, Any]) -> str:
    """An answer for people: label, probability and text; or each word with its tag, but for those outside (O)."""
    if "label" in answer:
        return f"{answer['label']}  {answer['probabilities'][answer['label']]:.1%}  {answer['text']}"
    tagged = zip(answer["words"], [*answer["tags"], *["?"] * len(answer["words"])], strict=False)
    found = " ".join(word if tag == "O" else f"{word}/{tag}" for word, tag in tagged)
    return found if set(answer["tags"]) != {"O"} else f"{found}  (no tags: all are O)"
