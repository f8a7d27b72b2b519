"""The doctor's list, second part: the bricks of `minilm.layers`, the loss, whole numbers, and what samplers do."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minilm.layers.attention import AttentionFunction as Attention
from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.basic import gelu, gelu_tanh, layer_norm, log_softmax, relu, rms_norm, sigmoid, silu, softmax
from minilm.layers.masks import causal_mask, padding_mask, position_mask, window_mask
from minilm.layers.ngram_embedding import ngram_rows
from minilm.layers.positions import rotary_angles, rotate_half_split, rotate_interleaved
from minilm.training.doctor_list import (
    C,
    R,
    in_place,
    masked,
    moving,
    number_by_number,
    one,
    one_positive,
    sums_and_products,
    two,
)
from minilm.training.doctor_operations import Draw, Operation
from minilm.training.loss import IGNORE, cross_entropy


def bricks() -> list[Operation]:
    """The bricks of `minilm.layers`, and the loss."""
    heads = partial(attention_inputs, 4, 2)
    return [
        Operation("softmax", softmax, one, slack=2.0),
        Operation(
            "softmax, some -inf", lambda m, x: softmax(x.masked_fill(m, -math.inf)), masked, gradient=False, slack=2.0
        ),
        Operation("softmax, large negatives", lambda m, x: softmax(x - 1e9 * m), masked, slack=2.0),
        Operation("log_softmax, large scores", log_softmax, large, slack=3.0),
        Operation("layer norm", layer_norm, lambda d: [d.normal(R, C), d.normal(C), d.normal(C)], slack=4.0),
        Operation("layer norm far from zero", norm_far, one, slack=4.0, dtypes=(torch.float32,)),
        Operation("rms norm", rms_norm, lambda d: [d.normal(R, C), d.normal(C)], slack=4.0),
        Operation("gelu", gelu, one, slack=3.0),
        Operation("gelu by tanh", gelu_tanh, one, slack=4.0),
        Operation("sigmoid", sigmoid, one, slack=2.0),
        Operation("silu", silu, one, slack=3.0),
        Operation("relu squared", lambda x: relu(x) * relu(x), one, slack=2.0),
        Operation("attention", scaled_dot_product_attention, partial(attention_inputs, 3, 3), slack=8.0),
        Operation("attention, causal, grouped heads", causal(scaled_dot_product_attention), heads, slack=8.0),
        Operation("attention, rows that see nothing", blind(scaled_dot_product_attention), heads, slack=8.0),
        Operation(
            "rotary positions, halves", partial(turn, rotate_half_split), lambda d: [d.normal(2, 3, 9, 8)], slack=2.0
        ),
        Operation(
            "rotary positions, pairs", partial(turn, rotate_interleaved), lambda d: [d.normal(2, 3, 9, 8)], slack=2.0
        ),
        Operation("cross-entropy, ignored labels", cross_entropy, labelled, slack=2.0),
        Operation("cross-entropy, all ignored", lambda x, y: cross_entropy(x, torch.full_like(y, IGNORE)), labelled),
    ]


def norm_far(x: Tensor) -> Tensor:
    """Numbers whose mean is large beside their spread: a variance from squares alone would lose its digits."""
    return layer_norm(x + 30.0, torch.ones_like(x[0]))


def large(d: Draw) -> list[Tensor]:
    return [500.0 * d.normal(R, C)]


def attention_inputs(n_heads: int, n_kv_heads: int, d: Draw) -> list[Tensor]:
    """q (B, H, T, K), k and v (B, G, T, K)."""
    return [d.normal(2, n_heads, 9, 5), d.normal(2, n_kv_heads, 9, 5), d.normal(2, n_kv_heads, 9, 5)]


def causal(attention: Attention) -> Callable[..., Tensor]:
    """An attention function of q, k and v that sees the past."""
    return lambda q, k, v: attention(q, k, v, causal_mask(9, device=q.device))


def blind(attention: Attention) -> Callable[..., Tensor]:
    """One for which the first row of the batch has no keys at all: zeros, forward and back."""
    return lambda q, k, v: attention(q, k, v, padding_mask(torch.tensor([0, 7], device=q.device), 9))


def turn(rotate: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    positions = torch.arange(1000, 1000 + x.shape[-2], device=x.device)
    return rotate(x, rotary_angles(positions, x.shape[-1], 10000.0))


def labelled(d: Draw) -> list[Tensor]:
    """Logits and labels, every third of which is ignored."""
    labels = d.ids(C, 2, R)
    labels[:, ::3] = IGNORE
    return [d.normal(2, R, C), labels]


def whole_numbers() -> list[Operation]:
    """Ids, masks and positions: nothing is rounded, so every number must be right."""
    exact = partial(Operation, gradient=False, dtypes=(torch.float32,))
    return [
        exact("rows of n-grams", lambda x: ngram_rows(x, 131_071), tokens),
        exact("whole numbers beyond 2^32", lambda x: (x * 1_000_003 + 7) * 37 - (x >> 3), tokens),
        exact("sum of ids", lambda x: torch.cat([x.sum()[None], x.sum(0)]), tokens),
        exact("bits of ids", lambda x, y: torch.stack([x & y, x | y, x ^ y, ~x, x >> 3, y << 5]), two_tokens),
        exact("remainders of ids", lambda x: torch.stack([x % 131, x // 131, -x % 131, -x // 131]), tokens),
        exact("largest and smallest", lambda x: torch.stack([x.max(), x.min()]), one),
        exact("largest and smallest id", lambda x: torch.stack([x.max(), x.min()]), tokens),
        exact("compare", lambda x, y: torch.stack([x < y, x <= y, x >= y, x > y, x == x, x != y]), two),
        exact("compare ids", lambda x, y: torch.stack([x < y, x <= y, x >= y, x == y, x != y]), two_ids),
        exact("and, or, not", lambda x, y: torch.stack([x & y, x | y, ~x]), lambda d: [d.mask(R, C), d.mask(R, C)]),
        exact(
            "any, all",
            lambda x: torch.cat([x.any(-1), x.all(-1), x.any()[None], x.all()[None]]),
            lambda d: [d.mask(41, 3)],
        ),
        exact("where true", lambda x: x.flatten().nonzero(), lambda d: [d.mask(R, C)]),
        exact("number of the largest", lambda x: x.argmax(-1), one),
        exact("masks", masks, lambda d: [d.ids(9, 3)]),
        exact("gather ids", lambda x, i: x.gather(1, i.clamp(min=1)), lambda d: [d.ids(50_000, R, C), d.ids(C, R, 5)]),
        exact("write ids", lambda x, i: x.scatter_(1, i, i * 3), lambda d: [d.ids(50_000, R, C), one_of_each(d)]),
    ]


def tokens(d: Draw) -> list[Tensor]:
    return [d.ids(50_000, R, 4)]


def two_tokens(d: Draw) -> list[Tensor]:
    return [d.ids(50_000, R, 4), d.ids(50_000, R, 4)]


def two_ids(d: Draw) -> list[Tensor]:
    return [d.ids(3, R, C), d.ids(3, R, C)]


def one_of_each(d: Draw) -> Tensor:
    """Places (R, 5), in no row one twice: what is written twice has no order."""
    return torch.stack([torch.randperm(C, generator=d.generator)[:5] for _ in range(R)])


def masks(lengths: Tensor) -> Tensor:
    place = lengths.device
    positions = lengths[:, None] + torch.arange(4, device=place)
    return (
        position_mask(positions, 9) & causal_mask(4, 9, place) & window_mask(4, 9, 5, place) & padding_mask(lengths, 9)
    )


def choosing() -> list[Operation]:
    """What samplers do. It matters to writing, not to training."""
    sampler = partial(Operation, gradient=False, training=False)
    return [
        sampler("running sum", lambda x: x.cumsum(-1), one_positive, slack=4.0),
        sampler("sort", lambda x: x.sort(-1, descending=True).values, one),
        sampler(
            "order of equals", lambda x: x.argsort(dim=-1, descending=True, stable=True), lambda d: [d.ids(5, R, C)]
        ),
        sampler("largest five", lambda x: x.topk(5).values, one),
        sampler(
            "find in order",
            lambda x, y: torch.searchsorted(x.cumsum(-1).contiguous(), y.contiguous(), right=True),
            pieces,
        ),
    ]


def pieces(d: Draw) -> list[Tensor]:
    """Lengths of whole numbers, and points between their ends."""
    return [d.ids(9, R, C), d.ids(100, R, 3)]


def all_operations() -> list[Operation]:
    """The whole list, the simplest first."""
    simple = [*number_by_number(), *moving(), *sums_and_products(), *in_place()]
    return [*simple, *bricks(), *whole_numbers(), *choosing()]
