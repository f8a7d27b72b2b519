"""What everything stands on: options, folders, devices, number types, cores, seeds, limits. torch is imported inside functions."""

import errno
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def minilm_home() -> Path:
    """Where data and checkpoints live: $MINILM_HOME, else the checkout's root if inside one, else the user's cache folder."""
    if os.environ.get("MINILM_HOME"):
        return Path(os.environ["MINILM_HOME"]).expanduser()
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "run.py").is_file() and (checkout / "pyproject.toml").is_file():
        return checkout
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "minilm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minilm"


def option(default: Any, help: str, low: float = -math.inf, high: float = math.inf, choices: tuple = ()) -> Any:
    """A dataclass field with the sentence that `--help` prints and what it may be: low to high, or one of `choices`."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


def check_options(config: Any) -> None:
    """Hold each `option` of a dataclass against what it may be; ValueError for a value that is out of its range."""
    for known in fields(config):
        value, choices = getattr(config, known.name), known.metadata["choices"]
        low, high = known.metadata["low"], known.metadata["high"]
        if choices and value not in choices:
            raise ValueError(f"{known.name} is {value!r}: choose one of {', '.join(choices)}")
        if not choices and value is not None and not low <= value <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ValueError(f"{known.name} is {value}: it must be {bounds}")


def set_seed(seed: int) -> None:
    """Seed torch's global generator: it draws the initial weights and the dropout. Everything else takes a generator."""
    import torch

    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> "torch.device":
    """The device to compute on: a name, or `auto` = CUDA, else MPS (Apple), else the CPU. ValueError if it is not there."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if not present.get(name.split(":")[0], False):
        usable = ", ".join(device for device, here in present.items() if here)
        raise ValueError(f"device {name!r} is not available on this machine: choose one of auto, {usable}")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is not a device: write for example cpu, cuda or cuda:1") from None


def pick_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """The number type of the matrix products: a name, or `auto` = bfloat16 where the hardware multiplies it, else float32."""
    import torch

    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name == "auto":
        name = "bfloat16" if multiplies_bfloat16(device) else "float32"
    if name not in choices:
        raise ValueError(f"dtype {name!r} is unknown: choose one of auto, {', '.join(choices)}")
    return choices[name]


def multiplies_bfloat16(device: "torch.device") -> bool:
    """Whether the device has instructions for bfloat16 products (elsewhere they are emulated, and slow)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def n_cores() -> int:
    """Processors this process may use. Those of torchrun that run on one machine share them."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if place()[1] > 1 else here


def place() -> tuple[int, int]:
    """The number of this process among those that torchrun has started together, and how many these are: (0, 1) without it."""
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    return (int(rank), int(size)) if rank.isdecimal() and size.isdecimal() else (0, 1)


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Inside, a model leaves out what is for training (dropout); afterwards its mode is as before. Counted models have none."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path to write to, beside `path`, whose place it takes when the block ends well: a file appears whole or not at all.

    It is on the disk before it gets its name, and so is the name when this ends: a power cut leaves the old file or the new.
    """
    path = Path(path)
    unfinished = path.with_name(f".tmp-{os.getpid()}-{path.name}")  # what writes pictures looks at the suffix
    try:
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when file or folder has reached the disk. Folders of which a system cannot say so are passed over."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take an open file for this process alone; False if another one has it. The system frees it when its holder ends.

    Where files cannot be locked (Windows, some network drives) the answer is always True.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


@contextmanager
def time_limit(seconds: float, patience: float = 10.0) -> Iterator[None]:
    """Raise TimeoutError in what runs inside once it has computed for longer, or once `patience` times as long has passed.

    The first is processor time of this thread: a busy machine makes nobody late, and nor do other threads. The second is
    time on the clock, for what sleeps or waits. Only the main thread of a POSIX system can be stopped.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    said, latest = f"it takes longer than {seconds:g} s", patience * seconds
    with (
        alarm(signal.ITIMER_REAL, signal.SIGALRM, time.monotonic, latest, f"it waits for longer than {latest:g} s"),
        alarm(signal.ITIMER_PROF, signal.SIGPROF, time.thread_time, seconds, said),
    ):
        yield


@contextmanager
def alarm(timer: int, signal_number: int, clock: Callable[[], float], seconds: float, message: str) -> Iterator[None]:
    """Raise TimeoutError with the message in what runs inside once the clock has gone on by more than `seconds`."""
    started = clock()

    def ring(*_: Any) -> None:
        left = seconds - (clock() - started)
        if left <= 0.001:
            raise TimeoutError(message)
        signal.setitimer(timer, left)  # the timer has counted what the clock does not: other threads

    handler = signal.signal(signal_number, ring)
    outer, _ = signal.setitimer(timer, seconds)  # one that was set before goes on afterwards
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(signal_number, handler)
        if outer:
            signal.setitimer(timer, max(0.001, outer - (clock() - started)))


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next array. Returns whether the system could be told so.

    glibc gives every large array back to the kernel at once, and the next one of the same size is made of fresh, zeroed pages:
    in a training step on the CPU a few thousand of them, 3 to 6 % of its time. musl, macOS and Windows know no such switch.
    """
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, AttributeError, OSError, TypeError):  # TypeError: Windows has no program to look into
        return False
    trim_threshold, mmap_threshold, largest = -1, -3, 32 * 2**20  # glibc refuses a larger threshold
    return bool(mallopt(mmap_threshold, largest)) and bool(mallopt(trim_threshold, 2**30))


def limit_memory(extra_bytes: int) -> None:
    """From here on this process gets at most so many bytes more than it has, where the system can say so (Linux can)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        return
