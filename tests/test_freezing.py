"""Frozen parts stay as they are, to the bit; and each layer learns at the rate of its depth."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from minilm.finetuning.freezing import (
    count_parameters,
    depth,
    freeze,
    freeze_first,
    is_part,
    layerwise_groups,
    layerwise_optimizer,
    n_blocks,
    unfreeze,
)
from minilm.finetuning.heads import SequenceClassifier
from minilm.finetuning.lora import add_lora
from minilm.finetuning.lora_config import LoRAConfig
from minilm.layers.basic import Linear
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training.config import TrainConfig
from minilm.training.loss import next_token_loss
from minilm.training.muon import build_optimizer
from minilm.training.optim import decay_groups

CONFIG = GPTConfig(vocab_size=11, context_length=7, d_model=6, n_layers=12, n_heads=2, d_ff=10)
OPTIMIZERS = ("adamw", "muon", "adam", "sgd")


def gpt(**changes: object) -> GPT:
    return GPT(dataclasses.replace(CONFIG, **changes))


def backward(model: nn.Module) -> None:
    ids = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(1))
    next_token_loss(model, ids, ids.roll(-1, 1)).backward()


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def learning(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def in_block(number: int, model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(f"blocks.{number}.")}


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("blocks.1.mlp.up.weight", "blocks.1", True),
        ("blocks.10.mlp.up.weight", "blocks.1", False),
        ("blocks.1.mlp.up.weight", "blocks", True),
        ("blocks.1.mlp.up.weight", "up.weight", True),
        ("blocks.1.mlp_norm.weight", "mlp", False),
        ("norm.weight", "norm.weight", True),
        ("blocks.1.attention_norm.weight", "norm", False),
    ],
)
def test_a_part_is_whole_steps_of_the_name(name: str, part: str, expected: bool) -> None:
    assert is_part(name, part) is expected


def test_freeze_keeps_what_is_named() -> None:
    model = gpt(tie_embeddings=False)
    frozen = freeze(model, keep=("blocks.1", "lm_head", "norm.bias"))
    assert learning(model) == in_block(1, model) | {"lm_head.weight", "norm.bias"}
    assert set(frozen) == {name for name, _ in model.named_parameters()} - learning(model)
    freeze(model, keep=("norm",))  # a second freeze lets go what the first one kept
    assert learning(model) == {"norm.weight", "norm.bias"}
    unfreeze(model)
    assert learning(model) == {name for name, _ in model.named_parameters()}
    assert len(freeze(model)) == len(list(model.parameters()))


@pytest.mark.parametrize("n", [0, 1, 5, 12])
def test_freeze_first_blocks(n: int) -> None:
    """Also the tables, and with them a tied head; block 10 is not block 1."""
    model = gpt(tie_embeddings=n % 2 == 1)
    freeze_first(model, n)
    expected = {"norm.weight", "norm.bias"} | ({"lm_head.weight"} if n % 2 == 0 else set())
    assert learning(model) == expected.union(*(in_block(i, model) for i in range(n, 12)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_gradient_and_no_update_of_what_is_frozen(optimizer: str) -> None:
    """Not by momentum, not by weight decay, and not by a gradient that was there before."""
    model = gpt(n_layers=3)
    config = TrainConfig(optimizer=optimizer, learning_rate=0.05, weight_decay=0.9)
    first = build_optimizer(model, config)  # built before anything is frozen: it holds all parameters
    backward(model)
    first.step()  # memory for all
    freeze_first(model, 2)
    before = copies(model)
    expected = in_block(2, model) | {"norm.weight", "norm.bias"}
    first.step()  # the frozen have lost their old gradient
    assert moved(model, before) == expected
    for optimizer_of in (
        lambda: first,
        lambda: build_optimizer(model, config),
        lambda: layerwise_optimizer(model, config),
    ):
        before = copies(model)
        stepping = optimizer_of()
        stepping.zero_grad()
        backward(model)
        assert {name for name, p in model.named_parameters() if p.grad is not None} == expected
        stepping.step()
        assert moved(model, before) == expected


def test_counts() -> None:
    """By hand: V D + T D + norm 2 D, and a block of 4 D² + 2 D F + 9 D + F; a tied head is the table."""
    model, D, F = gpt(n_layers=2), 6, 10
    block = 4 * D * D + 2 * D * F + 9 * D + F
    assert count_parameters(model) == (11 * D + 7 * D + 2 * D + 2 * block,) * 2
    freeze_first(model, 1)
    assert count_parameters(model).trainable == 2 * D + block
    assert count_parameters(model).total == 11 * D + 7 * D + 2 * D + 2 * block


def test_depth_by_hand() -> None:
    speedrun = SpeedrunGPT(SpeedrunConfig(11, 7, 8, 2, 2, max_ngram=2, ngram_rows=5))
    depths = {name: depth(name, 2) for name, _ in speedrun.named_parameters() if "blocks" not in name}
    assert depths.pop("lm_head.weight") == 3
    assert set(depths.values()) == {0}
    assert len(depths) == 4  # three tables of tokens, one of n-grams
    assert depth("backbone.blocks.11.attention.q.weight", 12) == 12
    assert depth("backbone.positions.weight", 12) == 0
    assert depth("backbone.norm.bias", 12) == depth("score.weight", 12) == 13
    assert n_blocks(speedrun) == 2


def test_layerwise_groups_by_hand() -> None:
    """Two blocks: the output at 0.02, block 1 at half of it, block 0 at a quarter, the tables at an eighth."""
    model = gpt(n_layers=2, tie_embeddings=False)
    groups = layerwise_groups(model, TrainConfig(learning_rate=0.02, weight_decay=0.3), decay=0.5)
    found = [(group["lr"], group["weight_decay"], set(group["names"])) for group in groups]

    def of_block(number: int, matrices: bool) -> set[str]:
        return {
            name
            for name, p in model.named_parameters()
            if name in in_block(number, model) and (p.ndim == 2) == matrices
        }

    assert found == [
        (0.02, 0.3, {"lm_head.weight"}),
        (0.02, 0.0, {"norm.weight", "norm.bias"}),
        (0.01, 0.3, of_block(1, True)),
        (0.01, 0.0, of_block(1, False)),
        (0.005, 0.3, of_block(0, True)),
        (0.005, 0.0, of_block(0, False)),
        (0.0025, 0.3, {"embedding.weight", "positions.weight"}),
    ]
    parameters = dict(model.named_parameters())
    for group in groups:
        assert all(parameters[name] is p for name, p in zip(group["names"], group["params"], strict=True))


@pytest.mark.parametrize("decay", [1.0, 0.8])
def test_every_parameter_is_in_one_group_with_the_decay_that_it_had(decay: float) -> None:
    model, config = gpt(), TrainConfig(weight_decay=0.2)
    freeze(model, keep=("blocks.3", "blocks.11", "embedding"))

    def table(groups: list[dict]) -> dict[str, tuple[float, float]]:
        pairs = [(name, (group["lr"], group["weight_decay"])) for group in groups for name in group["names"]]
        assert len(pairs) == len(dict(pairs))
        return dict(pairs)

    plain = table(decay_groups(model, config.learning_rate, config.weight_decay))
    layered = table(layerwise_groups(model, config, decay))
    assert layered.keys() == plain.keys() == learning(model)
    for name, (rate, weight_decay) in plain.items():
        steps = {"embedding": 13, "3": 9, "11": 1}[name.split(".")[name.startswith("blocks")]]
        assert layered[name] == (pytest.approx(rate * decay**steps, rel=1e-12), weight_decay)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_layerwise_optimizer_scales_each_rate_of_the_plain_one(optimizer: str) -> None:
    """Also base_lr, which the schedule multiplies, and Muon's rate for matrices; all other settings are as they were."""
    model = gpt(n_layers=2)
    config = TrainConfig(optimizer=optimizer, learning_rate=0.003, matrix_learning_rate=0.04, momentum=0.7, beta1=0.8)
    plain, layered = build_optimizer(model, config), layerwise_optimizer(model, config, decay=0.5)
    assert type(layered) is type(plain)
    assert {k: v for k, v in vars(layered).items() if k != "groups"} == {
        k: v for k, v in vars(plain).items() if k != "groups"
    }

    def table(groups: list[dict]) -> dict[str, dict]:
        rest = ("names", "params")
        return {n: {k: v for k, v in group.items() if k not in rest} for group in groups for n in group["names"]}

    before, after = table(plain.groups), table(layered.groups)
    assert before.keys() == after.keys()
    for name, settings in before.items():
        factor = 0.5 ** (3 - depth(name, 2))
        rates = {rate: settings[rate] * factor for rate in ("lr", "base_lr")}
        assert after[name] == settings | rates
    assert layered.groups[0]["base_lr"] == 0.003  # the output first: what a log shows is the rate of the top


def test_one_step_of_sgd_moves_each_layer_by_its_rate() -> None:
    """The gradient times lr · decay^steps, without weight decay."""
    model = gpt(n_layers=2).double()
    config = TrainConfig(optimizer="sgd", momentum=0.0, learning_rate=0.1, weight_decay=0.0)
    optimizer, before = layerwise_optimizer(model, config, decay=0.5), copies(model)
    backward(model)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        rate = (
            0.1
            * 0.5
            ** {"embedding": 3, "positions": 3, "0": 2, "1": 1, "norm": 0}[name.removeprefix("blocks.").split(".")[0]]
        )
        torch.testing.assert_close(before[name] - p.detach(), rate * gradients[name], rtol=0, atol=1e-14)


def test_a_classifier_and_an_adapter_have_their_depths() -> None:
    """Names begin with `backbone.` there, and A and B stand in a block."""
    base = gpt(n_layers=2)
    model = SequenceClassifier.from_backbone(base, ["bad", "good"], generator=torch.Generator().manual_seed(1))
    groups = layerwise_groups(model, TrainConfig(learning_rate=1.0), decay=0.5)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert rates["score.weight"] == rates["backbone.norm.weight"] == 1.0
    assert rates["backbone.blocks.0.mlp.up.weight"] == 0.25
    assert rates["backbone.embedding.weight"] == 0.125
    add_lora(model, LoRAConfig(2, 3.0, "q"), torch.Generator().manual_seed(1))
    groups = layerwise_groups(model, TrainConfig(learning_rate=1.0), decay=0.5)
    found = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    names = {
        f"backbone.blocks.{block}.attention.q.{which}": (0.25 * 2**block, 0.1) for block in (0, 1) for which in "AB"
    }
    assert found == names


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.01, float("nan")])
def test_bad_decays(decay: float) -> None:
    with pytest.raises(ValueError, match="decay is"):
        layerwise_groups(gpt(), TrainConfig(), decay)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"no parameter belongs to 'blocks\.12'"):
        freeze(gpt(), keep=("blocks.11", "blocks.12"))
    for n in (-1, 13):
        with pytest.raises(ValueError, match=f"first {n} blocks: the model has 12"):
            freeze_first(gpt(), n)
    with pytest.raises(ValueError, match="a Linear has no blocks"):
        freeze_first(Linear(2, 3), 0)
