"""The bricks of a model in few operations, for training: the same functions as in `minilm.layers`, faster.

The readable layer norm writes a text of numbers to memory six times, the readable GELU nine times, and for the way back
nearly all of it is kept. torch has one operation for each. Weights, names and checkpoints are those of the model; what
changes is how its parts compute, and with that the last digits.

    model = fuse(GPT(config, attention=scaled_dot_product_attention))

Under autocast a Linear with a bias answers in autocast's dtype; the readable one adds the bias in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minilm.fast.recurrent import FORWARDS as RECURRENT
from minilm.layers.attention import MultiHeadAttention, merge_heads, split_heads
from minilm.layers.basic import Embedding, LayerNorm, Linear, RMSNorm, gelu, gelu_tanh, relu, silu
from minilm.layers.blocks import MLP, SwiGLU

ACTIVATIONS: dict[Any, Callable[[Tensor], Tensor]] = {
    gelu: functional.gelu,
    gelu_tanh: partial(functional.gelu, approximate="tanh"),
    silu: functional.silu,
    relu: torch.relu,
}


def fuse(model: Any) -> Any:
    """Let the known parts of a model, of whatever kind, compute by torch's kernels; in place, and return it.

    Only `forward` changes: parameters, types and names stay, so the model may be saved, copied, compiled, adapted and
    trained as before. A subclass of a known part stays as it is.
    """
    for part in model.modules():
        if type(part) in FORWARDS:
            part.forward = partial(FORWARDS[type(part)], part)
    return model


def linear(part: Linear, x: Tensor) -> Tensor:
    """(..., I) -> (..., O): product and bias in one."""
    return functional.linear(x, part.weight, part.bias)


def embedding(part: Embedding, ids: Tensor) -> Tensor:
    """ids (...) -> (..., D). On the way back the gradients of one token are summed up by a kernel made for it."""
    return functional.embedding(ids, part.weight)


def layer_norm(part: LayerNorm, x: Tensor) -> Tensor:
    """(..., D) -> (..., D), in the type that the readable one gives."""
    x, weight, bias = in_one_type(x, part.weight, part.bias)
    return torch.layer_norm(x, part.weight.shape, weight, bias, part.eps)


def rms_norm(part: RMSNorm, x: Tensor) -> Tensor:
    """(..., D) -> (..., D)."""
    x, weight = in_one_type(x, part.weight)
    return torch.rms_norm(x, part.weight.shape, weight, part.eps)


def in_one_type(x: Tensor, weight: Tensor, *others: Tensor | None) -> Any:
    """All of them in the type that x * weight has; the kernels know one type only."""
    if x.dtype is weight.dtype:
        return x, weight, *others
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return x.to(dtype), weight.to(dtype), *(other if other is None else other.to(dtype) for other in others)


def mlp(part: MLP, x: Tensor) -> Tensor:
    """(..., D) -> (..., D). An activation that is not in the table stays as it is."""
    activation = ACTIVATIONS.get(part.activation, part.activation)
    return part.down(activation(part.up(x)))


def swiglu(part: SwiGLU, x: Tensor) -> Tensor:
    """(..., D) -> (..., D)."""
    return part.down(functional.silu(part.gate(x)) * part.up(x))


def attention(
    part: MultiHeadAttention,
    x: Tensor,
    mask: Tensor | None,
    rotate: Callable[[Tensor], Tensor] | None = None,
    cache: Any = None,
    layer: int = 0,
) -> Tensor:
    """(B, T, D) -> (B, T, D): queries, keys and values by one product. Adapted or rounded matrices are asked one by one."""
    three: list[Any] = [part.q, part.k, part.v]
    if all(type(matrix) is Linear for matrix in three):
        weight = torch.cat([matrix.weight for matrix in three])  # small beside the product with all tokens
        bias = None if part.q.bias is None else torch.cat([matrix.bias for matrix in three])
        columns = functional.linear(x, weight, bias).split([len(matrix.weight) for matrix in three], dim=-1)
    else:
        columns = [matrix(x) for matrix in three]
    heads = (part.n_heads, part.n_kv_heads, part.n_kv_heads)
    q, k, v = (split_heads(column, n) for column, n in zip(columns, heads, strict=True))  # (B, H, T, K), (B, G, T, K)
    if rotate is not None:
        q, k = rotate(q), rotate(k)
    if cache is not None:
        k, v = cache.append(layer, k, v)
    return part.out(merge_heads(part.attention(q, k, v, mask)))


FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    Linear: linear,
    Embedding: embedding,
    LayerNorm: layer_norm,
    RMSNorm: rms_norm,
    MLP: mlp,
    SwiGLU: swiglu,
    MultiHeadAttention: attention,
    **RECURRENT,
}
