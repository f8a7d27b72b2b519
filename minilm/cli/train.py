"""`minilm train`: a text in, a trained model in a folder out."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from minilm.classical.config import NgramConfig
from minilm.cli.options import (
    Parser,
    fresh_directory,
    make_config,
    read_options,
    seed,
    typed_values,
    whole_or_nothing,
)
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES, SHAPES

MODELS = ("gpt", "llama", "speedrun", "ngram")
# The options of the run itself, which are no fields of a config.
TYPES = {"data": str, "model": str, "out": str, "tokenizer": str, "device": str, "plain": bool, "json": bool}
MOST_PARAMETERS = 10**10  # 40 GB in float32; what is beyond is a slip of the keyboard
MOST_TOKENS = 10**8  # in one batch: their logits alone would be 400 GB
PLANNED = {"steps", "warmup", "eval_every"}  # what --minutes sets, as far as nobody else does
SHOWN = ("minutes", "steps", "context_length", "n_layers", "d_model")


def parser_of_train() -> Parser:
    """The flags: those of the run, and one for every field of the models' and the training's configs."""
    parser = Parser(
        "train",
        "Train a model on a text. Everything about the run lies in the folder --out.",
        "minilm train --data my-novel.txt --model gpt --minutes 2 --out checkpoints/novel",
    )
    parser.option("--data", metavar="TEXT", help="shakespeare, stories, or a file, folder, glob, .gz or .jsonl")
    parser.option(
        "--model", choices=MODELS, help="gpt (GPT-2), llama, speedrun (learns most in minutes), ngram (default: gpt)"
    )
    parser.option("--out", metavar="DIR", help="folder of the run (default: checkpoints/<corpus>-<model>)")
    parser.option("--resume", metavar="DIR", help="go on with the run in this folder, by its own plan")
    parser.option("--seed", type=seed, help="seed of weights, dropout and batches (default: 0)")
    parser.option(
        "--tokenizer", rare=True, metavar="KIND", help="bpe, char, byte, or a saved tokenizer's file (default: bpe)"
    )
    parser.option("--config", rare=True, metavar="FILE", help="TOML file of options; flags win over it")
    parser.option("--device", rare=True, help="auto, cpu, cuda or mps (default: auto)")
    parser.option(
        "--plain",
        rare=True,
        action="store_true",
        default=None,
        help="only the readable parts of the model, no fused kernel",
    )
    parser.option(
        "--json", rare=True, action="store_true", default=None, help="one JSON object at the end, no progress bar"
    )
    for config in (TrainConfig, GPTConfig, SpeedrunConfig, NgramConfig):
        parser.add_config(config, SHOWN, skip=("discounts", "seed"))
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags and train."""
    chosen = read_options(parser_of_train(), arguments)
    for name, wanted in TYPES.items():
        if not isinstance(chosen.get(name, wanted()), wanted):
            raise ValueError(f"{name} is {chosen[name]!r}: it must be of type {wanted.__name__}")
    as_json = chosen.get("json", False)
    say = (lambda message: None) if as_json else print
    if chosen.get("resume"):
        return resume(chosen["resume"], say, as_json)
    if not chosen.get("data"):
        raise ValueError("say which text to learn with --data: shakespeare, stories, or a file")
    kind = chosen.get("model", "gpt")
    if kind not in MODELS:
        raise ValueError(f"model {kind!r} is unknown: choose one of {', '.join(MODELS)}")
    train_config = make_config(TrainConfig, RECIPES.get(kind, {}), chosen)
    if train_config.minutes is None and "steps" not in chosen:
        train_config = dataclasses.replace(train_config, minutes=3.0)
    model_options(kind, chosen, vocab_size=chosen.get("vocab_size", 1024))  # complains before anything slow begins

    from minilm.fast.choose import attention_part, with_kernels
    from minilm.models.registry import build_model
    from minilm.runtime import minilm_home, pick_device, set_seed
    from minilm.text.corpus import load_corpus
    from minilm.text.tokenizer_formats import load_any
    from minilm.training.prepare import prepare, train_tokenizer

    about = {"data": str(chosen["data"]), "device": chosen.get("device", "auto"), "plain": chosen.get("plain", False)}
    device = pick_device(about["device"])

    name = Path(str(chosen["data"])).stem.replace("*", "all") or "text"
    out = fresh_directory(chosen.get("out") or str(minilm_home() / "checkpoints" / f"{name}-{kind}"))
    corpus = load_corpus(chosen["data"], progress=say)
    how = chosen.get("tokenizer", "bpe")
    known = how in ("bpe", "char", "byte")
    tokenizer = train_tokenizer(how, corpus, chosen.get("vocab_size", 1024)) if known else load_any(how)
    settings = model_options(kind, chosen, vocab_size=tokenizer.vocab_size)
    with whole_or_nothing(out):
        prepared = prepare(corpus, tokenizer, out)
        say(
            f"{corpus.name}: {prepared.train.n_bytes:,} bytes to learn from, {prepared.validation.n_bytes:,} kept aside; "
            f"{how} tokenizer of {tokenizer.vocab_size:,} tokens"
        )
        if kind == "ngram":
            return count(settings, prepared, out, about, tune="order" not in chosen, say=say, as_json=as_json)

        def build(settings: Any) -> Any:
            part = attention_part(about["plain"], device, settings.context_length)
            model = build_model("gpt" if kind == "llama" else kind, dataclasses.asdict(settings), **part).to(device)
            return with_kernels(about["plain"], model)

        if train_config.minutes is not None:
            settings, train_config = fitting_shape(kind, chosen, train_config, prepared, build, about["plain"])
        set_seed(train_config.seed)
        return finish(build(settings), prepared, train_config, out, about, None, say, as_json, PLANNED - set(chosen))


def fitting_shape(
    kind: str, chosen: dict[str, Any], config: TrainConfig, prepared: Any, build: Any, plain: bool
) -> tuple[Any, TrainConfig]:
    """The configs of model and training that the minutes pay for; what was chosen stays."""
    from minilm.fast.choose import loss_part
    from minilm.training.budget import trial_seconds
    from minilm.training.sizes import Candidate, choose_shape, rungs

    n_tokens = len(prepared.learned)
    candidates: list[Candidate] = []
    for rung in rungs(chosen, n_tokens):
        try:
            settings = model_options(kind, {**chosen, **rung}, vocab_size=prepared.tokenizer.vocab_size)
        except ValueError:  # with what was chosen, this rung would be too large
            if not candidates:
                raise
            break
        batch_size = rung.get("batch_size", config.batch_size)
        candidates.append(Candidate(settings, dataclasses.replace(config, batch_size=batch_size)))

    def seconds(candidate: Candidate) -> float:
        return trial_seconds(build, candidate, prepared.learned, lambda model: loss_part(plain, False, model))

    most_steps = config.steps if "steps" in chosen else math.inf
    best = choose_shape(candidates, config.minutes or 0.0, n_tokens, seconds, most_steps)
    return best.settings, best.config


def model_options(kind: str, chosen: dict[str, Any], vocab_size: int) -> Any:
    """The config of this kind of model from what was chosen."""
    chosen = {**chosen, "vocab_size": vocab_size}
    if kind == "ngram":
        return make_config(NgramConfig, chosen)
    if kind == "speedrun":
        config: Any = make_config(SpeedrunConfig, SHAPES[kind], chosen)
    else:
        preset = llama_config if kind == "llama" else gpt2_config
        config = preset(**typed_values(GPTConfig, chosen))
    d_ff = getattr(config, "d_ff", 4 * config.d_model)
    matrices = config.n_layers * (4 * config.d_model + 2 * d_ff) * config.d_model
    n_parameters = matrices + (config.vocab_size + config.context_length) * config.d_model
    if n_parameters > MOST_PARAMETERS:
        raise ValueError(
            f"a model with about {n_parameters:.0e} parameters is too large: "
            "make d_model, d_ff, n_layers, context_length or vocab_size smaller"
        )
    tokens = config.context_length * (chosen.get("batch_size") or 1)
    if tokens > MOST_TOKENS:
        raise ValueError(f"a batch of {tokens:.0e} tokens is too large: make batch_size or context_length smaller")
    return config


def resume(directory: str, say: Any, as_json: bool) -> int:
    """Go on with a run by the plan that its last checkpoint holds."""
    from minilm.fast.choose import attention_part, with_kernels
    from minilm.models.registry import build_model
    from minilm.runtime import pick_device
    from minilm.text.token_file import open_token_file
    from minilm.training.checkpoint import load_checkpoint
    from minilm.training.prepare import Prepared

    checkpoint = load_checkpoint(directory, prefer="last")
    run_folder = checkpoint.path.parent
    if "train" not in checkpoint.state:
        raise ValueError(
            f"{directory} holds a {checkpoint.model.kind} model without a plan of training (n-grams are counted, "
            "not trained): there is nothing to resume"
        )
    train_config = TrainConfig(**checkpoint.state["train"])
    sides = (open_token_file(run_folder / f"{side}.tokens", checkpoint.tokenizer) for side in ("train", "validation"))
    prepared = Prepared(checkpoint.tokenizer, *sides)
    state = checkpoint.state
    about = {"data": state["data"], "device": state["device"], "plain": state.get("plain", False)}
    device, settings = pick_device(about["device"]), checkpoint.model.config
    part = attention_part(about["plain"], device, settings.context_length)  # as in `run`, for the same bits
    arrays = checkpoint.model.arrays()
    model = build_model(checkpoint.model.kind, dataclasses.asdict(settings), arrays, **part).to(device)
    model = with_kernels(about["plain"], model)
    if checkpoint.step >= train_config.steps:
        say(f"{directory} has done all {train_config.steps:,} steps of its plan")
        return 0
    say(f"going on after step {checkpoint.step:,} of {train_config.steps:,}")
    return finish(model, prepared, train_config, run_folder, about, checkpoint, say, as_json)


def finish(
    model: Any,
    prepared: Any,
    config: TrainConfig,
    out: Path,
    about: dict[str, Any],
    checkpoint: Any,
    say: Any,
    as_json: bool,
    free: Collection[str] = (),
) -> int:
    """Train, then say what came out and what to do next."""
    from minilm.fast.choose import loss_part
    from minilm.plots.loss import plot_loss
    from minilm.training.loop import TrainingFailed
    from minilm.training.run import read_log, run_training

    n_parameters = sum(weight.numel() for weight in model.parameters())
    say(f"{model.kind} with {n_parameters:,} parameters on {next(model.parameters()).device}")
    part = loss_part(about["plain"], config.compile, model)
    try:
        history = run_training(
            model, prepared, config, out,
            about=about, resume=checkpoint, say=say, progress=not as_json, free=free, **part,
        )  # fmt: skip
    except TrainingFailed as failure:
        print(f"minilm: train: {failure}; the last checkpoint in {out} is untouched", file=sys.stderr)
        return 3
    if not history:
        say("the time of the plan is used up: nothing was trained")
        return 0
    plot_loss(read_log(out / "log.jsonl"), out / "loss.png")
    last = history[-1]
    if as_json:
        print(json.dumps({"out": str(out), "kind": model.kind, "bits_per_byte": last.get("validation"), **last}))
    elif "validation" in last:
        say(f"{last['validation']:.3f} bits per byte on text it has not seen (8 = no idea)")
    if "interrupted" in last:
        print(f"minilm: train: interrupted and saved; go on with: minilm train --resume {out}", file=sys.stderr)
        return 128 + int(last["interrupted"])
    say(f"the run lies in {out} (loss.png shows its way); now try: minilm generate {out} --prompt 'The'")
    return 0


def count(
    settings: NgramConfig, prepared: Any, out: Path, about: dict[str, Any], tune: bool, say: Any, as_json: bool
) -> int:
    """The n-gram: its training is counting."""
    from minilm.classical.ngram import NgramLM
    from minilm.classical.tuning import tune_ngram
    from minilm.evaluation.evaluate import evaluate
    from minilm.models.counted import CountedLM
    from minilm.training.checkpoint import save_checkpoint

    started, tokenizer = time.perf_counter(), prepared.tokenizer
    if tune and settings.smoothing != "maximum-likelihood":
        settings = tune_ngram(settings, prepared.train.ids, tokenizer.end_of_text)
    model = CountedLM(NgramLM(settings).fit(prepared.train.ids, tokenizer.end_of_text))
    seconds = time.perf_counter() - started
    result = evaluate(model, prepared.validation, tokenizer)
    save_checkpoint(out, model, tokenizer, validation=result.bits_per_byte, state={**about, "seconds": seconds})
    if as_json:
        print(
            json.dumps(
                {
                    "out": str(out),
                    "kind": "ngram",
                    "order": settings.order,
                    "seconds": seconds,
                    **dataclasses.asdict(result),
                }
            )
        )
    say(f"counted {model.n_parameters:,} different n-grams up to order {settings.order} in {seconds:.1f} s")
    say(
        f"{result.bits_per_byte:.3f} bits per byte on text it has not seen (8 = no idea); now try: minilm generate {out}"
    )
    return 0
