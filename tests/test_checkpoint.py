"""Checkpoints: a run that was stopped and went on is the run that was not, bit for bit; what is damaged is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer
from minilm.training import checkpoint as checkpoint_module
from minilm.training import storage
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.muon import build_optimizer

TOKENIZER = ByteTokenizer()
MODEL = GPTConfig(vocab_size=TOKENIZER.vocab_size, context_length=5, d_model=8, n_layers=1, n_heads=2, dropout=0.2)
IDS = np.random.default_rng(0).integers(0, 256, size=203)  # 40 windows an epoch


def make_model(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(MODEL)


def make_batches() -> Batches:
    return Batches(IDS, batch_size=2, context_length=5, seed=3)


def fingerprint(record: dict) -> dict:
    return {name: value for name, value in record.items() if name != "seconds"}


@pytest.mark.parametrize("n_steps", [17, pytest.param(60, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_resuming_at_any_step_is_the_uninterrupted_run(tmp_path: Path, optimizer_name: str, n_steps: int) -> None:
    """Dropout, accumulation, clipping, a cosine, two and a half epochs; saved and resumed at every step."""
    config = TrainConfig(
        steps=n_steps, optimizer=optimizer_name, accumulation=3, warmup=3, clip=0.5, learning_rate=0.01, dtype="float32"
    )
    model, batches = make_model(), make_batches()
    optimizer = build_optimizer(model, config)

    def save(step: int, _: Any, record: dict) -> None:
        save_checkpoint(tmp_path, model, TOKENIZER, step=step, optimizer=optimizer, batches=batches, keep=1000)

    save(0, model, {})
    history = train(model, batches, config, optimizer=optimizer, on_step=save, progress=False)
    end_of_randomness = torch.get_rng_state()
    assert batches.epoch >= 2
    for step in range(n_steps + 1):
        torch.manual_seed(step)  # whatever a new process starts with
        resumed = load_checkpoint(tmp_path / f"step-{step:06d}")
        again = build_optimizer(resumed.model, config)
        stream = make_batches()
        resumed.resume(again, stream)
        rest = train(resumed.model, stream, config, optimizer=again, start=resumed.step, progress=False)
        assert [*map(fingerprint, rest)] == [*map(fingerprint, history[step:])]
        for p, q in zip(model.parameters(), resumed.model.parameters(), strict=True):
            assert torch.equal(p, q)
        ours, theirs = optimizer.state_arrays(), again.state_arrays()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert torch.equal(torch.get_rng_state(), end_of_randomness)
        assert stream.state() == batches.state()


def test_a_model_comes_back_with_its_tokenizer_and_state(tmp_path: Path) -> None:
    model, tokenizer = make_model().eval(), CharTokenizer.train(["naïve 😀"])
    state = {"data": "shakespeare", "seconds": 1.5, "nested": [None, {"ü": 1}]}
    path = save_checkpoint(tmp_path / "run", model, tokenizer, step=123, validation=2.25, state=state)
    assert path.name == "step-000123"
    for directory in (tmp_path / "run", path, str(path)):
        loaded = load_checkpoint(directory)
        assert (loaded.step, loaded.validation, loaded.state, loaded.path) == (123, 2.25, state, path)
        assert loaded.tokenizer == tokenizer
        assert loaded.model.config == model.config
        ids = torch.tensor([[1, 2, 3, 256], [5, 6, 0, 255]])
        assert torch.equal(loaded.model.eval()(ids), model(ids))
    with pytest.raises(ValueError, match="saved without its optimizer"):
        loaded.resume(build_optimizer(loaded.model, TrainConfig()))


@dataclass(frozen=True)
class CountsConfig:
    vocab_size: int = 3


class Counts:
    """A model that is no module: numpy arrays of all kinds, some of them views, one not contiguous."""

    kind, config = "counts", CountsConfig()

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.held = arrays

    def arrays(self) -> dict[str, Any]:
        return self.held


def test_arrays_of_any_type_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = np.arange(60, dtype=np.int64).reshape(6, 10)
    frozen = np.arange(4, dtype=np.uint8)
    frozen.flags.writeable = False
    arrays: dict[str, Any] = {
        f"a{i}": np.arange(7).astype(kind)
        for i, kind in enumerate(["u1", "u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8", "?"])
    }
    arrays |= {"view": base[1:3], "other_view": base[2:5], "turned": base.T, "empty": base[:0], "frozen": frozen}
    tensor = torch.arange(20.0)
    arrays |= {
        "tensor": tensor.to(torch.bfloat16),
        "slice": tensor[3:7],
        "next": tensor[5:9],
        "stride": tensor[::2],
        "scalar": torch.tensor(5),
    }
    monkeypatch.setattr(checkpoint_module, "build_model", lambda kind, config, held: Counts(held))
    save_checkpoint(tmp_path, Counts(arrays), TOKENIZER)
    loaded = load_checkpoint(tmp_path).model.arrays()
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert type(loaded[name]) is type(array)
        assert loaded[name].dtype == array.dtype
        if isinstance(array, torch.Tensor):
            assert torch.equal(loaded[name], array)
        else:
            np.testing.assert_array_equal(loaded[name], array)


def names(run: Path) -> list[str]:
    return sorted(entry.name for entry in run.iterdir())


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    scores = {1: 3.0, 2: 2.0, 3: 1.5, 4: 1.8, 5: None, 6: 1.9, 7: 2.5}
    for step, score in scores.items():
        save_checkpoint(tmp_path, make_model(), TOKENIZER, step=step, validation=score)
    assert names(tmp_path) == ["step-000003", "step-000006", "step-000007"]
    assert load_checkpoint(tmp_path).step == 3
    assert load_checkpoint(tmp_path, prefer="last").step == 7


def test_without_scores_the_last_is_loaded_and_of_equals_the_later(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / "a", make_model(), TOKENIZER, step=step)
        save_checkpoint(tmp_path / "b", make_model(), TOKENIZER, step=step, validation=2.0)
    assert names(tmp_path / "a") == names(tmp_path / "b") == ["step-000002", "step-000003"]
    assert load_checkpoint(tmp_path / "a").step == load_checkpoint(tmp_path / "b").step == 3


def test_saving_a_step_again_over_the_files_it_was_loaded_from(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_model(), TOKENIZER, step=4)
    loaded = load_checkpoint(tmp_path)
    with torch.no_grad():
        for p in loaded.model.parameters():
            p += 1.0
    save_checkpoint(tmp_path, loaded.model, TOKENIZER, step=4)
    again = load_checkpoint(tmp_path).model
    assert all(torch.equal(p, q) for p, q in zip(loaded.model.parameters(), again.parameters(), strict=True))
    assert names(tmp_path) == ["step-000004"]


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-step-000001").mkdir()
    (tmp_path / ".tmp-1-step-000001" / "weights.safetensors").write_bytes(b"half")
    save_checkpoint(tmp_path, make_model(), TOKENIZER, step=2)
    assert names(tmp_path) == ["step-000002"]


def test_a_state_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        save_checkpoint(tmp_path / "run", make_model(), TOKENIZER, validation=float("nan"))
    assert not (tmp_path / "run").exists()


FILES = ["config.json", "weights.safetensors", "tokenizer.json", "state.json", "training.safetensors", storage.MANIFEST]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    model = make_model()
    optimizer = build_optimizer(model, TrainConfig())
    path = save_checkpoint(tmp_path, model, TOKENIZER, optimizer=optimizer)
    assert sorted(FILES) == names(path)
    good = (path / name).read_bytes()
    middle = len(good) // 2
    damaged = [
        good[:-1],
        good[:middle],
        b"",
        good + b"\n",
        good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
    ]
    for data in damaged:
        (path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name) as caught:
            load_checkpoint(tmp_path)
        assert "\n" not in str(caught.value)
    (path / name).unlink()
    with pytest.raises(ValueError, match=name):
        load_checkpoint(path)


def test_files_of_another_step_are_refused(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path, make_model(1), TOKENIZER, step=1)
    second = save_checkpoint(tmp_path, make_model(2), TOKENIZER, step=2)
    (second / "weights.safetensors").write_bytes((first / "weights.safetensors").read_bytes())
    load_checkpoint(first)
    with pytest.raises(ValueError, match=r"step-000002/weights.safetensors was changed.*delete the folder step-000002"):
        load_checkpoint(second)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (("file", "is no folder"), ("missing", "is no folder"), ("empty", "it has no MANIFEST.json")):
        with pytest.raises(ValueError, match=message):
            load_checkpoint(tmp_path / name)
