"""What is saved of a model and of its training, so that either goes on exactly where it stood. Never a pickle.

A run directory holds one directory a checkpoint:
    step-000123/config.json             the model's kind and config
                weights.safetensors     the model's arrays
                tokenizer.json          the tokenizer
                state.json              step, validation score, the caller's state
                training.safetensors    the optimizer's memory and the random numbers (with an optimizer only)
                MANIFEST.json           sizes and SHA-256 of the others
`storage.py` sees to it that each of these is there as a whole, or not at all.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from minilm.models.registry import build_model
from minilm.text.tokenizer import Tokenizer, tokenizer_from_dict
from minilm.training.batches import Batches
from minilm.training.optim import Optimizer
from minilm.training.storage import (
    newest_first,
    remove_directory,
    remove_leftovers,
    to_json,
    verify_directory,
    write_directory,
)

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
        file = self.path / "training.safetensors"
        if not file.is_file():
            raise ValueError(f"{self.path} was saved without its optimizer: it can be used, but not trained further")
        arrays = safetensors.torch.load_file(file)
        restore_random_state({name: arrays.pop(name) for name in list(arrays) if name.startswith(RANDOM)})
        optimizer.load_state_arrays(arrays)
        if batches is not None:
            batches.restore(_read_json(self.path / "state.json")["batches"])


def random_state() -> dict[str, Tensor]:
    """The states of torch's global generators, on the CPU and on each GPU."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {f"{RANDOM}cpu": torch.get_rng_state(), **{f"{RANDOM}cuda{i}": state for i, state in enumerate(gpus)}}


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Go back to `random_state()`; GPUs that are not there are passed over."""
    torch.set_rng_state(states[f"{RANDOM}cpu"])
    for i in range(torch.cuda.device_count()):
        if f"{RANDOM}cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"{RANDOM}cuda{i}"], i)


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
        "weights.safetensors": _to_safetensors(arrays),
        "tokenizer.json": to_json(tokenizer.to_dict()),
        "state.json": to_json(progress),
    }
    if optimizer is not None:
        files["training.safetensors"] = _to_safetensors({**optimizer.state_arrays(), **random_state()})
    run = Path(directory)
    remove_leftovers(run)
    path = run / f"step-{step:06d}"
    write_directory(path, files)
    kept = [*newest_first(run)[:keep], best(run)]
    for old in newest_first(run):
        if old not in kept:
            remove_directory(old)
    return path


def load_checkpoint(directory: str | Path, prefer: str = "best", **parts: Any) -> Checkpoint:
    """The checkpoint in a step directory, or of a run directory the one with the best validation score, else the last.

    With prefer="last", always the last: the one from which training goes on. Every file is checked against the manifest
    first: a missing, damaged or foreign one is a ValueError that names it. A checkpoint holds no code: a model that was
    built with parts of its own (attention=, block=, ...) gets them here again.
    """
    path = Path(directory)
    if not path.is_dir():
        raise ValueError(f"{path} is no folder: name the folder of a run or of one of its checkpoints")
    steps = newest_first(path)
    if steps:
        path = best(path) if prefer == "best" else steps[0]
    verify_directory(path)
    described, progress = _read_json(path / "config.json"), _read_json(path / "state.json")
    arrays: dict[str, Any] = safetensors.torch.load_file(path / "weights.safetensors")
    for name in described["numpy"]:
        arrays[name] = arrays[name].numpy()
    return Checkpoint(
        model=build_model(described["kind"], described["config"], arrays, **parts),
        tokenizer=tokenizer_from_dict(_read_json(path / "tokenizer.json")),
        state=progress["state"],
        path=path,
        step=progress["step"],
        validation=progress["validation"],
    )


def best(run: Path) -> Path:
    """The checkpoint of a run with the lowest validation score; among equals, and without scores, the last."""

    def score(path: Path) -> float:
        try:
            value = _read_json(path / "state.json")["validation"]
        except (OSError, ValueError, KeyError, TypeError):  # a damaged one: whoever loads it is told
            value = None
        return float("inf") if value is None else value

    return min(newest_first(run), key=score)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _to_safetensors(arrays: Mapping[str, Tensor | np.ndarray]) -> bytes:
    """Arrays by name as one safetensors file."""
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array.copy()) if isinstance(array, np.ndarray) else array.detach().cpu()
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        tensors[name] = tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
    return safetensors.torch.save(tensors)
