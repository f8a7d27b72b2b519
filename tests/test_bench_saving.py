"""The bench of saving: it times whole checkpoints, and its shares are what they are called."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from minilm.bench import saving
from minilm.bench.saving import Trial, conclusions, saving_row, table
from minilm.bench.table import Request
from minilm.cli.main import main
from minilm.models.config import SpeedrunConfig, gpt2_config
from minilm.training.checkpoint import load_checkpoint
from minilm.training.muon import build_optimizer
from minilm.training.recipes import RECIPES

TINY = {
    "gpt": ("gpt", gpt2_config(vocab_size=31, context_length=6, d_model=8, n_layers=1, n_heads=2), {"batch_size": 3}),
    "speedrun": (
        "speedrun",
        SpeedrunConfig(31, context_length=6, d_model=8, n_layers=1, n_heads=2, max_ngram=3, ngram_rows=64),
        RECIPES["speedrun"],
    ),
}


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(saving, "WHAT", TINY)
    return tmp_path / "home"


@pytest.mark.parametrize("name", TINY)
def test_what_is_saved_is_all_that_a_resume_needs(name: str, tmp_path: Path) -> None:
    trial = Trial(*TINY[name], Request())
    before = [p.clone() for p in trial.model.parameters()]
    for _ in range(3):
        trial.step()
    assert all(not torch.equal(p, q) for p, q in zip(before, trial.model.parameters(), strict=True))
    trial.save(tmp_path)
    loaded = load_checkpoint(trial.save(tmp_path))
    assert loaded.step == 2 and loaded.path.name == "step-000002"
    optimizer = build_optimizer(loaded.model, trial.config)
    loaded.resume(optimizer, trial.batches)
    ours, theirs = trial.optimizer.state_arrays(), optimizer.state_arrays()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert {key.rpartition("/")[0] for key in ours} == {key for key, _ in trial.model.named_parameters()}


def test_the_share_is_that_of_a_save_in_the_steps_between_two(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is asked before the steps, after them and after the save: a step of 0.5 s, saves of 2, 3 and 10 s."""
    ends = [[5.0, save] for save in (2.0, 3.0, 10.0)]
    moments = itertools.accumulate(itertools.chain.from_iterable([0.0, *end] for end in ends))
    monkeypatch.setattr(saving, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    sizes = []
    real = Trial.save

    def save(self: Trial, run: Path) -> Path:
        path = real(self, run)
        assert run.parent == tiny / "checkpoints"
        sizes.append(sum(file.stat().st_size for file in path.iterdir()))
        return path

    monkeypatch.setattr(Trial, "save", save)
    row = saving_row("gpt", Request(runs=3))
    assert (row["step_s"], row["save_s"]) == (0.5, 3.0)
    assert row["% of training"] == pytest.approx(100 * 3.0 / (200 * 0.5))
    assert row["MB"] == pytest.approx(sizes[0] / 1e6)
    assert row["parameters"] == sum(p.numel() for p in Trial(*TINY["gpt"], Request()).model.parameters())
    assert [*(tiny / "checkpoints").iterdir()] == []  # nothing is left behind


def test_conclusions_say_which_side_of_the_bar() -> None:
    rows = [{"row": "a", "% of training": 4.99}, {"row": "b", "% of training": 5.0}]
    assert conclusions(rows) == [
        "a: a save each 200 steps takes 4.99 % of the training time, less than 5 %",
        "b: a save each 200 steps takes 5.00 % of the training time, MORE than 5 %",
    ]


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "saving", "--runs", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in told["rows"]] == ["gpt", "speedrun"] and len(told["conclusions"]) == 2
    assert all(row["% of training"] > 0 for row in told["rows"])
    assert main(["bench", "saving", "--only", "speedrun", "--runs", "1"]) == 0
    assert "% of training" in capsys.readouterr().out


def test_the_rows_are_those_that_the_house_speaks_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [job.name for job in table(Request())] == ["gpt", "speedrun", "gpt of 10M"]
    kind, shape, recipe = saving.WHAT["speedrun"]
    assert (kind, shape.ngram_rows * shape.d_model, recipe["optimizer"]) == ("speedrun", 2**24, "muon")
    assert saving.TrainConfig().save_every == 200


@pytest.mark.parametrize("flags", [["--data", "x"], ["--seconds", "3"], ["--steps", "3"], ["--set", "warmup=1"]])
def test_what_cannot_be_asked_is_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "saving", *flags]) == 2
    error = capsys.readouterr().err
    assert "saving times steps and saves" in error and error.count("\n") == 1
