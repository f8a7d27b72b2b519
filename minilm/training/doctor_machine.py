"""What a machine is and offers: versions, number types, memory, and tokens a second."""

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minilm.models.config import gpt2_config
from minilm.models.gpt import GPT
from minilm.runtime import n_cores
from minilm.training.batches import Batches
from minilm.training.budget import step_seconds
from minilm.training.config import TrainConfig
from minilm.training.doctor import CPU, first_line
from minilm.training.doctor_models import READABLE, Variant, Write
from minilm.training.loop import accumulate_gradients

DTYPES = ("float64", "float32", "bfloat16", "float16", "int64", "int32", "uint8", "bool")
TIMED = gpt2_config(vocab_size=1024, context_length=128, d_model=128, n_layers=4, n_heads=4)  # the model that is timed
BATCH = 8  # windows of it in a step
WRITTEN = 48  # tokens that it writes


def versions() -> dict[str, str]:
    """What runs here: minilm's own version is known to the front door."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.platform(),
        "processor": processor(),
        "cores": str(n_cores()),
        "threads": str(torch.get_num_threads()),
    }


def processor() -> str:
    """The processor's name, as well as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def devices() -> list[torch.device]:
    """The CPU, and each kind of GPU that is there."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [CPU, *(torch.device(name) for name, here in present.items() if here)]


def device_name(device: torch.device) -> str:
    """The name of the hardware."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else "Apple GPU"
        if device.type == "mps"
        else processor()
    )


def offered_dtypes(device: torch.device) -> dict[str, str]:
    """number type -> "ok", or why the device cannot add and multiply it (whole numbers and masks: compare)."""
    return {name: offered(getattr(torch, name), device) for name in DTYPES}


def offered(dtype: torch.dtype, device: torch.device) -> str:
    """Whether two small tensors of this type meet on the device: "ok", or the device's words."""
    try:
        x = torch.tensor([[1, 0], [1, 1]]).to(dtype).to(device)
        right = x @ x + x if dtype.is_floating_point else x == x
        fine = right.cpu().tolist() == ([[2, 0], [3, 2]] if dtype.is_floating_point else [[True, True], [True, True]])
    except (RuntimeError, TypeError) as error:
        return f"not offered: {first_line(error)}"
    return "ok" if fine else "WRONG"


# ---- memory


def memory(device: torch.device) -> dict[str, float | None]:
    """ "total" and "free" in bytes; None where the system does not say."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return {"total": float(total), "free": float(free)}
    if device.type == "mps":
        most = float(torch.mps.recommended_max_memory())
        return {"total": most, "free": most - float(torch.mps.driver_allocated_memory())}
    said = [line_of("/proc/meminfo", "MemAvailable"), left_to_container()]
    return {"total": said_by_system("SC_PHYS_PAGES"), "free": min((x for x in said if x is not None), default=None)}


def left_to_container(folder: str = "/sys/fs/cgroup") -> float | None:
    """What a container with a limit may still take, in bytes; None without a limit."""
    try:
        most, used = (Path(folder, f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        return max(0.0, float(int(most) - int(used)))
    except (OSError, ValueError):  # no limit is written as the word max
        return None


def said_by_system(pages: str) -> float | None:
    """A number of pages, as bytes."""
    try:
        return float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def line_of(path: str, name: str) -> float | None:
    """The bytes that stand behind `name:` in a file of Linux, in kB there."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def give_back() -> None:
    """Memory that was freed goes back to the system, where that can be asked for (glibc): the process may else use it again
    unseen, and what is counted would be too little."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """How much more memory than before was held at once inside, in bytes, to be asked afterwards; None: nobody counts it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: float(torch.cuda.max_memory_allocated(device) - before)
        return
    give_back()
    here = line_of("/proc/self/status", "VmRSS") if device.type == "cpu" else None
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    except OSError:
        here = None

    def peak() -> float | None:
        most = line_of("/proc/self/status", "VmHWM")
        return None if here is None or most is None else max(0.0, most - here)

    yield peak


# ---- speed


def speeds(device: torch.device, variant: Variant = READABLE, write: Write | None = None) -> dict[str, Any]:
    """Tokens a second of training and of writing by a model of 0.9 million weights, and what memory a step takes.

    In float32, with as many threads as there are now; a median of few steps, so good to about 10 %.
    """
    with torch.random.fork_rng(devices=[]):
        model = variant.finish(GPT(TIMED, **variant.parts).to(device))
    generator = np.random.default_rng(0)
    batches = Batches(generator.integers(0, TIMED.vocab_size, 4096), BATCH, TIMED.context_length)
    config = TrainConfig(dtype="float32", warmup=0, steps=1, batch_size=BATCH)
    with peak_memory(device) as peak:
        accumulate_gradients(model, [next(batches)], variant.loss, device)
    seconds = step_seconds(model, batches, config, variant.loss, n_steps=3)
    found: dict[str, Any] = {
        "training tokens a second": BATCH * TIMED.context_length / seconds,
        "memory of a step": peak(),
    }
    if write is not None:
        model.eval()
        write(model, [1, 2, 3], 4)
        started = time.perf_counter()
        write(model, [1, 2, 3], WRITTEN)
        found["written tokens a second"] = WRITTEN / (time.perf_counter() - started)
    return found
