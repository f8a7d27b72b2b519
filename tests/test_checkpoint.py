"""Checkpoints: a run that was stopped and went on is the run that was not, bit for bit; what is damaged is refused."""

import json
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer
from minilm.training import storage, weights
from minilm.training.batches import Batches
from minilm.training.checkpoint import check_checkpoint, load_checkpoint, newest_whole, run_of, save_checkpoint
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
    monkeypatch.setattr(weights, "build_model", lambda kind, config, held: Counts(held))
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
    """Pitfall 83: the loaded arrays may still be the file itself, mapped into the memory."""
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
    with pytest.raises(
        ValueError,
        match=r"step-000002/weights.safetensors was changed.*: go on with the newest whole one, .*/step-000001$",
    ):
        load_checkpoint(second)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("file", "is no folder"),
        ("missing", "is no folder"),
        ("empty", "it has no MANIFEST.json; name"),
    ):
        with pytest.raises(ValueError, match=message):
            load_checkpoint(tmp_path / name)
    (tmp_path / "empty" / "log.jsonl").touch()  # a run that was killed early: neither --out nor --resume could go on
    with pytest.raises(ValueError, match=r"has no checkpoint yet.*delete the folder and train anew"):
        load_checkpoint(tmp_path / "empty")


def test_which_run_a_folder_belongs_to(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "run", make_model(), TOKENIZER, step=3)
    assert run_of(tmp_path / "run") == run_of(path) == tmp_path / "run"
    shutil.copytree(path, tmp_path / "copy")
    assert run_of(tmp_path / "copy") == tmp_path
    assert load_checkpoint(tmp_path / "copy").step == 3  # outside a run any name will do


# ---- what is damaged is never passed over for something older


def saved_steps(run: Path) -> list[Path]:
    return [save_checkpoint(run, make_model(n), TOKENIZER, step=n, validation=4.0 - n, keep=9) for n in (1, 2, 3)]


@pytest.mark.parametrize("prefer", ["last", "best"])
@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", storage.MANIFEST])
def test_the_newest_whole_one_is_named(tmp_path: Path, name: str, prefer: str) -> None:
    first, second, third = saved_steps(tmp_path)
    (third / name).write_bytes((third / name).read_bytes()[:-3])
    way = f"go on with the newest whole one, {'--resume ' if prefer == 'last' else ''}"
    for place in (tmp_path, third):
        with pytest.raises(ValueError, match=f"step-000003/{name}") as caught:
            load_checkpoint(place, prefer)
        assert str(caught.value).endswith(f": {way}{second}") and "\n" not in str(caught.value)
    assert newest_whole(tmp_path) == second and load_checkpoint(second).step == 2
    (second / name).unlink()
    with pytest.raises(ValueError, match=f"{way}{first}$"):
        load_checkpoint(tmp_path, prefer)
    (first / name).unlink()
    with pytest.raises(ValueError, match=f"step-000003/{name}.*: no checkpoint in .* is whole, so train again"):
        load_checkpoint(tmp_path, prefer)
    assert newest_whole(tmp_path) is None


def test_a_score_that_may_be_false_chooses_no_best(tmp_path: Path) -> None:
    """A flipped bit in the state of one that is not loaded decides which is: it has to be seen."""
    first, _, third = saved_steps(tmp_path)
    for path, score, false in ((third, "1.0", "2.5"), (first, "3.0", "0.5")):  # it was the best; it would be
        text = (path / "state.json").read_text()
        (path / "state.json").write_text(text.replace(f'"validation": {score}', f'"validation": {false}'))
        with pytest.raises(ValueError, match=rf"{path.name}/state.json was changed.*: go on with the newest whole one"):
            load_checkpoint(tmp_path)
        (path / "state.json").write_text(text)
    (first / "state.json").write_bytes(b"{}")
    assert load_checkpoint(tmp_path, "last").path == third
    assert load_checkpoint(third).step == 3


def test_what_is_damaged_is_kept_until_somebody_has_looked(tmp_path: Path) -> None:
    first, *_ = saved_steps(tmp_path)
    (first / "state.json").write_bytes(b"{}")
    for step in (4, 5, 6):
        save_checkpoint(tmp_path, make_model(), TOKENIZER, step=step, validation=9.0)
    assert names(tmp_path) == ["step-000001", "step-000003", "step-000005", "step-000006"]


# ---- hostile states: the manifest fits, as if somebody had written it by hand


def sign(path: Path) -> None:
    """Make the manifest fit what lies there."""
    files = {file.name: file.read_bytes() for file in path.iterdir() if file.name != storage.MANIFEST}
    listing = {name: storage.description(data) for name, data in files.items()}
    (path / storage.MANIFEST).write_bytes(storage.to_json({"format": storage.FORMAT, "files": listing}))


def rewrite(file: Path, *change: tuple[Any, ...]) -> None:
    """Set values in a JSON file, each at the end of a way of keys, and sign the folder."""
    value = json.loads(file.read_bytes())
    for *way, last, new in change:
        place = value
        for key in way:
            place = place[key]
        place[last] = new
    file.write_bytes(json.dumps(value).encode())
    sign(file.parent)


CHANGES = {
    "huge width": ("config.json", "config", "d_model", 10**9),
    "huge vocabulary": ("config.json", "config", "vocab_size", 10**9),
    "very many layers": ("config.json", "config", "n_layers", 10**9),
    "many layers": ("config.json", "config", "n_layers", 10**6),
    "wide": ("config.json", "config", "d_model", 2**19),
    "wide inside": ("config.json", "config", "d_ff", 2**20),
    "negative": ("config.json", "config", "d_model", -8),
    "no number": ("config.json", "config", "d_model", None),
    "a fraction": ("config.json", "config", "d_model", 8.5),
    "a fraction of a token": ("config.json", "config", "vocab_size", 257.5),
    "a text": ("config.json", "config", "n_heads", "2"),
    "a list": ("config.json", "config", "n_heads", [2]),
    "one layer more": ("config.json", "config", "n_layers", 2),
    "other heads": ("config.json", "config", "n_kv_heads", 1),
    "unknown option": ("config.json", "config", "n_wheels", 4),
    "unknown kind": ("config.json", "kind", "train"),
    "another kind": ("config.json", "kind", "speedrun"),
    "a counted kind": ("config.json", "kind", "ngram"),
    "an adapter": ("config.json", "kind", "adapted"),
    "kind is a list": ("config.json", "kind", ["gpt"]),
    "config is a list": ("config.json", "config", []),
    "numpy is none": ("config.json", "numpy", None),
    "numpy has others": ("config.json", "numpy", ["nobody"]),
    "step is a text": ("state.json", "step", "7"),
    "step is negative": ("state.json", "step", -7),
    "step is of another": ("state.json", "step", 8),
    "step is true": ("state.json", "step", True),
    "step is huge": ("state.json", "step", 10**400),
    "score is a text": ("state.json", "validation", "best"),
    "score is true": ("state.json", "validation", True),
    "state is a list": ("state.json", "state", []),
    "no tokenizer": ("tokenizer.json", "kind", "nonsense"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=[*CHANGES])
def test_hostile_values_are_one_line_that_names_the_place(tmp_path: Path, change: tuple[Any, ...]) -> None:
    path = save_checkpoint(tmp_path, make_model(), TOKENIZER, step=7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rewrite(path / change[0], change[1:])
    with pytest.raises(ValueError) as caught:
        load_checkpoint(tmp_path)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 700 and "step-000007" in said and change[0].partition(".")[0] in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000  # kB


def test_an_ngram_of_absurd_order_is_refused_before_its_names_are_written_down(tmp_path: Path) -> None:
    model = CountedLM(NgramLM(NgramConfig(vocab_size=257, order=2)).fit(IDS, 256))
    path = save_checkpoint(tmp_path, model, TOKENIZER)
    assert load_checkpoint(path).model.config.order == 2
    rewrite(path / "config.json", ("config", "order", 10**9))
    with pytest.raises(ValueError, match=r"order is 1000000000, which .* bytes of weights cannot go with"):
        load_checkpoint(path)


def test_a_long_context_needs_no_array(tmp_path: Path) -> None:
    config = GPTConfig(vocab_size=257, context_length=2**20, d_model=8, n_layers=1, n_heads=2, rope_theta=1e4)
    assert load_checkpoint(save_checkpoint(tmp_path, GPT(config), TOKENIZER)).model.config == config


def weights_of(model: GPT) -> dict[str, torch.Tensor]:
    return {name: array.detach().clone() for name, array in model.arrays().items()}


WEIGHTS: dict[str, Any] = {
    "missing": lambda w: w.pop("norm.weight"),
    "surplus": lambda w: w.update(extra=torch.zeros(2)),
    "none at all": lambda w: w.clear(),
    "renamed": lambda w: w.update({"norm.wait": w.pop("norm.weight")}),
    "turned": lambda w: w.update({"embedding.weight": w["embedding.weight"].T.contiguous()}),
    "flat": lambda w: w.update({"embedding.weight": w["embedding.weight"].flatten()}),
    "whole numbers": lambda w: w.update({"norm.weight": w["norm.weight"].long()}),
    "yes and no": lambda w: w.update({"norm.weight": w["norm.weight"].bool()}),
}


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=[*WEIGHTS])
def test_weights_that_are_not_of_the_config(tmp_path: Path, change: Any) -> None:
    path, arrays = save_checkpoint(tmp_path, make_model(), TOKENIZER), weights_of(make_model())
    change(arrays)
    (path / "weights.safetensors").write_bytes(safetensors.torch.save(arrays))
    sign(path)
    with pytest.raises(
        ValueError, match=r"config.json and weights.safetensors do not go together.*use another"
    ) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_fractions_of_another_precision_are_read(tmp_path: Path) -> None:
    model = make_model()
    path = save_checkpoint(tmp_path, make_model().to(torch.float64), TOKENIZER)
    for name, array in load_checkpoint(path).model.arrays().items():
        assert torch.equal(array, model.arrays()[name])


def test_files_that_were_exchanged_with_their_manifest(tmp_path: Path) -> None:
    """The whole content of another step: only the number in state.json tells."""
    first, second, third = saved_steps(tmp_path)
    shutil.rmtree(third)
    shutil.copytree(first, third)
    with pytest.raises(ValueError, match=r"step-000003/state.json is that of step 1, not of step 3"):
        load_checkpoint(tmp_path)
    assert newest_whole(tmp_path) == second
    third.rename(tmp_path / "step-000001.old")
    check_checkpoint(tmp_path / "step-000001.old")


def test_files_that_are_no_json_and_no_safetensors(tmp_path: Path) -> None:
    for name in ("config.json", "state.json", "tokenizer.json", "weights.safetensors"):
        for text in (b"", b"[1]", b'{"kind": "gpt", "kind": "gpt"}', b"\xff" * 40, b"[" * 100_000, b'{"step": NaN}'):
            path = save_checkpoint(tmp_path, make_model(), TOKENIZER, step=5)
            (path / name).write_bytes(text)
            sign(path)
            with pytest.raises(ValueError, match=f"step-000005/{name}") as caught:
                load_checkpoint(path)
            assert "\n" not in str(caught.value)


def test_a_manifest_lists_all_that_is_read(tmp_path: Path) -> None:
    """What it does not list nobody has verified, as a state that another save has left (pitfall 87)."""
    model = make_model()
    optimizer = build_optimizer(model, TrainConfig())
    for name in FILES[:5]:
        path = save_checkpoint(tmp_path, model, TOKENIZER, step=1, optimizer=optimizer)
        listing = json.loads((path / storage.MANIFEST).read_bytes())
        del listing["files"][name]
        (path / storage.MANIFEST).write_bytes(storage.to_json(listing))
        with pytest.raises(ValueError, match=f"step-000001/.*{name}"):
            load_checkpoint(path)


def test_a_training_state_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    model, batches = make_model(), make_batches()
    optimizer = build_optimizer(model, TrainConfig())
    path = save_checkpoint(tmp_path, model, TOKENIZER, optimizer=optimizer, batches=batches)
    good = safetensors.torch.load((path / "training.safetensors").read_bytes())
    for bad in ({}, {**good, "random/cpu": torch.zeros(3)}, {**good, "x/mean": torch.zeros(2)}):
        (path / "training.safetensors").write_bytes(safetensors.torch.save(bad))
        sign(path)
        with pytest.raises(ValueError, match=r"training.safetensors does not fit this training") as caught:
            load_checkpoint(path).resume(optimizer, batches)
        assert "\n" not in str(caught.value)
    (path / "training.safetensors").write_bytes(safetensors.torch.save(good))
    for name, value in (("batches", None), ("batches", {"epoch": 1}), ("batches", [])):
        rewrite(path / "state.json", (name, value))
        with pytest.raises(ValueError, match=r"state\.json"):
            load_checkpoint(path).resume(optimizer, batches)
