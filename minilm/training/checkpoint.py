"""What is saved of a model and of its training, so that either goes on exactly where it stood. Never a pickle.

A run directory holds one directory a checkpoint:
    step-000123/config.json             the model's kind and config
                weights.safetensors     the model's arrays
                tokenizer.json          the tokenizer
                state.json              step, validation score, the caller's state
                training.safetensors    the optimizer's memory and the random numbers (with an optimizer only)
                MANIFEST.json           sizes and SHA-256 of the others
`storage.py` sees to it that each of these is there as a whole, or not at all. What is damaged is never passed over for
something older: it is an error, which names the newest checkpoint that is whole.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilm.text.tokenizer import Tokenizer, tokenizer_from_dict
from minilm.training.batches import Batches
from minilm.training.lock import LOCK, holder_of
from minilm.training.optim import Optimizer
from minilm.training.run_log import LOG
from minilm.training.storage import (
    MANIFEST,
    Damaged,
    newest_first,
    read_json,
    remove_directory,
    remove_leftovers,
    step_of,
    to_json,
    verify_directory,
    write_directory,
)
from minilm.training.weights import MISFITS, model_of, read_safetensors, to_safetensors

ALWAYS = ("config.json", "weights.safetensors", "tokenizer.json", "state.json")
TRAINING = "training.safetensors"
RANDOM = "random/"  # the prefix of random states among the optimizer's arrays


@dataclass(frozen=True)
class Checkpoint:
    """A model as it stood after `step` updates, with its tokenizer and with the dict `state` that the caller saved."""

    model: Any
    tokenizer: Tokenizer
    state: dict[str, Any]
    path: Path
    step: int
    validation: float | None

    def resume(self, optimizer: Optimizer, batches: Batches | None = None) -> None:
        """Set optimizer, batches and torch's random numbers to where they stood, so that training goes on bit for bit.

        The optimizer must hold the parameters of `self.model`.
        """
        file = self.path / TRAINING
        if not file.is_file():
            raise ValueError(f"{self.path} was saved without its optimizer: it can be used, but not trained further")
        arrays = read_safetensors(file)
        try:
            restore_random_state({name: arrays.pop(name) for name in list(arrays) if name.startswith(RANDOM)})
            optimizer.load_state_arrays(arrays)
            file = self.path / "state.json"
            if batches is not None:
                batches.restore(read_json(file, batches=dict)["batches"])
        except MISFITS as error:
            raise ValueError(f"{file} does not fit this training: {error}") from None


def random_state() -> dict[str, Tensor]:
    """The states of torch's global generators, on the CPU and on each GPU that is here."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = {"cpu": torch.get_rng_state(), **{f"cuda{i}": state for i, state in enumerate(gpus)}}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return {f"{RANDOM}{name}": state for name, state in states.items()}


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Go back to `random_state()`; GPUs that are not there are passed over."""
    torch.set_rng_state(states[f"{RANDOM}cpu"])
    for i in range(torch.cuda.device_count()):
        if f"{RANDOM}cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"{RANDOM}cuda{i}"], i)
    if f"{RANDOM}mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states[f"{RANDOM}mps"])


def save_checkpoint(
    directory: str | Path,
    model: Any,
    tokenizer: Tokenizer,
    *,
    step: int = 0,
    validation: float | None = None,
    optimizer: Optimizer | None = None,
    batches: Batches | None = None,
    state: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> Path:
    """Write `directory`/step-<step> and return its path. Then all but the last `keep` and the best are deleted.

    `validation` is the score that makes one the best; lower is better (say, bits per byte). `state` is the caller's
    own, anything that JSON can hold. Of the model only `kind`, `config` and `arrays()` are asked.
    """
    arrays = model.arrays()
    from_numpy = sorted(name for name, array in arrays.items() if isinstance(array, np.ndarray))
    progress = {
        "step": step,
        "validation": validation,
        "batches": None if batches is None else batches.state(),
        "state": dict(state or {}),
    }
    files = {
        "config.json": to_json({"kind": model.kind, "config": dataclasses.asdict(model.config), "numpy": from_numpy}),
        "weights.safetensors": to_safetensors(arrays),
        "tokenizer.json": to_json(tokenizer.to_dict()),
        "state.json": to_json(progress),
    }
    if optimizer is not None:
        files[TRAINING] = to_safetensors({**optimizer.state_arrays(), **random_state()})
    run = Path(directory)
    remove_leftovers(run)
    path = run / f"step-{step:06d}"
    write_directory(path, files)
    _prune(run, keep)
    return path


def _prune(run: Path, keep: int) -> None:
    """Delete all checkpoints but the last `keep`, the best, and what is damaged: whoever loads that is to be told."""
    steps = newest_first(run)
    kept, scores = steps[:keep], {}
    for path in steps:
        try:
            scores[path] = score(path)
        except ValueError:
            kept.append(path)
    if scores:
        kept.append(min(scores, key=scores.__getitem__))
    for path in steps:
        if path not in kept:
            remove_directory(path)


def load_checkpoint(directory: str | Path, prefer: str = "best", **parts: Any) -> Checkpoint:
    """The checkpoint in a step directory, or of a run directory the one with the best validation score, else the last.

    With prefer="last", always the last: the one from which training goes on. Every file is checked against the manifest
    first: a missing, damaged or foreign one is a ValueError that names it. A checkpoint holds no code: a model that was
    built with parts of its own (attention=, block=, ...) gets them here again.
    """
    path = Path(directory)
    run_of(path)
    try:
        if steps := newest_first(path):
            path = best(path) if prefer == "best" else steps[0]
        described, progress = check_checkpoint(path)
        model = model_of(path, described, parts)
        tokenizer = _read_tokenizer(path / "tokenizer.json")
    except Damaged as damage:
        raise Damaged(damage.file, damage.problem, _way_on(damage.file.parent, prefer)) from None
    return Checkpoint(model, tokenizer, progress["state"], path, progress["step"], progress["validation"])


def run_of(directory: str | Path) -> Path:
    """The run that a folder is, or that it is a checkpoint of; ValueError if it is neither."""
    path = Path(directory)
    if not path.is_dir():
        raise ValueError(f"{path} is no folder: name the folder of a run or of one of its checkpoints")
    if newest_first(path):
        return path
    if (path / MANIFEST).exists() or step_of(path) is not None:
        return path.resolve().parent
    if holder := holder_of(path):
        raise ValueError(f"{path} has no checkpoint yet: process {holder} trains there, wait for its first one")
    if (path / LOG).exists() or (path / LOCK).exists():
        raise ValueError(
            f"{path} has no checkpoint yet, for its run ended before the first: delete the folder and train anew"
        )
    raise ValueError(
        f"{path} is no checkpoint and no run that has saved one: it has no {MANIFEST}; name another folder"
    )


def check_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json and state.json say, if the directory holds what was saved there; else Damaged. No model is built."""
    listed = verify_directory(path)
    for name in ALWAYS:
        if name not in listed:
            raise Damaged(path / MANIFEST, f"does not list {name}")
    if TRAINING not in listed and (path / TRAINING).exists():
        raise Damaged(path / TRAINING, "was not saved with the rest")
    described = read_json(path / "config.json", kind=str, config=dict, numpy=list)
    return described, _progress(path)


def _progress(path: Path) -> dict[str, Any]:
    """What state.json says: it must be of the step that the directory is named after."""
    progress = read_json(path / "state.json", step=int, validation=(float, int, NoneType), state=dict)
    if progress["step"] < 0 or step_of(path) not in (None, progress["step"]):
        raise Damaged(path / "state.json", f"is that of step {str(progress['step'])[:20]}, not of step {step_of(path)}")
    return progress


def _read_tokenizer(file: Path) -> Tokenizer:
    try:
        return tokenizer_from_dict(read_json(file))
    except MISFITS as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(file, f"holds no tokenizer ({error})") from None


def newest_whole(run: Path) -> Path | None:
    """The latest checkpoint of a run that is what was saved; None if there is none."""
    for path in newest_first(run):
        try:
            check_checkpoint(path)
        except (OSError, ValueError):
            continue
        return path
    return None


def _way_on(damaged: Path, prefer: str) -> str:
    """What to do about a damaged checkpoint: the newest whole one of the same run is named, with what goes on from it."""
    if step_of(damaged) is None:
        return "use another checkpoint"
    if (whole := newest_whole(damaged.parent)) is None:
        return f"no checkpoint in {damaged.parent} is whole, so train again in a new folder"
    return f"go on with the newest whole one, {'--resume ' if prefer == 'last' else ''}{whole}"


def best(run: Path) -> Path:
    """The checkpoint of a run with the lowest validation score; among equals, and without scores, the last."""
    return min(newest_first(run), key=score)


def score(path: Path) -> float:
    """The validation score of a checkpoint, infinite without one; Damaged if it may be another than was saved."""
    verify_directory(path, only="state.json")
    value = _progress(path)["validation"]
    return float("inf") if value is None else value
