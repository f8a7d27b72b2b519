"""One process at a time trains in a run: two would cut each other's log and delete each other's checkpoints.

The lock is the system's, on the file `.lock`, and ends with its holder, however that dies: no lock is ever left behind, only
the file, by a process that was killed. What it says is only for people, the holder's process number. Where files cannot be
locked (Windows, some network drives) there is no such protection.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minilm.runtime import try_lock
from minilm.training.storage import make_directory

LOCK = ".lock"


class RunInUse(ValueError):
    """Another process, or another part of this one, trains in this folder."""


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Inside, the folder `run` is ours alone; it is created if need be. RunInUse, with the holder's number, if it is taken."""
    make_directory(run)
    file = run / LOCK
    descriptor = _locked(file)
    try:
        os.ftruncate(descriptor, 0)  # what a killed process has left
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows deletes no open file; and what ends the run is told, not this
            if _is_open(file, descriptor):
                file.unlink()
        with contextlib.suppress(OSError):
            os.close(descriptor)


def holder_of(run: Path) -> str | None:
    """The number of the process that trains in this folder now, if there is one. Nothing is created."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        return None if try_lock(descriptor) else _name(descriptor)
    finally:
        os.close(descriptor)


def _name(descriptor: int) -> str:
    return os.read(descriptor, 20).decode(errors="replace").strip() or "that has just begun"


def _locked(file: Path) -> int:
    """The open and locked file of this name."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if not try_lock(descriptor):
            holder = _name(descriptor)
            os.close(descriptor)
            raise RunInUse(
                f"{file.parent} is being trained in by process {holder}: wait for its end, or name another folder"
            )
        if _is_open(file, descriptor):
            return descriptor
        os.close(descriptor)  # it was deleted in between, with its folder: a lock on that file would lock nobody out


def _is_open(file: Path, descriptor: int) -> bool:
    """Whether the open file is the one that now has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
