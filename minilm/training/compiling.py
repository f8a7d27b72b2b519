"""torch.compile, tried before it is trusted: in a process of its own, with a time limit, so that nothing can hang or crash.

It needs a C++ compiler on a CPU and Triton on CUDA, and knows neither every system nor every Python. Where one of these is
missing it fails at the first step of a run, with pages of its own words; here that is one sentence, and the run goes on
without it. And it costs about a minute before the first step: a short run never earns that back.

    config = with_compile(config, device, say=print)       # before `train`
"""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minilm.training.config import TrainConfig

PATIENCE = 120.0  # seconds for compiling a function of three lines
LEAST_MINUTES = 5.0  # of a run, from which on a minute of compiling can be earned back


@dataclass(frozen=True)
class Tried:
    """What came of it: `why` is empty where it works, `seconds` what the first call took."""

    why: str
    seconds: float


def command(device: str) -> list[str]:
    """What is started: this file, in the Python that runs now."""
    return [sys.executable, "-m", "minilm.training.compiling", device]


def try_compile(device: str, patience: float = PATIENCE, command: Callable[[str], Sequence[str]] = command) -> Tried:
    """Compile a small function with its gradient on the device, in another process, and compare it with itself uncompiled."""
    started = time.monotonic()
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    no_children = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # they would stay
    environment = {**os.environ, "PYTHONPATH": paths, **no_children}
    try:
        done = subprocess.run(
            command(device), env=environment, capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return Tried(f"it was not done after {patience:g} s", patience)
    except OSError as error:
        return Tried(f"no process could be started: {error}", 0.0)
    try:
        return Tried(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        said = (done.stderr.strip() or "without a word").splitlines()[-1]
        return Tried(f"the process ended with code {done.returncode}: {said}", time.monotonic() - started)


def compile_and_compare(device: str) -> Tried:
    """In the process of its own: what `try_compile` reports."""
    import torch

    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ w).square().mean(-1).sum()

    x, w = torch.randn(33, 17), torch.randn(17, 9)
    started, results = time.monotonic(), []
    try:
        for f in (function, torch.compile(function)):
            weight = w.to(device).requires_grad_()
            value = f(x.to(device), weight)
            results.append((value.detach(), *torch.autograd.grad(value, weight)))
    except Exception as error:  # whatever it is, it is the answer
        return Tried(reason(error), time.monotonic() - started)
    same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*results, strict=True))
    return Tried("" if same else "what is compiled gives other numbers", time.monotonic() - started)


def reason(error: BaseException) -> str:
    """The first line of the error that began it: torch wraps it in its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def with_compile(
    config: TrainConfig, device: str, say: Callable[[str], None], attempt: Callable[[str], Tried] = try_compile
) -> TrainConfig:
    """The config; without `compile` where that cannot work or cannot pay, which `say` is told in one line."""
    if not config.compile:
        return config
    if config.minutes is not None and config.minutes < LEAST_MINUTES:
        why = f"a run of less than {LEAST_MINUTES:g} minutes ends before that has paid"
    else:
        why = attempt(device).why
    if not why:
        fall_back_quietly()
        return config
    say(f"--compile: {why}; training goes on without it")
    return dataclasses.replace(config, compile=False)


def fall_back_quietly() -> None:
    """What torch.compile cannot take of a model runs as it is written, and of that no pages are printed."""
    import torch

    torch._dynamo.config.suppress_errors = True
    torch._logging.set_logs(dynamo=logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"torch\._dynamo")


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(compile_and_compare(sys.argv[1]))))
