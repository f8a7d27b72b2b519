"""`minilm train` and `finetune` when something stops them: one line that says what is left, and a way on that works."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_checkpoint import rewrite

from minilm.cli.main import main
from minilm.training import loop, run_log
from minilm.training.checkpoint import load_checkpoint
from minilm.training.lock import LOCK, lock_run
from minilm.training.run import read_log
from minilm.training.storage import MANIFEST, newest_first
from minilm.training.verify import verify_run

Capture = pytest.CaptureFixture[str]
TEXT = "".join(f"The {a} saw the {b}.\n" for a in ("cat", "fox", "hen", "owl") for b in ("moon", "sea", "hill") * 9)
SMALL = "--model gpt --d-model 8 --n-layers 1 --n-heads 2 --context-length 8 --dropout 0.1 --batch-size 2 --threads 1"
STEPS = 12


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and a run of twelve steps that nobody disturbed, with a checkpoint at each fourth."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT)
    assert train(room, room / "whole") == 0
    return room


def train(room: Path, out: Path, more: str = "") -> int:
    command = f"train --data {room}/text.txt --out {out} --steps {STEPS} --save-every 4 --eval-every 5 {SMALL} {more}"
    return main(f"{command} --tokenizer byte --dtype float32 --json".split())


def complaint(capsys: Capture) -> str:
    shown = capsys.readouterr()
    assert shown.err.startswith("minilm: ") and shown.err.count("\n") == 1, shown.err
    return shown.err.rstrip()


def names(run: Path) -> list[str]:
    return [path.name for path in newest_first(run)]


def same_end(room: Path, run: Path) -> bool:
    """Whether a run ended as the undisturbed one: every byte of the weights, of the training state and of the log."""
    step = f"step-{STEPS:06d}"
    files = [f"{step}/weights.safetensors", f"{step}/training.safetensors", "log.jsonl"]
    return all((room / "whole" / file).read_bytes() == (run / file).read_bytes() for file in files)


class PowerCut(BaseException):
    """The process is gone: nothing is cleaned up that a dead process could not clean up."""


def cut_off_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies in the optimizer's work for this step."""
    real, calls = loop.clip_grad_norm, [0]

    def dying(*arguments: Any) -> float:
        calls[0] += 1
        if calls[0] == step:
            raise PowerCut
        return real(*arguments)

    monkeypatch.setattr(loop, "clip_grad_norm", dying)


@pytest.mark.parametrize("step", [5, 8, 9, 12])
def test_a_run_that_died_goes_on_to_the_same_bytes(
    step: int, room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_off_at(step, patch)
        train(room, run)
    assert [record["step"] for record in read_log(run / "log.jsonl")] == list(range(1, step))
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert same_end(room, run) and verify_run(run) == []
    assert all("seconds" in record for record in read_log(run / "log.jsonl"))
    assert capsys.readouterr().err == ""


def test_a_damaged_newest_checkpoint_names_the_way_on_which_works(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """The newest one is not passed over without a word; what goes on from the one before ends as if nothing had been."""
    run = tmp_path / "run"
    shutil.copytree(room / "whole", run)
    weights = run / "step-000012" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert main(["train", "--resume", str(run)]) == 2
    line = complaint(capsys)
    assert "step-000012/weights.safetensors was changed after it was saved" in line
    way = f"--resume {run}/step-000008"
    assert line.endswith(f"go on with the newest whole one, {way}")
    assert main(["train", *way.split(), "--json"]) == 0
    assert same_end(room, run) and verify_run(run) == []


def test_who_goes_back_takes_another_way_from_there(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints of later steps would be taken for the newest of the new way: they go with its first save."""
    run = tmp_path / "run"
    shutil.copytree(room / "whole", run)
    shutil.copytree(run / "step-000012", run / "step-000016")
    rewrite(run / "step-000016" / "state.json", ("step", 16))
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_off_at(2, patch)
        main(["train", "--resume", str(run / "step-000008"), "--json"])
    assert names(run) == ["step-000016", "step-000012", "step-000008"]  # nothing new was saved yet
    assert len(read_log(run / "log.jsonl")) == 9
    assert any("log.jsonl is not what it was" in finding for finding in verify_run(run))
    assert main(["train", "--resume", str(run / "step-000008"), "--json"]) == 0
    assert names(run) == ["step-000012", "step-000008"] and same_end(room, run)


def test_a_training_that_fails_leaves_the_last_checkpoint_and_says_so(
    room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall 20."""
    run, real, calls = tmp_path / "run", loop.clip_grad_norm, [0]

    def fail(*arguments: Any) -> float:
        calls[0] += 1
        return math.nan if calls[0] == 7 else real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "clip_grad_norm", fail)
        assert train(room, run) == 3
    line = complaint(capsys)
    assert (
        "step 7" in line and "smaller learning_rate" in line and line.endswith("its checkpoint of step 4 is untouched")
    )
    assert names(run) == ["step-000004"] and verify_run(run) == []
    assert main(["train", "--resume", str(run), "--json"]) == 0  # it was an accident: the same plan goes through
    assert same_end(room, run)


def test_a_training_that_fails_before_its_first_checkpoint_leaves_nothing(
    room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "clip_grad_norm", lambda *_: math.nan)
    assert train(room, tmp_path / "run") == 3
    assert "step 1: loss" in (line := complaint(capsys)) and "untouched" not in line
    assert not (tmp_path / "run").exists()


def test_a_validation_score_that_is_no_number_is_a_failed_training(
    room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("minilm.training.run.evaluate", lambda *_, **__: SimpleNamespace(bits_per_byte=math.nan))
    assert train(room, tmp_path / "run") == 3
    assert "step 5: validation nan" in complaint(capsys)
    assert names(tmp_path / "run") == ["step-000004"] and verify_run(tmp_path / "run") == []


@pytest.mark.parametrize("full", ["log.jsonl", "times.jsonl", "weights.safetensors", "training.safetensors", MANIFEST])
def test_a_full_disk_in_training(
    full: str, room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall 82: exit code 2 and one line; the checkpoint and the log as they were; with room again the run ends as it should."""
    run, real_os, real_path = tmp_path / "run", os.write, Path.write_bytes

    def no_room(name: str) -> bool:
        return name == full and (run / "step-000004" / MANIFEST).exists()

    def write(descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").exists() and no_room(
            os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_os(descriptor, data)

    def write_bytes(self: Path, data: bytes) -> int:
        if no_room(self.name):
            real_path(self, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_path(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(run_log.os, "write", write)
        patch.setattr(Path, "write_bytes", write_bytes)
        assert train(room, run) == 2
    line = complaint(capsys)
    assert full in line and "No space left on device" in line
    assert "the run is whole up to step 4" in line and line.endswith(f"go on with minilm train --resume {run}")
    assert names(run) == ["step-000004"] and verify_run(run) == [] and not list(run.glob(".tmp-*"))
    assert len(read_log(run / "log.jsonl")) >= 4
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert same_end(room, run)


def test_a_log_that_was_changed_or_taken_away(room: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    shutil.copytree(room / "whole", run)
    shutil.rmtree(run / "step-000012")
    log = (run / "log.jsonl").read_bytes()
    (run / "log.jsonl").write_bytes(log.replace(b'"step": 3', b'"step": 4'))
    assert main(["train", "--resume", str(run)]) == 2
    assert "log.jsonl is not what it was when the checkpoint was saved" in complaint(capsys)
    (run / "log.jsonl").unlink()
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert [record["step"] for record in read_log(run / "log.jsonl")] == [9, 10, 11, 12]
    weights = Path("step-000012") / "weights.safetensors"
    assert (run / weights).read_bytes() == (room / "whole" / weights).read_bytes()
    assert verify_run(run) == []


def test_tokens_that_were_changed_are_no_text_to_go_on_with(room: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    shutil.copytree(room / "whole", run)
    tokens = (run / "train.tokens").read_bytes()
    (run / "train.tokens").write_bytes(tokens[:-1] + b"\1")
    assert main(["train", "--resume", str(run)]) == 2
    assert "train.tokens was changed after it was written" in complaint(capsys)
    shutil.copy(run / "validation.tokens", run / "train.tokens")  # whole, and another text
    assert main(["train", "--resume", str(run)]) == 2
    assert "train.tokens has" in (line := complaint(capsys)) and line.endswith("put the old file back, or train anew")


def test_states_that_this_minilm_cannot_follow(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """Written by hand, or by another minilm: the manifest fits."""
    changes: list[tuple[Any, str]] = [
        (("state", "train", {"steps": 5, "wheels": 4}), "wheels"),
        (("state", "train", {"steps": "many"}), "plan"),
        (("state", "train", {"steps": -5}), "steps is -5"),
        (("state", "train", 3), "plan"),
        (("state", "seconds", "long"), "how far"),
        (("state", "log", None), "how far"),
        (("state", "log", {"bytes": 5}), "log.jsonl"),
        (("state", "files", None), "what"),
        (("state", {"train": {"steps": 99}}), "data"),
    ]
    for change, said in changes:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(room / "whole", tmp_path / "run")
        steps = ("state", "train", "steps", STEPS + 1)  # something is left to do
        rewrite(tmp_path / "run" / "step-000012" / "state.json", steps, change)
        assert main(["train", "--resume", str(tmp_path / "run")]) == 2
        assert said in complaint(capsys), change


def test_a_run_that_died_before_its_first_checkpoint_says_what_to_do(
    tmp_path: Path, room: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).touch()
    (run / "train.tokens").touch()
    assert main(["train", "--resume", str(run)]) == 2
    assert "has no checkpoint yet" in (line := complaint(capsys)) and "delete the folder and train anew" in line
    assert train(room, run) == 2
    assert "is not empty" in complaint(capsys)
    (run / "train.tokens").unlink()
    assert train(room, run) == 0  # a lock alone is nothing


HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom minilm.training.lock import lock_run\n"
    "with lock_run(Path(sys.argv[1])):\n    print('locked', flush=True)\n    time.sleep(60)\n"
)


def test_two_processes_in_one_run(room: Path, tmp_path: Path, capsys: Capture, subprocess_env: dict[str, str]) -> None:
    """The second ends with the number of the first, whatever it wanted, and touches nothing."""
    run = tmp_path / "run"
    shutil.copytree(room / "whole", run)
    command = [sys.executable, "-c", HOLD, str(run)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=subprocess_env)
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    try:
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for words in (
            f"train --resume {run}",
            f"train --resume {run}/step-000008",
            f"train --data {room}/text.txt --out {run} --steps 2",
            f"finetune --resume {run}",
            f"finetune {room}/whole --out {run}",
        ):
            assert main(words.split()) == 2, words
            assert f"{run} is being trained in by process {holder.pid}" in complaint(capsys)
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    finally:
        holder.kill()
        holder.communicate()
    assert main(["train", "--resume", str(run)]) == 0
    assert "has done all" in capsys.readouterr().out
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out).items() >= {"out": str(run), "kind": "gpt", "step": STEPS}.items()


@pytest.mark.parametrize(
    ("seconds", "code", "said"),
    [(30.0, 0, "has used all 0.5 minutes of its plan"), ("thirty", 2, "does not say how far its run was")],
)
def test_a_run_whose_minutes_are_used_says_so(
    seconds: Any, code: int, said: str, room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(room, tmp_path / "run") == 0
    capsys.readouterr()

    def with_little_time(*arguments: Any, **how: Any) -> Any:
        checkpoint = load_checkpoint(*arguments, **how)
        checkpoint.state["train"].update(minutes=0.5, steps=10 * STEPS)
        checkpoint.state["seconds"] = seconds
        return checkpoint

    monkeypatch.setattr("minilm.training.checkpoint.load_checkpoint", with_little_time)
    assert main(["train", "--resume", str(tmp_path / "run")]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert ("going on" in shown.out) == (code == 2)


def test_no_lock_is_put_where_it_does_not_belong(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.doc").touch()
    for words in (
        f"train --resume {tmp_path}/thesis",
        f"train --resume {tmp_path}/no",
        f"finetune --resume {tmp_path}",
    ):
        assert main(words.split()) == 2
        complaint(capsys)
    assert train(room, tmp_path / "thesis") == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "text.doc"]
    with lock_run(room / "whole"):  # reading needs no lock
        assert main(["verify", str(room / "whole")]) == 0
        assert load_checkpoint(room / "whole").step in (4, 8, 12)


def test_an_option_that_the_model_does_not_have(room: Path, tmp_path: Path, capsys: Capture) -> None:
    for words, said in (
        ("--model speedrun --norm rms", "no option of model speedrun (it belongs to gpt, llama): leave it out"),
        ("--norm rms", "no option of model speedrun"),
        ("--model gpt --ngram-rows 9", "no option of model gpt (it belongs to speedrun)"),
        ("--model llama --order 3", "no option of model llama (it belongs to ngram)"),
        ("--model ngram --d-model 8", "no option of model ngram (it belongs to speedrun, gpt, llama"),
    ):
        assert main(["train", "--data", str(room / "text.txt"), "--out", str(tmp_path / "x"), *words.split()]) == 2
        assert said in complaint(capsys)
    assert list(tmp_path.iterdir()) == []


def test_without_a_word_the_model_is_the_one_that_learns_most(room: Path, tmp_path: Path) -> None:
    words = f"train --data {room}/text.txt --out {tmp_path}/run --steps 1 --d-model 8 --n-layers 1 --n-heads 2 --json"
    assert main(f"{words} --context-length 8 --batch-size 2 --tokenizer byte --threads 1".split()) == 0
    assert load_checkpoint(tmp_path / "run").model.kind == "speedrun"


def test_fine_tuning_goes_on_with_the_examples_it_began_with(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "data.csv").write_text(
        "text,label\n" + "".join(f"{'abc'[i % 3]}{i},{'xy'[i % 2]}\n" for i in range(40))
    )
    words = f"finetune {room}/whole --data {tmp_path}/data.csv --out {tmp_path}/run --steps 4 --save-every 2 --json"
    assert main(f"{words} --batch-size 4 --threads 1 --dtype float32".split()) == 0
    run = tmp_path / "run"
    assert verify_run(run) == [] and set(load_checkpoint(run).state["files"]) == {"train.json", "aside.json"}
    examples = json.loads((run / "train.json").read_text())
    examples["targets"][0] = 1 - examples["targets"][0]
    (run / "train.json").write_text(json.dumps(examples))
    capsys.readouterr()
    assert main(["finetune", "--resume", str(run)]) == 2
    assert "train.json was changed after it was saved" in complaint(capsys)
    assert len(verify_run(run)) == 1
