"""The speed-run GPT: the same idea as `gpt.py`, with what the field has found to learn fastest in a few minutes.

Against GPT: rotary positions with normalised queries and keys (QK-norm, Henry et al. 2020), RMSNorm without weights,
ReLU squared in the MLP (So et al. 2021), output projections and head that start at zero, an untied head, token shift
(the previous tokens are added to each token through tables of their own) and embeddings of n-grams (`ngram_embedding.py`):
the first block has for free what a transformer otherwise spends its first layers and minutes on.
Train it with Muon (`training/muon.py`).
"""

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from minilm.layers.attention import AttentionFunction, merge_heads, scaled_dot_product_attention, split_heads
from minilm.layers.basic import Embedding, Linear, relu, rms_norm
from minilm.layers.kv_cache import KVCache
from minilm.layers.masks import positions_and_mask
from minilm.layers.ngram_embedding import NgramEmbedding
from minilm.layers.positions import rotary_angles, rotate_half_split
from minilm.models.config import SpeedrunConfig
from minilm.models.gpt import load_arrays


class SpeedrunCache(KVCache):
    """A KVCache that also keeps the token ids (B, max_length): the token shift looks back at them."""

    def __init__(
        self, n_layers: int, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(n_layers, shape, dtype, device)
        self.ids = torch.zeros(shape[0], shape[2], dtype=torch.long, device=device)

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self.ids = self.ids[rows]

    def fork(self) -> Self:
        twin = super().fork()
        twin.ids = self.ids.clone()
        return twin

    @property
    def n_bytes(self) -> int:
        return super().n_bytes + self.ids.nbytes

    @property
    def bytes_per_token(self) -> int:
        return super().bytes_per_token + self.ids.itemsize


class SpeedrunBlock(nn.Module):
    """(B, T, D) -> (B, T, D): attention with QK-norm, then ReLU squared; both start as no change at all."""

    def __init__(self, config: SpeedrunConfig, attention: AttentionFunction) -> None:
        super().__init__()
        D, std = config.d_model, 0.5 / math.sqrt(config.d_model)
        self.n_heads, self.attention = config.n_heads, attention
        self.qkv = Linear(D, 3 * D, bias=False, std=std)
        self.out = Linear(D, D, bias=False, std=0.0)
        self.up = Linear(D, 4 * D, bias=False, std=std)
        self.down = Linear(4 * D, D, bias=False, std=0.0)

    def forward(self, x: Tensor, mask: Tensor, angles: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        q, k, v = (split_heads(part, self.n_heads) for part in self.qkv(rms_norm(x)).chunk(3, dim=-1))  # (B, H, T, K)
        q, k = rotate_half_split(rms_norm(q), angles), rotate_half_split(rms_norm(k), angles)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        x = x + self.out(merge_heads(self.attention(q, k, v, mask)))
        hidden = relu(self.up(rms_norm(x)))
        return x + self.down(hidden * hidden)


class SpeedrunGPT(nn.Module):
    """ids (B, T) -> logits (B, T, V), same protocol and cache as GPT."""

    kind = "speedrun"

    def __init__(self, config: SpeedrunConfig, attention: AttentionFunction = scaled_dot_product_attention) -> None:
        super().__init__()
        self.config = config
        tables = [
            Embedding(config.vocab_size, config.d_model, std=0.0 if i else 1.0) for i in range(config.n_shift + 1)
        ]
        self.embeddings = nn.ModuleList(tables)  # table i reads the token i places back
        self.ngrams = None
        if config.max_ngram > 1:
            self.ngrams = NgramEmbedding(config.ngram_rows, config.d_model, config.ngram_dropout)
        self.no_token = config.vocab_size if config.no_token is None else config.no_token
        self.blocks = nn.ModuleList(SpeedrunBlock(config, attention) for _ in range(config.n_layers))
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False, std=0.0)

    def forward(self, ids: Tensor, cache: SpeedrunCache | None = None) -> Tensor:
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: SpeedrunCache | None = None) -> Tensor:
        """ids (B, T) -> (B, T, D): all but the head."""
        T = ids.shape[1]
        past = cache.lengths if cache is not None else torch.zeros(1, dtype=torch.long)
        positions, mask = positions_and_mask(past, T, self.config.context_length, ids.device)
        angles = rotary_angles(positions, self.config.d_model // self.config.n_heads, theta=10000.0)[:, None]
        x = rms_norm(self.embed(self.recent_tokens(ids, positions, cache)))
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, angles, cache, layer)
        if cache is not None:
            cache.advance(T)
        return rms_norm(x)

    def embed(self, recent: Tensor) -> Tensor:
        """(B, T, N) -> (B, T, D): the token's own vector, one for each of the n_shift tokens before it, and its n-grams'."""
        x = self.embeddings[0](recent[..., 0])
        for back in range(1, self.config.n_shift + 1):
            token = recent[..., back]
            there = token >= 0
            x = x + self.embeddings[back](token * there) * there[..., None]
        if self.ngrams is None:
            return x
        tokens = recent[..., : self.config.max_ngram]
        return x + self.ngrams(tokens.where(tokens >= 0, self.no_token))

    def recent_tokens(self, ids: Tensor, positions: Tensor, cache: SpeedrunCache | None) -> Tensor:
        """(B, T) -> (B, T, N): each token and the N - 1 before it, newest first, -1 where the window has none."""
        positions = positions.expand(ids.shape)
        history = ids
        if cache is not None:
            cache.ids.scatter_(1, positions, ids)
            history = cache.ids
        n_recent = max(self.config.n_shift + 1, self.config.max_ngram)
        source = positions[..., None] - torch.arange(
            n_recent, device=ids.device
        )  # slot s holds the token at position s
        tokens = history.gather(1, source.clamp(min=0).flatten(1)).view_as(source)
        return tokens.where(source >= 0, -1)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V)."""
        return self.lm_head(hidden)

    def new_cache(self, batch: int, max_length: int | None = None) -> SpeedrunCache:
        """An empty cache for `batch` rows of at most max_length tokens (default: the context length)."""
        config, weight = self.config, self.lm_head.weight
        shape = (batch, config.n_heads, max_length or config.context_length, config.d_model // config.n_heads)
        return SpeedrunCache(config.n_layers, shape, weight.dtype, weight.device)

    def arrays(self) -> dict[str, Tensor]:
        """The weights by name, for a checkpoint."""
        return dict(self.state_dict())

    @classmethod
    def from_arrays(
        cls,
        config: SpeedrunConfig,
        arrays: Mapping[str, Tensor | np.ndarray],
        attention: AttentionFunction = scaled_dot_product_attention,
    ) -> "SpeedrunGPT":
        """A model with the given weights; ValueError if a name or a shape does not fit."""
        model = cls(config, attention)
        load_arrays(model, arrays)
        return model
