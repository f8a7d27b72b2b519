"""LoRA against the formula by hand, against finite differences, and against the base that must not change (rows 92, 93).

alpha is never the rank here: with a scale of 1 a forgotten one would not show."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.quantize import quantize
from minilm.decoding.sampling import Sampler
from minilm.fast.cross_entropy import next_token_loss as fused_loss
from minilm.fast.matvec import use_matvec
from minilm.finetuning.freezing import count_parameters, unfreeze
from minilm.finetuning.lora import (
    LoRALinear,
    add_lora,
    load_lora,
    lora,
    lora_arrays,
    merge_lora,
    remove_lora,
    set_lora,
    unmerge_lora,
)
from minilm.finetuning.lora_config import LoRAConfig
from minilm.layers.basic import Linear
from minilm.models.config import GPTConfig, SpeedrunConfig, llama_config
from minilm.models.expert_block import expert_block
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import next_token_loss
from minilm.training.muon import build_optimizer

V, CONTEXT, RANK, ALPHA = 13, 9, 3, 7.5
SIZES = {"vocab_size": V, "context_length": CONTEXT, "d_model": 12, "n_layers": 2, "n_heads": 3}
CONFIGS = {
    "gpt2": GPTConfig(**SIZES, d_ff=20),  # biases, tied head
    "llama": llama_config(**SIZES, n_kv_heads=1, d_ff=20),
    "speedrun": SpeedrunConfig(**{**SIZES, "n_heads": 2}, max_ngram=2, ngram_rows=17, ngram_dropout=0.0),
}
MAPS = {
    "gpt2": ("q", "k", "v", "out", "up", "down"),
    "llama": ("q", "k", "v", "out", "gate", "up", "down"),
    "speedrun": ("qkv", "out", "up", "down"),
}
SUBSETS = [
    (kind, chosen) for kind, maps in MAPS.items() for n in range(1, len(maps) + 1)
    if kind != "llama" or n in (1, 2, len(maps))  # it differs from gpt2 in its gate alone: each pair will do
    for chosen in itertools.combinations(maps, n)
]  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every weight random, so that none is zero and a forgotten bias shows."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
    return model.double().eval()


def base(kind: str = "gpt2") -> nn.Module:
    return shaken((SpeedrunGPT if kind == "speedrun" else GPT)(CONFIGS[kind]))


def adapted(kind: str = "gpt2", targets: tuple[str, ...] = (), seed: int = 2, **how: float) -> nn.Module:
    """A model with an adapter that does something: B is random too."""
    model = base(kind)
    add_lora(model, LoRAConfig(RANK, ALPHA, targets, **how), seeded(seed))
    return stirred(model, seed + 1)


def stirred(model: nn.Module, seed: int) -> nn.Module:
    for name, tensor in lora_arrays(model).items():
        if name.endswith(".B"):
            tensor.copy_(torch.randn(tensor.shape, generator=seeded(seed)) * 0.3)
    return model


def ids(batch: int = 2, length: int = CONTEXT - 2, seed: int = 5) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=seeded(seed))


def bits(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the base's weights under the names that they have without an adapter."""
    return {
        name.replace(".linear.", "."): p.detach().clone() for name, p in model.named_parameters() if not is_ab(name)
    }


def is_ab(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("A", "B")


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# ---- the formula


@pytest.mark.parametrize("bias", [True, False])
def test_output_is_the_formula_in_loops(bias: bool) -> None:
    """Row 92: y_o = sum_i W_oi x_i + b_o + alpha / rank * sum_r B_or sum_i A_ri x_i, with numbers and loops; b comes once."""
    d_in, d_out = 5, 4
    layer = shaken(Linear(d_in, d_out, bias))
    changed = LoRALinear.from_linear(layer, RANK, ALPHA, seeded(3))
    changed.B.data = torch.randn(d_out, RANK, generator=seeded(4)).double()
    x = torch.randn(2, 3, d_in, generator=seeded(5)).double()
    found = changed(x)
    for b, t, o in itertools.product(range(2), range(3), range(d_out)):
        y = layer.bias[o].item() if bias else 0.0
        for i in range(d_in):
            y += layer.weight[o, i].item() * x[b, t, i].item()
        for r in range(RANK):
            narrow = sum(changed.A[r, i].item() * x[b, t, i].item() for i in range(d_in))
            y += 2.5 * changed.B[o, r].item() * narrow  # 7.5 / 3
        assert found[b, t, o].item() == pytest.approx(y, abs=1e-12)


def test_the_example_in_the_docstring() -> None:
    found = lora(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [0.0], [-1.0]]), 0.5)
    assert found.tolist() == [5.5, 0.0, -5.5]


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_are_finite_differences(kind: str) -> None:
    """Of A and of B, every number of two maps, through the whole model and its loss."""
    model, x, y = adapted(kind), ids(), ids(seed=6)
    next_token_loss(model, x, y).backward()
    parameters = {name: p for name, p in model.named_parameters() if is_ab(name)}
    first, last = (f"blocks.{layer}.{'attention.' * (kind != 'speedrun')}out" for layer in (0, 1))
    for name in (f"{first}.A", f"{first}.B", f"{last}.A", f"{last}.B"):
        p = parameters[name]
        flat, h = p.data.reshape(-1), 1e-6
        for i in range(0, len(flat), 5):
            losses, old = [], flat[i].item()
            for step in (h, -h):
                flat[i] = old + step
                losses.append(next_token_loss(model, x, y).item())
            flat[i] = old
            assert p.grad.reshape(-1)[i].item() == pytest.approx((losses[0] - losses[1]) / (2 * h), abs=2e-8)


def test_A_starts_normal_with_variance_one_over_inputs_and_B_at_zero() -> None:
    layer = LoRALinear.from_linear(Linear(400, 90), 50, 3.0, seeded(1))
    assert not layer.B.any()
    assert layer.A.std().item() == pytest.approx(1 / math.sqrt(400), rel=5 / math.sqrt(2 * 20000))
    assert abs(layer.A.mean().item()) < 5 / math.sqrt(400 * 20000)
    again = LoRALinear.from_linear(Linear(400, 90), 50, 3.0, seeded(1))
    assert torch.equal(layer.A, again.A)  # the generator decides, whatever else is drawn
    assert not torch.equal(layer.A, LoRALinear.from_linear(Linear(400, 90), 50, 3.0, seeded(2)).A)


# ---- step 0, and what may learn


@pytest.mark.parametrize("kind", CONFIGS)
def test_step_0_is_the_base_exactly(kind: str) -> None:
    model = base(kind)
    before = model(ids())
    names = add_lora(model, LoRAConfig(RANK, ALPHA), seeded(1))
    assert names == [f"blocks.{layer}.{path}" for layer in range(2) for path in paths(kind)]
    assert torch.equal(model(ids()), before)


def paths(kind: str) -> list[str]:
    rooms = {"q": "attention.", "k": "attention.", "v": "attention.", "gate": "mlp.", "up": "mlp.", "down": "mlp."}
    rooms["out"] = "attention."
    return [("" if kind == "speedrun" else rooms[name]) + name for name in MAPS[kind]]


def test_at_the_first_step_B_has_a_gradient_and_A_none() -> None:
    """Were both zero, nothing would ever learn; B moves first, then A."""
    model = base()
    add_lora(model, LoRAConfig(RANK, ALPHA), seeded(1))
    next_token_loss(model, ids(), ids(seed=6)).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == is_ab(name)
        if is_ab(name):
            assert bool(p.grad.any()) == name.endswith(".B")


@pytest.mark.parametrize("kind", CONFIGS)
def test_only_the_adapter_has_gradients(kind: str) -> None:
    model = adapted(kind)
    next_token_loss(model, ids(), ids(seed=6)).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(lora_arrays(model))
    assert all(p.grad.any() for name, p in model.named_parameters() if is_ab(name))


def test_count_of_what_learns() -> None:
    """R (I + O) for each map, by hand: q, k, v, out 3 (12 + 12), up and down 3 (12 + 20), twice."""
    model = base()
    total = count_parameters(model).total
    add_lora(model, LoRAConfig(RANK, ALPHA), seeded(1))
    assert count_parameters(model) == (2 * (4 * 72 + 2 * 96), total + 2 * (4 * 72 + 2 * 96))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_training_moves_the_adapter_and_no_bit_of_the_base(kind: str, optimizer: str) -> None:
    """Row 88, 93: with momentum and a large weight decay; then merged and unmerged."""
    model = base(kind)
    before = bits(model)
    add_lora(model, LoRAConfig(RANK, ALPHA), seeded(1))
    start = {name: tensor.clone() for name, tensor in lora_arrays(model).items()}
    config = TrainConfig(steps=8, learning_rate=0.02, weight_decay=0.5, warmup=0, optimizer=optimizer, dtype="float32")
    x = ids(3)
    history = train(model, itertools.repeat((x, x.roll(-1, 1))), config, progress=False)
    assert history[-1]["loss"] < history[0]["loss"] - 0.005
    assert all(not torch.equal(tensor, start[name]) for name, tensor in lora_arrays(model).items())
    assert_same_bits(bits(model), before)
    merge_lora(model)
    unmerge_lora(model)
    assert_same_bits(bits(model), before)
    remove_lora(model)
    assert_same_bits(dict(model.named_parameters()), before)


# ---- merging


@pytest.mark.parametrize(
    ("kind", "targets"), SUBSETS, ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_merged_equals_unmerged_for_every_subset_of_maps(kind: str, targets: tuple[str, ...]) -> None:
    """Row 93. Each target changes the output, so that none is left out; the bits of the base come back."""
    plain, model = base(kind), adapted(kind, targets)
    before = bits(model)
    assert {name.split(".")[-2] for name in lora_arrays(model)} == set(targets)
    unmerged = model(ids())
    assert (unmerged - plain(ids())).abs().max() > 1e-3
    merge_lora(model)
    merged = model(ids())
    torch.testing.assert_close(merged, unmerged, rtol=0, atol=1e-12)
    unmerge_lora(model)
    assert_same_bits(bits(model), before)
    assert torch.equal(model(ids()), unmerged)


def test_unmerging_restores_bits_that_subtraction_would_not() -> None:
    """Row 93: (W + BA) - BA is not W in floating point; in float32 it shows at once."""
    model = adapted().float()
    layer = model.blocks[0].attention.q
    W, change = layer.linear.weight.clone(), layer.scale * (layer.B @ layer.A)
    assert not torch.equal((W + change) - change, W)
    layer.merge()
    assert not torch.equal(layer.linear.weight, W)
    layer.unmerge()
    assert torch.equal(layer.linear.weight, W)


def test_merging_twice_and_unmerging_twice_is_once() -> None:
    """Row 93: the change is not applied a second time."""
    model = adapted()
    before = bits(model)
    merge_lora(model)
    once, weights = model(ids()), bits(model)
    merge_lora(model)
    assert torch.equal(model(ids()), once)
    assert_same_bits(bits(model), weights)
    for _ in range(2):
        unmerge_lora(model)
        assert_same_bits(bits(model), before)


def test_merging_leaves_a_model_over_the_same_weights_alone() -> None:
    model = adapted()
    held = model.blocks[0].attention.q.linear.weight
    before = held.detach().clone()
    merge_lora(model)
    assert torch.equal(held, before)


def test_unmerging_after_a_change_of_type_gives_the_base_in_that_type() -> None:
    plain, model = base().float(), adapted()
    merge_lora(model)
    model.float()
    unmerge_lora(model)
    assert_same_bits(bits(model), dict(plain.named_parameters()))


def test_a_merged_adapter_refuses_to_learn_in_vain() -> None:
    model = adapted()
    merge_lora(model)
    model.train()
    with pytest.raises(ValueError, match="unmerge_lora"):
        model(ids())
    with torch.no_grad():
        assert torch.equal(model(ids()), model.eval()(ids()))


@pytest.mark.parametrize("merge", [True, False])
def test_without_the_adapter_it_is_the_base_or_the_merged_model(merge: bool) -> None:
    plain, model = base("llama"), adapted("llama")
    expected = model(ids()) if merge else plain(ids())
    if merge:
        merge_lora(model)
    assert remove_lora(model) == [f"blocks.{layer}.{path}" for layer in range(2) for path in paths("llama")]
    assert model.arrays().keys() == plain.arrays().keys()
    torch.testing.assert_close(model(ids()), expected, rtol=0, atol=1e-12 if merge else 0)
    assert remove_lora(model) == []
    unfreeze(model)
    assert count_parameters(model) == count_parameters(plain)


# ---- several adapters


def test_adapters_change_places_without_residue() -> None:
    model = base("llama")
    before, plain = bits(model), model(ids())
    shelf, outputs = {}, {}
    for seed, config in enumerate([LoRAConfig(2, 5.0, "q,v"), LoRAConfig(4, 1.0), LoRAConfig(2, 3.0, "q,v")]):
        twin = base("llama")
        add_lora(twin, config, seeded(seed))
        stirred(twin, seed + 10)
        shelf[seed] = (config, {name: tensor.clone() for name, tensor in lora_arrays(twin).items()})
        outputs[seed] = twin(ids())
    for n, seed in enumerate([0, 1, 2, 0, 2, 1]):
        set_lora(model, *shelf[seed])
        assert torch.equal(model(ids()), outputs[seed])
        assert_same_bits(bits(model), before)
        if n % 2:
            merge_lora(model)  # what is merged when another one comes leaves as well
    remove_lora(model)
    merged = model(ids())
    torch.testing.assert_close(merged, outputs[1], rtol=0, atol=1e-12)
    set_lora(model := base("llama"), *shelf[2])
    merge_lora(model)
    load_lora(model, shelf[0][1])  # same maps and rank: the numbers alone change, the scale stays
    assert_same_bits(bits(model), before)
    set_lora(twin := base("llama"), LoRAConfig(2, 3.0, "q,v"), shelf[0][1])
    assert torch.equal(model(ids()), twin(ids()))
    remove_lora(model)
    assert torch.equal(model(ids()), plain)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrays: arrays.pop("blocks.1.attention.q.B"), "blocks.1.attention.q.B is on one side only"),
        (lambda arrays: arrays.update(extra=torch.zeros(1)), "extra is on one side only"),
        (
            lambda arrays: arrays.update({"blocks.0.attention.q.A": torch.zeros(2, 12)}),
            r"shape \(2, 12\), not \(3, 12\)",
        ),
    ],
)
def test_arrays_of_another_adapter_change_nothing(change, says: str) -> None:
    model = adapted(targets=("q",))
    before = model(ids())
    arrays = {name: torch.zeros_like(tensor) for name, tensor in lora_arrays(model).items()}
    change(arrays)
    with pytest.raises(ValueError, match=says):
        load_lora(model, arrays)
    assert torch.equal(model(ids()), before)


# ---- decoding, dropout, other parts of the house


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_cached_decoding_is_uncached_decoding(kind: str, merged: bool) -> None:
    model = adapted(kind)
    if merged:
        merge_lora(model)
    x, cache = ids(3, CONTEXT), model.new_cache(3)
    whole = model(x)
    steps = [model(x[:, start:stop], cache) for start, stop in ((0, 4), (4, 5), (5, CONTEXT))]
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-12)
    texts = [
        list(generate(model, [1, 2], Sampler(SampleConfig(), seeded(7)), 7, use_cache=cached))
        for cached in (True, False)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 7


def test_dropout_is_of_the_change_alone_and_only_in_training() -> None:
    """Over many draws the mean is the output without dropout; what is dropped is an input of A, never of W."""
    layer = LoRALinear.from_linear(shaken(Linear(4, 3)), 2, 5.0, seeded(1), dropout=0.25)
    layer.B.data = torch.randn(3, 2, generator=seeded(2)).double()
    x = torch.randn(1, 4, generator=seeded(3)).double()
    expected, W_part = layer.eval()(x), layer.linear(x)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    outputs = layer(x.expand(40000, 4))
    possible = torch.stack(
        [
            lora(x[0] * torch.tensor(kept) / 0.75, layer.A, layer.B, 2.5)
            for kept in itertools.product((0.0, 1.0), repeat=4)
        ]
    )
    distances = (outputs[:200, None] - W_part - possible).abs().amax(-1).amin(1)
    assert distances.max() < 1e-12
    error = outputs.std(0) / math.sqrt(40000)
    assert ((outputs.mean(0) - expected[0]).abs() < 5 * error).all()


def test_dropout_of_a_model_is_off_in_evaluation() -> None:
    model, same = adapted(dropout=0.5), adapted()
    assert torch.equal(model(ids()), same(ids()))
    assert not torch.equal(model.train()(ids()), same(ids()))


def test_whoever_takes_the_weight_gets_the_changed_one() -> None:
    """The fused loss multiplies by lm_head.weight itself: it must see the adapter, and send it gradients."""
    losses, gradients = [], []
    for loss_function in (next_token_loss, fused_loss):
        model = adapted("llama", ("lm_head", "q"))
        loss = loss_function(model, ids(), ids(seed=6))
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert losses[1] == pytest.approx(losses[0], abs=1e-12)
    assert len(gradients[0]) == len(gradients[1]) == 6
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_an_adapter_in_experts_and_in_their_router() -> None:
    """The router's matrix is read without a call of its layer."""
    config = GPTConfig(**SIZES, d_ff=20)
    model = shaken(GPT(config, block=lambda c, a: expert_block(c, a, n_experts=4, k=2)))
    assert len(add_lora(model, LoRAConfig(2, 3.0, "router,up"), seeded(1))) == 2 * (1 + 4)
    stirred(model, 2)
    unmerged = model(ids())
    (sum(p.sum() for p in unmerged)).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "router" in name and is_ab(name))
    merge_lora(model)
    torch.testing.assert_close(model(ids()), unmerged, rtol=0, atol=1e-12)


def test_fast_products_and_rounded_bases() -> None:
    model = adapted("llama").float()
    before = model(ids())
    torch.testing.assert_close(use_matvec(model)(ids()), before, rtol=0, atol=1e-5)
    merge_lora(model)
    torch.testing.assert_close(model(ids()), before, rtol=0, atol=1e-5)
    rounded = quantize(adapted("llama").float())
    assert 0 < (rounded(ids()) - before).abs().max() < 0.2 * before.abs().max()
    assert_same_bits(lora_arrays(rounded), lora_arrays(adapted("llama").float()))  # A and B are not rounded
    with pytest.raises(ValueError, match="quantize afterwards"):
        merge_lora(rounded)
    with pytest.raises(ValueError, match="quantize afterwards"):
        unmerge_lora(quantize(model))  # merged above


def test_biases_and_tied_heads_stay() -> None:
    model = adapted("gpt2")
    assert model.lm_head.weight is model.embedding.weight
    assert torch.equal(model.blocks[0].attention.q.bias, base().blocks[0].attention.q.bias)
    merge_lora(model)
    assert model.lm_head.weight is model.embedding.weight
    assert torch.equal(model.blocks[0].attention.q.bias, base().blocks[0].attention.q.bias)


# ---- bad input


@pytest.mark.parametrize(
    ("targets", "rank", "says"),
    [
        (("query",), 3, "no linear map is called 'query': choose among down, k, lm_head, out, q, up, v"),
        (("q", "gate"), 3, "called 'gate'"),
        (("lm_head",), 3, "the matrix of lm_head has a second use"),
        ((), 13, "rank is 13: that of a 12 x 12 matrix is from 1 to 12"),
    ],
)
def test_bad_targets_change_nothing(targets: tuple[str, ...], rank: int, says: str) -> None:
    model = base()
    with pytest.raises(ValueError, match=says):
        add_lora(model, LoRAConfig(rank, ALPHA, targets), seeded(1))
    assert count_parameters(model).trainable == count_parameters(model).total
    assert remove_lora(model) == []


def test_models_without_an_adapter_and_with_one() -> None:
    with pytest.raises(ValueError, match="has an adapter already"):
        add_lora(adapted(), LoRAConfig(RANK, ALPHA), seeded(1))
    for function in (merge_lora, unmerge_lora, lora_arrays):
        with pytest.raises(ValueError, match="has no adapter"):
            function(base())
    with pytest.raises(ValueError, match="has none of the maps"):
        add_lora(nn.ModuleList([Linear(3, 4)]), LoRAConfig(RANK, ALPHA), seeded(1))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"alpha": math.inf}, "alpha is inf"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_bad_configs(fields: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LoRAConfig(**fields)


def test_config_reads_flags_and_json() -> None:
    assert LoRAConfig(targets=" q, v,").targets == LoRAConfig(targets=["q", "v"]).targets == ("q", "v")
    assert LoRAConfig(4, 6.0).scale == 1.5


def test_optimizer_holds_the_adapter_only() -> None:
    optimizer = build_optimizer(adapted(), TrainConfig())
    assert {name for group in optimizer.groups for name in group["names"]} == set(lora_arrays(adapted()))
