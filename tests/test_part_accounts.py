"""What rounded models, adapters and heads cost on paper is what the real ones hold, and `minilm describe` says it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minilm.cli.main import main
from minilm.decoding.quantize import to_int8
from minilm.finetuning.adapters import AdaptedModel, adapt
from minilm.finetuning.config import HeadConfig
from minilm.finetuning.freezing import count_parameters
from minilm.finetuning.heads import SequenceClassifier, TokenClassifier
from minilm.finetuning.lora_config import MAPS, LoRAConfig
from minilm.models.accounting import account
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.part_accounts import MADE, PartAccount, n_groups, part_account
from minilm.models.quantized import Quantized, QuantizedConfig
from minilm.models.registry import KINDS, build_model
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]
SIZES: dict[str, Any] = {"vocab_size": 257, "context_length": 21, "d_model": 30, "n_layers": 3, "n_heads": 5}
CONFIGS: dict[str, Any] = {
    "gpt2": gpt2_config(**SIZES),
    "untied": gpt2_config(**SIZES, tie_embeddings=False, d_ff=37),
    "llama": llama_config(**SIZES, n_kv_heads=1),
    "speedrun": SpeedrunConfig(**SIZES | {"n_heads": 3}, max_ngram=3, ngram_rows=59),
}


def build(name: str) -> Any:
    torch.manual_seed(1)
    config = CONFIGS[name]
    return build_model("gpt" if isinstance(config, GPTConfig) else "speedrun", config.__dict__)


def stored(model: Any) -> int:
    """Bytes of the arrays that a checkpoint holds."""
    return sum(array.nbytes for array in model.arrays().values())


def numbers(model: Any) -> int:
    return count_parameters(model).total


@pytest.mark.parametrize("group", [64, 7, 1, None])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_rounded_model_has_the_bytes_of_its_arrays(name: str, group: int | None) -> None:
    plain = build(name)
    n_parameters = numbers(plain)
    model = Quantized(plain, group)
    a = part_account("quantized", model.config)
    assert a.weights == stored(model) and a.parameters == n_parameters and a.learned == 0
    int8, rest = a.parts
    arrays = model.arrays().values()
    assert int8.parameters == sum(array.numel() for array in arrays if array.dtype is torch.int8)
    assert int8.weights == sum(
        array.nbytes for key, array in model.arrays().items() if key.endswith(("numbers", "scales"))
    )
    assert a.flops == account(CONFIGS[name]).flops_forward and a.plain == account(CONFIGS[name])
    assert rest.flops == account(CONFIGS[name]).flops_forward - int8.flops > 0  # the scores of attention


@pytest.mark.parametrize("n_in", [1, 2, 63, 64, 65, 100, 129, 1000])
def test_groups_are_those_of_rounding(n_in: int) -> None:
    for group in (1, 3, 50, 64, 65, None):
        scales = to_int8(torch.ones(2, n_in), group).scales
        assert scales is not None and n_groups(n_in, group) == scales.shape[1]


def adapted(name: str, lora: LoRAConfig, folder: Path, head: Any = None) -> AdaptedModel:
    base = load_checkpoint(save_checkpoint(folder, build(name), ByteTokenizer()))
    return adapt(base, lora, torch.Generator().manual_seed(2), head)


@pytest.mark.parametrize("targets", [(), ("q", "v"), ("down",), ("qkv", "up")], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_has_the_parameters_of_the_real_one(name: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    there = {"qkv", "out", "up", "down"} if name == "speedrun" else set(MAPS) - {"qkv", "input", "recurrent"}
    if not set(targets) <= there:
        targets = tuple(set(targets) & there) or ("out",)
    model = adapted(name, LoRAConfig(rank=4, targets=targets), tmp_path)
    a = part_account("adapted", model.config)
    counts = count_parameters(model)
    base, adapter = a.parts
    assert (a.parameters, a.learned) == (counts.total, counts.trainable) and a.weights == stored(model)
    assert base.weights == stored(load_checkpoint(tmp_path).model) and not base.learns and not base.here
    assert a.flops == base.flops + adapter.flops and base.flops == account(CONFIGS[name]).flops_forward
    ids = torch.zeros(2, 13, dtype=torch.long)
    costs = []
    for one in (model, load_checkpoint(tmp_path).model):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            one(ids)
        costs.append(counter.get_total_flops())
    assert costs[0] - costs[1] == adapter.flops * 2 * 13


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", [SequenceClassifier, TokenClassifier])
def test_heads_alone_and_with_an_adapter(kind: Any, name: str, tmp_path: Path) -> None:
    def with_head(model: Any) -> Any:
        return kind.from_backbone(model, ("good", "bad", "odd"), generator=torch.Generator().manual_seed(3))

    head = with_head(build(name))
    a = part_account(kind.kind, head.config)
    assert a.parameters == a.learned == numbers(head) and a.weights == stored(head)
    model = adapted(name, LoRAConfig(rank=2), tmp_path, with_head)
    a = part_account("adapted", model.config)
    counts = count_parameters(model)
    assert (a.parameters, a.learned, a.weights) == (counts.total, counts.trainable, stored(model))
    assert [part.name for part in a.parts][1:] == ["adapter", "head"] and a.parts[2].parameters == 3 * 30 + 3


def test_numbers_by_hand() -> None:
    """D 4, F 8, V 5, one block of two heads, untied, no biases: q, k, v, out 4 x 16, up and down 2 x 32, head 20."""
    sizes = {"vocab_size": 5, "context_length": 3, "d_model": 4, "n_layers": 1, "n_heads": 2, "d_ff": 8}
    config = {**gpt2_config(**sizes, bias=False, tie_embeddings=False).__dict__}
    a = part_account("quantized", QuantizedConfig(model={"kind": "gpt", "config": config}, group=4))
    scales = 4 * 4 + 8 + 4 * 2 + 5  # a scale for each output, two where an output has 8 inputs
    assert [part.parameters for part in a.parts] == [64 + 64 + 20, 20 + 12 + 3 * 4]  # tables and norms are left
    assert [part.weights for part in a.parts] == [148 + 4 * scales, 4 * 44]
    assert [part.flops for part in a.parts] == [2 * 148, 4 * 3 * 4]


def test_length_and_types(tmp_path: Path) -> None:
    config = HeadConfig("gpt", dict(CONFIGS["llama"].__dict__), ("a", "b"))
    long, short, half = (
        part_account("sequence-classifier", config, length=length, dtype=dtype)
        for length, dtype in ((21, "float32"), (9, "float32"), (21, "bfloat16"))
    )
    assert long.flops - short.flops == 4 * 3 * 30 * (21 - 9) and half.weights * 2 == long.weights
    rounded = QuantizedConfig(model={"kind": "gpt", "config": dict(CONFIGS["llama"].__dict__)})
    with pytest.raises(ValueError, match="dtype is 'bfloat16': a rounded model has its matrices in int8"):
        part_account("quantized", rounded, dtype="bfloat16")
    with pytest.raises(ValueError, match="a length of 22 tokens"):
        part_account("quantized", rounded, length=22)
    other = HeadConfig("rnn", {"vocab_size": 5, "context_length": 7, "d_model": 3}, ("a", "b"))
    with pytest.raises(ValueError, match="in this token-classifier model is a rnn, which is no transformer"):
        part_account("token-classifier", other)


def test_every_kind_is_one_that_a_checkpoint_knows() -> None:
    assert set(MADE) <= set(KINDS)
    assert isinstance(part_account("quantized", Quantized(build("gpt2")).config), PartAccount)


# ---- the verb


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("room")
    save_checkpoint(room / "small", Quantized(build("gpt2"), 16), ByteTokenizer())
    model = adapted("llama", LoRAConfig(rank=2, targets=("q", "v")), room / "base")
    save_checkpoint(room / "adapter", model, ByteTokenizer())
    critic = SequenceClassifier.from_backbone(build("gpt2"), ("bad", "good"), generator=torch.Generator())
    save_checkpoint(room / "critic", critic, ByteTokenizer())
    return room


def describe(capsys: Capture, *words: object) -> str:
    assert main(["describe", *map(str, words)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


@pytest.mark.parametrize(
    ("name", "kind"), [("small", "quantized"), ("adapter", "adapted"), ("critic", "sequence-classifier")]
)
def test_json_has_the_sums_and_the_parts(name: str, kind: str, room: Path, capsys: Capture) -> None:
    table = json.loads(describe(capsys, room / name, "--json"))
    model = load_checkpoint(room / name).model
    a = part_account(kind, model.config)
    assert table["kind"] == kind and table["weights"] == stored(model)
    assert table["parameters"] == sum(part["parameters"] for part in table["parts"]) == a.parameters
    assert (table["flops_forward"], table["learned"]) == (a.flops, a.learned)
    assert table["kv_cache"] == model.new_cache(1).bytes_per_token if kind != "sequence-classifier" else True
    shorter = json.loads(describe(capsys, room / name, "--json", "--context-length", 9))
    assert shorter["flops_forward"] < table["flops_forward"] and shorter["weights"] == table["weights"]


def test_tables_of_people(room: Path, capsys: Capture) -> None:
    out = describe(capsys, room / "small")
    a = part_account("quantized", load_checkpoint(room / "small").model.config)
    assert "quantized: a gpt whose matrices are rounded to int8, with a scale for each 16 inputs of an output" in out
    assert f"{8 * a.weights / a.parameters:.2f} bits a parameter" in out and "nothing trains it" in out
    assert f"{a.weights / (4 * a.parameters):.0%} of the bytes" in out
    columns = [line.split() for line in out.splitlines() if line.startswith(("matrices", "the rest", "sum"))]
    assert [row[-4] for row in columns] == [f"{n:,}" for n in (*(part.parameters for part in a.parts), a.parameters)]
    out = describe(capsys, room / "adapter")
    a = part_account("adapted", load_checkpoint(room / "adapter").model.config)
    assert "adapted: a gpt with an adapter of rank 2 in q, v" in out and "base gpt" in out
    assert f"{a.learned / a.parameters:.1%} learn" in out and "minilm convert --merge" in out
    assert "a gpt with a head for 2 labels: bad, good" in describe(capsys, room / "critic")


def test_pictures_and_starts_are_those_of_the_plain_model(room: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("small", "adapter"):
        describe(capsys, room / name, "--plot", tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "How each parameter starts" in describe(capsys, room / "adapter", "--init")


def test_where_the_base_lies(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (room / "base").rename(tmp_path / "moved")
    try:
        assert main(["describe", str(room / "adapter")]) == 2
        assert "--base" in capsys.readouterr().err
        assert "adapter of rank 2" in describe(capsys, room / "adapter", "--base", tmp_path / "moved")
    finally:
        (tmp_path / "moved").rename(room / "base")
    for words, says in (
        (["gpt", "--base", str(room)], "--base is for the folder of an adapter"),
        ([str(room / "small"), "--dtype", "bfloat16"], "dtype is 'bfloat16': a rounded model"),
        ([str(room / "small"), "--base", str(room)], "is no adapter"),
    ):
        assert main(["describe", *words]) == 2
        assert says in capsys.readouterr().err
