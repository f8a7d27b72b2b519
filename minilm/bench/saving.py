"""What a checkpoint costs: the seconds of a save beside those of the training between two of them, at the default cadence.

Steps and saves are timed in turn, in the folder where runs lie. A save writes weights and optimizer, takes their SHA-256,
waits until the disk has them, and deletes the checkpoint that is no longer kept, as `minilm train` does it.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minilm.bench.stopwatch import threads_restored
from minilm.bench.table import Job, Request, Row
from minilm.fast.choose import loss_part, with_kernels
from minilm.models.config import SpeedrunConfig, gpt2_config
from minilm.models.registry import build_model
from minilm.runtime import keep_freed_memory, minilm_home, n_cores, pick_device, set_seed
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import accumulate_gradients
from minilm.training.muon import build_optimizer
from minilm.training.optim import clip_grad_norm
from minilm.training.recipes import RECIPES, SHAPES

# name -> kind, its config, and how it is trained; the speedrun has 16.8 million numbers in its table of n-grams
WHAT: dict[str, tuple[str, Any, Mapping[str, Any]]] = {
    "gpt": ("gpt", gpt2_config(), RECIPES["gpt"]),
    "speedrun": ("speedrun", SpeedrunConfig(**SHAPES["speedrun"]), RECIPES["speedrun"]),
    "gpt of 10M": ("gpt", gpt2_config(n_layers=6, d_model=384, n_heads=6, context_length=256, vocab_size=66), RECIPES["gpt"]),
}  # fmt: skip
MOST = 5.0  # per cent of the training time that saving may take
STEPS = 10  # timed before each save
PERCENT = "% of training"
IGNORED = ("data", "split", "tune", "steps", "changes")  # settings that are for other topics


def table(request: Request) -> list[Job]:
    """A job for each kind of model. ValueError for what only trainings heed."""
    if request.data or request.seconds or request.steps or request.tune or request.changes:
        raise ValueError("saving times steps and saves: leave out --data, --seconds, --steps, --tune and --set")
    expected = 10.0 * request.runs
    return [Job(name, request.seeds[0], expected, partial(saving_row, name, request), IGNORED) for name in WHAT]


class Trial:
    """A model in training; after the first step its optimizer's memory is as large as it will be."""

    def __init__(self, kind: str, shape: Any, recipe: Mapping[str, Any], request: Request) -> None:
        keep_freed_memory()
        set_seed(request.seeds[0])
        device, context = pick_device(), shape.context_length
        model = build_model(kind, dataclasses.asdict(shape), **request.attention(False, device, context)).to(device)
        self.model, self.config = with_kernels(False, model), TrainConfig(**recipe)
        self.loss = loss_part(False, False, self.model)["loss_function"]
        self.optimizer = build_optimizer(self.model, self.config)
        n_ids = 1 + context * 20 * self.config.batch_size
        ids = np.random.default_rng(request.seeds[0]).integers(shape.vocab_size, size=n_ids)
        self.batches = Batches(ids, self.config.batch_size, context)
        self.n_saves = 0

    def step(self) -> None:
        """One update of the weights, as in `training.loop.train`."""
        device = next(self.model.parameters()).device
        accumulate_gradients(self.model, [next(self.batches)], self.loss, device)
        clip_grad_norm(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, run: Path) -> Path:
        """A checkpoint with everything that --resume needs."""
        self.n_saves += 1
        return save_checkpoint(
            run, self.model, ByteTokenizer(), step=self.n_saves, optimizer=self.optimizer, batches=self.batches,
            state={"train": dataclasses.asdict(self.config)},
        )  # fmt: skip


def saving_row(name: str, request: Request) -> Row:
    """Seconds of a step and of a save, and the share of saving in the training time at the default cadence."""
    place = minilm_home() / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    with threads_restored(), tempfile.TemporaryDirectory(dir=place, prefix=".bench-saving-") as run:
        torch.set_num_threads(n_cores())
        trial = Trial(*WHAT[name], request)
        trial.step()
        size = sum(file.stat().st_size for file in trial.save(Path(run)).iterdir())
        steps, saves = zip(*(in_turn(trial, Path(run)) for _ in range(request.runs)), strict=True)
    shares = [save / (trial.config.save_every * step) for step, save in zip(steps, saves, strict=True)]
    return {
        "parameters": sum(p.numel() for p in trial.model.parameters()),
        "MB": size / 1e6,
        "step_s": statistics.median(steps),
        "save_s": statistics.median(saves),
        PERCENT: 100 * statistics.median(shares),
    }


def in_turn(trial: Trial, run: Path) -> tuple[float, float]:
    """Seconds of a step, the mean of STEPS, and of the save behind them."""
    began = time.perf_counter()
    for _ in range(STEPS):
        trial.step()
    trained = time.perf_counter()
    trial.save(run)
    return (trained - began) / STEPS, time.perf_counter() - trained


def conclusions(rows: Sequence[Row]) -> list[str]:
    """A sentence a row: whether saving is cheap enough."""
    every = TrainConfig().save_every
    return [
        f"{row['row']}: a save each {every} steps takes {row[PERCENT]:.2f} % of the training time, "
        f"{'less' if row[PERCENT] < MOST else 'MORE'} than {MOST:g} %"
        for row in rows
    ]
