"""`minilm predict`: a text in, its label out, or a tag for each of its words, from a model that was taught them."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from minilm.cli.generate import read_text
from minilm.cli.options import Parser, seed

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
    parser.option("--base", metavar="DIR", rare=True, help="where the base of a LoRA adapter lies now, if it has moved")
    parser.option("--device", default="cpu", rare=True, help="auto, cpu, cuda or mps (default: cpu)")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; predicting draws nothing")
    parser.option("--json", action="store_true", help="one JSON object a text, one a line")
    options = parser.read(arguments, intermixed=True)
    if bool(options.texts) == (options.data is not None):
        raise ValueError("give either texts or --data FILE: minilm predict checkpoints/my-critic 'A book to remember.'")
    texts = options.texts or texts_of(options.data)
    if empty := [i for i, text in enumerate(texts, 1) if not text.strip()]:
        raise ValueError(f"text {empty[0]} of {len(texts)} is empty: there is nothing to judge")

    from minilm.cli.word_vectors import refuse_vectors
    from minilm.cli.writing import load_with_base
    from minilm.runtime import pick_device

    checkpoint = load_with_base(options.checkpoint, options.base)
    model: Any = checkpoint.model
    refuse_vectors(options.checkpoint, model)
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


def texts_of(path: str) -> list[str]:
    """The texts of a table, or the lines, of a file or standard input, that are not empty; ValueError if there is none."""
    if path.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".jsonl", ".json")):
        from minilm.tasks.labelled import load_texts

        return load_texts(path, say=lambda line: print(line, file=sys.stderr))
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
