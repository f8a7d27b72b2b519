"""The bricks by torch's kernels against the readable ones: values, gradients, types, and that nothing else changes."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from minilm.bench.plain_gpt import PlainGPT
from minilm.cli.main import main
from minilm.fast import attention, bricks
from minilm.fast.bricks import fuse
from minilm.fast.loss import cross_entropy, next_token_loss
from minilm.layers import attention as readable
from minilm.layers import basic
from minilm.layers.blocks import MLP, SwiGLU
from minilm.layers.masks import causal_mask, window_mask
from minilm.layers.wirings import post_norm
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT, build_block
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training import loss as plain_loss
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import accumulate_gradients, train
from minilm.training.muon import build_optimizer

SHAPE = {"vocab_size": 13, "context_length": 7, "d_model": 12, "n_layers": 2, "n_heads": 3}
MODELS = {
    "gpt2": lambda: GPT(gpt2_config(**SHAPE)),
    "gpt2, exact gelu": lambda: GPT(gpt2_config(**SHAPE, mlp="gelu")),
    "no bias": lambda: GPT(gpt2_config(**SHAPE, bias=False)),
    "llama": lambda: GPT(llama_config(**SHAPE)),
    "grouped": lambda: GPT(llama_config(**{**SHAPE, "n_heads": 6}, n_kv_heads=2)),
    "post-norm": lambda: GPT(gpt2_config(**SHAPE), block=partial(build_block, wiring=post_norm)),
    "fused attention": lambda: GPT(gpt2_config(**SHAPE), attention=attention.scaled_dot_product_attention),
    "speedrun": lambda: SpeedrunGPT(SpeedrunConfig(**SHAPE)),
}


def random_model(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Weights that all matter: no ones, no zeros."""
    model = MODELS[name]().to(dtype).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.5)
    return model


def ids(rows: int = 5, length: int = 7) -> torch.Tensor:
    return torch.randint(SHAPE["vocab_size"], (rows, length))


def results(model: nn.Module, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The answer, and the gradients of its weighted sum for all parameters, and for the inputs that are no ids."""
    out = model(*inputs)
    weights = torch.arange(out.numel(), dtype=out.dtype).view_as(out).sin()
    wanted = [*model.parameters(), *(x for x in inputs if x.requires_grad)]
    return [out, *torch.autograd.grad((out * weights).sum(), wanted)]


# ---- the same numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MODELS)
def test_a_fused_model_is_the_model_in_values_and_gradients(name, dtype):
    model, inputs = random_model(name, dtype), ids()
    fused = fuse(copy.deepcopy(model))
    bound = 1e-10 if dtype is torch.float64 else 3e-5
    for got, wanted in zip(results(fused, inputs), results(model, inputs), strict=True):
        assert got.dtype is dtype
        torch.testing.assert_close(got, wanted, rtol=bound, atol=bound * max(1.0, wanted.abs().max().item()))


PARTS = {
    "linear": lambda: basic.Linear(6, 5),
    "linear without bias": lambda: basic.Linear(6, 5, bias=False),
    "layer norm": lambda: basic.LayerNorm(6, eps=0.3),
    "layer norm without bias": lambda: basic.LayerNorm(6, bias=False),
    "rms norm": lambda: basic.RMSNorm(6, eps=0.3),
    "swiglu": lambda: SwiGLU(6, 5),
    "swiglu with bias": lambda: SwiGLU(6, 5, bias=True),
    **{
        f"mlp with {activation.__name__}": partial(MLP, 6, 5, activation)
        for activation in (basic.gelu, basic.gelu_tanh, basic.silu, basic.relu, torch.sin)
    },
}


@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_the_readable_one(name):
    part = PARTS[name]().double()
    for parameter in part.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    for got, wanted in zip(results(fuse(copy.deepcopy(part)), x), results(part, x), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_an_embedding_sums_up_the_gradients_of_a_token_that_comes_twice():
    table = basic.Embedding(5, 3).double()
    tokens = torch.tensor([[1, 4, 1], [1, 0, 0]])
    for got, wanted in zip(results(fuse(copy.deepcopy(table)), tokens), results(table, tokens), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", [basic.LayerNorm(6), basic.RMSNorm(6)], ids=["layer", "rms"])
@pytest.mark.parametrize("x_type", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("weight_type", [torch.bfloat16, torch.float32])
def test_a_norm_answers_in_the_type_of_the_readable_one(part, x_type, weight_type):
    part, x = copy.deepcopy(part).to(weight_type), torch.randn(2, 6).to(x_type)
    wanted = part(x)
    got = fuse(part)(x)
    assert got.dtype is wanted.dtype
    torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["gpt2", "llama", "grouped", "speedrun"])
def test_with_a_cache(name):
    model, text = random_model(name), ids(2)
    fused = fuse(copy.deepcopy(model))
    with torch.no_grad():
        wanted, cache = model(text), fused.new_cache(2)
        pieces = [fused(piece, cache) for piece in (text[:, :4], text[:, 4:6], text[:, 6:])]
    torch.testing.assert_close(torch.cat(pieces, dim=1), wanted, rtol=0, atol=1e-10)


def test_dropout_is_that_of_the_model():
    model = GPT(gpt2_config(**SHAPE, dropout=0.5))
    fused, text, answers = fuse(copy.deepcopy(model)), ids(), []
    for side in (model, fused):
        torch.manual_seed(3)
        answers.append(side.train()(text))
    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=1e-5)
    assert not torch.equal(answers[0], model(text))


# ---- nothing else changes


@pytest.mark.parametrize("name", MODELS)
def test_parameters_names_and_types_stay(name):
    model = random_model(name)
    parameters, kinds = dict(model.named_parameters()), [type(part) for part in model.modules()]
    state = list(model.state_dict())
    assert fuse(fuse(model)) is model  # twice is once
    assert list(model.state_dict()) == state
    assert [type(part) for part in model.modules()] == kinds
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert model.arrays().keys() == MODELS[name]().arrays().keys()


def test_a_copy_computes_with_its_own_weights():
    fused = fuse(random_model("gpt2"))
    text, twin = ids(), copy.deepcopy(fused)
    before = fused(text)
    torch.testing.assert_close(twin(text), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert (twin(text) - before).abs().max() > 0.1
    torch.testing.assert_close(fused(text), before, rtol=0, atol=0)


def test_weights_that_are_replaced_afterwards_count():
    part = fuse(basic.Linear(3, 2))
    part.weight, part.bias = nn.Parameter(torch.eye(3)[:2]), None
    assert part(torch.tensor([5.0, 6.0, 7.0])).tolist() == [5.0, 6.0]


class Doubled(nn.Module):
    """An adapter of a Linear."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(x)


@pytest.mark.parametrize("projection", ["q", "k", "v", "out"])
def test_adapters_are_asked_before_and_after(projection):
    adapted = random_model("gpt2")
    late = fuse(copy.deepcopy(adapted))
    for model in (adapted, late):
        part = model.blocks[1].attention
        setattr(part, projection, Doubled(getattr(part, projection)))
    early, text = fuse(copy.deepcopy(adapted)), ids()
    for fused in (early, late):
        torch.testing.assert_close(fused(text), adapted(text), rtol=0, atol=1e-10)


def test_a_subclass_stays_as_it_is():
    class Shifted(basic.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    part = Shifted(3, 2, std=0.0)
    assert fuse(nn.ModuleList([part]))[0](torch.ones(3)).tolist() == [1.0, 1.0]


def test_another_attention_is_kept():
    model = fuse(GPT(gpt2_config(**SHAPE), attention=lambda q, k, v, mask=None: torch.zeros_like(v)))
    assert torch.equal(model.blocks[0].attention(torch.randn(2, 7, 12), None), torch.zeros(2, 7, 12))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it where the graph is cut
def test_it_may_be_compiled():
    model, text = random_model("fused attention"), ids()
    compiled = torch.compile(fuse(copy.deepcopy(model)), backend="aot_eager")
    for got, wanted in zip(results(compiled, text), results(model, text), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_under_autocast_products_are_bfloat16_and_norms_and_gradients_float32():
    model, text = random_model("gpt2", torch.float32), ids()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    fused, seen = fuse(copy.deepcopy(model)), {}
    block = fused.blocks[0]
    for name in ("attention.out", "mlp.up", "mlp.down", "mlp_norm"):
        part = block.get_submodule(name)
        part.register_forward_hook(lambda part, inputs, out, name=name: seen.update({name: out.dtype}))
    losses = []
    for side in (model, fused):
        loss, n_targets = accumulate_gradients(side, [(text, text)], next_token_loss, torch.device("cpu"), half=True)
        losses.append(loss)
        assert n_targets == text.numel()
        assert all(p.grad.dtype is torch.float32 for p in side.parameters())
    half = torch.bfloat16
    assert seen == {"attention.out": half, "mlp.up": half, "mlp.down": half, "mlp_norm": torch.float32}
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# ---- what it is for


class Operations(TorchDispatchMode):
    """Counts what writes new numbers: views and empty tensors cost nothing."""

    FREE = (
        "view",
        "transpose",
        "t.",
        "expand",
        "slice",
        "split",
        "unsafe_view",
        "unsqueeze",
        "select",
        "detach",
        "alias",
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        if not name.startswith(self.FREE):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_takes_no_more_operations_than_the_same_model_in_torchs_own_layers():
    """On the way there, block by block; on the way back autograd follows the same operations."""
    config = gpt2_config(**SHAPE)
    counts = {}
    for name, parts in (("readable", {}), ("fused", {"attention": attention.scaled_dot_product_attention})):
        model = GPT(config, **parts)
        block = (fuse(model) if parts else model).blocks[0]
        with Operations() as counted:
            block(torch.randn(2, 7, 12), causal_mask(7))
        counts[name] = len(counted.names)
    with Operations() as counted:
        PlainGPT(config).blocks[0](torch.randn(2, 7, 12))
    assert (
        counts["fused"] <= len(counted.names) + 3
    )  # weights and biases of q, k and v are joined, the mask is looked at
    assert counts["readable"] > 2 * counts["fused"]


# ---- the triangle


def test_the_kernel_leaves_out_what_lies_above_the_triangle_and_nothing_else():
    """PITFALLS: is_causal is aligned at the upper left, which is wrong behind a cache."""
    masks = {
        "causal": (causal_mask(5), 5, 5, True),
        "of another size": (causal_mask(1), 5, 5, False),
        "behind a cache": (causal_mask(3, 5), 3, 5, False),
        "of one query and all keys": (causal_mask(1), 1, 5, False),
        "upper": (causal_mask(5).mT, 5, 5, False),
        "everything": (torch.ones(5, 5, dtype=torch.bool), 5, 5, False),
        "a window": (causal_mask(5) & window_mask(5, 5, 2), 5, 5, False),
        "of a row": (causal_mask(5)[None, None], 5, 5, False),
    }
    for name, (mask, T, S, triangle) in masks.items():
        assert attention.is_triangle(mask, T, S) is triangle, name
        q, k = (torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for n in (T, S))
        v = torch.randn(2, 3, S, 6, dtype=torch.float64, requires_grad=True)
        sides = []
        for function in (attention.scaled_dot_product_attention, readable.scaled_dot_product_attention):
            out = function(q, k, v, mask)
            sides.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), (q, k, v))])
        for got, wanted in zip(*sides, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12, msg=name)


# ---- the loss


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ignored", [0, 2, 6])
def test_the_loss_is_the_plain_one(dtype, ignored):
    logits = (3 * torch.randn(2, 3, 5)).to(dtype).requires_grad_()
    targets = torch.randint(5, (2, 3))
    targets.view(-1)[:ignored] = plain_loss.IGNORE
    sides = []
    for function in (cross_entropy, plain_loss.cross_entropy):
        loss = function(logits, targets)
        sides.append([loss, *torch.autograd.grad(1.7 * loss, logits)])
    for got, wanted in zip(*sides, strict=True):
        assert got.dtype is wanted.dtype
        bound = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 0.01}[dtype]
        torch.testing.assert_close(got, wanted, rtol=bound, atol=bound)
        assert ignored < 6 or not got.any()


def test_the_loss_with_another_label_to_ignore_and_with_wrong_labels():
    logits, targets = torch.randn(4, 5), torch.tensor([3, 1, 0, 3])
    got = cross_entropy(logits, targets, ignore_index=3)
    torch.testing.assert_close(got, plain_loss.cross_entropy(logits, targets, ignore_index=3))
    for label in (5, -1):
        with pytest.raises(ValueError, match=f"target {label} is not a token: labels go from 0 to 4, or are -100"):
            cross_entropy(logits, torch.tensor([0, 1, label, 2]))


# ---- training


def test_training_goes_on_after_a_checkpoint_bit_by_bit_and_ends_where_the_plain_one_does():
    text = torch.randint(SHAPE["vocab_size"], (300,)).numpy()
    start = GPT(GPTConfig(**SHAPE)).double()

    def learn(model: GPT, steps: int, kernels: bool, optimizer=None, batches=None, begin: int = 0):
        config = TrainConfig(steps=steps, eval_every=0, save_every=0, threads=1, dtype="float32")
        optimizer = optimizer or build_optimizer(model, config)
        batches = batches or Batches(text, 3, 7)
        part = {"loss_function": next_token_loss} if kernels else {}
        train(model, batches, config, optimizer=optimizer, progress=False, start=begin, **part)
        return optimizer, batches

    whole, plain, half = fuse(copy.deepcopy(start)), copy.deepcopy(start), fuse(copy.deepcopy(start))
    learn(whole, 6, True)
    learn(plain, 6, False)
    optimizer, batches = learn(half, 3, True)
    resumed = fuse(GPT.from_arrays(half.config, half.arrays()).double())
    resumed.load_state_dict(half.state_dict())
    restored = build_optimizer(resumed, TrainConfig())
    restored.load_state_arrays(optimizer.state_arrays())
    learn(resumed, 6, True, restored, batches, begin=3)
    for name, wanted in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], wanted), name
        torch.testing.assert_close(plain.state_dict()[name], wanted, rtol=0, atol=1e-8)
        assert not torch.equal(start.state_dict()[name], wanted), name


def test_minilm_train_uses_the_kernels_also_when_it_resumes_and_not_with_plain(tmp_path, monkeypatch, capsys):
    text, fused = tmp_path / "text.txt", []
    text.write_text("the cat sat on the mat. " * 60)

    def spy(model):
        fused.append(model.kind)
        return fuse(model)

    monkeypatch.setattr(bricks, "fuse", spy)
    flags = (
        "--model gpt --tokenizer byte --steps 2 --n-layers 1 --d-model 8 --n-heads 2 --context-length 6 --batch-size 3"
    )
    command = ["train", "--data", str(text), "--dtype", "float32", "--threads", "1", *flags.split()]
    assert main([*command, "--out", str(tmp_path / "fast")]) == 0
    assert fused == ["gpt"]
    assert main([*command, "--out", str(tmp_path / "plain"), "--plain"]) == 0
    assert fused == ["gpt"]
    assert main(["train", "--resume", str(tmp_path / "fast")]) == 0
    assert fused == ["gpt", "gpt"]
    models = [load_checkpoint(tmp_path / name).model for name in ("fast", "plain")]
    for name, wanted in models[1].state_dict().items():
        torch.testing.assert_close(models[0].state_dict()[name], wanted, rtol=0, atol=1e-4)
