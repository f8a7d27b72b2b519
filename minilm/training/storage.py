"""How a directory is made whole or not at all: written beside its place, listed in a manifest, moved in one step.

A power cut, a full disk or a kill at any moment leaves the old directories as they were, and at most a `.tmp-` folder
that the next save removes. The manifest has the size and SHA-256 of each file, so that no changed bit goes unnoticed.
Standard library only; what the files mean is `checkpoint.py`'s affair.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "MANIFEST.json"


def to_json(value: Any) -> bytes:
    """Readable JSON in UTF-8, the same bytes for the same value. NaN and infinity, which JSON lacks: ValueError."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _sync(path: Path) -> None:
    """Return when file or folder has reached the disk. (Windows offers no such call for folders.)"""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_directory(final: Path, files: dict[str, bytes]) -> None:
    """Create the directory `final` with these files and their manifest, replacing an older one of that name.

    An older one steps aside as `<name>.old` for the moment between two renames; `newest_first` knows that name.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".tmp-{os.getpid()}-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    listing = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    try:
        temporary.mkdir()
        for name, data in (*files.items(), (MANIFEST, to_json({"format": FORMAT, "files": listing}))):
            (temporary / name).write_bytes(data)
            _sync(temporary / name)
        _sync(temporary)
        aside = final.with_name(f"{final.name}.old")
        if final.exists():
            remove_directory(aside)
            os.replace(final, aside)
        os.replace(temporary, final)
        _sync(final.parent)
        remove_directory(aside)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def verify_directory(path: Path) -> list[str]:
    """Check every file against the manifest and return their names. Files that it does not list are ignored.

    Raises a ValueError of one line that names the file and what is wrong with it.
    """
    try:
        raw = (path / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        intact = to_json(manifest) == raw and isinstance(manifest, dict) and isinstance(manifest["files"], dict)
    except FileNotFoundError:
        raise ValueError(f"{path} is no checkpoint: it has no {MANIFEST}") from None
    except (ValueError, KeyError, RecursionError):
        intact = False
    if not intact:
        raise ValueError(f"{path / MANIFEST} is damaged: delete the folder {path.name} and use another checkpoint")
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise ValueError(f"{path / MANIFEST} has format {found!r}, not {FORMAT}: use the minilm that wrote it")
    for name, expected in manifest["files"].items():
        file = path / name
        problem = None
        if Path(name).name != name or not file.is_file():
            problem = "is missing"
        elif not isinstance(expected, dict) or expected.keys() != {"bytes", "sha256"}:
            problem = "is not described by the manifest"
        elif file.stat().st_size != expected["bytes"]:
            problem = f"has {file.stat().st_size} bytes instead of {expected['bytes']}"
        else:
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected["sha256"]:
                    problem = "was changed after it was saved (its SHA-256 differs)"
        if problem:
            raise ValueError(f"{file} {problem}: delete the folder {path.name} and use another checkpoint")
    return list(manifest["files"])


def remove_directory(path: Path) -> None:
    """Delete a directory so that no half of it can be taken for a whole one: it loses its name first."""
    if path.exists():
        doomed = path.parent / f".tmp-{os.getpid()}-gone-{path.name}"
        os.replace(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Delete what killed processes left half-written in `parent`."""
    for leftover in parent.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def newest_first(parent: Path) -> list[Path]:
    """The step directories of a run, latest first. One that had stepped aside counts if nothing took its place."""
    found = {}
    for path in sorted(parent.glob("step-*"), reverse=True):  # "step-000123.old" comes before "step-000123"
        digits = path.name.removeprefix("step-").removesuffix(".old")
        if digits.isdecimal() and (path / MANIFEST).is_file():
            found[int(digits)] = path
    return [found[step] for step in sorted(found, reverse=True)]
