"""`--minutes`: which shape is chosen, how many steps are planned, and that the run ends in time. No test looks at a real clock."""

import dataclasses
import doctest
import itertools
import json
import math
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.cli.main import main
from minilm.evaluation.evaluate import evaluate
from minilm.fast.choose import loss_part
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.models.registry import build_model
from minilm.text.corpus import load_corpus
from minilm.text.tokenizer import ByteTokenizer
from minilm.training import budget, sizes
from minilm.training.batches import Batches
from minilm.training.budget import (
    fastest_threads,
    forecast,
    look_tokens,
    plan,
    step_seconds,
    trial_seconds,
    with_headroom,
)
from minilm.training.checkpoint import load_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import next_token_loss
from minilm.training.prepare import prepare, train_tokenizer
from minilm.training.recipes import RECIPES, SHAPES
from minilm.training.sizes import (
    EPOCHS,
    LADDER,
    MEASURED,
    TOKENS_A_WEIGHT,
    WIDTH,
    Candidate,
    choose_shape,
    expected_bits,
    rungs,
)

IDS = np.random.default_rng(0).integers(0, 256, size=203)
MODEL = GPTConfig(vocab_size=257, context_length=5, d_model=8, n_layers=1, n_heads=2, dropout=0.2)
MAKERS = {"gpt": gpt2_config, "llama": llama_config, "speedrun": SpeedrunConfig}


def candidate(rung: dict[str, int], kind: str = "gpt") -> Candidate:
    shape = {name: value for name, value in rung.items() if name != "batch_size"}
    return Candidate(MAKERS[kind](**shape), TrainConfig(batch_size=rung["batch_size"]))


CANDIDATES = [candidate(rung) for rung in LADDER]
# The weights of a block of the GPT: four square matrices and two four times as large, biases, two norms.
WEIGHTS = [
    rung["n_layers"] * (12 * rung["d_model"] ** 2 + (4 + 4 + 1) * rung["d_model"] + 4 * rung["d_model"])
    for rung in LADDER
]


def choose(minutes: float, speeds: Any, n_tokens: int = 10**12, **more: float) -> int:
    """Which rung is chosen where the FLOPs a second of rung i are speeds[i], or the same for all."""
    speeds = [speeds] * len(LADDER) if isinstance(speeds, float) else speeds

    def seconds(of: Candidate) -> float:
        return of.work / speeds[CANDIDATES.index(of)]

    return CANDIDATES.index(choose_shape(CANDIDATES, minutes, n_tokens, seconds, **more))


# ---- the ladder


@pytest.mark.parametrize("kind", MAKERS)
def test_every_rung_is_a_model_of_every_kind_and_larger_than_the_one_before(kind: str) -> None:
    """Weights are counted as in the built model, without tables and head."""
    ladder = [candidate(rung, kind) for rung in LADDER]
    assert all(a.weights < b.weights and a.work < b.work for a, b in itertools.pairwise(ladder))
    first = ladder[0]
    model = build_model("gpt" if kind == "llama" else kind, dataclasses.asdict(first.settings))
    assert first.weights == sum(weight.numel() for weight in model.blocks.parameters())
    if kind == "gpt":
        assert [rung.weights for rung in ladder] == WEIGHTS
    assert [rung.tokens for rung in ladder] == [shape["context_length"] * shape["batch_size"] for shape in LADDER]


def test_a_field_that_was_given_is_never_chosen() -> None:
    names = list(LADDER[0])
    for size in range(len(names) + 1):
        for kept in itertools.combinations(names, size):
            ladder = rungs({*kept, "dropout", "learning_rate"}, 10**9)
            held = set(kept) | (WIDTH if WIDTH & set(kept) else set())
            assert all(set(rung) == set(names) - held for rung in ladder)
            wanted = [{name: shape[name] for name in names if name not in held} for shape in LADDER]
            assert ladder == [rung for i, rung in enumerate(wanted) if rung not in wanted[:i]]
    assert rungs(names, 10**9) == [{}]
    assert rungs({"n_kv_heads"}, 10**9) == rungs({"n_heads"}, 10**9) == rungs({"d_ff"}, 10**9) == rungs(WIDTH, 10**9)


def test_no_context_is_longer_than_the_text() -> None:
    longest = [max(rung["context_length"] for rung in rungs((), n)) for n in (10, 129, 256, 257, 512, 513)]
    assert longest == [128, 128, 128, 256, 256, 512]
    assert len(rungs((), 10)) == 1 and len(rungs({"context_length"}, 10)) == len(rungs({"context_length"}, 10**9))


# ---- the choice


@pytest.mark.parametrize("minutes", [0.01, 1.0, 10.0, 60.0, 10_000.0])
@pytest.mark.parametrize("speed", [1e9, 3e10, 1e12, 1e14])
def test_the_largest_that_sees_enough_tokens_is_chosen(minutes: float, speed: float) -> None:
    """Against the rule written down once more; the measuring is never too long here, as minutes or speed are large."""
    enough = []
    for rung, weights in zip(LADDER, WEIGHTS, strict=True):
        tokens = rung["context_length"] * rung["batch_size"]
        D, T = rung["d_model"], rung["context_length"]
        flops = 6 * tokens * (rung["n_layers"] * (12 * D * D + 2 * T * D) + 1024 * D)
        enough.append(0.97 * 60 * minutes / (flops / speed) * tokens >= TOKENS_A_WEIGHT * weights)
    largest = max(0, sum(enough) - 1)
    assert enough == [True] * sum(enough) + [False] * (len(LADDER) - sum(enough))
    assert choose(minutes, speed) == largest


def test_the_choices_of_this_test_are_not_all_the_same() -> None:
    assert {choose(minutes, 3e10) for minutes in (0.01, 1.0, 10.0, 60.0, 10_000.0)} >= {0, 1, 2, len(LADDER) - 1}


SPEEDS = st.lists(st.floats(1e8, 1e14), min_size=len(LADDER), max_size=len(LADDER))


@settings(deadline=None, max_examples=60)
@given(SPEEDS, st.floats(0.01, 1000), st.floats(1, 100), st.integers(1, 10**9), st.floats(1, 1e6))
def test_more_minutes_or_text_or_steps_never_choose_a_smaller_model(
    speeds: list[float], minutes: float, times: float, n_tokens: int, steps: float
) -> None:
    least = choose(minutes, speeds, n_tokens, most_steps=steps)
    assert choose(minutes * times, speeds, n_tokens, most_steps=steps) >= least
    assert choose(minutes, speeds, int(n_tokens * times), most_steps=steps) >= least
    assert choose(minutes, speeds, n_tokens, most_steps=steps * times) >= least


@settings(deadline=None, max_examples=50)
@given(st.floats(1e8, 1e14), st.floats(0.01, 1000), st.floats(1, 100))
def test_a_faster_machine_never_chooses_a_smaller_model(speed: float, minutes: float, times: float) -> None:
    assert choose(minutes, speed * times) >= choose(minutes, speed)


def test_a_short_text_is_not_worth_a_large_model() -> None:
    """Beyond EPOCHS times through the text, time buys nothing."""
    for i, weights in enumerate(WEIGHTS[:-1]):
        n_tokens = math.ceil(TOKENS_A_WEIGHT * weights / EPOCHS)
        assert choose(1e6, 1e12, n_tokens) == i
        assert choose(1e6, 1e12, max(0, n_tokens - 1)) == max(0, i - 1)
    assert choose(1e6, 1e12, 1) == 0
    assert choose(1e6, 1e12, most_steps=1) == 0


@settings(deadline=None, max_examples=60)
@given(SPEEDS, st.floats(0.01, 1000))
def test_measuring_costs_little(speeds: list[float], minutes: float) -> None:
    """10 s or 5 % of the minutes, where a larger model is not slower per FLOP; the first is measured whatever it costs."""
    speeds = sorted(speeds)
    timed: list[int] = []

    def seconds(of: Candidate) -> float:
        timed.append(CANDIDATES.index(of))
        return of.work / speeds[timed[-1]]

    chosen = CANDIDATES.index(choose_shape(CANDIDATES, minutes, 10**12, seconds))
    assert timed == list(range(len(timed))) and chosen in (len(timed) - 1, max(0, len(timed) - 2))
    costs = [8 * CANDIDATES[i].work / speeds[i] for i in timed]
    assert len(timed) == 1 or sum(costs) <= max(10, 60 * minutes / 20) * (1 + 1e-9)


def test_what_cannot_pay_is_not_measured() -> None:
    """Also at twice the speed of the one before, the third would see too little; the second would do, and does not."""
    timed: list[int] = []

    def seconds(of: Candidate) -> float:
        timed.append(CANDIDATES.index(of))
        return of.work / 1e12

    enough = TOKENS_A_WEIGHT * WEIGHTS[1] / CANDIDATES[1].tokens * CANDIDATES[1].work / 1e12 / (0.97 * 60)
    assert choose_shape(CANDIDATES, 0.9 * enough, 10**12, seconds) is CANDIDATES[0] and timed == [0, 1]
    timed.clear()
    assert choose_shape(CANDIDATES, 0.4 * enough, 10**12, seconds) is CANDIDATES[0] and timed == [0]


def test_a_single_candidate_is_not_measured_and_one_without_room_not_chosen() -> None:
    assert choose_shape(CANDIDATES[3:4], 0.01, 10, lambda of: pytest.fail("measured")) is CANDIDATES[3]
    assert choose(1e6, [1e12, 1e12, 1e-300, 1e12, 1e12, 1e12]) == 1
    assert choose_shape(CANDIDATES, 1e6, 10**12, lambda of: math.inf) is CANDIDATES[0]


def test_the_threshold_is_what_a_published_law_says_of_neighbours() -> None:
    """Hoffmann et al. (2022), equal FLOPs: from which number of tokens a weight on is the larger of two rungs ahead?"""

    def loss(weights: float, tokens: float) -> float:
        return 406.4 / weights**0.34 + 410.7 / tokens**0.28

    at = []
    for (smaller, n), (larger, m) in itertools.pairwise(list(zip(CANDIDATES, WEIGHTS, strict=True))[:4]):
        more = (larger.work / larger.tokens) / (smaller.work / smaller.tokens)  # tokens that the smaller reads for one
        at.append(next(r for r in np.geomspace(0.1, 100, 500) if loss(m, r * m) < loss(n, more * r * m)))
    assert at == sorted(at) and 1.5 < at[0] < at[-1] < 5
    assert abs(TOKENS_A_WEIGHT - np.mean(at)) < 0.5


# ---- the plan


def make_model() -> GPT:
    torch.manual_seed(0)
    return GPT(MODEL)


def make_batches(batch_size: int = 2) -> Batches:
    return Batches(IDS, batch_size, context_length=5, seed=3)


def timer_of(seconds: float, by_threads: dict[int, float] | None = None) -> Any:
    """A timer that measures nothing, and notes how it was asked."""

    def timer(model: Any, batches: Any, config: TrainConfig, loss_function: Any, n_steps: int) -> float:
        timer.asked.append((config.threads, n_steps))  # type: ignore[attr-defined]
        return (by_threads or {}).get(config.threads, seconds)

    timer.asked = []  # type: ignore[attr-defined]
    return timer


@pytest.fixture
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_model_is_compiled_once_for_the_plan(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads are chosen by the model as it is written; the steps are counted by what it takes compiled."""
    monkeypatch.setattr("minilm.training.budget.n_cores", lambda: 2)
    asked: list[tuple[int, bool]] = []

    def timer(model: Any, batches: Any, config: TrainConfig, loss_function: Any, n_steps: int) -> float:
        asked.append((config.threads, config.compile))
        return 0.05 if config.compile else 0.1 * config.threads

    config = plan(make_model(), make_batches(), TrainConfig(compile=True), 10.0, timer=timer)
    assert asked == [(1, False), (2, False), (1, True)]
    assert config.compile and config.threads == 1 and config.steps == 11_640


def test_threads_are_measured_unless_given(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.training.budget.n_cores", lambda: 3)
    for fast in (1, 3):
        timer = timer_of(0.2, {fast: 0.1})
        seconds, config = fastest_threads(make_model(), make_batches(), TrainConfig(), n_steps=4, timer=timer)
        assert (seconds, config.threads, torch.get_num_threads()) == (0.1, fast, fast)
        assert sorted(timer.asked) == [(1, 4), (3, 4)]
    timer = timer_of(0.16, {1: 0.1})
    assert plan(make_model(), make_batches(), TrainConfig(threads=2), 1.0, timer=timer).threads == 2
    assert timer.asked == [(2, 5), (2, 7)] and torch.get_num_threads() == 2


def test_steps_fill_the_minutes_but_for_the_reserve() -> None:
    model, batches, config = make_model(), make_batches(), TrainConfig(threads=1, steps=40, warmup=7, eval_every=33)
    for minutes, seconds in ((1.0, 0.5), (0.1, 0.013), (30.0, 2.0)):
        planned = plan(model, batches, config, minutes, timer=timer_of(seconds))
        assert 0.96 * 60 * minutes - seconds < planned.steps * seconds <= 0.97 * 60 * minutes
        assert dataclasses.replace(planned, steps=40, minutes=None) == config
    assert plan(model, batches, config, 1.0, free=(), timer=timer_of(0.5)).steps == 40
    assert plan(model, batches, config, 0.1, free=(), timer=timer_of(0.5)).steps == 11


def test_a_short_run_has_a_short_warm_up_and_few_looks() -> None:
    """A look at 90 tokens costs what 9 steps of 10 tokens cost; looks take a tenth of the time, and are ten at most."""
    model, batches, free = make_model(), make_batches(), {"steps", "warmup", "eval_every"}
    config = TrainConfig(threads=1)
    for minutes, warmup, n_looks in ((0.5, 20, 3), (0.04, 2, 0), (0.25, 14, 0), (100.0, 20, 10)):
        planned = plan(model, batches, config, minutes, free=free, look_tokens=90, timer=timer_of(0.1))
        assert planned.warmup == warmup
        assert planned.eval_every == (math.ceil(planned.steps / n_looks) if n_looks else 0)
    planned = plan(model, batches, config, 0.5, free={"steps"}, look_tokens=90, timer=timer_of(0.1))
    assert (planned.warmup, planned.eval_every) == (20, 200)


def test_impossible_minutes_are_refused_with_what_would_do() -> None:
    with pytest.raises(ValueError, match=r"0.01 minutes are too short: a step takes 3 s here; give at least") as caught:
        plan(make_model(), make_batches(), TrainConfig(threads=1), 0.01, least_steps=1, timer=timer_of(3.0))
    advised = float(str(caught.value).split("at least ")[1].split()[0])
    assert plan(make_model(), make_batches(), TrainConfig(), advised, least_steps=1, timer=timer_of(3.0)).steps == 1
    assert plan(make_model(), make_batches(), TrainConfig(threads=1), 0.01, timer=timer_of(3.0)).steps == 1


def test_the_plan_is_measured_and_leaves_everything_as_it_was(threads: None) -> None:
    model, batches = make_model(), make_batches()
    config = TrainConfig(dtype="float32", threads=1, learning_rate=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    randomness, where = torch.get_rng_state(), batches.state()
    planned = plan(model, batches, config, minutes=0.05)
    assert dataclasses.replace(planned, steps=config.steps, minutes=None) == config
    assert planned.minutes == 0.05
    assert planned.steps >= 1
    assert step_seconds(model, batches, config, n_steps=2) > 0
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), randomness)
    assert batches.state() == where


def test_slow_steps_are_not_timed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one step takes longer than all timing should, it is the only one, and its time the answer."""
    model, batches = make_model(), make_batches()
    losses = itertools.count(1)

    def slow(model: Any, inputs: Any, targets: Any) -> Any:
        next(losses)
        time.sleep(0.1)
        return next_token_loss(model, inputs, targets)

    for longest, n in ((0.07, 1), (0.25, 3), (60.0, 6)):
        monkeypatch.setattr(budget, "LONGEST", longest)
        before = next(losses)
        assert 0.1 <= step_seconds(model, batches, TrainConfig(threads=1, dtype="float32"), slow) < 5
        assert next(losses) - before - 1 <= n


def test_a_trial_leaves_the_random_numbers_and_says_where_there_is_no_room(threads: None) -> None:
    randomness = torch.get_rng_state()
    asked = Candidate(MODEL, TrainConfig(batch_size=2, dtype="float32", threads=1, compile=True))
    assert 0 < trial_seconds(GPT, asked, IDS, lambda model: {}) < math.inf
    assert torch.equal(torch.get_rng_state(), randomness)

    def no_room(settings: Any) -> GPT:
        GPT(settings)
        raise MemoryError

    def too_large(settings: Any) -> Any:
        GPT(settings)
        return torch.empty(2**60, dtype=torch.uint8)

    for build in (no_room, too_large):
        assert trial_seconds(build, asked, IDS, lambda model: {}) == math.inf
        assert torch.equal(torch.get_rng_state(), randomness)

    def broken(settings: Any) -> Any:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        trial_seconds(broken, asked, IDS, lambda model: {})


@pytest.mark.parametrize("slower", [0.82, 0.95, 1.0, 1.02, 1.5, 3.0])
def test_the_run_ends_within_a_tenth_of_the_minutes(slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a step takes more or less time than measured, and with the learning rate at its end all the same."""
    minutes, measured = 0.2, 0.25
    model, batches = make_model(), make_batches()
    config = plan(model, batches, TrainConfig(threads=1, dtype="float32", warmup=2), minutes, timer=timer_of(measured))
    config = with_headroom(config)
    clock = itertools.count()
    fake = SimpleNamespace(perf_counter=lambda: next(clock) * measured * slower)  # asked twice a step, a step apart
    monkeypatch.setattr("minilm.training.loop.time", fake)
    history = train(model, batches, config, progress=False)
    assert abs(history[-1]["seconds"] - 60 * minutes) <= 6 * minutes
    assert history[-1]["learning_rate"] < 0.02 * config.learning_rate


# ---- the command

WORDS = ("cat", "moon", "river", "old man", "spoon", "fox", "letter")
TEXT = "".join(f"The {a} went to the {b} and said: where is my {c}?\n" for a in WORDS for b in WORDS for c in WORDS)


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch, threads: None) -> list[int]:
    """`minilm train` with 10 s a step of whatever model, so that a minute has room for 5. Noted: widths that were tried."""
    widths: list[int] = []

    def trial(build: Any, of: Candidate, ids: np.ndarray, parts: Any, timer: Any) -> float:
        model = build(of.settings)
        widths.append(model.config.d_model)
        assert parts(model) == loss_part(False, False, model)
        return 1e-9

    def planned(*arguments: Any, **more: Any) -> TrainConfig:
        return plan(*arguments, **{**more, "timer": timer_of(10.0)})

    monkeypatch.setattr("minilm.training.budget.trial_seconds", trial)
    monkeypatch.setattr("minilm.training.run.plan", planned)
    return widths


def command(text: Path, out: Path, *more: str) -> list[str]:
    words = [
        "train",
        "--data",
        str(text),
        "--out",
        str(out),
        "--model",
        "gpt",
        "--minutes",
        "1",
        "--threads",
        "1",
        "--json",
    ]
    return [*words, "--dtype", "float32", "--tokenizer", "byte", *more]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


@pytest.mark.parametrize("kind", MAKERS)
def test_the_command_chooses_plans_and_reports(
    kind: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_clock: list[int]
) -> None:
    """A text of 20,000 bytes is worth the smallest model, unmeasured; batch, steps, tokens and epochs are reported."""
    small_table = ["--ngram-rows", "64"] if kind == "speedrun" else []
    assert main([*command(text, tmp_path / "run", "--model", kind), *small_table]) == 0
    report = json.loads(capsys.readouterr().out)
    checkpoint = load_checkpoint(tmp_path / "run")
    told, settings = report["plan"], checkpoint.model.config
    assert json.loads(json.dumps(told)) == checkpoint.state["plan"] and no_clock == []
    assert told["shape"] == {name: LADDER[0][name] for name in ("n_layers", "d_model", "n_heads", "context_length")}
    assert told["shape"] == {name: getattr(settings, name) for name in told["shape"]}
    assert (settings.d_ff if kind != "speedrun" else None) == {"gpt": 384, "llama": 256, "speedrun": None}[kind]
    assert (told["batch_size"], told["steps"], told["minutes"], told["threads"], told["dtype"]) == (
        16, 5, 1.0, 1, "float32",
    )  # fmt: skip
    assert report["step"] == checkpoint.step == checkpoint.state["train"]["steps"] == 7  # the clock did not end it
    assert told["tokens"] == 5 * 16 * 128
    n_learned = checkpoint_learned(tmp_path / "run", checkpoint)
    assert told["epochs"] == pytest.approx(5 * 16 * 128 / n_learned)
    assert checkpoint.state["train"]["warmup"] == 0
    assert checkpoint.state["train"]["learning_rate"] == RECIPES[kind]["learning_rate"]


def checkpoint_learned(run: Path, checkpoint: Any) -> int:
    """How many tokens the model learns from: those of the training side, but for its last fiftieth."""
    n = len(checkpoint.tokenizer.encode(TEXT)) + 1
    kept = json.loads((run / "log.jsonl").read_text().splitlines()[0])["tokens"]
    assert kept == 16 * 128
    from minilm.text.token_file import open_token_file

    n_train = len(open_token_file(run / "train.tokens", checkpoint.tokenizer).ids)
    assert 0.85 * n < n_train < 0.95 * n
    return n_train - int(0.02 * n_train)


def test_what_was_given_stays(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_clock: list[int]
) -> None:
    shape = ["--n-layers", "1", "--d-model", "24", "--n-heads", "3", "--batch-size", "2", "--context-length", "8"]
    assert main(command(text, tmp_path / "all", *shape, "--steps", "3", "--warmup", "2", "--eval-every", "2")) == 0
    told, trained = json.loads(capsys.readouterr().out)["plan"], load_checkpoint(tmp_path / "all").state["train"]
    assert told["shape"] == {"n_layers": 1, "d_model": 24, "n_heads": 3, "context_length": 8}
    assert (told["batch_size"], told["steps"], trained["warmup"], trained["eval_every"]) == (2, 3, 2, 2)
    assert no_clock == []  # nothing was left to choose
    shape = ["--d-model", "8", "--batch-size", "2", "--context-length", "8"]
    assert main(command(text, tmp_path / "some", *shape)) == 0
    told = json.loads(capsys.readouterr().out)["plan"]
    assert no_clock == [8] * 5  # 2, 3, 4, 6 and 8 layers: for this width even 8 pay
    assert told["shape"] == {"n_layers": 8, "d_model": 8, "n_heads": 4, "context_length": 8}
    assert (told["batch_size"], told["steps"]) == (2, 5)
    assert main(command(text, tmp_path / "few", *shape, "--steps", "1")) == 0
    told = json.loads(capsys.readouterr().out)["plan"]
    assert (told["shape"]["n_layers"], told["steps"], len(no_clock)) == (2, 1, 5)  # one step pays for no larger one


def test_the_model_that_is_trained_does_not_depend_on_what_was_tried(
    text: Path, tmp_path: Path, no_clock: list[int]
) -> None:
    small = ["--model", "gpt", "--d-model", "16", "--n-layers", "1", "--batch-size", "2", "--dropout", "0.1"]
    assert main(command(text, tmp_path / "a", *small)) == 0
    context_length = load_checkpoint(tmp_path / "a").model.config.context_length
    assert no_clock == [16, 16, 16] and context_length == 512  # all contexts of the ladder
    assert main(command(text, tmp_path / "b", *small, "--context-length", str(context_length))) == 0
    assert len(no_clock) == 3
    ours, theirs = (load_checkpoint(tmp_path / run).model.arrays() for run in "ab")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_resume_keeps_to_the_plan(
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_clock: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, clip = ["--d-model", "16", "--n-layers", "1", "--batch-size", "2", "--context-length", "8"], []
    from minilm.training import loop

    original = loop.clip_grad_norm

    def interrupt(*arguments: Any) -> float:
        clip.append(1)
        if len(clip) == 2:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "clip_grad_norm", interrupt)
        assert main(command(text, tmp_path / "run", *small)) == 128 + signal.SIGINT
    first, report = load_checkpoint(tmp_path / "run"), json.loads(capsys.readouterr().out)
    assert first.step == 2 and report["plan"] == first.state["plan"] and report["plan"]["steps"] == 5
    monkeypatch.setattr("minilm.training.run.plan", lambda *_, **__: pytest.fail("planned again"))
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert "going on after step 2 of about 5\n" in capsys.readouterr().out
    last = load_checkpoint(tmp_path / "run", prefer="last")
    assert last.step == 7  # 5 and a quarter more, for the clock did not end it
    assert (last.state["plan"], last.state["train"]) == (first.state["plan"], first.state["train"])


def test_a_budget_too_small_is_refused_in_one_line_and_leaves_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_clock: list[int]
) -> None:
    words = command(text, tmp_path / "run", "--d-model", "16", "--n-layers", "1")
    words[words.index("--minutes") + 1] = "0.01"
    assert main(words) == 2
    assert "0.01 minutes are too short: a step takes 10 s here" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# ---- what is expected


def test_the_forecast_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    corpus = load_corpus(str(tmp_path / "text.txt"))
    prepared = prepare(corpus, ByteTokenizer(), tmp_path)
    config = TrainConfig(steps=100, minutes=2.0, threads=1, dtype="float32", batch_size=3, eval_every=40)
    told = forecast(make_model(), config, prepared, max_bytes=10**6)
    assert told.tokens == 100 * 3 * 5 and told.epochs == pytest.approx(1500 / len(prepared.learned))
    a_look = 120 * (prepared.validation.n_tokens * 2 / 3) / 1500
    assert told.look_seconds == pytest.approx(3 * a_look, rel=1e-3)  # after 40, 80 and 100 steps
    assert look_tokens(prepared, 10) == int(prepared.validation.n_tokens * 10 / prepared.validation.n_bytes * 2 / 3)
    words = dataclasses.replace(told, look_seconds=60.0, bits_per_byte=(2.0, 2.25)).describe(now=0.0)
    for part in ("n_layers 1, d_model 8, n_heads 2, context_length 5, batch_size 3", "100 steps in 2 minutes",
                 "1 thread(s), float32", "1,500 tokens", ":03, with 60 s", "2.00 to 2.25 bits per byte"):  # fmt: skip
        assert part in words
    assert "expected" not in dataclasses.replace(told, bits_per_byte=None).describe(now=0.0)
    few = forecast(make_model(), config, prepared, 10**6, a_step_takes=0.2)  # 100 steps: 20 s of the 120
    assert few.seconds == pytest.approx(20) and few.look_seconds == pytest.approx(told.look_seconds / 6)
    few = dataclasses.replace(few, look_seconds=60.0, bits_per_byte=None).describe(now=0.0)
    assert "100 steps in about 20 s" in few and ":01, with 60 s" in few
    assert forecast(make_model(), config, prepared, 10**6, a_step_takes=3.0).seconds == 120


def test_a_text_read_often_promises_no_more_than_one_read_four_times(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("To be, or not to be? " * 50_000)
    prepared = prepare(load_corpus(str(tmp_path / "text.txt")), ByteTokenizer(), tmp_path)
    model = GPT(GPTConfig(vocab_size=257, context_length=100, n_layers=1, d_model=8, n_heads=2))
    a_read = len(prepared.learned) / (10 * 100)  # steps that read the text once
    told = [
        forecast(
            model, TrainConfig(steps=round(times * a_read), minutes=1.0, threads=1, batch_size=10), prepared, 1000
        ).bits_per_byte
        for times in (3, 4, 8, 40)
    ]
    assert told[0] > told[1] and told[1] == pytest.approx(told[2], rel=0.01) and told[2] == told[3]


def test_the_band_follows_the_measurements() -> None:
    """It holds them, falls with more text, is narrow enough to say something, and ends soon after they end."""
    for kind in ("gpt", "speedrun"):
        points = sorted((read, bits) for what, _, read, bits in MEASURED if what == kind)
        assert len(points) >= 2
        for read, bits in points:
            low, high = expected_bits(kind, read)
            assert (low + high) / 2 == pytest.approx(bits) and 1.1 < high / low < 1.2
        first, last = points[0][0], points[-1][0]
        lows = [expected_bits(kind, float(read))[0] for read in np.geomspace(first / 2, last * 3.999, 50)]
        assert all(a > b for a, b in itertools.pairwise(lows))
        assert expected_bits(kind, first / 2.01) is None and expected_bits(kind, last * 4.01) is None
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            assert sum(expected_bits(kind, math.sqrt(x0 * x1))) / 2 == pytest.approx(math.sqrt(y0 * y1))
        (x0, y0), (x1, y1) = points[-2:]  # further on, the slope is that of the last two
        assert sum(expected_bits(kind, x1 * math.sqrt(x1 / x0))) / 2 == pytest.approx(y1 * math.sqrt(y1 / y0))
    assert expected_bits("ngram", 1e6) is None


def test_the_examples_in_the_documentation() -> None:
    assert doctest.testmod(sizes).attempted >= 2 and doctest.testmod(sizes).failed == 0


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["gpt", "speedrun"])
def test_a_real_run_ends_in_the_band(kind: str, tmp_path: Path) -> None:
    """The smallest rung on Shakespeare, another seed than that of the measurements."""
    corpus = load_corpus("shakespeare")
    prepared = prepare(corpus, train_tokenizer("bpe", corpus, 1024), tmp_path)
    rung = {**LADDER[0], "vocab_size": 1024, **SHAPES.get(kind, {})}
    batch_size = rung.pop("batch_size")
    torch.manual_seed(5)
    model = build_model(kind, rung)
    config = TrainConfig(**{**RECIPES[kind], "batch_size": batch_size}, steps=100, warmup=10, threads=1, seed=5)
    train(model, Batches(prepared.learned, batch_size, 128, seed=5), config, progress=False)
    told = forecast(model, dataclasses.replace(config, minutes=1.0), prepared, 10**6)
    low, high = told.bits_per_byte
    assert low < evaluate(model, prepared.validation, prepared.tokenizer, max_bytes=60_000).bits_per_byte < high


def test_a_model_that_fails_while_it_is_timed_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: None
) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 50)
    command = f"train --data {tmp_path}/text.txt --out {tmp_path}/run --model gpt --minutes 0.05 --threads 1"
    assert main([*command.split(), "--tokenizer", "byte", "--norm-eps", "-1"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("minilm: ") and "loss nan" in said and said.count("\n") == 1
