"""How many steps fit into the minutes: measured before the run, so that the learning rate can come down in time."""

import copy
import dataclasses
import itertools
import math
import statistics

import torch
from torch import nn

from minilm.runtime import n_cores
from minilm.training.batches import Batches
from minilm.training.checkpoint import random_state, restore_random_state
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import LossFunction, next_token_loss

RESERVE = 0.03  # part of the time left unplanned, so that the clock seldom overtakes the steps


def step_seconds(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    loss_function: LossFunction = next_token_loss,
    n_steps: int = 5,
) -> float:
    """Seconds of one training step: the median of n_steps after one to warm up.

    Trained is a copy; model, batches and random numbers are afterwards as before.
    """
    where, randomness = batches.state(), random_state()
    trial = dataclasses.replace(config, steps=n_steps + 1, minutes=None)
    try:
        history = train(copy.deepcopy(model), batches, trial, loss_function=loss_function, progress=False)
    finally:
        batches.restore(where)
        restore_random_state(randomness)
    if "interrupted" in history[-1]:
        raise KeyboardInterrupt
    ends = [record["seconds"] for record in history]
    return statistics.median(end - begin for begin, end in itertools.pairwise(ends))


def plan(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    minutes: float,
    loss_function: LossFunction = next_token_loss,
) -> TrainConfig:
    """The config with minutes, threads and steps filled in: what to store, so that a resumed run keeps to the plan.

    Small models are often fastest on one thread: where config.threads is 0, one and all cores are measured. The process
    is left with the winner.
    """
    candidates = [config.threads] if config.threads else sorted({1, n_cores()})
    if next(model.parameters()).device.type != "cpu":
        candidates = candidates[-1:]
    timed = [dataclasses.replace(config, minutes=minutes, threads=threads) for threads in candidates]
    seconds, fastest = min(
        ((step_seconds(model, batches, option, loss_function), option) for option in timed), key=lambda pair: pair[0]
    )
    torch.set_num_threads(fastest.threads)
    steps = max(1, math.floor((1.0 - RESERVE) * 60.0 * minutes / seconds))
    return dataclasses.replace(fastest, steps=steps)
