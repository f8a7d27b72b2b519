"""`minilm finetune`: a trained model and examples in, a model with a new skill in a folder out."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser, as_started, make_config, read_options, seed
from minilm.cli.run_folder import in_order, new_run, recall, recall_plan
from minilm.finetuning.lora_config import LoRAConfig
from minilm.finetuning.recipe import FROM_EPOCHS, LORA, RECIPE, FinetuneConfig, schedule
from minilm.training.config import TrainConfig
from minilm.training.lock import lock_run

SHOWN = ("task", "epochs", "learning_rate", "batch_size")
MOST_DRAWN = 20  # labels of a picture that can still be read
EXAMPLES = ("train.json", "aside.json")  # both sides, in the folder of the run
ABOUT = (
    "data",
    "device",
    "finetune",
    "labels",
    "counts",
    "simple",
    "before",
    "files",
)  # what each checkpoint says of it
NEXT = {
    "classify": "minilm predict {out} 'a text of your own'",
    "tag": "minilm predict {out} 'a text of your own'",
    "generate": "minilm chat {out}",
}


def parser_of_finetune() -> Parser:
    """The flags: those of the run, and one for every field of the configs."""
    parser = Parser(
        "finetune",
        "Teach a trained model a skill by examples. Data are `stories` (the built-in world), or a file: for classify CSV, TSV\n"
        "or JSONL with a column of texts and one of labels, or a folder for each label; for tag a word and its tag on each\n"
        "line, sentences apart; for generate prompts and answers.",
        "minilm finetune checkpoints/my-gpt --task classify --data reviews.csv --out checkpoints/my-critic",
    )
    parser.add_argument("checkpoint", nargs="?", help="the trained model: a run's folder, or one checkpoint")
    parser.option(
        "--data",
        metavar="DATA",
        help="stories, stories:N, or a file or folder (default: stories); for classify also whole, silent, plain, mixed or "
        "twins, from easy to hard; stories means mixed there",
    )
    parser.option("--out", metavar="DIR", help="folder of the run (default: checkpoints/<data>-<task>)")
    parser.option(
        "--lora",
        action="store_true",
        default=None,
        help="learn small changes only, and save nothing else (LoRA), by default in "
        f"{LORA['epochs']:g} epochs at {LORA['learning_rate']}",
    )
    parser.option("--resume", metavar="DIR", help="go on with the run in this folder, by its own plan")
    parser.option("--base", metavar="DIR", rare=True, help="with --resume: where the base of a LoRA adapter lies now")
    parser.option("--seed", type=seed, help="seed of the new weights, the split and the batches (default: 0)")
    parser.option(
        "--text-column", metavar="NAME", rare=True, help="the column of the texts (default: guessed, and said)"
    )
    parser.option(
        "--label-column", metavar="NAME", rare=True, help="the column of the labels (default: guessed, and said)"
    )
    parser.option("--config", rare=True, metavar="FILE", help="TOML file of options; flags win over it")
    parser.option("--device", rare=True, help="auto, cpu, cuda or mps (default: auto)")
    parser.option("--json", rare=True, action="store_true", default=None, help="one JSON object at the end, no bar")
    for config in (FinetuneConfig, LoRAConfig, TrainConfig):
        parser.add_config(config, SHOWN, skip=("seed", "targets", "dropout"), defaults={**RECIPE, **FROM_EPOCHS})
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags, read the examples, teach."""
    chosen = read_options(parser_of_finetune(), arguments, beside_resume=("base",))
    as_json = chosen.get("json", False)
    say = (lambda message: None) if as_json else print
    if chosen.get("resume"):
        from minilm.training.checkpoint import run_of

        with lock_run(run_of(chosen["resume"])):
            return resume(chosen["resume"], chosen.get("base"), say, as_json)
    if "base" in chosen:
        raise ValueError("--base is for --resume, to find the base of an adapter: a new run learns from CHECKPOINT")
    if not chosen.get("checkpoint"):
        raise ValueError("name the trained model: minilm finetune CHECKPOINT --task classify --data reviews.csv")
    if {"steps", "epochs"} <= chosen.keys():
        raise ValueError("--steps and --epochs: give one of them, either says how long the training is")
    gentle = LORA if chosen.get("lora") else {}
    config = make_config(FinetuneConfig, gentle, chosen)
    lora = make_config(LoRAConfig, chosen) if chosen.get("lora") else None
    if lora is None and (left := [name for name in ("rank", "alpha") if name in chosen]):
        raise ValueError(f"{left[0]} is an option of --lora: give both or neither")
    if lora and config.freeze:
        raise ValueError("--freeze is for training the whole model: with --lora none of it learns, leave it out")
    train_config = make_config(TrainConfig, RECIPE, gentle, chosen)

    from minilm.runtime import minilm_home

    data_name = str(chosen.get("data", "stories"))
    name = f"{Path(data_name).stem.replace(':', '-')}-{config.task}"
    out = Path(chosen.get("out") or minilm_home() / "checkpoints" / name)
    with new_run(out):
        return begin(chosen, data_name, config, lora, train_config, out, say, as_json)


def begin(
    chosen: dict[str, Any],
    data_name: str,
    config: FinetuneConfig,
    lora: LoRAConfig | None,
    train_config: TrainConfig,
    out: Path,
    say: Any,
    as_json: bool,
) -> int:
    """A new run in the folder `out`: base, examples, learner, and then to `teach`."""
    from minilm.cli.skilled import describe, load_base, load_data, refuse_share, simple_methods, untrained
    from minilm.finetuning.skills import learner, skill_for
    from minilm.runtime import whole_file
    from minilm.training.verify import describe_files

    base = load_base(chosen["checkpoint"], chosen.get("device", "auto"))
    columns = (chosen.get("text_column"), chosen.get("label_column"))
    if "kept_aside" in chosen and config.task == "classify":
        refuse_share(data_name)
    data = load_data(data_name, config.task, config.kept_aside, train_config.seed, columns, say)
    skill = skill_for(config, data.labels, data.counts)
    before = untrained(base, skill, data.aside) if config.task == "generate" else None
    model, tokenizer = learner(base, skill, config, lora, train_config.seed)
    simple = simple_methods(data, config.task, say)
    taught = {**dataclasses.asdict(config), "text_column": columns[0], "label_column": columns[1]}
    about = {
        "data": data_name, "device": chosen.get("device", "auto"), "finetune": taught,
        "labels": data.labels, "counts": data.counts, "simple": simple, "before": before,
    }  # fmt: skip
    sides = {}
    for side, rows in (("train", data.train), ("aside", data.aside)):
        sides[side] = skill.examples(rows, tokenizer, model.config.context_length)
        with whole_file(out / f"{side}.json") as unfinished:
            sides[side].save(unfinished)
    about["files"] = describe_files(out, EXAMPLES)
    say(describe(data_name, sides, data.labels, model.config.context_length))
    train_config = schedule(train_config, config, sides["train"], chosen)
    return teach(model, tokenizer, skill, sides, config, train_config, out, about, None, say, as_json)


def resume(directory: str, base: str | None, say: Any, as_json: bool) -> int:
    """Go on with a run by the plan that its last checkpoint holds; `base` is where the base of an adapter lies now."""
    from minilm.cli.doctor import refuse_wrong_device
    from minilm.cli.writing import load_with_base
    from minilm.fast.choose import parts_for
    from minilm.finetuning.examples import Examples
    from minilm.finetuning.freezing import freeze_first
    from minilm.finetuning.skills import skill_for
    from minilm.runtime import pick_device
    from minilm.training.verify import check_files

    checkpoint = load_with_base(directory, base, prefer="last")
    run_folder = checkpoint.path.parent
    if "finetune" not in checkpoint.state:
        raise ValueError(
            f"{directory} is no run of minilm finetune: go on with it by minilm train --resume {directory}"
        )
    config, train_config = (
        recall_plan(checkpoint, "finetune", FinetuneConfig),
        recall_plan(checkpoint, "train", TrainConfig),
    )
    about = recall(checkpoint, *ABOUT)
    check_files(run_folder, about["files"])
    place = pick_device(about["device"])
    refuse_wrong_device(place)
    part = parts_for(False, place, checkpoint.model.config)  # as in `run`, for the same bits
    checkpoint = load_with_base(checkpoint.path, base, **part)
    model = checkpoint.model.to(place)
    if base is not None:
        model.config = dataclasses.replace(model.config, base=str(Path(base).resolve()))
    if config.freeze and model.kind != "adapted":
        freeze_first(model, config.freeze)
    sides = {side: Examples.load(run_folder / f"{side}.json") for side in ("train", "aside")}
    skill = skill_for(config, about["labels"], about["counts"])
    say(f"going on after step {checkpoint.step:,} of {train_config.steps:,}")
    return teach(
        model, checkpoint.tokenizer, skill, sides, config, train_config, run_folder, about, checkpoint, say, as_json
    )


def teach(
    model: Any,
    tokenizer: Any,
    skill: Any,
    sides: dict[str, Any],
    config: FinetuneConfig,
    train_config: TrainConfig,
    out: Path,
    about: dict[str, Any],
    checkpoint: Any,
    say: Any,
    as_json: bool,
) -> int:
    """Train, then say how good the best checkpoint is beside the simple methods, and what to do next."""
    from minilm.fast.choose import with_kernels
    from minilm.finetuning.freezing import count_parameters, layerwise_optimizer
    from minilm.runtime import keep_freed_memory
    from minilm.training.checkpoint import load_checkpoint
    from minilm.training.compiling import with_compile
    from minilm.training.run import train_in_folder

    keep_freed_memory()
    model = with_kernels(False, model)
    counts = count_parameters(model)
    say(f"{counts.trainable:,} of {counts.total:,} parameters learn, on {next(model.parameters()).device}")
    optimizer = layerwise_optimizer(model, train_config, config.layer_decay) if config.layer_decay < 1 else None
    batches = sides["train"].batches(train_config.batch_size, train_config.seed)
    train_config = with_compile(train_config, next(model.parameters()).device.type, say)
    with in_order("finetune", out):
        history = train_in_folder(
            model, tokenizer, batches, train_config, out, about=about, resume=checkpoint, optimizer=optimizer,
            loss_function=skill.loss, evaluate=lambda model: sides["aside"].mean_loss(model, skill.loss), progress=not as_json,
        )  # fmt: skip
    last = history[-1] if history else {}
    if "interrupted" in last:
        again = as_started(f"minilm finetune --resume {out}")
        print(f"minilm: finetune: interrupted and saved; go on with: {again}", file=sys.stderr)
        return 128 + int(last["interrupted"])
    best = load_checkpoint(out, **({"base": model.config.base} if model.kind == "adapted" else {}))
    figures = skill.judge(best.model, tokenizer, sides["aside"])
    show(figures, about, out, best, last, len(sides["aside"]), say, as_json)
    pictures = "loss.png shows its way" + (", confusion.png its mistakes" if can_draw(figures, about) else "")
    say(f"the run lies in {out} ({pictures}); now try: {as_started(NEXT[config.task].format(out=out))}")
    return 0


def can_draw(figures: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether the mistakes are a picture that can be read."""
    return "confusion" in figures and len(about["labels"]) <= MOST_DRAWN


def show(
    figures: dict[str, Any],
    about: dict[str, Any],
    out: Path,
    best: Any,
    last: dict[str, Any],
    n: int,
    say: Any,
    as_json: bool,
) -> None:
    """The figures, as sentences or JSON, and their pictures."""
    from minilm.cli.skilled import in_words, step_was_chosen, which
    from minilm.finetuning.skills import n_judged
    from minilm.plots.classification import plot_confusion
    from minilm.plots.loss import plot_loss
    from minilm.plots.picture import save
    from minilm.training.run import read_log

    unit = "nats per label" if about["labels"] else "nats per token"
    plot_loss(read_log(out / "log.jsonl"), out / "loss.png", unit, unit)
    task = about["finetune"]["task"]
    if can_draw(figures, about):
        save(plot_confusion(figures["confusion"], list(about["labels"])), out / "confusion.png")
    if as_json:
        table = {"out": str(out), "best_step": best.step, "kept_aside": n, "judged": n_judged(task, n), **figures}
        print(json.dumps({**table, "simple": about["simple"], "before": about["before"], **last}))
        return
    by_them = " (the step was chosen by them)" if step_was_chosen(best) else ""
    say(f"on {which(task, n)} it has not learned from, after step {best.step:,}{by_them}: {in_words(figures)}")
    for name, value in about["simple"].items():
        say(f"  for comparison, {name}: accuracy {value:.3f}")
    if about["before"]:
        say(f"  for comparison, before it was taught: {in_words(about['before'])}")
