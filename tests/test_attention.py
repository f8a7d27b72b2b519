"""Attention, its fast twin and the cache against a loop over single queries, in float64."""

import math
from collections.abc import Iterator

import pytest
import torch
from test_layers import assert_close, assert_same
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.fast import attention as fast_attention
from minilm.layers import attention, masks, positions
from minilm.layers.kv_cache import KVCache

B, H, G, T, S = 2, 6, 2, 4, 7  # batch, heads, key/value heads, queries, keys
K, KV = 5, 3  # numbers in a key, and in a value
both = pytest.mark.parametrize(
    "attend",
    [attention.scaled_dot_product_attention, fast_attention.scaled_dot_product_attention],
    ids=["plain", "fast"],
)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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


DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 2]])
MASKS = {
    "none": None,
    "causal": masks.causal_mask(T, S),
    "padding": masks.causal_mask(T, S) & masks.padding_mask(torch.tensor([S, 2]), S),
    "only padding": masks.padding_mask(torch.tensor([3, S]), S),
    "empty batch row": masks.padding_mask(torch.tensor([3, 0]), S),
    "window": masks.causal_mask(T, S) & masks.window_mask(T, S, 2),
    "position": masks.position_mask(torch.tensor([[3, 4, 5, 6], [0, 1, 2, 3]]), S),
    "document": masks.causal_mask(S) & masks.document_mask(DOCUMENTS),
    "empty rows": random_mask_with_empty_rows(B, 1, T, S),
    "each head its own": random_mask_with_empty_rows(B, H, T, S),
}


@pytest.mark.parametrize("n_kv_heads", [1, G, H])
@pytest.mark.parametrize("name", list(MASKS))
@both
def test_attention_is_the_loop(attend: attention.AttentionFunction, name: str, n_kv_heads: int) -> None:
    mask = MASKS[name]
    n_queries = T if mask is None or mask.shape[-2] == 1 else mask.shape[-2]
    q, k, v = torch.randn(B, H, n_queries, K), torch.randn(B, n_kv_heads, S, K), torch.randn(B, n_kv_heads, S, KV)
    assert_same(lambda q, k, v: attend(q, k, v, mask), lambda q, k, v: attend_by_loops(q, k, v, mask), q, k, v)
    if mask is not None:
        empty = ~mask.any(-1).expand(B, H, n_queries)
        assert empty.any() == name.startswith(("empty", "each"))
        assert not attend(q, k, v, mask)[empty].any()


@both
def test_attention_hides_what_is_masked_from_any_score(attend: attention.AttentionFunction) -> None:
    # Scores of +-500: a mask of -100 instead of -inf would leak. All sizes equal: another path through the kernel.
    q, k, v = torch.randn(B, H, S, 8) * 15, torch.randn(B, H, S, 8) * 15, torch.randn(B, H, S, 8)
    mask = masks.causal_mask(S)
    assert_same(lambda q, k, v: attend(q, k, v, mask), lambda q, k, v: attend_by_loops(q, k, v, mask), q, k, v)
    gradient = torch.autograd.functional.jacobian(lambda v: attend(q, k, v, mask)[0, 0].sum(-1), v)
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
        assert_close(torch.cat(pieces, 1), whole)
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
        assert_close(y[b], read(layer, x[b : b + 1, : n + 3], None)[0, n:])


@torch.no_grad()
def test_cache_rollback_select_and_fork() -> None:
    layer, x = grouped_layer(), torch.randn(3, 9, H * 4)
    whole = read(layer, x, None)
    cache = new_cache(3)
    read(layer, x[:, :4], cache)
    twin = cache.fork()
    read(layer, torch.randn(3, 5, H * 4), cache)
    cache.rollback(5)
    assert_close(read(layer, x[:, 4:6], twin), whole[:, 4:6])
    other = torch.cat([x[:, :4], torch.randn(3, 3, H * 4)], 1)
    assert_close(read(layer, other[:, 4:], cache), read(layer, other, None)[:, 4:])  # nothing of what was rolled back
    rows = torch.tensor([2, 0, 2, 1])
    twin.select(rows)
    assert_close(read(layer, x[rows, 6:], twin), whole[rows, 6:])
    with pytest.raises(ValueError, match=r"holds 9 tokens: 9 \+ 1 do not fit"):
        read(layer, x[rows, :1], twin)
    with pytest.raises(ValueError, match="rollback of 10 tokens"):
        twin.rollback(10)
