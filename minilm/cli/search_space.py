"""What `minilm search` is to try, from the words of the command line: options and their values, candidates, and the plan."""

import math
import random
from pathlib import Path
from typing import Any

from minilm.cli.options import did_you_mean
from minilm.cli.searching import CLASSIFIERS, MODELS, STEPS, Labels, Language, in_words, option_types
from minilm.training.search import Range, draw, grid
from minilm.training.trials import Plan

N_DRAWN = 9  # random candidates, where nobody says otherwise
MOST_TRIALS = 100_000
WHOLE = {"trials": 1, "seeds": 1, "folds": 2, "keep": 2, "score_bytes": 1000}  # whole numbers, and their lowest values
TYPES = {"data": str, "model": str, "task": str, "out": str, "tokenizer": str, "device": str, "plain": bool}
Space = dict[str, Range | list[Any]]


def check(chosen: dict[str, Any]) -> None:
    """Fill in what was not said; ValueError for what cannot be, whether it came from flags or from a file."""
    for name, wanted in TYPES.items():
        if not isinstance(chosen.get(name, wanted()), wanted):
            raise ValueError(f"{name} is {chosen[name]!r}: it must be of type {wanted.__name__}")
    if not chosen.get("data"):
        raise ValueError("say which text to learn with --data: shakespeare, stories, or a file")
    for name, least in WHOLE.items():
        if name in chosen and (type(chosen[name]) is not int or chosen[name] < least):
            raise ValueError(f"{name} is {chosen[name]!r}: it must be a whole number of at least {least}")
    classify = chosen.get("task") == "classify" or chosen.get("model") in CLASSIFIERS
    kind = chosen.setdefault("model", "logistic-regression" if classify else "speedrun")
    if kind not in MODELS:
        raise ValueError(f"model {kind!r} is unknown: choose one of {', '.join(MODELS)}")
    if classify and kind not in CLASSIFIERS:
        raise ValueError(f"model {kind} is no classifier: for --task classify choose one of {', '.join(CLASSIFIERS)}")
    if "minutes" in chosen:
        raise ValueError(
            "--minutes would give every trial other steps each time: say how long a trial is with --steps N"
        )
    chosen.setdefault("score_bytes", 200_000)
    chosen.setdefault("folds", 5 if classify else 0)
    foreign = {"steps": kind in (*CLASSIFIERS, "ngram"), "halving": kind in (*CLASSIFIERS, "ngram")}
    foreign |= {"keep": not chosen.get("halving"), "text_column": not classify, "label_column": not classify}
    for name in ("halving", "steps", "keep", "text_column", "label_column"):
        if name in chosen and foreign[name]:
            belongs = (
                "--halving"
                if name == "keep"
                else "classifiers"
                if "column" in name
                else "models that are trained in steps"
            )
            raise ValueError(f"{name} is for {belongs}: leave it out")
    if kind == "ngram" and chosen.get("seeds", 1) > 1:
        raise ValueError("an n-gram is counted and has no seed: leave --seeds out, and give --folds 5")
    types, mine = (
        option_types(kind),
        {*TYPES, *WHOLE, "grid", "random", "halving", "seed", "text_column", "label_column"},
    )
    for name in chosen:
        if name not in mine and (name not in types or kind in CLASSIFIERS):
            one = f"write --grid {name}=VALUE" if name in types else "leave it out"
            raise ValueError(f"{name} is no flag of model {kind}: {one}")


def space_of(chosen: dict[str, Any]) -> Space:
    """What is tried: {name: its values, or the range to draw from}. ValueError for a name or a value that cannot be."""
    types = option_types(chosen["model"])
    space: Space = {}
    for flag, read in (("grid", read_values), ("random", read_range)):
        texts = chosen.get(flag, [])
        for text in [texts] if isinstance(texts, str) else texts:
            name, equals, values = str(text).partition("=")
            name = name.strip().replace("-", "_")
            where = f"--{flag} {text}"
            if not equals or not values.strip():
                example = "NAME=A,B,..." if flag == "grid" else "NAME=LOW:HIGH or NAME=log:LOW:HIGH"
                raise ValueError(f"{where}: write {example}")
            if name in ("minutes", "steps", "seed"):
                instead = "--seeds N" if name == "seed" else "--steps N, the same for every trial"
                raise ValueError(f"{where}: {name} is not searched for, give {instead}")
            if name not in types:
                meant = did_you_mean(name, types) or (f"; it has {', '.join(types)}" if len(types) < 8 else "")
                raise ValueError(f"{where}: {name} is no option of model {chosen['model']}{meant}")
            if name in space or name in chosen:
                raise ValueError(f"{name} is given twice, once by --{flag}: say it once")
            space[name] = read(values, types[name], where)
    if not space:
        raise ValueError("say what to try: --grid learning_rate=1e-3,3e-3 or --random learning_rate=log:1e-4:1e-2")
    return space


def read_values(text: str, wanted: type, where: str) -> list[Any]:
    """ "1e-3,3e-3" -> [0.001, 0.003]."""
    values = [read_value(part.strip(), wanted, where) for part in text.split(",")]
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"{where}: a value stands there twice")
    return values


def read_range(text: str, wanted: type, where: str) -> Range:
    """ "log:1e-4:1e-2" -> Range(0.0001, 0.01, log=True)."""
    log = text.strip().startswith("log:")
    ends = text.strip().removeprefix("log:").split(":")
    if wanted not in (int, float) or len(ends) != 2:
        remedy = (
            "write LOW:HIGH or log:LOW:HIGH"
            if wanted in (int, float)
            else "it is no number, give its values with --grid"
        )
        raise ValueError(f"{where}: {remedy}")
    low, high = (read_value(end.strip(), wanted, where) for end in ends)
    try:
        return Range(low, high, log)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def read_value(text: str, wanted: type, where: str) -> Any:
    """The value of an option; ValueError unless it is of its type."""
    truths = {"true": True, "false": False}
    try:
        return truths[text.lower()] if wanted is bool else wanted(text)
    except (ValueError, KeyError):
        raise ValueError(f"{where}: {text!r} is not of type {wanted.__name__}") from None


def candidates_of(chosen: dict[str, Any], space: Space) -> list[dict[str, Any]]:
    """All combinations, or so many random ones, of which equal ones are tried once."""
    ranges = {name: choices for name, choices in space.items() if isinstance(choices, Range)}
    if not ranges and "trials" not in chosen:
        if math.prod(map(len, space.values())) > MOST_TRIALS:  # type: ignore[arg-type]
            raise ValueError(f"the grid has more than {MOST_TRIALS:,} combinations: give fewer values, or --trials N")
        return grid(space)  # type: ignore[arg-type]
    rng = random.Random(chosen.get("seed", 0))
    found: list[dict[str, Any]] = []
    for _ in range(min(chosen.get("trials", N_DRAWN), MOST_TRIALS)):
        options = draw(space, rng)
        for name, limits in ranges.items():
            if type(options[name]) is float:  # four digits are enough, and can be read
                options[name] = min(max(float(f"{options[name]:.4g}"), limits.low), limits.high)
        if options not in found:
            found.append(options)
    return found


def plan_of(chosen: dict[str, Any], out: Path) -> tuple[Any, Plan]:
    """What is searched, and the plan. ValueError for a candidate of which nothing can be made."""
    kind, folds = chosen["model"], chosen["folds"]
    subject: Any = Labels(kind, chosen, folds) if kind in CLASSIFIERS else Language(kind, chosen, folds, out)
    candidates = candidates_of(chosen, space_of(chosen))
    for options in candidates:
        try:
            subject.check(options)
        except ValueError as error:
            raise ValueError(f"{in_words(options)}: {error}") from None
    first, n_seeds = chosen.get("seed", 0), chosen.get("seeds", 1)
    steps = chosen.get("steps", STEPS) if subject.has_steps else 1
    keep = chosen.get("keep", 3) if chosen.get("halving") else 0
    if 0 < len(candidates) <= keep:
        raise ValueError(
            f"--halving has nothing to halve of {len(candidates)} candidates: try more than {keep}, or leave it out"
        )
    return subject, Plan(candidates, [first + i for i in range(n_seeds)], folds, steps, keep)
