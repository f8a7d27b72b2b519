"""The table of starting values against models that were drawn, and `minilm describe --init`, which prints it."""

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from minilm.cli.main import main
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.expert_block import expert_block
from minilm.models.gpt import GPT
from minilm.models.initialisation import Start, initialisation
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import save_checkpoint

# So large that the spread of each matrix, which n numbers tell to about 1 / sqrt(2 n), is known to 2 %.
SIZES: dict[str, Any] = dict(vocab_size=211, context_length=101, d_model=96, n_layers=3, n_heads=6, d_ff=130)
CASES: dict[str, tuple[Any, int, Callable[[Any], nn.Module]]] = {
    "gpt2": (gpt2_config(**SIZES), 0, GPT),
    "gpt2, untied": (gpt2_config(**SIZES, tie_embeddings=False, mlp="gelu"), 0, GPT),
    "llama": (llama_config(**SIZES, n_kv_heads=2), 0, GPT),
    "llama, tied, biases": (llama_config(**SIZES, tie_embeddings=True, bias=True), 0, GPT),
    "layer norm without bias": (gpt2_config(**SIZES, bias=False), 0, GPT),
    "gpt2 with experts": (
        gpt2_config(**SIZES),
        17,
        functools.partial(GPT, block=functools.partial(expert_block, n_experts=17, k=3)),
    ),
    "llama with experts": (
        llama_config(**SIZES),
        19,
        functools.partial(GPT, block=functools.partial(expert_block, n_experts=19, k=2)),
    ),
    "speedrun": (SpeedrunConfig(211, 101, 96, 2, 6, n_shift=3), 0, SpeedrunGPT),
    "speedrun without shift": (SpeedrunConfig(211, 101, 96, 1, 3, n_shift=0), 0, SpeedrunGPT),
}
every_case = pytest.mark.parametrize(("config", "n_experts", "build"), CASES.values(), ids=CASES)


@every_case
def test_every_parameter_is_as_the_table_says(config: Any, n_experts: int, build: Callable[[Any], nn.Module]) -> None:
    table, model = initialisation(config, n_experts), build(config)
    assert [(start.name, start.shape) for start in table] == [
        (name, tuple(parameter.shape)) for name, parameter in model.named_parameters()
    ]
    for start in table:
        values = model.get_parameter(start.name).detach()
        if start.law == "normal":
            deviations = values / start.std
            n = values.numel()
            assert deviations.std().item() == pytest.approx(1.0, abs=0.05), start.name
            assert abs(deviations.mean().item()) < 5 / n**0.5, start.name
            for bound, inside in ((1.0, 0.6827), (2.0, 0.9545)):  # of the normal law
                assert (deviations.abs() < bound).double().mean().item() == pytest.approx(inside, abs=2.5 / n**0.5)
        else:
            assert start.std == 0.0
            assert (values == {"ones": 1.0, "zeros": 0.0}[start.law]).all(), start.name


@every_case
def test_a_seed_fixes_all_numbers(config: Any, n_experts: int, build: Callable[[Any], nn.Module]) -> None:
    """Nothing is left as the memory was: what is drawn hangs on the seed, and on nothing else."""
    drawn = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        drawn.append({name: parameter.detach().clone() for name, parameter in build(config).named_parameters()})
        torch.randn(1000).fill_(float("nan"))  # memory that the next model may get
    for start in initialisation(config, n_experts):
        first, second, other = (each[start.name] for each in drawn)
        assert torch.equal(first, second), start.name
        assert torch.equal(first, other) == (start.law != "normal"), start.name


def laws(config: Any, n_experts: int = 0) -> dict[str, tuple[str, float]]:
    return {start.name: (start.law, start.std) for start in initialisation(config, n_experts)}


def test_numbers_of_the_papers() -> None:
    """GPT-2: 0.02, positions 0.01, what writes to the stream 0.02 / sqrt(2 L), here with L = 8: 0.005."""
    table = laws(gpt2_config(**{**SIZES, "n_layers": 8}, tie_embeddings=False), n_experts=2)
    expected = {
        "embedding.weight": ("normal", 0.02),
        "positions.weight": ("normal", 0.01),
        "blocks.7.attention_norm.weight": ("ones", 0.0),
        "blocks.7.attention_norm.bias": ("zeros", 0.0),
        "blocks.7.attention.k.weight": ("normal", 0.02),
        "blocks.7.attention.k.bias": ("zeros", 0.0),
        "blocks.7.attention.out.weight": ("normal", 0.005),
        "blocks.0.mlp.router.weight": ("normal", 0.02),
        "blocks.0.mlp.experts.1.up.weight": ("normal", 0.02),
        "blocks.0.mlp.experts.1.down.weight": ("normal", 0.005),
        "blocks.0.mlp.experts.1.down.bias": ("zeros", 0.0),
        "norm.bias": ("zeros", 0.0),
        "lm_head.weight": ("normal", 0.02),
    }
    assert {name: table[name] for name in expected} == expected
    assert len(table) == 2 + 8 * (2 + 8 + 2 + 1 + 2 * 4) + 2 + 1
    speedrun = laws(SpeedrunConfig(50, 9, 64, 2, 4, n_shift=2))
    assert speedrun["embeddings.0.weight"] == ("normal", 1.0) and speedrun["embeddings.2.weight"] == ("zeros", 0.0)
    assert speedrun["blocks.1.up.weight"] == ("normal", 0.0625)  # 0.5 / sqrt(64)
    assert speedrun["blocks.1.down.weight"] == speedrun["lm_head.weight"] == ("zeros", 0.0)


def test_every_line_says_why() -> None:
    for config, n_experts, _ in CASES.values():
        assert all(10 < len(start.why) < 70 for start in initialisation(config, n_experts))


def test_what_draws_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="a Start is of no transformer"):
        initialisation(Start("x", (1,), "ones", 0.0, "why"))  # type: ignore[arg-type]
    for config, n_experts in ((GPTConfig(), -1), (SpeedrunConfig(), 2)):
        with pytest.raises(ValueError, match=f"n_experts is {n_experts}: only a gpt has experts"):
            initialisation(config, n_experts)


# ---- minilm describe --init


def describe(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["describe", *map(str, words)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


FLAGS = ("--d-model", 20, "--n-layers", 3, "--n-heads", 5, "--context-length", 17, "--vocab-size", 71)
SMALL: dict[str, Any] = dict(vocab_size=71, context_length=17, d_model=20, n_layers=3, n_heads=5)


def counts(starts: tuple[Start, ...]) -> dict[tuple[str, str, str, str], int]:
    """How many parameters share a line: name without its layer, shape, law, deviation to three digits."""
    lines: dict[tuple[str, str, str, str], int] = {}
    for start in starts:
        words = start.name.split(".")
        name = ".".join(["blocks", *words[2:]] if words[0] == "blocks" else words)
        deviation = format(start.std, ".3g") if start.law == "normal" else "-"
        line = (name, " x ".join(str(n) for n in start.shape), start.law, deviation)
        lines[line] = lines.get(line, 0) + 1
    return lines


@pytest.mark.parametrize(
    ("name", "config"), [("gpt", gpt2_config(**SMALL)), ("llama", llama_config(**SMALL)), ("speedrun", None)]
)
def test_the_printed_table(name: str, config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = config or SpeedrunConfig(**{**SMALL, "n_heads": 2})
    flags = FLAGS if name != "speedrun" else (*FLAGS[:4], "--n-heads", 2, *FLAGS[6:])
    out = describe(capsys, name, *flags, "--init")
    assert out.startswith(describe(capsys, name, *flags))  # the account, as ever, and then the table
    table = out[out.index("How each parameter starts") :].splitlines()
    printed = {}
    for line in table[3:]:
        label, shape, rest = re.split(r"  +", line, maxsplit=2)
        copies, law, deviation, why = re.split(r" +", rest, maxsplit=3)
        printed[label, shape, law, deviation] = int(copies)
        assert len(line) <= 128 and why[0].isalnum()
    assert printed == counts(initialisation(config))


def test_json_has_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    plain = json.loads(describe(capsys, "llama", *FLAGS, "--json"))
    full = json.loads(describe(capsys, "llama", *FLAGS, "--json", "--init"))
    listed = full.pop("initialisation")
    assert full == plain
    table = initialisation(llama_config(**SMALL))
    assert listed == json.loads(json.dumps([dataclasses.asdict(start) for start in table]))


def test_a_run_is_described_by_its_config(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = ByteTokenizer()
    config = gpt2_config(**{**SMALL, "vocab_size": tokenizer.vocab_size})
    save_checkpoint(tmp_path, GPT(config), tokenizer)
    out = describe(capsys, tmp_path, "--init", "--json", "--context-length", 3)
    assert [entry["name"] for entry in json.loads(out)["initialisation"]] == [
        start.name for start in initialisation(config)
    ]


def test_too_many_layers_to_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "gpt", "--init", "--n-layers", "1001"]) == 2
    assert "--n-layers is 1,001, give at most 1,000" in capsys.readouterr().err
    assert "blocks.mlp.up.weight" in describe(capsys, "gpt", "--init", "--n-layers", "1000")
