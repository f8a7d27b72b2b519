"""Files of others, and the verb that writes them: each reads what the others write, and the ids stay the same."""

import base64
import doctest
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
import transformers
from bpe_fuzz import GPT2, fuzz, naive_train, naive_words
from tiktoken.load import load_tiktoken_bpe
from tokenizers import models, pre_tokenizers, trainers

from minilm.cli.main import main
from minilm.text import tokenizer_formats as formats
from minilm.text.bpe import BPETokenizer
from minilm.text.bpe_renumbered import RenumberedBPE
from minilm.text.corpus import load_corpus
from minilm.text.stories import stories
from minilm.text.tokenizer import END_OF_TEXT, ByteTokenizer, Tokenizer
from minilm.training.checkpoint import load_checkpoint

CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
SPECIALS = (END_OF_TEXT, "<|user|>")


def texts(seed: int, n: int) -> list[str]:
    """Fuzzed texts; each thing that breaks tokenizers occurs in them."""
    rng = random.Random(seed)
    found = [fuzz(rng) for _ in range(n)]
    for feature in ("😀", "\r\n", "\x00", "  ", END_OF_TEXT, "<|user|>", "é", "'ll", "\x1c"):
        assert sum(feature in text for text in found) > n // 50
    return found


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return BPETokenizer.train(list(stories(100, seed=2)) + texts(1, 200) * 2, 700, SPECIALS)


@pytest.fixture(scope="module")
def renumbered(trained: BPETokenizer) -> RenumberedBPE:
    """GPT-2's order: special tokens first here, and the bytes from "!" on."""
    first = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = first + [byte for byte in range(256) if byte not in first]
    bytes_at = [2 + order.index(byte) for byte in range(256)]
    return RenumberedBPE(trained, [*bytes_at, *range(258, trained.vocab_size), 1, 0])


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(formats).failed == 0


# ---- tiktoken


@pytest.mark.parametrize("name", ["trained", "renumbered"])
def test_tiktoken_reads_our_ranks(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    ours: Tokenizer = request.getfixturevalue(name)
    path = tmp_path / "t.tiktoken"
    formats.save_tiktoken(ours, path)
    assert [p.name for p in tmp_path.iterdir()] == ["t.tiktoken"]
    ranks = load_tiktoken_bpe(str(path))
    assert ranks == {piece: i for i, piece in enumerate(ours.token_bytes) if i not in ours.special_tokens.values()}
    theirs = tiktoken.Encoding("t", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    for text in texts(2, 2000):
        assert theirs.encode_ordinary(text) == ours.encode(text)


def test_ranks_are_read_back(trained: BPETokenizer, tmp_path: Path) -> None:
    formats.save_tiktoken(trained, tmp_path / "t.tiktoken")
    assert formats.load_tiktoken(tmp_path / "t.tiktoken", SPECIALS) == trained
    plain = formats.load_any(tmp_path / "t.tiktoken")
    assert (
        isinstance(plain, BPETokenizer)
        and plain.merges == trained.merges
        and list(plain.special_tokens) == [END_OF_TEXT]
    )
    lines = (tmp_path / "t.tiktoken").read_text().splitlines()
    moved = [f"{line.split()[0]} {(int(line.split()[1]) + 9) % 256 if i < 256 else i}" for i, line in enumerate(lines)]
    random.Random(1).shuffle(moved)
    (tmp_path / "moved.tiktoken").write_text("\r\n".join(moved) + "\n\r\n")
    other = formats.load_tiktoken(tmp_path / "moved.tiktoken", SPECIALS, CL100K)
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in moved}
    theirs = tiktoken.Encoding("t", pat_str=CL100K, mergeable_ranks=ranks, special_tokens={})
    for text in texts(3, 1000):
        assert other.encode(text) == theirs.encode_ordinary(text)
    assert other.special_tokens == {END_OF_TEXT: 698, "<|user|>": 699}


def test_what_tiktoken_cannot_hold(trained: BPETokenizer, tmp_path: Path) -> None:
    numbers = [*range(256), *reversed(range(256, trained.vocab_size))]
    with pytest.raises(ValueError, match="in the order of the ids"):
        formats.save_tiktoken(RenumberedBPE(trained, numbers), tmp_path / "t.tiktoken")
    for save in (formats.save_tiktoken, formats.save_huggingface):
        with pytest.raises(ValueError, match="a byte tokenizer has no merges"):
            save(ByteTokenizer(), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


BYTES = "".join(f"{base64.b64encode(bytes([i])).decode()} {i}\n" for i in range(256))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "256 of the 256 bytes are no tokens, the first is 0"),
        (BYTES.replace("YQ== 97\n", ""), "1 of the 256 bytes are no tokens, the first is 97"),
        (BYTES + "YWJj 256\n", r"b'abc' is not made of two earlier ones"),
        (BYTES + "YWI= 257\n", "each once"),
        (BYTES + "YWI= x\n", "int"),
        (BYTES + "YWI 256\n", "padding"),
        (BYTES + "YWI=\n", "unpack"),
        ("{}", "unpack"),
    ],
)
def test_ranks_that_cannot_be(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.tiktoken").write_text(content)
    with pytest.raises(
        ValueError, match=rf"bad\.tiktoken does not hold tiktoken ranks of a byte-level BPE: .*{said}"
    ) as e:
        formats.load_any(tmp_path / "bad.tiktoken")
    assert "\n" not in str(e.value)


# ---- Hugging Face


@pytest.mark.parametrize("name", ["trained", "renumbered"])
@pytest.mark.parametrize("pattern", [None, CL100K])
def test_tokenizers_and_transformers_read_our_file(
    name: str, pattern: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ours = request.getfixturevalue(name)
    if pattern:
        inner, numbers = formats.bpe_inside(ours)
        ours = formats.numbered(BPETokenizer(inner.merges, SPECIALS, pattern), numbers)
    path = tmp_path / "tokenizer.json"
    formats.save_huggingface(ours, path)
    again = formats.load_any(path)
    assert again.token_bytes == ours.token_bytes and again.special_tokens == ours.special_tokens
    assert (again == ours) == (name == "trained")  # the other one lists its special tokens by their ids now
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    theirs = tokenizers.Tokenizer.from_file(str(path))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), split_special_tokens=True)
    assert theirs.get_vocab_size() == ours.vocab_size == len(fast)
    for special, i in ours.special_tokens.items():
        assert theirs.encode(f"a{special}b").ids == [
            *ours.encode("a"),
            i,
            *ours.encode("b"),
        ]  # they obey the text, by default
    theirs.encode_special_tokens = True
    for number, text in enumerate(texts(4, 2000)):
        ids = ours.encode(text)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text
        if number % 4 == 0:
            assert fast(text)["input_ids"] == ids


def trained_by_them(documents: list[str], specials: list[str], cutting: Any) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = cutting
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    theirs.train_from_iterator(documents, trainer)
    theirs.encode_special_tokens = True
    return theirs


@pytest.mark.parametrize("specials", [[], ["<pad>", END_OF_TEXT], ["<s>"]], ids=len)
@pytest.mark.parametrize("pattern", [None, CL100K])
def test_we_read_what_they_have_trained(specials: list[str], pattern: str | None, tmp_path: Path) -> None:
    cutting: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern:
        split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        cutting = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs = trained_by_them(list(stories(60, seed=4)) + texts(5, 100), specials, cutting)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = formats.load_any(tmp_path / "tokenizer.json")
    assert ours.vocab_size == 500 + (END_OF_TEXT not in specials)
    expected = {name: i for i, name in enumerate(specials)}
    assert ours.special_tokens == ({END_OF_TEXT: 500} | expected)
    for text in texts(6, 1500):
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == text
    assert isinstance(ours, RenumberedBPE)
    assert list(ours.encode_stream(["the cat", " sat 😀"])) == theirs.encode("the cat sat 😀").ids


def test_a_name_that_is_both_special_and_ordinary(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(["ab ab"], 260, (END_OF_TEXT, "ab"))
    with pytest.raises(ValueError, match="'ab' is both a special and an ordinary token"):
        formats.save_huggingface(tokenizer, tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []


Change = Callable[[dict[str, Any]], Any]
FOREIGN: list[tuple[str, Change, str]] = [
    ("no model", lambda t: t.pop("model"), "'kind'|description"),
    ("word pieces", lambda t: t["model"].update(type="WordPiece"), "its model is 'WordPiece'"),
    ("unigram", lambda t: t.update(model={"type": "Unigram", "vocab": []}), "its model is 'Unigram'"),
    ("normalizer", lambda t: t.update(normalizer={"type": "NFC"}), "it has a normalizer"),
    ("truncation", lambda t: t.update(truncation={"max_length": 5}), "it has a truncation"),
    ("dropout", lambda t: t["model"].update(dropout=0.1), "its model has dropout"),
    ("word ends", lambda t: t["model"].update(end_of_word_suffix="</w>"), "its model has end_of_word_suffix"),
    ("byte fallback", lambda t: t["model"].update(byte_fallback=True), "its model has byte_fallback"),
    ("a blank before", lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "its pre_tokenizer is neither"),
    ("no cut", lambda t: t["pre_tokenizer"].update(use_regex=False), "its pre_tokenizer is neither"),
    ("metaspace", lambda t: t.update(pre_tokenizer={"type": "Metaspace"}), "its pre_tokenizer is neither"),
    ("no pre_tokenizer", lambda t: t.update(pre_tokenizer=None), "'NoneType'"),
    ("ordinary added token", lambda t: t["added_tokens"][0].update(special=False), "takes part in ordinary text"),
    ("greedy blank", lambda t: t["added_tokens"][0].update(lstrip=True), "takes part in ordinary text"),
    ("a byte is missing", lambda t: t["model"]["vocab"].pop("Ġ"), "1 of the 256 bytes are no tokens, the first is 32"),
    ("a token too many", lambda t: t["model"]["vocab"].update(zqx=700), "'zqx' is neither a byte"),
    ("a merge of nothing", lambda t: t["model"]["merges"].insert(0, "zq x"), "'zq' is missing"),
    ("a merge of three", lambda t: t["model"]["merges"].insert(0, "a b c"), "too many values"),
    ("a merge twice", lambda t: t["model"]["merges"].append(t["model"]["merges"][0]), "the same token"),
    ("a merge without token", lambda t: t["model"]["merges"].append("z q"), "'zq' is missing"),
    ("an id twice", lambda t: t["model"]["vocab"].update(a=98), "each once"),
    ("an id between", lambda t: t["model"]["vocab"].update(a=97.5), "each once"),
    ("a list for the vocabulary", lambda t: t["model"].update(vocab=["a"]), "list"),
]


@pytest.mark.parametrize(("change", "said"), [pytest.param(c, s, id=name) for name, c, s in FOREIGN])
def test_another_kind_is_one_clear_error(change: Change, said: str, trained: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    formats.save_huggingface(trained, path)
    table = json.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        formats.load_any(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_words_taken_whole_are_refused_where_it_matters(trained: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for merges, fine in ((trained.merges, True), ([(98, 99), (97, 98), (257, 99)], False)):  # abc becomes a + bc
        formats.save_huggingface(BPETokenizer(merges), path)
        table = json.loads(path.read_text(encoding="utf-8"))
        table["model"]["ignore_merges"] = True
        path.write_text(json.dumps(table), encoding="utf-8")
        if fine:
            theirs = tokenizers.Tokenizer.from_file(str(path))
            assert theirs.encode("the cat").ids == formats.load_any(path).encode("the cat")
            continue
        assert tokenizers.Tokenizer.from_file(str(path)).encode("abc").ids != BPETokenizer(merges).encode("abc")
        with pytest.raises(ValueError, match="ignore_merges"):
            formats.load_any(path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"model": 5}', b'{"model": {"merges": []}}']
)
def test_files_that_are_no_tokenizer(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json (is not a tokenizer file|does not hold a plain byte-level BPE)"):
        formats.load_any(tmp_path / "bad.json")


# ---- the verb


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(stories(40, seed=3)), encoding="utf-8")
    return path


def test_the_verb_converts(text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """text -> Hugging Face -> tiktoken -> ours: the same ids at every station."""
    steps = [("--data", text_file, "huggingface", "a.json"), ("--load", "a.json", "tiktoken", "b.tiktoken")]
    steps += [("--load", "b.tiktoken", "minilm", "c.json"), ("--load", "c.json", "minilm", "d.json")]
    said = []
    for flag, source, format, out in steps:
        command = ["tokenizer", flag, str(tmp_path / source), "--out", str(tmp_path / out), "--format", format]
        assert main([*command, "--vocab-size", "300", "--text", "the moon 🌙", "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert len({str(figures["ids"]) for figures in said}) == 1 == len({figures["fingerprint"] for figures in said})
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "a.json"))
    assert theirs.encode("the moon 🌙").ids == said[0]["ids"]
    assert load_tiktoken_bpe(str(tmp_path / "b.tiktoken"))[b"he"] == 256 + [m[1:3] for m in learned(text_file)].index(
        ["h", "e"]
    )


def learned(text_file: Path) -> list[list[Any]]:
    """[token, left, right, count] of the first merges, as the slow trainer of the tests sees them."""
    documents = list(load_corpus(text_file).train)
    merges = naive_train(naive_words(documents), 12, least=2)
    return [[256 + i, left.decode(), right.decode(), count] for i, (left, right, count) in enumerate(merges)]


def test_the_verb_shows_the_first_merges(text_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tokenizer", "--data", str(text_file), "--vocab-size", "300", "--trace", "12"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["merges"] == learned(text_file)
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["token", "count", "merge"] and len(lines) == 14
    token, left, right, count = learned(text_file)[4]
    assert lines[6].split(None, 2) == [str(token), f"{count:,}", f"{left!r} + {right!r} -> {left + right!r}"]


def test_the_verb_leaves_rare_pairs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("abc. abc. ab. " * 3 + "xyz" * 60 + "q r s t u v w " * 3, encoding="utf-8")
    sizes = []
    for least in ("1", "6", "1000"):
        assert main(["tokenizer", "--data", str(tmp_path / "text.txt"), "--min-frequency", least, "--json"]) == 0
        sizes.append(json.loads(capsys.readouterr().out)["vocab_size"])
    assert sizes[0] > sizes[1] > sizes[2] == 257


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--load {room}/t.json --trace 3", "--trace"),
        ("--data {room}/text.txt --kind byte --trace 3", "--trace"),
        ("--data {room}/text.txt --trace -1", "--trace is -1: it must be at least 0"),
        ("--data {room}/text.txt --min-frequency 0", "--min-frequency is 0: it must be at least 1"),
        ("--data {room}/text.txt --format tiktoken", "add --out FILE"),
        ("--data {room}/text.txt --format gguf --out {room}/new", "--format"),
        ("--data {room}/text.txt --kind byte --format tiktoken --out {room}/new", "a byte tokenizer has no merges"),
        ("--load {room}/text.txt", "is not a tokenizer file"),
        ("--load {room}/text.tiktoken", "text.tiktoken"),
    ],
)
def test_wrong_use_is_one_line(flags: str, said: str, text_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(text_file.parent.iterdir())
    assert main(["tokenizer", *flags.format(room=text_file.parent).split()]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(text_file.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["tokenizer.json", "ranks.tiktoken"])
def test_a_model_can_be_trained_with_a_tokenizer_of_others(name, tmp_path, capsys):
    tokenizer = BPETokenizer.train(list(stories(30, seed=1)), 300)
    save = formats.save_huggingface if name.endswith("json") else formats.save_tiktoken
    save(tokenizer, tmp_path / name)
    out = tmp_path / "run"
    arguments = ["train", "--data", "stories:40", "--model", "ngram", "--order", "2", "--out", str(out)]
    assert main([*arguments, "--tokenizer", str(tmp_path / name)]) == 0
    capsys.readouterr()
    assert load_checkpoint(out).tokenizer.encode("Once there was a hen.") == tokenizer.encode("Once there was a hen.")
