"""GPT: token ids in, a score for every possible next token out. One class, two presets: GPT-2 and Llama.

ids (B, T) -> embedding (B, T, D) -> n_layers blocks -> norm -> head -> logits (B, T, V); logits[:, t] predict ids[:, t + 1].
The model owns no loss, no optimizer and no sampling: each of these is a file of its own.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilm.layers.attention import AttentionFunction, MultiHeadAttention, scaled_dot_product_attention
from minilm.layers.basic import Dropout, Embedding, LayerNorm, Linear, RMSNorm, gelu, gelu_tanh
from minilm.layers.blocks import MLP, SwiGLU, TransformerBlock, Wiring, pre_norm
from minilm.layers.kv_cache import KVCache
from minilm.layers.masks import positions_and_mask
from minilm.layers.positions import AnglesFunction, rotary_angles, rotate_half_split
from minilm.models.config import GPTConfig


def build_norm(config: GPTConfig) -> nn.Module:
    """The norm that the config names."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return LayerNorm(config.d_model, config.bias, config.norm_eps)


def output_std(config: GPTConfig) -> float:
    """How widely the weights start that write to the residual stream: smaller by sqrt(2 L), so that the sum of the 2 L
    contributions has the size of one (Radford et al. 2019)."""
    return 0.02 / math.sqrt(2 * config.n_layers)


def build_mlp(config: GPTConfig) -> nn.Module:
    """The MLP that the config names."""
    D, F, std = config.d_model, config.d_ff or 4 * config.d_model, output_std(config)
    if config.mlp == "swiglu":
        return SwiGLU(D, F, config.bias, std)
    return MLP(D, F, gelu if config.mlp == "gelu" else gelu_tanh, config.bias, std)


def build_block(config: GPTConfig, attention: AttentionFunction, wiring: Wiring = pre_norm) -> TransformerBlock:
    """One block from the parts that the config names."""
    D, H, G = config.d_model, config.n_heads, config.kv_heads
    mlp, mixer = build_mlp(config), MultiHeadAttention(D, H, G, config.bias, output_std(config), attention)
    return TransformerBlock(mixer, mlp, build_norm(config), build_norm(config), Dropout(config.dropout), wiring)


class GPT(nn.Module):
    """A decoder-only transformer (Radford et al. 2019): ids (B, T) -> logits (B, T, V).

    `attention`, `block`, which builds one block, and, with rotary positions, `angles` are parts: another function of the
    same signature takes their place.
    """

    kind = "gpt"

    def __init__(
        self,
        config: GPTConfig,
        attention: AttentionFunction = scaled_dot_product_attention,
        angles: AnglesFunction = rotary_angles,
        block: Callable[[GPTConfig, AttentionFunction], nn.Module] = build_block,
    ) -> None:
        super().__init__()
        self.config, self.angles = config, angles
        self.embedding = Embedding(config.vocab_size, config.d_model)
        self.positions = None if config.rope_theta else Embedding(config.context_length, config.d_model, std=0.01)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config, attention) for _ in range(config.n_layers))
        self.norm = build_norm(config)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight  # one tensor with two uses, not a copy

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """ids (B, T) -> (B, T, D): all but the head. With a cache, ids are the tokens that follow those it holds."""
        T = ids.shape[1]
        past = cache.lengths if cache is not None else torch.zeros(1, dtype=torch.long)
        positions, mask = positions_and_mask(past, T, self.config.context_length, ids.device)
        x = self.embedding(ids)  # (B, T, D)
        rotate = None
        if self.positions is not None:
            x = x + self.positions(positions)
        elif self.config.rope_theta is not None:
            angles = self.angles(positions, self.config.d_head, self.config.rope_theta)  # (B, T, K / 2)
            rotate = functools.partial(rotate_half_split, angles=angles[:, None])
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, rotate, cache, layer)
        if cache is not None:
            cache.advance(T)
        return self.norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V)."""
        return self.lm_head(hidden)

    def new_cache(self, batch: int, max_length: int | None = None) -> KVCache:
        """An empty cache for `batch` rows of at most max_length tokens (default: the context length)."""
        config, weight = self.config, next(self.norm.parameters())  # the embedding may be stored rounded
        shape = (batch, config.kv_heads, max_length or config.context_length, config.d_head)
        return KVCache(config.n_layers, shape, weight.dtype, weight.device)

    def arrays(self) -> dict[str, Tensor]:
        """The weights by name, for a checkpoint. A tied head is stored once, as the embedding."""
        weights = dict(self.state_dict())
        if self.config.tie_embeddings:
            del weights["lm_head.weight"]
        return weights

    @classmethod
    def from_arrays(cls, config: GPTConfig, arrays: Mapping[str, Tensor | np.ndarray], **parts: Any) -> "GPT":
        """A model with the given weights, and parts as in GPT; ValueError if a name or a shape does not fit."""
        model = cls(config, **parts)
        load_arrays(model, arrays)
        return model


def load_arrays(model: nn.Module, arrays: Mapping[str, Tensor | np.ndarray]) -> None:
    """Copy arrays into the parameters of the same names. Names and shapes must agree exactly."""
    own: dict[str, Tensor] = model.arrays()  # type: ignore[operator]
    if own.keys() != arrays.keys():
        wrong = sorted(own.keys() ^ arrays.keys())[:3]
        raise ValueError(f"the weights do not fit this model: missing or unknown {', '.join(wrong)}")
    with torch.no_grad():
        for name, parameter in own.items():
            value = torch.as_tensor(arrays[name])
            if value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, the model needs {tuple(parameter.shape)}")
            parameter.copy_(value)
