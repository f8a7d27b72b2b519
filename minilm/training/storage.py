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
from typing import Any, NoReturn

from minilm.runtime import sync

FORMAT = 1
MANIFEST = "MANIFEST.json"


class Damaged(ValueError):
    """A directory is not what was saved. `found` names the file and what is wrong; the message also says what to do."""

    def __init__(self, file: Path, problem: str, remedy: str = "") -> None:
        self.file, self.problem, self.found = file, problem, f"{file} {problem}"
        super().__init__(
            f"{self.found}: {remedy or f'delete the folder {file.parent.name} and use another checkpoint'}"
        )


def to_json(value: Any) -> bytes:
    """Readable JSON in UTF-8, the same bytes for the same value. NaN and infinity, which JSON lacks: ValueError."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, **fields: type | tuple[type, ...]) -> dict[str, Any]:
    """The object in a JSON file, if it has at least these fields, each of one of these types; else it is Damaged.

    Two values for one name, NaN and infinity are damage too: the usual reader takes the last value, and takes them.
    """
    try:
        value = json.loads(path.read_bytes(), object_pairs_hook=_without_twins, parse_constant=_no_number)
    except FileNotFoundError:
        raise Damaged(path, "is missing") from None
    except (ValueError, RecursionError):
        raise Damaged(path, "is damaged") from None
    for name, types in fields.items():
        allowed = types if isinstance(types, tuple) else (types,)
        if not isinstance(value, dict) or name not in value or type(value[name]) not in allowed:
            raise Damaged(path, f"does not say its {name}")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _no_number(text: str) -> NoReturn:
    raise ValueError


def make_directory(path: Path) -> None:
    """Create a folder, and its parents if they are missing, so that a power cut does not take their names away."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def write_directory(final: Path, files: dict[str, bytes]) -> None:
    """Create the directory `final` with these files and their manifest, replacing an older one of that name.

    An older one steps aside as `<name>.old` for the moment between two renames; `newest_first` knows that name.
    """
    make_directory(final.parent)
    temporary = final.parent / f".tmp-{os.getpid()}-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    listing = {name: description(data) for name, data in files.items()}
    try:
        temporary.mkdir()
        for name, data in (*files.items(), (MANIFEST, to_json({"format": FORMAT, "files": listing}))):
            _write(temporary / name, data)
        sync(temporary)
        aside = final.with_name(f"{final.name}.old")
        if final.exists():
            remove_directory(aside)
            os.replace(final, aside)
        os.replace(temporary, final)
        sync(final.parent)
        remove_directory(aside)
    except BaseException as error:
        if isinstance(error, OSError) and final.name not in str(error.filename):
            error.filename = str(final)  # a full disk does not say what had no room
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
        sync(file)
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def description(data: bytes) -> dict[str, Any]:
    """What is kept of a file to know it again: its size and its SHA-256."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def problem_of(file: Path, expected: Any) -> str | None:
    """What is wrong with a file that was described so, or None. A link is wrong: what it names is not kept with the rest."""
    if not isinstance(expected, dict) or expected.keys() != {"bytes", "sha256"}:
        return "has no description that can be read"
    if file.is_symlink():
        return "is a link and not a file"
    if not file.is_file():
        return "is missing"
    if file.stat().st_size != expected["bytes"]:
        return f"has {file.stat().st_size} bytes instead of {expected['bytes']}"
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != expected["sha256"]:
            return "was changed after it was saved (its SHA-256 differs)"
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """The files of a directory and their descriptions, as its manifest has them."""
    file = path / MANIFEST
    if path.is_symlink() or file.is_symlink():
        raise Damaged(file, "is reached by a link")
    if not file.is_file():
        raise Damaged(file, "is missing")
    manifest = read_json(file, format=int, files=dict)
    if to_json(manifest) != file.read_bytes():
        raise Damaged(file, "is damaged")
    if manifest["format"] != FORMAT:
        raise ValueError(f"{file} has format {manifest['format']}, not {FORMAT}: use the minilm that wrote it")
    return manifest["files"]


def verify_directory(path: Path, only: str | None = None) -> list[str]:
    """Check every file, or `only` that one, against the manifest; return the names of all that it lists. Others are ignored.

    Raises a ValueError of one line that names the file and what is wrong with it.
    """
    listing = read_manifest(path)
    for name in listing if only is None else [only]:
        if Path(name).name != name or len(name) > 255:
            raise Damaged(path / MANIFEST, f"lists {name[:40]!r}, which is no file of this folder")
        if problem := problem_of(path / name, listing.get(name)):
            raise Damaged(path / name, problem)
    return list(listing)


def remove_directory(path: Path) -> None:
    """Delete a directory so that no half of it can be taken for a whole one: it loses its name first."""
    if path.exists():
        doomed = path.parent / f".tmp-{os.getpid()}-gone-{path.name}"
        os.replace(path, doomed)
        sync(path.parent)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Delete what killed processes left half-written in `parent`, and what had stepped aside for something that is there."""
    for leftover in parent.glob(".tmp-*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    for aside in parent.glob("step-*.old"):
        if aside.with_name(aside.name.removesuffix(".old")).exists():
            remove_directory(aside)


def step_of(path: Path) -> int | None:
    """The step in the name of a step directory; None for another name."""
    digits = path.name.removesuffix(".old").removeprefix("step-")
    named = path.name.startswith("step-") and digits.isdecimal() and digits.isascii()
    return int(digits) if named else None


def newest_first(parent: Path) -> list[Path]:
    """The step directories of a run, latest first. One that had stepped aside counts if nothing took its place."""
    found = {}
    for path in sorted(parent.glob("step-*"), reverse=True):  # "step-000123.old" comes before "step-000123"
        if (step := step_of(path)) is not None:
            found[step] = path
    return [found[step] for step in sorted(found, reverse=True)]
