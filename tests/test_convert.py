"""`minilm convert`: an adapter becomes a plain model, weights become int8, and every verb reads what came out."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.cli.convert import run as convert
from minilm.cli.main import main
from minilm.cli.writing import load_writer
from minilm.decoding.quantize import GROUP, QuantizedLinear, product, quantize, to_int8
from minilm.fast.matvec import product as fast_product
from minilm.finetuning.adapters import adapt
from minilm.finetuning.heads import SequenceClassifier
from minilm.finetuning.lora_config import LoRAConfig
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]
SHAPE: dict[str, Any] = {"vocab_size": 257, "context_length": 48, "d_model": 36, "n_layers": 2, "n_heads": 3}
TEXT = "the cat saw the other cat and the cat ran. " * 5
STATE = {"data": "text.txt", "seconds": 2.5, "train": {"steps": 9}, "plan": {"x": 1}, "log": {"bytes": 3}}


def randomised(model: Any) -> Any:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, models trained on it (so they say), an adapter for one of them, and a classifier's."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT, encoding="utf-8")
    torch.manual_seed(1)
    models: dict[str, Any] = {
        "gpt": randomised(GPT(gpt2_config(**SHAPE))),
        "llama": randomised(GPT(llama_config(**SHAPE, n_kv_heads=1))),
        "speedrun": randomised(SpeedrunGPT(SpeedrunConfig(**SHAPE, max_ngram=3, ngram_rows=53))),
    }
    state = {**STATE, "data": str(room / "text.txt")}
    for name, model in models.items():
        save_checkpoint(room / name, model, ByteTokenizer(), step=7, validation=3.5, state=state)
    base, generator = load_checkpoint(room / "gpt"), torch.Generator().manual_seed(6)
    adapters = {
        "adapter": adapt(base, LoRAConfig(rank=3), generator),
        "critic": adapt(
            base,
            LoRAConfig(rank=2, targets=("q", "v")),
            generator,
            lambda model: SequenceClassifier.from_backbone(model, ("bad", "good"), generator=generator),
        ),
    }
    for name, model in adapters.items():
        with torch.no_grad():
            for array in model.arrays().values():
                array.add_(torch.randn(array.shape, generator=generator) * 0.3)
        save_checkpoint(room / name, model, ByteTokenizer(), step=5, validation=2.5, state=state)
    counted = CountedLM(NgramLM(NgramConfig(vocab_size=257, order=2)).fit(np.array([256, *TEXT.encode()]), 256))
    save_checkpoint(room / "counted", counted, ByteTokenizer(), state=state)
    return room


def ids() -> torch.Tensor:
    return torch.randint(257, (3, 19), generator=torch.Generator().manual_seed(2))


def weights_of(path: Path) -> int:
    """Bytes of the arrays in the file: what stands behind its header."""
    (file,) = path.glob("step-*/weights.safetensors")
    data = file.read_bytes()
    return len(data) - 8 - int.from_bytes(data[:8], "little")


def snapshot(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_merged_adapter_is_a_plain_model_that_needs_no_base(room: Path, tmp_path: Path, capsys: Capture) -> None:
    before, out = snapshot(room), tmp_path / "merged"
    assert convert([str(room / "adapter"), "--merge", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    adapter, plain = load_checkpoint(room / "adapter"), load_checkpoint(room / "gpt")
    moved = room.rename(room.with_name("elsewhere"))  # the base with all the rest
    try:
        merged = load_checkpoint(out)
        assert merged.model.kind == "gpt" and merged.model.config == plain.model.config
        with torch.no_grad():
            torch.testing.assert_close(merged.model.eval()(ids()), adapter.model.eval()(ids()), rtol=0, atol=1e-4)
            assert (merged.model(ids()) - plain.model.eval()(ids())).abs().max() > 0.1
        assert all(parameter.requires_grad for parameter in merged.model.parameters())
    finally:
        moved.rename(room)
    assert snapshot(room) == before
    assert said == {
        "out": str(out), "kind": "gpt", "bytes_before": weights_of(room / "adapter"), "bytes_after": weights_of(out),
    }  # fmt: skip
    assert weights_of(out) == weights_of(room / "gpt") > 2 * weights_of(room / "adapter")
    assert (merged.step, merged.validation) == (5, 2.5) and not (merged.path / "training.safetensors").exists()
    assert merged.state == {"data": str(room / "text.txt"), "seconds": 2.5}
    assert main(["train", "--resume", str(out)]) == 2
    assert "there is nothing to resume" in capsys.readouterr().err


@pytest.mark.parametrize("group", [None, 12])
@pytest.mark.parametrize("name", ["gpt", "llama", "speedrun"])
def test_int8_is_the_rounded_model_at_a_quarter_of_the_bytes(
    name: str, group: int | None, room: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, flags = tmp_path / "small", [] if group is None else ["--group", str(group)]
    assert convert([str(room / name), "--int8", *flags, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    small = load_checkpoint(out)
    expected = quantize(load_checkpoint(room / name).model.eval(), lambda weight: to_int8(weight, group or GROUP))
    assert small.model.kind == "quantized" and small.validation is None and small.step == 7
    assert torch.equal(small.model.eval()(ids()), expected(ids()))
    ratio = weights_of(out) / weights_of(room / name)
    assert 0.25 < ratio < (0.42 if name == "gpt" else 0.75)  # a table that is no head stays as it is
    assert f"{weights_of(room / name):,} bytes of weights" in said
    assert f"quantized, {weights_of(out):,} bytes ({ratio:.0%}); now try: minilm generate {out}" in said


def test_every_verb_reads_a_small_model(
    room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "small")
    assert convert([str(room / "adapter"), "--merge", "--int8", "--out", out]) == 0
    capsys.readouterr()
    figures = {}
    for folder in (str(room / "adapter"), out):
        assert main(["evaluate", folder, "--data", str(room / "text.txt"), "--json"]) == 0
        figures[folder] = json.loads(capsys.readouterr().out)["bits_per_byte"]
        assert main(["evaluate", folder, "--json"]) == 0  # on the corpus of the run that made it
        assert json.loads(capsys.readouterr().out)["bytes"] > 0
    small, large = figures[out], figures[str(room / "adapter")]
    assert small != large and small == pytest.approx(large, rel=0.02)

    texts = []
    for more in ([], ["--no-cache"], ["--fast"]):
        assert main(["generate", out, "--prompt", "the cat", "--max-new-tokens", "9", *more]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith("the cat") and texts[0] == texts[1] and texts[2].startswith("the cat")
    monkeypatch.setattr("sys.stdin", iter_input("hello\n/exit\n"))
    assert main(["chat", out, "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out
    assert main(["ladder", out, "--max-bytes", "40", "--json"]) == 0
    rungs = json.loads(capsys.readouterr().out)["rungs"]
    assert any(rung["model"] == "small" for rung in rungs)
    assert main(["describe", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == weights_of(Path(out))


def test_a_small_model_writes_by_the_kernels_and_is_rounded_once(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """--fast gives each rounded map the compiled product; --int8 has nothing left to do and says so."""
    out = str(tmp_path / "small")
    assert convert([str(room / "adapter"), "--merge", "--int8", "--out", out]) == 0
    for fast, wanted in ((False, product), (True, fast_product)):
        model, _ = load_writer(out, fast=fast)
        rounded = [part for part in model.model.modules() if isinstance(part, QuantizedLinear)]
        assert rounded and all(part.product is wanted for part in rounded)
    capsys.readouterr()
    assert main(["generate", out, "--int8", "--prompt", "the"]) == 2
    assert f"{out} is rounded already: leave out --int8" in capsys.readouterr().err


def iter_input(text: str) -> Any:
    return io.StringIO(text)


def test_a_converted_critic_is_judged_by_what_was_kept_aside(tmp_path: Path, capsys: Capture) -> None:
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "base", GPT(gpt2_config(**SHAPE)), ByteTokenizer())
    rows = [f"{'abcdefg'[i % 7]}{i}{'!' if i % 2 else ''},{'glad' if i % 2 else 'calm'}" for i in range(80)]
    (tmp_path / "reviews.csv").write_text("remark,mood\n" + "\n".join(rows) + "\n", encoding="utf-8")
    run, out = str(tmp_path / "run"), str(tmp_path / "plain")
    flags = ["--lora", "--epochs", "2", "--device", "cpu", "--threads", "1", "--json"]
    assert (
        main(["finetune", str(tmp_path / "base"), "--data", str(tmp_path / "reviews.csv"), "--out", run, *flags]) == 0
    )
    assert convert([run, "--merge", "--out", out]) == 0
    assert f"minilm predict {out}" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "base")
    assert load_checkpoint(out).model.kind == "sequence-classifier"
    assert main(["evaluate", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 8
    assert main(["verify", out]) == 0
    (tmp_path / "plain" / "aside.json").write_text("[]", encoding="utf-8")
    assert main(["verify", out]) == 2  # the examples belong to it
    shutil.copy(Path(run) / "aside.json", out)
    assert main(["finetune", "--resume", out]) == 2
    assert "not trained further" in capsys.readouterr().err
    assert main(["predict", out, "a1!", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in ("glad", "calm")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gpt"], "say what to convert to"),
        (["gpt", "--merge"], "holds a gpt model, not an adapter: there is nothing to --merge"),
        (["adapter", "--int8"], "add --merge"),
        (
            ["critic", "--merge", "--int8"],
            "holds a sequence-classifier model: --int8 is for models of kind gpt, speedrun",
        ),
        (["counted", "--int8"], "holds a ngram model: --int8 is for"),
        (["gpt", "--group", "8", "--merge"], "--group is for --int8"),
        (["gpt", "--int8", "--group", "0"], "--group is 0: at least 1"),
        (["gpt", "--int8", "--base", "ROOM/llama"], "is no adapter"),
        (["adapter", "--merge", "--base", "ROOM/llama"], "is not the base of this adapter"),
        (["nowhere", "--int8"], "nowhere"),
        (["gpt", "--int8", "--out", "ROOM/gpt"], "is not empty: name another folder"),
        (["gpt", "--int8", "--out", "ROOM/text.txt"], "is a file"),
    ],
)
def test_what_makes_no_sense_is_one_error_and_nothing_is_written(
    words: list[str], says: str, room: Path, tmp_path: Path
) -> None:
    before, out = snapshot(room), [] if "--out" in words else ["--out", str(tmp_path / "out")]
    name, *flags = (word.replace("ROOM", str(room)) for word in words)
    with pytest.raises((ValueError, OSError), match=says) as error:
        convert([str(room / name), *flags, *out])
    assert "\n" not in str(error.value) and "--resume" not in str(error.value)
    assert snapshot(room) == before and not (tmp_path / "out").exists()


def test_a_small_model_is_not_made_smaller(room: Path, tmp_path: Path) -> None:
    assert convert([str(room / "gpt"), "--int8", "--out", str(tmp_path / "one")]) == 0
    with pytest.raises(ValueError, match="holds a quantized model"):
        convert([str(tmp_path / "one"), "--int8", "--out", str(tmp_path / "two")])


def test_a_full_disk_leaves_nothing(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minilm.training.checkpoint.write_directory", full)
    with pytest.raises(OSError, match="No space left"):
        convert([str(room / "gpt"), "--int8", "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_the_help_says_the_group(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        convert(["--help"])
    assert f"with --int8 (default: {GROUP})" in " ".join(capsys.readouterr().out.split())
