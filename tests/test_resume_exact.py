"""A run that died after any step and goes on is the run that did not die: the same bits in weights, memory, log and all.

It goes on from what is on the disk alone: new objects, other random states, and here and there another process.
TEST_PLAN 4.2, first row; PITFALLS rows 19, 22, 85, 86, 87. The files of the checkpoints themselves: test_checkpoint.py.
"""

import itertools
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_runs import MODELS, OPTIMIZERS, SHAPE, TOKENIZER, Case, PowerCut, Process, Reference

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.runtime import set_seed
from minilm.text.corpus import load_corpus
from minilm.training import checkpoint, loop
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.optim import Optimizer
from minilm.training.prepare import prepare
from minilm.training.run import run_training

SCHEDULES, DTYPES, KERNELS = ("cosine", "linear"), ("float32", "bfloat16"), (False, True)
EVERY = [Case(*parts, steps=60) for parts in itertools.product(MODELS, OPTIMIZERS, SCHEDULES, DTYPES, KERNELS)]


def few() -> Iterator[Case]:
    """Every model with every optimizer; the other choices alternate so that each meets every model and optimizer."""
    for (i, model), (j, optimizer) in itertools.product(enumerate(MODELS), enumerate(OPTIMIZERS)):
        yield Case(model, optimizer, SCHEDULES[(i + j) % 2], DTYPES[(i // 2 + j) % 2], KERNELS[(i + j // 2) % 2])


def test_going_on_after_every_step(tmp_path: Path) -> None:
    """60 steps with dropout, accumulation, clipping, a cosine and two and a half epochs; all 60 points.

    Each goes on for three steps, held against those of the whole run, and each sixth to the end.
    """
    whole = Reference.train(Case(steps=60), tmp_path)
    norms, clip = [record["gradient_norm"] for record in whole.records], whole.case.config.clip
    assert min(norms) < 0.95 * clip < 1.05 * clip < max(norms)
    places = [json.loads(moment["place"]) for moment in whole.moments.values()]
    assert places[-1]["epoch"] == 2 and places[-1]["position"] > 20
    assert len({str(moment) for moment in whole.moments.values()}) == 60
    assert len({batch for moment in whole.moments.values() for batch in moment["read"]}) == 180
    for step in range(1, 61):
        assert whole.differences(step, tmp_path / f"from-{step}", None if step % 6 == 0 else 3) == set(), step


@pytest.mark.parametrize("case", [*few()], ids=str)
def test_going_on_whatever_is_trained(case: Case, tmp_path: Path) -> None:
    """Two points of each, to the end: before a step in which an epoch ends, and a later one."""
    whole = Reference.train(case, tmp_path)
    assert len({str(moment) for moment in whole.moments.values()}) == case.steps
    for step in (3, random.Random(str(case)).randint(4, 7)):
        assert whole.differences(step, tmp_path / f"from-{step}") == set(), step


@pytest.mark.parametrize("model", ["speedrun", "classifier"])
def test_a_process_for_every_step(model: str, tmp_path: Path) -> None:
    """Each does one step, saves and dies: all of it passes through the disk eight times."""
    case = Case(model, "muon", "linear", "bfloat16", kernels=True)
    whole = Reference.train(case, tmp_path)
    for step in range(1, case.steps + 1):
        process = Process(case, tmp_path / "parts", tmp_path / "base")
        assert process.train(save_every=1, dies_after=step) == {step: whole.moments[step]}
    assert (tmp_path / "parts" / "log.jsonl").read_bytes() == b"".join(whole.log)


@pytest.mark.nightly
@pytest.mark.parametrize("model, optimizer", [*itertools.product(MODELS, OPTIMIZERS)])
def test_every_step_of_every_way_of_training(
    model: str, optimizer: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each point goes on for three steps, held against those of the whole run, and each tenth to the end."""
    resumes = 0
    for case in EVERY:
        if (case.model, case.optimizer) != (model, optimizer):
            continue
        room = tmp_path / str(case)
        whole = Reference.train(case, room)
        for step in range(1, case.steps + 1):
            run = room / f"from-{step}"
            assert whole.differences(step, run, None if step % 10 == 0 else 3) == set(), (case, step)
            resumes += 1
            shutil.rmtree(run)
        shutil.rmtree(room)
    assert resumes == 8 * 60
    record_property("resumes", resumes)


# ---- the harness itself: what is forgotten is seen

FORGOTTEN: dict[str, tuple[Any, str, Any, set[str]]] = {
    "random numbers": (checkpoint, "restore_random_state", lambda states: None, {"random", "parameters"}),
    "memory": (Optimizer, "load_state_arrays", lambda self, arrays: None, {"optimizer", "parameters"}),
    "place": (Batches, "restore", lambda self, state: None, {"place", "read", "parameters"}),
    "position": (Batches, "restore", lambda self, state: self._begin_epoch(state["epoch"]), {"place", "read"}),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_what_a_process_forgets_is_seen(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PITFALLS 85 and 86: an order of batches that is replayed, random numbers that are not those of the step."""
    whole = Reference.train(Case(), tmp_path)
    owner, name, forgetful, seen = FORGOTTEN[what]
    monkeypatch.setattr(owner, name, forgetful)
    assert whole.differences(4, tmp_path / "again") >= seen | {"log", "weights.safetensors", "training.safetensors"}


def test_a_schedule_that_lags_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PITFALLS 22: the learning rates of a resumed run one step late."""
    whole, right = Reference.train(Case(), tmp_path), loop.learning_rate_factor

    def late(step: int, n_steps: int, *how: Any, progress: float) -> float:
        return right(step - 1, n_steps, *how, progress=progress - 1 / n_steps)

    monkeypatch.setattr(loop, "learning_rate_factor", late)
    assert whole.differences(4, tmp_path / "again") >= {"rates", "parameters", "log"}


# ---- the clock

SLEPT = 8  # the step during which the laptop sleeps


class Clock:
    """In the place of `time` in the loop, asked before and after each step: a second a step, twenty for the one that slept."""

    def __init__(self, step: int) -> None:
        self.step, self.now, self.asked = step, 0.0, 0

    def perf_counter(self) -> float:
        self.asked += 1
        if self.asked % 2 == 0:
            self.step += 1
            self.now += 20.0 if self.step == SLEPT else 1.0
        return self.now


def test_a_run_of_minutes_goes_on_by_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is stored and not made again, and a warm-down that began early, because the clock was ahead, stays so."""
    (tmp_path / "text.txt").write_text("".join(f"The {i}th of {i * i} lines, not {i + 7}.\n" for i in range(300)))
    prepared = prepare(load_corpus(tmp_path / "text.txt"), TOKENIZER, tmp_path / "tokens")
    config = TrainConfig(
        steps=50, minutes=1.0, batch_size=2, warmup=3, warmdown=0.7, schedule="linear", dtype="float32", eval_every=10,
        save_every=5, seed=4,
    )  # fmt: skip

    def go_on(run: Path, dies_after: int | None = None, planned: Any = lambda *_, **__: config) -> dict[str, Any]:
        run.mkdir(exist_ok=True)
        resume = load_checkpoint(run, prefer="last") if any(run.glob("step-*")) else None
        set_seed(resume.step if resume else 4)
        model = resume.model if resume else GPT(GPTConfig(**SHAPE))

        def die(step: int, model: Any, record: Any) -> None:
            if step == dies_after:
                raise PowerCut

        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", Clock(resume.step if resume else 0))
            patch.setattr("minilm.training.run.plan", planned)
            stored = TrainConfig(**resume.state["train"]) if resume else config
            with suppress(PowerCut):
                run_training(
                    model, prepared, stored, run, about={"data": "x"}, resume=resume, on_step=die, free=(),
                    say=lambda message: None, progress=False,
                )  # fmt: skip
        return load_checkpoint(run, prefer="last").state

    state = go_on(tmp_path / "whole")
    log = (tmp_path / "whole" / "log.jsonl").read_bytes()
    rates = [json.loads(line)["learning_rate"] for line in log.splitlines()]
    assert len(rates) == 41  # 7 + 20 + 33 seconds
    assert rates[SLEPT - 1] == config.learning_rate > rates[SLEPT]  # by its steps the warm-down begins after step 15
    assert state["seconds"] == 60.0 and state["plan"]["steps"] == 50 and state["train"]["minutes"] == 1.0
    for died in (5, 8, 9, 13, 38, 40):
        go_on(tmp_path / f"to-{died}", dies_after=died)
        again = go_on(tmp_path / f"to-{died}", planned=lambda *_, **__: pytest.fail("planned again"))
        assert (tmp_path / f"to-{died}" / "log.jsonl").read_bytes() == log
        assert again == state
        for file in ("weights.safetensors", "training.safetensors"):
            ours, theirs = (tmp_path / run / "step-000041" / file for run in ("whole", f"to-{died}"))
            assert ours.read_bytes() == theirs.read_bytes()


# ---- the verbs, and a fresh process

VERBS = [
    pytest.param(
        Case(model, optimizer), marks=[] if (model, optimizer) == ("speedrun", "muon") else pytest.mark.nightly
    )
    for model, optimizer in itertools.product(MODELS, OPTIMIZERS)
    if model != "residual"
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a table of reviews, and a base to fine-tune."""
    room = tmp_path_factory.mktemp("texts")
    rng = random.Random(5)
    lines = [" ".join(rng.choices(["the", "a", "sea", "moon", "sings", "over", "under"], k=9)) for _ in range(60)]
    (room / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [f"{'abcdefg'[i % 7]}{i}{'!' if i % 2 else ''},{'glad' if i % 2 else 'calm'}" for i in range(60)]
    (room / "reviews.csv").write_text("remark,mood\n" + "\n".join(rows) + "\n", encoding="utf-8")
    torch.manual_seed(1)
    save_checkpoint(room / "base", GPT(GPTConfig(257, context_length=24, d_model=12, n_layers=1, n_heads=3)), TOKENIZER)
    return room


def command(case: Case, texts: Path, out: Path) -> list[str]:
    """The run of a case, by the verb that trains it; schedule, dtype and kernels alternate with the optimizer."""
    number = OPTIMIZERS.index(case.optimizer)
    flags = "--steps 12 --accumulation 3 --batch-size 2 --save-every 5 --eval-every 4 --warmup 2 --threads 1 --json "
    flags += f"--optimizer {case.optimizer} --schedule {SCHEDULES[number % 2]} --dtype {DTYPES[number // 2]} "
    flags += f"--out {out} "
    if case.model in ("classifier", "lora"):
        lora = "--lora --rank 2 " if case.model == "lora" else ""
        return f"finetune {texts / 'base'} --data {texts / 'reviews.csv'} {lora}{flags}".split()
    special = "--max-ngram 3 --ngram-rows 64" if case.model == "speedrun" else "--dropout 0.2"
    shape = f"--d-model 12 --n-layers 1 --n-heads 3 --context-length 8 {special}"
    plain = "--plain " if number % 3 == 0 else ""
    return f"train --data {texts / 'text.txt'} --tokenizer byte --model {case.model} {shape} {plain}{flags}".split()


@pytest.mark.parametrize("case", VERBS, ids=str)
def test_a_fresh_process_goes_on(
    case: Case,
    texts: Path,
    tmp_path: Path,
    subprocess_env: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The verb in one piece; and dead in its eighth step, then --resume in another process."""
    assert main(command(case, texts, tmp_path / "whole")) == 0
    clip, steps = loop.clip_grad_norm, itertools.count(1)

    def clip_and_die(*arguments: Any) -> float:
        if next(steps) == 8:
            raise PowerCut
        return clip(*arguments)

    monkeypatch.setattr(loop, "clip_grad_norm", clip_and_die)
    with pytest.raises(PowerCut):
        main(command(case, texts, tmp_path / "parts"))
    assert load_checkpoint(tmp_path / "parts", prefer="last").step == 5
    again = [sys.executable, "-m", "minilm", command(case, texts, tmp_path)[0], "--resume", str(tmp_path / "parts")]
    done = subprocess.run([*again, "--json"], env=subprocess_env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    for file in ("log.jsonl", "step-000012/weights.safetensors", "step-000012/training.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes(), file
