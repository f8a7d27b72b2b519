"""What grows a little at each checkpoint has grown much after a thousand: memory, open files, folders, half-written files.

And a run that is killed again and again, at random moments, is in the end the run that nobody killed. TEST_PLAN 4.8.
"""

import gc
import itertools
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from striking import WORDS, run

from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.muon import build_optimizer
from minilm.training.storage import newest_first, verify_directory

Note = Callable[[str, object], None]


def resident_bytes() -> int:
    """Memory of this process that lies in RAM; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def entries(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def slope(values: list[int]) -> float:
    """The least squares line through values at 0, 1, 2, ...: how much it rises a place."""
    places = np.arange(len(values)) - (len(values) - 1) / 2
    return float(places @ np.array(values) / (places @ places))


@pytest.mark.parametrize("saves", [60, pytest.param(1000, marks=pytest.mark.nightly)])
def test_memory_and_open_files_stay_flat(saves: int, tmp_path: Path, record_property: Note) -> None:
    """Save, and every fifth time load and resume, a checkpoint of 2 MB. One that were kept each time would be 2 MB a save."""
    model = GPT(GPTConfig(257, context_length=16, d_model=128, n_layers=1, n_heads=4))
    optimizer, batches = build_optimizer(model, TrainConfig()), Batches(np.arange(500) % 257, 2, 16)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    memory, files, folders = [], set[int](), set[tuple[str, ...]]()
    for step in range(1, saves + 1):
        score = 1.0 if step == 3 else 2.0
        path = save_checkpoint(
            tmp_path, model, ByteTokenizer(), step=step, validation=score, optimizer=optimizer, batches=batches
        )
        if step % 5 == 0:
            resumed = load_checkpoint(tmp_path, prefer="last")
            resumed.resume(build_optimizer(resumed.model, TrainConfig()), batches)
            del resumed
        if step > 10:  # the allocator has found its size
            files.add(open_files())
            folders.add(tuple(entries(tmp_path)))
            if step % 5 == 0:
                gc.collect()
                memory.append(resident_bytes())
    size = sum(file.stat().st_size for file in path.iterdir())
    assert size > 2_000_000
    assert slope(memory) / 5 < size / 100, f"{slope(memory) / 5:.0f} bytes a save"
    assert len(files) == 1
    assert folders == {("step-000003", f"step-{n - 1:06d}", f"step-{n:06d}") for n in range(11, saves + 1)}
    record_property("bytes a save", slope(memory) / 5)


TRAIN = (
    "--tokenizer byte --model gpt --d-model 12 --n-layers 1 --n-heads 3 --context-length 8 --dropout 0.2 "
    "--batch-size 2 --accumulation 2 --eval-every 7 --warmup 5 --save-every 1 --threads 1 --json"
)


@pytest.mark.parametrize("steps", [6, pytest.param(200, marks=pytest.mark.nightly)])
def test_trained_killed_resumed_and_asked(steps: int, tmp_path: Path, minilm_home: Path, record_property: Note) -> None:
    """A process does a few steps and is killed; what it left writes a text; the next one goes on; and so to the end."""
    rng = random.Random(6)
    (tmp_path / "text.txt").write_text("\n".join(" ".join(rng.choices(WORDS, k=9)) for _ in range(60)) + "\n")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    new = ["train", "--data", str(tmp_path / "text.txt"), *TRAIN.split(), "--steps", str(steps), "--out"]
    done = run([*new, str(whole)], count=True)
    assert done.code == 0, done
    begins, ends, _ = done.events
    a_step = (ends - begins) // steps
    assert run([*new, str(parts)], {"event": begins + 3 * a_step, "signals": [signal.SIGKILL]}).code == -signal.SIGKILL
    texts = set[str]()
    for cycle in itertools.count(1):
        done = run(["generate", str(parts), "--prompt", "the", "--max-new-tokens", "5", "--seed", "1", "--json"])
        assert (done.code, done.stderr) == (0, ""), done
        texts.add(done.stdout)
        moment = begins // 2 + rng.randrange(4 * a_step)
        done = run(["train", "--resume", str(parts), "--json"], {"event": moment, "signals": [signal.SIGKILL]})
        verify_directory(newest_first(parts)[0])
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        assert cycle < 50 * steps
    last = f"step-{steps:06d}"
    for file in ("log.jsonl", f"{last}/weights.safetensors", f"{last}/training.safetensors"):
        assert (parts / file).read_bytes() == (whole / file).read_bytes(), file
    assert entries(parts) == entries(whole)
    assert json.loads((parts / last / "state.json").read_text())["step"] == steps
    record_property("cycles", cycle)
