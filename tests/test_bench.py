"""The stopwatch: both sides run equally often, in turn, and the ratio is theirs."""

import importlib.util
import json
import time
from collections import Counter
from functools import partial

import pytest
import torch

from minilm.bench import ablation, blocks, training
from minilm.bench import loss as loss_bench
from minilm.bench import tokenizer as tokenizer_bench
from minilm.bench.stopwatch import compare, threads_restored
from minilm.bench.table import Job, Request, format_table, measure, medians
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


def test_the_losses_of_a_large_vocabulary(monkeypatch):
    """Both sides give one number and one gradient; the fused one keeps those two, and no logits."""
    for name, value in (("TOKENS", 400), ("D_MODEL", 8), ("VOCABULARY", 3000)):
        monkeypatch.setattr(loss_bench, name, value)
    values = [loss_bench.loss_of(f)() for f in (loss_bench.fused, loss_bench.plain, loss_bench.by_torch)]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6) == pytest.approx(values[2].item(), rel=1e-6)
    rows = loss_bench.contests()
    assert len(rows) == 2
    for name, (ours, peer) in rows.items():
        kept, peers = (float(word) for word in name.partition("(")[2].removesuffix(" MB kept)").split(" / "))
        assert kept == 0 and peers >= 5  # the logits are 4.8 MB
        ours()
        peer()


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


def test_torch_has_as_many_threads_afterwards_as_before():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads_restored():
        torch.set_num_threads(before + 2)
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["attention", "--tune"], "--tune: attention trains nothing"),
        (["tokenizer", "--seconds", "3"], "--seconds: tokenizer trains nothing"),
        (["blocks", "--large"], "--large: blocks has no long contests"),
        (["training", "--set", "warmup"], "--set warmup: write NAME=VALUE"),
        (["training", "--set", "warm_up=3"], "--set warm_up: no such setting; minilm train --help-all lists them"),
        (["training", "--set", "warmup=often"], "warmup is 'often': it must be of type int"),
        (["ablation", "--seconds", "0"], "--seconds is 0.0: it must be at least 0.1"),
        (["ablation", "--seconds", "3", "inf"], "--seconds is inf: it must be at least 0.1, and finite"),
        (["blocks", "--seconds", "nan"], "--seconds is nan: it must be at least 0.1"),
        (["training", "--steps", "3", "--seconds", "2"], "--steps and --seconds: give one of them"),
        (["ablation", "--steps", "0"], "--steps is 0: it must be at least 1"),
        (["blocks", "--seeds", "0"], "--seeds is 0: it must be at least 1"),
    ],
)
def test_what_a_topic_cannot_be_told_is_one_line(arguments, said, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


# ---- tables: rows that are measured at length


def jobs_of(*names: str, seeds: int = 1, done: list[str]) -> list[Job]:
    def measure(name: str, seed: int) -> dict[str, float]:
        done.append(f"{name} {seed}")
        return {"nats": len(name) + seed / 8}

    return [Job(name, seed, 1.0, partial(measure, name, seed)) for name in names for seed in range(seeds)]


def test_rows_in_the_file_are_not_measured_again(tmp_path):
    out, done = tmp_path / "rows.jsonl", []
    settings = Request(data="a.txt", changes={"warmup": 5}).settings("training")
    first = list(measure(jobs_of("one", seeds=2, done=done), settings, out, progress=False))
    assert first == [{"row": "one", "seed": s, "settings": settings, "nats": 3 + s / 8} for s in range(2)]
    again = list(measure(jobs_of("three", "one", seeds=2, done=done), settings, out, progress=False))
    assert done == ["one 0", "one 1", "three 0", "three 1"]
    assert [json.loads(line) for line in out.read_text().splitlines()] == [*first, *again[:2]]
    assert again[2:] == first


@pytest.mark.parametrize(
    "other",
    [
        Request(data="b.txt"),
        Request(data="a.txt", tune=True),
        Request(data="a.txt", split=0.8),
        Request(data="a.txt", changes={"warmup": 6}),
    ],
)
def test_a_row_of_another_measurement_does_not_count(tmp_path, other):
    out, done = tmp_path / "rows.jsonl", []
    list(measure(jobs_of("one", done=done), Request(data="a.txt").settings("training"), out, progress=False))
    list(measure(jobs_of("one", done=done), other.settings("training"), out, progress=False))
    list(measure(jobs_of("one", done=done), Request(data="a.txt").settings("blocks"), out, progress=False))
    assert len(done) == len(out.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "half", ["", "{", '{"row"', '{"row": ', '{"row": "tw', '{"row": "two", "seed": 0, "settings": {}}']
)
def test_a_run_that_breaks_off_keeps_what_it_has(tmp_path, half):
    out, done = tmp_path / "rows.jsonl", []

    def stop() -> dict[str, float]:
        raise KeyboardInterrupt

    jobs = [*jobs_of("one", done=done), Job("two", 0, 1.0, stop)]
    with pytest.raises(KeyboardInterrupt):
        list(measure(jobs, {}, out, progress=False))
    with out.open("a") as file:
        file.write(half)  # as a crash would leave it
    assert [row["row"] for row in measure(jobs_of("one", "two", done=done), {}, out, progress=False)] == ["one", "two"]
    assert done == ["one 0", "two 0"]
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == ["one", "two"]


@pytest.mark.parametrize(
    "content",
    [
        b"Once upon a time\n",
        b'{"a": 1}\n',
        b"\xff\xfe\n",
        b"no line end",
        b'{"a": 1}',
        b"[1]",
        b"7",
        b'{"row": 1}\n{"a"',
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    out, done = tmp_path / "novel.txt", []
    out.write_bytes(content)
    with pytest.raises(ValueError, match="holds no rows of a bench"):
        list(measure(jobs_of("one", done=done), {}, out, progress=False))
    assert out.read_bytes() == content and not done


def test_settings_that_do_not_matter_to_a_row_are_not_looked_at(tmp_path):
    out, done = tmp_path / "rows.jsonl", []
    for split, n_runs in ((0.9, 5), (0.8, 5), (0.9, 3)):
        request = Request(data="stories:30", split=split, runs=n_runs)
        for ignored in (("runs",), ("runs", "split"), ("split",)):
            jobs = [job._replace(ignored=ignored) for job in jobs_of("-".join(ignored), done=done)]
            list(measure(jobs, request.settings("training"), out, progress=False))
    assert done == ["runs 0", "runs-split 0", "split 0", "runs 0", "split 0"]
    assert [Request().ignored(data) for data in (None, "a.txt", "stories", "stories:30")] == [
        ("runs",),
        ("runs",),
        ("runs", "split"),
        ("runs", "split"),
    ]


def test_a_place_that_cannot_be_written_is_known_before_anything_is_measured(tmp_path):
    done: list[str] = []
    with pytest.raises(FileNotFoundError):
        list(measure(jobs_of("one", done=done), {}, tmp_path / "nowhere" / "rows.jsonl", progress=False))
    assert not done


def test_the_bar_tells_the_time_that_is_left(capsys, tmp_path):
    out, done = tmp_path / "rows.jsonl", []
    list(measure(jobs_of("one", done=done), {}, out))
    said = capsys.readouterr().err
    assert "one, seed 0" in said and "1/1" in said
    list(measure([*jobs_of("one", done=done), Job("two", 0, 7.0, dict)], {}, out))
    assert "7/7" in capsys.readouterr().err  # the row that is there already costs nothing


def test_medians_and_spread_over_the_seeds():
    rows = [
        {"row": "a", "seed": 3, "settings": {}, "nats": 2.0, "steps": 7, "note": "x"},
        {"row": "b", "seed": 3, "settings": {}, "nats": 5.5},
        {"row": "a", "seed": 4, "settings": {}, "nats": 1.0, "steps": 9},
        {"row": "a", "seed": 5, "settings": {}, "nats": 4.5, "steps": 10},
        {"row": "c", "seed": 3, "settings": {}, "nats": None, "failed": "step 2"},
        {"row": "c", "seed": 4, "settings": {}, "nats": 3.0},
    ]
    assert medians(rows) == [
        {"row": "a", "nats": 2.0, "nats from": 1.0, "nats to": 4.5, "steps": 9, "note": "x", "seeds": 3},
        {"row": "b", "nats": 5.5},
        {"row": "c", "nats": 3.0, "nats from": 3.0, "nats to": 3.0, "failed": "1 of 2", "seeds": 2},
    ]
    assert medians(rows[4:5]) == [{"row": "c", "nats": None, "failed": "step 2"}]  # one seed: why it failed


def runs(name: str, *seconds: float | str | None) -> list[dict[str, object]]:
    """A row for each seed; a word is a run that failed."""
    return [
        {"row": name, "seed": seed, "settings": {}}
        | ({"nats": None, "failed": s} if isinstance(s, str) else {"nats": 1.5, "seconds_to_target": s})
        for seed, s in enumerate(seconds)
    ]


@pytest.mark.parametrize(
    "seconds, median",
    [
        ((40.0,), 40.0),
        ((None,), "not reached"),
        ((40.0, None, None), "not reached"),
        ((44.0, None, 40.0), 44.0),
        ((40.0, None), "not reached"),
        ((40.0, "step 3", "step 9"), "not reached"),
        ((40.0, 42.0, 38.0, "step 3"), 41.0),
    ],
)
def test_a_run_that_never_got_there_took_forever(seconds, median):
    row = medians(runs("a", *seconds))[0]
    assert row["seconds_to_target"] == median
    assert "seconds_to_target from" not in row
    n_failed = sum(isinstance(s, str) for s in seconds)
    assert row.get("failed") == (f"{n_failed} of {len(seconds)}" if n_failed else None)
    json.dumps(row, allow_nan=False)


def test_a_table_is_aligned():
    rows = [
        {"row": "n-gram", "nats": 1.51649},
        {"row": "a", "nats": 12.345, "tokens": 16200},
        {"row": "b", "x": 1e5 / 3},
    ]
    assert format_table(rows).splitlines() == [
        "row       nats  tokens       x",
        "n-gram  1.5165       -       -",
        "a         12.3  16,200       -",
        "b            -       -  33,333",
    ]


def test_how_long_to_train():
    assert [limit[:2] for limit in Request(seconds=(3.0, 0.5)).limits((9.0,))] == [
        ("3 s", {"seconds": 3.0}),
        ("0.5 s", {"seconds": 0.5}),
    ]
    assert [limit.name for limit in Request().limits((9.0,))] == ["9 s"]
    assert [limit[:2] for limit in Request(steps=1200, seconds=(3.0,)).limits((9.0,))] == [
        ("1,200 steps", {"steps": 1200})
    ]


@pytest.fixture
def broken_off(monkeypatch):
    """The topic blocks with one row that is done at once, and one that Ctrl-C ends."""

    def stop() -> dict[str, float]:
        raise KeyboardInterrupt

    done: list[str] = []
    jobs = [*jobs_of("one", done=done), Job("two", 0, 1.0, stop), *jobs_of("three", done=done)]
    monkeypatch.setattr(blocks, "table", lambda request: jobs)
    return done


def test_ctrl_c_shows_the_rows_so_far(broken_off, tmp_path, capsys):
    assert main(["bench", "blocks"]) == 130
    out, error = capsys.readouterr()
    assert out.splitlines() == ["row  nats", "one     3"]
    said = error.splitlines()[-1]
    assert said == "minilm: interrupted: these are the rows so far; with --out FILE they would be kept"
    file = tmp_path / "rows.jsonl"
    assert main(["bench", "blocks", "--out", str(file)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"minilm: interrupted: the rows so far are in {file}; the same command goes on from there"
    assert main(["bench", "blocks", "--out", str(file), "--json"]) == 130
    assert [row["row"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["one"]
    assert broken_off == ["one 0", "one 0"]
    assert main(["bench", "blocks", "--only", "two"]) == 130
    assert capsys.readouterr().out == ""


def test_no_empty_line_after_a_table(monkeypatch, capsys):
    monkeypatch.setattr(blocks, "table", lambda request: jobs_of("one", done=[]))
    assert main(["bench", "blocks"]) == 0
    assert capsys.readouterr().out == "row  nats\none     3\n"


def test_the_defaults_in_the_help_are_those_of_the_topics(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    seconds = {topic: " ".join(f"{s:g}" for s in topic.SECONDS) for topic in (training, blocks, ablation)}
    expected = f"(default: {seconds[training]}; blocks {seconds[blocks]}, ablation {seconds[ablation]})"
    assert expected in said and "example: minilm bench blocks --seconds 20 --out rows.jsonl" in said
