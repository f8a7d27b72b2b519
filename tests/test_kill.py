"""kill -9 at any moment of a training run, again and again: resumed, it ends as the run that nobody killed, bit for bit."""

import json
import mmap
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import Child, die, strike
from file_watch import Operation, watched

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training import run as run_module
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.run import train_in_folder
from minilm.training.storage import MANIFEST, newest_first, to_json

POSIX = [None] if os.name == "posix" else []  # elsewhere there is no fork
TOKENIZER = ByteTokenizer()
# The table of positions is long only so that a save takes about as long as the steps between two.
MODEL = GPTConfig(vocab_size=257, context_length=20_000, d_model=12, n_layers=1, n_heads=2, dropout=0.2)
CONFIG = TrainConfig(
    steps=16, batch_size=2, accumulation=2, save_every=2, eval_every=3, warmup=2, learning_rate=0.01, dtype="float32"
)
IDS = np.random.default_rng(0).integers(0, 256, size=150)  # 3 epochs


@pytest.fixture(autouse=True, scope="module")
def no_waiting() -> Iterator[None]:
    """The death of a process takes nothing from the system's memory: fsync has nothing to add, but time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


# One byte that parent and child both see: whether a save is going on.
SAVING = mmap.mmap(-1, 1)


def go_on(run: Path) -> None:
    """What a user does after a crash: resume, or begin if there is nothing yet."""
    torch.manual_seed(1)
    checkpoint = load_checkpoint(run, prefer="last") if newest_first(run) else None
    train_in_folder(
        checkpoint.model if checkpoint else GPT(MODEL), TOKENIZER,
        Batches(IDS, CONFIG.batch_size, context_length=7, seed=3), CONFIG, run,
        about={"data": "noise"}, resume=checkpoint, progress=False,
        evaluate=lambda model: sum(p.abs().sum().item() for p in model.parameters()),
    )  # fmt: skip


def end(run: Path) -> dict[str, bytes]:
    """What has to be the same at the end: the log and the last checkpoint, but for the seconds."""
    last = newest_first(run)[0]
    files = {path.name: path.read_bytes() for path in last.iterdir() if path.name != MANIFEST}
    progress = json.loads(files["state.json"])
    del progress["state"]["seconds"]
    return files | {"state.json": to_json(progress), "log.jsonl": (run / "log.jsonl").read_bytes()}


def telling(*arguments: object, **settings: object) -> Path:
    """`save_checkpoint`, which says while it is at work."""
    SAVING[0] = 1
    try:
        return save_checkpoint(*arguments, **settings)  # type: ignore[arg-type]
    finally:
        SAVING[0] = 0


@dataclass
class Tally:
    """How many processes were killed, and how many of them inside a save."""

    kills: int = 0
    inside: int = 0
    runs: int = 0

    def count(self, code: int) -> bool:
        """Whether the child that ended with this code was killed."""
        if code == 0:
            return False
        assert code == -signal.SIGKILL
        self.kills += 1
        self.inside += SAVING[0]
        return True


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], set[str], list[Operation], float]:
    """The run that nobody kills: its end, what lies in its folder, its file operations, and its seconds in a warm fork."""
    runs = tmp_path_factory.mktemp("reference")
    (runs / "run").mkdir()
    with watched(runs / "run") as log:
        go_on(runs / "run")
    (runs / "again").mkdir()
    began = time.monotonic()
    assert Child(lambda: go_on(runs / "again"), runs / "output").wait() == 0, (runs / "output").read_text()
    seconds = time.monotonic() - began
    assert end(runs / "again") == end(runs / "run")
    return end(runs / "run"), {path.name for path in (runs / "run").iterdir()}, log, seconds


@pytest.mark.parametrize("kills", [n for n in (40, pytest.param(1000, marks=pytest.mark.nightly)) for _ in POSIX])
def test_killed_again_and_again_it_ends_as_if_nothing_had_been(tmp_path: Path, reference, kills: int) -> None:
    """Half of the kills fall on a random instant, half before a random file operation; up to six hit one run.

    The run ends with the same weights, optimizer, random numbers and log, bit for bit.
    """
    expected, names, log, seconds = reference
    rng, tally = random.Random(kills), Tally()

    def life(run: Path, last: int | None) -> None:
        run_module.save_checkpoint = telling
        if last is None:
            return go_on(run)
        with watched(run, strike(last, die)):
            return go_on(run)

    while tally.kills < kills:
        run = tmp_path / "run"
        run.mkdir()
        for death in range(6):
            SAVING[0] = 0
            reach = rng.choice([0.3, 1.0])  # so that some runs get far, and some are killed early, often
            if (tally.runs + death) % 2:
                last = rng.randrange(int(reach * len(log)))
                killed = tally.count(Child(partial(life, run, last), tmp_path / "output").wait())
            else:
                child = Child(partial(life, run, None), tmp_path / "output")
                killed = tally.count(child.kill_after(rng.uniform(0.0, reach * seconds)))
            if not killed:
                break
        assert Child(partial(go_on, run), tmp_path / "output").wait() == 0, (tmp_path / "output").read_text()
        assert end(run) == expected
        assert {path.name for path in run.iterdir() if path.name[0] != "."} >= names
        tally.runs += 1
        shutil.rmtree(run)
    print(f"{tally.kills} kills in {tally.runs} runs, {tally.inside} of them inside a save")
    assert tally.inside >= kills / 3


# ---- through the front door

LINE = "The {} went to the {} and said: where is my {}?\n"
WORDS = ("cat", "moon", "river", "old man", "spoon", "fox", "letter")
SMALL = [
    *["--d-model", "12", "--n-layers", "1", "--n-heads", "2", "--context-length", "8", "--dropout", "0.1"],
    *["--steps", "8", "--save-every", "2", "--batch-size", "2", "--threads", "1", "--dtype", "float32"],
    *["--model", "gpt", "--tokenizer", "byte", "--json"],
]


def command(arguments: list[str], run: Path, when: Callable[[Operation], bool] | None) -> Callable[[], int]:
    """`minilm ...` in a child, killed at the first operation that fits."""

    def task() -> int:
        with watched(run, strike(when or (lambda operation: False), die)):
            return main(arguments)

    return task


@pytest.mark.parametrize("_", POSIX)
def test_train_and_resume_by_command_after_kill_9(tmp_path: Path, _: None) -> None:
    """`minilm train`, killed; `minilm train --resume`, killed; once more: the end is that of the run in one piece."""
    (tmp_path / "text.txt").write_text("".join(LINE.format(a, b, c) for a in WORDS for b in WORDS for c in WORDS))
    output, whole, run = tmp_path / "output", tmp_path / "whole", tmp_path / "run"
    train = ["train", "--data", str(tmp_path / "text.txt"), *SMALL, "--out"]
    assert main([*train, str(whole)]) == 0
    points: list[tuple[list[str], Callable[[Operation], bool]]] = [
        ([*train, str(run)], lambda o: o.kind == "write" and "step-000004" in o.path and "weights" in o.path),
        (["train", "--resume", str(run)], lambda o: o.kind == "rename" and o.to == "step-000004"),
        (["train", "--resume", str(run)], lambda o: o.kind == "rename" and o.path == "step-000002"),
        (["train", "--resume", str(run)], lambda o: o.kind == "fsync" and "step-000008" in o.path),
    ]
    for arguments, when in points:
        assert Child(command(arguments, run, when), output).wait() == -signal.SIGKILL, output.read_text()
    assert Child(command(["train", "--resume", str(run)], run, None), output).wait() == 0, output.read_text()
    assert end(run) == end(whole)
    assert not list(run.glob(".tmp-*"))
