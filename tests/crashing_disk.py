"""A disk that loses its power, as a model: every state in which a crash may leave a folder while something writes into it.

It promises what POSIX promises and no more. The data of a file is safe once that file was synced, a name (of a file that is
new, renamed or deleted) once its folder was. Until then a file may hold what it held before, half of what is new, zeros in
its place, or all of it; and each change of names may have reached the disk or not, in order or out of order. Real file
systems promise more, each something else (Pillai et al. 2014, "All File Systems Are Not Created Equal").
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from file_watch import Operation, watched

Tree = dict[str, bytes | None]  # path -> content; None is a folder


@dataclass(eq=False)
class File:
    kept: bytes = b""  # what is on the disk for sure
    now: bytes = b""  # what the programs see


@dataclass(eq=False)
class Folder:
    kept: dict[str, "File | Folder"] = field(default_factory=dict)
    now: dict[str, "File | Folder"] = field(default_factory=dict)


Change = list[
    tuple[Folder, str, File | Folder | None]
]  # names that are set or deleted together: a rename is two of them


def half(file: File) -> bytes:
    """What was kept, if it still stands at the beginning, and half of what came after it."""
    kept = len(file.kept) if file.now.startswith(file.kept) else 0
    return file.now[: (kept + len(file.now)) // 2]


def zeroed(file: File) -> bytes:
    """The new length is on the disk, and of the data only what was kept."""
    kept = file.kept if file.now.startswith(file.kept) else b""
    return kept.ljust(len(file.now), b"\0")


SHAPES: dict[str, Callable[[File], bytes]] = {
    "dropped": lambda file: file.kept,
    "half": half,
    "zeroed": zeroed,
    "whole": lambda file: file.now,
}


def choices(n: int) -> list[frozenset[int]]:
    """Which of n changes of names have reached the disk: the first k, all but one, or only one (every subset, up to n = 3)."""
    all_of_them = frozenset(range(n))
    first = [frozenset(range(k)) for k in range(n + 1)]
    others = [chosen for i in range(n) for chosen in (all_of_them - {i}, frozenset({i}))]
    return list(dict.fromkeys(first + others))


class Disk:
    """What the programs see and what is kept for sure, after each operation that it is told."""

    def __init__(self, tree: Tree) -> None:
        self.root = Folder()
        self.waiting: list[Change] = []  # changes of names whose folder was not synced since
        for path, data in sorted(tree.items()):
            folder, name = self.parent(path)
            folder.now[name] = folder.kept[name] = Folder() if data is None else File(data, data)

    def find(self, path: str) -> Any:
        node: Any = self.root
        for name in Path(path).parts:
            node = node.now[name]
        return node

    def parent(self, path: str) -> tuple[Folder, str]:
        return self.find(str(Path(path).parent)), Path(path).name

    def change(self, *names: tuple[Folder, str, File | Folder | None]) -> None:
        for folder, name, node in names:
            set_name(folder.now, name, node)
        self.waiting.append(list(names))

    def apply(self, operation: Operation) -> None:
        kind, path = operation.kind, operation.path
        if kind in ("create", "mkdir"):
            self.change((*self.parent(path), File() if kind == "create" else Folder()))
        elif kind in ("unlink", "rmdir"):
            self.change((*self.parent(path), None))
        elif kind == "rename":
            self.change((*self.parent(path), None), (*self.parent(operation.to), self.find(path)))
        elif kind == "write":
            file, end = self.find(path), operation.at + len(operation.data)
            file.now = file.now[: operation.at].ljust(operation.at, b"\0") + operation.data + file.now[end:]
        elif kind == "truncate":
            file = self.find(path)
            file.now = file.now[: operation.at].ljust(operation.at, b"\0")
        elif kind == "fsync":
            self.sync(self.find(path))

    def sync(self, node: File | Folder) -> None:
        """The data of a file is kept; or the names in a folder, and with each what changed together with it."""
        if isinstance(node, File):
            node.kept = node.now
            return
        waiting, self.waiting = self.waiting, []
        for change in waiting:
            if any(folder is node for folder, _, _ in change):
                for folder, name, other in change:
                    set_name(folder.kept, name, other)
            else:
                self.waiting.append(change)

    def seen(self) -> Tree:
        """The folder as programs see it."""
        return walk(self.root, lambda folder: folder.now, SHAPES["whole"])

    def after_a_crash(self) -> Iterator[tuple[str, Tree]]:
        """What may be found when the power is back, and in words how it came to that."""
        for chosen in choices(len(self.waiting)):
            names: dict[Folder, dict[str, File | Folder]] = {}
            for number in sorted(chosen):
                for folder, name, node in self.waiting[number]:
                    set_name(names.setdefault(folder, dict(folder.kept)), name, node)
            for shape, data in SHAPES.items():
                yield (
                    f"of {len(self.waiting)} changes of names {sorted(chosen)} were kept, what was not synced is {shape}",
                    walk(self.root, lambda folder, names=names: names.get(folder, folder.kept), data),
                )


def set_name(names: dict[str, Any], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def walk(folder: Folder, names: Callable[[Folder], dict[str, Any]], data: Callable[[File], bytes]) -> Tree:
    """All that lies in a folder, by path."""
    tree: Tree = {}
    for name, node in names(folder).items():
        tree[name] = data(node) if isinstance(node, File) else None
        if isinstance(node, Folder):
            tree |= {f"{name}/{inner}": content for inner, content in walk(node, names, data).items()}
    return tree


def read_tree(folder: Path) -> Tree:
    """All files and folders in a real folder."""
    paths = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in paths}


@dataclass(frozen=True)
class State:
    """What one crash has left: `story` says when it came and what was kept, `done` whether all operations were over."""

    tree: Tree
    story: str
    done: bool

    def put_into(self, folder: Path) -> Path:
        """Write it into a real folder, which is made."""
        folder.mkdir(parents=True)
        for path, data in sorted(self.tree.items()):
            if data is None:
                (folder / path).mkdir()
            else:
                (folder / path).write_bytes(data)
        return folder


def crash_states(folder: Path, write: Callable[[], Any]) -> list[State]:
    """Call `write`, watched, and list every different state in which a crash before, during or after it may leave the folder.

    Before it everything counts as synced. A state that stands here once with `done` and once without is listed twice.
    """
    before = read_tree(folder)
    with watched(folder) as log:
        write()
    disk, states = Disk(before), {}
    for number in range(len(log) + 1):
        done = number == len(log)
        last = f"{log[number - 1].kind} {log[number - 1].path}" if number else "nothing"
        for how, tree in disk.after_a_crash():
            story = f"after {number} of {len(log)} operations, the last was {last}; {how}"
            states.setdefault((frozenset(tree.items()), done), State(tree, story, done))
        if not done:
            disk.apply(log[number])
    assert disk.seen() == read_tree(folder), "something was written that the watch has not seen"
    return list(states.values())
