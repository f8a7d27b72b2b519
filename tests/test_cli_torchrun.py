"""`minilm train` under torchrun: the same command and the same run, one voice, one writer, and an end for all.

The processes are forks of this one (`crews.torchrun`), but for one test with the real torchrun.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import striking
import torch
from crews import torchrun
from striking import EVERY, STEPS, Done, Room, only_line, replace, steps_of

from minilm import runtime
from minilm.cli.crew import device_of
from minilm.cli.main import main
from minilm.runtime import n_cores, place
from minilm.training.checkpoint import load_checkpoint
from minilm.training.run import read_log
from minilm.training.storage import verify_directory

STEP = "minilm.training.loop:clip_grad_norm"
WRITERS = "training.run:save_checkpoint training.run:open_log cli.train:lock_run cli.run_folder:lock_run"
WRITERS += " text.corpus:load_corpus training.prepare:prepare plots.loss:plot_loss training.run:evaluate"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, minilm_home: Path) -> Room:
    return Room(tmp_path_factory.mktemp("torchrun"))


@pytest.fixture(scope="module")
def alone(room: Room) -> Path:
    """The run of one process, without dropout, whose coins each process tosses for itself."""
    out = room.path / "alone"
    done = striking.run(command(room, out))
    assert (done.code, done.stderr) == (0, ""), done
    return out


def command(room: Room, out: Path, *more: str) -> list[str]:
    return room.command("train", out, "--dropout", "0", *more)


def check_silent(*dones: Done) -> None:
    assert all(done.stdout + done.stderr == "" for done in dones), dones


def check_same(run: Path, alone: Path) -> None:
    """The same text in the same order, and the same numbers but for rounding."""
    ours, theirs = read_log(run / "log.jsonl"), read_log(alone / "log.jsonl")
    assert [record["step"] for record in ours] == list(range(1, STEPS + 1))
    for name in ("loss", "learning_rate", "tokens", "validation"):
        values = [[record.get(name, 0.0) for record in log] for log in (ours, theirs)]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
    places = [json.loads((path / f"step-{STEPS:06d}/state.json").read_text())["batches"] for path in (run, alone)]
    assert places[0] == places[1]


@pytest.mark.parametrize("size", [2, 3])
def test_it_is_the_run_of_one_process_and_one_speaks(size: int, room: Room, alone: Path, tmp_path: Path) -> None:
    """With a batch of two rows the third process has none. No process but the first writes, or reads the text."""

    def forbid(rank: int) -> None:
        for name in WRITERS.split() if rank else ():
            replace(f"minilm.{name}", lambda old: None)

    first, *others = torchrun(size, command(room, tmp_path / "run"), prepare=forbid)
    assert first.code == 0 and first.stderr == "" and first.stdout.count("\n") == 1, first
    last = json.loads(first.stdout)
    assert last["step"] == STEPS and last["bits_per_byte"] == last["validation"]
    assert [done.code for done in others] == [0] * (size - 1)
    check_silent(*others)
    check_same(tmp_path / "run", alone)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.parametrize("size", [1, 3])
def test_a_run_goes_on_with_another_number_of_processes(size: int, room: Room, alone: Path, tmp_path: Path) -> None:
    """A signal to one process, whichever, ends all at one step; what they have saved is the usual checkpoint."""
    out, number = tmp_path / "run", signal.SIGTERM if size == 1 else signal.SIGINT
    strikes = {1: {"where": STEP, "call": 7, "signals": [number]}}
    first, second = torchrun(2, command(room, out), strikes)
    assert first.code == 128 + number and second.code == 0
    assert only_line(first).endswith(f"interrupted and saved; go on with: minilm train --resume {out}")
    check_silent(second)
    assert steps_of(out) == [7, EVERY]
    first, *others = torchrun(size, ["train", "--resume", str(out), "--json"])
    assert (first.code, first.stderr) == (0, "")
    check_silent(*others)
    check_same(out, alone)


def test_with_as_many_processes_it_goes_on_bit_for_bit(room: Room, tmp_path: Path) -> None:
    """With dropout: the coins of all processes come from the generator that the checkpoint holds."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert [done.code for done in torchrun(2, room.command("train", whole))] == [0, 0]
    torchrun(2, room.command("train", broken), {0: {"where": STEP, "call": 8, "signals": [signal.SIGINT]}})
    assert steps_of(broken)[0] == 8
    assert [done.code for done in torchrun(2, ["train", "--resume", str(broken), "--json"])] == [0, 0]
    for file in ("log.jsonl", f"step-{STEPS:06d}/weights.safetensors", f"step-{STEPS:06d}/training.safetensors"):
        assert (whole / file).read_bytes() == (broken / file).read_bytes(), file


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_with_one_line(rank: int, room: Room, alone: Path, tmp_path: Path) -> None:
    out, began = tmp_path / "run", time.monotonic()
    dones = torchrun(3, command(room, out), {rank: {"where": STEP, "call": 8, "signals": [signal.SIGKILL]}})
    assert time.monotonic() - began < 20
    assert [done.code for done in dones] == [-9 if number == rank else 3 for number in range(3)]
    speaker = dones[1 if rank == 0 else 0]
    assert re.fullmatch(
        f"minilm: train: process {rank} of 3 has ended or does not answer: the run is whole up to step {EVERY}, "
        f"go on with --resume {re.escape(str(out))}",
        only_line(speaker),
    )
    check_silent(*[done for done in dones if done is not speaker])
    for path in out.glob("step-*"):
        verify_directory(path)
    assert main(["train", "--resume", str(out), "--json"]) == 0
    check_same(out, alone)


def test_what_stops_the_first_is_said_by_it_alone(room: Room, tmp_path: Path) -> None:
    def full_disk(rank: int) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device", "here")

        replace("minilm.training.run:save_checkpoint", lambda old: refuse)

    first, second = torchrun(2, command(room, tmp_path / "run"), prepare=full_disk)
    assert (first.code, second.code) == (2, 3)
    assert only_line(first) == "minilm: train: here: No space left on device"
    check_silent(second)
    assert not (tmp_path / "run").exists()


def test_what_stops_another_is_said_by_it_alone(room: Room, tmp_path: Path) -> None:
    def no_memory(rank: int) -> None:
        if rank:
            replace("minilm.fast.loss:cross_entropy", lambda old: lambda *_: exec_fails())

    def exec_fails() -> None:
        raise RuntimeError("not enough memory: you tried to allocate 10 bytes")

    first, second = torchrun(2, command(room, tmp_path / "run"), prepare=no_memory)
    assert (first.code, second.code) == (3, 2)
    assert only_line(second) == "minilm: train: not enough memory: try a smaller model, batch or text"
    check_silent(first)
    assert not (tmp_path / "run").exists()


def test_minutes_are_planned_and_kept_by_one_clock(room: Room, tmp_path: Path) -> None:
    words = f"train --data {room.path}/text.txt --tokenizer byte --minutes 0.01 --batch-size 2 --out {tmp_path}/run"
    first, second = torchrun(2, words.split())
    assert first.code == second.code == 0, (first, second)
    assert "\nplan: n_layers" in first.stdout and "the run lies in" in first.stdout
    check_silent(second)
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert len(log) > 1 and log[-2]["seconds"] < 0.6
    assert load_checkpoint(tmp_path / "run").state["plan"]["steps"] >= 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("train --data TEXT --model ngram", "ngram is trained in one"),
        ("train --data TEXT --model hmm", "hmm is trained in one"),
        ("train --data TEXT --model glove", "glove is trained in one"),
        ("train --data TEXT --model gru --steps 3", "gru is trained in one"),
        ("generate somewhere", "generate works in one"),
        ("finetune somewhere --task classify --data TEXT", "finetune works in one"),
    ],
)
def test_what_one_process_does_is_refused_in_one_line(words: str, reason: str, room: Room, tmp_path: Path) -> None:
    words = words.replace("TEXT", str(room.path / "text.txt"))
    done = first_of(2, words.split(), tmp_path)
    verb = words.split()[0]
    assert only_line(done) == f"minilm: {verb}: torchrun has started 2 processes, and {reason}: leave torchrun out"
    assert done.code == 2 and [*tmp_path.iterdir()] == []


def first_of(size: int, arguments: list[str], home: Path) -> Done:
    """What the first of so many processes does, whose others have not come yet."""
    return torchrun(1, arguments, prepare=lambda rank: os.environ.update(WORLD_SIZE=str(size), MINILM_HOME=str(home)))[
        0
    ]


def test_a_recurrent_run_is_not_gone_on_with_by_several(room: Room, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shape = "--model gru --d-model 8 --n-layers 1 --window 4 --steps 2 --tokenizer byte"
    words = f"train --data {room.path}/text.txt {shape} --out {out}"
    assert main([*words.split(), "--batch-size", "2", "--json"]) == 0
    done = first_of(2, ["train", "--resume", str(out)], tmp_path)
    assert done.code == 2 and "a recurrent model is trained in one: leave torchrun out" in only_line(done)


def test_the_same_mistake_of_all_is_said_once(room: Room, tmp_path: Path) -> None:
    """The first says it. The others wait for torchrun to end them, and speak only if it does not."""
    first, second = torchrun(2, command(room, tmp_path / "run", "--n-heads", "5"))
    assert (first.code, second.code) == (2, -signal.SIGTERM)
    assert "--n-heads 5" in only_line(first)
    check_silent(second)


def test_what_torchrun_says_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() == (0, 1)
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda pid: range(7), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert n_cores() == 7  # others than torchrun may set it
    monkeypatch.setenv("RANK", "4")
    monkeypatch.setenv("WORLD_SIZE", "5")
    assert place() == (4, 5) and n_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "9")
    assert n_cores() == 1


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the numbers alone: no test has seen NCCL."""
    monkeypatch.setattr("minilm.runtime.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert [str(device_of(name)) for name in ("cuda", "cpu")] == ["cuda:1", "cpu"]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="3 processes need as many GPUs, here are 2: --nproc-per-node 2"):
        device_of("cuda")
    with pytest.raises(ValueError, match="cannot share an Apple GPU: add --device cpu"):
        device_of("mps")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert str(device_of("mps")) == "mps" and str(device_of("cuda")) == "cuda"


def test_the_real_torchrun(room: Room, alone: Path, tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    """kill -9 of one of its processes: all end, within ten seconds, and torchrun says by its exit code that it failed."""
    out = tmp_path / "run"
    words = command(room, out, "--steps", "100000")
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "minilm", *words]
    process = subprocess.Popen(start, env=subprocess_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        latest = time.monotonic() + 120.0
        while not steps_of(out):
            assert process.poll() is None and time.monotonic() < latest
            time.sleep(0.1)
        os.kill(worker(process.pid, rank=1), signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=30.0)
    finally:
        process.kill()
    assert process.returncode != 0 and stdout == ""
    (line,) = [line for line in stderr.splitlines() if line.startswith("minilm: ")]
    assert "process 1 of 2 has ended or does not answer: the run is whole up to step" in line
    assert not (out / ".lock").exists() and steps_of(out)


def worker(torchrun: int, rank: int) -> int:
    """The number of a process of torchrun, by what /proc says of it."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == torchrun and f"\0RANK={rank}\0" in (path / "environ").read_text():
                return int(path.name)
        except OSError:
            continue
    raise AssertionError("torchrun has no such process")
