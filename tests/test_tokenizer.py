"""Tokenizers against naive ones: the same merges, the same ids, and every text comes back."""

import itertools
import json
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import regex

from minilm.text.bpe import GPT2_PATTERN, BPETokenizer
from minilm.text.bpe_train import train_bpe
from minilm.text.stories import stories
from minilm.text.token_file import HEADER, encode_corpus, id_type, open_token_file
from minilm.text.tokenizer import END_OF_TEXT, ByteTokenizer, CharTokenizer, StreamDecoder, load_tokenizer

ALPHABET = [
    "a",
    "b",
    "ab",
    "the",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "é",
    "e\u0301",
    "中",
    "😀",
    "1",
    "23",
    "'s",
    "_",
    "\ue000",
    END_OF_TEXT,
]


def fuzz(rng: random.Random, most: int = 30) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(most)))


def naive_train(documents, n_merges):
    """Count every pair anew for each merge."""
    words = [list(piece.encode()) for text in documents for piece in regex.findall(GPT2_PATTERN, text)]
    spelling, merges = [bytes([i]) for i in range(256)], []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        fresh = {p: n for p, n in counts.items() if spelling[p[0]] + spelling[p[1]] not in spelling}
        if not fresh:
            break
        best = min(fresh, key=lambda pair: (-fresh[pair], pair))
        merges.append(best)
        spelling.append(spelling[best[0]] + spelling[best[1]])
        words = [naive_merge(word, best, len(spelling) - 1) for word in words]
    return merges


def naive_merge(word, pair, token):
    out = []
    while word:
        hit = tuple(word[:2]) == pair
        out.append(token if hit else word[0])
        word = word[2:] if hit else word[1:]
    return out


def naive_encode(tokenizer, text):
    """Merge the two neighbours that make the lowest token, the leftmost first, and look at everything again."""
    ids = []
    for piece in regex.findall(GPT2_PATTERN, text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while True:
            made = [(tokenizer.ranks.get(a + b, 10**9), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
            if not made or min(made)[0] == 10**9:
                break
            i = min(made)[1]
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [tokenizer.ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module")
def trained():
    text = list(stories(150, seed=2)) + [fuzz(random.Random(i), 60) for i in range(80)] * 3
    return [BPETokenizer.train(text, size) for size in (300, 700, 2000)]


def test_merges_are_those_of_a_naive_trainer():
    rng = random.Random(4)
    for _ in range(120):
        documents = [fuzz(rng, 25) for _ in range(rng.randrange(1, 6))]
        n = rng.randrange(1, 40)
        assert train_bpe(documents, n, GPT2_PATTERN) == naive_train(documents, n)
    assert train_bpe(["ba ab ba ab"], 1, GPT2_PATTERN) == [(32, 97)] == naive_train(["ba ab ba ab"], 1)  # a tie


def test_fast_readable_and_naive_encoders_agree(trained):
    rng = random.Random(5)
    for number in range(20_000):
        tokenizer, text = trained[number % 3], fuzz(rng)
        ids = tokenizer.encode(text)
        assert ids == tokenizer.encode_readable(text) == naive_encode(tokenizer, text)
        assert tokenizer.decode(ids) == text
        assert max(ids, default=0) < tokenizer.end_of_text  # no text makes a special token


@pytest.mark.parametrize("text", ["a", " ", "\n", "ab", "é"])
def test_runs_of_every_length(trained, text):
    for n in range(1, 131):
        assert trained[1].encode(text * n) == naive_encode(trained[1], text * n)


@pytest.mark.parametrize("text", ["a", " ", "ab", "_"])
def test_long_pieces_finish(trained, text):
    ids = trained[1].encode(text * 50_000)
    assert trained[1].decode(ids) == text * 50_000
    assert trained[1].encode("the " + text * 500) == naive_encode(trained[1], "the " + text * 500)


def test_sizes_and_specials(trained):
    tokenizer = BPETokenizer.train(["ab ab abc"], 260, (END_OF_TEXT, "<|user|>"))
    assert tokenizer.vocab_size == 260 == len(tokenizer.token_bytes)
    assert tokenizer.special_tokens == {END_OF_TEXT: 258, "<|user|>": 259}
    assert tokenizer.token_bytes[256:258] == [b"ab", b" ab"]
    for text in ("<|user|>", "x<|endoftext|>y<|user|>"):
        assert not {258, 259} & set(tokenizer.encode(text))
    assert BPETokenizer.train([], 400).vocab_size == 257 == BPETokenizer.train(["x"], 400).vocab_size
    with pytest.raises(ValueError, match="vocab_size is 256"):
        BPETokenizer.train(["ab"], 256)


@pytest.mark.parametrize(
    ("merges", "said"), [([(97, 300)], "does not exist yet"), ([(97, 98), (97, 98)], "two merges make the same")]
)
def test_impossible_merges(merges, said):
    with pytest.raises(ValueError, match=said):
        BPETokenizer(merges)


def test_training_does_not_depend_on_order_or_hash_seeds(subprocess_env):
    lines = [text for text in stories(30, seed=6)]
    assert BPETokenizer.train(lines, 400) == BPETokenizer.train(lines[::-1], 400)
    code = (
        "from minilm.text.bpe import BPETokenizer; from minilm.text.stories import stories;"
        "print(BPETokenizer.train(stories(30, 6), 400).fingerprint)"
    )
    for seed in ("0", "3"):
        env = {**subprocess_env, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == BPETokenizer.train(lines, 400).fingerprint


def test_streams_never_split_a_character(trained):
    rng = random.Random(9)
    for tokenizer in (*trained, ByteTokenizer()):
        for _ in range(150):
            text = fuzz(rng)
            decoder = StreamDecoder(tokenizer)
            pieces = [decoder.feed(i) for i in tokenizer.encode(text)]
            assert "".join([*pieces, decoder.flush()]) == text
            assert "\ufffd" not in "".join(pieces)
    decoder = StreamDecoder(ByteTokenizer())
    assert (decoder.feed(0xF0), decoder.flush()) == ("", "\ufffd")


def test_saved_and_loaded(trained, tmp_path):
    for tokenizer in (trained[0], ByteTokenizer(), CharTokenizer.train(["hé\n", "😀"])):
        tokenizer.save(tmp_path / "t.json")
        again = load_tokenizer(tmp_path / "t.json")
        assert again == tokenizer and again.fingerprint == tokenizer.fingerprint
        assert again.encode("h😀" if tokenizer.kind == "char" else "hello 😀") == tokenizer.encode(
            "h😀" if tokenizer.kind == "char" else "hello 😀"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    hostile = (
        '{"kind": []}',
        '{"kind": "char", "characters": ["a", "b"]}',
        '{"kind": "bpe", "pattern": "a", "specials": ["<|endoftext|>"], "merges": [[97.9, 98]]}',
        '{"kind": "bpe", "pattern": "a", "specials": ["<|endoftext|>"], "merges": [[Infinity, 98]]}',
        "[" * 100_000,
    )
    for content in (
        *hostile,
        "",
        "{",
        "[]",
        '{"kind": "word"}',
        '{"kind": "bpe"}',
        '{"kind": "char", "characters": "ba"}',
    ):
        (tmp_path / "bad.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"bad\.json is not a tokenizer file"):
            load_tokenizer(tmp_path / "bad.json")


def test_characters_and_bytes():
    tokenizer = CharTokenizer.train(["ab", "b中"])
    assert tokenizer.encode("b中a") == [1, 2, 0] and tokenizer.vocab_size == 4
    with pytest.raises(ValueError, match=r"'x' \(U\+0078\)"):
        tokenizer.encode("ax")
    assert ByteTokenizer().encode("é\r\n") == [0xC3, 0xA9, 13, 10]
    for kind in (ByteTokenizer(), BPETokenizer([])):
        with pytest.raises(ValueError, match="lone surrogate at character 1"):
            kind.encode("a\ud800")
        with pytest.raises(ValueError, match="the tokenizer knows"):
            kind.decode([257])


class Fake(ByteTokenizer):
    """A tokenizer with as many tokens as one likes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.token_bytes = [*self.token_bytes[:256], *[b"?"] * (size - 257), END_OF_TEXT.encode()]
        self.special_tokens = {END_OF_TEXT: size - 1}


@pytest.mark.parametrize(("size", "width"), [(65535, 2), (65536, 2), (65537, 4)])
def test_ids_never_wrap(size, width, tmp_path):
    data = encode_corpus(["é", "ab"], Fake(size), tmp_path / "x.tokens")
    assert id_type(size).itemsize == width == data.ids.dtype.itemsize
    assert data.ids.tolist() == [size - 1, 0xC3, 0xA9, size - 1, 97, 98]
    assert (data.n_tokens, data.n_documents, data.n_bytes) == (6, 2, 4)


def test_token_files_are_checked(tmp_path):
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
        (whole[:100], "not a token file"),
        (b"hello", "not a token file"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=said):
            open_token_file(path, tokenizer)


class Forgetful(ByteTokenizer):
    def encode(self, text: str) -> list[int]:
        return [byte for byte in text.encode() if byte < 128]


def test_a_tokenizer_that_loses_text_is_refused_and_nothing_is_left(tmp_path):
    path = tmp_path / "x.tokens"
    before = encode_corpus(["kept"], ByteTokenizer(), path).ids.tolist()
    with pytest.raises(ValueError, match="does not give back"):
        encode_corpus(["fine", "lost: é"], Forgetful(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tokens"]
    assert open_token_file(path).ids.tolist() == before
