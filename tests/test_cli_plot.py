"""`minilm plot`: runs that may be compared are compared, and of those that may not it is said why."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.cli.main import main
from minilm.cli.plot import course, in_words, read_run
from minilm.plots import runs as pictures
from minilm.training.run_log import read_log

Capture = pytest.CaptureFixture[str]
TEXT = "".join(f"The {a} saw the {b}.\n" for a in ("cat", "fox", "hen", "owl") for b in ("moon", "sea", "hill") * 9)
SMALL = "--model gpt --d-model 8 --n-layers 1 --n-heads 2 --context-length 8 --batch-size 2 --threads 1 --dtype float32"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short runs: two that differ in their learning rate, and one that reads the text by another tokenizer."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT)
    for name, more in (
        ("novel-slow", "--tokenizer byte --learning-rate 1e-4"),
        ("novel-fast", "--tokenizer byte --steps 9"),
        ("novel-pairs", "--tokenizer bpe --vocab-size 270"),
    ):
        words = (
            f"train --data {room}/text.txt --out {room}/{name} --steps 6 --eval-every 2 --save-every 3 {SMALL} --json"
        )
        assert main([*words.split(), *more.split()]) == 0
    return room


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was drawn: the courses, then the other arguments."""
    calls: list[Any] = []
    real = pictures.plot_runs

    def noting(courses: Any, *rest: Any) -> Any:
        calls[:] = [courses, *rest]
        return real(courses, *rest)

    monkeypatch.setattr(pictures, "plot_runs", noting)
    return calls


def plot(room: Path, names: str, *more: str) -> int:
    return main(["plot", *(str(room / name) for name in names.split()), *more])


def complaint(capsys: Capture) -> str:
    shown = capsys.readouterr()
    assert shown.err.startswith("minilm: plot: ") and shown.err.count("\n") == 1 and not shown.out, shown
    return shown.err.rstrip()


def test_runs_of_one_tokenizer_in_their_own_unit(
    room: Path, tmp_path: Path, drawn: list[Any], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert plot(room, "novel-slow novel-fast") == 0
    first, second, last = capsys.readouterr().out.splitlines()
    log = read_log(room / "novel-fast" / "log.jsonl")
    looks = {record["step"]: record["validation"] for record in log if "validation" in record}
    best = min(looks, key=lambda step: looks[step])
    assert first.startswith("slow  6 steps, 96 tokens, ")
    assert second.startswith("fast  9 steps, 144 tokens, ")
    assert second.endswith(f"best {looks[best]:.4f} bits per byte at step {best}")
    assert last == "the picture is runs.png" and Path("runs.png").read_bytes().startswith(b"\x89PNG")
    (slow, fast), *rest = drawn
    assert rest == ["steps", "nats per token", "bits per byte", None] and (slow.name, fast.name) == ("slow", "fast")
    assert fast.loss.tolist() == [record["loss"] for record in log] and fast.x.tolist() == list(range(1, 10))
    assert dict(zip(fast.look_x.tolist(), fast.looks.tolist(), strict=True)) == looks


@pytest.mark.parametrize(("x", "label"), [("tokens", "tokens read"), ("seconds", "seconds of training")])
def test_the_other_axes(x: str, label: str, room: Path, tmp_path: Path, drawn: list[Any]) -> None:
    out = str(tmp_path / "a.svg")
    assert plot(room, "novel-slow", "novel-fast", "--x", x, "--smooth", "3", "--out", out) == 2  # a name that is no run
    assert plot(room, "novel-slow novel-fast", "--x", x, "--smooth", "3", "--out", out) == 0
    courses, *rest = drawn
    assert rest == [label, "nats per token", "bits per byte", 3] and "<svg" in Path(out).read_text()
    log = read_log(room / "novel-slow" / "log.jsonl")
    wanted = [16.0 * record["step"] if x == "tokens" else record["seconds"] for record in log]
    assert courses[0].x.tolist() == wanted and courses[0].look_x.tolist() == wanted[1::2]


def test_with_two_tokenizers_all_is_in_bits_per_byte(
    room: Path, tmp_path: Path, drawn: list[Any], capsys: Capture
) -> None:
    """Nats per token say nothing there: a token of the one stands for more text than a token of the other."""
    capsys.readouterr()
    assert plot(room, "novel-fast novel-pairs", "--out", str(tmp_path / "a.pdf")) == 0
    said = capsys.readouterr().out
    assert said.count("different tokenizers") == 1 and "bits per byte" in said and "different texts" not in said
    (fast, pairs), *rest = drawn
    assert rest[1:3] == ["bits per byte", "bits per byte"]
    for each, name in ((fast, "novel-fast"), (pairs, "novel-pairs")):
        loss = np.array([record["loss"] for record in read_log(room / name / "log.jsonl")])
        header = json.loads((room / name / "train.tokens").read_bytes()[:512])
        assert each.loss == pytest.approx(loss / math.log(2) * header["n_tokens"] / header["n_bytes"])
    assert 7.5 < fast.loss[0] < 8.5 and pairs.loss[0] < 7.0  # 257 tokens of a byte each; 270, of which some are longer


def test_json(room: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert plot(room, "novel-fast novel-pairs", "--json", "--x", "tokens", "--out", str(tmp_path / "a.png")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["x"], shown["loss_unit"], len(shown["notes"])) == ("tokens", "bits per byte", 1)
    fast, _ = shown["runs"]
    last = read_log(room / "novel-fast" / "log.jsonl")[-1]
    assert (fast["name"], fast["steps"], fast["tokens"]) == ("fast", 9, 144)
    assert (fast["loss"], fast["last"], fast["seconds"]) == (last["loss"], last["validation"], last["seconds"])


def test_a_run_that_still_trains(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """No checkpoint yet, and the last line of the log half written."""
    run = tmp_path / "young"
    shutil.copytree(room / "novel-fast", run)
    for step in run.glob("step-*"):
        shutil.rmtree(step)
    lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
    (run / "log.jsonl").write_text(lines[0] + lines[1][:20])
    capsys.readouterr()
    assert main(["plot", str(run), "--out", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.startswith("young  1 steps, 16 tokens, ")
    assert "no look yet" in in_words({"steps": 1, "tokens": 9, "seconds": None, "best": None}, "x")


def test_other_texts_are_named(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.txt").write_text(TEXT.replace("cat", "mouse"))
    words = f"train --data {tmp_path}/text.txt --out {tmp_path}/run --steps 2 --tokenizer byte {SMALL} --json"
    assert main(words.split()) == 0
    capsys.readouterr()
    assert main(["plot", str(room / "novel-slow"), str(tmp_path / "run"), "--out", str(tmp_path / "a.png")]) == 0
    assert "different texts: their scores do not say which model is better" in capsys.readouterr().out


def test_a_fine_tuning_has_its_own_unit(room: Path, tmp_path: Path, drawn: list[Any], capsys: Capture) -> None:
    rows = "".join(f"{'abc'[i % 3]}{i},{'xy'[i % 2]}\n" for i in range(40))
    (tmp_path / "data.csv").write_text("text,label\n" + rows)
    for seed in "12":
        words = (
            f"finetune {room}/novel-slow --data {tmp_path}/data.csv --out {tmp_path}/run{seed} --steps 4 --seed {seed}"
        )
        assert main(f"{words} --batch-size 4 --threads 1 --dtype float32 --json".split()) == 0
    capsys.readouterr()
    assert plot(tmp_path, "run1 run2", "--out", str(tmp_path / "a.png")) == 0
    assert drawn[2:4] == ["nats per label", "nats per label"]
    capsys.readouterr()
    assert main(["plot", str(room / "novel-slow"), str(tmp_path / "run1"), "--out", str(tmp_path / "b.png")]) == 2
    line = complaint(capsys)
    assert "novel-slow is measured in bits per byte" in line and "run1 in nats per label: draw them apart" in line
    assert not (tmp_path / "b.png").exists()


def test_what_is_no_run_is_one_line(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "log.jsonl").touch()
    (tmp_path / "picture.png").mkdir()
    shutil.copytree(room / "novel-slow", tmp_path / "broken")
    (tmp_path / "broken" / "log.jsonl").write_text('{"step": 1, "loss": "much", "tokens": 4}\n')
    capsys.readouterr()
    for words, says in (
        (f"{tmp_path}/nowhere", "nowhere is no folder: name the folder of a run"),
        (f"{room}/text.txt", "text.txt is no folder"),
        (f"{tmp_path}/empty", "empty is no run that was trained in steps: it has no log.jsonl"),
        (f"{tmp_path}/begun", "begun has done no step yet: its log.jsonl is empty"),
        (f"{tmp_path}/broken", "log.jsonl has no whole record of step 1"),
        (f"{room}/novel-slow {room}/../{room.name}/novel-slow", "is named twice"),
        (f"{room}/novel-slow --smooth 0", "--smooth is 0: it must be at least 1"),
        (f"{room}/novel-slow --out a.txt", "a.txt is no picture: let its name end in .png, .svg, .pdf"),
        (f"{room}/novel-slow --out {tmp_path}/picture.png", "picture.png is no picture"),
        (f"{room}/novel-slow --x years", "years"),
    ):
        assert main(["plot", *words.split()]) == 2, words
        assert says in complaint(capsys), words


def test_a_log_that_began_late_and_one_without_times(room: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(room / "novel-slow", run)
    lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(lines[2:]))
    assert course(read_run(str(run)), "a", "steps", False).x.tolist() == [3, 4, 5, 6]
    for x in ("tokens", "seconds"):
        with pytest.raises(ValueError, match="begins with step 3: draw it with --x steps"):
            course(read_run(str(run)), "a", x, False)
    (run / "log.jsonl").write_text("".join(lines))
    (run / "times.jsonl").write_text((run / "times.jsonl").read_text().splitlines(keepends=True)[0])
    assert len(course(read_run(str(run)), "a", "tokens", False).x) == 6
    with pytest.raises(ValueError, match=r"has no times.jsonl that knows all its steps"):
        course(read_run(str(run)), "a", "seconds", False)
