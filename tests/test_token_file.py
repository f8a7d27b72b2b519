"""Token files: what is read is what was written, ids never wrap, and a file that is broken or foreign is one clear error."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.text.bpe import BPETokenizer
from minilm.text.token_file import HEADER, encode_corpus, header_line, id_type, open_token_file, verify_token_file
from minilm.text.tokenizer import END_OF_TEXT, ByteTokenizer


class Fake(ByteTokenizer):
    """A tokenizer with as many tokens as one likes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.token_bytes = [*self.token_bytes[:256], *[b"?"] * (size - 257), END_OF_TEXT.encode()]
        self.special_tokens = {END_OF_TEXT: size - 1}


@pytest.mark.parametrize(("size", "width"), [(65535, 2), (65536, 2), (65537, 4)])
def test_ids_never_wrap(size: int, width: int, tmp_path: Path) -> None:
    data = encode_corpus(["é", "ab"], Fake(size), tmp_path / "x.tokens")
    assert id_type(size).itemsize == width == data.ids.dtype.itemsize
    assert data.ids.tolist() == [size - 1, 0xC3, 0xA9, size - 1, 97, 98]
    assert (data.n_tokens, data.n_documents, data.n_bytes) == (6, 2, 4)


def test_token_files_are_checked(tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "x.tokens", ByteTokenizer()
    written = encode_corpus(iter(["a😀", "", "b\r\n"]), tokenizer, path)
    memory = encode_corpus(["a😀", "", "b\r\n"], tokenizer)
    assert np.array_equal(written.ids, memory.ids) and (written.n_bytes, written.n_documents) == (8, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tokens"]
    with pytest.raises(ValueError, match="another tokenizer"):
        open_token_file(path, BPETokenizer([]))
    whole = path.read_bytes()
    assert json.loads(whole[:HEADER])["n_tokens"] == 11
    for broken, said in (
        (whole[:-1], "its header says"),
        (whole + b"\0", "its header says"),
        (b"[]".ljust(HEADER - 1) + b"\n" + whole[HEADER:], "not a token file"),
        (whole[:100], "not a token file"),
        (b"hello", "not a token file"),
        (b"", "not a token file"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=said):
            open_token_file(path, tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 0},
        {"vocab_size": -1},
        {"vocab_size": 257.0},
        {"vocab_size": True},
        {"vocab_size": 70_000},  # which would need four bytes an id
        {"n_tokens": -4},
        {"n_documents": -1},
        {"n_bytes": "4"},
        {"dtype": "<u4"},
        {"magic": "minilm-tokens-1"},
        {"n_bytes": None},
        {"ids_sha256": None},
        {"fingerprint": 5},
    ],
    ids=str,
)
def test_a_header_that_cannot_be_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.tokens"
    encode_corpus(["kept"], ByteTokenizer(), path)
    content = path.read_bytes()
    header = {**json.loads(content[:HEADER]), **change}
    del header["fields_sha256"]
    path.write_bytes(header_line(header) + content[HEADER:])  # its own sum fits
    with pytest.raises(ValueError, match=r"x\.tokens is not a token file of this version, or was changed: encode"):
        open_token_file(path)


def test_an_empty_corpus_is_a_file_without_ids(tmp_path: Path) -> None:
    data = encode_corpus([], ByteTokenizer(), tmp_path / "x.tokens")
    assert (data.n_tokens, data.n_documents, data.n_bytes, data.vocab_size) == (0, 0, 0, 257)
    assert encode_corpus([], ByteTokenizer()).ids.tolist() == [] == data.ids.tolist()


class Forgetful(ByteTokenizer):
    def encode(self, text: str) -> list[int]:
        return [byte for byte in text.encode() if byte < 128]


def test_a_tokenizer_that_loses_text_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.tokens"
    before = encode_corpus(["kept"], ByteTokenizer(), path).ids.tolist()
    with pytest.raises(ValueError, match="does not give back"):
        encode_corpus(["fine", "lost: é"], Forgetful(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tokens"]
    assert open_token_file(path).ids.tolist() == before


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.nightly)])
def test_every_flipped_bit_is_found(every: int, tmp_path: Path) -> None:
    """In the line, its blanks and the newline included, and in every id."""
    path, tokenizer = tmp_path / "x.tokens", ByteTokenizer()
    encode_corpus(["What is not there cannot be lost.", "é" * 20], tokenizer, path)
    whole = path.read_bytes()
    assert verify_token_file(path, tokenizer).ids.tolist() == open_token_file(path).ids.tolist()
    for bit in range(0, 8 * len(whole), every):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"x\.tokens .*: encode the corpus again") as caught:
            verify_token_file(path)
        assert "\n" not in str(caught.value)
        if bit < 8 * HEADER:  # opening does not read the ids
            with pytest.raises(ValueError, match="not a token file"):
                open_token_file(path)
        else:
            assert open_token_file(path).n_tokens == 75


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.tokens"
    encode_corpus(["short"], ByteTokenizer(), path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x\.tokens .*: encode the corpus again"):
            open_token_file(path)


def test_the_sum_is_that_of_the_ids(tmp_path: Path) -> None:
    data = encode_corpus(["one", "two"], ByteTokenizer(), tmp_path / "x.tokens")
    header = json.loads((tmp_path / "x.tokens").read_bytes()[:HEADER])
    assert header["ids_sha256"] == hashlib.sha256(data.ids.tobytes()).hexdigest()
    assert (tmp_path / "x.tokens").read_bytes()[HEADER - 1 : HEADER] == b"\n"
