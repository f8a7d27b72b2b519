"""Files as documents: text of every kind comes as it is, in little memory, and what cannot be read gives one line."""

import gzip
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from minilm.text import documents as documents_module
from minilm.text.corpus import Corpus, load_corpus
from minilm.text.documents import CorpusError, cut_point, read_pieces

ROOT = Path(__file__).resolve().parents[1]
LINES = "To be, or not to be: that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 40
TEXTS = {
    "lines": LINES,
    "CR LF": LINES.replace("\n", "\r\n"),
    "one line": LINES.replace("\n", " "),
    "no blank at all": "abcdefghij" * 50,
    "Chinese": "天地玄黃宇宙洪荒日月盈昃辰宿列張" * 30,
    "Chinese lines": "天地玄黃,宇宙洪荒。\n" * 40,
    "emoji": "😀🎉👩‍👩‍👧" * 49,  # the cut falls into the first character of a piece of 52 bytes
    "tabs": "a\tbb\tccc\t" * 99,
    "CR alone": LINES.replace("\n", "\r"),
    "blank lines": "\n" * 300,
    "a long last line": "short\n" * 20 + "word " * 200,
    "no line end at the end": LINES.rstrip(),
    "CR LF only": "\r\n" * 123,
    "200 bytes": "ab cd\n" * 33 + "xy",
}


def n_bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8")) for text in texts)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_large_files_come_in_pieces(name: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXTS[name]
    data = text.encode("utf-8")
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    monkeypatch.setattr(documents_module, "WHOLE_BYTES", len(data))
    assert list(read_pieces(path, len(data))) == [text]
    monkeypatch.setattr(documents_module, "WHOLE_BYTES", len(data) - 1)
    monkeypatch.setattr(documents_module, "BLOCK_BYTES", 23)
    for limit in range(41, 62):
        monkeypatch.setattr(documents_module, "PIECE_BYTES", limit)
        pieces = list(read_pieces(path, len(data)))
        assert "".join(pieces) == text
        assert all(limit // 2 <= n_bytes([piece]) <= limit for piece in pieces[:-1])
        assert 0 < n_bytes(pieces[-1:]) <= limit
        corpus = load_corpus(path)
        train, validation = list(corpus.train), list(corpus.validation)
        assert "".join(train + validation) == text and all(train + validation)
        assert 0.1 - 1 / len(data) <= n_bytes(validation) / len(data) <= 0.2


@pytest.mark.parametrize("name", TEXTS)
def test_one_file_gives_its_last_tenth(name: str, tmp_path: Path) -> None:
    text = TEXTS[name]
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("utf-8"))
    corpus = load_corpus(str(path))
    (train,), (validation,) = corpus.train, corpus.validation
    assert train + validation == text  # byte for byte: every line end is as it was
    share = n_bytes([validation]) / n_bytes([text])
    assert 0.1 - 1 / n_bytes([text]) <= share <= 0.2
    assert not (train.endswith("\r") and validation.startswith("\n"))
    if text.count("\n") > 20:
        assert train.endswith("\n")
    assert list(corpus.train) == [train] and list(corpus.validation) == [validation]  # read again: the same


def test_gz_bom_and_json_lines_hold_the_same_text(tmp_path: Path) -> None:
    text = TEXTS["CR LF"] + "naïve 中文 😀\r\n"
    plain, marked, packed = tmp_path / "a.txt", tmp_path / "b.md", tmp_path / "c.txt.gz"
    plain.write_bytes(text.encode("utf-8"))
    marked.write_bytes(b"\xef\xbb\xbf" + text.encode("utf-8"))
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode("utf-8")))
    lines = tmp_path / "d.jsonl"
    line = json.dumps({"id": 1, "text": text}, ensure_ascii=False)
    lines.write_bytes(b"\xef\xbb\xbf\r\n" + line.encode("utf-8") + b"\r\n\r\n")
    packed_lines = tmp_path / "e.jsonl.gz"
    packed_lines.write_bytes(gzip.compress(json.dumps({"text": text}).encode() + b'\n{"text": ""}'))
    expected = [list(side) for side in (load_corpus(plain).train, load_corpus(plain).validation)]
    assert "".join(expected[0] + expected[1]) == text
    for path in (marked, packed, lines, packed_lines):
        corpus = load_corpus(path)
        assert [list(corpus.train), list(corpus.validation)] == expected, path


def test_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    wanted = {"one.txt": "1", "deep/two.md": "2", "deep/er/three.txt.gz": "3", "four.jsonl": "4", "five.jsonl.gz": "5"}
    for name, mark in wanted.items():
        data = (mark * 9 + "\n") * 50
        if "jsonl" in name:
            data = json.dumps({"text": data}) + "\n"
        (tmp_path / name).write_bytes(gzip.compress(data.encode()) if name.endswith(".gz") else data.encode())
    for name in ("photo.png", ".git/six.txt", ".hidden.txt", "seven.tar.gz"):
        (tmp_path / name).write_bytes(b"\0 not text")
    (tmp_path / "empty.txt").write_bytes(b"")

    def marks(corpus: Corpus) -> list[str]:
        return [document[0] for document in corpus.train]

    assert sorted(marks(load_corpus(tmp_path))) == list("12345")
    assert sorted(marks(load_corpus(str(tmp_path / "*.txt")))) == ["1"]
    assert sorted(marks(load_corpus(str(tmp_path / "**" / "*.txt*")))) == ["1", "3"]
    (tmp_path / "odd[1].txt").write_bytes(b"7777777\n" * 50)  # a name that looks like a pattern
    assert marks(load_corpus(tmp_path / "odd[1].txt")) == ["7"]


def test_the_c_locale_changes_nothing(tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXTS["Chinese lines"].encode("utf-8"))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "中文\n" * 200}))
    program = (
        "import sys; from minilm.text.corpus import load_corpus\n"
        f"for path in {[str(path), str(tmp_path / 'b.jsonl')]!r}:\n"
        "    corpus = load_corpus(path); print(ascii(next(iter(corpus.validation))[:3]))"
    )
    env = {**subprocess_env, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == [ascii("天地玄"), ascii("中文\n")], done.stderr


def test_memory_stays_flat(tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    """60 MB of text, plain, packed and as JSON lines, are loaded and read in less than 80 MB beyond the imports."""
    block = "".join(f"{i * 7919 % 10_007} wenn das Wörtchen wäre\n" for i in range(40_000))  # 1.2 MB
    with (
        open(tmp_path / "a.txt", "w", encoding="utf-8") as plain,
        gzip.open(tmp_path / "b.txt.gz", "wt", compresslevel=1, encoding="utf-8") as packed,
        open(tmp_path / "c.jsonl", "w", encoding="utf-8") as lines,
    ):
        for i in range(60_000_000 // n_bytes([block]) + 1):
            plain.write(block)
            packed.write(block)
            for j in range(0, len(block), 9_973):
                lines.write(json.dumps({"text": f"{i} {block[j : j + 9_973]}"}) + "\n")
    program = """
import re, resource, sys
from pathlib import Path
from minilm.text.corpus import load_corpus

def peak():  # MB. On Linux ru_maxrss begins at the parent's size, so a large parent would hide every growth.
    if sys.platform == "linux":
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

load_corpus("stories:20")
before = peak()
for path in sys.argv[1:]:
    corpus = load_corpus(path)
    sizes = [sum(len(text.encode()) for text in side) for side in (corpus.train, corpus.validation)]
    print(round(peak() - before), *sizes)
"""
    paths = [str(tmp_path / name) for name in ("a.txt", "b.txt.gz", "c.jsonl")]
    env = {**subprocess_env, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, *paths], env=env, capture_output=True, text=True, timeout=120)
    rows = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == 3, done.stderr
    assert rows[0][0] > 1  # the peak is seen to grow by a piece or more
    for growth, train, validation in rows:
        assert train + validation >= 60_000_000 and 0.1 <= validation / (train + validation) <= 0.11
        assert growth <= 80


@pytest.mark.parametrize("seed", range(30))
def test_cut_point_against_trying_every_place(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        alphabet = rng.choice(["ab\n", "ab \t", "é中😀", "a\r\n", "\r\n", "中 \n"])
        data = "".join(rng.choices(alphabet, k=rng.randint(9, 40))).encode("utf-8")
        low = rng.randint(0, len(data) - 8)
        high = rng.randint(low + 5, len(data) - 1)

        def after(marks: bytes, data: bytes = data, low: int = low, high: int = high) -> list[int]:
            return [i for i in range(low + 1, high + 1) if data[i - 1] in marks]

        whole = [i for i in range(high + 1) if i == len(data[:i].decode("utf-8", "ignore").encode("utf-8"))]
        apart = [i for i in whole if data[i - 1 : i + 1] != b"\r\n"]
        assert cut_point(data, low, high) == max(after(b"\n") or after(b" \t") or apart)


BAD_FILES = {
    "empty.txt": (b"", "holds 0 bytes"),
    "bom.txt": (b"\xef\xbb\xbf", "holds 0 bytes"),
    "tiny.txt": (b"x" * 199, "holds 199 bytes of text: give at least 200"),
    "photo.txt": (b"\x89PNG" + b"a" * 900, "not UTF-8 (byte 0x89 at offset 0)"),
    "binary.txt": (b"a" * 94 + b"\0" + b"a" * 900, "a zero byte at offset 94"),
    "utf16.txt": (LINES.encode("utf-16-le"), "zero byte at offset 1"),
    "latin1.txt": (b"a" * 333 + "é".encode("latin-1") + b"b" * 99, "not UTF-8 (byte 0xe9 at offset 333)"),
    "cut.txt": (("a" * 500 + "中").encode("utf-8")[:-1], "not UTF-8 (byte 0xe4 at offset 500)"),
    "surrogate.txt": (b"a" * 300 + b"\xed\xa0\x80", "not UTF-8 (byte 0xed at offset 300)"),
    "cut.txt.gz": (gzip.compress(os.urandom(2_000).hex().encode())[:-300], "damaged"),
    "flipped.txt.gz": (gzip.compress(LINES.encode())[:-6] + b"\1\2\3\4\5\6", "damaged"),
    "plain.txt.gz": (LINES.encode(), "not packed by gzip"),
    "broken.jsonl": (b'{"text": "' + b"a" * 300 + b'"}\n\n{"text": "b', "line 3 of"),
    "list.jsonl": (b'["text"]\n', "line 1 of"),
    "number.jsonl": (b'{"text": "a"}\n{"text": 7}\n', "line 2 of"),
    "null.jsonl": (b'{"text": null}\n', "line 1 of"),
    "other.jsonl": (b'{"content": "a"}\n', "line 1 of"),
    "half.jsonl": (b'{"text": "\\ud83d"}\n', "line 1 of"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "line 1 of"),
    "deep.jsonl": (b"[" * 200_000 + b"\n", "line 1 of"),
    "nothing.jsonl": (b'\n\n{"text": ""}\n', "holds 0 bytes"),
    "cut.jsonl.gz": (gzip.compress(os.urandom(2_000).hex().encode())[:-300], "damaged"),
}


@pytest.mark.parametrize("block", [1 << 20, 7])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "BLOCK_BYTES", block)
    if name == "deep.jsonl" and block == 7:
        block = 4096  # a long line in tiny blocks only takes long
        monkeypatch.setattr(documents_module, "BLOCK_BYTES", block)
    data, reason = BAD_FILES[name]
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(CorpusError, match=re.escape(reason)) as error:
        load_corpus(name)
    assert name in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) <= 200
    with pytest.raises(CorpusError):  # in a folder of good files as well; what is empty there does not count
        Path("good.md").write_text("" if reason.startswith("holds") else LINES)
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.txt", "check the path"),
        ("shakespear", "use shakespeare"),
        ("", "no text file matches"),
        ("*.nothing", "check the pattern"),
        ("folder", "put files that end in"),
        ("pipe", "neither a file nor a folder"),
        ("a\0b", "check the path"),
        ("x" * 5_000, "check the path"),
        ("two\nlines", r"two\nlines"),
        ("stories:", "from 1 to"),
        ("stories:0", "from 1 to"),
        ("stories:-5", "from 1 to"),
        ("stories:1e3", "from 1 to"),
        ("stories:²", "from 1 to"),
        ("stories:99999999", "from 1 to"),
    ],
)
def test_bad_names(name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    with pytest.raises(CorpusError, match=re.escape(reason)) as error:
        load_corpus(name)
    assert "\n" not in str(error.value) and len(str(error.value)) <= 200


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text(LINES)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CorpusError, match=r"cannot read .*a\.txt.*Permission denied.*check"):
        load_corpus(tmp_path)
