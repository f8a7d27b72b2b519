"""The training loop: guess the next token, measure how wrong, step, repeat.

It knows no text, no tokenizer, no files and no decoding. Samples, logs and checkpoints happen in `on_step`.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from minilm.runtime import pick_dtype
from minilm.training.config import TrainConfig
from minilm.training.loss import IGNORE, LossFunction, next_token_loss
from minilm.training.muon import build_optimizer
from minilm.training.optim import Optimizer, clip_grad_norm
from minilm.training.schedule import learning_rate_factor

Batch = tuple[Tensor, Tensor]
Record = dict[str, Any]


class TrainingFailed(RuntimeError):
    """The loss or the gradient is no longer a number. The weights are those of the last good step."""


def token_shares(counts: Sequence[int]) -> list[float]:
    """What the mean loss of each batch is multiplied by, so that their sum is the mean over all targets.

    A plain mean of means would give the tokens of a batch with few targets too much weight. With no target, all are 0.

    >>> token_shares([6, 2, 0])
    [0.75, 0.25, 0.0]
    """
    return [count / max(sum(counts), 1) for count in counts]


def accumulate_gradients(
    model: nn.Module,
    batches: Sequence[Batch],
    loss_function: LossFunction,
    device: torch.device,
    half: bool = False,
) -> tuple[float, int]:
    """Add to each .grad that of the mean loss over all targets of the batches. Returns loss and number of targets.

    Each batch is weighted by its share of the counted targets, so that k small batches give what one big batch gives.
    """
    counts = [int((targets != IGNORE).sum()) for _, targets in batches]
    total = 0.0
    for (inputs, targets), share in zip(batches, token_shares(counts), strict=True):
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = loss_function(model, inputs.to(device), targets.to(device)) * share
        loss.backward()
        total += loss.item()
    return total, sum(counts)


class Crew:
    """Who does the work of a step: this process alone. Several that share it have the same methods (`distributed.Team`)."""

    def gradients(
        self, model: nn.Module, batches: Sequence[Batch], loss: LossFunction, device: torch.device, half: bool
    ) -> tuple[float, int]:
        """`accumulate_gradients`, of the batches as a whole."""
        return accumulate_gradients(model, batches, loss, device, half)

    def agree(self, seconds: float, signals: list[int]) -> tuple[float, list[int]]:
        """The time and the signals that count, by which all end at the same step."""
        return seconds, signals


ALONE = Crew()


@contextmanager
def finish_the_step() -> Iterator[list[int]]:
    """Let Ctrl-C, SIGTERM and the closing of the terminal wait: the first only enters its number into the list, the second
    acts as usual. What is ignored (by nohup) stays ignored.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other thread
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    config: TrainConfig,
    *,
    optimizer: Optimizer | None = None,
    loss_function: LossFunction = next_token_loss,
    evaluate: Callable[[nn.Module], Any] | None = None,
    on_step: Callable[[int, nn.Module, Record], None] | None = None,
    progress: bool = True,
    start: int = 0,
    seconds: float = 0.0,
    crew: Crew = ALONE,
) -> list[Record]:
    """Train the model in place and return the history, one record a step.

    A record holds "step" (from 1), "loss" (nats per token, before the update), "learning_rate" (of the first group),
    "gradient_norm" (before clipping), "tokens" (targets counted) and "seconds" (of optimisation since the run began);
    after an evaluation "validation"; after Ctrl-C, SIGTERM or SIGHUP, which wait for the end of the step, "interrupted", the
    signal's number.

    loss_function(model, inputs, targets) is what is made small: `next_token_loss`, or a function that takes its place.

    A run that goes on after a checkpoint passes `start` (steps done) and `seconds`, with optimizer, batches and random
    numbers restored. With config.minutes the run ends when the time is up, and the warm-down follows the clock where
    that is ahead of the steps. Time spent in `evaluate` and `on_step` is not counted.

    Batches that run out before config.steps end the run there, without a last evaluation.

    `crew` is who does the work of a step; several processes call this alike, each with its own model and batches.

    Raises TrainingFailed, before the weights are touched, if the loss or the gradient is infinite or not a number.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    optimizer = optimizer or build_optimizer(model, config)
    device = next(model.parameters()).device
    half = pick_dtype(config.dtype, device) is torch.bfloat16
    forward: Any = torch.compile(model) if config.compile else model
    limit = math.inf if config.minutes is None else 60.0 * config.minutes
    stream = iter(batches)
    history: list[Record] = []
    step = start
    model.train()
    bar = tqdm(total=config.steps, initial=start, unit="step", disable=not progress, dynamic_ncols=True)
    with bar, finish_the_step() as signals:
        stop = signals
        while step < config.steps and seconds < limit and not (stop and history):
            began = time.perf_counter()
            micro_batches = list(islice(stream, config.accumulation))
            if not micro_batches:
                break
            factor = learning_rate_factor(
                step, config.steps, config.warmup, config.schedule, config.warmdown, config.final,
                progress=max(step / config.steps, seconds / limit),
            )  # fmt: skip
            for group in optimizer.groups:
                group["lr"] = factor * group["base_lr"]

            loss, tokens = crew.gradients(forward, micro_batches, loss_function, device, half)
            norm = clip_grad_norm(model.parameters(), config.clip or math.inf)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                optimizer.zero_grad()
                raise TrainingFailed(
                    f"step {step + 1}: loss {loss}, gradient {norm}: try a smaller learning_rate or a longer warmup"
                )
            optimizer.step()
            optimizer.zero_grad()

            step += 1
            duration = time.perf_counter() - began
            seconds, stop = crew.agree(seconds + duration, signals)
            record: Record = {
                "step": step,
                "loss": loss,
                "learning_rate": optimizer.groups[0]["lr"],
                "gradient_norm": norm,
                "tokens": tokens,
                "seconds": seconds,
            }
            over = step == config.steps or seconds >= limit
            if evaluate and (over or (config.eval_every and step % config.eval_every == 0)):
                model.eval()
                record["validation"] = evaluate(model)
                model.train()
            history.append(record)
            if on_step:
                on_step(step, model, record)
            bar.total = max(
                step, round(step / max(step / config.steps, seconds / limit))
            )  # the clock may end it sooner
            bar.update()
            read = sum(inputs.numel() for inputs, _ in micro_batches)
            bar.set_postfix_str(f"loss {loss:.3f} nats, {read / duration:,.0f} tokens/s")
    model.eval()
    if stop and history:
        history[-1]["interrupted"] = stop[0]
    return history
