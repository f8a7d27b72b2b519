"""Evaluation: windows against a plain loop, bytes against the text, and models whose score is known beforehand."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import Tensor

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.cli.main import main
from minilm.evaluation.evaluate import evaluate, token_log_probs, windows
from minilm.evaluation.ladder import (
    counted_rungs,
    display_width,
    floor_rung,
    format_ladder,
    ladder_to_dict,
    model_rung,
    uniform_rung,
)
from minilm.metrics import bits_per_byte, perplexity
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.mixture import Mixture
from minilm.plots.attention import plot_attention
from minilm.plots.ladder import plot_ladder
from minilm.plots.loss import plot_loss
from minilm.plots.picture import ACCENT
from minilm.text.stories import StoryWorld, stories, story_floor
from minilm.text.token_file import TokenFile, encode_corpus
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer

DOCUMENTS = [
    "héllo wörld, héllo moon 🌍🚀\r\n",
    "x",
    "",
    "你好,世界。" * 7,
    "hello hello hello again and again, my friend 👩‍👩‍👧",
]


def small_gpt(vocab_size: int, context_length: int) -> GPT:
    """Random weights in float64, and dropout that must be off while it is scored."""
    config = GPTConfig(vocab_size, context_length, d_model=12, n_layers=2, n_heads=3, dropout=0.4)
    model, generator = GPT(config).double(), torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
    return model


def by_definition(model: GPT, ids: list[int], end_of_text: int) -> list[float]:
    """Token by token: which window scores it first, and what the model says there with nothing else in the batch."""
    C, scores, begin = model.config.context_length, [], 0
    for t, token in enumerate(ids):
        if token == end_of_text:
            begin = t
            scores.append(0.0)
            continue
        start = begin
        while start + C < t:  # the window's last prediction is for position start + C
            start += C // 2
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:t]]))[0, -1]
        scores.append(float(torch.log_softmax(logits, -1)[token]))
    return scores


@pytest.mark.parametrize("context_length", [2, 3, 5, 8, 17, 60])
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_windows_equal_the_plain_loop(context_length: int, batch_tokens: int) -> None:
    """Documents shorter than, as long as and longer than the context; windows alone, few or all in a batch."""
    eot, rng = 6, np.random.default_rng(context_length)
    lengths = [0, 1, context_length - 1, context_length, context_length + 1, 2 * context_length + 3, 41]
    ids = np.concatenate([np.append(eot, rng.integers(0, 6, n)) for n in lengths]).astype(np.uint16)
    model = small_gpt(7, context_length).eval()
    expected = by_definition(model, ids.tolist(), eot)
    model.train()
    found = token_log_probs(model, ids, eot, batch_tokens=batch_tokens)
    assert model.training
    np.testing.assert_allclose(found, expected, atol=1e-11)
    assert found.dtype == np.float64


@pytest.mark.parametrize("context_length", [1, 2, 5, 8])
def test_every_token_is_scored_once_with_enough_context(context_length: int) -> None:
    ids = np.array([9, *[1] * 23, 9, 9, 2, 9, *[3] * context_length])
    scored = np.zeros(len(ids), dtype=int)
    for start, first, stop in windows(ids, 9, context_length):
        assert stop - 1 - start <= context_length
        assert ids[start + 1 : stop].max(initial=0) < 9, "a window crosses into the next document"
        scored[first:stop] += 1
        assert ids[start] == 9 or first - start > context_length // 2
    assert np.array_equal(scored, ids != 9)


def test_windows_example() -> None:
    assert list(windows(np.array([9, *range(8), 0, 1]), 9, 4)) == [(0, 1, 5), (2, 5, 7), (4, 7, 9), (6, 9, 11)]


class Fake:
    """Logits from a formula: ids (B, T) -> (B, T, V)."""

    def __init__(self, vocab_size: int, logits: Any, context_length: int | None = 16) -> None:
        self.config, self.logits = SimpleNamespace(vocab_size=vocab_size, context_length=context_length), logits

    def __call__(self, ids: Tensor) -> Tensor:
        return self.logits(ids)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_uniform_model_needs_log2_V_bits(dtype: torch.dtype) -> None:
    """One byte a token: log2(257) bits per byte, whatever constant the logits have."""
    model = Fake(257, lambda ids: torch.full((*ids.shape, 257), 3.0, dtype=dtype))
    tokenizer = ByteTokenizer()
    result = evaluate(model, encode_corpus(DOCUMENTS, tokenizer), tokenizer)
    assert result.bits_per_byte == pytest.approx(math.log2(257), rel=1e-6)
    assert result.nats_per_token == pytest.approx(math.log(257), rel=1e-6)
    assert result.perplexity == pytest.approx(257, rel=1e-5)
    assert result.tokens == result.bytes == sum(len(text.encode()) for text in DOCUMENTS)


def test_a_model_that_copies_its_input_is_not_rewarded() -> None:
    """On a text without repetitions the copy is always wrong, and the successor always right."""
    tokenizer = ByteTokenizer()
    ids = np.array([256, *range(60, 160)])
    copy = Fake(257, lambda ids: 30.0 * torch.nn.functional.one_hot(ids, 257).double())
    successor = Fake(257, lambda ids: 30.0 * torch.nn.functional.one_hot((ids + 1) % 257, 257).double())
    assert evaluate(copy, ids, tokenizer).nats_per_token > 29
    scores = token_log_probs(successor, ids, 256)
    assert scores[0] == 0.0 and scores[1] < -29  # the first token follows <|endoftext|>, whose successor is 0
    assert abs(scores[2:]).max() < 1e-9


def test_a_model_without_a_limit_reads_whole_documents() -> None:
    widths: list[int] = []

    def note(ids: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        widths.append(ids.shape[1])
        return torch.zeros(*ids.shape, 5)

    token_log_probs(Fake(5, note, context_length=None), np.array([4, *[1] * 30, 4, 2]), 4, batch_tokens=1)
    assert widths == [30, 1]


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer.train(DOCUMENTS)], ids=["byte", "char"])
def test_bytes_are_those_of_the_original(tokenizer: Any) -> None:
    """Emoji and Chinese: bytes are neither characters nor tokens, and with char tokens the sums still agree."""
    data = encode_corpus(DOCUMENTS, tokenizer)
    model = Fake(tokenizer.vocab_size, lambda ids: torch.zeros(*ids.shape, tokenizer.vocab_size))
    result = evaluate(model, data, tokenizer)
    assert result.bytes == sum(len(text.encode()) for text in DOCUMENTS)
    assert result.tokens == sum(len(tokenizer.encode(text)) for text in DOCUMENTS)
    bits = result.tokens * math.log2(tokenizer.vocab_size) / result.bytes
    assert result.bits_per_byte == pytest.approx(bits, rel=1e-6)
    on_ids = evaluate(model, data.ids, tokenizer)
    assert (on_ids.bytes, on_ids.bits_per_byte) == (result.bytes, result.bits_per_byte)


def test_max_bytes_cuts_between_tokens() -> None:
    tokenizer = CharTokenizer.train(["ab世"])
    data = encode_corpus(["a世b", "世世"], tokenizer)
    model = Fake(4, lambda ids: torch.zeros(*ids.shape, 4))
    results = {n: evaluate(model, data, tokenizer, max_bytes=n) for n in (1, 3, 4, 5, 7, 8, 11, 99)}
    assert {n: (r.bytes, r.tokens) for n, r in results.items()} == {
        1: (1, 1), 3: (1, 1), 4: (4, 2), 5: (5, 3), 7: (5, 3), 8: (8, 4), 11: (11, 5), 99: (11, 5),
    }  # fmt: skip


def test_a_counted_model_sees_its_full_history() -> None:
    """Through evaluate, and token by token from next_log_probs within the document."""
    tokenizer = ByteTokenizer()
    data = encode_corpus(DOCUMENTS, tokenizer)
    model = NgramLM(NgramConfig(vocab_size=257, order=4)).fit(data.ids, 256)
    expected, begin = 0.0, 0
    ids = data.ids.astype(int)
    for t, token in enumerate(ids):
        if token == 256:
            begin = t
        else:
            expected -= model.next_log_probs(ids[begin:t])[token]
    for counted in (model, CountedLM(model)):
        assert evaluate(counted, data, tokenizer).nats_per_token == pytest.approx(expected / (len(ids) - 5), rel=1e-12)


def test_bad_data_are_one_line() -> None:
    tokenizer = ByteTokenizer()
    model = Fake(257, lambda ids: torch.zeros(*ids.shape, 257))
    data = encode_corpus(["hello"], tokenizer)
    other = encode_corpus(["hello"], CharTokenizer("ehlo"))
    short = TokenFile(data.ids, 1, 6, 257, tokenizer.fingerprint)
    cases: list[tuple[Any, dict, str]] = [
        (other, {}, "another tokenizer"),
        (short, {}, "5 bytes, the text has 6"),
        (np.array([], dtype=int), {}, "begin with <|endoftext|>"),
        (np.array([104, 256]), {}, "begin with <|endoftext|>"),
        (np.array([256, 256]), {}, "no text"),
        (np.array([256, 300]), {}, "300"),
        (data, {"max_bytes": 0}, "max_bytes is 0"),
    ]
    for ids, settings, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            evaluate(model, ids, tokenizer, **settings)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"the model knows 0\.\.99"):
        evaluate(Fake(100, model.logits), data, tokenizer)


def test_metrics() -> None:
    assert perplexity(3 * math.log(5), 3) == pytest.approx(5)
    assert perplexity(1e6, 1) == math.inf
    assert bits_per_byte(12 * math.log(2), 4) == pytest.approx(3)
    for measure in (perplexity, bits_per_byte):
        with pytest.raises(ValueError, match="at least 1"):
            measure(1.0, 0)


@pytest.fixture(scope="module")
def rungs() -> list[Any]:
    """The ladder of a tiny text: chance, three n-grams, an untrained GPT and a mixture."""
    tokenizer = ByteTokenizer()
    train = encode_corpus(["the cat sat on the mat. " * 20, "the dog sat on the log. " * 20], tokenizer)
    validation = encode_corpus(["the cat sat on the log.\nthe dog sat on the mat."], tokenizer)
    result = [uniform_rung(validation, tokenizer)]
    config = NgramConfig(vocab_size=257, order=4)
    counted = list(
        counted_rungs(train, validation, tokenizer, config, write=lambda model: f"{model.kind} 世界🌍\n\x07" * 9)
    )
    result += [rung for rung, _ in counted]
    gpt = small_gpt(257, 16)
    result.append(model_rung("GPT", gpt, validation, tokenizer, 12.5, write=lambda model: "the"))
    mixture = Mixture(gpt, counted[-1][1], 0.25)
    result.append(model_rung("GPT + n-gram", mixture, validation, tokenizer, 13.1))
    return result


def test_ladder_goes_down(rungs: list[Any]) -> None:
    names = ["uniform", "unigram", "bigram", "Kneser-Ney", "GPT", "GPT + n-gram"]
    assert [rung.name for rung in rungs] == names
    uniform, unigram, bigram, kneser_ney, gpt, mixture = (rung.bits_per_byte for rung in rungs)
    assert uniform == pytest.approx(8) and rungs[0].compresses_to == pytest.approx(1)
    assert 8 > unigram > bigram > kneser_ney > 0.1
    assert mixture < gpt
    assert len({(rung.evaluation.bytes, rung.evaluation.tokens) for rung in rungs}) == 1
    weights = sum(weight.numel() for weight in small_gpt(257, 16).parameters())
    assert rungs[4].parameters == weights
    assert rungs[5].parameters == weights + rungs[3].parameters


def test_ladder_table_fits_and_names_its_units(rungs: list[Any]) -> None:
    table = format_ladder(rungs)
    lines = table.split("\n")
    assert max(display_width(line) for line in lines) <= 100
    assert len(lines) == 2 + 2 * len(rungs)
    for head in ("model", "writes", "compresses to", "bits per byte", "seconds"):
        assert head in lines[0]
    for rung in rungs:
        row = next(i for i, line in enumerate(lines) if line.startswith(rung.name + " "))
        assert f"{rung.bits_per_byte:.3f}" in lines[row] and f"{100 * rung.compresses_to:.1f} %" in lines[row]
        assert rung.sentence in lines[row + 1]
        assert display_width(lines[row]) == display_width(lines[0])
    assert all(character.isprintable() for line in lines for character in line)


def test_ladder_as_json(rungs: list[Any]) -> None:
    table = json.loads(json.dumps(ladder_to_dict(rungs), allow_nan=False))
    row = table["rungs"][3]
    assert row["model"] == "Kneser-Ney" and row["bits_per_byte"] == rungs[3].bits_per_byte
    assert {"nats_per_token", "perplexity", "tokens", "bytes", "parameters", "train_seconds", "sample"} <= row.keys()


def test_display_width() -> None:
    assert [display_width(text) for text in ("abc", "世界", "e\u0301", "🌍!", "")] == [3, 4, 1, 3, 0]


def test_pictures_are_written_whole(rungs: list[Any], tmp_path: Any) -> None:
    history = [
        {"step": n, "loss": 5 / n, **({"validation": rungs[3].evaluation} if n % 4 == 0 else {})} for n in range(1, 10)
    ]
    plot_ladder(rungs, tmp_path / "ladder.png")
    figure = plot_loss(history, tmp_path / "loss.svg")
    training, validation = figure.axes  # nats per token and bits per byte do not share an axis
    assert np.array_equal(np.asarray(training.lines[0].get_ydata()), [5 / n for n in range(1, 10)])
    assert np.array_equal(np.asarray(validation.lines[0].get_xydata()), [(n, rungs[3].bits_per_byte) for n in (4, 8)])
    assert len(plot_loss(history[:3]).axes) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ladder.png", "loss.svg"]
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in (tmp_path / "loss.svg").read_bytes()
    with pytest.raises(OSError):
        plot_ladder(rungs, tmp_path / "missing" / "ladder.png")


def test_the_floor_is_drawn_hollow_and_never_the_best(rungs: list[Any]) -> None:
    floor = replace(rungs[-1], name="true floor", evaluation=replace(rungs[-1].evaluation, bits_per_byte=0.01))
    (axes,) = plot_ladder([*rungs, floor]).axes
    *bars, hollow = [bar.get_facecolor() for bar in axes.patches]
    assert hollow == (1, 1, 1, 1)
    best = int(np.argmin([rung.bits_per_byte for rung in rungs]))
    assert [bars.count(colour) for colour in bars].index(1) == best


def test_the_ladder_paints_mine_or_else_the_best() -> None:
    """One bar in colour, and its number in bold."""
    found = {"first": 2.5, "second": 1.25, "third": 2.0, "true floor": 0.5}
    rungs = [SimpleNamespace(name=n, bits_per_byte=b, compresses_to=b / 8, sentence="") for n, b in found.items()]
    for mine, coloured in ((None, 1), ("first", 0), ("third", 2), ("true floor", 3)):
        (axes,) = plot_ladder(rungs, mine=mine).axes
        accents = [bar.get_facecolor() == to_rgba(ACCENT) for bar in axes.patches]
        bold = [text.get_weight() == "bold" for text in axes.texts if "of the size" in text.get_text()]
        assert accents == bold == [i == coloured for i in range(4)]
    with pytest.raises(
        ValueError, match="no rung is named 'fourth': `mine` is one of first, second, third, true floor"
    ):
        plot_ladder(rungs, mine="fourth")


def test_attention_picture_shows_the_weights() -> None:
    weights = np.tril(np.ones((3, 5, 5))) / np.arange(1, 6)[:, None]
    figure = plot_attention(weights[:, 2:], ["a", " b", "\n", "$d", "e"])
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == 3
    assert np.array_equal(np.asarray(panels[1].images[0].get_array()), weights[1, 2:])
    assert len(panels[0].get_yticklabels()) == 3 and figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="do not fit 4 tokens"):
        plot_attention(weights[0], list("abcd"))


# ---- the floor under stories


def test_the_floor_is_what_the_world_itself_needs() -> None:
    documents, world = list(stories(23, seed=5)), StoryWorld()
    for tokenizer in (ByteTokenizer(), CharTokenizer.train(documents)):
        rung = floor_rung(encode_corpus(documents, tokenizer), tokenizer)
        assert rung is not None and rung.name == "true floor"
        n_bytes = sum(len(text.encode()) for text in documents)
        bits = -math.fsum(map(world.log_prob, documents)) / math.log(2) / n_bytes
        assert rung.bits_per_byte == pytest.approx(bits, rel=1e-12)
        assert (rung.evaluation.bytes, rung.evaluation.tokens) == (n_bytes, sum(map(len, documents)))
        assert f"{story_floor().bits_per_byte:.4f}" in rung.sentence
        assert world.log_prob(rung.sample) < 0  # it is a story


def test_the_floor_of_a_cut_text_counts_what_stands_there() -> None:
    documents, tokenizer, world = list(stories(4, seed=6)), ByteTokenizer(), StoryWorld()
    validation = encode_corpus(documents, tokenizer)
    first, second = (len(text) for text in documents[:2])
    for max_bytes in (7, first - 1, first, first + 1, first + 100, first + second, 10**6):
        rung = floor_rung(validation, tokenizer, max_bytes=max_bytes)
        left, nats = max_bytes, 0.0
        for text in documents:
            part = text[: max(0, left)]
            nats -= world.log_prob(part, cut=len(part) < len(text))
            left -= len(part)
        assert rung is not None
        assert rung.evaluation.bytes == min(max_bytes, sum(map(len, documents)))
        assert rung.bits_per_byte == pytest.approx(nats / math.log(2) / rung.evaluation.bytes, rel=1e-12)


@pytest.mark.parametrize("stranger", ["Once upon a time.", "", next(stories(1, 8))[:-1], next(stories(1, 8)) + "\n"])
def test_no_floor_where_one_document_is_no_story(stranger: str) -> None:
    documents, tokenizer = list(stories(3, seed=7)), ByteTokenizer()
    for place in (0, 2, 3):
        validation = encode_corpus([*documents[:place], stranger, *documents[place:]], tokenizer)
        assert floor_rung(validation, tokenizer) is None


def test_no_model_of_stories_falls_below_their_floor() -> None:
    """The best n-gram counted on 400 other stories needs many times as much."""
    tokenizer = ByteTokenizer()
    train, validation = (encode_corpus(list(stories(n, seed)), tokenizer) for n, seed in ((400, 1), (40, 2)))
    floor = floor_rung(validation, tokenizer)
    counted = [rung for rung, _ in counted_rungs(train, validation, tokenizer, NgramConfig(vocab_size=257, order=8))]
    assert floor is not None
    assert 0 < floor.bits_per_byte < min(rung.bits_per_byte for rung in counted) < 1


def test_the_verb_shows_the_floor_under_stories_only(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    (tmp_path / "text.txt").write_text("\n\n".join(stories(30, seed=4)))
    for data, last in (("stories:60", "true floor"), (str(tmp_path / "text.txt"), "Kneser-Ney")):
        assert main(["ladder", "--data", data, "--max-bytes", "1500", "--json"]) == 0
        rungs = json.loads(capsys.readouterr().out)["rungs"]
        assert rungs[-1]["model"] == last and len(rungs) == 5 + (last == "true floor")
        assert len({rung["bytes"] for rung in rungs}) == 1


def test_runs_that_share_no_text_or_vocabulary_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits per byte of other texts are no comparison: the line says which run, and what differs."""
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    for name, data, tokenizer in (
        ("a", "stories:40", "byte"),
        ("b", "stories:41", "byte"),
        ("c", "stories:40", "char"),
    ):
        flags = ["--model", "ngram", "--order", "2", "--tokenizer", tokenizer]
        assert main(["train", "--data", data, "--out", str(tmp_path / name), *flags]) == 0
    a, b, c = (str(tmp_path / name) for name in "abc")
    for pair, said in (((a, b), f"{b} was trained on stories:41, {a} on stories:40"), ((a, c), f"{c} and {a} have")):
        capsys.readouterr()
        assert main(["ladder", *pair]) == 2
        assert said in capsys.readouterr().err
