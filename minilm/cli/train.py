"""`minilm train`: a text in, a trained model in a folder out."""

import dataclasses
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from minilm.cli.counted import COUNTED, train_counted
from minilm.cli.crew import by_the_first, check_shard, crew_of, device_of, refuse_several, text_of, tokenizer_of
from minilm.cli.model_options import (
    fitting_shape,
    model_options,
    refuse_foreign,
)
from minilm.cli.options import as_started, make_config, read_options
from minilm.cli.run_folder import TOKENS, in_order, new_run, recall, recall_plan, text_of_run
from minilm.cli.train_options import MODELS, TYPES, parser_of_train
from minilm.cli.watching import WATCHED, Watch, read_watch, recall_watch, watching
from minilm.cli.word_vectors import start_with, take_vectors, train_vectors
from minilm.models.rnn_config import CELLS
from minilm.training.config import TrainConfig
from minilm.training.lock import lock_run
from minilm.training.recipes import RECIPES

STORED = {"llama": "gpt"} | dict.fromkeys(CELLS, "rnn")  # the kinds that checkpoints know by another name
PLANNED = {"steps", "warmup", "eval_every"}  # what --minutes sets, as far as nobody else does


def run(arguments: list[str]) -> int:
    """Parse the flags and train."""
    named = [kind for kind in MODELS if kind in arguments or f"--model={kind}" in arguments]
    chosen = read_options(parser_of_train(*named[:1]), arguments)
    for name, wanted in TYPES.items():
        if not isinstance(chosen.get(name, wanted()), wanted):
            raise ValueError(f"{name} is {chosen[name]!r}: it must be of type {wanted.__name__}")
    as_json = chosen.get("json", False)
    say = (lambda message: None) if as_json else print
    if chosen.get("resume"):
        from minilm.training.checkpoint import run_of

        with by_the_first(lock_run(run_of(chosen["resume"]))):
            return resume(chosen["resume"], chosen.get("shard", False), say, as_json)
    if not chosen.get("data"):
        raise ValueError("say which text to learn with --data: shakespeare, stories, or a file")
    kind = chosen.get("model", "speedrun")
    if kind not in MODELS:
        raise ValueError(f"model {kind!r} is unknown: choose one of {', '.join(MODELS)}")
    if kind in (*COUNTED, "glove", *CELLS):
        refuse_several(f"{kind} is trained in one")
    watch, shard = read_watch(chosen, trained=kind not in (*COUNTED, "glove")), chosen.get("shard", False)
    if kind == "glove":
        return train_vectors(chosen, say, as_json)
    refuse_foreign(kind, chosen)
    if "vocab_size" in chosen and (how := chosen.get("tokenizer", "bpe")) != "bpe":
        raise ValueError(f"vocab_size is for a tokenizer that is trained, bpe: leave it out beside tokenizer {how}")
    take_vectors(kind, chosen)
    if chosen.get("recipe", kind) not in RECIPES and kind in RECIPES:
        raise ValueError(f"recipe {chosen['recipe']!r} is unknown: choose one of {', '.join(RECIPES)}")
    train_config = make_config(TrainConfig, RECIPES.get(chosen.get("recipe", kind), {}), chosen)
    if train_config.minutes is None and "steps" not in chosen:
        train_config = dataclasses.replace(train_config, minutes=3.0)
    if shard:
        check_shard(train_config.minutes is not None, train_config.compile, watch.sample_every)
    model_options(kind, chosen, vocab_size=chosen.get("vocab_size", 1024))  # complains before anything slow begins

    from minilm.runtime import minilm_home

    name = Path(str(chosen["data"])).stem.replace("*", "all") or "text"
    out = Path(chosen.get("out") or minilm_home() / "checkpoints" / f"{name}-{kind}")
    with by_the_first(new_run(out)):
        device = device_of(chosen.get("device", "auto"))
        with crew_of(out, device, shard) as crew:
            return begin(kind, chosen, train_config, watch, crew, device, out, say, as_json)


def begin(
    kind: str,
    chosen: dict[str, Any],
    train_config: TrainConfig,
    watch: Watch,
    crew: Any,
    device: Any,
    out: Path,
    say: Any,
    as_json: bool,
) -> int:
    """A new run in the folder `out`: corpus, tokenizer, model, and then to `finish`, or to `train_counted`."""
    from minilm.cli.doctor import refuse_wrong_device
    from minilm.fast.choose import parts_for, with_kernels
    from minilm.models.registry import build_model
    from minilm.runtime import set_seed
    from minilm.text.corpus import load_corpus
    from minilm.text.tokenizer_formats import load_any
    from minilm.training.prepare import prepare, train_tokenizer
    from minilm.training.verify import describe_files

    about = {"data": str(chosen["data"]), "device": chosen.get("device", "auto"), "plain": chosen.get("plain", False)}
    about |= {} if watch == Watch() else {WATCHED: dataclasses.asdict(watch)}
    if kind not in COUNTED:
        refuse_wrong_device(device, train_config.dtype, about["plain"], kind)
    corpus: Any = load_corpus(chosen["data"], progress=say) if crew.leads else None
    how = chosen.get("tokenizer", "bpe")
    known = how in ("bpe", "char", "byte")
    vocab_size = chosen.get("vocab_size", 1024)
    tokenizer = tokenizer_of(crew, lambda: train_tokenizer(how, corpus, vocab_size) if known else load_any(how))
    settings = model_options(kind, chosen, vocab_size=tokenizer.vocab_size)
    prepared = text_of(crew, lambda: prepare(corpus, tokenizer, out), tokenizer, [out / name for name in TOKENS])
    about["files"] = describe_files(out, TOKENS)
    if crew.leads:
        sides = f"{prepared.train.n_bytes:,} bytes to learn from, {prepared.validation.n_bytes:,} kept aside"
        say(f"{corpus.name}: {sides}; {how} tokenizer of {tokenizer.vocab_size:,} tokens")
    if kind in COUNTED:
        return train_counted(settings, chosen, prepared, out, about, say, as_json)

    def build(settings: Any) -> Any:
        parts = parts_for(about["plain"], device, settings, train_config.compile)
        model = build_model(STORED.get(kind, kind), dataclasses.asdict(settings), **parts).to(device)
        return with_kernels(about["plain"], model)

    if train_config.minutes is not None and kind not in CELLS:
        with in_order("train", out):
            settings, train_config = fitting_shape(kind, chosen, train_config, prepared, build, about["plain"], crew)
    set_seed(train_config.seed)
    model = build(settings)
    if "vectors" in chosen:
        start_with(chosen["vectors"], model, tokenizer, say)
    return finish(model, prepared, train_config, crew, out, about, None, say, as_json, PLANNED - set(chosen))


def resume(directory: str, shard: bool, say: Any, as_json: bool) -> int:
    """Go on with a run by the plan that its last checkpoint holds."""
    from minilm.cli.doctor import refuse_wrong_device
    from minilm.fast.choose import parts_for, with_kernels
    from minilm.models.registry import build_model
    from minilm.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(directory, prefer="last")
    run_folder, kind = checkpoint.path.parent, checkpoint.model.kind
    if "train" not in checkpoint.state:
        raise ValueError(
            f"{directory} holds a {kind} model without a plan of training (it was counted, converted or saved by hand): "
            "there is nothing to resume"
        )
    if hasattr(checkpoint.model, "new_state"):
        refuse_several("a recurrent model is trained in one")
    train_config = recall_plan(checkpoint, "train", TrainConfig)
    if shard:
        check_shard(False, train_config.compile, recall_watch(checkpoint.state).sample_every)
    about = recall(checkpoint, "data", "device", "plain", "files", *({WATCHED} & set(checkpoint.state)))
    prepared = text_of_run(checkpoint)
    device, settings = device_of(about["device"]), checkpoint.model.config
    refuse_wrong_device(device, train_config.dtype, about["plain"], kind)
    parts = parts_for(about["plain"], device, settings, train_config.compile)  # as in `begin`, for the same bits
    model = build_model(kind, dataclasses.asdict(settings), checkpoint.model.arrays(), **parts).to(device)
    model = with_kernels(about["plain"], model)
    seconds, minutes = checkpoint.state.get("seconds"), train_config.minutes
    late = minutes is not None and isinstance(seconds, float) and seconds >= 60 * minutes
    if late or checkpoint.step >= train_config.steps:
        done = f"used all {minutes:g} minutes" if late else f"done all {train_config.steps:,} steps"
        say(f"{directory} has {done} of its plan")
        if as_json:
            print(json.dumps({"out": str(run_folder), "kind": kind, "step": checkpoint.step, "seconds": seconds}))
        return 0
    planned = checkpoint.state.get("plan") or {}  # of the minutes; the config has room for more steps
    of = f"about {planned['steps']:,}" if "steps" in planned else f"{train_config.steps:,}"
    say(f"going on after step {checkpoint.step:,} of {of}")
    with crew_of(run_folder, device, shard) as crew:
        return finish(model, prepared, train_config, crew, run_folder, about, checkpoint, say, as_json)


def finish(
    model: Any,
    prepared: Any,
    config: TrainConfig,
    crew: Any,
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
    from minilm.training.compiling import with_compile
    from minilm.training.run import read_log, run_training

    n_parameters = sum(weight.numel() for weight in model.parameters())
    say(
        f"{getattr(model.config, 'cell', model.kind)} with {n_parameters:,} parameters on {next(model.parameters()).device}"
    )
    device = next(model.parameters()).device.type
    config = dataclasses.replace(config, compile=crew.lead(lambda: with_compile(config, device, say).compile))
    part = loss_part(about["plain"], config.compile or crew.parts, model)
    watch, start = recall_watch(about), checkpoint.step if checkpoint else 0
    looking = watching(watch, out, model, prepared.tokenizer, seed=config.seed, start=start, quiet=as_json)
    with in_order("train", out), by_the_first(looking) as on_step:
        history = run_training(
            model, prepared, config, out,
            about=about, resume=checkpoint, on_step=on_step, say=say, progress=not as_json, free=free, crew=crew,
            **part,
        )  # fmt: skip
        if crew.leads:
            plot_loss(read_log(out / "log.jsonl"), out / "loss.png")
    last = history[-1]
    if as_json:
        print(json.dumps({"out": str(out), "kind": model.kind, "bits_per_byte": last.get("validation"), **last}))
    elif "validation" in last:
        say(f"{last['validation']:.3f} bits per byte on text it has not seen (8 = no idea)")
    if "interrupted" in last:
        again = as_started(f"minilm train --resume {out}")
        print(f"minilm: train: interrupted and saved; go on with: {again}", file=sys.stderr)
        return 128 + int(last["interrupted"]) if crew.leads else 0
    then = as_started(f"minilm generate {out} --prompt 'The'")
    say(f"the run lies in {out} (loss.png shows its way); now try: {then}")
    return 0
