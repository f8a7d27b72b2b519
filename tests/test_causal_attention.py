"""The attention that is told nothing of its mask: in every use a GPT makes of it, it is the readable one."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from minilm.fast.attention import causal_attention
from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.masks import causal_mask, position_mask
from minilm.models.config import SpeedrunConfig, llama_config
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    yield
    torch.set_default_dtype(torch.float32)


def answers(attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> list[Tensor]:
    """The output and the gradients of a number that depends on all of it."""
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    out = attention(*inputs, mask)
    weights = torch.linspace(0.5, 2, out.numel()).view_as(out)
    return [out, *torch.autograd.grad((weights * out * out).sum(), inputs)]


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
@pytest.mark.parametrize(("T", "S"), [(1, 1), (2, 2), (9, 9), (1, 6), (3, 8)])
def test_it_is_the_readable_one(T: int, S: int, n_kv_heads: int) -> None:
    q, k, v = torch.randn(2, 4, T, 6), torch.randn(2, n_kv_heads, S, 6), torch.randn(2, n_kv_heads, S, 5)
    masks = {"triangle": causal_mask(T, S), "none": None}
    if S > T:
        masks["rows of two lengths"] = position_mask(torch.tensor([[S - T], [S - T - 1]]) + torch.arange(T), S)
    for mask in masks.values():
        for found, expected in zip(
            answers(causal_attention, q, k, v, mask), answers(scaled_dot_product_attention, q, k, v, mask), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def twins(kind: str) -> list[nn.Module]:
    """The same small model with the readable attention and with this one."""
    models: list[nn.Module] = []
    for attention in (scaled_dot_product_attention, causal_attention):
        if kind == "gpt":
            shape = {
                "vocab_size": 19,
                "context_length": 11,
                "d_model": 24,
                "n_layers": 2,
                "n_heads": 4,
                "n_kv_heads": 2,
            }
            models.append(GPT(llama_config(**shape, d_ff=20), attention=attention))
        else:
            config = SpeedrunConfig(vocab_size=19, context_length=11, d_model=24, n_layers=2, n_heads=4, max_ngram=1)
            models.append(SpeedrunGPT(config, attention=attention))
    for weight in models[0].parameters():
        nn.init.normal_(weight, std=0.5)
    models[1].load_state_dict(models[0].state_dict())
    return [model.eval() for model in models]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt", "speedrun"])
def test_models_answer_the_same_whole_in_chunks_and_in_ragged_rows(kind: str) -> None:
    readable, fast = twins(kind)
    ids = torch.randint(19, (3, 11))
    whole = readable(ids)
    torch.testing.assert_close(fast(ids), whole, rtol=0, atol=1e-10)
    for first in range(1, 11):
        cache = fast.new_cache(3)
        pieces = [fast(ids[:, :first], cache), fast(ids[:, first:], cache)]
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-10)
    lengths = torch.tensor([0, 3, 1])
    for tail in (1, 3):
        rows = []
        for model in (readable, fast):
            cache = model.new_cache(3)
            model(ids[:, :3], cache)
            cache.rollback(3 - lengths)
            rows.append(model(ids[:, 5 : 5 + tail], cache))
        torch.testing.assert_close(*rows, rtol=0, atol=1e-10)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_compiled_it_computes_the_same() -> None:
    """Nightly: a compiler is needed, and half a minute."""
    readable, fast = twins("gpt")
    ids = torch.randint(19, (3, 11))
    losses = [model(ids).square().mean() for model in (readable, torch.compile(fast))]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-10)
    gradients = [
        torch.autograd.grad(loss, [*model.parameters()]) for loss, model in zip(losses, (readable, fast), strict=True)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
