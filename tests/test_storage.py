"""A directory is whole or it is not there: damage is seen, and a death or a full disk at any moment harms nothing."""

import errno
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from minilm.training import storage
from minilm.training.storage import (
    MANIFEST,
    newest_first,
    remove_directory,
    remove_leftovers,
    to_json,
    verify_directory,
    write_directory,
)

FILES = {"a.bin": bytes(range(256)) * 3, "b.json": b'{"x": 1}\n', "empty": b""}


class Killed(BaseException):
    """The process dies here: nothing after it runs, not even the cleaning up."""


def test_what_is_written_is_read_and_verified(tmp_path: Path) -> None:
    path = tmp_path / "run" / "step-000007"
    write_directory(path, FILES)
    assert sorted(verify_directory(path)) == sorted(FILES)
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != MANIFEST} == FILES
    assert [entry.name for entry in path.parent.iterdir()] == ["step-000007"]


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    write_directory(tmp_path / "step-000001", FILES)
    (tmp_path / "step-000001" / "notes.txt").write_text("mine")
    assert "notes.txt" not in verify_directory(tmp_path / "step-000001")


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.nightly)])
def test_every_flipped_bit_of_the_manifest_is_detected(tmp_path: Path, every: int) -> None:
    path = tmp_path / "step-000001"
    write_directory(path, FILES)
    good = (path / MANIFEST).read_bytes()
    for bit in range(0, 8 * len(good), every):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        (path / MANIFEST).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"step-000001") as caught:
            verify_directory(path)
        assert "\n" not in str(caught.value)


def test_flipped_bits_and_truncations_of_the_files_are_detected(tmp_path: Path) -> None:
    path, rng = tmp_path / "step-000001", random.Random(0)
    write_directory(path, FILES)
    for name in ("a.bin", "b.json"):
        good = FILES[name]
        for length in range(0, len(good), 7):
            (path / name).write_bytes(good[:length])
            with pytest.raises(ValueError, match=rf"{name} has {length} bytes instead of {len(good)}"):
                verify_directory(path)
        for bit in rng.sample(range(8 * len(good)), min(200, 8 * len(good))):
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            (path / name).write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{name} was changed after it was saved.*use another checkpoint"):
                verify_directory(path)
        (path / name).write_bytes(good)
    (path / "empty").unlink()
    with pytest.raises(ValueError, match="empty is missing"):
        verify_directory(path)


def rewrite_manifest(path: Path, change: Any) -> None:
    manifest = json.loads((path / MANIFEST).read_bytes())
    change(manifest)
    (path / MANIFEST).write_bytes(to_json(manifest))


def test_hostile_manifests(tmp_path: Path) -> None:
    """Each is valid JSON in our own layout, or nearly; each is refused with one line."""
    (tmp_path / "outside").write_bytes(b"secret")
    entry = {"bytes": 6, "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}
    changes = [
        lambda m: m.update(format=2),
        lambda m: m.pop("format"),
        lambda m: m.pop("files"),
        lambda m: m.update(files=["a.bin"]),
        lambda m: m["files"].update({"../outside": entry}),
        lambda m: m["files"].update({"..": entry}),
        lambda m: m["files"].update({str(tmp_path / "outside"): entry}),
        lambda m: m["files"].update({"a.bin": 5}),
        lambda m: m["files"]["a.bin"].pop("sha256"),
        lambda m: m["files"]["a.bin"].update(bytes="768"),
        lambda m: m["files"]["a.bin"].update(bytes=10**30),
        lambda m: m["files"]["a.bin"].update(sha256=None),
    ]
    for number, change in enumerate(changes):
        path = tmp_path / f"step-{number:06d}"
        write_directory(path, FILES)
        rewrite_manifest(path, change)
        with pytest.raises(ValueError) as caught:
            verify_directory(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    path = tmp_path / "step-000000"
    texts = [b"", b"[]", b"\xff", b'{"format": NaN}', b'{"a": 1, "a": 1}', b"[" * 100_000, b"1" * 5000]
    for text in texts:
        (path / MANIFEST).write_bytes(text)
        with pytest.raises(ValueError, match="is damaged"):
            verify_directory(path)
    twice = (tmp_path / "step-000007" / MANIFEST).read_bytes().replace(b'{\n "format"', b'{\n "format": 7,\n "format"')
    (path / MANIFEST).write_bytes(twice)
    with pytest.raises(ValueError, match="is damaged"):
        verify_directory(path)


@pytest.mark.parametrize("name", ["step-000002", "step-000001"])  # a new directory, and one that is replaced
def test_death_at_every_system_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Before each call that changes the disk, die. What a reader then finds is a whole old or a whole new directory."""
    new_files = {**FILES, "a.bin": b"new"}
    deaths = 0
    while True:
        run = tmp_path / f"run{deaths}"
        write_directory(run / "step-000001", FILES)
        remaining, dead = deaths, False

        def dying(call: Any) -> Any:
            def wrapper(*args: Any, **settings: Any) -> Any:
                nonlocal remaining, dead
                if dead or remaining == 0:
                    dead = True
                    raise Killed
                remaining -= 1
                return call(*args, **settings)

            return wrapper

        with monkeypatch.context() as patch:
            for owner, call in (
                (os, "replace"),
                (os, "fsync"),
                (Path, "mkdir"),
                (Path, "write_bytes"),
                (shutil, "rmtree"),
            ):
                patch.setattr(owner, call, dying(getattr(owner, call)))
            try:
                write_directory(run / name, new_files)
            except Killed:
                pass
            else:
                break
        found = newest_first(run)
        assert found
        for path in found:
            verify_directory(path)
            assert (path / "a.bin").read_bytes() in (FILES["a.bin"], b"new")
        remove_leftovers(run)
        write_directory(run / name, new_files)  # the next try succeeds, and leaves nothing behind
        assert sorted(entry.name for entry in run.iterdir()) == sorted({"step-000001", name})
        assert (newest_first(run)[0] / "a.bin").read_bytes() == b"new"
        deaths += 1
    assert deaths >= 12


def test_all_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    real_sync, real_replace = storage._sync, os.replace

    def sync(path: Path) -> None:
        log.append(path.name)
        real_sync(path)

    def replace(source: Path, target: Path) -> None:
        log.append(f"{source.name} becomes {target.name}")
        real_replace(source, target)

    monkeypatch.setattr(storage, "_sync", sync)
    monkeypatch.setattr(os, "replace", replace)
    write_directory(tmp_path / "run" / "step-000001", FILES)
    temporary = f".tmp-{os.getpid()}-step-000001"
    assert log == [*FILES, MANIFEST, temporary, f"{temporary} becomes step-000001", "run"]


@pytest.mark.parametrize("full_at", range(len(FILES) + 1))
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int) -> None:
    write_directory(tmp_path / "step-000001", FILES)
    real, written = Path.write_bytes, []

    def write_bytes(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > full_at:
            real(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    for name in ("step-000001", "step-000002"):
        written.clear()
        with pytest.raises(OSError, match="No space left"):
            write_directory(tmp_path / name, FILES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000001"]
    verify_directory(tmp_path / "step-000001")


def test_newest_first_reads_names_as_numbers(tmp_path: Path) -> None:
    for name in ("step-000002", "step-999999", "step-1000000", "step-000010.old", "step-000002.old", "step-x", "other"):
        write_directory(tmp_path / name, FILES)
    (tmp_path / "step-000777").mkdir()  # no manifest: no checkpoint
    names = [path.name for path in newest_first(tmp_path)]
    assert names == ["step-1000000", "step-999999", "step-000010.old", "step-000002"]


def test_remove_directory(tmp_path: Path) -> None:
    write_directory(tmp_path / "step-000001", FILES)
    remove_directory(tmp_path / "step-000001")
    remove_directory(tmp_path / "step-000001")  # nothing there: nothing to do
    assert list(tmp_path.iterdir()) == []


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError):
        to_json({"loss": float("nan")})
    assert json.loads(storage.to_json({"ü": [1, None, 0.1]})) == {"ü": [1, None, 0.1]}
