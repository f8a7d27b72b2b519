"""A training run in a folder: plan, train, log each step, look at the validation data, save, and go on after a break.

The folder holds log.jsonl and times.jsonl (a line a step, `run_log.py`) and the checkpoints step-000123/; in pretraining
also train.tokens and validation.tokens.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from minilm.evaluation.evaluate import evaluate
from minilm.runtime import keep_freed_memory
from minilm.text.tokenizer import Tokenizer
from minilm.training.budget import forecast, look_tokens, plan, step_seconds, with_headroom
from minilm.training.checkpoint import Checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.crew import ALONE, RunCrew
from minilm.training.loop import Record, TrainingFailed, finish_the_step, train
from minilm.training.loss import LossFunction, next_token_loss
from minilm.training.optim import Optimizer
from minilm.training.prepare import Prepared
from minilm.training.run_log import open_log
from minilm.training.run_log import read_log as read_log  # readers look for it beside what writes it
from minilm.training.storage import newest_first, remove_directory, step_of
from minilm.training.streams import batches_for


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
    crew: RunCrew = ALONE,
) -> list[Record]:
    """Train `model` on the prepared text and keep everything in the folder `run`. Returns the history, as `train` does.

    With config.minutes a new run is planned first; `free` names the fields of the config that `plan` may set. What it will
    do and what is expected of it is said, kept in each checkpoint, and stands as "plan" in the last record.

    `about` is stored in each checkpoint beside the plan (say, the name of the corpus). A resumed run passes the checkpoint
    whose model this is. During training at most eval_bytes of the validation text are scored, in bits per byte. `crew`: see
    `train_in_folder`.
    """
    keep_freed_memory()
    batches: Any  # windows, or streams for a model with a state
    batches, loss_function = batches_for(model, prepared.learned, config, loss_function)
    planned: dict[str, Any] | None = None
    if resume is not None:
        planned = resume.state.get("plan")
    elif config.minutes is not None:
        a_look = look_tokens(prepared, eval_bytes)
        timed, measured = functools.partial(step_seconds, crew=crew), list[float]()

        def timer(*arguments: Any) -> float:
            measured.append(timed(*arguments))
            return measured[-1]

        config = plan(
            model, batches, config, config.minutes, loss_function,
            free=free, look_tokens=a_look, least_steps=1, timer=timer,
        )  # fmt: skip
        outlook = forecast(model, config, prepared, eval_bytes, min(measured, default=math.inf))
        planned = asdict(outlook)
        say(outlook.describe(time.time()))
        config = with_headroom(config) if "steps" in free else config

    def bits_per_byte(model: nn.Module) -> float:
        return evaluate(model, prepared.validation, prepared.tokenizer, max_bytes=eval_bytes).bits_per_byte

    history = train_in_folder(
        model, prepared.tokenizer, batches, config, run, about={**about, "plan": planned}, resume=resume,
        loss_function=loss_function, evaluate=bits_per_byte, on_step=on_step, progress=progress, crew=crew,
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
    crew: RunCrew = ALONE,
) -> list[Record]:
    """`train` with a log and checkpoints in the folder `run`; `batches` can say and restore where they are.

    What makes a checkpoint the best is the score of `evaluate`: lower is better. `about`, the config and the seconds so far
    are stored in each. A resumed run passes the checkpoint whose model this is, and batches made as those of the first. Raises
    TrainingFailed as `train` does, also if `evaluate` gives no number; the last checkpoint then stands as it was.

    The processes of a crew call this alike. The one that leads writes the log and the checkpoints, and calls `on_step`.
    """
    optimizer = optimizer or crew.ready(model, config)
    step, seconds = 0, 0.0
    mark: Mapping[str, Any] | None = None
    if resume is not None:
        resume.resume(optimizer, batches)
        crew.spread(optimizer)
        step = resume.step
        seconds, mark = _clock_and_mark(resume)
    saved = step

    def save(step: int, model: nn.Module, record: Record) -> None:
        nonlocal saved
        saved = step
        model, memory = crew.whole(model, optimizer)
        if not crew.leads:
            return
        for path in newest_first(run):
            if (step_of(path) or 0) > step:  # the run went on from an earlier step: from here it takes another way
                remove_directory(path)
        save_checkpoint(
            run, model, tokenizer, step=step, validation=record.get("validation"), optimizer=memory, batches=batches,
            state={**about, "train": asdict(config), "seconds": record["seconds"], "log": log.mark()},
        )  # fmt: skip

    def after_step(step: int, model: nn.Module, record: Record) -> None:
        if not math.isfinite(record.get("validation", 0.0)):
            raise TrainingFailed(f"step {step}: validation {record['validation']}: try a smaller learning_rate")
        if crew.leads:
            log.add(record)
        if config.save_every and step % config.save_every == 0:
            save(step, model, record)
        if on_step and crew.leads:
            on_step(step, model, record)

    log: Any  # of the process that leads
    with open_log(run, step, mark) if crew.leads else contextlib.nullcontext() as log, crew.answered():
        history = train(
            model, batches, config, loss_function=loss_function, optimizer=optimizer,
            evaluate=functools.partial(crew.score, evaluate), on_step=after_step, progress=progress and crew.leads,
            start=step, seconds=seconds, crew=crew,
        )  # fmt: skip
        if history and saved != history[-1]["step"]:
            with finish_the_step() as signals:  # what was learnt is worth the moment
                save(history[-1]["step"], model, history[-1])
            if signals:
                history[-1].setdefault("interrupted", signals[0])
    return history


def _clock_and_mark(checkpoint: Checkpoint) -> tuple[float, Mapping[str, Any]]:
    """The seconds of training so far, and the mark of the log at that step."""
    seconds, mark = (checkpoint.state.get(name) for name in ("seconds", "log"))
    if not isinstance(seconds, float) or not isinstance(mark, Mapping):
        raise ValueError(f"{checkpoint.path} does not say how far its run was: it can be used, but not trained further")
    return seconds, mark
