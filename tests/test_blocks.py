"""Wirings of a block: pre-norm and post-norm against torch's encoder layer, parallel against a loop over tokens."""

import functools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.layers.attention import MultiHeadAttention
from minilm.layers.basic import Dropout, LayerNorm, gelu
from minilm.layers.blocks import MLP, TransformerBlock, Wiring, pre_norm
from minilm.layers.masks import causal_mask
from minilm.layers.wirings import parallel, post_norm
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT, build_block
from minilm.training.config import TrainConfig
from minilm.training.loop import train

WIRINGS = [pre_norm, post_norm, parallel]
every_wiring = pytest.mark.parametrize("wiring", WIRINGS, ids=lambda wiring: wiring.__name__)
B, T, D, H, WIDE = 3, 7, 20, 5, 33
GPT2 = gpt2_config(vocab_size=29, context_length=13, d_model=20, n_layers=3, n_heads=5, d_ff=28)
LLAMA = llama_config(vocab_size=29, context_length=13, d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=28)
both = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])


def random_block(wiring: Wiring) -> TransformerBlock:
    """A float64 block with large random numbers in all parts."""
    parts = (MultiHeadAttention(D, H, H), MLP(D, WIDE, gelu), LayerNorm(D), LayerNorm(D))
    block = TransformerBlock(*parts, Dropout(0.0), wiring).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block


def random_gpt(config: GPTConfig, wiring: Wiring) -> GPT:
    model = GPT(config, block=functools.partial(build_block, wiring=wiring)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def assert_close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


# ---- the formulas


def test_on_numbers() -> None:
    """x = 1, attention 10 x, MLP x², norms x + 0.5 and x / 4; each sum worked out on paper."""

    def joined(wiring: Wiring) -> float:
        x = torch.tensor(1.0)
        return wiring(x, lambda x: 10 * x, lambda x: x * x, lambda x: x + 0.5, lambda x: x / 4).item()

    assert joined(pre_norm) == 16 + 4**2  # 1 + 10 * 1.5 = 16
    assert joined(post_norm) == (11.5 + 11.5**2) / 4  # 1 + 10 * 1 + 0.5 = 11.5
    assert joined(parallel) == 1 + 15 + 0.25**2


def their_names(block: TransformerBlock) -> dict[str, tuple[str, ...]]:
    """What torch's encoder layer calls our parameters: its name -> ours, one behind the other."""
    names: dict[str, tuple[str, ...]] = {}
    for leaf in ("weight", "bias"):
        names[f"self_attn.in_proj_{leaf}"] = tuple(f"attention.{part}.{leaf}" for part in "qkv")
        for theirs, ours in (
            ("self_attn.out_proj", "attention.out"),
            ("linear1", "mlp.up"),
            ("linear2", "mlp.down"),
            ("norm1", "attention_norm"),
            ("norm2", "mlp_norm"),
        ):
            names[f"{theirs}.{leaf}"] = (f"{ours}.{leaf}",)
    assert {name for ours in names.values() for name in ours} == {name for name, _ in block.named_parameters()}
    return names


@pytest.mark.parametrize("wiring", [pre_norm, post_norm], ids=["norm_first", "norm_last"])
def test_it_is_torchs_encoder_layer(wiring: Wiring) -> None:
    block = random_block(wiring)
    theirs = nn.TransformerEncoderLayer(
        D, H, WIDE, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=wiring is pre_norm, dtype=torch.float64
    )
    names, own = their_names(block), dict(block.named_parameters())
    theirs.load_state_dict({name: torch.cat([own[part].detach() for part in parts]) for name, parts in names.items()})
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    same_x = x.detach().clone().requires_grad_()
    mask = causal_mask(T, T, x.device)
    out, expected = block(x, mask), theirs(same_x, src_mask=~mask.reshape(T, T))
    assert_close(out, expected)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    expected.backward(upstream)
    assert x.grad is not None and same_x.grad is not None
    assert_close(x.grad, same_x.grad)
    for name, parameter in theirs.named_parameters():
        gradients = [own[part].grad for part in names[name]]
        assert_close(torch.cat([gradient for gradient in gradients if gradient is not None]), parameter.grad)


def token_by_token(block: TransformerBlock, x: Tensor) -> Tensor:
    """The parallel block in loops: row by row, token by token, head by head."""

    def norm(x: Tensor, which: nn.Module) -> Tensor:
        return F.layer_norm(x, (D,), which.weight, which.bias, which.eps)

    def heads(x: Tensor, which: nn.Module) -> Tensor:
        return (which.weight @ x + which.bias).reshape(H, D // H)

    rows = []
    for b in range(B):
        read = [norm(x[b, t], block.attention_norm) for t in range(T)]
        for t in range(T):
            found = []
            for h in range(H):
                query = heads(read[t], block.attention.q)[h]
                keys = torch.stack([heads(read[s], block.attention.k)[h] for s in range(t + 1)])
                values = torch.stack([heads(read[s], block.attention.v)[h] for s in range(t + 1)])
                found.append(torch.softmax(keys @ query / math.sqrt(D // H), 0) @ values)
            told = block.attention.out.weight @ torch.cat(found) + block.attention.out.bias
            wide = F.gelu(block.mlp.up.weight @ norm(x[b, t], block.mlp_norm) + block.mlp.up.bias)
            rows.append(x[b, t] + told + block.mlp.down.weight @ wide + block.mlp.down.bias)
    return torch.stack(rows).reshape(B, T, D)


def test_parallel_is_a_loop_over_tokens() -> None:
    block = random_block(parallel)
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    out, expected = block(x, causal_mask(T, T, x.device)), token_by_token(block, x)
    assert_close(out, expected)
    upstream = torch.randn_like(out)
    wanted = [x, *block.parameters()]
    ours = torch.autograd.grad(out, wanted, upstream)
    for gradient, true in zip(ours, torch.autograd.grad(expected, wanted, upstream), strict=True):
        assert_close(gradient, true)


def test_one_norm_for_both_halves() -> None:
    """GPT-J: the block given one norm twice is the block with two equal norms."""
    block = random_block(parallel)
    block.mlp_norm.load_state_dict(block.attention_norm.state_dict())
    shared = TransformerBlock(
        block.attention, block.mlp, block.attention_norm, block.attention_norm, Dropout(0.0), parallel
    )
    x = torch.randn(B, T, D, dtype=torch.float64)
    assert torch.equal(shared(x, None), block(x, None))
    assert len(list(shared.parameters())) == len(list(block.parameters())) - 2


# ---- what the docstrings claim


@both
@torch.no_grad()
def test_gpts_last_norm_adds_nothing_to_post_norm(config: GPTConfig) -> None:
    """After a block that normalises its sum the stream has size 1, and the last norm, fresh, passes it on."""
    model = GPT(config, block=functools.partial(build_block, wiring=post_norm)).double()
    seen: list[Tensor] = []
    for block in model.blocks:
        for name in ("attention.out", "mlp.down"):
            nn.init.normal_(block.get_parameter(f"{name}.weight"))  # changes that would make a pre-norm stream grow
        block.register_forward_hook(lambda _module, _inputs, x: seen.append(x))
    hidden = model.hidden(torch.randint(0, 29, (B, T)))
    assert len(seen) == config.n_layers
    for x in seen:
        torch.testing.assert_close(x.square().mean(-1), torch.ones(B, T, dtype=torch.float64), rtol=0, atol=1e-3)
    torch.testing.assert_close(hidden, seen[-1], rtol=1e-3, atol=1e-3)


def gradient_of_the_last_block(wiring: Wiring, n_layers: int) -> float:
    """The norm of the loss gradient by the last matrix of the last MLP, in a fresh float64 GPT without scaled projections."""
    torch.manual_seed(5)
    config = gpt2_config(vocab_size=61, context_length=16, d_model=48, n_layers=n_layers, n_heads=4)
    model = GPT(config, block=functools.partial(build_block, wiring=wiring)).double()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name.startswith("blocks"):
            nn.init.xavier_normal_(parameter)
    ids = torch.randint(0, 61, (8, 16))
    F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradient = model.get_parameter(f"blocks.{n_layers - 1}.mlp.down.weight").grad
    assert gradient is not None
    return gradient.norm().item()


def test_depth_shrinks_the_last_gradient_of_pre_norm_only() -> None:
    """Xiong et al. 2020: at the start it is of the order 1 / sqrt(L) with pre-norm, and as large at any depth with post-norm."""
    pre, post = ([gradient_of_the_last_block(wiring, L) for L in (2, 18)] for wiring in (pre_norm, post_norm))
    assert 2.0 < pre[0] / pre[1] < 4.5  # sqrt(18 / 2) = 3
    assert 0.6 < post[0] / post[1] < 1.6


# ---- in a whole GPT


@every_wiring
@both
@torch.no_grad()
def test_cached_is_uncached(config: GPTConfig, wiring: Wiring) -> None:
    model, ids = random_gpt(config, wiring), torch.randint(0, 29, (3, 13))
    whole = model(ids)
    assert whole.std() > 0.1
    cache = model.new_cache(3)
    pieces = [model(ids[:, start:end], cache) for start, end in ((0, 5), (5, 6), (6, 7), (7, 13))]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-10)


@both
def test_the_wirings_are_three_models_of_one_size(config: GPTConfig) -> None:
    models = [random_gpt(config, wiring) for wiring in WIRINGS]
    arrays = models[0].arrays()
    logits = []
    for model, wiring in zip(models, WIRINGS, strict=True):
        assert {name: array.shape for name, array in model.arrays().items()} == {k: v.shape for k, v in arrays.items()}
        again = GPT.from_arrays(config, arrays, block=functools.partial(build_block, wiring=wiring))
        logits.append(again(torch.arange(12).reshape(2, 6)))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (logits[i] - logits[j]).abs().max() > 0.01


@every_wiring
def test_it_learns(wiring: Wiring) -> None:
    """Ids that count upwards by one: from ln 29 to almost certain."""
    model = GPT(GPT2, block=functools.partial(build_block, wiring=wiring))
    starts = torch.randint(0, 29, (60, 16, 1))
    ids = (starts + torch.arange(10)) % 29
    batches = [(row[:, :-1], row[:, 1:]) for row in ids]
    history = train(model, batches, TrainConfig(steps=60, warmup=5, learning_rate=0.01), progress=False)
    assert history[0]["loss"] > 3.2
    assert history[-1]["loss"] < 1.0
