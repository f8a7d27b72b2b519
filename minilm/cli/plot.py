"""`minilm plot`: runs beside each other in one picture, also while they train."""

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser

X_LABELS = {"steps": "steps", "tokens": "tokens read", "seconds": "seconds of training"}
SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Run:
    """What is known of a run: its log, and what its numbers are measured in."""

    folder: str
    records: list[dict[str, Any]]
    unit: str  # of the loss
    look_unit: str  # of the looks
    tokenizer: str  # a fingerprint
    text: str  # what tells the text of the looks from another
    bytes_per_token: float  # of the text it learns from; NaN where that is not known


def run(arguments: list[str]) -> int:
    """Read the logs, draw them, and say in a line each how far the runs came."""
    options = parser_of_plot().read(arguments, intermixed=True)
    out = check(options)
    runs = [read_run(folder) for folder in options.runs]
    notes = compare(runs)
    in_bits = len({each.tokenizer for each in runs}) > 1

    from minilm.plots.picture import save
    from minilm.plots.runs import plot_runs, short_names

    names = short_names(options.runs)
    courses = [course(each, name, options.x, in_bits) for each, name in zip(runs, names, strict=True)]
    unit = "bits per byte" if in_bits else runs[0].unit
    save(plot_runs(courses, X_LABELS[options.x], unit, runs[0].look_unit, options.smooth), out)
    figures = [describe(each, name) for each, name in zip(runs, names, strict=True)]
    if options.json:
        print(json.dumps({"out": str(out), "x": options.x, "loss_unit": unit, "runs": figures, "notes": notes}))
        return 0
    width = max(map(len, names))
    for row in figures:
        print(f"{row['name']:<{width}}  {in_words(row, runs[0].look_unit)}")
    print("\n".join([*notes, f"the picture is {out}"]))
    return 0


def parser_of_plot() -> Parser:
    """The flags."""
    parser = Parser(
        "plot",
        "Compare runs in one picture: loss in training, and scores on text they have not seen. Runs may still be training.",
        "minilm plot checkpoints/stories-gpt checkpoints/stories-llama --out comparison.png",
    )
    parser.option("runs", nargs="+", metavar="RUN", help="folders of runs, as `train` and `finetune` make them")
    parser.option("--out", metavar="FILE", default="runs.png", help="a .png, .svg or .pdf (default: runs.png)")
    parser.option("--x", choices=tuple(X_LABELS), default="steps", help="what goes to the right (default: steps)")
    parser.option("--smooth", type=int, metavar="N", help="mean of so many steps (default: a thirtieth of each run)")
    parser.option("--json", action="store_true", help="one JSON object instead of words")
    return parser


def check(options: argparse.Namespace) -> Path:
    """Refuse what cannot come to a picture, before anything is read; returns where it goes."""
    out = Path(options.out)
    if options.smooth is not None and options.smooth < 1:
        raise ValueError(f"--smooth is {options.smooth}: it must be at least 1, which draws the loss as it is")
    if out.suffix not in SUFFIXES or out.is_dir():
        raise ValueError(f"--out {out} is no picture: let its name end in {', '.join(SUFFIXES)}")
    seen: set[Path] = set()
    for folder in options.runs:
        if (place := Path(folder).resolve()) in seen:
            raise ValueError(f"{folder} is named twice: name each run once")
        seen.add(place)
    return out


# ---- reading


def read_run(folder: str) -> Run:
    """The run in this folder; ValueError if it is none, or has not done a step."""
    from minilm.text.token_file import read_header
    from minilm.training.run_log import LOG, read_log

    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"{folder} is no folder: name the folder of a run")
    if not (path / LOG).is_file():
        raise ValueError(f"{folder} is no run that was trained in steps: it has no {LOG}; name another folder")
    records = read_log(path / LOG)
    if not records:
        raise ValueError(f"{folder} has done no step yet: its {LOG} is empty; wait for its first, or leave it out")
    for record in records:
        numbers = [record.get("loss"), record.get("tokens"), record.get("validation", 0.0)]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"{path / LOG} has no whole record of step {record['step']}: it is no log of this minilm")
    if not (path / "train.tokens").is_file():
        return read_taught(path, folder, records)
    train, aside = (read_header(path / f"{side}.tokens") for side in ("train", "validation"))
    text = f"{aside['n_documents']} documents, {aside['n_bytes']} bytes"
    ratio = train["n_bytes"] / max(1, train["n_tokens"])
    return Run(folder, records, "nats per token", "bits per byte", train["fingerprint"], text, ratio)


def read_taught(path: Path, folder: str, records: list[dict[str, Any]]) -> Run:
    """A run of `finetune`: both its numbers are nats per label, or per token of the answers."""
    from minilm.training.storage import newest_first, read_json

    if not (steps := newest_first(path)):
        raise ValueError(
            f"{folder} has no checkpoint yet, which says what is taught: wait for its first, or leave it out"
        )
    state = read_json(steps[0] / "state.json", state=dict)["state"]
    unit = "nats per label" if state.get("labels") else "nats per token"
    tokenizer = str(read_json(steps[0] / "tokenizer.json"))
    files = state.get("files")
    aside = files.get("aside.json") if isinstance(files, dict) else None
    return Run(folder, records, unit, unit, tokenizer, str(aside), math.nan)


def compare(runs: Sequence[Run]) -> list[str]:
    """What has to be said of these runs beside each other; ValueError where they have nothing in common."""
    first = runs[0]
    for other in runs[1:]:
        if other.look_unit != first.look_unit:
            raise ValueError(
                f"{first.folder} is measured in {first.look_unit}, {other.folder} in {other.look_unit}: draw them apart"
            )
        if other.tokenizer != first.tokenizer and first.look_unit != "bits per byte":
            raise ValueError(
                f"{first.folder} and {other.folder} have different tokenizers, so that their nats per token cannot be "
                "compared: draw them apart"
            )
    notes = []
    if any(other.tokenizer != first.tokenizer for other in runs):
        notes.append(
            "the runs have different tokenizers, and nats per token of one are not those of another: the loss is drawn in bits "
            "per byte"
        )
    if any(other.text != first.text for other in runs):
        notes.append("the runs have different texts: their scores do not say which model is better")
    return notes


# ---- what is shown


def course(each: Run, name: str, x: str, in_bits: bool) -> Any:
    """The curves of a run over steps, tokens or seconds, its loss in bits per byte where it is asked for."""
    import numpy as np

    from minilm.plots.runs import Course

    places = np.array(places_of(each, x), dtype=np.float64)
    scale = 1 / (math.log(2) * each.bytes_per_token) if in_bits else 1.0
    loss = scale * np.array([record["loss"] for record in each.records])
    looked = [i for i, record in enumerate(each.records) if "validation" in record]
    looks = np.array([each.records[i]["validation"] for i in looked])
    return Course(name, places, loss, places[looked], looks)


def places_of(each: Run, x: str) -> list[float]:
    """Where each step of the log lies on the axis; ValueError if the log cannot say it."""
    if x == "steps":
        return [record["step"] for record in each.records]
    if each.records[0]["step"] != 1:
        raise ValueError(f"the log of {each.folder} begins with step {each.records[0]['step']}: draw it with --x steps")
    if x == "tokens":
        return list(itertools.accumulate(record["tokens"] for record in each.records))
    if any(not isinstance(record.get("seconds"), int | float) for record in each.records):
        raise ValueError(f"{each.folder} has no times.jsonl that knows all its steps: draw it with --x steps")
    return [record["seconds"] for record in each.records]


def describe(each: Run, name: str) -> dict[str, Any]:
    """The figures of a run: how far it came, and its best look."""
    last = each.records[-1]
    looks = [(record["validation"], record["step"]) for record in each.records if "validation" in record]
    best = min(looks, default=(None, None))
    return {
        "run": each.folder,
        "name": name,
        "steps": last["step"],
        "tokens": sum(record["tokens"] for record in each.records),
        "seconds": last.get("seconds"),
        "loss": last["loss"],
        "best": best[0],
        "best_step": best[1],
        "last": looks[-1][0] if looks else None,
    }


def in_words(row: dict[str, Any], unit: str) -> str:
    """One run in a line.

    >>> in_words({"steps": 400, "tokens": 819200, "seconds": 61.2, "best": 1.2345, "best_step": 360}, "bits per byte")
    '400 steps, 819,200 tokens, 61 s; best 1.2345 bits per byte at step 360'
    """
    seconds = "" if row["seconds"] is None else f", {row['seconds']:,.0f} s"
    best = "no look yet" if row["best"] is None else f"best {row['best']:.4f} {unit} at step {row['best_step']:,}"
    return f"{row['steps']:,} steps, {row['tokens']:,} tokens{seconds}; {best}"
