"""`minilm generate`: a trained model goes on from a prompt, streamed as it writes. The ways of decoding are in `decoding.py`."""

import argparse
import dataclasses
import json
import math
import sys
import time
from typing import Any

from minilm.cli.answers import Printer, print_stats
from minilm.cli.options import Parser, make_config, seed
from minilm.decoding.config import SampleConfig

DRAWN = tuple(field.name for field in dataclasses.fields(SampleConfig))
WRITES = (*DRAWN, "max_new_tokens", "samples", "stop", "bias", "bad_words", "beams", "draft", "regex", "json_schema")
# flag -> flags that make no sense with it, and why
CONFLICTS: list[tuple[str, tuple[str, ...], str]] = [
    ("prompt_file", ("prompt",), "give one of them"),
    (
        "score",
        (*WRITES, "prompt_file", "overflow", "no_cache", "log_probs", "stats"),
        "a text is scored, none is written",
    ),
    (
        "beams",
        (*DRAWN, "samples", "stop", "draft"),
        "beam search draws nothing, it looks for the likeliest texts",
    ),
    ("regex", ("json_schema",), "a text has one form"),
    ("regex", ("stop", "bad_words"), "the text might not be finished"),
    ("json_schema", ("stop", "bad_words"), "the text might not be finished"),
]
NEEDS = {"length_penalty": "beams", "n_best": "beams", "draft_tokens": "draft"}
# flag -> default, least and greatest value
NUMBERS: dict[str, tuple[float, float, float]] = {
    "max_new_tokens": (200, 1, math.inf),
    "samples": (1, 1, 100_000),
    "beams": (1, 1, 256),
    "n_best": (1, 1, 256),
    "length_penalty": (1.0, -10, 10),
    "draft_tokens": (4, 1, 64),
}


def parser_of_generate() -> Parser:
    """The flags. What was not given is None, False or []."""
    parser = Parser(
        "generate",
        "Let a trained model go on from a prompt.",
        "minilm generate checkpoints/walk/gpt --prompt 'ROMEO.' --max-new-tokens 200 --temperature 0.8 --seed 1",
    )
    parser.option("checkpoint", help="a run's folder (its best checkpoint, else the last) or one checkpoint")
    parser.option("--prompt", metavar="TEXT", help="what the text begins with (default: nothing)")
    parser.option("--max-new-tokens", type=int, metavar="N", help="length of the continuation (default: 200)")
    parser.option("--samples", type=int, metavar="N", help="N texts a prompt, with seeds S, S + 1, ... (default: 1)")
    parser.option("--seed", type=seed, default=0, metavar="S", help="same seed, same text (default: 0)")
    parser.add_config(SampleConfig, shown=("temperature", "top_k", "top_p"))
    parser.option("--json", action="store_true", help="one JSON object a text, one a line")
    add_rare_flags(parser)
    return parser


def add_rare_flags(parser: Parser) -> None:
    """What `--help-all` shows."""
    texts = {
        "--prompt-file": ("FILE", "a prompt on each line; - is standard input"),
        "--draft": ("HOW", "speculative decoding, same distribution: lookup, or a checkpoint that guesses"),
        "--regex": ("PATTERN", "write only what this regular expression matches as a whole"),
        "--json-schema": ("FILE", "write only JSON that is valid for this schema"),
        "--score": ("FILE", "write nothing: say what each token of this text costs behind the prompt"),
    }
    for name, (metavar, help) in texts.items():
        parser.option(name, metavar=metavar, rare=True, help=help)
    for name, metavar, help in (
        ("--stop", "TEXT", "end before this text (may be repeated)"),
        ("--bad-words", "TEXT", "never the tokens of this text, alone or after a space (may be repeated)"),
        ("--bias", "TEXT=NUMBER", "add to the score of this one token; -inf forbids it (may be repeated)"),
    ):
        read = bias if name == "--bias" else str
        parser.option(name, metavar=metavar, action="append", type=read, default=[], rare=True, help=help)
    parser.option("--beams", type=int, metavar="N", rare=True, help="beam search: the likeliest text, with N beams")
    parser.option("--n-best", type=int, metavar="N", rare=True, help="the N best of the beams (default: 1)")
    parser.option("--length-penalty", type=float, metavar="X", rare=True, help="above 0 = long texts gain (default: 1)")
    parser.option("--draft-tokens", type=int, metavar="N", rare=True, help="guesses at a time (default: 4)")
    parser.option(
        "--overflow",
        choices=("stop", "slide"),
        rare=True,
        help="when the context is full (default: slide; --draft and --beams can only stop)",
    )
    for name, help in (
        ("--no-cache", "recompute everything for each token (same text, slower)"),
        ("--log-probs", "the cost of each token in bits, as the model sees it; in JSON log p in nats"),
        ("--stats", "tokens a second, bytes of the cache, accepted guesses"),
    ):
        parser.option(name, action="store_true", rare=True, help=help)
    add_model_flags(parser)


def add_model_flags(parser: Parser) -> None:
    """How the model computes; `chat` has these too."""
    parser.option("--int8", action="store_true", rare=True, help="round the weights to 8 bits")
    parser.option(
        "--fast", action="store_true", rare=True, help="compiled kernels: same text, but where two tokens nearly tie"
    )
    parser.option("--device", default="cpu", rare=True, help="auto, cpu, cuda or mps (default: cpu)")
    parser.option("--base", metavar="DIR", rare=True, help="where the base of a LoRA adapter lies now, if it has moved")


def bias(text: str) -> tuple[str, float]:
    """The value of --bias: "the=-2.5" -> ("the", -2.5)."""
    token, sign, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not sign or not token or not value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be TEXT=NUMBER, such as the=-2.5 or the=-inf")
    return token, value


def check(options: argparse.Namespace) -> SampleConfig:
    """Refuse what makes no sense, fill in the defaults, and return how to draw."""
    given = {name for name, value in vars(options).items() if not (value is None or value is False or value == [])}
    for name, others, why in CONFLICTS:
        for other in (other for other in others if {name, other} <= given):
            raise ValueError(f"{flag(name)} and {flag(other)}: {why}; leave one out")
    for name, needed in NEEDS.items():
        if name in given and needed not in given:
            raise ValueError(f"{flag(name)} is for {flag(needed)}: give both or neither")
    for name, (default, least, most) in NUMBERS.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            to = "" if most == math.inf else f" and at most {most}"
            raise ValueError(f"{flag(name)} is {value}: it must be at least {least}{to}")
        setattr(options, name, default if value is None else value)
    if options.n_best > options.beams:
        raise ValueError(f"--n-best is {options.n_best}: there are {options.beams} beams")
    if options.seed + options.samples > 2**32:
        raise ValueError(f"--samples is {options.samples}: from seed {options.seed} on there are not so many seeds")
    config = make_config(SampleConfig, vars(options))
    if config.temperature == 0 and options.samples > 1:
        raise ValueError(f"--samples {options.samples} with --temperature 0: all would be the same text")
    check_texts(options)
    ends = {"draft", "beams"} & given
    if ends and options.overflow == "slide":
        raise ValueError(f"--overflow slide and {flag(min(ends))}: it ends where the context does; leave one out")
    options.overflow = options.overflow or ("stop" if ends else "slide")
    options.beam_search = "beams" in given
    return config


def check_texts(options: argparse.Namespace) -> None:
    """Each text that was given is one in UTF-8; what stops or forbids something is not empty."""
    for name in ("prompt", "regex", "stop", "bad_words", "bias"):
        value = getattr(options, name)
        for text in value if isinstance(value, list) else [value or ""]:
            try:
                "".join(text[:1] if isinstance(text, tuple) else text).encode()
            except UnicodeEncodeError:
                raise ValueError(f"{flag(name)} is not valid UTF-8") from None
            if not text and isinstance(value, list):
                raise ValueError(f"{flag(name)} is empty: give a text of at least one character")


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def read_prompts(options: argparse.Namespace) -> list[str]:
    """--prompt, or the lines of --prompt-file that are not empty."""
    path = options.prompt_file
    if path is None:
        return [options.prompt or ""]
    prompts = [line for line in read_text("--prompt-file", path).split("\n") if line]
    if not prompts:
        raise ValueError(f"--prompt-file {path} holds no prompt: write one a line")
    return prompts


def read_text(name: str, path: str) -> str:
    """The text of a file, or of standard input, in UTF-8 whatever the locale, with line feeds as line ends."""
    if path == "-" and sys.stdin is None:
        raise ValueError(f"{name} -: standard input is closed")
    try:
        if path == "-":
            if hasattr(sys.stdin, "reconfigure"):
                sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8-sig") as file:
                text = file.read()
        text.encode()
    except UnicodeError:
        raise ValueError(f"{name} {path} is not valid UTF-8") from None
    return text


def read_form(options: argparse.Namespace) -> Any:
    """The automaton of --regex or --json-schema; None without them."""
    if options.regex is not None:
        from minilm.decoding.regular import compile_pattern

        return compile_pattern(options.regex)
    if options.json_schema is None:
        return None
    from minilm.decoding.json_schema import compile_schema

    try:
        schema = json.loads(read_text("--json-schema", options.json_schema))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"--json-schema {options.json_schema} is not valid JSON: {error}") from None
    try:
        return compile_schema(schema)
    except ValueError as error:
        raise ValueError(f"--json-schema {options.json_schema}: {error}") from None


def run(arguments: list[str]) -> int:
    """Parse the flags, load the model, print what it writes."""
    options = parser_of_generate().read(arguments)
    config = check(options)
    prompts, form = read_prompts(options), read_form(options)
    text = None if options.score is None else read_text("--score", options.score)

    from minilm.cli.decoding import beams, new_job, sampled, scored, speculative

    alone = len(prompts) == options.samples == 1 and not options.beam_search and text is None
    printer = Printer(options, prompts[0] if alone else None)
    job = new_job(options, config, form, printer.piece)
    started = time.perf_counter()
    if text is not None:
        printer.score(scored(job, prompts[0], text), job.tokenizer)
        return 0
    rows = [(prompt, options.seed + i) for prompt in prompts for i in range(options.samples)]
    way = beams if options.beam_search else sampled if options.draft is None else speculative
    for answer in way(job, rows):
        printer.answer(answer, job.tokenizer, time.perf_counter() - started, job.stats())
    if options.stats and not options.json:
        print_stats(job.stats() or {})
    return 0
