"""`minilm finetune`: a trained model and examples in, a model with a new skill in a folder out."""

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any

from minilm.cli.options import (
    Parser,
    fresh_directory,
    make_config,
    read_options,
    seed,
    whole_or_nothing,
)
from minilm.finetuning.lora_config import LoRAConfig
from minilm.finetuning.recipe import LORA_RATE, RECIPE, WARMUP, FinetuneConfig
from minilm.training.config import TrainConfig

SHOWN = ("task", "epochs", "learning_rate", "batch_size")
MOST_DRAWN = 20  # labels of a picture that can still be read
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
    parser.option("--data", metavar="DATA", help="stories, stories:N, or a file or folder (default: stories)")
    parser.option("--out", metavar="DIR", help="folder of the run (default: checkpoints/<data>-<task>)")
    parser.option(
        "--lora", action="store_true", default=None, help="learn small changes only, and save nothing else (LoRA)"
    )
    parser.option("--resume", metavar="DIR", help="go on with the run in this folder, by its own plan")
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
        parser.add_config(config, SHOWN, skip=("seed", "targets", "dropout"))
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags, read the examples, teach."""
    chosen = read_options(parser_of_finetune(), arguments)
    as_json = chosen.get("json", False)
    say = (lambda message: None) if as_json else print
    if chosen.get("resume"):
        return resume(chosen["resume"], say, as_json)
    if not chosen.get("checkpoint"):
        raise ValueError("name the trained model: minilm finetune CHECKPOINT --task classify --data reviews.csv")
    config = make_config(FinetuneConfig, chosen)
    lora = make_config(LoRAConfig, chosen) if chosen.get("lora") else None
    if lora and config.freeze:
        raise ValueError("--freeze is for training the whole model: with --lora none of it learns, leave it out")
    rate = {"learning_rate": LORA_RATE} if lora else {}
    train_config = make_config(TrainConfig, RECIPE, rate, chosen)

    from minilm.cli.skilled import load_data, simple_methods
    from minilm.finetuning.skills import skill_for
    from minilm.runtime import minilm_home

    data_name = str(chosen.get("data", "stories"))
    name = f"{Path(data_name).stem.replace(':', '-')}-{config.task}"
    out = fresh_directory(chosen.get("out") or str(minilm_home() / "checkpoints" / name))
    base = load_base(chosen["checkpoint"], chosen.get("device", "auto"))
    columns = (chosen.get("text_column"), chosen.get("label_column"))
    data = load_data(data_name, config.task, config.kept_aside, train_config.seed, columns, say)
    skill = skill_for(config, data.labels, data.counts)
    model, tokenizer = learner(base, skill, config, lora, train_config.seed)
    simple = simple_methods(data, config.task)
    about = {
        "data": data_name, "device": chosen.get("device", "auto"), "finetune": dataclasses.asdict(config),
        "labels": data.labels, "counts": data.counts, "simple": simple,
    }  # fmt: skip
    with whole_or_nothing(out):
        out.mkdir(parents=True, exist_ok=True)
        sides = {}
        for side, rows in (("train", data.train), ("aside", data.aside)):
            sides[side] = skill.examples(rows, tokenizer, model.config.context_length)
            sides[side].save(out / f"{side}.json")
        say(describe(config.task, data_name, sides, data.labels, model.config.context_length))
        train_config = schedule(train_config, config, sides["train"], chosen)
        return teach(model, tokenizer, skill, sides, config, train_config, out, about, None, say, as_json)


def load_base(path: str, device: str) -> Any:
    """The checkpoint of the trained model, on the device and with the attention that is fastest there."""
    from minilm.fast.choose import attention_part
    from minilm.runtime import pick_device
    from minilm.training.checkpoint import load_checkpoint

    place = pick_device(device)
    checkpoint = load_checkpoint(path)
    if not hasattr(checkpoint.model, "hidden"):
        raise ValueError(
            f"{path} holds a {checkpoint.model.kind} model, which is counted: fine-tuning needs a gpt or speedrun"
        )
    if checkpoint.model.kind not in ("gpt", "speedrun"):
        raise ValueError(f"{path} holds a {checkpoint.model.kind}: fine-tune the model that it was made from")
    part = attention_part(False, place, checkpoint.model.config.context_length)
    checkpoint = load_checkpoint(checkpoint.path, **part)
    checkpoint.model.to(place)
    return checkpoint


def learner(base: Any, skill: Any, config: FinetuneConfig, lora: LoRAConfig | None, seed: int) -> tuple[Any, Any]:
    """The model that will learn, and its tokenizer. In a whole model a conversation gets tokens of its own; an adapter
    cannot learn new rows of a table, and takes the base's tokenizer as it is."""
    import torch

    from minilm.finetuning.adapters import adapt
    from minilm.finetuning.freezing import freeze_first
    from minilm.finetuning.vocabulary import grow_vocabulary, with_chat_tokens
    from minilm.runtime import set_seed

    set_seed(seed)
    generator, tokenizer = torch.Generator().manual_seed(seed), base.tokenizer
    if lora is not None:
        head = None if config.task == "generate" else functools.partial(skill.learner, generator=generator)
        return adapt(base, lora, generator, head), tokenizer
    model = skill.learner(base.model, generator)
    if config.task == "generate":
        tokenizer = with_chat_tokens(tokenizer)
        grow_vocabulary(model, tokenizer.vocab_size, generator)
    if config.freeze:
        freeze_first(model, config.freeze)
    return model, tokenizer


def schedule(train_config: TrainConfig, config: FinetuneConfig, examples: Any, chosen: dict[str, Any]) -> TrainConfig:
    """Steps, warm-up and looks from the number of examples, where nobody said otherwise: a look and a checkpoint an epoch."""
    an_epoch = examples.batches(train_config.batch_size).n_batches
    steps = max(1, round(config.epochs * an_epoch / train_config.accumulation))
    a_look = max(1, an_epoch // train_config.accumulation)
    found = {"steps": steps, "warmup": round(WARMUP * steps), "eval_every": a_look, "save_every": a_look}
    return dataclasses.replace(train_config, **{name: value for name, value in found.items() if name not in chosen})


def describe(task: str, name: str, sides: dict[str, Any], labels: tuple[str, ...], context_length: int) -> str:
    """What there is to learn from, in a sentence or three."""
    train, aside = sides["train"], sides["aside"]
    shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    parts = [
        f"{name}: {len(train):,} examples to learn from, {len(aside):,} kept aside"
        + (f"; labels {shown}" if labels else "")
    ]
    shortened, dropped = (getattr(train, what) + getattr(aside, what) for what in ("shortened", "dropped"))
    if shortened:
        parts.append(
            f"{shortened:,} were longer than the model reads ({context_length} tokens): a part of each is left out; "
            "a base trained with a larger --context-length reads more"
        )
    if dropped:
        parts.append(f"{dropped:,} left out whole: their answers do not fit")
    return "\n".join(parts)


def resume(directory: str, say: Any, as_json: bool) -> int:
    """Go on with a run by the plan that its last checkpoint holds."""
    from minilm.fast.choose import attention_part
    from minilm.finetuning.examples import Examples
    from minilm.finetuning.freezing import freeze_first
    from minilm.finetuning.skills import skill_for
    from minilm.runtime import pick_device
    from minilm.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(directory, prefer="last")
    state, run_folder = checkpoint.state, checkpoint.path.parent
    if "finetune" not in state:
        raise ValueError(
            f"{directory} is no run of minilm finetune: go on with it by minilm train --resume {directory}"
        )
    place = pick_device(state["device"])
    part = attention_part(False, place, checkpoint.model.config.context_length)  # as in `run`, for the same bits
    checkpoint = load_checkpoint(checkpoint.path, **part)
    config, train_config = FinetuneConfig(**state["finetune"]), TrainConfig(**state["train"])
    model = checkpoint.model.to(place)
    if config.freeze and model.kind != "adapted":
        freeze_first(model, config.freeze)
    sides = {side: Examples.load(run_folder / f"{side}.json") for side in ("train", "aside")}
    skill = skill_for(config, state["labels"], state["counts"])
    about = {name: state[name] for name in ("data", "device", "finetune", "labels", "counts", "simple")}
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
    from minilm.training.loop import TrainingFailed
    from minilm.training.run import train_in_folder

    keep_freed_memory()
    model = with_kernels(False, model)
    counts = count_parameters(model)
    say(f"{counts.trainable:,} of {counts.total:,} parameters learn, on {next(model.parameters()).device}")
    optimizer = layerwise_optimizer(model, train_config, config.layer_decay) if config.layer_decay < 1 else None
    batches = sides["train"].batches(train_config.batch_size, train_config.seed)
    try:
        history = train_in_folder(
            model, tokenizer, batches, train_config, out, about=about, resume=checkpoint, optimizer=optimizer,
            loss_function=skill.loss, evaluate=lambda model: sides["aside"].mean_loss(model, skill.loss), progress=not as_json,
        )  # fmt: skip
    except TrainingFailed as failure:
        print(f"minilm: finetune: {failure}; the last checkpoint in {out} is untouched", file=sys.stderr)
        return 3
    last = history[-1] if history else {}
    if "interrupted" in last:
        print(f"minilm: finetune: interrupted and saved; go on with: minilm finetune --resume {out}", file=sys.stderr)
        return 128 + int(last["interrupted"])
    best = load_checkpoint(out)
    figures = skill.judge(best.model, tokenizer, sides["aside"])
    show(figures, about, out, best.step, last, len(sides["aside"]), say, as_json)
    pictures = "loss.png shows its way" + (", confusion.png its mistakes" if "confusion" in figures else "")
    say(f"the run lies in {out} ({pictures}); now try: {NEXT[config.task].format(out=out)}")
    return 0


def show(
    figures: dict[str, Any],
    about: dict[str, Any],
    out: Path,
    step: int,
    last: dict[str, Any],
    n: int,
    say: Any,
    as_json: bool,
) -> None:
    """The figures, as sentences or JSON, and their pictures."""
    from minilm.cli.skilled import in_words
    from minilm.plots.classification import plot_confusion
    from minilm.plots.loss import plot_loss
    from minilm.plots.picture import save
    from minilm.training.run import read_log

    unit = "nats per label" if about["labels"] else "nats per token"
    plot_loss(read_log(out / "log.jsonl"), out / "loss.png", unit, unit)
    if "confusion" in figures and len(about["labels"]) <= MOST_DRAWN:
        save(plot_confusion(figures["confusion"], list(about["labels"])), out / "confusion.png")
    if as_json:
        print(
            json.dumps(
                {"out": str(out), "best_step": step, "kept_aside": n, **figures, "simple": about["simple"], **last}
            )
        )
        return
    say(f"on {n:,} examples it has not seen, after step {step:,} (the best): {in_words(figures)}")
    for name, value in about["simple"].items():
        say(f"  for comparison, {name}: accuracy {value:.3f}")
