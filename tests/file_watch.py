"""Watching files: every operation in a folder, in order, as it is asked of the system; and a place to step in before each.

It sees what Python does in this process: open, os.*, pathlib, shutil. What C or Rust writes goes unseen; the disk of
crashing_disk.py notices that, because its own end is then not that of the real folder.
"""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CALLS = (
    "open",
    "write",
    "fsync",
    "close",
    "truncate",
    "ftruncate",
    "mkdir",
    "rmdir",
    "unlink",
    "remove",
    "rename",
    "replace",
)


@dataclass(frozen=True)
class Operation:
    """One of create, write, truncate, fsync, close, rename, unlink, mkdir, rmdir. The watched folder itself is "."."""

    kind: str
    path: str
    to: str = ""  # the new name, of a rename
    at: int = 0  # where a write begins; the length after a truncate
    data: bytes = b""


# Called before each operation. What it raises is raised in the operation's place; what it returns is how many bytes of
# a write are written (None: all).
Before = Callable[[Operation], int | None]


class Watch:
    """The calls that change a folder, each of which asks `before` and enters itself into the log when it is done."""

    def __init__(self, folder: Path, before: Before) -> None:
        self.folder, self.before = os.path.abspath(folder), before
        self.log: list[Operation] = []
        self.files: dict[int, str] = {}  # open descriptors, and where in the folder they lead
        self.readers: set[int] = set()  # those that only read: nothing is lost when they are closed
        self.system: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}
        self.system_open = io.open

    def place(self, path: Any, dir_fd: int | None = None) -> str | None:
        """A path, seen from the folder; None if it lies outside."""
        if isinstance(path, int):
            return self.files.get(path)
        if dir_fd is not None:
            if dir_fd not in self.files:
                return None
            path = os.path.join(self.folder, self.files[dir_fd], os.fsdecode(path))
        whole = os.path.abspath(os.fsdecode(path))
        if whole == self.folder:
            return "."
        return whole[len(self.folder) + 1 :] if whole.startswith(self.folder + os.sep) else None

    def perform(self, operation: Operation, call: Callable[[], Any]) -> Any:
        self.before(operation)
        result = call()
        self.log.append(operation)
        return result

    def begin(self, place: str, creates: bool, empties: bool, call: Callable[[], Any]) -> Any:
        """Open a file: one that is not there is created, one that is begun anew is emptied."""
        there = os.path.exists(os.path.join(self.folder, place))
        if creates and not there:
            return self.perform(Operation("create", place), call)
        if empties and there:
            return self.perform(Operation("truncate", place), call)
        return call()

    def put(self, place: str, at: int, data: Any, call: Callable[[bytes], int]) -> int:
        """Write, as much as `before` lets through."""
        data = bytes(data)
        data = data[: self.before(Operation("write", place, at=at, data=data))]
        written = call(data)
        self.log.append(Operation("write", place, at=at, data=data[:written]))
        return written

    def end(self, descriptor: int, call: Callable[[], Any]) -> None:
        """Close. A close that fails has closed the file all the same."""
        operation = Operation("close", self.files.pop(descriptor))
        if descriptor in self.readers:
            self.readers.remove(descriptor)
            return call()
        try:
            self.before(operation)
        finally:
            call()
        return self.log.append(operation)

    # ---- in the place of io.open and of the calls of os

    def open_file(
        self, file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        place = self.place(file)
        if place is None or not set(mode) & set("wax+"):
            return self.system_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = WatchedFile(self, place, file, mode.replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self.place(path, dir_fd)

        def call() -> int:
            return self.system["open"](path, flags, mode, dir_fd=dir_fd)

        if place is None:
            return call()
        descriptor = self.begin(place, bool(flags & os.O_CREAT), bool(flags & os.O_TRUNC), call)
        self.files[descriptor] = place
        if not flags & (os.O_WRONLY | os.O_RDWR):
            self.readers.add(descriptor)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        if descriptor not in self.files:
            return self.system["write"](descriptor, data)
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        return self.put(self.files[descriptor], at, data, lambda part: self.system["write"](descriptor, part))

    def fsync(self, file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if descriptor not in self.files:
            return self.system["fsync"](descriptor)
        return self.perform(Operation("fsync", self.files[descriptor]), lambda: self.system["fsync"](descriptor))

    def close(self, descriptor: int) -> None:
        if descriptor not in self.files:
            return self.system["close"](descriptor)
        return self.end(descriptor, lambda: self.system["close"](descriptor))

    def truncate(self, file: Any, length: int) -> None:
        place = self.place(file)
        if place is None:
            return self.system["truncate"](file, length)
        return self.perform(Operation("truncate", place, at=length), lambda: self.system["truncate"](file, length))

    def rename(self, source: Any, target: Any, **folders: Any) -> None:
        old, new = self.place(source, folders.get("src_dir_fd")), self.place(target, folders.get("dst_dir_fd"))
        if old is None or new is None:
            assert old is new, f"{source} becomes {target}: one of them lies outside the watched folder"
            return self.system["replace"](source, target, **folders)
        self.perform(Operation("rename", old, new), lambda: self.system["replace"](source, target, **folders))
        for descriptor, place in self.files.items():
            if place == old or place.startswith(old + os.sep):
                self.files[descriptor] = new + place[len(old) :]
        return None

    def of_one_path(self, name: str) -> Callable[..., None]:
        """mkdir, rmdir, unlink or remove."""
        kind = "unlink" if name == "remove" else name

        def call(path: Any, *rest: Any, dir_fd: int | None = None, **settings: Any) -> None:
            place = self.place(path, dir_fd)

            def real() -> None:
                self.system[name](path, *rest, dir_fd=dir_fd, **settings)

            if place is None:
                real()
            else:
                self.perform(Operation(kind, place), real)

        return call


class WatchedFile(io.FileIO):
    """A file that is open for writing and tells its watch when what is written leaves the buffer."""

    def __init__(self, watch: Watch, place: str, file: Any, mode: str) -> None:
        self.watch = watch

        def call() -> None:
            io.FileIO.__init__(self, file, mode)

        if isinstance(file, int):  # a descriptor that os.open has given
            call()
        else:
            watch.begin(place, "r" not in mode, "w" in mode, call)
        watch.files[self.fileno()] = place

    def write(self, data: Any) -> int:  # type: ignore[override]
        return self.watch.put(self.watch.files[self.fileno()], self.tell(), data, super().write)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        operation = Operation("truncate", self.watch.files[self.fileno()], at=length)
        return self.watch.perform(operation, lambda: io.FileIO.truncate(self, length))

    def close(self) -> None:
        if not self.closed:
            self.watch.end(self.fileno(), lambda: io.FileIO.close(self))


@contextmanager
def watched(folder: Path, before: Before = lambda operation: None) -> Iterator[list[Operation]]:
    """Inside, `before` is asked ahead of each operation in the folder; the list that is given fills with those done."""
    watch = Watch(folder, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", watch.open_file)
        patch.setattr(io, "open", watch.open_file)
        for name in ("mkdir", "rmdir", "unlink", "remove"):
            patch.setattr(os, name, watch.of_one_path(name))
        for name in ("open", "write", "fsync", "close", "truncate", "rename"):
            patch.setattr(os, name, getattr(watch, name))
        patch.setattr(os, "ftruncate", watch.truncate)
        patch.setattr(os, "replace", watch.rename)
        yield watch.log
