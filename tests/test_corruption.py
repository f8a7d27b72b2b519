"""Damage to what was saved, by accident or on purpose: found before anything is made of it, in one line that names the file."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import flipped, truncations
from hostile_states import FILES, HOSTILE, LAST, Change, other_model

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.runtime import time_limit
from minilm.text.token_file import encode_corpus, open_token_file, verify_token_file
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.muon import build_optimizer
from minilm.training.run import train_in_folder
from minilm.training.storage import MANIFEST, verify_directory
from minilm.training.verify import verify_run

TOKENIZER = ByteTokenizer()
MODEL = GPTConfig(vocab_size=TOKENIZER.vocab_size, context_length=7, d_model=8, n_layers=1, n_heads=2)
CONFIG = TrainConfig(steps=4, batch_size=2, save_every=2, warmup=1, dtype="float32")


def make_batches() -> Batches:
    return Batches(np.random.default_rng(0).integers(0, 256, size=200), CONFIG.batch_size, MODEL.context_length, seed=3)


def make_run(run: Path) -> Path:
    """A finished run: two checkpoints, the log, and token files."""
    run.mkdir()
    torch.manual_seed(0)
    for side, text in (("train", "Once upon a time. " * 20), ("validation", "There was a cat. " * 10)):
        encode_corpus([text], TOKENIZER, run / f"{side}.tokens")
    train_in_folder(
        GPT(MODEL), TOKENIZER, make_batches(), CONFIG, run,
        about={"data": "noise", "device": "cpu"}, evaluate=lambda model: 3.0, progress=False,
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("corruption") / "run")


@pytest.fixture
def run(pristine: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    return shutil.copytree(pristine, tmp_path / "run")


def go_on(path: Path) -> None:
    """Load a checkpoint and all that goes with it when training is resumed."""
    loaded = load_checkpoint(path, prefer="last")
    loaded.resume(build_optimizer(loaded.model, CONFIG), make_batches())


def refusal(call: Callable[[], Any], *names: str) -> str:
    """The one line of the ValueError that has to come, and has to name one of these files or folders."""
    with pytest.raises(ValueError) as caught, time_limit(20.0):
        call()
    line = str(caught.value)
    assert "\n" not in line and len(line) <= 600, line
    assert any(name in line for name in names), line
    return line


def header_bytes(path: Path) -> int:
    """How much of a file says what the rest of it is: of JSON everything, of safetensors the lengths and the table."""
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            return 8 + int.from_bytes(file.read(8), "little")
    return path.stat().st_size


def chosen_bits(path: Path, of_header: int, of_data: int, rng: random.Random) -> list[int]:
    """At most so many bits of the header, and so many of the data behind it, drawn without replacement."""
    header, size = 8 * header_bytes(path), 8 * path.stat().st_size
    head = range(header) if header <= of_header else rng.sample(range(header), of_header)
    return [*head, *rng.sample(range(header, size), min(of_data, size - header))]


def named(name: str) -> str:
    """What an error has to name: the file. A hash in the manifest that was damaged is as if the file were."""
    return f"{LAST}/" if name == MANIFEST else f"{LAST}/{name}"


# ---- accidents


@pytest.mark.parametrize(
    ("of_header", "of_data"),
    [
        (1000, 200),
        pytest.param(10**9, 5_000, marks=pytest.mark.nightly),  # every bit of the headers
        pytest.param(10**9, 45_000, marks=pytest.mark.nightly),
    ],
)
def test_every_flipped_bit_of_a_checkpoint_is_detected(run: Path, of_header: int, of_data: int) -> None:
    """PITFALLS 84: torch.load read 204 of 300 such files as other weights, safetensors 296."""
    path, rng, flips = run / LAST, random.Random(of_data), 0
    for name in FILES:
        for bit in chosen_bits(path / name, of_header, of_data, rng):
            with flipped(path / name, bit):
                refusal(lambda: verify_directory(path), named(name))
            flips += 1
    print(f"{flips:,} flipped bits, all detected")
    assert flips >= 3000
    assert sorted(verify_directory(path)) == sorted(set(FILES) - {MANIFEST})  # each was put back


@pytest.mark.parametrize("n", [15, pytest.param(500, marks=pytest.mark.nightly)])
def test_whoever_loads_is_told(run: Path, capsys: pytest.CaptureFixture[str], n: int) -> None:
    """Flips in every file, through `load_checkpoint`, `verify_run` and the command line, of the run and of the step."""
    path, rng = run / LAST, random.Random(n)
    for name in FILES:
        for bit in chosen_bits(path / name, n, n, rng):
            with flipped(path / name, bit):
                refusal(lambda: load_checkpoint(path), named(name))
                refusal(lambda: load_checkpoint(run, prefer="last"), named(name))
                assert any(named(name) in line and "\n" not in line for line in verify_run(run))
                for arguments in (["verify", str(run)], ["generate", str(path)], ["train", "--resume", str(run)]):
                    assert main(arguments) == 2
                    shown = capsys.readouterr()
                    assert shown.err.count("\n") == 1 and named(name) in shown.out + shown.err, shown
    assert verify_run(run) == []
    assert main(["verify", str(run)]) == 0


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.nightly)])
def test_every_truncation_of_a_checkpoint_is_detected(run: Path, every: int) -> None:
    """Every length up to 4,096 (by day each fifth), then every 257 bytes."""
    path, cuts = run / LAST, 0
    for name in FILES:
        for length in truncations(path / name):
            if length % every and length > 16:
                continue
            refusal(lambda: verify_directory(path), f"{LAST}/{name}")
            if cuts % 50 == 0:
                refusal(lambda: load_checkpoint(path), f"{LAST}/{name}")
            cuts += 1
    print(f"{cuts:,} truncations, all detected")
    assert cuts >= 2000
    go_on(path)


@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_damaged_token_file_is_detected(run: Path, side: str) -> None:
    """Each bit of it, and each length."""
    path = run / f"{side}.tokens"
    verify_token_file(path)
    for bit in range(0, 8 * path.stat().st_size, 7):
        with flipped(path, bit):
            refusal(lambda: verify_token_file(path), path.name)
            if bit % 50 == 0:
                assert any(path.name in line for line in verify_run(run))
    for _ in truncations(path):
        refusal(lambda: verify_token_file(path), path.name)
        refusal(lambda: open_token_file(path), path.name)
    assert verify_run(run) == []


def test_a_damaged_log_is_detected(run: Path) -> None:
    """The checkpoint knows the log that belongs to it."""
    log = run / "log.jsonl"
    good = log.read_bytes()
    size = len(good)
    for bit in range(0, 8 * size, 37):
        with flipped(log, bit):
            assert any("log.jsonl" in line and "\n" not in line for line in verify_run(run)), bit
    for length in range(0, size, 9):
        log.write_bytes(good[:length])
        assert any("log.jsonl" in line for line in verify_run(run)), length
    log.write_bytes(good)
    assert verify_run(run) == []
    go_on(run / LAST)


# ---- on purpose: hostile_states.py


def test_a_tokenizer_that_is_not_the_model_s(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a manifest that fits, and a size that does not: nobody writes with it."""
    other_model("tokenizer.json")(run / LAST)
    for arguments in (["generate", str(run / LAST)], ["train", "--resume", str(run)]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_there_are_many_hostile_states_and_their_names_differ() -> None:
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize(("culprit", "change"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_state_is_refused(run: Path, culprit: str, change: Change) -> None:
    change(run / LAST)
    assert refusal(lambda: go_on(run / LAST), culprit)
