"""Attention with a memory equals attention of the whole text, in whatever pieces it is read; the cache of the models agrees."""

import itertools

import pytest
import torch

from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.cached_attention import attend_to_cache
from minilm.layers.kv_cache import KVCache
from minilm.layers.masks import causal_mask

B, H, T, K, WIDTH = 2, 3, 5, 4, 6


def text(seed: int = 3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, H, T, n, generator=generator, dtype=torch.float64) for n in (K, K, WIDTH)]


def in_pieces(cuts):
    q, k, v = text()
    keys, values, outs = k[:, :, :0], v[:, :, :0], []
    for piece in zip(*(x.split(cuts, dim=2) for x in (q, k, v)), strict=True):
        out, keys, values = attend_to_cache(*piece, keys, values)
        outs.append(out)
    return torch.cat(outs, dim=2), keys, values


@pytest.mark.parametrize("ends", list(itertools.product([True, False], repeat=T - 1)))
def test_every_cutting_of_a_text_gives_what_torch_gives_for_the_whole(ends):
    """Pitfalls 26-33: neither where the mask lies nor what is remembered may hang on the pieces. All sixteen cuttings."""
    marks = [0, *(i + 1 for i, end in enumerate(ends) if end), T]
    out, keys, values = in_pieces([b - a for a, b in itertools.pairwise(marks)])
    q, k, v = text()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert torch.equal(keys, k) and torch.equal(values, v)


def test_the_cache_of_the_models_remembers_the_same():
    q, k, v = text()
    cache = KVCache(1, (B, H, T, K), torch.float64, torch.device("cpu"))
    cache.append(0, k[:, :, :3], k[:, :, :3])
    cache.advance(3)
    stored, _ = cache.append(0, k[:, :, 3:], k[:, :, 3:])
    _, keys, _ = attend_to_cache(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], k[:, :, :3], v[:, :, :3])
    assert torch.equal(stored, keys)


def test_the_arguments_stay_as_they_were_and_gradients_reach_the_past():
    q, k, v = text()
    past_k, past_v = k[:, :, :2].clone().requires_grad_(), v[:, :, :2].clone().requires_grad_()
    out, *_ = attend_to_cache(q[:, :, 2:], k[:, :, 2:], v[:, :, 2:], past_k, past_v)
    whole = scaled_dot_product_attention(q, k, v, causal_mask(T))
    torch.testing.assert_close(out, whole[:, :, 2:], rtol=0, atol=1e-12)
    assert torch.equal(past_k, k[:, :, :2]) and torch.equal(past_v, v[:, :, :2])
    out.sin().sum().backward()
    assert past_k.grad.abs().min() > 0 and past_v.grad.abs().min() > 0
