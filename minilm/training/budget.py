"""What fits into the minutes: measured before the run, so that the learning rate can come down in time.

The minutes are those of optimisation, from the first step to the last. Looks at the validation text and checkpoints are
not counted; `forecast` adds the looks to the hour at which it expects the end.
"""

import copy
import dataclasses
import itertools
import math
import signal
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from minilm.runtime import n_cores, pick_dtype
from minilm.training.batches import Batches
from minilm.training.checkpoint import random_state, restore_random_state
from minilm.training.config import TrainConfig
from minilm.training.loop import ALONE, Crew, train
from minilm.training.loss import LossFunction, next_token_loss
from minilm.training.prepare import Prepared
from minilm.training.sizes import EPOCHS, Candidate, expected_bits, fitting_steps

TIMED, MOST_TIMED = 0.02, 40  # part of the minutes in which steps are timed, and how many at most
LOOKS = 0.1  # part of the minutes that looks at the validation text may take besides, where the plan may set them
MOST_LOOKS = 10
WARMUP = 0.1  # most of the steps during which the learning rate may rise, where the plan may set it
LONGEST = 10.0  # seconds after which the timing of steps ends, with the step that is being done
HEADROOM = 0.25  # so many more steps than are expected may be done, where the machine turns out to be faster


def step_seconds(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    loss_function: LossFunction = next_token_loss,
    n_steps: int = 5,
    crew: Crew = ALONE,
) -> float:
    """Seconds of one training step: the median of n_steps after one to warm up, or of as many as LONGEST allows.

    Trained is a copy; model, batches and random numbers are afterwards as before.
    """
    where, randomness = batches.state(), random_state()
    trial = dataclasses.replace(config, steps=n_steps + 1, minutes=LONGEST / 60.0)
    try:
        history = train(copy.deepcopy(model), batches, trial, loss_function=loss_function, progress=False, crew=crew)
    finally:
        batches.restore(where)
        restore_random_state(randomness)
    if "interrupted" in history[-1]:
        signal.raise_signal(history[-1]["interrupted"])  # now it acts as it does outside of a step
    ends = [record["seconds"] for record in history]
    return statistics.median([end - begin for begin, end in itertools.pairwise(ends)] or ends)


StepTimer = Callable[..., float]  # as step_seconds; a test passes a clock of its own


def fastest_threads(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    loss_function: LossFunction = next_token_loss,
    n_steps: int = 5,
    timer: StepTimer = step_seconds,
) -> tuple[float, TrainConfig]:
    """Seconds of one step and the config with the number of threads that took them.

    Small models are often fastest on one thread: where config.threads is 0, one and all cores are measured. The process
    is left with the winner.
    """
    candidates = [config.threads] if config.threads else sorted({1, n_cores()})
    if next(model.parameters()).device.type != "cpu":
        candidates = candidates[-1:]
    options = [dataclasses.replace(config, threads=threads) for threads in candidates]
    timed = [(timer(model, batches, option, loss_function, n_steps), option) for option in options]
    seconds, fastest = min(timed, key=lambda pair: pair[0])
    torch.set_num_threads(fastest.threads)
    return seconds, fastest


def trial_seconds(
    build: Callable[[Any], nn.Module],
    candidate: Candidate,
    ids: np.ndarray,
    parts: Callable[[nn.Module], dict[str, Any]],
    timer: StepTimer = step_seconds,
) -> float:
    """Seconds of one step of a model that build(settings) makes, on the best number of threads; math.inf without room for it.

    `parts` says which loss_function the model is trained with. Nothing is compiled for a trial.
    """
    config, randomness = dataclasses.replace(candidate.config, compile=False), random_state()
    try:
        model = build(candidate.settings)
        batches = Batches(ids, config.batch_size, candidate.settings.context_length, config.seed)
        return fastest_threads(model, batches, config, n_steps=3, timer=timer, **parts(model))[0]
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for a GPU's memory, and for a CPU's only words
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            return math.inf
        raise
    finally:
        restore_random_state(randomness)


def plan(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    minutes: float,
    loss_function: LossFunction = next_token_loss,
    *,
    free: Collection[str] = ("steps",),
    look_tokens: int = 0,
    least_steps: int = 0,
    timer: StepTimer = step_seconds,
) -> TrainConfig:
    """The config with minutes, threads and steps filled in: what to store, so that a resumed run keeps to the plan.

    `free` names the fields that may be set: where "steps" is not among them, config.steps is the most; "warmup" becomes
    shorter in a short run, and "eval_every" such that looks at look_tokens of text take at most a tenth of the time.
    ValueError where less than least_steps fit.
    """
    as_written = dataclasses.replace(config, minutes=minutes, compile=False)  # compiled once, not for each candidate
    seconds, as_written = fastest_threads(model, batches, as_written, loss_function, timer=timer)
    config = dataclasses.replace(as_written, compile=config.compile)
    n_steps = min(MOST_TIMED, int(TIMED * 60.0 * minutes / seconds))
    if n_steps > 5:  # once more and longer: the machine may be doing other things too
        seconds = timer(model, batches, config, loss_function, n_steps)
    fitting = math.floor(fitting_steps(minutes, seconds))
    if fitting < least_steps:
        raise ValueError(
            f"{minutes:g} minutes are too short: a step takes {seconds:.2g} s here; "
            f"give at least {max(least_steps, 1) * seconds / 50:.2g} minutes, or a smaller model or batch"
        )
    steps = max(1, fitting if "steps" in free else min(fitting, config.steps))
    changes: dict[str, Any] = {"steps": steps}
    if "warmup" in free:
        changes["warmup"] = min(config.warmup, int(WARMUP * steps))
    if "eval_every" in free:
        look = seconds * look_tokens / (batches.batch_size * batches.context_length * config.accumulation)
        n_looks = int(min(MOST_LOOKS, LOOKS * 60.0 * minutes / max(look, 1e-9)))
        changes["eval_every"] = math.ceil(steps / n_looks) if n_looks > 1 else 0
    return dataclasses.replace(config, **changes)


def with_headroom(config: TrainConfig) -> TrainConfig:
    """The planned config with steps to spare, so that the clock ends the run: it may have been measured in a slow moment.

    The warm-down follows the clock in any case.
    """
    return dataclasses.replace(config, steps=math.ceil((1.0 + HEADROOM) * config.steps))


def look_tokens(prepared: Prepared, max_bytes: int) -> int:
    """What a look at the validation text costs, as a number of tokens to train on.

    Windows overlap by a half, so that each token is read twice; without a backward pass that is two thirds of a step.
    """
    side = prepared.validation
    return int(side.n_tokens * min(1.0, max_bytes / max(1, side.n_bytes)) * 2 / 3)


@dataclass(frozen=True)
class Forecast:
    """What a planned run will do and what may come of it: said before it begins, and kept in its checkpoints."""

    kind: str
    shape: dict[str, int]
    batch_size: int
    steps: int
    minutes: float
    seconds: float  # of optimisation, as expected: fewer than the minutes where few steps were asked for
    tokens: int  # targets of all steps
    epochs: float  # how many times through the text
    threads: int
    dtype: str
    look_seconds: float  # of all looks together, at most
    bits_per_byte: tuple[float, float] | None  # for English like Shakespeare's; None: nothing comparable was measured

    def describe(self, now: float) -> str:
        """The plan in words; `now` is the time in seconds since 1970."""
        end = time.strftime("%H:%M", time.localtime(now + self.seconds + self.look_seconds))
        takes = f"{self.minutes:g} minutes" if self.seconds > 54.0 * self.minutes else f"about {self.seconds:.0f} s"
        shape = ", ".join(f"{name} {value}" for name, value in self.shape.items())
        lines = [
            f"plan: {shape}, batch_size {self.batch_size}",
            f"{self.steps:,} steps in {takes}, {self.threads} thread(s), {self.dtype}, measured on this "
            f"machine: {self.tokens:,} tokens, {self.epochs:.2g} times through the text",
            f"ends at about {end}, with {self.look_seconds:.0f} s for the looks at the validation text",
        ]
        if self.bits_per_byte:
            low, high = self.bits_per_byte
            lines.append(f"expected: {low:.2f} to {high:.2f} bits per byte, if the text is English like Shakespeare's")
        return "\n      ".join(lines)


def forecast(
    model: Any, config: TrainConfig, prepared: Prepared, max_bytes: int, a_step_takes: float = math.inf
) -> Forecast:
    """What the planned `config` means for this model and text; a look reads at most max_bytes of the validation side.

    a_step_takes: seconds, as measured; without it the minutes are taken to be used.
    """
    settings = model.config
    window = getattr(
        settings, "window", settings.context_length
    )  # of a recurrent model a step reads less than its tools do
    a_step = config.batch_size * window * config.accumulation
    tokens, train = config.steps * a_step, prepared.train
    n_looks = 1 + ((config.steps - 1) // config.eval_every if config.eval_every else 0)
    seconds = min(60.0 * (config.minutes or 0.0), config.steps * a_step_takes)
    a_look = seconds * look_tokens(prepared, max_bytes) / tokens
    names = ("n_layers", "d_model", "n_heads", "window" if hasattr(settings, "window") else "context_length")
    return Forecast(
        kind=model.kind,
        shape={name: getattr(settings, name) for name in names if hasattr(settings, name)},
        batch_size=config.batch_size * config.accumulation,
        steps=config.steps,
        minutes=config.minutes or 0.0,
        seconds=seconds,
        tokens=tokens,
        epochs=tokens / len(prepared.learned),
        threads=config.threads,
        dtype=str(pick_dtype(config.dtype, next(model.parameters()).device)).removeprefix("torch."),
        look_seconds=n_looks * a_look,
        bits_per_byte=expected_bits(model.kind, train.n_bytes * min(EPOCHS, tokens / max(1, train.n_tokens))),
    )
