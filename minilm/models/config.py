"""What a model looks like, as data: frozen dataclasses from which checkpoints, TOML files and flags are made. No torch."""

from dataclasses import dataclass
from typing import Any

from minilm.runtime import option


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. The defaults are the GPT-2 architecture in small; `llama_config` gives the Llama architecture."""

    vocab_size: int = option(1024, "number of different tokens V")
    context_length: int = option(128, "longest sequence the model reads, in tokens")
    d_model: int = option(128, "width of the residual stream D")
    n_layers: int = option(4, "number of transformer blocks")
    n_heads: int = option(4, "query heads H; each has d_model / n_heads numbers")
    n_kv_heads: int | None = option(None, "key/value heads (default: as many as query heads)")
    d_ff: int | None = option(None, "width of the MLP F (default: 4 * d_model)")
    dropout: float = option(0.0, "probability of dropping an activation in training")
    norm: str = option("layer", "layer (LayerNorm) or rms (RMSNorm)")
    mlp: str = option("gelu_tanh", "gelu, gelu_tanh or swiglu")
    rope_theta: float | None = option(None, "base of the rotary positions; none = learned positions")
    tie_embeddings: bool = option(True, "the output head is the embedding table")
    bias: bool = option(True, "linear layers and LayerNorm have a bias")
    norm_eps: float = option(1e-5, "added to the variance in norms")

    def __post_init__(self) -> None:
        for name, default in (("n_kv_heads", self.n_heads), ("d_ff", 4 * self.d_model)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} must be a multiple of n_heads {self.n_heads}")
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}")
        if self.rope_theta is not None and (self.d_head % 2 or not self.rope_theta > 0):
            raise ValueError(
                f"rotary positions need an even head size and theta > 0, got {self.d_head}, {self.rope_theta}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        for name, choices in (("norm", ("layer", "rms")), ("mlp", ("gelu", "gelu_tanh", "swiglu"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}")

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads


def gpt2_config(**changes: Any) -> GPTConfig:
    """The GPT-2 architecture (Radford et al. 2019): LayerNorm, tanh GELU, learned positions, tied head, biases."""
    return GPTConfig(**changes)


def llama_config(**changes: Any) -> GPTConfig:
    """The Llama architecture (Touvron et al. 2023): RMSNorm, SwiGLU, rotary positions, untied head, no biases.

    The MLP has three matrices instead of two, so its width is 8/3 of d_model: the same number of parameters.
    """
    d_ff = -(-changes.get("d_model", 128) * 8 // 3 // 8) * 8
    preset: dict[str, Any] = dict(
        norm="rms", mlp="swiglu", rope_theta=10000.0, tie_embeddings=False, bias=False, d_ff=d_ff
    )
    return GPTConfig(**(preset | {name: value for name, value in changes.items() if value is not None}))


@dataclass(frozen=True)
class SpeedrunConfig:
    """The shape of the speed-run GPT, the recipe that learns most in a few minutes on a laptop."""

    vocab_size: int = option(1024, "number of different tokens V")
    context_length: int = option(128, "longest sequence the model reads, in tokens")
    d_model: int = option(128, "width of the residual stream D")
    n_layers: int = option(3, "number of transformer blocks")
    n_heads: int = option(4, "attention heads H")
    n_shift: int = option(2, "how many previous tokens are mixed into each one before the first block")
    max_ngram: int = option(1, "longest n-gram with a vector of its own; 1 = none")
    ngram_rows: int = option(131072, "rows of the table of n-grams")
    ngram_dropout: float = option(0.5, "probability of leaving out an n-gram's vector in training")
    no_token: int | None = None  # what n-grams read before a text begins (default: vocab_size)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.d_model % (2 * self.n_heads):
            raise ValueError(f"d_model {self.d_model} must be a multiple of 2 * n_heads = {2 * self.n_heads}")
        if self.n_shift < 0:
            raise ValueError(f"n_shift is {self.n_shift}: it must be at least 0")
        for name in ("max_ngram", "ngram_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not 0 <= self.ngram_dropout < 1:
            raise ValueError(f"ngram_dropout is {self.ngram_dropout}: it must be at least 0 and below 1")
