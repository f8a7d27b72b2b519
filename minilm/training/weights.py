"""Arrays in a safetensors file, and the model that is built for them: it gets no more memory than the file can fill.

A config is a few bytes of text, and 10^9 layers are written as quickly as 4. So before a model is built from a file its
config is looked through, and while it is built the arrays that it makes are counted.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minilm.models.registry import build_model
from minilm.training.storage import Damaged

LARGEST = 2**20  # a number in a config up to which no file has to answer for it: a context length may have no array
SPARE = 2**20  # numbers that a model may make beyond twice those of its file: small tables, and a head that it gives up
MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # of what was read


def to_safetensors(arrays: Mapping[str, Tensor | np.ndarray]) -> bytes:
    """Arrays by name as one safetensors file."""
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array.copy()) if isinstance(array, np.ndarray) else array.detach().cpu()
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        tensors[name] = tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
    return safetensors.torch.save(tensors)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name; Damaged if it is none."""
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise Damaged(path, f"is no safetensors file ({error})") from None


def model_of(path: Path, described: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
    """The model of a checkpoint's directory. `described` holds its kind, its config, and which arrays are numpy's.

    ValueError if the weights are not those of that config: a name, a shape or a type is wrong, missing or too much.
    """
    file, config = path / "weights.safetensors", described["config"]
    arrays: dict[str, Any] = read_safetensors(file)
    try:
        check_sizes(config, file.stat().st_size)
        for name in described["numpy"]:
            arrays[name] = arrays[name].numpy()
        with no_larger_than(arrays):
            model = build_model(described["kind"], config, arrays, **parts)
        for name, array in model.arrays().items():
            if _is_whole(array) != _is_whole(arrays[name]):
                raise ValueError(f"{name} is of type {arrays[name].dtype}, the model needs {array.dtype}")
    except MISFITS as error:
        reason = str(error).partition("\n")[0]  # torch tells long stories
        adapter = isinstance(error, ValueError) and "base" in config
        unknown_part = bool(parts) and isinstance(error, TypeError)
        full = isinstance(error, RuntimeError) and "memory" in reason
        if adapter or unknown_part or full:  # they say themselves what to do, or their callers know
            raise
        raise ValueError(
            f"{path}: config.json and weights.safetensors do not go together ({reason}): use another checkpoint"
        ) from None
    return model


def _is_whole(array: Tensor | np.ndarray) -> bool:
    """Whether an array holds whole numbers, or yes and no. Fractions of one precision may be read into another."""
    return array.dtype.kind in "iub" if isinstance(array, np.ndarray) else not array.is_floating_point()


def check_sizes(config: Any, n_bytes: int) -> None:
    """ValueError for a number anywhere in a config that weights of so many bytes cannot go with."""
    for name, value in config.items() if isinstance(config, Mapping) else enumerate(config):
        if type(value) is int and abs(value) > max(LARGEST, n_bytes):
            raise ValueError(f"{name} is {value}, which {n_bytes:,} bytes of weights cannot go with")
        if isinstance(value, Mapping | list) and name != "base_config":  # the base has weights of its own
            check_sizes(value, n_bytes)


class _Count(TorchFunctionMode):
    """Counts the numbers of the arrays that torch is asked to make, before it makes them."""

    makers = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})
    running: ClassVar[list["_Count"]] = []  # the last one counts: an adapter's base is built inside, with its own count

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.makers and self.running[-1] is self:
            shape = kwargs.get("size") or (args[0] if args and not isinstance(args[0], int) else args)
            self.left -= math.prod(shape)
            if self.left < 0:
                raise ValueError("a model with this config is larger than its weights")
        return func(*args, **kwargs)


@contextmanager
def no_larger_than(arrays: Mapping[str, Any]) -> Iterator[None]:
    """Inside, a model may be built for these arrays: ValueError before it has asked for far more numbers than they have."""
    count = _Count(2 * sum(math.prod(array.shape) for array in arrays.values()) + SPARE)
    _Count.running.append(count)
    try:
        with count:
            yield
    finally:
        _Count.running.pop()
