"""One process at a time trains in a run: the second is told who is there, and a lock is never left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minilm.runtime import try_lock
from minilm.training import lock
from minilm.training.checkpoint import load_checkpoint
from minilm.training.lock import LOCK, RunInUse, holder_of, lock_run

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom minilm.training.lock import lock_run\n"
    "with lock_run(Path(sys.argv[1])):\n    print('locked', flush=True)\n    time.sleep(60)\n"
)


def holder(run: Path, env: dict[str, str]) -> subprocess.Popen:
    """Another process that has locked the run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_second_process_is_told_the_number_of_the_first(tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    run = tmp_path / "a" / "run"
    process = holder(run, subprocess_env)
    try:
        for _ in range(3):
            with (
                pytest.raises(RunInUse, match=f"{run} is being trained in by process {process.pid}: wait") as caught,
                lock_run(run),
            ):
                pytest.fail("both have it")
            assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
        with lock_run(tmp_path / "another"):
            pass
    finally:
        process.kill()  # nothing of it runs any more, and the lock is free
        process.communicate()
    assert (run / LOCK).read_text() == f"{process.pid}\n"  # what it wrote is still there, and says nothing
    with lock_run(run):
        assert (run / LOCK).read_text() == f"{os.getpid()}\n"


def test_it_is_given_back_whatever_happens(tmp_path: Path) -> None:
    for error in (KeyboardInterrupt, ValueError, SystemExit):
        with pytest.raises(error), lock_run(tmp_path):
            raise error
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(50):
        with lock_run(tmp_path), pytest.raises(RunInUse, match=f"process {os.getpid()}"), lock_run(tmp_path):
            pytest.fail("twice")
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after == before
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_has_not_written_its_number_yet(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    assert try_lock(descriptor)
    with pytest.raises(RunInUse, match="by process that has just begun"), lock_run(tmp_path):
        pytest.fail("both have it")
    os.close(descriptor)
    with lock_run(tmp_path):
        pass


def test_a_file_that_was_deleted_meanwhile_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the folder may be taken away and made anew: then the lock is on a file that nobody sees."""
    real, tries = try_lock, []

    def slow(descriptor: int) -> bool:
        tries.append(descriptor)
        if len(tries) == 1:
            (tmp_path / LOCK).unlink()
        return real(descriptor)

    monkeypatch.setattr(lock, "try_lock", slow)
    with lock_run(tmp_path):
        monkeypatch.undo()
        with pytest.raises(RunInUse), lock_run(tmp_path):
            pytest.fail("both have it")
    assert len(tries) == 2


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), lock_run(tmp_path):
        pytest.fail("locked")
    assert (tmp_path / "precious").read_text() == "mine"


def test_where_files_cannot_be_locked_nobody_is_locked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, and on network drives without locks."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with lock_run(tmp_path), lock_run(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_a_run_before_its_first_checkpoint_is_not_called_dead(tmp_path: Path) -> None:
    """Who looks into a run that has only begun is told to wait, and not to delete it."""
    with lock_run(tmp_path / "run"):
        assert holder_of(tmp_path / "run") == str(os.getpid())
        with pytest.raises(ValueError, match=f"process {os.getpid()} trains there, wait for its first one"):
            load_checkpoint(tmp_path / "run")
    (tmp_path / "run" / ".lock").touch()  # as a process that was killed leaves it
    assert holder_of(tmp_path / "run") is None and holder_of(tmp_path) is None
    with pytest.raises(ValueError, match="its run ended before the first: delete the folder and train anew"):
        load_checkpoint(tmp_path / "run")
