"""A training run in a folder: plan, train, log each step, look at the validation data, save, and go on after a break.

The folder holds log.jsonl (a line a step) and the checkpoints step-000123/; in pretraining also train.tokens and
validation.tokens.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from minilm.evaluation.evaluate import evaluate
from minilm.runtime import keep_freed_memory
from minilm.text.tokenizer import Tokenizer
from minilm.training.batches import Batches
from minilm.training.budget import forecast, look_tokens, plan
from minilm.training.checkpoint import Checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import Record, train
from minilm.training.loss import LossFunction, next_token_loss
from minilm.training.muon import build_optimizer
from minilm.training.optim import Optimizer
from minilm.training.prepare import Prepared


def run_training(
    model: Any,
    prepared: Prepared,
    config: TrainConfig,
    run: Path,
    *,
    about: Mapping[str, Any],
    resume: Checkpoint | None = None,
    loss_function: LossFunction = next_token_loss,
    on_step: Callable[[int, nn.Module, Record], None] | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
    eval_bytes: int = 1_000_000,
    free: Collection[str] = ("steps",),
) -> list[Record]:
    """Train `model` on the prepared text and keep everything in the folder `run`. Returns the history, as `train` does.

    With config.minutes a new run is planned first; `free` names the fields of the config that `plan` may set. What it will
    do and what is expected of it is said, kept in each checkpoint, and stands as "plan" in the last record.

    `about` is stored in each checkpoint beside the plan (say, the name of the corpus). A resumed run passes the checkpoint
    whose model this is. During training at most eval_bytes of the validation text are scored, in bits per byte.
    """
    keep_freed_memory()
    batches = Batches(prepared.learned, config.batch_size, model.config.context_length, config.seed)
    planned: dict[str, Any] | None = None
    if resume is not None:
        planned = resume.state.get("plan")
    elif config.minutes is not None:
        a_look = look_tokens(prepared, eval_bytes)
        config = plan(
            model, batches, config, config.minutes, loss_function, free=free, look_tokens=a_look, least_steps=1
        )
        outlook = forecast(model, config, prepared, eval_bytes)
        planned = asdict(outlook)
        say(outlook.describe(time.time()))

    def bits_per_byte(model: nn.Module) -> float:
        return evaluate(model, prepared.validation, prepared.tokenizer, max_bytes=eval_bytes).bits_per_byte

    history = train_in_folder(
        model, prepared.tokenizer, batches, config, run, about={**about, "plan": planned}, resume=resume,
        loss_function=loss_function, evaluate=bits_per_byte, on_step=on_step, progress=progress,
    )  # fmt: skip
    if history:
        history[-1]["plan"] = planned
    return history


def train_in_folder(
    model: Any,
    tokenizer: Tokenizer,
    batches: Any,
    config: TrainConfig,
    run: Path,
    *,
    about: Mapping[str, Any],
    evaluate: Callable[[nn.Module], float],
    optimizer: Optimizer | None = None,
    resume: Checkpoint | None = None,
    loss_function: LossFunction = next_token_loss,
    on_step: Callable[[int, nn.Module, Record], None] | None = None,
    progress: bool = True,
) -> list[Record]:
    """`train` with a log and checkpoints in the folder `run`; `batches` can say and restore where they are.

    What makes a checkpoint the best is the score of `evaluate`: lower is better. `about`, the config and the seconds so far
    are stored in each. A resumed run passes the checkpoint whose model this is, and batches made as those of the first.
    """
    optimizer = optimizer or build_optimizer(model, config)
    step, seconds = 0, 0.0
    if resume is not None:
        resume.resume(optimizer, batches)
        step, seconds = resume.step, resume.state["seconds"]
    saved = step

    def save(step: int, model: nn.Module, record: Record) -> None:
        nonlocal saved
        save_checkpoint(
            run, model, tokenizer, step=step, validation=record.get("validation"), optimizer=optimizer,
            batches=batches, state={**about, "train": asdict(config), "seconds": record["seconds"]},
        )  # fmt: skip
        saved = step

    log_path = run / "log.jsonl"
    earlier = [record for record in read_log(log_path) if record["step"] <= step]
    log_path.write_text("".join(json.dumps(record) + "\n" for record in earlier), encoding="utf-8")
    with open(log_path, "a", encoding="utf-8") as log:

        def after_step(step: int, model: nn.Module, record: Record) -> None:
            log.write(json.dumps(record) + "\n")
            log.flush()
            if config.save_every and step % config.save_every == 0:
                save(step, model, record)
            if on_step:
                on_step(step, model, record)

        history = train(
            model, batches, config, loss_function=loss_function,
            optimizer=optimizer, evaluate=evaluate, on_step=after_step, progress=progress, start=step, seconds=seconds,
        )  # fmt: skip
    if history and saved != history[-1]["step"]:
        save(history[-1]["step"], model, history[-1])
    return history


def read_log(path: Path) -> list[Record]:
    """The records of a log file, oldest first; a last line that was cut off by a crash is left out."""
    records: list[Record] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
    return records
