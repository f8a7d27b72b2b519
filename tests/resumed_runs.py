"""Runs of training that die after a step and go on: what tests/test_resume_exact.py compares with the run that did not die.

A `Process` holds what one process holds of a run, made anew from the folder alone. After every step it writes down a
`moment`: digests of all that the next step depends on. Two runs are the same if all their moments are.
"""

import hashlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilm.classical.config import NgramConfig
from minilm.classical.leave_one_out import LeaveOneOut
from minilm.classical.ngram import NgramLM
from minilm.fast.choose import attention_part, loss_part, with_kernels
from minilm.finetuning.adapters import adapt
from minilm.finetuning.examples import Examples
from minilm.finetuning.heads import SequenceClassifier
from minilm.finetuning.lora_config import LoRAConfig
from minilm.finetuning.losses import label_loss
from minilm.models.config import GPTConfig, SpeedrunConfig, llama_config
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.residual import Residual
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.runtime import set_seed
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loss import LossFunction, next_token_loss
from minilm.training.muon import build_optimizer
from minilm.training.optim import AdamW, Optimizer, decay_groups
from minilm.training.residual import place_batches, residual_loss
from minilm.training.run import train_in_folder
from minilm.training.storage import newest_first

TOKENIZER = ByteTokenizer()
V, T, B, ACCUMULATION, SEED = TOKENIZER.vocab_size, 5, 2, 3, 3
SHAPE: dict[str, Any] = dict(vocab_size=V, context_length=T, d_model=12, n_layers=1, n_heads=3, dropout=0.2)
MODELS = ("gpt", "llama", "speedrun", "residual", "classifier", "lora")
OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
EPOCHS = 2.5
LOGS = ("log.jsonl", "times.jsonl")
disturbances = itertools.count(1000)


class PowerCut(BaseException):
    """The process dies here: nothing that would come later in it happens."""


@dataclass(frozen=True)
class Case:
    """One way of training; `kernels` are the fast parts that `minilm train` takes without --plain."""

    model: str = "gpt"
    optimizer: str = "adamw"
    schedule: str = "cosine"
    dtype: str = "float32"
    kernels: bool = False
    steps: int = 8

    def __str__(self) -> str:
        return "-".join(map(str, astuple(self)))

    @cached_property
    def config(self) -> TrainConfig:
        rate = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01, "muon": 0.01}[self.optimizer]
        fall = {"cosine": 1.0, "linear": 0.6}[self.schedule]
        return TrainConfig(
            steps=self.steps, batch_size=B, accumulation=ACCUMULATION, optimizer=self.optimizer, learning_rate=rate,
            warmup=3, schedule=self.schedule, warmdown=fall, clip=CLIP[self.model], eval_every=5, save_every=1, seed=SEED,
            dtype=self.dtype,
        )  # fmt: skip

    @cached_property
    def ids(self) -> np.ndarray:
        """A text of which the run reads EPOCHS, so that windows, batches and steps end at different places."""
        n = round(self.steps * ACCUMULATION * B / EPOCHS) * T + 3
        return np.concatenate([[TOKENIZER.end_of_text], np.random.default_rng(0).integers(0, 256, size=n)])

    def batches(self) -> Any:
        if self.model == "classifier":
            rng = np.random.default_rng(1)
            n = round(self.steps * ACCUMULATION * B / EPOCHS)
            rows = [rng.integers(0, 256, size=rng.integers(1, T + 1)).tolist() for _ in range(n)]
            return Examples(rows, [int(label) for label in rng.integers(0, 3, size=n)]).batches(B, SEED)
        if self.model == "residual":
            return place_batches(len(self.ids), B, T, SEED)
        return Batches(self.ids, B, T, SEED)

    def counted(self) -> NgramLM:
        return NgramLM(NgramConfig(vocab_size=V, order=3)).fit(self.ids, TOKENIZER.end_of_text)

    def loss(self, model: Any) -> LossFunction:
        if self.model == "classifier":
            return label_loss(0.1, [1.0, 2.0, 0.5])
        if self.model == "residual":
            return residual_loss(self.ids, LeaveOneOut(self.counted(), self.ids).log_probs)
        return loss_part(not self.kernels, False, model).get("loss_function", next_token_loss)

    def parts(self) -> dict[str, Any]:
        """The attention, for the models that take one."""
        return {} if self.model == "residual" else attention_part(not self.kernels, torch.device("cpu"), T)

    def fresh(self, base: Path) -> Any:
        """A new model; that of LoRA stands on the checkpoint in `base`."""
        generator = torch.Generator().manual_seed(SEED)
        if self.model == "llama":
            return GPT(llama_config(**SHAPE, n_kv_heads=1), **self.parts())
        if self.model == "speedrun":
            shape = {name: SHAPE[name] for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads")}
            return SpeedrunGPT(SpeedrunConfig(**shape, max_ngram=3, ngram_rows=64), **self.parts())
        if self.model == "residual":
            return Residual(GPT(GPTConfig(**SHAPE)), CountedLM(self.counted()))
        if self.model == "lora":
            return adapt(load_checkpoint(base, **self.parts()), LoRAConfig(rank=2, alpha=5.0, dropout=0.1), generator)
        gpt = GPT(GPTConfig(**SHAPE), **self.parts())
        return gpt if self.model == "gpt" else SequenceClassifier.from_backbone(gpt, ("x", "y", "z"), "mean", generator)

    def optimizer_for(self, model: Any) -> Optimizer:
        """That of the config; without kernels also AdamW is the readable one."""
        config = self.config
        if self.optimizer == "adamw" and not self.kernels:
            groups = decay_groups(model, config.learning_rate, config.weight_decay)
            return AdamW(groups, betas=(config.beta1, config.beta2))
        return build_optimizer(model, config)


# A length that the gradient has about once in two steps, so that clipping is both on and off.
CLIP = {"gpt": 0.9, "llama": 0.85, "speedrun": 0.63, "residual": 1.8, "classifier": 1.4, "lora": 0.2}


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bits."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        tensor = torch.as_tensor(array).detach().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class Recorded:
    """Batches that note a digest of the ids of each one they hand out."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.read = batches, list[str]()
        self.state, self.restore = batches.state, batches.restore

    def __iter__(self) -> "Recorded":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        x, y = next(self.batches)
        self.read.append(digest({"x": x, "y": y}))
        return x, y


class Process:
    """One process and its run: a new one in an empty folder, else the one that goes on from the last checkpoint there."""

    def __init__(self, case: Case, run: Path, base: Path) -> None:
        number = next(disturbances)  # a new process begins with random states of its own
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(number)
        self.case, self.run = case, run
        run.mkdir(parents=True, exist_ok=True)
        self.checkpoint = load_checkpoint(run, prefer="last", **case.parts()) if newest_first(run) else None
        if self.checkpoint is None:
            set_seed(SEED)
        self.model = with_kernels(not case.kernels, self.checkpoint.model if self.checkpoint else case.fresh(base))
        self.config = TrainConfig(**self.checkpoint.state["train"]) if self.checkpoint else case.config
        self.optimizer, self.loss = case.optimizer_for(self.model), case.loss(self.model)
        self.batches = Recorded(case.batches())
        self.look = next(case.batches())
        self.moments: dict[int, dict[str, Any]] = {}

    def train(
        self, save_every: int = 0, dies_after: int | None = None, after: Callable[[int], None] = lambda step: None
    ) -> dict[int, dict[str, Any]]:
        """Train to the end, or to the death after a step; the moments by step."""

        def on_step(step: int, model: Any, record: dict[str, Any]) -> None:
            self.moments[step] = self.moment()
            after(step)
            if step == dies_after:
                raise PowerCut

        with suppress(PowerCut):
            train_in_folder(
                self.model, TOKENIZER, self.batches, replace(self.config, save_every=save_every), self.run, about={},
                evaluate=self.score, optimizer=self.optimizer, resume=self.checkpoint, loss_function=self.loss,
                on_step=on_step, progress=False,
            )  # fmt: skip
        return self.moments

    def score(self, model: Any) -> float:
        with torch.no_grad():
            return self.loss(model, *self.look).item()

    def moment(self) -> dict[str, Any]:
        """All that the next step depends on, and what this one has read."""
        return {
            "parameters": digest(dict(self.model.named_parameters())),
            "optimizer": digest(self.optimizer.state_arrays()),
            "random": digest({"cpu": torch.get_rng_state()}),
            "rates": [group["lr"] for group in self.optimizer.groups],
            "place": json.dumps(self.batches.state()),
            "read": self.batches.read[-ACCUMULATION:],
        }


@dataclass(frozen=True)
class Reference:
    """The run that nobody disturbed: its moments, its folder, and on the shelf each of its checkpoints."""

    case: Case
    room: Path
    moments: dict[int, dict[str, Any]]

    @classmethod
    def train(cls, case: Case, room: Path) -> "Reference":
        room.mkdir(parents=True, exist_ok=True)
        set_seed(SEED + 1)
        save_checkpoint(room / "base", GPT(GPTConfig(**SHAPE)), TOKENIZER)

        def shelve(step: int) -> None:
            name = f"step-{step:06d}"
            shutil.copytree(room / "run" / name, room / "shelf" / name, copy_function=os.link)

        return cls(case, room, Process(case, room / "run", room / "base").train(save_every=1, after=shelve))

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log]

    @property
    def log(self) -> list[bytes]:
        return (self.room / "run" / "log.jsonl").read_bytes().splitlines(keepends=True)

    def dead_after(self, step: int, run: Path) -> Path:
        """The folder as a death left it: the checkpoint of a step, logs that tell of later ones, the last line torn."""
        name = f"step-{step:06d}"
        shutil.copytree(self.room / "shelf" / name, run / name, copy_function=os.link)
        for log in LOGS:
            if (self.room / "run" / log).exists():
                (run / log).write_bytes((self.room / "run" / log).read_bytes() + b'{"step": 9')
        return run

    def differences(self, step: int, run: Path, more: int | None = None) -> set[str]:
        """What differs between this run and one that goes on after `step`, to the end or for so many steps more."""
        process = Process(self.case, self.dead_after(step, run), self.room / "base")
        assert process.checkpoint is not None and process.checkpoint.step == step
        last = self.case.steps if more is None else min(step + more, self.case.steps)
        moments = process.train(dies_after=None if more is None else last)
        assert [*moments] == [*range(step + 1, last + 1)]
        found = {part for at in moments for part in moments[at] if moments[at][part] != self.moments[at][part]}
        if (run / "log.jsonl").read_bytes() != b"".join(self.log[:last]):
            found.add("log")
        if more is None:
            final = [folder / f"step-{last:06d}" for folder in (self.room / "run", run)]
            for file in ("config.json", "weights.safetensors", "training.safetensors"):
                if (final[0] / file).read_bytes() != (final[1] / file).read_bytes():
                    found.add(file)
        return found
