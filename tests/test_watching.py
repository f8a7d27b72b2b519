"""Watching a training changes nothing in it: samples and event files, also over a break, and where TensorBoard is missing."""

import json
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from minilm.cli.main import main
from minilm.cli.watching import EVENTS, SAMPLES, TAGS, Watch, recall_watch, summary_writer
from minilm.training import loop
from minilm.training.checkpoint import load_checkpoint
from minilm.training.run_log import read_log
from minilm.training.verify import verify_run

Capture = pytest.CaptureFixture[str]
TEXT = "".join(f"The {a} saw the {b}.\n" for a in ("cat", "fox", "hen", "owl") for b in ("moon", "sea", "hill") * 9)
SMALL = "--d-model 8 --n-layers 1 --batch-size 2 --threads 1 --dtype float32 --tokenizer byte"
SHAPES = {
    "gpt": "--n-heads 2 --context-length 8 --dropout 0.2",
    "llama": "--n-heads 2 --context-length 8 --dropout 0.2",
    "speedrun": "--n-heads 2 --context-length 8 --ngram-rows 64",
    "lstm": "--window 8",
}
STEPS = 12
WATCHED = ("--sample-every", "3", "--sample-prompt", "The c", "--sample-tokens", "11")


class Writer:
    """What torch's SummaryWriter is asked to do, noted down: the package tensorboard need not be there."""

    made: ClassVar[list["Writer"]] = []

    def __init__(self, folder: Path, purge_step: int | None = None, flush_secs: int = 120) -> None:
        self.folder, self.purge_step, self.closed = folder, purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        self.texts: list[tuple[str, str, int]] = []
        Writer.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.texts.append((tag, text, step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    stand_in = ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    Writer.made = []
    return Writer.made


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which tensorboard was not installed."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and a run of gpt that nobody watched."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT)
    assert train(room, "gpt", room / "gpt") == 0
    return room


@pytest.fixture(scope="module")
def watched(room: Path) -> Path:
    """The same run, with samples."""
    assert train(room, "gpt", room / "watched", *WATCHED) == 0
    return room / "watched"


def train(room: Path, kind: str, out: Path, *more: str) -> int:
    command = f"train --data {room}/text.txt --out {out} --steps {STEPS} --save-every 4 --eval-every 5 --model {kind}"
    return main([*f"{command} {SMALL} {SHAPES[kind]} --json".split(), *more])


def complaint(capsys: Capture) -> str:
    shown = capsys.readouterr()
    assert shown.err.startswith("minilm: ") and shown.err.count("\n") == 1, shown.err
    return shown.err.rstrip()


def samples(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / SAMPLES).read_text(encoding="utf-8").splitlines()]


def same_training(left: Path, right: Path) -> bool:
    """Every byte of the weights, of the optimizer's memory with the random numbers, and of the log."""
    step = f"step-{STEPS:06d}"
    files = [f"{step}/weights.safetensors", f"{step}/training.safetensors", "log.jsonl"]
    return all((left / file).read_bytes() == (right / file).read_bytes() for file in files)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_who_is_watched_learns_the_same(kind: str, room: Path, tmp_path: Path, writers: list[Writer]) -> None:
    """Dropout draws from torch's global generator at each step: one number that a sample took would change all that follow."""
    if kind != "gpt":
        assert train(room, kind, tmp_path / "alone") == 0
    alone = room / "gpt" if kind == "gpt" else tmp_path / "alone"
    assert train(room, kind, tmp_path / "watched", *WATCHED, "--tensorboard") == 0
    assert same_training(alone, tmp_path / "watched") and verify_run(tmp_path / "watched") == []
    assert [sample["step"] for sample in samples(tmp_path / "watched")] == [3, 6, 9, 12]
    assert not (alone / SAMPLES).exists() and not (alone / EVENTS).exists()


def test_a_sample_is_what_generate_writes(room: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(room, "gpt", tmp_path / "run", "--seed", "5", *WATCHED) == 0
    capsys.readouterr()
    words = f"generate {tmp_path}/run/step-000012 --max-new-tokens 11 --seed 5 --json --prompt"
    assert main([*words.split(), "The c"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert samples(tmp_path / "run")[-1] == {"step": 12, "prompt": "The c", "text": "The c" + written["text"]}


def test_a_sample_stands_on_the_terminal_in_one_line(room: Path, tmp_path: Path, capsys: Capture) -> None:
    words = f"train --data {room}/text.txt --out {tmp_path}/run --steps 4 --model gpt {SMALL} {SHAPES['gpt']}"
    assert main([*words.split(), "--sample-every", "4", "--sample-prompt", "a\nb"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("step 4: a b") for line in lines) == 1
    assert samples(tmp_path / "run")[0]["text"].startswith("a\nb")


class PowerCut(BaseException):
    pass


@pytest.mark.parametrize("died_in", [4, 7, 12])
def test_a_run_that_goes_on_is_watched_as_before(
    died_in: int, room: Path, watched: Path, tmp_path: Path, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the work for a step, so that up to three steps after the last checkpoint are done twice."""
    run = tmp_path / "run"
    real, calls = loop.clip_grad_norm, [0]

    def dying(*arguments: Any) -> float:
        calls[0] += 1
        if calls[0] == died_in:
            raise PowerCut
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(loop, "clip_grad_norm", dying)
        train(room, "gpt", run, *WATCHED, "--tensorboard")
    if died_in < 5:
        assert not run.exists()  # no checkpoint yet: nothing to go on from
        return
    with (run / SAMPLES).open("a") as file:
        file.write('{"step": 8, "prom')  # cut off in the middle of a line
    saved = 4 * ((died_in - 1) // 4)
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert same_training(watched, run) and (run / SAMPLES).read_bytes() == (watched / SAMPLES).read_bytes()
    assert writers[-1].purge_step == saved + 1 and writers[-1].closed
    assert [step for tag, _, step in writers[-1].scalars if tag == TAGS["loss"]] == list(range(saved + 1, STEPS + 1))
    assert load_checkpoint(run, prefer="last").state["watch"]["tensorboard"] is True


def test_a_sample_that_the_end_of_the_process_took_is_made_up_for(room: Path, tmp_path: Path) -> None:
    """The checkpoint of a step is saved before its sample is taken: who dies between the two has it in the second part."""
    run = tmp_path / "run"
    assert train(room, "gpt", run, "--sample-every", "4") == 0
    lines = (run / SAMPLES).read_text().splitlines(keepends=True)
    assert len(lines) == 3
    (run / SAMPLES).write_text(lines[0])
    shutil.rmtree(run / "step-000012")
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert (run / SAMPLES).read_text().splitlines(keepends=True) == lines and same_training(room / "gpt", run)


def test_what_tensorboard_is_told(room: Path, tmp_path: Path, writers: list[Writer]) -> None:
    assert train(room, "gpt", tmp_path / "run", *WATCHED, "--tensorboard") == 0
    (writer,) = writers
    assert (writer.folder, writer.purge_step, writer.closed) == (tmp_path / "run" / EVENTS, None, True)
    log = read_log(tmp_path / "run" / "log.jsonl")
    wanted = [(TAGS[name], record[name], record["step"]) for record in log for name in TAGS if name in record]
    assert writer.scalars == wanted and len([tag for tag, *_ in wanted if tag == TAGS["validation"]]) == 3
    assert writer.texts == [("sample", sample["text"], sample["step"]) for sample in samples(tmp_path / "run")]


def test_event_files_are_read_by_their_format(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """With the package: the records of the file, taken apart here, hold the numbers of the log. Without it: one line."""
    code = train(room, "gpt", tmp_path / "run", "--tensorboard")
    if summary_writer() is None:
        assert code == 2 and "pip install 'minilm[track]'" in complaint(capsys)
        return
    assert code == 0 and same_training(room / "gpt", tmp_path / "run")
    (file,) = (tmp_path / "run" / EVENTS).iterdir()
    found = [scalar for event in records_of(file.read_bytes()) for scalar in scalars_of(event)]
    log = read_log(tmp_path / "run" / "log.jsonl")
    wanted = [(record["step"], TAGS[name], record[name]) for record in log for name in TAGS if name in record]
    assert [(step, tag) for step, tag, _ in found] == [(step, tag) for step, tag, _ in wanted]
    assert [value for *_, value in found] == pytest.approx([value for *_, value in wanted], rel=1e-6)


def records_of(data: bytes) -> Iterator[bytes]:
    """TFRecord: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[12 + length + 4 :]


def fields_of(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message of protobuf: (number, whole number or bytes)."""
    place = 0

    def varint() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        length = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = varint() if length is None else length
        yield key >> 3, message[place : place + length]
        place += length


def scalars_of(event: bytes) -> Iterator[tuple[int, str, float]]:
    """Event: 2 = step, 5 = summary; summary: 1 = value; value: 1 = tag, 2 = number, 8 = tensor (5 = its floats)."""
    event_fields = dict(fields_of(event))
    for _, value in fields_of(event_fields.get(5, b"")):
        fields = dict(fields_of(value))
        number = fields.get(2) or dict(fields_of(fields[8])).get(5, b"")
        yield event_fields.get(2, 0), fields[1].decode(), struct.unpack("<f", number[:4])[0]


def test_without_the_package_it_is_said_before_anything_begins(
    room: Path, tmp_path: Path, capsys: Capture, without: None
) -> None:
    assert train(room, "gpt", tmp_path / "run", "--tensorboard") == 2
    assert "--tensorboard needs the package tensorboard" in (line := complaint(capsys)) and "minilm[track]" in line
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_the_package_is_missing(
    room: Path, tmp_path: Path, capsys: Capture, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(room, "gpt", tmp_path / "run", "--tensorboard", "--sample-every", "6") == 0
    shutil.rmtree(tmp_path / "run" / "step-000012")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run"), "--json"]) == 0
    assert "tensorboard is not installed here: going on without event files" in complaint(capsys)
    assert same_training(room / "gpt", tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").state["watch"]["tensorboard"] is True  # for a machine that has it


@pytest.mark.parametrize(
    ("kind", "flags", "says"),
    [
        ("gpt", ("--sample-prompt", "The"), "--sample-prompt and --sample-tokens are for --sample-every"),
        ("gpt", ("--sample-tokens", "9"), "are for --sample-every: say after how many steps"),
        ("gpt", ("--sample-every", "-1"), "--sample-every is -1: it must be at least 0"),
        ("gpt", ("--sample-every", "2", "--sample-tokens", "0"), "--sample-tokens is 0: it must be at least 1"),
        ("gpt", ("--sample-every", "2", "--sample-prompt", "\udcff"), "--sample-prompt is not valid UTF-8"),
        ("gpt", ("--sample-every", "2", "--sample-prompt", "ß", "--tokenizer", "char"), "ß"),
        ("ngram", ("--sample-every", "2"), "ngram is not trained in steps: leave out --sample-every"),
        ("glove", ("--sample-every", "2"), "glove is not trained in steps"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    kind: str, flags: tuple[str, ...], says: str, room: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = f"train --data {room}/text.txt --out {tmp_path}/run --model {kind}"
    if kind == "gpt":
        words += f" --steps 2 {SMALL} {SHAPES['gpt']}"
    assert main([*words.split(), *flags]) == 2
    assert says in complaint(capsys)
    assert not (tmp_path / "run").exists()


def test_an_old_checkpoint_says_nothing_and_a_strange_one_is_refused(without: None) -> None:
    assert recall_watch({"data": "x"}) == Watch()
    for strange in (5, {"sample_every": "three"}, {"sample_every": -4}, {"tensorboard": 1}):
        with pytest.raises(ValueError, match=r"watch is 5|sample_every is|tensorboard is"):
            recall_watch({"watch": strange})
