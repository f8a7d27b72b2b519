"""`minilm generate`: what each flag does, judged by other flags, by the model itself and by Python's re and json; and what
is refused. Everything runs in this process through `main`, but for what only a process shows.
"""

import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.cli.main import main
from minilm.cli.writing import StopDecoder
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.text.bpe import BPETokenizer
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]
TEXT = "The 🌙 saw a naïve fox. The fox saw the 🌙 and said: déjà vu!\n"
CONTEXT = 48
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["fox", "🌙"]}, "n": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["name", "ok"],
}


def count(order: int) -> CountedLM:
    tokenizer = ByteTokenizer()
    ids = np.array([tokenizer.end_of_text, *tokenizer.encode(TEXT * 3)])
    config = NgramConfig(vocab_size=tokenizer.vocab_size, order=order)
    return CountedLM(NgramLM(config).fit(ids, tokenizer.end_of_text))


def gpt(vocab_size: int) -> GPT:
    """A GPT with random weights, which are large: so it is sure of itself, and hears what it reads."""
    model = GPT(GPTConfig(vocab_size, context_length=CONTEXT, d_model=24, n_layers=2, n_heads=3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    return model


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints: gpt, ngram (bytes), bigram (a draft), char (another tokenizer); and a few texts."""
    room = tmp_path_factory.mktemp("room")
    torch.manual_seed(5)
    tokenizer = ByteTokenizer()
    save_checkpoint(room / "gpt", gpt(tokenizer.vocab_size), tokenizer)
    save_checkpoint(room / "ngram", count(5), tokenizer)
    save_checkpoint(room / "bigram", count(2), tokenizer)
    characters = CharTokenizer.train([TEXT])
    save_checkpoint(room / "char", gpt(characters.vocab_size), characters)
    (room / "prompts.txt").write_bytes("The 🌙\r\n\r\nThe\r\n fox\n".encode())
    (room / "empty.txt").write_text("\n\n")
    (room / "latin.txt").write_bytes(b"caf\xe9\n")
    (room / "text.txt").write_text("The fox saw the 🌙")
    (room / "schema.json").write_text(json.dumps(SCHEMA))
    (room / "broken.json").write_text("{")
    (room / "odd.json").write_text('{"type": "object", "patternProperties": {}}')
    return room


def written(capsys: Capture, room: Path, model: str, *flags: str) -> list[dict[str, Any]]:
    """The objects that --json prints."""
    assert main(["generate", str(room / model), "--json", *flags]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def one(capsys: Capture, room: Path, model: str, *flags: str) -> dict[str, Any]:
    [table] = written(capsys, room, model, *flags)
    return table


def log_probs_by_hand(room: Path, prompt: str, text: str) -> np.ndarray:
    """nats of each byte of the text, from one reading of everything, in numpy."""
    checkpoint = load_checkpoint(room / "gpt")
    before, after = [256, *prompt.encode()], list(text.encode())
    with torch.inference_mode():
        logits = checkpoint.model(torch.tensor([before + after]))[0].double().numpy()
    rows = logits[len(before) - 1 : -1]
    normal = np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1)) + rows.max(1)
    return rows[np.arange(len(after)), after] - normal


# ---- many texts


@pytest.mark.parametrize("model", ["gpt", "ngram"])
def test_a_sample_is_the_text_of_its_seed(model: str, room: Path, capsys: Capture) -> None:
    """Row 54 of PITFALLS: sample i of n is the single text of seed S + i; 35 samples are more than one batch."""
    how = ["--prompt", "The ", "--max-new-tokens", "12"]
    samples = written(capsys, room, model, *how, "--seed", "3", "--samples", "35")
    assert [table["seed"] for table in samples] == list(range(3, 38))
    assert len({table["text"] for table in samples}) > 5
    for table in (samples[0], samples[1], samples[34]):
        alone = one(capsys, room, model, *how, "--seed", str(table["seed"]))
        assert {**alone, "seconds": 0} == {**table, "seconds": 0}


def test_prompts_from_a_file_and_from_standard_input(
    room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt a line, blank lines are none, and either line end; each text is that of its prompt alone."""
    how = ["--max-new-tokens", "10", "--samples", "2"]
    tables = written(capsys, room, "ngram", "--prompt-file", str(room / "prompts.txt"), *how)
    assert [(table["prompt"], table["seed"]) for table in tables] == [
        (prompt, seed) for prompt in ("The 🌙", "The", " fox") for seed in (0, 1)
    ]
    texts = [table["text"] for table in tables]
    alone = [one(capsys, room, "ngram", "--prompt", prompt, *how[:2])["text"] for prompt in ("The 🌙", "The", " fox")]
    assert texts[::2] == alone
    monkeypatch.setattr(sys, "stdin", io.StringIO("The 🌙\n\nThe\n fox"))
    again = written(capsys, room, "ngram", "--prompt-file", "-", *how)
    assert [table["text"] for table in again] == texts


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_standard_input_is_utf8_whatever_the_locale(
    mark: bytes, room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = mark + "café\n".encode()
    (tmp_path / "prompts.txt").write_bytes(text)
    how = ["--max-new-tokens", "3", "--prompt-file"]
    wanted = one(capsys, room, "ngram", *how, str(tmp_path / "prompts.txt"))
    assert wanted["prompt"] == "café"
    for locale in ("cp1252", "ascii"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding=locale))
        assert {**one(capsys, room, "ngram", *how, "-"), "seconds": 0} == {**wanted, "seconds": 0}


def test_several_texts_have_a_line_between_them(room: Path, capsys: Capture) -> None:
    how = ["--prompt", "The", "--samples", "2", "--max-new-tokens", "9", "--seed", "7"]
    texts = [table["text"] for table in written(capsys, room, "ngram", *how)]
    assert main(["generate", str(room / "ngram"), *how]) == 0
    assert capsys.readouterr().out == f"--- seed 7\nThe{texts[0]}\n--- seed 8\nThe{texts[1]}\n"


# ---- ends


@pytest.mark.parametrize("draft", [[], ["--draft", "lookup"]], ids=["alone", "draft"])
def test_a_stop_text_cuts_before_itself(draft: list[str], room: Path, capsys: Capture) -> None:
    how = ["--prompt", "The", "--max-new-tokens", "60", "--temperature", "0", *draft]
    free = one(capsys, room, "ngram", *how)["text"]
    for stops in (["fox"], ["🌙"], ["e fox", "fox", "never"], ["saw", "fox"]):
        flags = [word for stop in stops for word in ("--stop", stop)]
        table = one(capsys, room, "ngram", *how, *flags)
        first = min((free.index(stop) + len(stop), free.index(stop)) for stop in stops if stop in free)[1]
        assert table["text"] == free[:first] and table["reason"] == "stop"
    assert one(capsys, room, "ngram", *how, "--stop", "never")["text"] == free


def test_when_the_context_is_full(room: Path, capsys: Capture) -> None:
    """`slide`, the default, goes on; `stop` ends one token behind the context, as a draft and beams do."""
    how = ["--prompt", "The", "--max-new-tokens", "60"]
    longer, shorter = (one(capsys, room, "gpt", *how, "--overflow", flow) for flow in ("slide", "stop"))
    assert (longer["tokens"], longer["reason"]) == (60, "length")
    assert (shorter["tokens"], shorter["reason"]) == (CONTEXT - 4 + 1, "context")
    assert one(capsys, room, "gpt", *how)["text"] == longer["text"]
    for flags in (["--draft", "lookup"], ["--beams", "2"]):
        table = one(capsys, room, "gpt", *how, *flags)
        assert (table["tokens"], table["reason"]) == (CONTEXT - 4 + 1, "context")
        capsys.readouterr()
        for n, told in (("90", 1), ("5", 0)):
            assert main(["generate", str(room / "gpt"), *how, *flags, "--max-new-tokens", n]) == 0
            assert capsys.readouterr().err.count("context was full") == told


# ---- what is favoured and forbidden


def test_bias_and_bad_words(room: Path, capsys: Capture) -> None:
    how = ["--prompt", "The", "--max-new-tokens", "40", "--temperature", "0"]
    free = one(capsys, room, "ngram", *how)["text"]
    assert "s" in free and "fox" in free
    assert "s" not in one(capsys, room, "ngram", *how, "--bias", "s=-inf")["text"]
    assert set(one(capsys, room, "ngram", *how, "--bias", "s=-3", "--bias", "==99")["text"]) == {"="}
    for flags in (["--bad-words", "fox"], ["--bad-words", "fox", "--bad-words", "🌙"]):
        text = one(capsys, room, "ngram", *how, *flags)["text"]
        assert len(text.encode()) >= 30 and not any(word in text for word in flags[1::2])


@pytest.mark.parametrize("draft", [[], ["--draft", "lookup"]], ids=["alone", "draft"])
@pytest.mark.parametrize("model", ["gpt", "ngram"])
def test_a_regular_expression_is_kept(model: str, draft: list[str], room: Path, capsys: Capture) -> None:
    """Whatever the model, the seed and the room: no text is cut off inside, because none is begun that has no room."""
    pattern = r"(yes|no|🌙{2,4})( \d+)?!"
    texts = set()
    for tokens, seed in itertools.product(("3", "5", "30"), ("1", "2", "3")):
        how = ["--regex", pattern, "--max-new-tokens", tokens, "--seed", seed, "--temperature", "1.5", *draft]
        text = one(capsys, room, model, *how, "--prompt", "It is ")["text"]
        assert re.fullmatch(pattern, text), text
        texts.add(text)
    assert len(texts) > 2


def test_json_is_valid(room: Path, capsys: Capture) -> None:
    """Samples of two prompts, one of which begins the other; near the end of the context too."""
    how = ["--json-schema", str(room / "schema.json"), "--max-new-tokens", "40", "--prompt-file"]
    (room / "two.txt").write_text("The\nThe fox saw a fox.\n")
    for more in ([], ["--overflow", "stop"]):
        tables = written(capsys, room, "gpt", *how, str(room / "two.txt"), "--samples", "3", *more)
        assert len(tables) == 6
        for table in tables:
            value = json.loads(table["text"])
            assert value["name"] in ("fox", "🌙") and type(value["ok"]) is bool
            assert type(value.get("n", 0)) is int and set(value) <= {"name", "n", "ok"}


# ---- other ways of decoding


def test_one_beam_is_greedy_and_more_are_better(room: Path, capsys: Capture) -> None:
    """Scores are the mean (or, with penalty 0, the sum) of the log-probabilities, best first."""
    how = ["--prompt", "The", "--max-new-tokens", "8", "--log-probs"]
    greedy = one(capsys, room, "gpt", *how, "--temperature", "0")
    single = one(capsys, room, "gpt", *how, "--beams", "1")
    assert single["text"] == greedy["text"]
    tables = written(capsys, room, "gpt", *how, "--beams", "5", "--n-best", "3")
    sums = written(capsys, room, "gpt", *how, "--beams", "5", "--n-best", "5", "--length-penalty", "0")
    assert len(tables) == 3 and tables[0]["score"] >= single["score"]
    for found, power in ((tables, 1), (sums, 0)):
        scores = [table["score"] for table in found]
        assert scores == sorted(scores, reverse=True) and "seed" not in found[0]
        for table in found:
            if table["reason"] == "length":
                assert table["score"] == pytest.approx(sum(table["log_probs"]) / 8**power, abs=1e-4)
    assert any(table["reason"] == "length" for table in tables + sums)
    assert main(["generate", str(room / "gpt"), *how[:4], "--beams", "5", "--n-best", "2"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^--- score (.*)$", shown, re.M) == [f"{table['score']:.3f}" for table in tables[:2]]


def test_beams_obey_bias_bad_words_and_the_form_of_the_text(room: Path, capsys: Capture) -> None:
    how = ["--prompt", "The", "--max-new-tokens", "8", "--beams", "6"]
    plain = one(capsys, room, "gpt", *how)["text"]
    assert one(capsys, room, "gpt", *how, "--bad-words", plain[0])["text"][0] != plain[0]
    assert one(capsys, room, "gpt", *how, "--bias", "q=60")["text"] == "q" * 8
    for table in written(capsys, room, "gpt", *how, "--n-best", "6", "--regex", "(fox|[abc]{3})!"):
        assert re.fullmatch("(fox|[abc]{3})!", table["text"]) and table["reason"] == "stop token"
    long = ["--max-new-tokens", "40", "--beams", "3", "--n-best", "3", "--json-schema", str(room / "schema.json")]
    assert all(json.loads(table["text"])["name"] in ("fox", "🌙") for table in written(capsys, room, "gpt", *long))


@pytest.mark.parametrize("draft", ["lookup", "bigram", "ngram"])
def test_a_draft_changes_nothing_but_the_speed(draft: str, room: Path, capsys: Capture) -> None:
    how = ["--prompt", "The fox", "--max-new-tokens", "50"]
    flags = ["--draft", draft if draft == "lookup" else str(room / draft), "--draft-tokens", "3", "--stats"]
    greedy = one(capsys, room, "ngram", *how, "--temperature", "0")
    table = one(capsys, room, "ngram", *how, "--temperature", "0", *flags, "--log-probs")
    assert table["text"] == greedy["text"] and len(table["log_probs"]) == table["tokens"]
    stats = table["stats"]
    assert 0 < stats["acceptance"] <= 1 and 1 < stats["tokens_per_round"] <= 4
    assert draft != "ngram" or stats["acceptance"] == 1  # who guesses for itself
    assert draft == "ngram" or stats["acceptance"] < 1
    warm = written(capsys, room, "ngram", *how, *flags, "--samples", "2", "--seed", "4")
    assert warm[1]["text"] == one(capsys, room, "ngram", *how, *flags, "--seed", "5")["text"] != warm[0]["text"]


# ---- what is measured


@pytest.mark.parametrize("draft", [[], ["--draft", "lookup"]], ids=["alone", "draft"])
def test_log_probs_are_the_models_own(draft: list[str], room: Path, capsys: Capture) -> None:
    """Temperature and bias change what is drawn, and not what the model thinks of it."""
    how = ["--prompt", "The", "--max-new-tokens", "20", "--temperature", "1.7", "--bias", "q=4"]
    table = one(capsys, room, "gpt", *how, "--bias", "a=6", *draft, "--regex", "[a-q]{20}", "--log-probs")
    assert table["log_probs"] == pytest.approx(log_probs_by_hand(room, "The", table["text"]), abs=1e-4)
    assert "log_probs" not in one(capsys, room, "gpt", *how, *draft)


def test_a_text_is_scored(room: Path, capsys: Capture) -> None:
    text = (room / "text.txt").read_text()
    how = ["--prompt", "Once: ", "--score", str(room / "text.txt")]
    table = one(capsys, room, "gpt", *how)
    by_hand = log_probs_by_hand(room, "Once: ", text)
    assert table["log_probs"] == pytest.approx(by_hand, abs=1e-4)
    n = len(text.encode())
    assert (table["text"], table["tokens"], table["bytes"]) == (text, n, n)
    assert table["bits_per_byte"] == pytest.approx(-by_hand.sum() / math.log(2) / n, abs=1e-4)
    assert main(["generate", str(room / "gpt"), *how]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["bits", "token"] and len(lines) == n + 2
    assert float(lines[1].split()[0]) == pytest.approx(-by_hand[0] / math.log(2), abs=2e-3)
    assert lines[1].endswith(" 'T'") and lines[-1].startswith(f"{table['bits_per_byte']:.3f} bits per byte")


def test_costs_are_shown_below_the_text(room: Path, capsys: Capture) -> None:
    how = ["--prompt", "The", "--max-new-tokens", "6", "--temperature", "0"]
    table = one(capsys, room, "ngram", *how, "--log-probs")
    assert main(["generate", str(room / "ngram"), *how, "--log-probs"]) == 0
    lines = capsys.readouterr().out.splitlines()[-table["tokens"] :]
    assert [float(line.split()[0]) for line in lines] == pytest.approx(
        [abs(value) / math.log(2) for value in table["log_probs"]], abs=1e-3
    )


def test_stats(room: Path, capsys: Capture) -> None:
    """A prompt is read once for all its samples; the cache has a row for each; the text is as it was."""
    how = ["--prompt", "The fox", "--max-new-tokens", "10", "--overflow", "stop"]
    single, many = (written(capsys, room, "gpt", *how, "--stats", "--samples", n) for n in ("1", "3"))
    stats, more = single[0]["stats"], many[-1]["stats"]
    assert set(stats) == {"prompt_tokens", "prefill_tokens_per_second", "decode_tokens_per_second", "cache_bytes"}
    assert stats["prompt_tokens"] == more["prompt_tokens"] == 8
    assert all(value > 0 for value in stats.values())
    assert stats["cache_bytes"] == 2 * 2 * 24 * 4 * 18  # keys and values, layers, D, bytes, slots
    assert more["cache_bytes"] == 3 * stats["cache_bytes"]
    assert one(capsys, room, "gpt", *how, "--stats", "--no-cache")["stats"]["cache_bytes"] == 0
    searched = one(capsys, room, "gpt", *how[:4], "--stats", "--beams", "4")["stats"]
    assert searched["cache_bytes"] == 4 * 2 * 2 * 24 * 4 * 17  # the last token is not read
    assert searched["prompt_tokens"] == 8 and searched["decode_tokens_per_second"] is None
    assert main(["generate", str(room / "ngram"), *how[:4], "--stats", "--draft", "lookup"]) == 0
    shown = capsys.readouterr()
    assert "8 tokens of prompt read" in shown.err and "draft's tokens accepted" in shown.err
    assert "tokens" not in shown.out


def test_the_shape_of_json(room: Path, capsys: Capture) -> None:
    plain = {"prompt", "text", "tokens", "seconds", "reason", "seed"}
    how = ["--max-new-tokens", "5"]
    assert set(one(capsys, room, "gpt", *how)) == plain
    assert set(one(capsys, room, "gpt", *how, "--log-probs", "--stats")) == plain | {"log_probs", "stats"}
    assert set(one(capsys, room, "gpt", *how, "--beams", "2")) == (plain - {"seed"}) | {"score"}


# ---- how it is computed


def test_int8_and_fast_are_nearly_the_same(room: Path, capsys: Capture) -> None:
    """The kernels differ from the readable way by rounding, and int8 by a little more, but not by nothing."""
    how = ["--prompt", "The", "--score", str(room / "text.txt")]
    exact, fast, int8, both = (
        np.array(one(capsys, room, "gpt", *how, *flags)["log_probs"])
        for flags in ([], ["--fast"], ["--int8"], ["--int8", "--fast"])
    )
    assert np.abs(fast - exact).max() < 1e-3
    assert 1e-3 < np.abs(int8 - exact).max() < 0.5
    assert np.abs(both - int8).max() < 1e-3
    how = ["--prompt", "The", "--max-new-tokens", "30", "--seed", "2"]
    assert one(capsys, room, "gpt", *how)["text"] == one(capsys, room, "gpt", *how, "--fast")["text"]


def test_without_the_cache_the_text_is_the_same(room: Path, capsys: Capture) -> None:
    for flags in (["--samples", "3"], ["--beams", "3"], ["--draft", "lookup"], ["--regex", "[a-f]{9}"]):
        how = ["--prompt", "The", "--max-new-tokens", "9", *flags]
        texts = [
            [table["text"] for table in written(capsys, room, "gpt", *how, *more)] for more in ([], ["--no-cache"])
        ]
        assert texts[0] == texts[1]


# ---- streaming


class Chunks(io.StringIO):
    """A standard output that remembers how the text came."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[str] = []

    def write(self, text: str) -> int:
        self.chunks.append(text)
        return super().write(text)


@pytest.mark.parametrize("flags", [[], ["--stop", "🌙🌙"], ["--draft", "lookup"]], ids=["plain", "stop", "draft"])
def test_streaming_never_splits_a_character(
    flags: list[str], room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 61 of PITFALLS: a token is a byte here, and the moon has four. What comes piece by piece is the whole text."""
    how = ["--prompt", "The", "--max-new-tokens", "72", "--temperature", "0", *flags]
    text = one(capsys, room, "ngram", *how)["text"]
    assert "🌙" in text and "ï" in text and "\ufffd" not in text
    out = Chunks()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["generate", str(room / "ngram"), *how]) == 0
    assert out.getvalue() == f"The{text}\n"
    assert len([chunk for chunk in out.chunks if chunk]) > 30
    assert not any("\ufffd" in chunk for chunk in out.chunks)


PIECES = BPETokenizer.train([TEXT * 3], vocab_size=290)


def cut(data: bytes, stops: Sequence[bytes]) -> bytes:
    """By definition: the shortest beginning that ends with a stop text, without the longest one that it ends with."""
    for end in range(len(data) + 1):
        if found := [stop for stop in stops if data[:end].endswith(stop)]:
            return data[: end - max(map(len, found))]
    return data


@given(
    text=st.lists(st.sampled_from(["The", " fox", " saw", "a", "b", "!", "é", "🌙"]), max_size=7).map("".join),
    stops=st.lists(
        st.text(alphabet="ab!é🌙", min_size=1, max_size=3) | st.sampled_from(["ox", "o", " fox", "aw"]), max_size=3
    ),
    by_bytes=st.booleans(),
)
@example(text="a fox", stops=[" fox", "o"], by_bytes=False)
@settings(max_examples=400, deadline=None)
def test_stop_texts_wherever_tokens_end(text: str, stops: list[str], by_bytes: bool) -> None:
    """Row 61: the pieces join to the text, cut where the definition says, for every text and both ways to cut tokens."""
    assert b" fox" in PIECES.token_bytes  # so that one token can end two stop texts
    tokenizer = ByteTokenizer() if by_bytes else PIECES
    decoder = StopDecoder(tokenizer, stops)
    pieces = [decoder.feed(token) for token in tokenizer.encode(text)]
    ended = decoder.stopped
    whole = "".join(pieces) + decoder.flush()
    expected = cut(text.encode(), [stop.encode() for stop in stops])
    assert whole == expected.decode()
    assert ended == any(stop in text for stop in stops)
    assert not any("\ufffd" in piece for piece in pieces)


# ---- refusals

SCORE, BEAMS, REGEX = "--score {room}/text.txt", "--beams 3", "--regex a+"
WITHOUT_TORCH = [
    ("no samples", "--samples 0", "--samples is 0"),
    ("endless samples", "--samples 4000000000", "--samples"),
    ("samples without seeds", "--samples 9 --seed 4294967290", "seeds"),
    ("samples that are the same", "--samples 2 --temperature 0", "same text"),
    ("no beams", "--beams 0", "--beams is 0"),
    ("too many beams", "--beams 100000", "--beams"),
    ("beams not a number", "--beams few", "--beams"),
    ("more best than beams", f"{BEAMS} --n-best 4", "--n-best"),
    ("best without beams", "--n-best 1", "--beams"),
    ("penalty without beams", "--length-penalty 0", "--beams"),
    ("penalty not a number", f"{BEAMS} --length-penalty nan", "--length-penalty"),
    ("beams and temperature", f"{BEAMS} --temperature 0", "--temperature"),
    ("beams and top-k", f"{BEAMS} --top-k 3", "--top-k"),
    ("beams and a penalty", f"{BEAMS} --repetition-penalty 1.1", "--repetition-penalty"),
    ("beams and samples", f"{BEAMS} --samples 2", "--samples"),
    ("beams and stop", f"{BEAMS} --stop x", "--stop"),
    ("beams and draft", f"{BEAMS} --draft lookup", "--draft"),
    ("beams and overflow", f"{BEAMS} --overflow slide", "--overflow slide and --beams"),
    ("draft and overflow", "--draft lookup --overflow slide", "--overflow slide and --draft"),
    ("guesses without a draft", "--draft-tokens 3", "--draft"),
    ("no guesses", "--draft lookup --draft-tokens 0", "--draft-tokens"),
    ("two forms", f"{REGEX} --json-schema {{room}}/schema.json", "--json-schema"),
    ("a form and a stop", f"{REGEX} --stop x", "--stop"),
    ("a form and bad words", "--json-schema {room}/schema.json --bad-words x", "--bad-words"),
    ("a broken pattern", "--regex (a", "(a"),
    ("an anchor", "--regex ^a$", "^a$"),
    ("no such schema", "--json-schema {room}/missing.json", "missing.json"),
    ("broken JSON", "--json-schema {room}/broken.json", "broken.json"),
    ("an odd schema", "--json-schema {room}/odd.json", "patternProperties"),
    ("a schema in latin-1", "--json-schema {room}/latin.txt", "latin.txt"),
    ("a bias without a number", "--bias the", "TEXT=NUMBER"),
    ("a bias of words", "--bias the=much", "TEXT=NUMBER"),
    ("a bias of nothing", "--bias =3", "TEXT=NUMBER"),
    ("an infinite bias", "--bias a=inf", "TEXT=NUMBER"),
    ("a bias that is no number", "--bias a=nan", "TEXT=NUMBER"),
    ("an empty stop", "--stop=", "--stop"),
    ("empty bad words", "--bad-words=", "--bad-words"),
    ("half a character to stop", "--stop \udce9", "--stop"),
    ("half a character to favour", "--bias \udce9=1", "--bias"),
    ("half a pattern", "--regex \udce9", "--regex"),
    ("two sources of prompts", "--prompt a --prompt-file {room}/prompts.txt", "--prompt"),
    ("no such prompts", "--prompt-file {room}/missing.txt", "missing.txt"),
    ("no prompt in it", "--prompt-file {room}/empty.txt", "empty.txt"),
    ("prompts in latin-1", "--prompt-file {room}/latin.txt", "latin.txt"),
    ("prompts in a folder", "--prompt-file {room}", "directory"),
    ("score and samples", f"{SCORE} --samples 2", "--samples"),
    ("score and beams", f"{SCORE} {BEAMS}", "--beams"),
    ("score and length", f"{SCORE} --max-new-tokens 3", "--max-new-tokens"),
    ("score and top-p", f"{SCORE} --top-p 0.5", "--top-p"),
    ("score and stats", f"{SCORE} --stats", "--stats"),
    ("no such text", "--score {room}/missing.txt", "missing.txt"),
]
WITH_TORCH = [
    ("a bias of two tokens", "gpt --bias ab=3", "2 tokens"),
    ("bias of a strange character", "char --bias q=1", "'q'"),
    ("bias leaves nothing", f"gpt {REGEX} --bias a=-inf", "no token can be chosen"),
    (
        "no room for the pattern",
        "gpt --regex a{20} --max-new-tokens 19",
        "20 tokens, behind the prompt there is room for 19",
    ),
    ("no room for the pattern of beams", "gpt --beams 2 --regex a{50}", "50 tokens"),
    (
        "no room in the context",
        "gpt --regex a{50} --overflow stop",
        "50 tokens, behind the prompt there is room for 48",
    ),
    (
        "a form behind too long a prompt",
        f"gpt --regex a+ --overflow stop --prompt {'x' * 60}",
        "behind the prompt there is room for 0",
    ),
    ("a pattern of strange characters", "char --regex q+", "no valid text"),
    ("a draft with other tokens", "gpt --draft {room}/char", "another tokenizer"),
    ("no such draft", "gpt --draft {room}/missing", "missing"),
    ("a prompt beyond the context", f"gpt {BEAMS} --prompt {'x' * 60}", "61 tokens"),
    ("a long prompt with a draft", f"gpt --draft lookup --prompt {'x' * 60}", "61 tokens"),
    ("a long prompt that stops", f"gpt --overflow stop --prompt {'x' * 60}", "61 tokens"),
    ("a text beyond the context", f"gpt {SCORE} --prompt {'x' * 40}", "at most 48"),
    ("nothing to score", "gpt --score /dev/null" if os.name == "posix" else "gpt --score {room}/no", "--score"),
    ("int8 of counts", "ngram --int8", "--int8"),
    ("fast counts", "ngram --fast", "--fast"),
]


def command_of(flags: str, room: Path) -> list[str]:
    return ["generate", *(word.replace("{room}", str(room)) for word in flags.split(" "))]


def complaint(capsys: Capture) -> str:
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and len(shown.err) <= 401, shown
    assert shown.err.startswith("minilm: generate: ")
    return shown.err


@pytest.mark.parametrize(
    ("flags", "named"),
    [(f"{{room}}/gpt {flags}", named) for _, flags, named in WITHOUT_TORCH]
    + [(f"{{room}}/{flags}", named) for _, flags, named in WITH_TORCH],
    ids=[row[0] for row in WITHOUT_TORCH + WITH_TORCH],
)
def test_what_is_refused(flags: str, named: str, room: Path, capsys: Capture) -> None:
    assert main(command_of(flags, room)) == 2
    assert named in complaint(capsys)


def test_refusals_need_no_torch_and_no_model(room: Path, subprocess_env: dict[str, str]) -> None:
    """The checkpoint that these commands name is not there: they do not come so far."""
    commands = [command_of(f"{{room}}/nowhere {flags}", room) for _, flags, _ in WITHOUT_TORCH]
    code = (
        "import json, sys\nfrom minilm.cli.main import main\n"
        "assert [main(command) for command in json.loads(sys.argv[1])] == [2] * int(sys.argv[2])\n"
        "for verb in ('generate', 'chat'):\n    for flag in ('--help', '--help-all'):\n"
        "        try:\n            main([verb, flag])\n        except SystemExit as end:\n            assert not end.code\n"
        "print(*(name for name in ('torch', 'matplotlib') if name in sys.modules), 'end')\n"
    )
    arguments = [sys.executable, "-c", code, json.dumps(commands), str(len(commands))]
    done = subprocess.run(arguments, capture_output=True, text=True, env=subprocess_env, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "end"
    assert "nowhere" not in done.stderr and done.stderr.count("\n") == len(commands)


def test_at_most_ten_flags_in_help(capsys: Capture) -> None:
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main(["generate", flag])
        shown[flag] = re.findall(r"^  (?:-h, )?(--[a-z0-9-]+)", capsys.readouterr().out, re.M)
    assert len(shown["--help"]) == 10 and "--samples" in shown["--help"] and "--beams" not in shown["--help"]
    assert {"--beams", "--draft", "--regex", "--stop", "--score", "--int8", "--min-p"} <= set(shown["--help-all"])


def test_standard_input_that_is_closed(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    for flag in ("--prompt-file", "--score", "--json-schema"):
        assert main(["generate", str(room / "gpt"), flag, "-"]) == 2
        assert f"{flag} -: standard input is closed" in complaint(capsys)


def test_a_reader_that_leaves(room: Path, subprocess_env: dict[str, str]) -> None:
    """`minilm generate ... | head -0`: nothing is said and nothing is wrong."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "minilm", "generate", str(room / "ngram"), "--max-new-tokens", "9"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=subprocess_env, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_is_impossible_is_null_in_json(tmp_path: Path, capsys: Capture) -> None:
    tokenizer = ByteTokenizer()
    ids = np.array([tokenizer.end_of_text, *tokenizer.encode("abab")])
    config = NgramConfig(vocab_size=tokenizer.vocab_size, order=2, smoothing="maximum-likelihood")
    save_checkpoint(tmp_path / "sure", CountedLM(NgramLM(config).fit(ids, tokenizer.end_of_text)), tokenizer)
    (tmp_path / "text.txt").write_text("abz")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert main(["generate", str(tmp_path / "sure"), "--score", str(tmp_path / "text.txt"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert table["bits_per_byte"] is None
    assert [value is None for value in table["log_probs"]] == [False, False, True]


def test_guesses_that_come_with_the_first_token_are_not_speed(room: Path, capsys: Capture) -> None:
    """A model that guesses for itself is right five times in the first round: after it nothing is written."""
    how = ["--prompt", "The", "--temperature", "0", "--stats", "--draft", str(room / "ngram"), "--max-new-tokens"]
    stats = one(capsys, room, "ngram", *how, "5")["stats"]
    assert stats["tokens_per_round"] == 5 and stats["decode_tokens_per_second"] is None
    assert one(capsys, room, "ngram", *how, "6")["stats"]["decode_tokens_per_second"] > 0


def test_a_text_ends_before_any_special_token(tmp_path: Path, capsys: Capture) -> None:
    tokenizer = ByteTokenizer().with_specials(["<|end|>"])
    ids = np.array([tokenizer.end_of_text, *tokenizer.encode("abc"), tokenizer.special_tokens["<|end|>"]] * 9)
    model = NgramLM(NgramConfig(vocab_size=tokenizer.vocab_size, order=3)).fit(ids, tokenizer.end_of_text)
    save_checkpoint(tmp_path / "signals", CountedLM(model), tokenizer)
    for more in ([], ["--draft", "lookup"], ["--beams", "2"]):
        table = one(capsys, tmp_path, "signals", *([] if "--beams" in more else ["--temperature", "0"]), *more)
        assert (table["text"], table["reason"]) == ("abc", "stop token"), more


def test_a_kernel_that_is_missing_is_said(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.cli.writing.why_not", lambda: "no compiler")
    how = ["generate", str(room / "gpt"), "--max-new-tokens", "2"]
    for more, said in ([], ""), (["--fast"], "minilm: --fast does without its compiled kernel: no compiler\n"):
        assert main([*how, *more]) == 0
        assert capsys.readouterr().err == said
