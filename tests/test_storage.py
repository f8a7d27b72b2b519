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
    Damaged,
    newest_first,
    read_json,
    remove_directory,
    remove_leftovers,
    step_of,
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
    """Pitfall 84: a single flipped bit is no other checkpoint."""
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
    for changed in (good[:-1], good + b" ", good.replace(b": ", b":")):  # the same value in another layout
        (path / MANIFEST).write_bytes(changed)
        with pytest.raises(Damaged, match=r"MANIFEST\.json is damaged"):
            verify_directory(path)


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
        lambda m: m.update(format=True),
        lambda m: m["files"].update({"x" * 10_000: entry}),
        lambda m: m["files"].update({"a\0b": entry}),
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
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    path = tmp_path / "step-000000"
    texts = [b"", b"[]", b"\xff", b'{"format": NaN}', b'{"a": 1, "a": 1}', b"[" * 100_000, b"1" * 5000]
    for text in texts:
        (path / MANIFEST).write_bytes(text)
        with pytest.raises(Damaged, match=r"MANIFEST.json (is damaged|does not say its format)"):
            verify_directory(path)
    twice = (tmp_path / "step-000007" / MANIFEST).read_bytes().replace(b'{\n "format"', b'{\n "format": 7,\n "format"')
    (path / MANIFEST).write_bytes(twice)
    with pytest.raises(ValueError, match="is damaged"):
        verify_directory(path)


@pytest.mark.parametrize("name", ["step-000002", "step-000001"])  # a new directory, and one that is replaced
def test_death_at_every_system_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Pitfall 82: die before each call that changes the disk. A reader then finds a whole old or a whole new directory."""
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
    real_sync, real_replace = storage.sync, os.replace

    def sync(path: Path) -> None:
        log.append(path.name)
        real_sync(path)

    def replace(source: Path, target: Path) -> None:
        log.append(f"{source.name} becomes {target.name}")
        real_replace(source, target)

    monkeypatch.setattr(storage, "sync", sync)
    monkeypatch.setattr(os, "replace", replace)
    write_directory(tmp_path / "run" / "step-000001", FILES)
    temporary = f".tmp-{os.getpid()}-step-000001"
    assert log == [tmp_path.name, *FILES, MANIFEST, temporary, f"{temporary} becomes step-000001", "run"]
    log.clear()
    remove_directory(tmp_path / "run" / "step-000001")
    assert log == [f"step-000001 becomes .tmp-{os.getpid()}-gone-step-000001", "run"]  # only then it is taken apart


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
    (tmp_path / "step-000777").mkdir()  # no manifest: damaged, and not passed over for an older one
    names = [path.name for path in newest_first(tmp_path)]
    assert names == ["step-1000000", "step-999999", "step-000777", "step-000010.old", "step-000002"]
    with pytest.raises(Damaged, match=r"step-000777/MANIFEST.json is missing"):
        verify_directory(tmp_path / "step-000777")
    assert [step_of(Path(name)) for name in ("step-000007.old", "step-7", "step-", "step-7.bak", "x-7")] == [
        7,
        7,
        None,
        None,
        None,
    ]


def test_remove_directory(tmp_path: Path) -> None:
    write_directory(tmp_path / "step-000001", FILES)
    remove_directory(tmp_path / "step-000001")
    remove_directory(tmp_path / "step-000001")  # nothing there: nothing to do
    assert list(tmp_path.iterdir()) == []


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError):
        to_json({"loss": float("nan")})
    assert json.loads(storage.to_json({"ü": [1, None, 0.1]})) == {"ü": [1, None, 0.1]}


@pytest.mark.parametrize("name", ["a.bin", MANIFEST, "."])
def test_links_are_refused(tmp_path: Path, name: str) -> None:
    """What a link names is not kept with the rest: it may change, or be another folder's."""
    path = tmp_path / "step-000001"
    write_directory(path, FILES)
    place = path if name == "." else path / name
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged, match="link") as caught:
        verify_directory(path)
    assert "step-000001" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_no_manifest(tmp_path: Path) -> None:
    """A pipe would be waited for, for ever."""
    for step, make in enumerate((Path.mkdir, os.mkfifo, Path.touch)):
        path = tmp_path / f"step-{step:06d}"
        write_directory(path, FILES)
        (path / MANIFEST).unlink()
        make(path / MANIFEST)  # type: ignore[operator]
        with pytest.raises(Damaged, match=rf"{path.name}/MANIFEST.json is (missing|damaged)"):
            verify_directory(path)


def test_only_one_file_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "step-000001"
    write_directory(path, FILES)
    (path / "a.bin").write_bytes(b"changed")
    assert sorted(verify_directory(path, only="b.json")) == sorted(FILES)
    with pytest.raises(Damaged, match=r"a.bin has 7 bytes instead of 768"):
        verify_directory(path, only="a.bin")
    with pytest.raises(Damaged, match=r"c.bin has no description"):
        verify_directory(path, only="c.bin")


def test_damage_says_what_and_where(tmp_path: Path) -> None:
    damage = Damaged(tmp_path / "step-000003" / "x", "is missing")
    assert damage.found == f"{tmp_path}/step-000003/x is missing"
    assert str(damage) == f"{damage.found}: delete the folder step-000003 and use another checkpoint"
    assert str(Damaged(tmp_path / "x", "is short", "start anew")) == f"{tmp_path}/x is short: start anew"


def test_read_json_is_strict(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(to_json({"step": 3, "score": None, "more": {"x": 1.5}}))
    assert read_json(file, step=int, score=(float, type(None)))["more"] == {"x": 1.5}
    refused = ['{"step": 3', "[3]", '{"score": 1}', '{"step": true}', '{"step": 3.0}', '{"step": "3"}', "\x00"]
    refused += ['{"step": 1, "step": 3}', '{"step": 3, "x": {"y": 1, "y": 2}}', '{"step": 3, "x": NaN}']
    refused += ['{"step": 3, "x": -Infinity}', '{"step": 3, "x": ' + "[" * 100_000 + "]" * 100_000 + "}"]
    for text in refused:
        file.write_text(text)
        with pytest.raises(Damaged, match=r"state.json (is damaged|does not say its step)"):
            read_json(file, step=int)
    file.unlink()
    with pytest.raises(Damaged, match=r"state.json is missing"):
        read_json(file)


def test_leftovers_are_files_folders_and_what_stepped_aside(tmp_path: Path) -> None:
    write_directory(tmp_path / "step-000001", FILES)
    for name in ("step-000001.old", "step-000002.old", ".tmp-7-step-000003"):
        write_directory(tmp_path / name, FILES)
    (tmp_path / ".tmp-7-loss.png").touch()
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "step-000001")
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-000001", "step-000002.old"]
    verify_directory(tmp_path / "step-000001")


def test_a_full_disk_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own error names no file."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, call in ((Path, "write_bytes"), (os, "fsync")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, call, full)
            with pytest.raises(OSError, match="step-000001") as caught:
                write_directory(tmp_path / "step-000001", FILES)
        assert caught.value.errno == errno.ENOSPC
        assert list(tmp_path.iterdir()) == []
