"""`minilm search`: many trainings with different options in, the best options out, and whether they are better than chance."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minilm.classical.config import NgramConfig, OneDiscount
from minilm.cli.options import Parser, as_started, read_options, seed
from minilm.cli.run_folder import RunStopped, new_run
from minilm.cli.search_report import RESULT, report, result_of
from minilm.cli.search_space import N_DRAWN, check, plan_of, space_of
from minilm.cli.searching import MODELS, STEPS, in_words
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.rnn_config import RNNConfig
from minilm.training.config import TrainConfig
from minilm.training.lock import lock_run
from minilm.training.search import Range
from minilm.training.storage import read_json, to_json
from minilm.training.trials import Plan, TrialsFile, conduct

PLAN, TRIALS, PICTURE = "search.json", "trials.jsonl", "search.png"  # in the folder of the search
SHOWN = ("steps",)
LEFT_OUT = ("seed", "cell", "eval_every", "save_every", "compile", "discounts")  # nobody looks at a trial on the way


def parser_of_search() -> Parser:
    """The flags: those of the search, and one for every option of a language model that is the same in all trials."""
    parser = Parser(
        "search",
        "Try options of minilm train, an n-gram or a classifier, and say which are best and by how much more than chance.",
        "minilm search --data stories --model gpt --grid learning_rate=1e-3,3e-3 --grid n_layers=2,4 --steps 200 --seeds 3",
    )
    parser.option("--data", metavar="DATA", help="a text as in train; for a classifier labelled texts as in finetune")
    parser.option("--model", choices=MODELS, metavar="KIND", help=f"{', '.join(MODELS)} (default: speedrun)")
    parser.option(
        "--grid", action="append", metavar="NAME=A,B,..", help="try these values of an option; may stand several times"
    )
    parser.option(
        "--random", action="append", metavar="NAME=LOW:HIGH", help="draw values, also NAME=log:LOW:HIGH; see --trials"
    )
    parser.option(
        "--trials", type=int, metavar="N", help=f"try N random combinations (default: all; with --random {N_DRAWN})"
    )
    parser.option(
        "--halving", action="store_true", default=None, help="begin with short trials, go on with the best third"
    )
    parser.option(
        "--seeds", type=int, metavar="N", help="try each candidate with N seeds, to know what is chance (default: 1)"
    )
    parser.option(
        "--folds", type=int, metavar="K", help="score on K folds in turn (default: the last tenth; classifiers: 5)"
    )
    parser.option("--out", metavar="DIR", help="folder of the search (default: checkpoints/<data>-<model>-search)")
    parser.option("--resume", metavar="DIR", help="go on with the search in this folder")
    parser.option(
        "--task", rare=True, choices=("classify",), help="classify: with --model naive-bayes or logistic-regression"
    )
    parser.option("--keep", rare=True, type=int, metavar="N", help="--halving keeps one in N (default: 3)")
    parser.option(
        "--score-bytes", rare=True, type=int, metavar="N", help="score on at most so many bytes (default: 200000)"
    )
    parser.option(
        "--seed", rare=True, type=seed, help="seed of what is drawn, and the first seed of the trials (default: 0)"
    )
    parser.option(
        "--tokenizer", rare=True, metavar="KIND", help="bpe, char, byte, or a saved tokenizer's file (default: bpe)"
    )
    parser.option(
        "--text-column", rare=True, metavar="NAME", help="the column of the texts (default: guessed, and said)"
    )
    parser.option(
        "--label-column", rare=True, metavar="NAME", help="the column of the labels (default: guessed, and said)"
    )
    parser.option("--config", rare=True, metavar="FILE", help="TOML file of options; flags win over it")
    parser.option("--device", rare=True, help="auto, cpu, cuda or mps (default: auto)")
    parser.option(
        "--plain", rare=True, action="store_true", default=None, help="only the readable parts, no fused kernel"
    )
    parser.option(
        "--json", rare=True, action="store_true", default=None, help="one JSON object at the end, no progress bar"
    )
    for config in (TrainConfig, GPTConfig, SpeedrunConfig, RNNConfig, NgramConfig, OneDiscount):
        parser.add_config(config, SHOWN, LEFT_OUT, {"steps": STEPS}, hidden=("minutes",))
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags and search."""
    chosen = read_options(parser_of_search(), arguments)
    as_json = bool(chosen.pop("json", False))
    chosen.pop("help_all", None), chosen.pop("config", None)
    say = (lambda message: None) if as_json else print
    if folder := chosen.get("resume"):
        out = Path(folder)
        if not (out / PLAN).is_file():
            raise ValueError(f"--resume {folder} is no folder of a search: it has no {PLAN}")
        with lock_run(out):
            kept = read_json(out / PLAN, chosen=dict, digest=str)
            return search(kept["chosen"], out, say, as_json, kept["digest"])
    check(chosen)
    plan_of(chosen, Path())  # complains before anything slow begins

    from minilm.runtime import minilm_home

    data, kind = str(chosen["data"]), chosen["model"]
    name = Path(data).stem.replace("*", "all").replace(":", "-") or "text"
    out = Path(chosen.pop("out", None) or minilm_home() / "checkpoints" / f"{name}-{kind}-search")
    if Path(data).exists():
        chosen["data"] = str(Path(data).absolute())  # the search may be gone on with from another folder
    with new_run(out, kept=PLAN):
        return search(chosen, out, say, as_json)


# ---- the search


def search(chosen: dict[str, Any], out: Path, say: Callable[[str], Any], as_json: bool, digest: str = "") -> int:
    """Do what is left to do in the folder `out`, and say what came out. `digest` is that of the data when the search began."""
    from minilm.plots.picture import save
    from minilm.plots.trials import plot_trials

    subject, plan = plan_of(chosen, out)
    read = subject.load(plan.candidates, say)
    if digest and read != digest:
        raise ValueError(f"{chosen['data']} is not what it was when the search in {out} began: begin a new one")
    if not digest:
        write(out / PLAN, {"chosen": chosen, "digest": read})
    file = TrialsFile(out / TRIALS)
    say(outline(plan, subject.has_steps))
    with told(out, plan, file), progress(plan, subject.has_steps, file, as_json) as run_with:
        tried = conduct(
            plan, lambda options, budget: file.scores_of(plan.trials(options, budget), run_with(subject.score))
        )
    result = result_of(tried, plan, subject)
    write(out / RESULT, result)
    space = space_of(chosen)
    drawn = {name: choices.log for name, choices in space.items() if isinstance(choices, Range)}
    rows = [(one.options, one.budget, one.scores) for one in tried]
    save(plot_trials(rows, subject.score_name, drawn), out / PICTURE)
    if as_json:
        print(json.dumps({"out": str(out), **result, "seconds": round(file.seconds, 3)}))
    for line in report(tried, plan, result, subject, space):
        say(line)
    say(f"the search lies in {out} ({PICTURE} shows it), its trials took {file.seconds:,.0f} s")
    return 0


def write(path: Path, table: dict[str, Any]) -> None:
    """A JSON file that appears whole or not at all."""
    from minilm.runtime import whole_file

    with whole_file(path) as unfinished:
        unfinished.write_bytes(to_json(table))


def outline(plan: Plan, has_steps: bool) -> str:
    """What the search is going to do, and what it costs."""
    n, n_seeds = len(plan.candidates), len(plan.seeds)
    cells = f"{n_seeds} seed{'s' * (n_seeds > 1)}" + (f" x {plan.folds} folds" if plan.folds else "")
    tried = f"{n} candidate{'s' * (n > 1)} x {cells}"
    if not has_steps:
        return f"{tried}: {plan.n_trials:,} trials"
    if not plan.keep:
        return f"{tried}: {plan.n_trials:,} trials of {plan.steps:,} steps, {plan.cost:,} steps in all"
    rounds = ", ".join(f"{n} of {budget:,} steps" for n, budget in plan.rounds)
    share = f"what {plan.cost / (plan.rounds[-1][1] * plan.n_cells):.3g} of {n} cost without halving"
    halved = f"{tried}, halved in {plan.n_rounds} rounds ({rounds})"
    return f"{halved}: {plan.n_trials:,} trials, {plan.cost:,} steps in all, {share}"


@contextmanager
def told(out: Path, plan: Plan, file: TrialsFile) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a full disk leave a search that can be gone on with: say how, in one line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, OSError) as stop:
        if isinstance(stop, OSError):
            why, code = f"{stop.filename or out}: {stop.strerror or stop}", 2
        else:
            why, code = f"ended by {getattr(stop, 'name', 'Ctrl-C')}", getattr(stop, "exit_code", 130)
        done = f"{len(file.scores):,} of {plan.n_trials:,} trials are done and kept"
        again = as_started(f"minilm search --resume {out}")
        raise RunStopped(f"{why}; {done}, go on with: {again}", code) from None


@contextmanager
def progress(plan: Plan, has_steps: bool, file: TrialsFile, quiet: bool) -> Iterator[Callable[[Any], Any]]:
    """A bar over all trials, which counts steps where there are some: what is left is known from the first trial on."""
    from tqdm import tqdm

    every = {
        trial.key: trial
        for n, budget in plan.rounds
        for options in plan.candidates
        for trial in plan.trials(options, budget)
    }
    before = sum(every[key].budget for key in file.scores if key in every)
    total, unit = plan.cost if has_steps else plan.n_trials, "step" if has_steps else "trial"
    with tqdm(total=total, initial=before, unit=unit, smoothing=0, disable=quiet, dynamic_ncols=True) as bar:

        def run_with(score: Callable[..., float]) -> Callable[[Any], float]:
            def run(trial: Any) -> float:
                least = min(file.scores.values(), default=math.inf)
                best = f", best {least:.4g}" if math.isfinite(least) else ""
                bar.set_postfix_str(f"trial {len(file.scores) + 1} of {plan.n_trials}{best}")
                begun = bar.n
                try:
                    found = score(trial, lambda: bar.update(1))
                except ValueError as error:  # say, a text too short for this batch
                    raise ValueError(f"{in_words(trial.options)}: {error}") from None
                bar.update(begun + trial.budget - bar.n)  # all of it, also if it failed half-way
                return found

            return run

        yield run_with
