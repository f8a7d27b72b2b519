"""Byte-pair encoding against a trainer and an encoder that look at everything again after every merge."""

import doctest
import importlib
import multiprocessing
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from bpe_fuzz import GPT2, fuzz, naive_encode, naive_train, naive_words

from minilm.text import bpe, bpe_pieces
from minilm.text.bpe import GPT2_PATTERN, BPETokenizer, encode_piece
from minilm.text.bpe_merge import merge_long, merge_short
from minilm.text.bpe_pieces import GPT2_ASCII, count_pieces, cutter
from minilm.text.bpe_train import Merge, Pair, learn_merges, trace_merges, train_bpe
from minilm.text.stories import stories
from minilm.text.tokenizer import END_OF_TEXT

CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)


@pytest.mark.parametrize("name", ["bpe", "bpe_merge", "bpe_pieces", "bpe_train"])
def test_the_examples_in_the_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"minilm.text.{name}")).failed == 0


@pytest.fixture(scope="module")
def trained() -> list[BPETokenizer]:
    text = list(stories(150, seed=2)) + [fuzz(random.Random(i), 60) for i in range(80)] * 3
    return [BPETokenizer.train(text, size) for size in (300, 700, 2000)]


# ---- training


def spelled(merges: list[Pair]) -> list[tuple[bytes, bytes]]:
    """Merges of ids as merges of byte strings."""
    token_bytes = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        token_bytes.append(token_bytes[left] + token_bytes[right])
    assert len(set(token_bytes)) == len(token_bytes)  # two pairs never make the same token
    return [(token_bytes[left], token_bytes[right]) for left, right in merges]


def corpus(rng: random.Random) -> list[str]:
    """Documents full of ties: few letters, runs of one letter, and every document twice."""
    letters = rng.choice(("ab", "abc", "aab ", "aé ", "a\n b"))
    documents = ["".join(rng.choice(letters) for _ in range(rng.randrange(1, 25))) for _ in range(rng.randrange(1, 6))]
    return [fuzz(rng, 25), *documents, *documents] if rng.random() < 0.5 else documents * 2


def test_merges_are_those_of_a_naive_trainer() -> None:
    rng = random.Random(4)
    stopped = 0
    for _ in range(300):
        documents, n = corpus(rng), rng.randrange(1, 60)
        words = naive_words(documents)
        wanted = naive_train(words, n)
        merges = train_bpe(documents, n, GPT2_PATTERN)
        assert spelled(merges) == [(left, right) for left, right, _ in wanted]
        assert learn_merges([b"".join(word) for word in words], [1] * len(words), n) == merges
        stopped += len(merges) < n
    assert 30 < stopped < 270  # some corpora run out of pairs, some do not


def test_among_equals_the_last_in_the_alphabet_wins() -> None:
    assert train_bpe(["ba ab ba ab"], 1, GPT2_PATTERN) == [(ord("b"), ord("a"))]  # as often: " b", " a", "ab"
    # The left part decides first: "b" before "ab" before "a". And by spelling: "b" is a smaller id than the token "ab".
    assert spelled(train_bpe(["ab ab ab c1ab d1ab abc abd"], 4, r"\p{L}+|\p{N}| "))[1:3] == [
        (b"ab", b"d"),
        (b"ab", b"c"),
    ]


def test_every_merge_is_told_with_its_count_and_its_bytes() -> None:
    rng = random.Random(11)
    for least in (1, 2, 3, 7):
        documents = [fuzz(rng, 40) for _ in range(20)] + list(stories(3, seed=least))
        steps: list[Merge] = []
        merges = train_bpe(documents, 150, GPT2_PATTERN, least, on_merge=steps.append)
        wanted = naive_train(naive_words(documents), 150, least)
        assert [(*step.parts, step.count) for step in steps] == wanted
        assert [(step.left, step.right) for step in steps] == merges
        assert [step.token for step in steps] == list(range(256, 256 + len(steps)))


def test_counts_have_no_upper_limit() -> None:
    huge = 3 * 2**62  # more than any machine integer
    steps = list(trace_merges({"ab": huge + 1, "cd": huge, "cde": 2, "f": 9}))
    assert [(step.parts, step.count) for step in steps] == [
        ((b"c", b"d"), huge + 2),
        ((b"a", b"b"), huge + 1),
        ((b"cd", b"e"), 2),
    ]
    assert learn_merges([b"ab", b"cd", b"cde", b"f"], [huge + 1, huge, 2, 9], 2) == [(99, 100), (97, 98)]


def test_texts_without_a_pair() -> None:
    for documents in ([], [""], ["a"], ["\n", "1"], ["", "é a"]):
        words = [b"".join(word) for word in naive_words(documents)]
        pairs = 2 if "é a" in documents else 0  # the bytes of é, and the blank before a
        assert len(train_bpe(documents, 5, GPT2_PATTERN)) == pairs == len(learn_merges(words, [1] * len(words), 5))
    assert BPETokenizer.train([], 400).vocab_size == 257 == BPETokenizer.train(["x"], 400).vocab_size
    assert BPETokenizer.train(["ab ab"], 400, min_frequency=2).merges == [(97, 98)]


def test_sizes_and_specials() -> None:
    tokenizer = BPETokenizer.train(["ab ab abc"], 260, (END_OF_TEXT, "<|user|>"))
    assert tokenizer.vocab_size == 260 == len(tokenizer.token_bytes)
    assert tokenizer.special_tokens == {END_OF_TEXT: 258, "<|user|>": 259}
    assert tokenizer.token_bytes[256:258] == [b"ab", b" ab"]
    with pytest.raises(ValueError, match="vocab_size is 256"):
        BPETokenizer.train(["ab"], 256)


@pytest.mark.parametrize(
    ("merges", "said"), [([(97, 300)], "does not exist yet"), ([(97, 98), (97, 98)], "two merges make the same")]
)
def test_impossible_merges(merges: list[Pair], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BPETokenizer(merges)


def test_no_token_is_longer_than_a_thousand_bytes() -> None:
    """Neither a file of one letter nor a hostile file of merges fills the memory with tokens that double."""
    tokenizer = BPETokenizer.train(["a" * 100_000], 600)
    assert [len(piece) for piece in tokenizer.token_bytes[256:265]] == [2**n for n in range(1, 10)]
    assert max(map(len, tokenizer.token_bytes)) <= 1000 < 2**10
    assert tokenizer.decode(tokenizer.encode("a" * 5001)) == "a" * 5001
    doubling = [(97, 97), *((256 + i, 256 + i) for i in range(60))]
    with pytest.raises(ValueError, match=r"merge \(264, 264\) makes 1024 bytes: a token has at most 1000"):
        BPETokenizer(doubling)


# ---- pieces, and several processes

SAME_FILE = """
import hashlib, sys
from pathlib import Path
from minilm.text import bpe_pieces
from minilm.text.bpe import BPETokenizer
from minilm.text.stories import stories
bpe_pieces.BATCH, bpe_pieces.ALONE = 2000, 1
if __name__ == "__main__":
    lines = list(stories(60, seed=6))
    for order in (lines, lines[::-1], sorted(lines)):
        for processes in (1, 2):
            BPETokenizer.train(order, 420, processes=processes).save(sys.argv[1])
            print(hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest())
"""


def test_the_same_file_for_every_hash_seed_order_and_number_of_processes(
    subprocess_env: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "same_file.py"
    script.write_text(SAME_FILE, encoding="utf-8")
    hashes: list[str] = []
    for seed in range(10):
        command = [sys.executable, str(script), str(tmp_path / "t.json")]
        env = {**subprocess_env, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.stderr == ""
        hashes += done.stdout.split()
    assert len(hashes) == 60 and len(set(hashes)) == 1


def deal_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, of which all but the first go to other processes."""
    monkeypatch.setattr(bpe_pieces, "BATCH", 300)
    monkeypatch.setattr(bpe_pieces, "ALONE", 1)


def counted(documents: list[str]) -> Counter[str]:
    return Counter(piece for text in documents for piece in regex.findall(GPT2, text))


def test_pieces_are_counted_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    deal_out(monkeypatch)
    documents = [fuzz(random.Random(i), 40) for i in range(200)]
    assert count_pieces(iter(documents), GPT2_PATTERN, 2) == counted(documents)


@pytest.mark.parametrize("pattern", [GPT2_PATTERN, CL100K], ids=["gpt2", "cl100k"])
def test_a_long_document_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setattr(bpe_pieces, "BATCH", 40)
    for seed in range(300):
        document = "".join(fuzz(random.Random(100 * seed + i), 30) for i in range(9))
        parts = list(bpe_pieces.parts_of(document, pattern))
        assert "".join(parts) == document and (len(parts) > 1 or pattern == CL100K)
        assert count_pieces([document], pattern) == Counter(regex.findall(pattern, document))
    assert list(bpe_pieces.parts_of("x" * 500, GPT2_PATTERN)) == ["x" * 500]


def test_a_small_text_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe_pieces, "ProcessPoolExecutor", None)
    monkeypatch.setattr(bpe_pieces, "BATCH", 10)
    documents = ["the cat sat"] * bpe_pieces.ALONE
    assert count_pieces(documents, GPT2_PATTERN, 2) == counted(documents)
    with pytest.raises(TypeError):  # one document more would start them
        count_pieces([*documents, "sat"], GPT2_PATTERN, 2)


def test_what_a_killed_process_owes_is_counted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    deal_out(monkeypatch)
    documents = [fuzz(random.Random(i), 40) for i in range(100)]
    killed = []

    def killing() -> Iterator[str]:
        for number, document in enumerate(documents):
            if number == 60:
                killed.append(multiprocessing.active_children()[0])
                killed[0].terminate()
            yield document

    assert count_pieces(killing(), GPT2_PATTERN, 2) == counted(documents)
    assert killed


@pytest.mark.parametrize("error", [OSError(11, "no more processes"), BrokenProcessPool("died"), None])
def test_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    class Pool:
        def __init__(self, *arguments: object) -> None:
            self.calls = 0

        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *arguments: object) -> None:
            pass

        def submit(self, *arguments: object) -> "Future[object]":
            if error is not None:
                raise error
            future: Future[object] = Future()
            future.set_exception(BrokenProcessPool("died later"))
            return future

    deal_out(monkeypatch)
    monkeypatch.setattr(bpe_pieces, "ProcessPoolExecutor", Pool)
    documents = [fuzz(random.Random(i), 40) for i in range(60)]
    assert count_pieces(documents, GPT2_PATTERN, 2) == counted(documents)


def test_pieces_are_those_of_gpt2() -> None:
    rng = random.Random(17)
    plain = 0
    cut = cutter(GPT2_PATTERN)
    for _ in range(5000):
        text = fuzz(rng)
        assert cut(text) == regex.findall(GPT2, text)
        plain += text.isascii() and len(text) > 5
    assert plain > 100 and GPT2_ASCII != GPT2_PATTERN
    for a in map(chr, range(128)):  # every three ASCII characters of which the middle one is any, and every pair
        for b in map(chr, range(128)):
            for text in (a + b, f"x{a}{b}y", f" {a}{b} ", f"'{a}{b}", f"{a}  {b}1"):
                assert cut(text) == regex.findall(GPT2, text)


def test_what_a_pattern_does_not_match_is_kept() -> None:
    assert cutter("[a-c]+|1")("zzab11 \nc") == ["zz", "ab", "1", "1", " \n", "c"]
    tokenizer = BPETokenizer.train(["abab zz zz"], 262, pattern="[a-c]+|1")
    assert tokenizer.decode(tokenizer.encode("zzab11 \nc")) == "zzab11 \nc"
    for pattern, said in (("(a)", "groups"), ("a*", "empty"), ("(", "is not a pattern"), ("a)|(b", "is not a pattern")):
        with pytest.raises(ValueError, match=said):
            train_bpe(["ab"], 1, pattern)


# ---- encoding


@pytest.mark.parametrize("n", [20_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_fast_readable_and_naive_encoders_agree(trained: list[BPETokenizer], n: int) -> None:
    rng = random.Random(5)
    for number in range(n):
        tokenizer, text = trained[number % 3], fuzz(rng)
        ids = tokenizer.encode(text)
        assert ids == tokenizer.encode_readable(text) == naive_encode(tokenizer.token_bytes[:-1], text)
        assert tokenizer.decode(ids) == text
        assert max(ids, default=0) < tokenizer.end_of_text  # no text makes a special token


@pytest.mark.parametrize("n", [100_000, pytest.param(5_000_000, marks=pytest.mark.nightly)])
def test_what_is_encoded_comes_back(trained: list[BPETokenizer], n: int) -> None:
    rng = random.Random(8)
    for number in range(n):
        text = fuzz(rng)
        tokenizer = trained[number % 3]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_all_ways_to_merge_a_piece_agree(trained: list[BPETokenizer]) -> None:
    rng = random.Random(6)
    for number in range(3000):
        tokenizer = trained[number % 2]
        piece = "".join(rng.choice("aabbthe Over'_é") for _ in range(rng.randrange(20))).encode()
        wanted = encode_piece(piece, tokenizer.merges)
        assert merge_short(piece, tokenizer.made) == merge_long(piece, tokenizer.made) == wanted
        assert wanted == naive_encode(tokenizer.token_bytes[:-1], piece.decode(), r"(?s:.+)")


def test_merges_that_no_text_has_taught() -> None:
    """Tokens that the merges never reach, and one string by two ways: only the pairs count, in every encoder."""
    rng = random.Random(7)
    strange = 0
    for _ in range(400):
        merges: list[Pair] = []
        known = {b"a", b"b", b"c"}
        token_bytes = {97: b"a", 98: b"b", 99: b"c"}
        while len(merges) < 12:
            pair = (rng.choice(list(token_bytes)), rng.choice(list(token_bytes)))
            joined = token_bytes[pair[0]] + token_bytes[pair[1]]
            if joined not in known:
                known.add(joined)
                token_bytes[256 + len(merges)] = joined
                merges.append(pair)
        tokenizer = BPETokenizer(merges)
        strange += not tokenizer.reachable
        assert (tokenizer.engine is None) == (not tokenizer.reachable)
        for _ in range(10):
            text = "".join(rng.choice("abc") for _ in range(rng.randrange(1, 70)))
            wanted = encode_piece(text.encode(), merges)
            assert tokenizer.encode(text) == tokenizer.encode_readable(text) == wanted
            assert merge_long(text.encode(), tokenizer.made) == merge_short(text.encode(), tokenizer.made) == wanted
    assert 50 < strange < 400


@pytest.mark.parametrize("text", ["a", " ", "\n", "ab", "é", "\t"])
def test_runs_of_every_length(trained: list[BPETokenizer], text: str) -> None:
    for n in range(131):
        assert trained[1].encode(text * n) == naive_encode(trained[1].token_bytes[:-1], text * n)


PATTERNS = ["a", " ", "ab", "_", "\n", "1", "é", "😀", "!\x1c", "the", "\x00", "\u2028"]


@pytest.mark.parametrize("text", PATTERNS, ids=ascii)
def test_long_texts_without_a_gap_finish(trained: list[BPETokenizer], text: str) -> None:
    long = text * (100_000 // len(text))
    ids = trained[1].encode(long)
    assert trained[1].decode(ids) == long
    short = "Over" + text * (600 // len(text.encode()))
    assert trained[1].encode(short) == naive_encode(trained[1].token_bytes[:-1], short)


class Counting(dict[Pair, int]):
    """A table that counts how often it is asked."""

    asked = 0

    def get(self, pair: Pair, default: int | None = None) -> int | None:  # type: ignore[override]
        Counting.asked += 1
        return super().get(pair, default)

    def __contains__(self, pair: object) -> bool:
        Counting.asked += 1
        return super().__contains__(pair)


def test_a_long_piece_takes_steps_in_proportion(trained: list[BPETokenizer]) -> None:
    made = Counting(trained[1].made)
    for text in PATTERNS:
        steps = []
        for n in (20_000, 40_000):
            Counting.asked = 0
            merge_long((text * n).encode()[:n], made)
            steps.append(Counting.asked)
        assert n / 3 < steps[0] < steps[1] < 2.1 * steps[0]


def test_the_engine_gets_no_long_piece(trained: list[BPETokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        longest = calls = 0

        def encode_ordinary(self, text: str) -> list[int]:
            self.calls += 1
            self.longest = max([self.longest, *map(len, regex.findall(GPT2, text))])
            return []

    engine = Engine()
    monkeypatch.setattr(trained[0], "engine", engine)
    rng = random.Random(8)
    for _ in range(1000):
        text = fuzz(rng, 20) + rng.choice(PATTERNS) * rng.randrange(700) + fuzz(rng, 20)
        trained[0].encode(text)
    assert 100 < engine.calls < 900 and 200 < engine.longest < 2 * bpe.BLOCK


@pytest.mark.parametrize("block", [1, 7, 50])
def test_a_stream_is_cut_like_its_text(
    trained: list[BPETokenizer], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(bpe, "STREAM_BLOCK", block)
    rng = random.Random(block)
    custom = BPETokenizer([(10, 32), (256, 32)], pattern=CL100K)  # its pieces hold blanks and line ends together
    for number in range(700):
        text = fuzz(rng, 40)
        borders = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(12)))
        chunks = [text[a:b] for a, b in pairwise([0, *borders, len(text)])]
        for tokenizer in (trained[number % 3], custom):
            assert list(tokenizer.encode_stream(iter(chunks))) == tokenizer.encode_readable(text)
        assert list(trained[0].encode_stream(text)) == trained[0].encode(text)  # a character at a time
        spread = "".join(rng.choice("'lre a \n") for _ in range(30))  # where two patterns look ahead
        for tokenizer in (trained[1], custom):
            for end in range(1, 12):
                chunks = [spread[:end], spread[end:]]
                assert list(tokenizer.encode_stream(chunks)) == tokenizer.encode_readable(spread)
    assert list(trained[0].encode_stream([])) == []


MEMORY = """
import resource, sys
from minilm.text.bpe import BPETokenizer
from minilm.text.stories import stories
lines = list(stories(300, seed=1))
tokenizer = BPETokenizer.train(lines, 500)
def stream(megabytes):
    size = i = 0
    while size < megabytes * 1e6:
        text = lines[i % len(lines)] if i % 30 else "x" * 500 + "中" * 200
        size, i = size + len(text), i + 1
        yield text
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def use(megabytes):
    if sys.argv[1] == "encode":
        return sum(1 for _ in tokenizer.encode_stream(stream(megabytes)))
    return BPETokenizer.train(stream(megabytes), 300).vocab_size
use(3)
before = peak()
used = use(50)
print(used, peak() - before)
"""


@pytest.mark.parametrize(("what", "least"), [("encode", 10_000_000), ("train", 300)])
def test_a_stream_of_any_length_needs_little_memory(subprocess_env: dict[str, str], what: str, least: int) -> None:
    env = {**subprocess_env, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", MEMORY, what], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used, grown = map(int, done.stdout.split())
    assert used >= least
    assert grown <= 32  # MB, while 50 MB of text went by


def test_every_token_and_every_pair_decodes(trained: list[BPETokenizer]) -> None:
    tokenizer = trained[2]
    for i in range(tokenizer.vocab_size):
        assert tokenizer.decode([i]) == tokenizer.token_bytes[i].decode(errors="replace")
    ids = random.Random(3).sample(range(tokenizer.vocab_size), 500)
    for a in ids:
        for b in ids:
            assert tokenizer.decode([a, b]) == (tokenizer.token_bytes[a] + tokenizer.token_bytes[b]).decode(
                errors="replace"
            )
