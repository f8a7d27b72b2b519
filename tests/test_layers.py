"""Every brick of layers/ and its fast twin against torch's own, or against loops: outputs and all gradients, in float64."""

import doctest
import importlib
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.fast import attention as fast_attention
from minilm.layers import attention, basic, masks, positions
from minilm.layers.kv_cache import KVCache

B, H, G, T, S, K, KV = 2, 6, 2, 4, 7, 5, 3  # batch, heads, key/value heads, queries, keys, size of a key, size of a value
EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_same(ours: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Equal outputs, equal gradients of every input under a random upstream gradient, and inputs left as they were."""
    mine = [x.clone().requires_grad_() for x in inputs]
    theirs = [x.clone().requires_grad_() for x in inputs]
    y, expected = ours(*mine), reference(*theirs)
    assert expected.isfinite().all() and expected.std() > 0, "an oracle of zeros or NaN proves nothing"
    torch.testing.assert_close(y, expected, **EXACT)
    upstream = torch.randn_like(expected)
    gradients, expected_gradients = torch.autograd.grad(y, mine, upstream), torch.autograd.grad(expected, theirs, upstream)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, **EXACT)
    for x, original in zip(mine, inputs, strict=True):
        assert torch.equal(x, original)


# ---- basic.py


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (basic.sigmoid, torch.sigmoid),
        (basic.relu, F.relu),
        (basic.silu, F.silu),
        (basic.gelu, F.gelu),
        (basic.gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
    ],
)
def test_activations(ours: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor]) -> None:
    assert_same(ours, reference, torch.randn(3, 5) * 3)
    assert ours(torch.tensor([-1e3, 1e3])).isfinite().all()


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(("ours", "reference"), [(basic.softmax, F.softmax), (basic.log_softmax, F.log_softmax)])
def test_softmax(ours: Callable[..., Tensor], reference: Callable[..., Tensor], dim: int) -> None:
    assert_same(lambda x: ours(x, dim), lambda x: reference(x, dim), torch.randn(3, 4, 5))


def test_softmax_survives_extreme_rows() -> None:
    # One row far up, one far down, one torn: with one maximum for the whole tensor the second row would be 0 / 0.
    x = torch.tensor([[1e3, 999.0, 998.0], [-1e3, -1001.0, -1002.0], [1e3, -1e3, 0.0]])
    for dtype in (torch.float64, torch.float32):
        y = x.to(dtype)
        torch.testing.assert_close(basic.softmax(y), F.softmax(y, -1), rtol=0, atol=1e-7)
        torch.testing.assert_close(basic.log_softmax(y), F.log_softmax(y, -1), rtol=0, atol=1e-6)
    assert basic.log_softmax(x)[2].tolist() == [0.0, -2000.0, -1000.0]
    assert_same(basic.softmax, lambda x: F.softmax(x, -1), x)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_norms(eps: float) -> None:
    # Width 4: there a division by D - 1, or eps outside the root, cannot hide.
    x, weight, bias = torch.randn(2, 3, 4) + 1, torch.randn(4), torch.randn(4)
    assert_same(
        lambda x, w, b: basic.layer_norm(x, w, b, eps), lambda x, w, b: F.layer_norm(x, (4,), w, b, eps), x, weight, bias
    )
    assert_same(lambda x, w: basic.layer_norm(x, w, eps=eps), lambda x, w: F.layer_norm(x, (4,), w, None, eps), x, weight)
    assert_same(lambda x, w: basic.rms_norm(x, w, eps), lambda x, w: F.rms_norm(x, (4,), w, eps), x, weight)
    assert_same(lambda x: basic.rms_norm(x, eps=eps), lambda x: F.rms_norm(x, (4,), None, eps), x)
    assert basic.layer_norm(torch.full((1, 4), 7.0), weight, bias).tolist() == [bias.tolist()]  # a constant row


@pytest.mark.parametrize("bias", [True, False])
def test_modules_keep_their_weights_and_call_the_function(bias: bool) -> None:
    x, ids = torch.randn(2, 3, 4), torch.randint(0, 7, (2, 3))
    pairs = [
        (basic.Linear(4, 5, bias), nn.Linear(4, 5, bias), x),
        (basic.LayerNorm(4, bias, eps=0.2), nn.LayerNorm(4, bias=bias, eps=0.2), x),
        (basic.RMSNorm(4, eps=0.2), nn.RMSNorm(4, eps=0.2), x),
        (basic.Embedding(7, 4), nn.Embedding(7, 4), ids),
    ]
    for ours, theirs, argument in pairs:
        if isinstance(ours, basic.LayerNorm | basic.RMSNorm):  # at the start a norm only normalises
            torch.testing.assert_close(ours(argument), theirs(argument), **EXACT)
        for parameter in theirs.parameters():
            nn.init.normal_(parameter)
        ours.load_state_dict(theirs.state_dict())  # strict: the same names and shapes as torch
        y, expected = ours(argument), theirs(argument)
        torch.testing.assert_close(y, expected, **EXACT)
        upstream = torch.randn_like(y)
        y.backward(upstream)
        expected.backward(upstream)
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, reference.grad, **EXACT)


def test_initial_weights_have_the_stated_spread() -> None:
    for weight in (basic.Linear(400, 300, std=0.05).weight, basic.Embedding(400, 300, std=0.05).weight):
        sigma = 0.05 / math.sqrt(2 * weight.numel())  # of a measured standard deviation
        assert abs(weight.std().item() - 0.05) < 5 * sigma
        assert abs(weight.mean().item()) < 5 * 0.05 / math.sqrt(weight.numel())
    assert not basic.Linear(4, 3).bias.any()


def test_dropout() -> None:
    n, p = 200_000, 0.3
    x = torch.randn(n).requires_grad_()
    y = basic.dropout(x, p, training=True, generator=torch.Generator().manual_seed(5))
    kept = y != 0
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    torch.testing.assert_close(y[kept], x[kept] / (1 - p), **EXACT)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, kept / (1 - p), **EXACT)
    before = torch.get_rng_state()
    assert torch.equal(y, basic.dropout(x, p, True, torch.Generator().manual_seed(5)))
    assert not torch.equal(y, basic.dropout(x, p, True, torch.Generator().manual_seed(6)))
    assert torch.equal(before, torch.get_rng_state())  # a given generator is the only source
    assert torch.equal(basic.dropout(x, p, training=False), x)
    assert torch.equal(basic.dropout(x, 0.0, training=True), x)
    assert basic.dropout(x.float(), p, training=True).dtype == torch.float32


# ---- masks.py


def test_masks_are_their_definitions() -> None:
    for n_keys in range(1, 9):
        for n_queries in range(1, n_keys + 1):
            past = n_keys - n_queries
            causal = [[s <= past + t for s in range(n_keys)] for t in range(n_queries)]
            assert masks.causal_mask(n_queries, n_keys).tolist() == causal
            for window in (1, 2, 5):
                mask = masks.causal_mask(n_queries, n_keys) & masks.window_mask(n_queries, n_keys, window)
                expected = [[past + t - window < s <= past + t for s in range(n_keys)] for t in range(n_queries)]
                assert mask.tolist() == expected
    assert torch.equal(masks.causal_mask(5), masks.causal_mask(5, 5))
    with pytest.raises(ValueError, match="5 queries .* got 3"):
        masks.causal_mask(5, 3)


def test_masks_of_rows() -> None:
    assert masks.padding_mask(torch.tensor([3, 0, 1]), 4).int().tolist() == [[[[1, 1, 1, 0]]], [[[0] * 4]], [[[1, 0, 0, 0]]]]
    at = masks.position_mask(torch.tensor([[2, 3], [0, 1]]), 4)
    assert at.int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]], [[[1, 0, 0, 0], [1, 1, 0, 0]]]]
    documents = masks.document_mask(torch.tensor([[0, 0, 1], [4, 9, 9]]))
    assert documents.int().tolist() == [[[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], [[[1, 0, 0], [0, 1, 1], [0, 1, 1]]]]


# ---- positions.py


def test_sinusoidal_positions() -> None:
    table = positions.sinusoidal_positions(9, 6)
    for t in range(9):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-7)


PLACES = torch.tensor([[5, 9, 2], [0, 1, 70]])[:, None]  # (B, 1, T), neither sorted nor equal in the rows


def rotate_complex(x: Tensor, theta: float, first: list[int], second: list[int]) -> Tensor:
    """Read x[first] + i x[second] as complex numbers and multiply by e^(i * position * theta^(-2j/K))."""
    y = torch.empty_like(x)
    for j, (a, b) in enumerate(zip(first, second, strict=True)):
        turn = torch.exp(1j * PLACES * theta ** (-2 * j / x.shape[-1]))
        z = torch.complex(x[..., a], x[..., b]) * turn
        y[..., a], y[..., b] = z.real, z.imag
    return y


@pytest.mark.parametrize("theta", [500.0, 10000.0])
@pytest.mark.parametrize(
    ("rotate", "first", "second"),
    [
        (positions.rotate_half_split, [0, 1, 2], [3, 4, 5]),
        (positions.rotate_interleaved, [0, 2, 4], [1, 3, 5]),
    ],
)
def test_rotary_is_a_complex_multiplication(
    rotate: Callable[[Tensor, Tensor], Tensor], first: list[int], second: list[int], theta: float
) -> None:
    angles = positions.rotary_angles(PLACES, 6, theta)
    x = torch.randn(2, 5, 3, 6)
    assert_same(lambda x: rotate(x, angles), lambda x: rotate_complex(x, theta, first, second), x)
    torch.testing.assert_close(rotate(x, angles).norm(dim=-1), x.norm(dim=-1), **EXACT)
    # A dot product depends on the distance alone, and float32 stays exact far out.
    q, k = torch.randn(6), torch.randn(6)

    def score(i: int, j: int) -> float:
        a, b = (positions.rotary_angles(torch.tensor(p), 6, theta) for p in (i, j))
        return (rotate(q, a) @ rotate(k, b)).item()

    assert score(13, 4) == pytest.approx(score(1009, 1000), abs=1e-12)
    assert abs(score(13, 4) - score(13, 5)) > 1e-3
    far = positions.rotary_angles(torch.tensor(1_000_003), 6, theta)
    torch.testing.assert_close(rotate(q.float(), far).double(), rotate(q, far), rtol=0, atol=1e-6)


# ---- attention.py, and its twin in fast/


def attend_by_loops(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One query at a time, over the keys it may see and no others; head h reads key/value head h // (H / G)."""
    n_rows, n_heads, n_queries, _ = q.shape
    shape = (n_rows, n_heads, n_queries, k.shape[2])
    mask = torch.ones(shape, dtype=torch.bool) if mask is None else mask.expand(shape)
    rows = []
    for b in range(n_rows):
        for h in range(n_heads):
            group = h // (n_heads // k.shape[1])
            for t in range(n_queries):
                keys, values = k[b, group][mask[b, h, t]], v[b, group][mask[b, h, t]]  # (n, K), (n, K')
                rows.append(F.softmax(keys @ q[b, h, t] / math.sqrt(q.shape[-1]), 0) @ values)
    return torch.stack(rows).reshape(n_rows, n_heads, n_queries, v.shape[-1])


def random_mask_with_empty_rows(*shape: int) -> Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[0, :, 1] = False
    return mask


MASKS = {
    "none": None,
    "causal": masks.causal_mask(T, S),
    "padding": masks.causal_mask(T, S) & masks.padding_mask(torch.tensor([S, 2]), S),
    "only padding": masks.padding_mask(torch.tensor([3, S]), S),
    "empty batch row": masks.padding_mask(torch.tensor([3, 0]), S),
    "window": masks.causal_mask(T, S) & masks.window_mask(T, S, 2),
    "position": masks.position_mask(torch.tensor([[3, 4, 5, 6], [0, 1, 2, 3]]), S),
    "document": masks.causal_mask(S) & masks.document_mask(torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 2]])),
    "empty rows": random_mask_with_empty_rows(B, 1, T, S),
    "each head its own": random_mask_with_empty_rows(B, H, T, S),
}


@pytest.mark.parametrize("n_kv_heads", [1, G, H])
@pytest.mark.parametrize("name", list(MASKS))
@pytest.mark.parametrize("attend", [attention.scaled_dot_product_attention, fast_attention.scaled_dot_product_attention])
def test_attention_is_the_loop(attend: attention.AttentionFunction, name: str, n_kv_heads: int) -> None:
    mask = MASKS[name]
    n_queries = T if mask is None or mask.shape[-2] == 1 else mask.shape[-2]
    q, k, v = torch.randn(B, H, n_queries, K), torch.randn(B, n_kv_heads, S, K), torch.randn(B, n_kv_heads, S, KV)
    assert_same(lambda q, k, v: attend(q, k, v, mask), lambda q, k, v: attend_by_loops(q, k, v, mask), q, k, v)
    if mask is not None:
        empty = ~mask.any(-1).expand(B, H, n_queries)
        assert empty.any() == name.startswith(("empty", "each"))
        assert not attend(q, k, v, mask)[empty].any()


@pytest.mark.parametrize("attend", [attention.scaled_dot_product_attention, fast_attention.scaled_dot_product_attention])
def test_attention_hides_what_is_masked_from_any_score(attend: attention.AttentionFunction) -> None:
    # Scores of +-500: a mask of -100 instead of -inf would leak. Equal sizes, so that the kernel's quick path is taken.
    q, k, v = torch.randn(B, H, S, 8) * 30, torch.randn(B, H, S, 8) * 30, torch.randn(B, H, S, 8)
    assert_same(lambda *x: attend(*x, masks.causal_mask(S)), lambda *x: attend_by_loops(*x, masks.causal_mask(S)), q, k, v)
    gradient = torch.autograd.functional.jacobian(lambda v: attend(q, k, v, masks.causal_mask(S))[0, 0].sum(-1), v)
    assert not gradient[:, 0, 0].sum(-1).triu(1).any()


def test_heads_split_and_merge() -> None:
    x = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    heads = attention.split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    for h in range(4):
        assert torch.equal(heads[:, h], x[:, :, 2 * h : 2 * h + 2])
    assert torch.equal(attention.merge_heads(heads), x)


@pytest.mark.parametrize("bias", [True, False])
def test_multi_head_attention_is_torchs(bias: bool) -> None:
    d_model = H * K
    ours = attention.MultiHeadAttention(d_model, H, H, bias)
    theirs = nn.MultiheadAttention(d_model, H, bias=bias, batch_first=True)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights = {"out." + name: value for name, value in theirs.out_proj.state_dict().items()}
    for i, name in enumerate("qkv"):
        weights[name + ".weight"] = theirs.in_proj_weight[i * d_model : (i + 1) * d_model]
        if bias:
            weights[name + ".bias"] = theirs.in_proj_bias[i * d_model : (i + 1) * d_model]
    ours.load_state_dict(weights)
    mask = masks.causal_mask(T)
    x = torch.randn(B, T, d_model)
    assert_same(lambda x: ours(x, mask), lambda x: theirs(x, x, x, attn_mask=~mask, need_weights=False)[0], x)


# ---- kv_cache.py


def grouped_layer() -> attention.MultiHeadAttention:
    return attention.MultiHeadAttention(H * 4, H, G, attention=fast_attention.scaled_dot_product_attention)


def read(layer: attention.MultiHeadAttention, x: Tensor, cache: KVCache | None) -> Tensor:
    """One layer of a model: rotary positions and mask from the cache's lengths, or from 0 without a cache."""
    places = cache.positions(x.shape[1]) if cache else torch.arange(x.shape[1]).expand(len(x), -1)
    angles = positions.rotary_angles(places[:, None], 4, 100.0)
    mask = masks.position_mask(places, int(places.max()) + 1)
    y = layer(x, mask, lambda z: positions.rotate_half_split(z, angles), cache)
    if cache:
        cache.advance(x.shape[1])
    return y


def new_cache(n_rows: int, max_length: int = 9) -> KVCache:
    return KVCache(1, (n_rows, G, max_length, 4), torch.float64, torch.device("cpu"))


@torch.no_grad()
def test_cached_attention_in_any_chunks() -> None:
    layer, x = grouped_layer(), torch.randn(3, 6, H * 4)
    whole = read(layer, x, None)
    for cuts in range(2**5):  # every way to cut six tokens into chunks
        ends = [t for t in range(1, 6) if cuts >> (t - 1) & 1] + [6]
        cache, start, pieces = new_cache(3), 0, []
        for end in ends:
            pieces.append(read(layer, x[:, start:end], cache))
            start = end
        torch.testing.assert_close(torch.cat(pieces, 1), whole, **EXACT)
        assert cache.lengths.tolist() == [6, 6, 6]


@torch.no_grad()
def test_rows_of_different_lengths_share_a_cache() -> None:
    layer, x, lengths = grouped_layer(), torch.randn(3, 9, H * 4), torch.tensor([4, 1, 6])
    cache = new_cache(3)
    read(layer, x[:, :6], cache)  # the shorter rows are padded by tokens that are forgotten at once
    cache.rollback(6 - lengths)
    tail = torch.stack([x[b, n : n + 3] for b, n in enumerate(lengths.tolist())])
    y = torch.cat([read(layer, tail[:, :1], cache), read(layer, tail[:, 1:], cache)], 1)
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[b], read(layer, x[b : b + 1, : n + 3], None)[0, n:], **EXACT)


@torch.no_grad()
def test_cache_rollback_select_and_fork() -> None:
    layer, x = grouped_layer(), torch.randn(3, 9, H * 4)
    whole = read(layer, x, None)
    cache = new_cache(3)
    read(layer, x[:, :4], cache)
    twin = cache.fork()
    read(layer, torch.randn(3, 5, H * 4), cache)
    cache.rollback(5)
    for same in (cache, twin):  # what the other one wrote, or what was rolled back, is not seen
        torch.testing.assert_close(read(layer, x[:, 4:6], same), whole[:, 4:6], **EXACT)
    rows = torch.tensor([2, 0, 2, 1])
    twin.select(rows)
    torch.testing.assert_close(read(layer, x[rows, 6:], twin), whole[rows, 6:], **EXACT)
    with pytest.raises(ValueError, match=r"holds 9 tokens: 9 \+ 1 do not fit"):
        read(layer, x[rows, :1], twin)
    with pytest.raises(ValueError, match="rollback of 10 tokens"):
        twin.rollback(10)


@pytest.mark.parametrize("name", ["basic", "masks", "positions", "attention", "kv_cache", "blocks"])
def test_examples_in_docstrings(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    assert doctest.testmod(importlib.import_module(f"minilm.layers.{name}")).failed == 0
