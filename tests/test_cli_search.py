"""`minilm search` as its users meet it: scores against the library by hand, killed and gone on with, and refused."""

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.naive_bayes import NaiveBayes
from minilm.classical.ngram import NgramLM
from minilm.cli import search, searching, train
from minilm.cli.main import main
from minilm.cli.search_space import candidates_of, check, plan_of, space_of
from minilm.cli.searching import Labels, Language, split_text
from minilm.evaluation.evaluate import evaluate
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.tasks.cross_validation import cross_validate, split_labelled
from minilm.tasks.labelled import load_labelled
from minilm.text.corpus import Corpus, load_corpus
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import TrainingFailed
from minilm.training.loop import train as train_loop
from minilm.training.trials import Trial

Capture = pytest.CaptureFixture[str]
WORDS = ("fox", "owl", "bear", "hare", "wolf", "mole", "toad")
DOCUMENTS = [f"The {a} saw the {b} and the {c}." for a in WORDS for b in WORDS for c in WORDS[:3] if a != b]
TINY = {
    "model": "gpt",
    "tokenizer": "byte",
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 2,
    "context_length": 16,
    "batch_size": 4,
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text of many documents and a table of labelled texts."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    rows = [f'"{a} {b} {c}",{"good" if a < b else "bad"}' for a in WORDS for b in WORDS for c in WORDS if a != b != c]
    (room / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return room


def chosen_for(room: Path, **changes: Any) -> dict[str, Any]:
    chosen = {"data": str(room / "text.jsonl"), **changes}
    check(chosen)
    return chosen


def language(room: Path, folder: Path, **changes: Any) -> tuple[Language, Any]:
    chosen = chosen_for(room, **changes)
    subject, plan = plan_of(chosen, folder)
    subject.load(plan.candidates, lambda line: None)
    return subject, plan


def searched(arguments: str, out: Path, capsys: Capture) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["search", *shlex.split(arguments), "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("\n") == 1
    return json.loads(said.out)


# ---- what a trial is


def test_an_ngram_on_folds_is_scored_as_by_hand(room: Path, tmp_path: Path, capsys: Capture) -> None:
    data, space = room / "text.jsonl", "--grid order=2,3 --grid discount=0.25,0.75"
    result = searched(f"--data {data} --model ngram --tokenizer byte --folds 3 {space}", tmp_path / "s", capsys)
    documents = [text.encode() for text in load_corpus(str(data)).train]
    means = {}
    for order, discount in ((2, 0.25), (2, 0.75), (3, 0.25), (3, 0.75)):
        config = NgramConfig(vocab_size=257, order=order, discounts=((discount,) * 3,) * order)
        bits = []
        for fold in range(3):
            learned = [256, *(byte for i, text in enumerate(documents) if i % 3 != fold for byte in (*text, 256))][:-1]
            held_out = np.array(
                [256, *(byte for i, text in enumerate(documents) if i % 3 == fold for byte in (*text, 256))]
            )
            scores = NgramLM(config).fit(np.array(learned), 256).token_log_probs(held_out)
            bits.append(-scores[held_out != 256].sum() / math.log(2) / (held_out != 256).sum())
        means[order, discount] = sum(bits) / 3
    found = {(row["options"]["order"], row["options"]["discount"]): row["mean"] for row in result["candidates"]}
    assert found == pytest.approx(means, abs=1e-9)
    best = min(means, key=lambda key: means[key])
    assert result["best"] == {"order": best[0], "discount": best[1]} and result["trials"] == 12
    assert main(["search", "--resume", str(tmp_path / "s")]) == 0  # nothing is left to do but to say it
    assert "chance alone makes up to" in capsys.readouterr().out
    ordered = sorted(means.values())
    assert result["difference"] == pytest.approx(ordered[1] - ordered[0], abs=1e-9) and result["needed"] is not None


def test_a_gpt_is_trained_as_the_loop_does_it(room: Path, tmp_path: Path) -> None:
    subject, _ = language(room, tmp_path, **TINY, grid=["learning_rate=0.01"], steps=6, plain=True)
    found = subject.score(Trial({"learning_rate": 0.01}, seed=3, budget=5))
    tokenizer = ByteTokenizer()
    ids = encode_corpus(load_corpus(str(room / "text.jsonl")).train, tokenizer).ids
    cut = len(ids) - len(ids) // 10
    cut = min((i for i in range(len(ids)) if ids[i] == 256), key=lambda i: abs(i - cut))
    torch.manual_seed(3)
    model = GPT(GPTConfig(vocab_size=257, context_length=16, d_model=8, n_layers=1, n_heads=2))
    config = TrainConfig(steps=5, learning_rate=0.01, batch_size=4, warmup=math.ceil(20 * 5 / 6), seed=3)
    train_loop(model, Batches(ids[:cut], 4, 16, 3), config, progress=False)
    assert found == pytest.approx(evaluate(model, ids[cut:], tokenizer).bits_per_byte, abs=1e-9)


@pytest.mark.parametrize("kind", ["gpt", "gru", "speedrun"])
def test_a_trial_is_a_pure_function_of_options_and_seed(kind: str, room: Path, tmp_path: Path) -> None:
    own: dict[str, Any] = {"gru": {"window": 16}, "speedrun": {"ngram_rows": 64}}.get(kind, {})
    shape = {name: value for name, value in TINY.items() if kind != "gru" or name not in ("n_heads", "context_length")}
    shape |= {**own, "model": kind}
    grid = ["learning_rate=0.01,0.03", f"threads=0{',2' if kind == 'gpt' else ''}"]
    subject, plan = language(room, tmp_path, **shape, grid=grid, steps=3, folds=2, score_bytes=1000)
    trials = [trial for options in plan.candidates for trial in plan.trials(options, 3)]
    before = torch.get_num_threads()
    forwards = [subject.score(trial) for trial in trials]
    torch.rand(3)
    backwards = [subject.score(trial) for trial in reversed(trials)][::-1]
    assert forwards == backwards and torch.get_num_threads() == before
    rates = [score for trial, score in zip(trials, forwards, strict=True) if trial.options["threads"] == 0]
    assert len(set(rates)) == 4  # two rates on two folds
    seeds = {subject.score(trials[0]._replace(seed=seed)) for seed in range(2)}
    assert len(seeds) == 2


def test_the_validation_text_is_never_read(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden:
        def __iter__(self) -> Any:
            raise AssertionError("a search has looked at the validation text")

    def guarded(name: str, **how: Any) -> Corpus:
        return Corpus("guarded", load_corpus(name).train, Forbidden())  # type: ignore[arg-type]

    monkeypatch.setattr("minilm.text.corpus.load_corpus", guarded)
    arguments = f"--data {room / 'text.jsonl'} --model ngram --grid order=1,2 --grid vocab_size=257,260".split()
    assert search.run([*arguments, "--out", str(tmp_path / "s"), "--json"]) == 0
    assert {path.name for path in (tmp_path / "s").glob("*.tokens")} == {"train-257.tokens", "train-260.tokens"}
    assert search.run([*arguments[:-2], "--tokenizer", "char", "--out", str(tmp_path / "t"), "--json"]) == 0


def test_pitfall_12_no_document_is_on_both_sides(room: Path) -> None:
    """PITFALLS 12: over all folds every document is held out once, and its copies with it."""
    rng = np.random.default_rng(0)
    documents = [bytes(rng.integers(97, 100, 3).tolist()) for _ in range(40)]  # of 27 possible ones: many occur twice
    ids = np.array([token for text in documents for token in (256, *text)], dtype=np.uint16)

    def texts(part: np.ndarray) -> list[bytes]:
        return bytes(np.where(part == 256, 10, part).tolist()).split(b"\n")[1:]

    for k in (2, 3, 7):
        held = []
        for fold in range(k):
            learned, held_out = (texts(part) for part in split_text(ids, 256, fold, k))
            assert not set(learned) & set(held_out) and sorted(learned + held_out) == sorted(documents)
            held += held_out
        assert sorted(held) == sorted(documents)
    with pytest.raises(ValueError, match=f"30 folds of {len(set(documents))} different documents"):
        split_text(ids, 256, 0, 30)
    learned, held_out = split_text(np.array([256, *range(97, 122)] * 4), 256, None, 0)
    assert held_out[0] == 256 and len(learned) + len(held_out) in (104, 105)


def test_a_failed_training_is_an_infinite_score(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    real = Language.train

    def fails(self: Language, settings: Any, config: TrainConfig, *rest: Any) -> Any:
        if config.learning_rate > 1:
            raise TrainingFailed("step 1: loss nan")
        return real(self, settings, config, *rest)

    monkeypatch.setattr(Language, "train", fails)
    tiny = (
        "--model gpt --tokenizer byte --d-model 8 --n-layers 1 --context-length 16 --batch-size 2 --steps 2 --seeds 2"
    )
    result = searched(f"--data {room / 'text.jsonl'} {tiny} --grid learning_rate=2,0.01", tmp_path / "s", capsys)
    assert result["best"] == {"learning_rate": 0.01} and result["candidates"][1]["scores"] == [None, None]
    assert result["difference"] is None and result["verdict"] == "unknown"
    assert '"score": null' in (tmp_path / "s" / "trials.jsonl").read_text()


def test_the_warm_up_of_a_short_round_is_short(room: Path) -> None:
    subject = Language("gpt", chosen_for(room, model="gpt", steps=90, warmup=30, grid=["beta2=0.9"]), 0, Path())
    warmups = [subject.configs({}, Trial({}, budget=budget))[1].warmup for budget in (10, 30, 90)]
    assert warmups == [4, 10, 30]
    assert subject.configs({"warmup": 9}, Trial({}, budget=10))[1].warmup == 1


def test_classifiers_are_scored_on_folds_and_once_on_what_is_kept_aside(
    room: Path, tmp_path: Path, capsys: Capture
) -> None:
    space = "--grid smoothing=0.1,1 --grid longest=1,2 --seeds 2 --folds 4"
    result = searched(f"--data {room / 'rows.csv'} --model naive-bayes {space}", tmp_path / "s", capsys)
    learned, aside = split_labelled(load_labelled(room / "rows.csv"), 0.1, 0)
    for row in result["candidates"]:
        make = Labels("naive-bayes", {}, 4).make

        def fit(
            train: list[Any], texts: list[str], options: dict[str, Any] = row["options"], make: Any = make
        ) -> list[str]:
            return make(options).fit([one.text for one in train], [one.label for one in train]).predict(texts)

        expected = [1 - share for seed in (0, 1) for share in cross_validate(fit, learned, 4, seed).accuracies]
        assert row["scores"] == pytest.approx(expected, abs=1e-12)
    best = make(result["best"]).fit([one.text for one in learned], [one.label for one in learned])
    right = [label == one.label for label, one in zip(best.predict([one.text for one in aside]), aside, strict=True)]
    assert result["accuracy"] == pytest.approx(sum(right) / len(right)) and result["kept_aside"] == len(aside)
    assert isinstance(best, NaiveBayes) and result["advice"].startswith("NaiveBayes(BagOfNgrams(longest=")


# ---- killed, and gone on with

NGRAMS = "--model ngram --tokenizer byte --grid order=1,2,3 --folds 2"


def test_interrupted_after_any_trial_and_gone_on_with(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    arguments = ["--data", str(room / "text.jsonl"), *NGRAMS.split()]
    assert main(["search", *arguments, "--out", str(tmp_path / "whole")]) == 0
    expected = (tmp_path / "whole" / "result.json").read_bytes()
    real = Language.score
    for n, (error, code) in enumerate(
        ((KeyboardInterrupt, 130), (OSError(28, "No space left on device"), 2), (KeyboardInterrupt, 130))
    ):
        out, left = tmp_path / str(n), [2 * n]

        def killed(self: Language, trial: Trial, on_step: Any, left: list[int] = left, error: Any = error) -> float:
            if not left[0]:
                raise error
            left[0] -= 1
            return real(self, trial, on_step)

        monkeypatch.setattr(Language, "score", killed)
        capsys.readouterr()
        assert main(["search", *arguments, "--out", str(out)]) == code
        last = capsys.readouterr().err.splitlines()[-1]
        assert f"{2 * n} of 6 trials are done and kept, go on with: minilm search --resume {out}" in last
        assert not (out / ".lock").exists() and not (out / "result.json").exists()
        monkeypatch.setattr(Language, "score", real)
        assert main(["search", "--resume", str(out)]) == 0
        assert (out / "result.json").read_bytes() == expected
        assert len((out / "trials.jsonl").read_text().splitlines()) == 6
    monkeypatch.setattr(Language, "score", None)  # all is done: nothing is trained
    assert main(["search", "--resume", str(out)]) == 0


def test_killed_with_nine(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """A process that is shot while it searches loses nothing that was done."""
    out = tmp_path / "s"
    grid = "order=" + ",".join(map(str, range(1, 13)))
    arguments = [
        "search",
        "--data",
        str(room / "text.jsonl"),
        "--model",
        "ngram",
        "--grid",
        grid,
        "--folds",
        "3",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "minilm", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "trials.jsonl").exists() and (out / "trials.jsonl").stat().st_size > 300:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    kept = (out / "trials.jsonl").read_bytes().splitlines(keepends=True)
    assert 2 <= len(kept) <= 36
    assert main(["search", "--resume", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    whole = [line for line in kept if line.endswith(b"\n")]
    lines = (out / "trials.jsonl").read_bytes().splitlines(keepends=True)
    assert lines[: len(whole)] == whole and len(lines) == 36 == result["trials"]
    other = searched(shlex.join(arguments[1:-2]), tmp_path / "other", capsys)
    assert {**result, "seconds": 0, "out": ""} == {**other, "seconds": 0, "out": ""}


def test_a_signal_during_a_step_ends_the_search_and_keeps_no_half_trial(room: Path, tmp_path: Path) -> None:
    subject, _ = language(room, tmp_path, **TINY, grid=["learning_rate=0.01"], steps=50)
    done = []

    def on_step() -> None:
        done.append(1)
        if len(done) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        subject.score(Trial({"learning_rate": 0.01}, budget=50), on_step)
    assert len(done) == 3


def test_a_trial_that_cannot_be_is_named(room: Path, tmp_path: Path, capsys: Capture) -> None:
    tiny = (
        "--model gpt --tokenizer byte --d-model 8 --n-layers 1 --steps 2 --batch-size 1 --grid context_length=16,100000"
    )
    assert main(["search", "--data", str(room / "text.jsonl"), *tiny.split(), "--out", str(tmp_path / "s")]) == 2
    assert "search: context_length=100000: the text has" in capsys.readouterr().err.splitlines()[-1]


def test_another_text_is_refused(room: Path, tmp_path: Path, capsys: Capture) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text((room / "text.jsonl").read_text())
    assert main(["search", "--data", str(text), *NGRAMS.split(), "--out", str(tmp_path / "s"), "--json"]) == 0
    text.write_text(text.read_text().replace("fox", "elk"))
    assert main(["search", "--resume", str(tmp_path / "s")]) == 2
    assert "is not what it was when the search in" in capsys.readouterr().err


def test_an_error_before_the_first_trial_leaves_nothing_behind(room: Path, tmp_path: Path) -> None:
    assert main(["search", "--data", str(tmp_path / "none.txt"), *NGRAMS.split(), "--out", str(tmp_path / "s")]) == 2
    assert not (tmp_path / "s").exists()
    assert main(["search", "--data", str(room / "text.jsonl"), *NGRAMS.split(), "--out", str(room)]) == 2


# ---- what is said


def test_halving_of_random_candidates_and_its_words(room: Path, tmp_path: Path, capsys: Capture) -> None:
    tiny = "--model gpt --tokenizer byte --d-model 8 --n-layers 1 --context-length 16 --batch-size 2 --score-bytes 1000"
    space = "--random learning_rate=log:1e-4:1e-1 --random n_heads=1:2 --trials 5 --seed 3"
    arguments = f"--data {room / 'text.jsonl'} {tiny} {space} --steps 7 --halving --seeds 2"
    assert main(["search", *shlex.split(arguments), "--out", str(tmp_path / "s")]) == 0
    said = capsys.readouterr()
    assert "5 candidates x 2 seeds, halved in 2 rounds (5 of 2 steps, 2 of 6 steps): 14 trials, 44 steps" in said.out
    assert "what 3.67 of 5 cost without halving" in said.out
    assert "44/44" in said.err and "trial 14 of 14" in said.err
    lines = [json.loads(line) for line in (tmp_path / "s" / "trials.jsonl").read_text().splitlines()]
    assert [line["budget"] for line in lines] == [2] * 10 + [6] * 4 and {line["seed"] for line in lines} == {3, 4}
    table = json.loads((tmp_path / "s" / "result.json").read_text())
    assert [row["budget"] for row in table["candidates"]] == [6, 6, 2, 2, 2]
    assert all(
        float(f"{row['options']['learning_rate']:.4g}") == row["options"]["learning_rate"]
        for row in table["candidates"]
    )
    words = said.out.splitlines()
    assert words[3].startswith(f"{table['candidates'][0]['mean']:>13.4f}") and words[3].endswith(
        words[8].removeprefix("best: ")
    )
    assert (tmp_path / "s" / "search.png").read_bytes().startswith(b"\x89PNG")
    assert ("chance alone makes up to" in words[9]) and words[9].endswith(table["verdict"])


@pytest.mark.parametrize(
    ("scores", "words"), [([0.5, 0.5], "no better than the next"), ([0.5, 0.75], "one score cannot say")]
)
def test_what_one_score_says(
    room: Path, tmp_path: Path, scores: list[float], words: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(Language, "score", lambda self, trial, on_step: scores[trial.options["order"] - 1])
    arguments = [
        "search",
        "--data",
        str(room / "text.jsonl"),
        "--model",
        "ngram",
        "--grid",
        "order=1,2",
        "--out",
        str(tmp_path / "s"),
    ]
    assert main(arguments) == 0
    assert words in capsys.readouterr().out


def test_the_advice_is_a_command_that_trains_the_winner(room: Path, tmp_path: Path, capsys: Capture) -> None:
    result = searched(
        f"--data {room / 'text.jsonl'} --model ngram --tokenizer byte --grid order=2 --grid discount=0.5",
        tmp_path / "s", capsys,
    )  # fmt: skip
    words = shlex.split(result["advice"])
    assert words[:2] == ["minilm", "train"] and result["difference"] is None
    assert main([*words[1:], "--out", str(tmp_path / "run"), "--json"]) == 0
    config = load_checkpoint(tmp_path / "run").model.config
    assert config.order == 2 and config.discounts == ((0.5,) * 3,) * 2
    subject, plan = language(
        room, tmp_path, **TINY, grid=["bias=false", "optimizer=muon"], plain=True, tie_embeddings=True
    )
    parsed = train.read_options(train.parser_of_train(), shlex.split(subject.advice(plan.candidates[0]))[2:])
    wanted = {
        **TINY,
        "data": str(room / "text.jsonl"),
        "bias": False,
        "optimizer": "muon",
        "plain": True,
        "tie_embeddings": True,
    }
    assert {name: value for name, value in parsed.items() if name != "help_all"} == {**wanted, "steps": searching.STEPS}


def test_a_winner_at_the_edge_of_the_grid_is_told(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(
        Language, "score", lambda self, trial, on_step: trial.options["order"] + trial.options["discount"]
    )
    space = ["--grid", "order=3,2,4", "--grid", "discount=0.5,0.25", "--grid", "smoothing=kneser-ney"]
    assert (
        main(["search", "--data", str(room / "text.jsonl"), "--model", "ngram", *space, "--out", str(tmp_path / "s")])
        == 0
    )
    said = capsys.readouterr().out
    assert "order=2 is the smallest that was tried: smaller ones may be better still" in said
    assert said.count("may be better still") == 1  # of two values, one is always at an edge


def test_one_discount_for_an_ngram_is_what_its_config_says(room: Path, tmp_path: Path, capsys: Capture) -> None:
    data = ["train", "--data", str(room / "text.jsonl"), "--tokenizer", "byte"]
    assert main([*data, "--model", "ngram", "--discount", "0.25", "--out", str(tmp_path / "a")]) == 0
    config = load_checkpoint(tmp_path / "a").model.config
    assert config.order == 5 and config.discounts == ((0.25,) * 3,) * 5  # as chosen: nothing is tuned
    for arguments, message in (
        (["--model", "ngram", "--discount", "1.5"], "--discount is 1.5: it must be from 0 to 1"),
        (["--model", "ngram", "--smoothing", "add-k", "--discount", "0.5"], "add-k has no discounts"),
        (["--model", "gpt", "--discount", "0.5"], "--discount is no option of model gpt"),
        (["--model", "glove", "--discount", "0.5"], "--discount is no option of word vectors"),
    ):
        assert main([*data, *arguments, "--out", str(tmp_path / "b")]) == 2
        assert message in capsys.readouterr().err


def test_a_file_of_options(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "o.toml").write_text('model = "ngram"\ntokenizer = "byte"\ngrid = ["order=1,2"]\nfolds = 2\n')
    assert (
        searched(f"--data {room / 'text.jsonl'} --config {tmp_path / 'o.toml'}", tmp_path / "s", capsys)["trials"] == 4
    )


# ---- what is tried, and what cannot be


def test_names_values_and_types() -> None:
    chosen = {
        "model": "gpt",
        "grid": ["learning-rate=1e-3, 1", "bias=true,False"],
        "random": ["n_layers=1:3", "dropout=0:0.5"],
    }
    space = space_of(chosen)
    assert space["learning_rate"] == [0.001, 1.0] and space["bias"] == [True, False]
    assert type(space["learning_rate"][1]) is float  # type: ignore[index]
    drawn = candidates_of({**chosen, "trials": 40, "seed": 1}, space)
    assert {type(one["n_layers"]) for one in drawn} == {int} and {type(one["dropout"]) for one in drawn} == {float}
    assert candidates_of({**chosen, "trials": 7, "seed": 1}, space) == drawn[:7]
    assert len(candidates_of(chosen, space)) == 9 and len(candidates_of({}, {"a": [1, 2], "b": [1, 2, 3]})) == 6
    assert len(candidates_of({"trials": 50}, {"a": [1, 2]})) == 2  # equal ones are tried once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--data: shakespeare"),
        ("--data stories", "say what to try"),
        ("--data stories --minutes 2 --grid n_layers=1", "--minutes would give every trial other steps each time"),
        ("--data stories --grid minutes=1", "minutes is not searched for, give --steps N"),
        ("--data stories --grid seed=1,2", "give --seeds N"),
        ("--data stories --grid lerning_rate=1", "did you mean learning_rate?"),
        ("--data stories --grid n_layers", "write NAME=A,B"),
        ("--data stories --random learning_rate=", "write NAME=LOW:HIGH or NAME=log:LOW:HIGH"),
        ("--data stories --random learning_rate=1", "write LOW:HIGH or log:LOW:HIGH"),
        ("--data stories --random learning_rate=0.1:0.01", "the smaller one first"),
        ("--data stories --random optimizer=a:b", "give its values with --grid"),
        ("--data stories --grid learning_rate=1e-3,x", "'x' is not of type float"),
        ("--data stories --grid n_layers=,", "'' is not of type int"),
        ("--data stories --grid n_layers=2,2", "a value stands there twice"),
        ("--data stories --n-layers 2 --grid n_layers=1", "is given twice"),
        ("--data stories --grid n_layers=1 --random n_layers=1:2", "is given twice"),
        ("--data stories --model gpt --grid n_heads=2,3", "n_heads=3: d_model 128 must be a multiple"),
        ("--data stories --grid optimizer=sgd,foo", "optimizer=foo: optimizer is 'foo': choose one of"),
        ("--data stories --grid n_layers=1,2 --seeds 0", "--seeds is 0: it must be a whole number of at least 1"),
        ("--data stories --grid n_layers=1,2 --folds 1", "--folds is 1"),
        ("--data stories --grid n_layers=1,2 --keep 2", "--keep is for --halving"),
        ("--data stories --grid n_layers=1,2,3,4 --halving --steps 2", "2 steps are too few to halve 4 candidates"),
        ("--data stories --grid n_layers=1,2,3 --halving", "nothing to halve of 3 candidates: try more than 3"),
        ("--data stories --model ngram --grid order=1 --seeds 2", "has no seed"),
        ("--data stories --model ngram --grid order=1 --steps 2", "for models that are trained in steps"),
        ("--data stories --model ngram --grid discount=1.5", "discount is 1.5: it must be from 0 to 1"),
        ("--data stories --model gpt --grid n_layers=1 --order 2", "--order is no flag of model gpt: leave it out"),
        ("--data stories --model naive-bayes --grid longest=1 --smoothing x", "write --grid smoothing=VALUE"),
        ("--data stories --model naive-bayes --grid smoothing=0", "smoothing is 0.0"),
        ("--data stories --task classify --model gpt --grid n_layers=1", "model gpt is no classifier"),
        ("--data stories --grid n_layers=1 --text-column a", "for classifiers"),
        ("--data stories:20 --grid n_layers=1 --device abacus", "device 'abacus' is not available"),
        ("--data stories --grid " + " --grid ".join(f"{name}=" + ",".join(f"0.{i}" for i in range(101, 160))
         for name in ("learning_rate", "weight_decay", "beta2")), "more than 100,000 combinations"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched(arguments: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["search", *arguments.split(), "--out", str(tmp_path / "s")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and message in said and not (tmp_path / "s").exists()


@pytest.mark.parametrize(("arguments", "message"), [("", "has no search.json"), ("--steps 3", "leave out steps")])
def test_what_cannot_be_gone_on_with(arguments: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["search", "--resume", str(tmp_path), *arguments.split()]) == 2
    assert message in capsys.readouterr().err


def test_the_help(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        search.run(["--help"])
    short = capsys.readouterr().out
    assert "example: minilm search --data stories --model gpt --grid" in short and "--minutes" not in short
