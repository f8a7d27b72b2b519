"""The log of a run: log.jsonl has a line a step, the same bytes whenever the same run is done; times.jsonl has the seconds.

A checkpoint holds a mark of the log: how many bytes it had at that step, and their SHA-256. A run that goes on cuts the log
there, and the lines that follow are those that a run without a break would have written.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minilm.runtime import whole_file
from minilm.training.storage import description, make_directory

LOG, TIMES = "log.jsonl", "times.jsonl"


class RunLog:
    """Both files, open at their ends. `open_log` makes one."""

    def __init__(self, log: Path, times: Path, kept: bytes) -> None:
        self.digest, self.n_bytes = hashlib.sha256(kept), len(kept)
        self.files = {path: os.open(path, os.O_WRONLY | os.O_APPEND) for path in (log, times)}

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the lines of a step. A disk that is full is an OSError that names the file; the lines before it stay."""
        line = _line({name: value for name, value in record.items() if name != "seconds"})
        timing = _line({name: record[name] for name in ("step", "seconds")})
        for (path, descriptor), rest in zip(self.files.items(), (line, timing), strict=True):
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError as error:
                error.filename = str(path)
                raise
        self.digest.update(line)
        self.n_bytes += len(line)

    def mark(self) -> dict[str, Any]:
        """What a checkpoint keeps of the log as it stands, which from now on is on the disk."""
        for descriptor in self.files.values():
            os.fsync(descriptor)
        return {"bytes": self.n_bytes, "sha256": self.digest.hexdigest()}


@contextmanager
def open_log(run: Path, step: int = 0, mark: Mapping[str, Any] | None = None) -> Iterator[RunLog]:
    """The log of a new run, or of one that goes on after `step` with the mark that its checkpoint holds.

    ValueError if the log is no longer what it was at that mark. A log that is missing begins anew.
    """
    log, times = run / LOG, run / TIMES
    kept = b"" if mark is None else marked_part(log, mark)
    timings = [timing for timing in read_records(times) if timing["step"] <= step and mark is not None]
    make_directory(run)
    for path, content in ((log, kept), (times, b"".join(map(_line, timings)))):
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content)
    opened = RunLog(log, times, kept)
    try:
        yield opened
    finally:
        for descriptor in opened.files.values():
            os.close(descriptor)


def marked_part(log: Path, mark: Any) -> bytes:
    """The log up to its mark, nothing if it is missing; ValueError if it was changed since."""
    if not log.exists():
        return b""
    size = mark.get("bytes") if isinstance(mark, Mapping) else None
    if type(size) is not int or size < 0:
        raise ValueError(f"the checkpoint says nothing of {log} that can be read: use another checkpoint")
    with log.open("rb") as file:
        part = file.read(min(size, log.stat().st_size))
    if description(part) != dict(mark):
        raise ValueError(
            f"{log} is not what it was when the checkpoint was saved: put the old one back, or move it away to begin a new one"
        )
    return part


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log.jsonl, oldest first, with the seconds of the times.jsonl beside it.

    A last line that was cut off by a crash is left out.
    """
    seconds = {timing["step"]: timing.get("seconds") for timing in read_records(path.with_name(TIMES))}
    records = read_records(path)
    return [record | ({"seconds": seconds[record["step"]]} if record["step"] in seconds else {}) for record in records]


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that may be missing, up to the first that is not whole."""
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            break
        records.append(record)
    return records
