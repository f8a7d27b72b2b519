"""The hidden states of a step in few operations: in small models the calls of torch cost more than the sums.

The readable bricks compute a norm in seven operations, an activation in eight, attention in ten, and each brick is a call of
its own. Here is the whole way through a GPT as one function: one operation for each of these, one product for q, k and v
together, the cache written in place. Weights, cache and numbers are those of the model; `hidden` alone is another function.
One new token a row, which is nearly all of decoding, goes through all layers in a single call (`minilm.fast.step`).

    model = use_kernels(model)      # then generate(model, ...), as before
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minilm.fast.attention import scaled_dot_product_attention as fused_attention
from minilm.fast.matvec import Matrix, use_matvec
from minilm.fast.step import Layer, Step
from minilm.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from minilm.layers.basic import LayerNorm, RMSNorm, gelu, gelu_tanh
from minilm.layers.blocks import MLP, SwiGLU, TransformerBlock, pre_norm
from minilm.layers.kv_cache import KVCache
from minilm.layers.masks import causal_mask

Change = Callable[[Tensor], Tensor]  # (N, ...) -> (N, ...), N tokens
ACTIVATIONS: dict[Any, Change] = {gelu: functional.gelu, gelu_tanh: partial(functional.gelu, approximate="tanh")}


def use_kernels(model: Any) -> Any:
    """Give a GPT, in place, a `hidden` in few operations and the products of `matvec`; return it. Call it last: after this
    the weights may change in place, but not their type.

    ValueError for a model of other blocks than GPT's own; `matvec.use_matvec` takes any.
    """
    layers = [layer_of(block) for block in getattr(model, "blocks", ())]
    if not layers or not hasattr(model, "angles"):
        raise ValueError("use_kernels is for a GPT: for other models there is minilm.fast.matvec.use_matvec")
    use_matvec(model)
    step = Step(layers, model.config)
    model.hidden = partial(fused_hidden, model, step, norm_of(model.norm), model.hidden)
    return model


def layer_of(block: nn.Module) -> Layer:
    """A block as functions; ValueError if it computes something else than GPT's blocks do."""
    attention: Any = getattr(block, "attention", None)
    mlp: Any = getattr(block, "mlp", None)
    known = (
        type(block) is TransformerBlock
        and block.wiring is pre_norm
        and type(attention) is MultiHeadAttention
        and attention.attention in (scaled_dot_product_attention, fused_attention)
        and (type(mlp) is SwiGLU or (type(mlp) is MLP and mlp.activation in ACTIVATIONS))
    )
    if not known:
        raise ValueError("use_kernels knows the blocks of build_block only: for others there is use_matvec")
    gated = type(mlp) is SwiGLU
    return Layer(
        attention_norm=known_norm(block.attention_norm),
        qkv=stacked([attention.q, attention.k, attention.v]),
        out=matrix_of(attention.out),
        mlp_norm=known_norm(block.mlp_norm),
        up=matrix_of(mlp.up),
        down=matrix_of(mlp.down),
        gate=matrix_of(mlp.gate) if gated else None,
        activation=None if gated else mlp.activation,
    )


def known_norm(norm: Any) -> Any:
    """The norm itself, if it is one of the two; else ValueError."""
    if type(norm) not in (LayerNorm, RMSNorm):
        raise ValueError(f"use_kernels knows LayerNorm and RMSNorm, not {type(norm).__name__}")
    return norm


def norm_of(norm: Any) -> Change:
    """A norm in one operation."""
    size, weight, eps = known_norm(norm).weight.shape, norm.weight, norm.eps
    if type(norm) is RMSNorm:
        return lambda x: torch.rms_norm(x, size, weight, eps)
    return lambda x: torch.layer_norm(x, size, weight, norm.bias, eps)


def mlp_of(layer: Layer, x: Tensor) -> Tensor:
    """(N, D) -> (N, D), the MLP of a layer."""
    if layer.gate is not None:
        return layer.down(functional.silu(layer.gate(x)) * layer.up(x))
    return layer.down(ACTIVATIONS[layer.activation](layer.up(x)))


def parts_of(linear: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The numbers, scales and bias of a Linear, or of a quantized one."""
    bias = None if linear.bias is None else linear.bias.detach()
    if hasattr(linear, "numbers"):
        return linear.numbers, linear.scales, bias
    return linear.weight.detach(), None, bias


def matrix_of(linear: nn.Module) -> Matrix:
    return Matrix(*parts_of(linear))


def stacked(linears: Sequence[Any]) -> Matrix:
    """One matrix for linears that read the same. Their own become views of it, so that no weight is stored twice."""
    columns = zip(*(parts_of(linear) for linear in linears), strict=True)
    joined: list[Any] = [None if column[0] is None else torch.cat(column) for column in columns]
    numbers, scales, bias = joined
    end = 0
    for linear in linears:
        start, end = end, end + len(parts_of(linear)[0])
        if hasattr(linear, "numbers"):
            linear.numbers, linear.scales = numbers[start:end], None if scales is None else scales[start:end]
        else:
            linear.weight.data = numbers[start:end]
        if bias is not None:
            linear.bias.data = bias[start:end]
    return Matrix(numbers, scales, bias)


def fused_hidden(
    model: Any, step: Step, norm: Change, plain: Callable[..., Tensor], ids: Tensor, cache: Any = None
) -> Tensor:
    """`GPT.hidden`: ids (B, T) -> (B, T, D). By the readable one without a cache, with gradients, and where the
    rows have different lengths."""
    (B, T), past = ids.shape, None
    if type(cache) is KVCache and not torch.is_grad_enabled() and not model.training:
        past = even_length(model, cache, T)
    if past is None:
        return plain(ids, cache)
    x = model.embedding(ids)
    if model.positions is not None:
        x = x + model.positions.weight[past : past + T]
    turns = turning(model, past, past + T, x.dtype)
    x = x.reshape(B * T, -1)
    if T == 1 and step.takes(x, cache):
        step(x, cache, past, turns)
    else:
        x = through_layers(step.layers, x, cache, (past, T), turns)
    cache.advance(T)
    return norm(x).view(B, T, -1)


def through_layers(
    layers: Sequence[Layer], x: Tensor, cache: KVCache, places: tuple[int, int], turns: tuple[Tensor, Tensor] | None
) -> Tensor:
    """x (B T, D), T tokens behind `past` cached ones in each row, places = (past, T) -> (B T, D)."""
    past, T = places
    (B, G, _, K), S = cache.keys[0].shape, past + T
    mask = causal_mask(T, S) if past and T > 1 else None  # a prompt is causal from its beginning, which costs half
    for layer, keys, values in zip(layers, cache.keys, cache.values, strict=True):
        qkv = layer.qkv(norm_of(layer.attention_norm)(x)).view(B, T, -1, K).transpose(1, 2)  # (B, H + 2 G, T, K)
        H = qkv.shape[1] - 2 * G
        q, k, v = qkv.split((H, G, G), dim=1)
        if turns is not None:
            q, k = turned(q, *turns), turned(k, *turns)
        keys[:, :, past:S], values[:, :, past:S] = k, v
        seen = functional.scaled_dot_product_attention(
            q, keys[:, :, :S], values[:, :, :S], attn_mask=mask, is_causal=not past, enable_gqa=H != G
        )
        x = x + layer.out(seen.transpose(1, 2).reshape(B * T, -1))
        x = x + mlp_of(layer, norm_of(layer.mlp_norm)(x))
    return x


def even_length(model: Any, cache: KVCache, n_new: int) -> int | None:
    """How many tokens each row holds; None where that differs, or n_new more have no room: the readable way says what is wrong."""
    past, *others = set(cache.lengths.tolist())
    room = min(cache.keys[0].shape[2], model.config.context_length)
    return None if others or past + n_new > room else past


def turning(model: Any, start: int, end: int, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Rotary positions: cosines and sines (T, K / 2) of these positions, once for all layers; None where there are none."""
    if model.config.rope_theta is None or model.positions is not None:
        return None
    angles = model.angles(torch.arange(start, end), model.config.d_head, model.config.rope_theta)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate_half_split` of x (..., T, K)."""
    return x * cos.repeat(1, 2) + x.roll(x.shape[-1] // 2, dims=-1) * torch.cat([-sin, sin], dim=-1)
