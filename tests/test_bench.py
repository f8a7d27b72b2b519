"""The stopwatch: both sides run equally often, in turn, and the ratio is theirs."""

import importlib.util
import json
import time
from collections import Counter

import pytest

from minilm.bench import tokenizer as tokenizer_bench
from minilm.cli.bench import compare
from minilm.cli.main import main


def test_both_sides_run_in_turn_after_a_warm_up():
    calls: list[str] = []
    compare(lambda: calls.append("ours"), lambda: calls.append("peer"), runs=3)
    assert calls == ["ours", "peer"] * 4


def test_the_ratio_is_ours_over_the_peers(monkeypatch):
    now = 0.0

    def tick(seconds: float):
        def work() -> None:
            nonlocal now
            now += seconds

        return work

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    measured = compare(tick(3.0), tick(2.0), runs=5)
    assert measured == {"ours_s": 3.0, "peer_s": 2.0, "ratio": pytest.approx(1.5)}


def test_the_verb_prints_both_times(capsys):
    assert main(["bench", "attention", "--runs", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 8 and all(row["ratio"] == pytest.approx(row["ours_s"] / row["peer_s"]) for row in rows)
    assert main(["bench", "attention", "--runs", "0"]) == 2


@pytest.fixture
def little_prose(monkeypatch):
    whole = tokenizer_bench.prose
    sizes: list[int] = []

    def little(size: int, seed: int) -> list[str]:
        sizes.append(size)
        return whole(150_000, seed)

    monkeypatch.setattr(tokenizer_bench, "prose", little)
    return sizes


def test_both_sides_of_a_tokenizer_contest_do_the_same(little_prose):
    rows = tokenizer_bench.contests()
    assert list(little_prose) == [1_100_000, 4_500_000]
    peers = ["Hugging Face tokenizers", *["rustbpe"] * (importlib.util.find_spec("rustbpe") is not None)]
    assert [name.split(" / ")[1] for name in rows] == peers * 2 + ["tiktoken's engine"] * 3
    for name, (ours, peer) in rows.items():
        if "training" not in name:
            assert ours() == peer() == ours() and len(peer()) > 1000
            continue
        asked = int(name.split(" to ")[1].split(" ")[0].replace(",", ""))
        trained, theirs = ours(), peer()
        size = theirs.get_vocab_size() if hasattr(theirs, "get_vocab_size") else len(theirs.get_mergeable_ranks())
        assert trained.vocab_size == size + 1 == asked  # ours has <|endoftext|> besides


def test_a_peer_that_is_not_there_loses_its_row(little_prose, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rustbpe" else found(name))
    assert list(tokenizer_bench.large_contests()) == ["BPE training, 50 MB to 4,096 tokens / Hugging Face tokenizers"]
    assert little_prose == [50_000_000]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "rustbpe is not installed" in said


def test_the_prose_of_the_bench_is_always_the_same_and_looks_like_a_language():
    text = "".join(tokenizer_bench.prose(300_000, seed=4))
    assert text == "".join(tokenizer_bench.prose(300_000, seed=4)) != "".join(tokenizer_bench.prose(300_000, seed=5))
    assert 300_000 <= len(text) < 304_000
    counts = sorted(Counter(text.lower().split()).values(), reverse=True)
    assert counts[0] > 10 * counts[40] > 40 * counts[1000] > 0 < counts.count(1)


def test_large_asks_for_the_long_contests(monkeypatch, capsys):
    monkeypatch.setattr(tokenizer_bench, "large_contests", lambda: {"long": (lambda: 1, lambda: 2)})
    assert main(["bench", "tokenizer", "--large", "--runs", "1", "--json"]) == 0
    assert [row["contest"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["long"]
    assert main(["bench", "attention", "--large"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
