"""`minilm bench`: speed as ratios, both sides measured in turn in one run, since a machine's speed drifts; and quality by time."""

import argparse
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any, TypeVar

from minilm.bench.stopwatch import compare
from minilm.cli.options import Parser, seed, typed_values
from minilm.models.config import SpeedrunConfig
from minilm.training.config import TrainConfig

CONTESTS = ("tokenizer", "ngram", "attention", "loss", "classical")
TABLES = ("training", "blocks", "ablation", "decoding", "finetuning", "saving", "scaling")
Number = TypeVar("Number", int, float)
TOPICS = (*CONTESTS, *TABLES)
SAID_OF_TOPICS = (
    "tokenizer, ngram, attention, loss: our code beside a peer's, as ratios. classical: HMM, word vectors and recurrent networks "
    "beside plain loops and torch.nn, as ratios. training (17 minutes): our recipe beside nanoGPT "
    "and the n-gram. blocks (9 minutes): a block with one part changed. ablation: our recipe without one ingredient. "
    "decoding: tokens a second beside transformers and llama.cpp. finetuning (3 minutes a seed): labels by pretrained and "
    "simple methods. saving: what checkpoints cost beside training. "
    "scaling (10 minutes): small models predict a larger one, which is then trained. "
    "--data to --tune are for what trains, --out for all but the contests"
)


def run(arguments: list[str]) -> int:
    """Measure one topic and print what came out."""
    parser = Parser(
        "bench", "Measure our code beside a peer's in one run.", "minilm bench blocks --seconds 20 --out rows.jsonl"
    )
    parser.option("topic", choices=TOPICS, help=SAID_OF_TOPICS)
    parser.option("--runs", type=int, default=5, metavar="N", help="timed runs of each side (default: 5)")
    parser.option("--large", action="store_true", help="the long contests of the topic instead of the short ones")
    parser.option("--seed", type=seed, default=0, rare=True, help="first seed of a training; other inputs are fixed")
    parser.option("--json", action="store_true", help="one JSON object")
    add_table_flags(parser)
    options = parser.read(arguments)
    if options.runs < 1:
        raise ValueError(f"--runs is {options.runs}: it must be at least 1")
    topic = importlib.import_module(f"minilm.bench.{options.topic}")
    if options.large and not (hasattr(topic, "large_contests") or hasattr(topic, "large_table")):
        raise ValueError(f"--large: {options.topic} has no long contests; leave it out")
    return run_table(topic, options) if options.topic in TABLES else run_contests(topic, options)


def add_table_flags(parser: Parser) -> None:
    """What only the topics that train can be told; a flag that is not given is None."""
    flags: dict[str, dict[str, Any]] = {
        "--out": {
            "metavar": "FILE",
            "help": "JSONL file to which each row is added; rows in it are not measured again",
        },
        "--data": {"metavar": "TEXT", "help": "a file, or stories:N (default: shakespeare; blocks also stories:2000)"},
        "--seconds": {
            "type": float,
            "nargs": "+",
            "metavar": "S",
            "help": "seconds of each training (default: 60 120 300; blocks 20, ablation 60)",
        },
        "--seeds": {"type": int, "metavar": "N", "help": "trainings of each row: medians and spread (default: 1)"},
        "--tune": {"action": "store_true", "help": "score on a third of the training side, to choose settings by"},
        "--steps": {"type": int, "metavar": "N", "help": "updates of each training, instead of seconds"},
        "--split": {"type": float, "metavar": "F", "help": "fraction of a file to train on (default: 0.9)"},
        "--only": {"metavar": "TEXT", "help": "only rows whose names hold this"},
        "--set": {"nargs": "+", "metavar": "NAME=VALUE", "help": "settings of our recipe, such as warmup=5 n_layers=2"},
    }
    for name, settings in flags.items():
        parser.option(name, default=None, rare=name in ("--steps", "--split", "--only", "--set"), **settings)


def run_contests(topic: Any, options: argparse.Namespace) -> int:
    """Two sides a row: seconds and ratios."""
    for name in ("out", "data", "seconds", "seeds", "tune", "steps", "split", "only", "set"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: {options.topic} trains nothing; leave it out, or choose {', '.join(TABLES)}")
    rows = []
    contests = topic.large_contests() if options.large else topic.contests()
    for name, (ours, peer) in contests.items():
        try:
            rows.append({"contest": name, **compare(ours, peer, options.runs)})
        except ImportError as error:
            raise ValueError(f"{name}: {error}: install the extra with pip install 'minilm[test]'") from None
    if options.json:
        print(json.dumps({"topic": options.topic, "rows": rows}))
        return 0
    for row in rows:
        print(
            f"{row['contest']}: {row['ours_s']:.4f} s / {row['peer_s']:.4f} s = {row['ratio']:.2f} (below 1: ours is faster)"
        )
    return 0


def run_table(topic: Any, options: argparse.Namespace) -> int:
    """A row for each job: a table of medians, and what it comes to."""
    from minilm.bench.table import Row, format_table, measure, medians

    request = read_request(options)
    jobs = topic.large_table(request) if options.large else topic.table(request)
    chosen = [job for job in jobs if (options.only or "") in job.name]
    if not chosen:
        raise ValueError(f"--only {options.only!r}: no row is called so; the first one is {jobs[0].name!r}")
    out = Path(options.out) if options.out else None
    rows: list[Row] = []
    code = 0
    try:
        for row in measure(chosen, request.settings(options.topic), out, progress=not options.json):
            rows.append(row)
    except KeyboardInterrupt:
        code = 130
    sentences = topic.conclusions(rows) if hasattr(topic, "conclusions") else []
    if options.json:
        print(json.dumps({"topic": options.topic, "rows": rows, "medians": medians(rows), "conclusions": sentences}))
    elif rows:
        summaries = getattr(topic, "summaries", medians)
        print("\n".join([format_table(summaries(rows)), *sentences]))
    if code:
        kept = f"the rows so far are in {out}; the same command goes on from there"
        lost = "these are the rows so far; with --out FILE they would be kept"
        print(f"minilm: interrupted: {kept if out else lost}", file=sys.stderr)
    return code


def read_request(options: argparse.Namespace) -> Any:
    """What the flags ask of a table."""
    from minilm.bench.table import Request
    from minilm.fast.choose import attention_part

    if options.steps is not None and options.seconds is not None:
        raise ValueError("--steps and --seconds: give one of them, either ends a training")
    n_seeds = 1 if options.seeds is None else at_least("--seeds", options.seeds, 1)
    return Request(
        data=options.data,
        split=0.9 if options.split is None else options.split,
        tune=bool(options.tune),
        seconds=tuple(at_least("--seconds", seconds, 0.1) for seconds in options.seconds or ()),
        steps=None if options.steps is None else at_least("--steps", options.steps, 1),
        changes=read_changes(options.set or []),
        runs=options.runs,
        seeds=tuple(options.seed + i for i in range(n_seeds)),
        attention=attention_part,
    )


def at_least(flag: str, value: Number, bound: Number) -> Number:
    """The value; ValueError if it is too small, or infinite."""
    if not bound <= value < math.inf:
        raise ValueError(f"{flag} is {value}: it must be at least {bound}, and finite")
    return value


def read_changes(pairs: list[str]) -> dict[str, Any]:
    """["warmup=5", "optimizer=adamw"] -> {"warmup": 5, "optimizer": "adamw"}, with the types of the configs' fields."""
    table: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"--set {pair}: write NAME=VALUE")
        try:
            table[name] = json.loads(value)
        except ValueError:
            table[name] = value
    typed = {**typed_values(SpeedrunConfig, table), **typed_values(TrainConfig, table)}
    if unknown := [name for name in table if name not in typed]:
        raise ValueError(f"--set {unknown[0]}: no such setting; minilm train --help-all lists them")
    return typed
