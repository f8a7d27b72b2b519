"""Characters and bytes, streams of tokens, saved tokenizers, and chats: what every tokenizer offers."""

import codecs
import doctest
import importlib
import random
from pathlib import Path

import pytest
from bpe_fuzz import fuzz

from minilm.text.bpe import BPETokenizer
from minilm.text.bpe_renumbered import RenumberedBPE
from minilm.text.chat import CHAT_TOKENS, encode_chat
from minilm.text.stories import stories
from minilm.text.tokenizer import END_OF_TEXT, ByteTokenizer, CharTokenizer, StreamDecoder, Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    text = list(stories(50, seed=2)) + [fuzz(random.Random(i), 60) for i in range(80)] * 3
    return BPETokenizer.train(text, 700)


@pytest.mark.parametrize("name", ["tokenizer", "chat"])
def test_the_examples_in_the_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"minilm.text.{name}")).failed == 0


def test_characters_and_bytes() -> None:
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
        with pytest.raises(ValueError, match="the tokenizer knows"):
            kind.decode([3, -1])


@pytest.mark.parametrize(
    "specials", [(), ("<|user|>",), (END_OF_TEXT, END_OF_TEXT), (END_OF_TEXT, ""), (END_OF_TEXT, 5)]
)
def test_special_tokens_that_cannot_be(specials: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="special tokens"):
        BPETokenizer([], specials)


def whole_characters(data: bytes) -> str:
    """The longest beginning of some bytes that is text."""
    while True:
        try:
            return data.decode()
        except UnicodeDecodeError:
            data = data[:-1]


def test_a_stream_gives_all_whole_characters_at_every_split(trained: BPETokenizer) -> None:
    rng = random.Random(9)
    for number in range(2000):
        tokenizer: Tokenizer = trained if number % 2 else ByteTokenizer()
        text = fuzz(rng, 20)
        decoder, seen, out = StreamDecoder(tokenizer), b"", ""
        for i in tokenizer.encode(text):
            seen += tokenizer.token_bytes[i]
            out += decoder.feed(i)
            assert out == whole_characters(seen)
        assert out == text and decoder.flush() == ""


def test_a_stream_that_is_no_text(trained: BPETokenizer) -> None:
    decoder = StreamDecoder(ByteTokenizer())
    assert (decoder.feed(0xF0), decoder.flush()) == ("", "\ufffd")
    rng = random.Random(10)
    for _ in range(500):
        ids = [rng.randrange(trained.vocab_size) for _ in range(rng.randrange(1, 12))]
        decoder = StreamDecoder(trained)
        out = "".join(map(decoder.feed, ids)) + decoder.flush()
        assert (
            out
            == codecs.decode(b"".join(trained.token_bytes[i] for i in ids), "utf-8", "replace")
            == trained.decode(ids)
        )


def test_saved_and_loaded(trained: BPETokenizer, tmp_path: Path) -> None:
    other = RenumberedBPE(trained, [*range(1, trained.vocab_size), 0])
    for tokenizer in (trained, other, ByteTokenizer(), CharTokenizer.train(["hé\n", "😀"])):
        tokenizer.save(tmp_path / "t.json")
        again = load_tokenizer(tmp_path / "t.json")
        assert again == tokenizer and again.fingerprint == tokenizer.fingerprint and hash(again) == hash(tokenizer)
        assert again.special_tokens == tokenizer.special_tokens and again.token_bytes == tokenizer.token_bytes
        assert again.encode("h😀") == tokenizer.encode("h😀")
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    assert trained != other


BROKEN = [
    '{"kind": []}',
    '{"kind": "char", "characters": ["a", "b"]}',
    '{"kind": "bpe", "pattern": "a", "specials": ["<|endoftext|>"], "merges": [[97.9, 98]]}',
    '{"kind": "bpe", "pattern": "a", "specials": ["<|endoftext|>"], "merges": [[Infinity, 98]]}',
    '{"kind": "bpe", "pattern": 5, "specials": ["<|endoftext|>"], "merges": []}',
    '{"kind": "renumbered bpe", "inner": {"pattern": "a", "specials": ["<|endoftext|>"], "merges": []}, "numbers": [0]}',
    '{"kind": "renumbered bpe", "numbers": [0]}',
    "[" * 100_000,
    "",
    "{",
    "[]",
    '{"kind": "word"}',
    '{"kind": "bpe"}',
    '{"kind": "char", "characters": "ba"}',
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_hostile_file_is_one_clear_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.json is not a tokenizer file"):
        load_tokenizer(tmp_path / "bad.json")


def test_other_numbers_for_the_same_tokens(trained: BPETokenizer) -> None:
    numbers = list(range(trained.vocab_size))
    random.Random(1).shuffle(numbers)
    tokenizer = RenumberedBPE(trained, numbers)
    rng = random.Random(2)
    for _ in range(300):
        text = fuzz(rng)
        ids = tokenizer.encode(text)
        assert [numbers.index(i) for i in ids] == trained.encode(text)
        assert tokenizer.decode(ids) == text
        assert list(tokenizer.encode_stream(text)) == ids
    assert tokenizer.end_of_text == numbers[-1] and tokenizer.decode([numbers[-1]]) == END_OF_TEXT
    for wrong in (numbers[:-1], [*numbers[:-1], numbers[0]], [float(n) for n in numbers], [n + 1 for n in numbers]):
        with pytest.raises(ValueError, match="each once"):
            RenumberedBPE(trained, wrong)


def test_what_people_write_never_becomes_a_signal() -> None:
    """1,000 injections: special names whole, cut, doubled, in every role; the signals stay where the chat puts them."""
    text = [name * 5 for name in CHAT_TOKENS] + list(stories(5, seed=1))
    tokenizer = BPETokenizer.train(text, 600, CHAT_TOKENS)
    signals = set(tokenizer.special_tokens.values())
    rng = random.Random(3)
    for _ in range(1000):
        parts = [
            rng.choice([*CHAT_TOKENS, "<|", "|>", "<", "end", "user", "\n", "\x00", " ", fuzz(rng, 3)])
            for _ in range(9)
        ]
        names = [rng.choice(["system", "user", "assistant"]) for _ in range(rng.randrange(1, 4))]
        content = "".join(parts)
        assert not signals & set(tokenizer.encode(content))
        ids = encode_chat([{"role": name, "content": content} for name in names], tokenizer, reply=True)
        marks = [tokenizer.token_bytes[i].decode() for i in ids if i in signals]
        wanted = [mark for name in names for mark in (f"<|{name}|>", "<|end|>")]
        assert marks == ["<|endoftext|>", *wanted, "<|assistant|>"]
        assert (
            tokenizer.decode(ids)
            == "<|endoftext|>" + "".join(f"<|{n}|>{content}<|end|>" for n in names) + "<|assistant|>"
        )


def test_chats_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"has no <\|system\|>, <\|user\|>.*specials=CHAT_TOKENS"):
        encode_chat([], BPETokenizer([]))
    tokenizer = BPETokenizer([], CHAT_TOKENS)
    assert encode_chat([], tokenizer) == [tokenizer.end_of_text]
    with pytest.raises(ValueError, match=r"role '<\|user\|>' is unknown: choose one of system, user, assistant"):
        encode_chat([{"role": "<|user|>", "content": "hi"}], tokenizer)
