"""`--shard`: each process holds a part of the model, and the run is that of one process all the same.

TEST_PLAN 4.4 with `fully_shard` on CPUs. The models and batches are those of test_distributed.py.
"""

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import striking
import torch
from crews import together, torchrun
from safetensors.numpy import load_file
from striking import EVERY, STEPS, Room, only_line, replace, steps_of
from test_cli_torchrun import STEP, check_same, check_silent, command
from test_distributed import CPU, MODELS, batches, config
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.training.crew import ALONE
from minilm.training.distributed import tables
from minilm.training.loop import TrainingFailed, accumulate_gradients, train
from minilm.training.loss import next_token_loss
from minilm.training.optim import clip_grad_norm
from minilm.training.sharded import ShardedTeam

WEIGHTS = f"step-{STEPS:06d}/weights.safetensors"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, minilm_home: Path) -> Room:
    return Room(tmp_path_factory.mktemp("sharded"))


@pytest.fixture(scope="module")
def alone(room: Room) -> Path:
    out = room.path / "alone"
    assert striking.run(command(room, out)).code == 0
    return out


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / WEIGHTS)


@pytest.mark.parametrize(
    ("kind", "optimizer", "size"), [("gpt", "adamw", 2), ("speedrun", "muon", 3), ("gpt", "muon", 2)]
)
def test_gradients_clipping_and_steps_are_those_of_one_process(kind: str, optimizer: str, size: int) -> None:
    """Float64, 1e-12: also where a share is empty, the gradient is clipped, and Muon needs whole matrices."""
    case, plan = (
        batches(4, 1, 3),
        config(optimizer=optimizer, learning_rate=0.01, steps=4, accumulation=3, clip=0.2, warmup=0),
    )
    text = [*case, *case, *batches(2, 2, 2), *case]
    model = MODELS[kind]()
    loss, _ = accumulate_gradients(model, case, next_token_loss, CPU)
    gradients = [p.grad.to_dense().clone() for p in model.parameters() if p.grad is not None]
    norm = clip_grad_norm(model.parameters(), 0.2)
    assert norm > 0.2
    model = MODELS[kind]()
    history = train(model, text, plan, progress=False)

    def gaps(team: ShardedTeam) -> Any:
        ours = MODELS[kind]()
        optimizer = team.ready(ours, plan)
        our_loss, _ = team.gradients(ours, case, next_token_loss, CPU, False)
        found = [abs(our_loss - loss)]
        for p, expected in zip(ours.parameters(), gradients, strict=True):
            found.append(float((whole(p.grad) - expected).abs().max()))
        found.append(abs(clip_grad_norm(ours.parameters(), 0.2) - norm))
        optimizer.zero_grad()
        records = train(ours, text, plan, optimizer=optimizer, progress=False, crew=team)
        found += [abs(a["loss"] - b["loss"]) for a, b in zip(records, history, strict=True)]
        found += [abs(a["gradient_norm"] - b["gradient_norm"]) for a, b in zip(records, history, strict=True)]
        return found, max(
            float((whole(p).detach() - q.detach()).abs().max())
            for p, q in zip(ours.parameters(), model.parameters(), strict=True)
        )

    for found, gap in together(size, gaps, kind=ShardedTeam, check_every=1):
        assert max(found) < 1e-12 and gap < 1e-9  # Newton-Schulz makes rounding larger


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.to_dense()


def test_each_holds_a_part_of_the_weights_and_of_the_memory() -> None:
    """Of every parameter but the tables with sparse gradients; together the parts are the whole."""

    def held(team: ShardedTeam) -> Any:
        model = MODELS["speedrun"]()
        names = [name for name, p in model.named_parameters() if any(p is table for table in tables(model))]
        optimizer = team.ready(model, config())
        train(model, batches(3, 3), config(steps=2), optimizer=optimizer, progress=False, crew=team)
        assert all(isinstance(part, FSDPModule) for part in (*model.blocks, model))  # one block at a time is whole
        weights = {name: isinstance(p, DTensor) and len(p.to_local()) for name, p in model.named_parameters()}
        memory = {name: len(m["mean"].to_local()) for name, m in optimizer.memory.items() if "mean" in m}
        return names, weights, memory

    first, second = together(2, held, kind=ShardedTeam)
    sizes = {name: len(p) for name, p in MODELS["speedrun"]().named_parameters()}
    (uncut,) = first[0]
    for name, size in sizes.items():
        if name == uncut:
            assert first[1][name] is second[1][name] is False
        else:
            parts = [first[1][name], second[1][name]]
            assert sum(parts) == size and max(parts) == math.ceil(size / 2)
            assert [first[2][name], second[2][name]] == parts


def test_gradients_are_exchanged_once_an_update() -> None:
    """However many small batches there are."""

    def exchanges(team: ShardedTeam) -> list[int]:
        model, calls, counts = MODELS["gpt"](), [], []
        team.ready(model, config())
        name = next(n for n in ("reduce_scatter_single", "reduce_scatter_tensor") if hasattr(torch.distributed, n))
        replace(f"torch.distributed:{name}", lambda old: lambda *a, **k: (calls.append(1), old(*a, **k))[1])
        for n in (1, 3):
            team.gradients(model, batches(*[2] * n), next_token_loss, CPU, False)
            counts.append(len(calls))
        return counts

    assert together(2, exchanges, kind=ShardedTeam) == [[3, 6]] * 2  # of two blocks, and of what is outside of them


def test_tables_that_all_hold_are_compared() -> None:
    def differ(team: ShardedTeam) -> str:
        def meddle(step: int, model: nn.Module, record: Any) -> None:
            if step == 2 and team.rank == 1:
                with torch.no_grad():
                    tables(model)[0].view(-1)[5] += 1e-9

        model = MODELS["speedrun"]()
        try:
            optimizer = team.ready(model, config())
            train(
                model,
                batches(*[2] * 9),
                config(steps=9),
                optimizer=optimizer,
                progress=False,
                crew=team,
                on_step=meddle,
            )
        except TrainingFailed as failure:
            return str(failure)
        return "nobody noticed"

    assert (
        together(2, differ, kind=ShardedTeam, check_every=1)
        == ["the weights of process 1 are no longer those of process 0"] * 2
    )


# ---- the command


def test_a_sharded_run_is_saved_as_usual(
    room: Room, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights as DDP's and as one process's, but for rounding, by the same names (PITFALLS 88: no `module.`)."""
    sharded, copied = tmp_path / "sharded", tmp_path / "copied"
    for out, more in ((sharded, ["--shard"]), (copied, [])):
        first, second = torchrun(2, command(room, out, *more))
        assert (first.code, second.code, first.stderr) == (0, 0, ""), (first, second)
        check_silent(second)
        check_same(out, alone)
    ours, theirs, one = weights(sharded), weights(copied), weights(alone)
    assert list(ours) == list(theirs) == list(one)
    for name, array in ours.items():
        assert array.dtype == one[name].dtype and array.shape == one[name].shape
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-5)
        np.testing.assert_allclose(array, one[name], rtol=0, atol=1e-5)
    memory = [load_file(run / WEIGHTS.replace("weights", "training")) for run in (sharded, copied)]
    assert {name: array.shape for name, array in memory[0].items()} == {
        name: array.shape for name, array in memory[1].items()
    }
    assert main(["generate", str(sharded), "--prompt", "the", "--max-new-tokens", "3", "--seed", "1"]) == 0
    assert main(["evaluate", str(sharded), "--data", str(room.path / "text.txt"), "--json"]) == 0
    assert "bits_per_byte" in capsys.readouterr().out


def test_a_sharded_run_goes_on_bit_for_bit_and_in_any_way(room: Room, tmp_path: Path) -> None:
    """Resumed as it was: every bit. In one process, or cut into three: the same but for rounding. A kill is told as ever."""
    whole_run, out, more = tmp_path / "whole", tmp_path / "run", ("--shard", "--optimizer", "muon")
    assert [done.code for done in torchrun(2, command(room, whole_run, *more))] == [0, 0]
    killed = {0: {"where": STEP, "call": 8, "signals": [signal.SIGKILL]}}
    first, second = torchrun(2, command(room, out, *more), killed)
    assert (first.code, second.code) == (-9, 3)
    assert f"process 0 of 2 has ended or does not answer: the run is whole up to step {EVERY}, " in only_line(second)
    assert steps_of(out) == [EVERY]
    for way in ("as it was", "alone", "in three"):
        again = tmp_path / way
        copy_run(out, again)
        if way == "alone":
            assert striking.run(["train", "--resume", str(again), "--json"]).code == 0
        else:
            size = 2 if way == "as it was" else 3
            dones = torchrun(size, ["train", "--resume", str(again), "--json", "--shard"])
            assert [done.code for done in dones] == [0] * size, dones
        check_same(again, whole_run)
        if way == "as it was":
            for file in ("log.jsonl", WEIGHTS, WEIGHTS.replace("weights", "training")):
                assert (again / file).read_bytes() == (whole_run / file).read_bytes(), file


def copy_run(run: Path, copy: Path) -> None:
    for path in run.rglob("*"):
        if path.is_file() and path.name != ".lock":
            (copy / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(run)).write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("size", "more", "reason"),
    [
        (1, "", "--shard shares out a model among the processes of torchrun: start several, or leave it out"),
        (2, "--minutes 1", "--shard goes by --steps: what fits into --minutes is measured with whole models"),
        (2, "--compile", "--compile changes the whole model, of which with --shard each process has a part"),
        (2, "--sample-every 5", "--sample-every reads the whole model, of which with --shard each process has a part"),
    ],
)
def test_where_nothing_can_be_cut_one_line_says_so(
    size: int, more: str, reason: str, room: Room, tmp_path: Path
) -> None:
    first, *_ = torchrun(size, command(room, tmp_path / "run", "--shard", *more.split()))
    assert first.code == 2 and reason in only_line(first)
    assert not (tmp_path / "run").exists()


def test_alone_there_is_nothing_to_spread_or_to_gather() -> None:
    model = GPT(GPTConfig(11, context_length=7, d_model=8, n_layers=1, n_heads=2))
    optimizer = ALONE.ready(model, config())
    ALONE.spread(optimizer)
    assert ALONE.whole(model, optimizer) == (model, optimizer) and ALONE.leads and not ALONE.parts
