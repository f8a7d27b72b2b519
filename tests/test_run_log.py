"""The log of a run: the same bytes for the same steps, cut where a run goes on, and never lost to a full disk."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from minilm.training.run_log import LOG, TIMES, marked_part, open_log, read_log


def record(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / step, "tokens": 7, "seconds": 0.5 * step, **more}


def without_seconds(step: int) -> bytes:
    return (json.dumps({"step": step, "loss": 1.0 / step, "tokens": 7}) + "\n").encode()


def test_what_is_the_same_in_each_run_and_what_is_not(tmp_path: Path) -> None:
    with open_log(tmp_path / "run") as log:
        for step in (1, 2):
            log.add(record(step))
            assert len((tmp_path / "run" / LOG).read_bytes().splitlines()) == step  # at once, not at the end
        mark = log.mark()
        log.add(record(3, validation=2.5))
    content = (tmp_path / "run" / LOG).read_bytes()
    assert content.startswith(without_seconds(1) + without_seconds(2)) and b"seconds" not in content
    first_two = without_seconds(1) + without_seconds(2)
    assert mark == {"bytes": len(first_two), "sha256": hashlib.sha256(first_two).hexdigest()}
    times = [json.loads(line) for line in (tmp_path / "run" / TIMES).read_text().splitlines()]
    assert times == [{"step": n, "seconds": 0.5 * n} for n in (1, 2, 3)]
    assert read_log(tmp_path / "run" / LOG) == [record(1), record(2), record(3, validation=2.5)]


def logged(run: Path, steps: int = 4, at: int = 2) -> dict[str, Any]:
    """Write a log of some steps and return the mark at one of them."""
    marks = {}
    with open_log(run) as log:
        for step in range(1, steps + 1):
            log.add(record(step))
            marks[step] = log.mark()
    return marks[at]


def test_going_on_is_as_if_there_had_been_no_break(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    logged(whole)
    mark = logged(parts, steps=3)
    with (parts / LOG).open("ab") as file:
        file.write(b'{"step": 4, "lo')
    with open_log(parts, 2, mark) as log:
        assert log.mark() == mark
        for step in (3, 4):
            log.add(record(step))
        end = log.mark()
    assert [(parts / name).read_bytes() for name in (LOG, TIMES)] == [
        (whole / name).read_bytes() for name in (LOG, TIMES)
    ]
    assert marked_part(parts / LOG, end) == (parts / LOG).read_bytes()


def test_a_missing_log_is_no_obstacle(tmp_path: Path) -> None:
    mark = logged(tmp_path)
    for name in (LOG, TIMES):
        (tmp_path / name).unlink()
    with open_log(tmp_path, 2, mark) as log:
        log.add(record(3))
        assert log.mark()["bytes"] == len(without_seconds(3))
    assert read_log(tmp_path / LOG) == [record(3)]


def test_a_new_run_begins_an_empty_log(tmp_path: Path) -> None:
    logged(tmp_path)
    with open_log(tmp_path):
        pass
    assert (tmp_path / LOG).read_bytes() == (tmp_path / TIMES).read_bytes() == b""
    assert read_log(tmp_path / LOG) == read_log(tmp_path / "another.jsonl") == []


def test_every_change_before_the_mark_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    mark, log = logged(tmp_path), tmp_path / LOG
    good, times = log.read_bytes(), (tmp_path / TIMES).read_bytes()
    changed = [good[: mark["bytes"] - 1], b"", good[1:], b" " + good]
    changed += [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(0, mark["bytes"], 3)]
    for content in changed:
        log.write_bytes(content)
        with (
            pytest.raises(
                ValueError, match=r"log\.jsonl is not what it was .*: put the old one back, or move it away"
            ) as caught,
            open_log(tmp_path, 2, mark),
        ):
            pytest.fail("opened")
        assert "\n" not in str(caught.value)
        assert (log.read_bytes(), (tmp_path / TIMES).read_bytes()) == (content, times)
    log.write_bytes(good[: mark["bytes"]] + b"what is behind the mark is cut off anyway")
    with open_log(tmp_path, 2, mark):
        assert log.read_bytes() == good[: mark["bytes"]]


def test_a_mark_that_is_none(tmp_path: Path) -> None:
    mark, log = logged(tmp_path), tmp_path / LOG
    hostile: list[Any] = [[], 3, {}, {**mark, "bytes": -1}, {**mark, "bytes": "9"}, {**mark, "bytes": 10**400}]
    for wrong in [*hostile, {**mark, "sha256": None}, {**mark, "more": 1}, {**mark, "bytes": True}]:
        with pytest.raises(ValueError, match=r"log\.jsonl"):
            marked_part(log, wrong)


@pytest.mark.parametrize("name", [LOG, TIMES])
def test_a_full_disk_loses_no_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line may be half written when the disk is full: those before it are there, and the error names the file."""
    run, real, room = tmp_path / name, os.write, [1000]

    def write(descriptor: int, data: bytes) -> int:
        if os.fstat(descriptor).st_ino != (run / name).stat().st_ino:
            return real(descriptor, data)
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(descriptor, data[: room[0]])
        room[0] -= done
        return done

    with pytest.raises(OSError, match=name) as caught, open_log(run) as log:
        monkeypatch.setattr(os, "write", write)
        for step in range(1, 100):
            log.add(record(step))
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert len((run / name).read_bytes()) == 1000
    kept = read_log(run / LOG)
    assert len(kept) > 15 and kept[:15] == [record(step) for step in range(1, 16)]


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with open_log(tmp_path) as log:
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
        log.add(record(1))
        log.add(record(2))
    assert (tmp_path / LOG).read_bytes() == without_seconds(1) + without_seconds(2)


def test_strange_lines_end_the_reading(tmp_path: Path) -> None:
    logged(tmp_path)
    for line in (b"3\n", b"{}\n", b'{"step": "5"}\n', b"\xff\xfe\n", b"{\n", b'{"step": true}\n'):
        (tmp_path / "x.jsonl").write_bytes(without_seconds(1) + line + without_seconds(2))
        assert [read["step"] for read in read_log(tmp_path / "x.jsonl")] == [1]
    (tmp_path / TIMES).write_bytes(b'{"step": 1}\nnonsense')
    assert [read.get("seconds") for read in read_log(tmp_path / LOG)] == [None] * 4


def test_no_file_stays_open(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        return
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt), open_log(tmp_path):
            raise KeyboardInterrupt
    assert len(os.listdir("/proc/self/fd")) == before
