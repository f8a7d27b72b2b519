"""Attention, whole: every attention function, and cross-attention, against loops, central differences and exact properties.

The numbers of rows in names and docstrings are those of the catalogue of real bugs that the project keeps.
"""

import doctest
import importlib
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from test_layers import assert_close, assert_same
from torch import Tensor, nn
from torch.autograd import grad
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from minilm.bench.attention import contests, megabytes_kept, pass_of
from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.layers.alibi import alibi, alibi_slopes
from minilm.layers.attention import AttentionFunction, MultiHeadAttention, scaled_dot_product_attention
from minilm.layers.changed_scores import attention_with, softcap
from minilm.layers.cross_attention import CrossAttention
from minilm.layers.masks import causal_mask, padding_mask
from minilm.layers.qk_norm import with_qk_norm
from minilm.layers.sliding_window import with_window
from minilm.layers.tiled_attention import seen_tiles, tiled_attention
from minilm.models.config import gpt2_config, llama_config
from minilm.models.gpt import GPT


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---- the oracle: one query at a time

SLOPES = {3: [-4, -8, -2], 4: [-2, -4, -6, -8], 6: [-2, -4, -6, -8, -1, -3]}  # exponents of 2, from the paper's recipe


def loops(
    change: Callable[[Tensor, int, int, Tensor], Tensor] = lambda score, h, distance_to_end, keys: score,
    normalise: bool = False,
    window: int | None = None,
) -> AttentionFunction:
    """softmax over the keys that one query may see and no others; head h reads key/value head h // (H / G).

    change(scores of the seen keys, head, the query's own place among the keys, places of the seen keys).
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        (B, H, T, K), S = q.shape, k.shape[2]
        if mask is None:
            mask = torch.ones(T, S) > 0 if window is None else causal_mask(T, S)
        mask = mask.expand(B, H, T, S)
        if normalise:
            q, k = (x / ((x**2).sum(-1, keepdim=True) / K + 1e-5) ** 0.5 for x in (q, k))
        rows = []
        for b in range(B):
            for h in range(H):
                group = h // (H // k.shape[1])
                for t in range(T):
                    seen = mask[b, h, t].nonzero().flatten()
                    seen = seen if window is None else seen[-window:]
                    scores = change(k[b, group, seen] @ q[b, h, t] / math.sqrt(K), h, S - T + t, seen)
                    shares = torch.exp(scores - torch.logsumexp(scores, 0)) if len(seen) else scores
                    rows.append(shares @ v[b, group, seen])
        return torch.stack(rows).reshape(B, H, T, -1)

    return attend


def linear_bias(n_heads: int) -> Callable[[Tensor, int, int, Tensor], Tensor]:
    return lambda scores, h, place, keys: scores - 2.0 ** SLOPES[n_heads][h] * (place - keys)


def capped(scores: Tensor, h: int, place: int, keys: Tensor) -> Tensor:
    return 2 * 1.3 / (1 + torch.exp(-2 * scores / 1.3)) - 1.3  # tanh by exp


def oracle_of(name: str, n_heads: int) -> AttentionFunction:
    if "window" in name:
        return loops(window=3)
    if name == "alibi":
        return loops(linear_bias(n_heads))
    if name == "softcap":
        return loops(capped)
    if name == "softcap, then alibi":
        bias = linear_bias(n_heads)
        return loops(lambda scores, h, place, keys: bias(capped(scores, h, place, keys), h, place, keys))
    return loops(normalise="norm" in name)


def tiles_of(block: int) -> AttentionFunction:
    return lambda q, k, v, mask=None: tiled_attention(q, k, v, mask, block)


ATTENTIONS: dict[str, AttentionFunction] = {
    "readable": scaled_dot_product_attention,
    "fused": fused,
    "tiled": tiled_attention,  # one tile holds all
    "tiles of 1": tiles_of(1),
    "tiles of 3": tiles_of(3),
    "no change": attention_with(),
    "softcap": attention_with(softcap(1.3)),
    "alibi": attention_with(alibi),
    "softcap, then alibi": attention_with(softcap(1.3), alibi),
    "qk_norm": with_qk_norm(scaled_dot_product_attention),
    "qk_norm of tiles": with_qk_norm(tiles_of(2)),
    "window": with_window(scaled_dot_product_attention, 3),
    "window of tiles": with_window(tiles_of(2), 3),
}
every_attention = pytest.mark.parametrize("name", list(ATTENTIONS))

# B, H, G, T, S, K, K': rectangular, and K' never K
SIZES = [(2, 6, 2, 4, 7, 5, 3), (3, 4, 1, 5, 5, 2, 4), (2, 3, 3, 2, 10, 4, 6)]
Size = tuple[int, int, int, int, int, int, int]


def inputs(size: Size, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    B, H, G, T, S, K, width = size
    return torch.randn(B, H, T, K) * spread, torch.randn(B, G, S, K) * spread, torch.randn(B, G, S, width)


def ugly_mask(size: Size) -> Tensor:
    """Each head its own, (B, H, T, S); one query of one row sees nothing, another row only its last key."""
    B, H, _, T, S, _, _ = size
    mask = torch.rand(B, H, T, S, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[1, :, -1] = False
    mask[0, :, 0] = torch.arange(S) == S - 1
    return mask


MASKS: dict[str, Callable[[Size], Tensor | None]] = {
    "no mask": lambda size: None,
    "causal": lambda size: causal_mask(size[3], size[4]),
    "causal and padding": lambda size: causal_mask(size[3], size[4]) & padding_mask(torch.arange(size[0]), size[4]),
    "ugly": ugly_mask,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", list(MASKS))
@every_attention
def test_every_attention_is_the_loop_in_values_and_gradients(name: str, mask: str, size: Size) -> None:
    where, oracle = MASKS[mask](size), oracle_of(name, size[1])
    q, k, v = inputs(size)
    assert_same(lambda q, k, v: ATTENTIONS[name](q, k, v, where), lambda q, k, v: oracle(q, k, v, where), q, k, v)


def central_differences(f: Callable[[], Tensor], x: Tensor, h: float = 1e-5) -> Tensor:
    """d f / d x, one number at a time."""
    gradient, flat = torch.empty(x.numel()), x.detach().view(-1)
    for i, kept in enumerate(flat.tolist()):
        flat[i] = kept + h
        above = f().item()
        flat[i] = kept - h
        gradient[i] = (above - f().item()) / (2 * h)
        flat[i] = kept
    return gradient.reshape(x.shape)


def assert_gradients_are_measured(f: Callable[..., Tensor], *xs: Tensor) -> None:
    """Autograd's gradients under a random upstream gradient are central differences to 1e-7 of the largest."""
    xs = tuple(x.clone().requires_grad_() for x in xs)
    upstream = torch.randn_like(f(*xs))
    with torch.no_grad():
        measured = [central_differences(lambda: (f(*xs) * upstream).sum(), x) for x in xs]
    largest = max(gradient.abs().max().item() for gradient in measured)
    assert largest > 1e-2
    for gradient, expected in zip(grad((f(*xs) * upstream).sum(), xs), measured, strict=True):
        assert_close(gradient, expected, 1e-7 * largest)


@pytest.mark.parametrize("size", SIZES)
@every_attention
def test_gradients_agree_with_central_differences(name: str, size: Size) -> None:
    mask = ugly_mask(size)
    assert_gradients_are_measured(lambda q, k, v: ATTENTIONS[name](q, k, v, mask), *inputs(size))


@pytest.mark.parametrize("size", SIZES)
@every_attention
def test_row_27_a_query_that_sees_nothing_gets_zeros_and_sends_none_back(name: str, size: Size) -> None:
    """Row 27. Also where the scores are huge, and where no query at all sees a key."""
    for spread in (1.0, 30.0):
        q, k, v = (x.requires_grad_() for x in inputs(size, spread))
        mask = ugly_mask(size)
        mask[0, 1] = False
        for empty in (mask, torch.zeros(size[3], size[4]) > 0):
            y = ATTENTIONS[name](q, k, v, empty)
            blind = ~empty.expand(*y.shape[:3], size[4]).any(-1)
            assert blind.any() and not y[blind].any() and y.isfinite().all()
            assert y[~blind].abs().sum() > 0 or blind.all()
            for gradient in grad(y, (q, k, v), torch.randn_like(y)):
                assert gradient.isfinite().all() and (gradient.any() or blind.all())
            assert not grad(ATTENTIONS[name](q, k, v, empty)[blind].sum(), q)[0].any()


@pytest.mark.parametrize("shift", [1e6, -1e6])
@pytest.mark.parametrize("name", ["readable", "fused", "tiled", "tiles of 3", "no change", "alibi", "window of tiles"])
def test_row_29_scores_may_be_shifted_by_a_million(name: str, shift: float) -> None:
    """Row 29: a hidden key has a score of -inf, not a number that real scores can fall below; and no exp overflows."""
    q, k, v = inputs(SIZES[0])
    mask = ugly_mask(SIZES[0])
    q[..., -1] = 0
    there = ATTENTIONS[name](q, k, v, mask)
    q[..., -1], k[..., -1] = shift * math.sqrt(q.shape[-1]), 1.0
    far = ATTENTIONS[name](q, k, v, mask)
    assert (q @ k.repeat_interleave(3, 1).mT / math.sqrt(5)).abs().min() > 9e5 and there.std() > 0.1
    assert_close(far, there, 1e-8)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@every_attention
def test_neighbouring_heads_share_a_key_head(name: str, n_kv_heads: int) -> None:
    """Values tell which head they come from: query heads 0 ... H/G - 1 read head 0, and so on."""
    q, k = torch.randn(2, 6, 4, 5), torch.randn(2, n_kv_heads, 7, 5)
    v = torch.arange(float(n_kv_heads))[:, None, None].expand(2, n_kv_heads, 7, 3)
    y = ATTENTIONS[name](q, k, v, causal_mask(4, 7))
    expected = torch.tensor([float(h // (6 // n_kv_heads)) for h in range(6)])
    assert_close(y, expected[:, None, None].expand(y.shape))


@every_attention
def test_row_40_no_gradient_comes_from_a_hidden_key(name: str) -> None:
    """Row 40, in one attention: exactly 0 from each key that the mask hides, and not from those it shows."""
    size = SIZES[0]
    T, S = size[3:5]
    mask = causal_mask(T, S) & padding_mask(torch.tensor([S, 4]), S)
    q, k, v = (x.requires_grad_() for x in inputs(size))
    y = ATTENTIONS[name](q, k, v, mask)
    for b in range(2):
        for t in range(T):
            dk, dv = grad(y[b, :, t].square().sum(), (k, v), retain_graph=True)
            hidden = ~mask[b, 0, t]
            assert not dk[b, :, hidden].any() and not dv[b, :, hidden].any() and not dv[1 - b].any()
            assert dv[b, :, mask[b, 0, t].nonzero()[-1]].all() and hidden.any() == (not (b == 0 and t == T - 1))


@every_attention
def test_padding_keys_change_nothing(name: str) -> None:
    """Whatever stands in hidden keys and values, even huge numbers: the same bits."""
    q, k, v = inputs(SIZES[0])
    mask = causal_mask(4, 7) & padding_mask(torch.tensor([7, 5]), 7)
    before = ATTENTIONS[name](q, k, v, mask)
    k[1, :, 5:], v[1, :, 5:] = 1e5 * torch.randn_like(k[1, :, 5:]), -1e5
    assert torch.equal(ATTENTIONS[name](q, k, v, mask), before)
    assert not torch.equal(ATTENTIONS[name](q, k, v, causal_mask(4, 7)), before)


@pytest.mark.parametrize("name", ["readable", "fused", "tiles of 3", "softcap", "qk_norm"])
def test_keys_are_a_set(name: str) -> None:
    """Permuting keys, values and mask alike changes nothing; permuting queries permutes the output."""
    size = SIZES[0]
    q, k, v = inputs(size)
    mask, order, turn = ugly_mask(size), torch.randperm(7), torch.tensor([2, 0, 3, 1])
    y = ATTENTIONS[name](q, k, v, mask)
    assert_close(ATTENTIONS[name](q, k[:, :, order], v[:, :, order], mask[..., order]), y)
    assert_close(ATTENTIONS[name](q[:, :, turn], k, v, mask[:, :, turn]), y[:, :, turn])


# ---- tiled_attention.py


class LargestTensor(TorchDispatchMode):
    """The size of the largest tensor of floats that any operation gives."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point():
            self.largest = max(self.largest, out.numel())
        return out


def largest_tensor(attention: AttentionFunction, length: int, mask: Tensor | None) -> int:
    q, k, v = (torch.randn(2, 2, length, 4, requires_grad=True) for _ in range(3))
    with LargestTensor() as seen:
        attention(q, k, v, mask).backward(torch.ones(2, 2, length, 4))
    return seen.largest


@pytest.mark.parametrize("length", [96, 160])
def test_tiles_never_hold_all_scores_forwards_or_backwards(length: int) -> None:
    for mask in (None, causal_mask(length)):
        whole = 2 * 2 * length * length
        assert largest_tensor(scaled_dot_product_attention, length, mask) == whole
        inputs_alone = 2 * 2 * length * 4
        assert largest_tensor(tiles_of(16), length, mask) == max(inputs_alone, 2 * 2 * 16 * 16)


def test_tiles_of_which_nothing_is_seen_are_spared() -> None:
    mask = causal_mask(8).expand(2, 3, 8, 8)
    rows = [[tile[1].start for tile in seen_tiles(slice(t, t + 2), 8, mask, 2)] for t in range(0, 8, 2)]
    assert rows == [[0], [0, 2], [0, 2, 4], [0, 2, 4, 6]]


@pytest.mark.parametrize("block", [1, 2, 7, 13, 64])
def test_a_row_whose_largest_score_comes_last_or_first(block: int) -> None:
    """The running maximum rises at every key, or never: the correction of what was summed is all or nothing."""
    q, v = torch.ones(2, 1, 13, 1), torch.randn(2, 1, 13, 3)
    for ramp in (torch.arange(13.0), -torch.arange(13.0)):
        k = (60 * ramp)[:, None].expand(2, 1, 13, 1).clone()  # e^720 between the ends
        assert_same(tiles_of(block), loops(), q, k, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["readable", "tiled", "tiles of 3", "alibi", "softcap", "qk_norm"])
def test_row_28_half_precision_with_padding_and_causality(name: str, dtype: torch.dtype) -> None:
    """Row 28: two masks of the lowest finite number add up to -inf and then NaN; boolean ones are joined by & alone."""
    q, k, v = inputs((3, 6, 2, 9, 9, 5, 3))
    mask = causal_mask(9) & padding_mask(torch.tensor([9, 4, 0]), 9)
    low = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    y = ATTENTIONS[name](*low, mask)
    exact = ATTENTIONS[name](*(x.detach().double() for x in low), mask)
    assert y.dtype == dtype and not y[2].any()
    assert_close(y.double(), exact, 16 * torch.finfo(dtype).eps)
    assert all(gradient.isfinite().all() for gradient in grad(y.float().square().sum(), low))


def test_tiles_refuse_what_they_cannot_do() -> None:
    q, k, v = (x.requires_grad_() for x in inputs(SIZES[0]))
    with pytest.raises(ValueError, match="at least 1 token, got 0"):
        tiled_attention(q, k, v, None, 0)
    (dq,) = grad(tiled_attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


# ---- alibi.py, changed_scores.py, qk_norm.py, sliding_window.py


def test_slopes_are_those_of_bloom() -> None:
    for n_heads in range(1, 34):
        theirs = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)[:, 0, 1]  # slope * position 1
        assert_close(alibi_slopes(n_heads), theirs.double(), 1e-7)
    with pytest.raises(ValueError, match="got 0"):
        alibi_slopes(0)


def test_alibi_is_linear_in_the_distance_and_keeps_its_precision_far_out() -> None:
    bias = alibi(torch.zeros(2, 6, 5, 8))
    assert bias[1, 0].tolist() == [[-0.25 * (t - s) for s in range(8)] for t in range(3, 8)]
    near = alibi(torch.zeros(1, 2, 5000, 5000, dtype=torch.bfloat16))[0, 0]
    assert near.dtype == torch.bfloat16  # 8 bits: a bias by the place of the key instead of the distance would be lost
    assert near.diagonal(-1).unique().tolist() == [-(2.0**-4)] and near.diagonal(-3).unique().tolist() == [-3 * 2.0**-4]


def test_softcap_bounds_the_scores_and_leaves_small_ones() -> None:
    scores = torch.tensor([-1e6, -0.01, 0.0, 0.02, 40.0, 1e6])
    assert softcap(50.0)(scores).tolist() == pytest.approx([-50, -0.01, 0, 0.02, 50 * math.tanh(0.8), 50], abs=1e-6)
    for cap in (0.0, -3.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="softcap: the cap is"):
            softcap(cap)


def test_qk_norm_sees_angles_only() -> None:
    q, k, v = inputs(SIZES[0], 50.0)
    plain, cosine = with_qk_norm(scaled_dot_product_attention), with_qk_norm(fused, scale=7.0)
    lengths_of_q, lengths_of_k = torch.rand(2, 6, 4, 1) + 0.5, torch.rand(2, 2, 7, 1) + 0.5
    assert_close(plain(q * lengths_of_q, k * lengths_of_k, v), plain(q, k, v), 1e-6)  # up to the eps of the norm
    assert (plain(q, k, v) - cosine(q, k, v)).abs().max() > 0.1
    angles = torch.cosine_similarity(q[:, :, :, None], k.repeat_interleave(3, 1)[:, :, None], dim=-1)
    assert_close(cosine(q, k, v), torch.softmax(7 * angles, -1) @ v.repeat_interleave(3, 1), 1e-6)


def test_a_window_holds_a_token() -> None:
    with pytest.raises(ValueError, match="at least 1 token, the query's own, got 0"):
        with_window(fused, 0)


@pytest.mark.parametrize(
    "name", ["alibi", "changed_scores", "cross_attention", "qk_norm", "sliding_window", "tiled_attention"]
)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"minilm.layers.{name}")
    assert doctest.testmod(module).failed == 0 and module.__doc__


# ---- cross_attention.py


def weights_for_torch(ours: CrossAttention, theirs: nn.MultiheadAttention) -> None:
    """Their random weights into our module."""
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.4)
    weights = {"out." + name: value for name, value in theirs.out_proj.state_dict().items()}
    for i, name in enumerate("qkv"):
        weights[name + ".weight"] = getattr(theirs, f"{name}_proj_weight")
        if theirs.in_proj_bias is not None:
            weights[name + ".bias"] = theirs.in_proj_bias.chunk(3)[i]
    ours.load_state_dict(weights)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("d_model", "d_memory", "n_heads", "T", "S"), [(12, 7, 3, 4, 6), (10, 15, 5, 7, 3), (8, 5, 2, 2, 9)]
)
def test_row_41_cross_attention_is_torchs(
    d_model: int, d_memory: int, n_heads: int, T: int, S: int, bias: bool
) -> None:
    """Row 41: no two sizes are equal, the widths of the two sequences neither."""
    ours = CrossAttention(d_model, d_memory, n_heads, n_heads, bias)
    theirs = nn.MultiheadAttention(d_model, n_heads, bias=bias, kdim=d_memory, vdim=d_memory, batch_first=True)
    weights_for_torch(ours, theirs)
    lengths = torch.tensor([S, 1, S - 1])
    hidden = torch.arange(S) >= lengths[:, None]
    x, memory = torch.randn(3, T, d_model), torch.randn(3, S, d_memory)

    def reference(x: Tensor, memory: Tensor) -> Tensor:
        return theirs(x, memory, memory, key_padding_mask=hidden, need_weights=False)[0]

    assert_same(lambda x, memory: ours(x, memory, padding_mask(lengths, S)), reference, x, memory)
    upstream = torch.randn(3, T, d_model)
    for module in (ours, theirs):
        module.zero_grad()
    ours(x, memory, padding_mask(lengths, S)).backward(upstream)
    reference(x, memory).backward(upstream)
    for i, name in enumerate("qkv"):
        assert_close(getattr(ours, name).weight.grad, getattr(theirs, f"{name}_proj_weight").grad)
        if bias:
            assert_close(getattr(ours, name).bias.grad, theirs.in_proj_bias.grad.chunk(3)[i])
    assert_close(ours.out.weight.grad, theirs.out_proj.weight.grad)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize(
    "attention", [scaled_dot_product_attention, fused, tiles_of(2)], ids=["plain", "fused", "tiled"]
)
def test_cross_attention_with_grouped_heads_is_the_loop(attention: AttentionFunction, n_kv_heads: int) -> None:
    layer = CrossAttention(18, 7, 6, n_kv_heads, attention=attention)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    x, memory = torch.randn(2, 4, 18), torch.randn(2, 5, 7)
    mask = padding_mask(
        torch.tensor([5, 0]), 5
    )  # nothing to see in the second row: only the bias of the output is left

    def by_loops(x: Tensor, memory: Tensor) -> Tensor:
        heads = []
        for h in range(6):
            own, shared = slice(3 * h, 3 * h + 3), h // (6 // n_kv_heads)
            group = slice(3 * shared, 3 * shared + 3)
            q = x @ layer.q.weight[own].mT + layer.q.bias[own]
            k, v = (memory @ part.weight[group].mT + part.bias[group] for part in (layer.k, layer.v))
            heads.append(loops()(q[:, None], k[:, None], v[:, None], mask)[:, 0])
        return torch.cat(heads, -1) @ layer.out.weight.mT + layer.out.bias

    assert_same(lambda x, memory: layer(x, memory, mask), by_loops, x, memory)
    assert torch.equal(layer(x, memory, mask)[1], layer.out.bias.expand(4, 18))
    assert_gradients_are_measured(lambda x, memory: layer(x, memory, mask), x, memory)


def test_cross_attention_reads_the_memory_and_each_query_only_itself() -> None:
    layer = CrossAttention(12, 7, 3, 1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    x, memory = torch.randn(2, 4, 12, requires_grad=True), torch.randn(2, 5, 7, requires_grad=True)
    mask = padding_mask(torch.tensor([5, 3]), 5)
    y = layer(x, memory, mask)
    for t in range(4):
        dx, dmemory = grad(y[1, t].square().sum(), (x, memory), retain_graph=True)
        others = [s for s in range(4) if s != t]
        assert dx[1, t].any() and not dx[1, others].any() and not dx[0].any()  # x tells nothing to its neighbours
        assert dmemory[1, :3].any(-1).all() and not dmemory[1, 3:].any() and not dmemory[0].any()
    order = torch.tensor([2, 0, 1, 4, 3])
    assert_close(layer(x, memory[:, order], mask[..., order]), y)  # the memory is a set
    with pytest.raises(ValueError, match="d_model 12 must be a multiple of n_heads 5"):
        CrossAttention(12, 7, 5, 5)
    with pytest.raises(ValueError, match="n_kv_heads 2"):
        CrossAttention(12, 7, 3, 2)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_row_38_permuting_tokens_permutes_the_output(n_kv_heads: int) -> None:
    """Row 38: without positions and mask each token is treated on its own, whatever its place."""
    layer = MultiHeadAttention(12, 4, n_kv_heads)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    x, order = torch.randn(3, 7, 12), torch.randperm(7)
    y = layer(x, None)
    assert_close(layer(x[:, order], None), y[:, order])
    assert (y[:, order] - y).abs().max() > 0.1


# ---- a GPT with each of them


def model_with(name: str, llama: bool = True) -> GPT:
    """Three layers, every size another; weights large enough that attention is far from uniform."""
    make = llama_config if llama else gpt2_config
    heads = {"n_kv_heads": 2} if llama else {}
    config = make(vocab_size=19, context_length=11, d_model=24, n_layers=2, n_heads=4, d_ff=20, **heads)
    model = GPT(config, attention=ATTENTIONS[name])
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("llama", [True, False], ids=["llama", "gpt2"])
@every_attention
def test_row_40_a_gpt_never_looks_ahead(name: str, llama: bool) -> None:
    """Row 40: d logits[t] / d embedding[s] is exactly 0 for s > t, and, but for windows, not 0 for s <= t."""
    model, seen = model_with(name, llama), []
    model.embedding.register_forward_hook(lambda module, ids, out: seen.append(out))
    logits = model(torch.randint(19, (2, 9)))
    reach = 2 * (3 - 1) if "window" in name else 9  # two layers of a window of three
    for t in range(9):
        (gradient,) = grad(logits[0, t].square().sum(), seen[0], retain_graph=True)
        assert gradient[0].any(-1).tolist() == [t - reach <= s <= t for s in range(9)]
        assert not gradient[1].any()


@torch.no_grad()
@pytest.mark.parametrize("llama", [True, False], ids=["llama", "gpt2"])
@every_attention
def test_rows_30_and_31_with_a_cache_as_without(name: str, llama: bool) -> None:
    """Rows 30 and 31: every length of the prompt, then token by token or in chunks; the window is shorter than the cache."""
    model, ids = model_with(name, llama), torch.randint(19, (2, 11))
    whole = model(ids)
    for prompt in range(1, 12):
        for chunk in (1, 3):
            cache = model.new_cache(2)
            pieces = [model(ids[:, :prompt], cache)]
            pieces += [model(ids[:, start : min(start + chunk, 11)], cache) for start in range(prompt, 11, chunk)]
            assert_close(torch.cat(pieces, 1), whole, 1e-10)


@torch.no_grad()
@pytest.mark.parametrize("llama", [True, False], ids=["llama", "gpt2"])
@every_attention
def test_row_32_every_row_of_a_ragged_batch_is_the_row_alone(name: str, llama: bool) -> None:
    """Row 32: rows of different lengths share a cache; each continues as it would alone."""
    model, lengths = model_with(name, llama), [1, 6, 4, 8]
    ids = torch.randint(19, (4, 11))
    cache = model.new_cache(4)
    model(ids[:, :8], cache)
    cache.rollback(8 - torch.tensor(lengths))
    tails = torch.stack([row[n : n + 3] for row, n in zip(ids, lengths, strict=True)])
    together = torch.cat([model(tails[:, :1], cache), model(tails[:, 1:], cache)], 1)
    for row, n, logits in zip(ids, lengths, together, strict=True):
        assert_close(logits, model(row[None, : n + 3])[0, n:], 1e-10)


@torch.no_grad()
def test_a_window_as_long_as_the_text_is_none_and_a_short_one_forgets() -> None:
    ids = torch.randint(19, (2, 9))
    model = model_with("readable")
    whole = model(ids)
    for window, same in ((9, True), (3, False)):
        for block in model.blocks:
            block.attention.attention = with_window(tiles_of(2), window)
        assert torch.allclose(model(ids), whole, rtol=0, atol=1e-10) == same


@pytest.mark.parametrize("name", ["alibi", "softcap", "qk_norm of tiles", "window of tiles", "tiles of 3"])
def test_weights_learn_through_every_attention(name: str) -> None:
    """Gradients of a whole GPT's weights, against central differences in a random direction."""
    model, ids = model_with(name), torch.randint(19, (2, 9))
    upstream = torch.randn(2, 9, 19)
    (model(ids) * upstream).sum().backward()
    h = 1e-6
    for parameter in model.parameters():
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter += h * direction
            above = (model(ids) * upstream).sum().item()
            parameter -= 2 * h * direction
            below = (model(ids) * upstream).sum().item()
            parameter += h * direction
        expected = (above - below) / (2 * h)
        assert (parameter.grad * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


# ---- bench/attention.py


def test_what_is_kept_for_the_backward_pass_is_counted_once() -> None:
    x = torch.randn(1000, requires_grad=True)
    assert megabytes_kept(lambda: x.exp()) == 0.008  # its result, of 8 bytes a number
    assert megabytes_kept(lambda: x * x) == 0.008  # one tensor, twice
    assert megabytes_kept(lambda: x + 1) == 0
    torch.set_default_dtype(torch.float32)
    q_k_v_and_out = 4 * 4 * 2048 * 64 * 4 / 1e6
    scores = 4 * 2048 * 256 * 4 / 1e6
    mask_and_totals = 256 * 256 / 1e6 + 4 * 2048 * 4 / 1e6
    assert megabytes_kept(pass_of(tiled_attention, 256)) == pytest.approx(q_k_v_and_out + mask_and_totals)
    assert megabytes_kept(pass_of(scaled_dot_product_attention, 256)) > q_k_v_and_out - q_k_v_and_out / 4 + 2 * scores


def test_both_sides_of_the_contests_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr("minilm.bench.attention.LENGTHS", (64, 256))
    assert [name.split(" (")[0] for name in contests()] == [
        f"{sides}, T = {length}"
        for length in (64, 256)
        for sides in ("readable attention / fused", "tiled attention / readable")
    ]
    plain, kernel, tiles = (
        pass_of(attention, 256)() for attention in (scaled_dot_product_attention, fused, tiled_attention)
    )
    assert plain.shape == (8, 4, 256, 64) and plain.std() > 0.05
    assert_close(kernel, plain, 1e-5)
    assert_close(tiles, plain, 1e-5)
