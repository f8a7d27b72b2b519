"""What every test stands on: one torch thread, fixed seeds, and a home for data and runs outside the checkout."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

try:
    import torch
except ImportError:  # the tests of run.py and of the house need no torch
    torch = None

ROOT = Path(__file__).resolve().parents[1]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as jobs in the background of a script have it
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGTERM", "SIGHUP"):  # nohup ignores the second
    if signal.getsignal(getattr(signal, name, signal.SIGTERM)) is signal.SIG_IGN:
        signal.signal(getattr(signal, name), signal.SIG_DFL)

if torch is not None:
    torch.set_num_threads(1)  # pytest-xdist gives each worker one core


@pytest.fixture(scope="session", autouse=True)
def minilm_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh MINILM_HOME for the session. Corpora that the checkout has already fetched are linked into it, file by
    file: a test that rewrites one replaces its own link and leaves the checkout as it was."""
    home = tmp_path_factory.mktemp("home")
    cached = [path for path in (ROOT / "data").rglob("*") if path.is_file()]
    for path in cached:
        link = home / path.relative_to(ROOT)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINILM_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same global random state, alone or after others. Code under test takes generators."""
    random.seed(0)
    np.random.seed(0)
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture
def subprocess_env(minilm_home: Path) -> dict[str, str]:
    """The environment for a test that starts minilm as a process: one thread, and this session's home."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MINILM_HOME": str(minilm_home)}
