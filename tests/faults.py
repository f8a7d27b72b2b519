"""Faults on order, for tests of whatever writes files: an operation fails, is cut short, or is the last; a file is damaged at rest.

    with watched(folder) as log:                              # every file operation of the block, in order
    with watched(folder, strike(7, refuse(errno.EIO))):       # number 7 (from 0) fails
    with watched(folder, strike(is_rename, die)):             # kill -9 at a named point
    with watched(folder, full_after(8192)):                   # a disk that is full after 8 KiB
    code = Child(task).kill_after(0.2)                        # kill -9 at an instant, in a fork of this warm process
    with flipped(file, bit): ...                              # one bit of a file is the other one
    for length in truncations(file): ...                      # the file is cut off there

`watched` is in file_watch.py; what a crash may leave of a folder is the affair of crashing_disk.py, which stands on its log.
"""

import errno
import faulthandler
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from file_watch import Before, Operation

# ---- what can happen to an operation: to be given to `watched`


def strike(
    when: int | Callable[[Operation], bool], act: Callable[[Operation], Any], ever_after: bool = False
) -> Before:
    """`act` in the place of the operation with this number (from 0), or of the first that fits; or from there on."""
    numbers, struck = count(), False

    def before(operation: Operation) -> None:
        nonlocal struck
        number = next(numbers)
        if struck:
            if ever_after:
                act(operation)
        elif number == when if isinstance(when, int) else when(operation):
            struck = True
            act(operation)

    return before


def refuse(code: int) -> Callable[[Operation], None]:
    """The operation fails: refuse(errno.EIO). As from the system, only what was asked by name names the file."""

    def act(operation: Operation) -> None:
        named = operation.kind not in ("write", "fsync", "close")
        raise OSError(code, os.strerror(code), operation.path if named else None)

    return act


def die(operation: Operation) -> None:
    """kill -9: nothing after it runs, no `finally` and no handler."""
    os.kill(os.getpid(), signal.SIGKILL)


def full_after(capacity: int) -> Before:
    """A disk with so many free bytes: a write that no longer fits is cut short, as the system does it, the next one fails."""
    free = capacity

    def before(operation: Operation) -> int | None:
        nonlocal free
        if operation.kind != "write":
            return None
        if operation.data and not free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = min(free, len(operation.data))
        free -= written
        return written

    return before


# ---- processes that can be killed


class Child:
    """A fork of this process, warm as it is, that calls `task` and ends with what it returns (None: 0), or after an error with 1.

    What it prints goes into the file `output`. torch must have one thread, here and in the child: others are not copied.
    """

    def __init__(self, task: Callable[[], int | None], output: str | Path = os.devnull) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, which counts the threads of pytest
            self.output, self.pid = Path(output), os.fork()
        if self.pid == 0:
            code = 1
            try:  # whatever happens, the child does not come back into the tests
                with Path(output).open("w", encoding="utf-8") as printed:
                    sys.stdout = sys.stderr = printed
                    faulthandler.enable(printed)
                    try:
                        code = task() or 0
                    except BaseException:
                        traceback.print_exc()
            finally:
                os._exit(code)

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code, or minus the number of the signal that killed it. One that hangs is killed: TimeoutError."""
        latest = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > latest:
                os.kill(self.pid, signal.SIGABRT)  # it says where it is, and ends
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"the child was still busy after {seconds:g} s: {self.output.read_text()}")
            time.sleep(0.0005)

    def kill_after(self, seconds: float) -> int:
        """kill -9 after so many seconds, wherever it is. Its exit code: -9, or that of a child which was done before."""
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


# ---- damage to a file at rest


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """Inside, this bit of the file (of byte bit // 8, counted from the lowest) is the other one."""
    with open(path, "r+b", buffering=0) as file:

        def put(byte: int) -> None:
            file.seek(bit // 8)
            file.write(bytes([byte]))

        file.seek(bit // 8)
        good = file.read(1)[0]
        put(good ^ (1 << bit % 8))
        try:
            yield
        finally:
            put(good)


def truncations(path: Path, every: int = 257, all_below: int = 4096) -> Iterator[int]:
    """Cut the file to each length from 0 to all_below, beyond to each `every`-th, the longest first; at the end it is whole."""
    good = path.read_bytes()
    lengths = {*range(min(len(good), all_below + 1)), *range(all_below, len(good), every)}
    try:
        for length in sorted(lengths, reverse=True):
            os.truncate(path, length)
            yield length
    finally:
        path.write_bytes(good)
