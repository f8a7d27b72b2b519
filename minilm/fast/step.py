"""One new token a row through all layers of a GPT, in a single call of `matvec.cpp`.

A small model's step is hundreds of operations of a few microseconds each; called one by one from Python, the calls take
longer than the numbers. Here Python says once where the weights lie, and per token only where the cache is.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minilm.fast.matvec import MOST_ROWS, Fields, Matrix, address, fits, kernels
from minilm.layers.basic import LayerNorm, gelu_tanh
from minilm.layers.kv_cache import KVCache


class Layer(NamedTuple):
    """What a block computes with. qkv gives the queries, keys and values of all heads: (N, D) -> (N, (H + 2 G) K)."""

    attention_norm: Any  # LayerNorm or RMSNorm
    qkv: Matrix
    out: Matrix
    mlp_norm: Any
    up: Matrix
    down: Matrix
    gate: Matrix | None  # of SwiGLU, which has no activation
    activation: Any

    def suits(self) -> bool:
        """Whether the kernel knows all of it. The exact GELU, which is rare, it leaves to torch."""
        matrices = [matrix for matrix in self if isinstance(matrix, Matrix)]
        return (
            self.activation in (None, gelu_tanh)
            and all(norm.weight.dtype is torch.float32 for norm in (self.attention_norm, self.mlp_norm))
            and all(fits(torch.empty(1, matrix.fields.n_in), *matrix.arrays) for matrix in matrices)
        )


class NormFields(ctypes.Structure):
    """`Norm` of matvec.cpp."""

    _fields_ = (
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        ("centred", ctypes.c_int),
    )

    @classmethod
    def of(cls, norm: Any) -> "NormFields":
        return cls(address(norm.weight), address(getattr(norm, "bias", None)), norm.eps, type(norm) is LayerNorm)


class LayerFields(ctypes.Structure):
    """`Layer` of matvec.cpp."""

    _fields_ = (
        *[(name, NormFields) for name in ("attention_norm", "mlp_norm")],
        *[(name, Fields) for name in ("qkv", "out", "up", "down", "gate")],
    )

    @classmethod
    def of(cls, layer: Layer) -> "LayerFields":
        norms = [NormFields.of(norm) for norm in (layer.attention_norm, layer.mlp_norm)]
        gate = Fields() if layer.gate is None else layer.gate.fields
        matrices = (layer.qkv.fields, layer.out.fields, layer.up.fields, layer.down.fields, gate)
        return cls(*norms, *matrices)


class StepFields(ctypes.Structure):
    """`Step` of matvec.cpp: the model, the rows, and where the cache of each layer is."""

    _fields_ = (
        ("layers", ctypes.c_void_p),
        *[(name, ctypes.c_long) for name in ("n_layers", "D", "H", "G", "K", "rows", "past", "slots")],
        *[(name, ctypes.c_void_p) for name in ("keys", "values", "cos", "sin")],
    )


class Step:
    """The layers of a model, with the addresses of their weights, which may change in place and not move."""

    def __init__(self, layers: Sequence[Layer], config: Any) -> None:
        self.layers = layers
        self.fields = (LayerFields * len(layers))(*[LayerFields.of(layer) for layer in layers])
        self.sizes = (config.d_model, config.n_heads, config.kv_heads, config.d_head)
        found = kernels()
        self.library = None if isinstance(found, str) or not all(layer.suits() for layer in layers) else found

    def __deepcopy__(self, memo: Any) -> "Step":
        raise ValueError("this model's products know where its weights lie: copy the model before use_kernels")

    def takes(self, x: Tensor, cache: KVCache) -> bool:
        """Whether the kernel computes this step: few rows x (B, D), and everything of the types and in the places it knows."""
        stores = (*cache.keys, *cache.values)
        few = self.library is not None and x.dtype is torch.float32 and 0 < x.shape[0] <= MOST_ROWS
        return few and all(store.dtype is torch.float32 and store.is_contiguous() for store in stores)

    def __call__(self, x: Tensor, cache: KVCache, past: int, turns: tuple[Tensor, Tensor] | None) -> None:
        """x (B, D) becomes what the layers make of it; keys and values go into slot `past` of the cache.

        turns: cosines and sines (1, K / 2) of rotary positions. All of it has been checked by `takes`.
        """
        n = len(self.layers)
        keys, values = ((ctypes.c_void_p * n)(*map(address, stores)) for stores in (cache.keys, cache.values))
        sizes = (n, *self.sizes, x.shape[0], past, cache.keys[0].shape[2])
        cos, sin = turns or (None, None)
        places = (ctypes.addressof(keys), ctypes.addressof(values), address(cos), address(sin))
        step = StepFields(ctypes.addressof(self.fields), *sizes, *places)
        assert self.library is not None
        self.library.step(ctypes.byref(step), x.data_ptr(), torch.get_num_threads())
