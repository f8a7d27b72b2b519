"""A disk that is full, or broken, at any point of a save: one error that names the place, and what was saved before stays."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faults import Child, full_after, refuse, strike
from file_watch import Operation, watched

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.runtime import whole_file
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.muon import build_optimizer
from minilm.training.storage import newest_first

POSIX = [None] if os.name == "posix" else []  # elsewhere there are no limits on files, and no fork
TOKENIZER = ByteTokenizer()
# with Adam's memory a checkpoint has about 250 kB: 60 points, 4 KiB apart
MODEL = GPTConfig(vocab_size=TOKENIZER.vocab_size, context_length=5, d_model=32, n_layers=1, n_heads=2)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is full or broken is so by order: the real disk need not keep up."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def make_model(seed: int) -> GPT:
    torch.manual_seed(seed)
    return GPT(MODEL)


def save(run: Path, step: int) -> None:
    """A checkpoint whose weights, and whose optimizer's memory, are those of this step."""
    model = make_model(step)
    optimizer = build_optimizer(model, TrainConfig())
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.01 * step)
    optimizer.step()
    save_checkpoint(run, model, TOKENIZER, step=step, optimizer=optimizer)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save(tmp_path / "run", 1)
    return tmp_path / "run"


@pytest.fixture
def weights(run: Path) -> dict[str, torch.Tensor]:
    """Those of step 1, read once while all is well."""
    return {name: array.clone() for name, array in load_checkpoint(run).model.arrays().items()}


def stands(run: Path, weights: dict[str, torch.Tensor], clean: bool = True) -> bool:
    """Step 1 is there as it was, and nothing else counts as a checkpoint, or (if `clean`) is there at all."""
    loaded = load_checkpoint(run, prefer="last")
    arrays = loaded.model.arrays()
    return (
        loaded.step == 1
        and arrays.keys() == weights.keys()
        and all(torch.equal(arrays[name], weights[name]) for name in weights)
        and [path.name for path in newest_first(run)] == ["step-000001"]
        and (not clean or [path.name for path in run.iterdir()] == ["step-000001"])
    )


def operations(run: Path) -> list[Operation]:
    """Those of a save of step 2, which is then taken away again."""
    with watched(run) as log:
        save(run, 2)
    shutil.rmtree(run / "step-000002")
    return log


@pytest.mark.parametrize("every", [4096, pytest.param(512, marks=pytest.mark.nightly)])
def test_a_disk_that_is_full_after_so_many_bytes(run: Path, weights: dict[str, torch.Tensor], every: int) -> None:
    """PITFALLS 82: at every 4 KiB of a save."""
    size = sum(len(operation.data) for operation in operations(run))
    points = range(0, size, every)
    assert len(points) >= 50
    for free in points:
        with pytest.raises(OSError) as caught, watched(run, full_after(free)):
            save(run, 2)
        assert caught.value.errno == errno.ENOSPC
        assert "step-000002" in str(caught.value) and "\n" not in str(caught.value)
        assert stands(run, weights)
    with watched(run, full_after(size)):  # just large enough
        save(run, 2)
    assert load_checkpoint(run, prefer="last").step == 2


@pytest.mark.parametrize("every", [n for n in (4096, pytest.param(512, marks=pytest.mark.nightly)) for _ in POSIX])
def test_a_file_that_the_system_lets_grow_no_further(
    tmp_path: Path, run: Path, weights: dict[str, torch.Tensor], every: int
) -> None:
    """The same from the kernel: RLIMIT_FSIZE, in a fork. Python ignores its signal, and the call fails with EFBIG."""
    import resource

    largest = max(operation.at + len(operation.data) for operation in operations(run))

    def task(limit: int) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            save(run, 2)
        except OSError as error:
            return 7 if error.errno == errno.EFBIG and "step-000002" in str(error) else 8
        return 0

    limits = range(0, largest, every)
    assert len(limits) >= 30
    for limit in limits:
        assert Child(lambda limit=limit: task(limit), tmp_path / "out").wait() == 7, (tmp_path / "out").read_text()
        assert stands(run, weights)
    assert Child(lambda: task(largest), tmp_path / "out").wait() == 0
    assert load_checkpoint(run, prefer="last").step == 2


@pytest.mark.parametrize("ever_after", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_an_error_at_any_operation(run: Path, weights: dict[str, torch.Tensor], code: int, ever_after: bool) -> None:
    """Also at close, fsync and rename: step 1 stays, or step 2 stands beside it. The next save cleans up."""
    log = operations(run)
    refused: set[str] = set()
    for number, operation in enumerate(log):
        try:
            with watched(run, strike(number, refuse(code), ever_after)):
                save(run, 2)
        except OSError as error:
            assert error.errno == code
            refused.add(operation.kind)
        found = [path.name for path in newest_first(run)]
        assert found in (["step-000001"], ["step-000002", "step-000001"])
        if len(found) == 2:
            assert load_checkpoint(run / "step-000002").step == 2
            shutil.rmtree(run / "step-000002")
        assert stands(run, weights, clean=False)
        save(run, 2)
        assert {path.name for path in run.iterdir()} == {"step-000001", "step-000002"}
        shutil.rmtree(run / "step-000002")
    assert refused >= {"mkdir", "create", "write", "close", "fsync", "rename"}


@pytest.mark.parametrize("kind", ["write", "close", "fsync", "rename"])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, kind: str) -> None:
    """Token files, and whatever else is written by `whole_file`."""
    path = tmp_path / "train.tokens"
    encode_corpus(["once", "upon"], TOKENIZER, path)
    good = path.read_bytes()
    with pytest.raises(OSError), watched(tmp_path, strike(lambda o: o.kind == kind, refuse(errno.ENOSPC))):
        encode_corpus(["a time"], TOKENIZER, path)
    with (
        pytest.raises(OSError),
        watched(tmp_path, strike(lambda o: o.kind == kind, refuse(errno.ENOSPC))),
        whole_file(path) as unfinished,
    ):
        unfinished.write_bytes(b"x")
    assert path.read_bytes() == good
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.tokens"]


# ---- through the front door

SMALL = [
    *["--d-model", "12", "--n-layers", "1", "--n-heads", "2", "--context-length", "8", "--steps", "6"],
    *["--save-every", "2", "--batch-size", "2", "--threads", "1", "--dtype", "float32", "--tokenizer", "byte"],
    *["--model", "gpt"],
]


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """The one line that a failed command left on stderr."""

    def line() -> str:
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1 and len(shown.err) <= 400, shown.err
        assert "Traceback" not in shown.out + shown.err
        return shown.err

    yield line


def test_training_that_meets_a_full_disk_says_so_in_one_line_and_goes_on_later(tmp_path: Path, complaint) -> None:
    text, run, whole = tmp_path / "text.txt", tmp_path / "run", tmp_path / "whole"
    text.write_text("".join(f"The cat no. {i} sat on the mat.\n" for i in range(200)))
    train = ["train", "--data", str(text), *SMALL, "--json", "--out"]
    assert main([*train, str(whole)]) == 0
    with watched(run) as log:
        assert main([*train, str(run)]) == 0
    saves = [n for n, operation in enumerate(log) if operation.to == "step-000004"]
    shutil.rmtree(run)
    with watched(run, strike(saves[0] - 4, refuse(errno.ENOSPC), ever_after=True)):
        code = main([*train, str(run)])
    assert code == 2
    line = complaint()
    assert f"{run}: No space left" in line and f"--resume {run}" in line
    assert load_checkpoint(run, prefer="last").step == 2
    assert main(["train", "--resume", str(run), "--json"]) == 0
    for name in ("weights.safetensors", "training.safetensors"):
        assert (run / "step-000006" / name).read_bytes() == (whole / "step-000006" / name).read_bytes()
    assert (run / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
