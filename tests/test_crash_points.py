"""Every point at which a save can crash, and each state of the disk then: what was whole stays, or the new one stands.

The disk is that of crashing_disk.py. First it has to find what is wrong with writers that are wrong on purpose.
"""

import io
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from crashing_disk import Disk, choices, crash_states, read_tree
from faults import strike
from file_watch import Operation, watched

from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.runtime import whole_file
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.muon import build_optimizer
from minilm.training.storage import MANIFEST, newest_first, verify_directory, write_directory


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power is lost in the model only: that somebody calls fsync counts, not that the real disk obeys."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


Files = dict[str, bytes]
OLD: Files = {"a.bin": b"old" * 50, "b.json": b'{"x": 1}\n'}
NEW: Files = {"a.bin": b"new!" * 60, "b.json": b'{"x": 2}\n'}


# ---- the watch


def test_the_watch_sees_what_is_written_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with watched(run) as log:
        (tmp_path / "elsewhere").write_text("not watched")
        (run / "sub").mkdir(parents=True)
        with open(run / "text", "w", encoding="utf-8") as text:
            text.write("ab")
            text.flush()
            text.write("cd")
            os.fsync(text.fileno())  # the buffer still holds "cd"
        with open(run / "text", "ab", buffering=0) as more:
            more.write(b"!")
        (run / "text").read_bytes()
        descriptor = os.open(run / "raw", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"123")
        os.write(descriptor, b"45")
        os.ftruncate(descriptor, 4)
        os.close(descriptor)
        (run / "raw").replace(run / "sub" / "raw")
        (run / "text").unlink()
        shutil.rmtree(run / "sub")
        (run / "fresh").write_bytes(b"1")
        (run / "fresh").write_bytes(b"")
    assert [(entry.kind, entry.path, entry.to or entry.at, entry.data) for entry in log] == [
        ("mkdir", ".", 0, b""),
        ("mkdir", "sub", 0, b""),
        ("create", "text", 0, b""),
        ("write", "text", 0, b"ab"),
        ("fsync", "text", 0, b""),
        ("write", "text", 2, b"cd"),
        ("close", "text", 0, b""),
        ("write", "text", 4, b"!"),
        ("close", "text", 0, b""),
        ("create", "raw", 0, b""),
        ("write", "raw", 0, b"123"),
        ("write", "raw", 3, b"45"),
        ("truncate", "raw", 4, b""),
        ("close", "raw", 0, b""),
        ("rename", "raw", "sub/raw", b""),
        ("unlink", "text", 0, b""),
        ("unlink", "sub/raw", 0, b""),
        ("rmdir", "sub", 0, b""),
        ("create", "fresh", 0, b""),
        ("write", "fresh", 0, b"1"),
        ("close", "fresh", 0, b""),
        ("truncate", "fresh", 0, b""),
        ("close", "fresh", 0, b""),
    ]
    assert (tmp_path / "elsewhere").read_text() == "not watched"
    assert open is io.open


def test_what_the_watch_does_not_see_is_an_error(tmp_path: Path) -> None:
    def unseen() -> None:
        os.link(tmp_path / "one", tmp_path / "two")

    (tmp_path / "one").write_bytes(b"x")
    with pytest.raises(AssertionError, match="has not seen"):
        crash_states(tmp_path, unseen)


# ---- the disk, by hand


def left(disk: Disk) -> list[dict[str, bytes | None]]:
    """The different states after a crash."""
    return [dict(tree) for tree in dict.fromkeys(tuple(tree.items()) for _, tree in disk.after_a_crash())]


def test_data_without_fsync_is_dropped_cut_off_zeroed_or_whole() -> None:
    disk = Disk({"f": b"abcd"})
    disk.apply(Operation("write", "f", at=4, data=b"efgh"))
    assert left(disk) == [{"f": data} for data in (b"abcd", b"abcdef", b"abcd\0\0\0\0", b"abcdefgh")]
    disk.apply(Operation("fsync", "f"))
    assert left(disk) == [{"f": b"abcdefgh"}]
    disk.apply(Operation("truncate", "f"))
    disk.apply(Operation("write", "f", at=0, data=b"xy"))
    assert left(disk) == [{"f": data} for data in (b"abcdefgh", b"x", b"\0\0", b"xy")]


def test_names_without_fsync_of_their_folder_are_there_or_not() -> None:
    disk = Disk({"d": None, "d/f": b"1"})
    disk.apply(Operation("create", "d/g"))
    disk.apply(Operation("write", "d/g", data=b"22"))
    disk.apply(Operation("fsync", "d/g"))  # the data, not the name
    assert left(disk) == [{"d": None, "d/f": b"1"}, {"d": None, "d/f": b"1", "d/g": b"22"}]
    disk.apply(Operation("fsync", "."))  # another folder
    assert len(left(disk)) == 2
    disk.apply(Operation("fsync", "d"))
    assert left(disk) == [{"d": None, "d/f": b"1", "d/g": b"22"}]
    disk.apply(Operation("rename", "d", "e"))
    disk.apply(Operation("unlink", "e/f"))
    both, neither = {"e": None, "e/g": b"22"}, {"d": None, "d/f": b"1", "d/g": b"22"}
    renamed, deleted = {"e": None, "e/f": b"1", "e/g": b"22"}, {"d": None, "d/g": b"22"}
    assert sorted(map(str, left(disk))) == sorted(map(str, (neither, renamed, deleted, both)))  # out of order, too
    disk.apply(Operation("fsync", "."))
    assert sorted(map(str, left(disk))) == sorted(map(str, (renamed, both)))


def test_choices() -> None:
    for n, number in ((0, 1), (1, 2), (2, 4), (3, 8)):  # every subset
        assert len(choices(n)) == number
    assert {frozenset(), frozenset({0, 1, 2}), frozenset({3}), frozenset({0, 2, 3})} <= set(choices(4))


# ---- writers: a right one, and wrong ones


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write_files(folder: Path, files: Files, but: Collection[str] = ()) -> None:
    """Write and sync each of the files, `but` those of these names only write."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
        if name not in but:
            sync(folder / name)


def right(final: Path, files: Files, forgotten: str = "") -> None:
    """Beside its place, everything synced, moved in one step. What is `forgotten` is not synced."""
    new, aside = final.with_name(".tmp-new"), final.with_name(f"{final.name}.old")
    write_files(new, files, but={"files": files, "manifest": [MANIFEST]}.get(forgotten, []))
    if forgotten != "folder":
        sync(new)
    if final.exists():
        os.replace(final, aside)
    os.replace(new, final)
    if forgotten != "parent":
        sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def in_place(final: Path, files: Files) -> None:
    write_files(final, files)
    sync(final)
    sync(final.parent)


def manifest_first(final: Path, files: Files) -> None:
    in_place(final, dict(reversed(files.items())))


def old_first(final: Path, files: Files) -> None:
    """What is there makes room before the new one stands."""
    for path in newest_first(final.parent):
        shutil.rmtree(path)
    right(final, files)


def synced_too_late(final: Path, files: Files) -> None:
    right(final, files, "files")
    for name in files:
        sync(final / name)


def without_a_step_aside(final: Path, files: Files) -> None:
    """The old one is deleted between the last sync and the rename."""
    new = final.with_name(".tmp-new")
    write_files(new, files)
    sync(new)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(new, final)
    sync(final.parent)


Writer = Callable[[Path, Files], None]
WRONG: dict[str, tuple[Writer, str]] = {  # and the step that it has to write for its mistake to show
    "files not synced": (lambda final, files: right(final, files, "files"), "step-000002"),
    "manifest not synced": (lambda final, files: right(final, files, "manifest"), "step-000002"),
    "folder not synced": (lambda final, files: right(final, files, "folder"), "step-000002"),
    "parent not synced": (lambda final, files: right(final, files, "parent"), "step-000002"),
    "in place": (in_place, "step-000001"),
    "in place, a new one": (in_place, "step-000002"),
    "manifest first": (manifest_first, "step-000002"),
    "the old one first": (old_first, "step-000002"),
    "synced too late": (synced_too_late, "step-000002"),
    "without a step aside": (without_a_step_aside, "step-000001"),
}


def read_files(path: Path) -> Files:
    """The content of a directory, verified."""
    return {name: (path / name).read_bytes() for name in verify_directory(path)}


def survivors(run: Path, read: Callable[[Path], Any]) -> dict[int, Any]:
    """What is left of a run, by step: the content of each, or the error of who reads it."""
    found = {}
    for path in newest_first(run):
        try:
            found[int(path.name[5:11])] = read(path)
        except ValueError as error:
            found[int(path.name[5:11])] = str(error)
    return found


def complaint(found: dict[int, Any], done: bool, before: dict[int, Any], after: dict[int, Any]) -> str:
    """What is wrong with what a crash has left of a run; "" if nothing is.

    `before` and `after` are what there was before the save, and is after it. All of the one is there or all of the other,
    and nothing else; all of the other, once the save was over.
    """
    for step, content in found.items():
        if isinstance(content, str):
            return content
        if content not in (before.get(step), after.get(step)):
            return f"step {step} is read as something else"
    new_stands = all(found.get(step) == content for step, content in after.items())
    old_stands = all(found.get(step) == content for step, content in before.items())
    return "" if new_stands or (old_stands and not done) else f"only {sorted(found)} are left"


def complaints(tmp_path: Path, write: Writer, name: str) -> list[str]:
    """What every crash of a writer leaves: OLD as step 1, over which, or beside which, NEW is written."""
    run = tmp_path / "run"
    write_directory(tmp_path / "signed", NEW)
    write_directory(run / "step-000001", OLD)
    files = NEW | {MANIFEST: (tmp_path / "signed" / MANIFEST).read_bytes()}
    before, after = {1: OLD}, {1: OLD, 2: NEW} if name == "step-000002" else {1: NEW}
    found = []
    for number, state in enumerate(crash_states(run, lambda: write(run / name, files))):
        left = state.put_into(tmp_path / "left" / str(number))
        problem = complaint(survivors(left, read_files), state.done, before, after)
        found.append(f"{state.story}: {problem}" if problem else "")
    assert len(found) > 10
    return [text for text in found if text]


@pytest.mark.parametrize("mistake", WRONG)
def test_each_wrong_writer_is_caught(tmp_path: Path, mistake: str) -> None:
    writer, name = WRONG[mistake]
    assert complaints(tmp_path, writer, name)


@pytest.mark.parametrize("name", ["step-000001", "step-000002"])
def test_the_right_writer_passes(tmp_path: Path, name: str) -> None:
    assert complaints(tmp_path, right, name) == []


@pytest.mark.parametrize("name", ["step-000001", "step-000002"])
def test_write_directory(tmp_path: Path, name: str) -> None:
    assert complaints(tmp_path, lambda final, files: write_directory(final, NEW), name) == []


@pytest.mark.parametrize("there", [True, False])
def test_whole_file(tmp_path: Path, there: bool) -> None:
    """A file is what it was, or what it was to become; and once `whole_file` is over, it is that."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if there:
        (folder / "log.jsonl").write_bytes(b"old")

    def write() -> None:
        with whole_file(folder / "log.jsonl") as unfinished:
            unfinished.write_bytes(b"new!")

    states = crash_states(folder, write)
    assert len(states) > 5
    for state in states:
        expected = [b"new!"] if state.done else [b"new!", b"old" if there else None]
        assert state.tree.get("log.jsonl") in expected, state.story


# ---- checkpoints

TOKENIZER = ByteTokenizer()
MODEL = GPTConfig(vocab_size=TOKENIZER.vocab_size, context_length=3, d_model=4, n_layers=1, n_heads=2)
# before: (step, validation score, seed) of each save; then that save which crashes; and which steps are there after it
SCENARIOS: dict[str, tuple[list[tuple[int, float, int]], tuple[int, float, int], set[int]]] = {
    "the first one, in a new folder": ([], (3, 2.0, 1), {3}),
    "one more": ([(1, 2.0, 1)], (2, 3.0, 2), {1, 2}),
    "the oldest is deleted": ([(1, 3.0, 1), (2, 2.0, 2)], (3, 1.0, 3), {2, 3}),
    "the best is kept, the second best deleted": ([(1, 1.0, 1), (2, 2.0, 2), (3, 4.0, 3)], (4, 3.0, 4), {1, 3, 4}),
    "the same step again": ([(1, 1.0, 1), (2, 2.0, 2)], (2, 0.5, 3), {1, 2}),
}


def save(run: Path, step: int, validation: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = GPT(MODEL)
    optimizer = build_optimizer(model, TrainConfig())
    save_checkpoint(run, model, TOKENIZER, step=step, validation=validation, optimizer=optimizer, keep=2)


def content(step: int, validation: float, model: Any) -> tuple[int, float, dict[str, bytes]]:
    return step, validation, {name: array.detach().numpy().tobytes() for name, array in model.arrays().items()}


def saved(step: int, validation: float, seed: int) -> tuple[int, float, dict[str, bytes]]:
    """What `save` was told to save."""
    torch.manual_seed(seed)
    return content(step, validation, GPT(MODEL))


def load(path: Path, prefer: str = "last") -> tuple[int, float, dict[str, bytes]]:
    loaded = load_checkpoint(path, prefer)
    return content(loaded.step, loaded.validation or 0.0, loaded.model)


def kept(scores: dict[int, float]) -> list[str]:
    """The rule of retention: the last two and the best."""
    return [f"step-{step:06d}" for step in sorted({*sorted(scores)[-2:], min(scores, key=lambda step: scores[step])})]


@pytest.mark.parametrize("leftovers", [False, pytest.param(True, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_checkpoint_survives_every_crash(tmp_path: Path, scenario: str, leftovers: bool) -> None:
    """PITFALLS 82. Whatever is left, a run loads, with the exact weights of one save, and the next save cleans up."""
    earlier, last, stay = SCENARIOS[scenario]
    place = tmp_path / "place"
    place.mkdir()
    for step in earlier:
        save(place / "run", *step)
    before = {step: saved(step, score, seed) for step, score, seed in earlier}
    both = before | {last[0]: saved(*last)}
    after = {step: both[step] for step in stay}
    if leftovers:  # of an earlier crash: half a checkpoint, and one that had stepped aside
        (place / "run" / ".tmp-1-step-000002").mkdir(parents=True)
        (place / "run" / ".tmp-1-step-000002" / "weights.safetensors").write_bytes(b"half")
        for step in before:
            shutil.copytree(place / "run" / f"step-{step:06d}", place / "run" / f"step-{step:06d}.old")
    states = crash_states(place, lambda: save(place / "run", *last))
    assert {path.name for path in (place / "run").iterdir()} == {f"step-{step:06d}" for step in stay}
    known: dict[frozenset, Any] = {}  # what a directory holds decides what is read from it, so each is read once

    def read(path: Path) -> Any:
        key = frozenset(read_tree(path).items()) | {path.name}
        if key not in known:
            known[key] = load(path)
        return known[key]

    for number, state in enumerate(states):
        run = state.put_into(tmp_path / "left" / str(number)) / "run"
        steps = survivors(run, read)
        assert complaint(steps, state.done, before, after) == "", state.story
        if steps:
            assert load(run, "last") == steps[max(steps)]
            assert load(run, "best") == min(steps.values(), key=lambda found: found[1])
        save(run, 9, 9.0, 9)
        scores = {step: found[1] for step, found in steps.items()} | {9: 9.0}
        assert sorted(path.name.removesuffix(".old") for path in run.iterdir()) == kept(scores), state.story
        shutil.rmtree(run.parent)


def interrupt(operation: Operation) -> None:
    raise KeyboardInterrupt


def test_the_disk_of_the_model_is_the_real_one(tmp_path: Path) -> None:
    """Stopped before operation n, the real folder is what the programs see of the model after n operations."""
    (tmp_path / "all").mkdir()
    with watched(tmp_path / "all") as log:
        right(tmp_path / "all" / "step-000001", OLD)
    disk = Disk({})
    for number, operation in enumerate(log):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(KeyboardInterrupt), watched(place, strike(number, interrupt, ever_after=True)):
            right(place / "step-000001", OLD)
        assert read_tree(place) == disk.seen()
        disk.apply(operation)
    assert read_tree(tmp_path / "all") == disk.seen()
