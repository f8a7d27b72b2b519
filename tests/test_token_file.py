"""Token files: what is read is what was written, ids never wrap, and a file that is broken or foreign is one clear error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.text.bpe import BPETokenizer
from minilm.text.token_file import HEADER, encode_corpus, id_type, open_token_file
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
        {"magic": "minilm-tokens-0"},
        {"n_bytes": None},
    ],
    ids=str,
)
def test_a_header_that_cannot_be_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.tokens"
    encode_corpus(["kept"], ByteTokenizer(), path)
    content = path.read_bytes()
    header = {**json.loads(content[:HEADER]), **change}
    path.write_bytes(json.dumps(header).encode().ljust(HEADER - 1) + b"\n" + content[HEADER:])
    with pytest.raises(ValueError, match=r"x\.tokens is not a token file of this version: encode the corpus again"):
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
