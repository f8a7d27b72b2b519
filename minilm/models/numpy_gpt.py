"""The whole GPT in numpy, with gradients derived by hand: what torch does for models/gpt.py, nothing hidden.

It has the same config, the same weights by the same names and the same logits as `GPT`; weights pass either way through
`arrays` and `from_arrays`. Small ones are no slower than with torch, and learn characters within a minute:

    optimizer = AdamW(model.weights, lr=3e-3)              # minilm.byhand.optim
    loss, gradients = model.loss_and_gradients(ids, targets)
    optimizer.step(gradients)
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minilm.byhand.attention import multi_head_attention, multi_head_attention_backward
from minilm.byhand.basic import (
    Cache,
    dropout,
    dropout_backward,
    embedding,
    embedding_backward,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    rms_norm,
    rms_norm_backward,
)
from minilm.byhand.blocks import (
    mlp,
    mlp_backward,
    swiglu,
    swiglu_backward,
    transformer_block,
    transformer_block_backward,
)
from minilm.byhand.loss import cross_entropy, cross_entropy_backward
from minilm.byhand.parts import Part, inside, outside, part_of
from minilm.byhand.positions import learned_positions, learned_positions_backward, rotary_angles
from minilm.models.config import GPTConfig


class NumpyGPT:
    """A decoder-only transformer: ids (B, T) -> logits (B, T, V); `weights` holds its arrays by name."""

    def __init__(self, config: GPTConfig, generator: np.random.Generator) -> None:
        """Random weights in float32, drawn as `GPT` draws them. `from_arrays` keeps the dtype of the arrays."""
        self.config = config
        self.weights = initial_weights(config, generator)
        self.norm, self.mlp = norm_part(config), mlp_part(config)

    def forward(self, ids: np.ndarray) -> np.ndarray:
        """ids (B, T) -> logits (B, T, V); logits[:, t] predict ids[:, t + 1]. Nothing is dropped."""
        return self.run(ids)[0]

    def loss_and_gradients(
        self, ids: np.ndarray, targets: np.ndarray, generator: np.random.Generator | None = None
    ) -> tuple[float, dict[str, np.ndarray]]:
        """The cross-entropy in nats per token of ids, targets (B, T), and its gradient for each of the weights, by name.

        With a generator, dropout is active and drawn from it.
        """
        logits, cache = self.run(ids, generator)
        loss, loss_cache = cross_entropy(logits, targets)
        return float(loss), self.run_backward(cross_entropy_backward(1.0, loss_cache), cache)

    def run(self, ids: np.ndarray, generator: np.random.Generator | None = None) -> tuple[np.ndarray, Cache]:
        """The forward pass: ids (B, T) -> logits (B, T, V), and the caches of all its steps."""
        config, weights, positions = self.config, self.weights, np.arange(ids.shape[1])
        if len(positions) > config.context_length:
            raise ValueError(f"{len(positions)} tokens do not fit into context_length {config.context_length}")
        x, embedding_cache = embedding(ids, weights["embedding.weight"])  # (B, T, D)
        position_cache, angles = None, None
        if config.rope_theta is None:
            x, position_cache = learned_positions(x, positions, weights["positions.weight"])
        else:
            angles = rotary_angles(positions, config.d_head, config.rope_theta)  # (T, K / 2)
        x, dropout_cache = dropout(x, config.dropout, self.draw_keep(x, generator))
        attention, block_caches = attention_part(config, np.tri(len(positions), dtype=bool), angles), []
        for layer in range(config.n_layers):
            keeps = self.draw_keep(x, generator), self.draw_keep(x, generator)
            own = inside(weights, f"blocks.{layer}")
            x, block_cache = transformer_block(x, own, attention, self.mlp, self.norm, config.dropout, keeps)
            block_caches.append(block_cache)
        x, norm_cache = self.norm.forward(x, inside(weights, "norm"))
        logits, head_cache = linear(x, weights["embedding.weight" if config.tie_embeddings else "lm_head.weight"])
        return logits, (embedding_cache, position_cache, dropout_cache, block_caches, norm_cache, head_cache)

    def run_backward(self, dlogits: np.ndarray, cache: Cache) -> dict[str, np.ndarray]:
        """The backward pass: dlogits (B, T, V) -> the gradient of each of the weights, by name and in their order."""
        embedding_cache, position_cache, dropout_cache, block_caches, norm_cache, head_cache = cache
        dx, dhead, _ = linear_backward(dlogits, head_cache)
        dx, norm_gradients = self.norm.backward(dx, norm_cache)
        gradients = outside("norm", norm_gradients)
        for layer in reversed(range(len(block_caches))):
            dx, block_gradients = transformer_block_backward(dx, block_caches[layer])
            gradients |= outside(f"blocks.{layer}", block_gradients)
        dx = dropout_backward(dx, dropout_cache)
        if position_cache is not None:
            dx, gradients["positions.weight"] = learned_positions_backward(dx, position_cache)
        dembedding = embedding_backward(dx, embedding_cache)
        if self.config.tie_embeddings:
            dembedding = dembedding + dhead  # one table with two uses: the gradients add up
        else:
            gradients["lm_head.weight"] = dhead
        gradients["embedding.weight"] = dembedding
        return {name: gradients[name] for name in self.weights}

    def draw_keep(self, x: np.ndarray, generator: np.random.Generator | None) -> np.ndarray | None:
        """What dropout keeps of x, or None where all is kept."""
        if generator is None or self.config.dropout == 0.0:
            return None
        return generator.random(x.shape) >= self.config.dropout

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights by name, as `GPT.arrays` gives them. A tied head is stored once, as the embedding."""
        return dict(self.weights)

    @classmethod
    def from_arrays(cls, config: GPTConfig, arrays: Mapping[str, Any]) -> "NumpyGPT":
        """A model with a copy of the given arrays (numpy's, or torch's on the CPU); ValueError if a name or shape is wrong."""
        model = cls(config, np.random.default_rng(0))
        if model.weights.keys() != arrays.keys():
            wrong = sorted(model.weights.keys() ^ arrays.keys())[:3]
            raise ValueError(f"the weights do not fit this model: missing or unknown {', '.join(wrong)}")
        for name, own in model.weights.items():
            value = np.asarray(arrays[name]).copy()
            if value.shape != own.shape:
                raise ValueError(f"{name} has shape {value.shape}, the model needs {own.shape}")
            model.weights[name] = value
        return model


def norm_part(config: GPTConfig) -> Part:
    """The norm that the config names."""
    if config.norm == "rms":
        return part_of(rms_norm, rms_norm_backward, eps=config.norm_eps)
    return part_of(layer_norm, layer_norm_backward, eps=config.norm_eps)


def mlp_part(config: GPTConfig) -> Part:
    """The MLP that the config names."""
    if config.mlp == "swiglu":
        return Part(swiglu, swiglu_backward)
    activation = (gelu, gelu_backward) if config.mlp == "gelu" else (gelu_tanh, gelu_tanh_backward)
    return Part(functools.partial(mlp, activation=activation), mlp_backward)


def attention_part(config: GPTConfig, mask: np.ndarray, angles: np.ndarray | None) -> Part:
    """Attention under a mask (T, T), with rotary angles (T, K / 2) where the config has them."""
    forward = functools.partial(
        multi_head_attention, n_heads=config.n_heads, n_kv_heads=config.kv_heads, mask=mask, angles=angles
    )
    return Part(forward, multi_head_attention_backward)


def weight_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every array of weights, in the order of `GPT.arrays`."""
    D, F, V = config.d_model, config.d_ff or 4 * config.d_model, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, D)}

    def add(name: str, *shape: int, bias: bool = config.bias) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    norm_bias = config.bias and config.norm == "layer"
    if config.rope_theta is None:
        add("positions", config.context_length, D, bias=False)
    for layer in range(config.n_layers):
        block, d_kv = f"blocks.{layer}", config.kv_heads * config.d_head
        add(f"{block}.attention_norm", D, bias=norm_bias)
        for name, d_out in (("q", D), ("k", d_kv), ("v", d_kv), ("out", D)):
            add(f"{block}.attention.{name}", d_out, D)
        add(f"{block}.mlp_norm", D, bias=norm_bias)
        for name in ("gate", "up") if config.mlp == "swiglu" else ("up",):
            add(f"{block}.mlp.{name}", F, D)
        add(f"{block}.mlp.down", D, F)
    add("norm", D, bias=norm_bias)
    if not config.tie_embeddings:
        add("lm_head", V, D, bias=False)
    return shapes


def initial_weights(config: GPTConfig, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Norms start at 1, biases at 0, matrices normal with standard deviation 0.02 (see `build_block` in models/gpt.py)."""

    def initial(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=np.float32)
        std = 0.01 if name == "positions.weight" else 0.02
        if name.endswith(("attention.out.weight", "mlp.down.weight")):
            std /= math.sqrt(2 * config.n_layers)
        return (generator.standard_normal(shape) * std).astype(np.float32)

    return {name: initial(name, shape) for name, shape in weight_shapes(config).items()}
