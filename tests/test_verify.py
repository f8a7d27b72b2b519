"""`minilm verify`: what is whole is said to be whole, and of all that lies in a run every changed byte is found."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from minilm.cli.main import main
from minilm.training.checkpoint import load_checkpoint
from minilm.training.storage import MANIFEST, newest_first
from minilm.training.verify import check_files, describe_files, parts_of, verify_run

Capture = pytest.CaptureFixture[str]
TEXT = "".join(f"The {a} saw the {b}.\n" for a in ("cat", "fox", "hen", "owl") for b in ("moon", "sea", "hill") * 9)
SMALL = (
    "--model gpt --d-model 8 --n-layers 1 --n-heads 2 --context-length 8 --batch-size 2 --threads 1 --tokenizer byte"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT)
    command = f"train --data {room}/text.txt --out {room}/run --steps 6 --save-every 2 {SMALL} --json"
    assert main(command.split()) == 0
    return room / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


STEPS = ["step-000006", "step-000004"]


def test_a_whole_run(run: Path, capsys: Capture) -> None:
    parts = [*STEPS, "train.tokens", "validation.tokens", "log.jsonl"]
    assert verify_run(run) == [] and [part.name for part in parts_of(run)] == parts
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == f"{run} is whole: {', '.join(parts)}\n"
    assert main(["verify", str(run / STEPS[0])]) == 0
    assert capsys.readouterr().out == f"{run / STEPS[0]} is whole: {STEPS[0]}\n"
    assert main(["verify", str(run), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table == {"folder": str(run), "parts": parts, "whole": True, "findings": []}


def everything(run: Path) -> list[Path]:
    """All files that training reads again."""
    inside = [file for step in newest_first(run) for file in step.iterdir()]
    return [*inside, *run.glob("*.tokens"), run / "log.jsonl"]


def test_a_changed_byte_of_any_file_is_one_finding(run: Path) -> None:
    assert len(everything(run)) == 2 * 6 + 3
    for file in everything(run):
        good = file.read_bytes()
        for place in (0, len(good) // 3, len(good) - 2):
            file.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
            findings = verify_run(run)
            place_named = file.parent.name if file.name == MANIFEST else file.name  # it may have become a false witness
            assert findings and all(place_named in finding and "\n" not in finding for finding in findings), file
            assert len(findings) == 1
        file.write_bytes(good)
    assert verify_run(run) == []


def test_a_missing_file_is_a_finding(run: Path) -> None:
    for file in everything(run):
        good = file.read_bytes()
        file.unlink()
        assert any(file.name in finding for finding in verify_run(run)), file
        file.write_bytes(good)
    assert verify_run(run) == []


def test_a_damaged_file_hides_no_exchanged_one(run: Path) -> None:
    """What was put in the other's place is whole in itself, so that only the checkpoint knows better."""
    train, validation = run / "train.tokens", run / "validation.tokens"
    train.write_bytes(validation.read_bytes())
    assert [str(train) in finding for finding in verify_run(run)] == [True]
    validation.write_bytes(validation.read_bytes()[:-1] + b"x")
    assert sorted(finding.split(" ")[0] for finding in verify_run(run)) == [str(train), str(validation)]
    for step in STEPS:  # and where no checkpoint is left that knows, a token file still knows itself
        (run / step / "weights.safetensors").unlink()
    assert sorted(finding.split(" ")[0] for finding in verify_run(run))[-1] == str(validation)


def test_what_is_wrong_is_told_and_the_exit_code_is_2(run: Path, capsys: Capture) -> None:
    for file in (run / STEPS[1] / "weights.safetensors", run / "log.jsonl"):
        file.write_bytes(b"x" + file.read_bytes()[1:])
    assert main(["verify", str(run)]) == 2
    shown = capsys.readouterr()
    assert [line.split(" ")[0] for line in shown.out.splitlines()] == [
        str(run / STEPS[1] / "weights.safetensors"),
        str(run / "log.jsonl"),
    ]
    assert shown.err == f"minilm: verify: {run} is not whole: 2 of its files are not what was saved\n"
    assert main(["verify", str(run), "--json"]) == 2
    table = json.loads(capsys.readouterr().out)
    assert table["whole"] is False and len(table["findings"]) == 2
    assert main(["verify", str(run / STEPS[0])]) == 0
    assert main(["verify", str(run / STEPS[1])]) == 2


def test_what_a_killed_process_leaves_is_no_damage(run: Path) -> None:
    (run / ".tmp-1-step-000008").mkdir()
    (run / ".tmp-1-loss.png").touch()
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    (run / "notes.txt").write_text("mine")
    assert verify_run(run) == []


@pytest.mark.parametrize("name", ["empty", "file", "missing"])
def test_what_is_no_run(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main(["verify", str(tmp_path / name)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and name in line


def test_another_text_with_the_same_tokenizer_is_found(run: Path) -> None:
    """Each file of tokens is whole, and neither is the one that the run has learnt from."""
    shutil.copy(run / "validation.tokens", run / "train.tokens")
    (finding,) = verify_run(run)
    assert "train.tokens has" in finding and finding.endswith("put the old file back, or train anew")


def test_files_are_known_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"")
    described = describe_files(tmp_path, ["a", "b"])
    assert described["b"]["bytes"] == 0 and described["a"]["sha256"].startswith("7692c3ad3540bb803c020b3aee66cd88")
    check_files(tmp_path, described)
    hostile: list[Any] = [None, [], {"a": 3}, {"a": {}}, {"../a": {"bytes": 3}}, {"c": described["a"]}]
    for wrong in hostile:
        with pytest.raises(ValueError) as caught:
            check_files(tmp_path, wrong)
        assert str(tmp_path) in str(caught.value)
    (tmp_path / "a").write_bytes(b"two")
    with pytest.raises(ValueError, match=f"{tmp_path}/a was changed after it was saved.*put the old file back"):
        check_files(tmp_path, described)


def test_nothing_is_changed_by_looking(run: Path) -> None:
    (run / STEPS[0] / MANIFEST).write_bytes(b"{}")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert verify_run(run)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert load_checkpoint(run / STEPS[1]).step == 4
