"""The transformer block: tokens exchange information (attention), then each thinks for itself (MLP).

Both halves add to the residual stream instead of replacing it, and normalise what they read, not what they write
(pre-norm, Xiong et al. 2020). Other wirings of the same parts are in `wirings.py`.
"""

from collections.abc import Callable

from torch import Tensor, nn

from minilm.layers.attention import MultiHeadAttention
from minilm.layers.basic import Linear, silu
from minilm.layers.kv_cache import KVCache

Change = Callable[[Tensor], Tensor]  # a part of the model that takes x and changes it
# How a block joins its parts: (x, attention, mlp, attention_norm, mlp_norm) -> the new x.
Wiring = Callable[[Tensor, Change, Change, Change, Change], Tensor]


def pre_norm(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    """x (B, T, D) -> (B, T, D): each half reads the stream through its norm, and adds what it found."""
    x = x + attention(attention_norm(x))
    return x + mlp(mlp_norm(x))


def swiglu(x: Tensor, gate: Change, up: Change, down: Change) -> Tensor:
    """x (..., D) -> (..., D): silu(gate(x)) decides how much of up(x), both (..., F), goes into down (Shazeer 2020)."""
    return down(silu(gate(x)) * up(x))


class MLP(nn.Module):
    """(..., D) -> (..., D): widen to F, bend by the activation, narrow again."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: Callable[[Tensor], Tensor],
        bias: bool = True,
        output_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.up = Linear(d_model, d_ff, bias)
        self.down = Linear(d_ff, d_model, bias, std=output_std)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class SwiGLU(nn.Module):
    """`swiglu` with its three matrices, the gate and up (F, D), down (D, F)."""

    def __init__(self, d_model: int, d_ff: int, bias: bool = False, output_std: float = 0.02) -> None:
        super().__init__()
        self.gate = Linear(d_model, d_ff, bias)
        self.up = Linear(d_model, d_ff, bias)
        self.down = Linear(d_ff, d_model, bias, std=output_std)

    def forward(self, x: Tensor) -> Tensor:
        return swiglu(x, self.gate, self.up, self.down)


class TransformerBlock(nn.Module):
    """(B, T, D) -> (B, T, D), made of the parts it is given: an attention, an MLP, a norm for each, and how they are joined."""

    def __init__(
        self,
        attention: MultiHeadAttention,
        mlp: nn.Module,
        attention_norm: nn.Module,
        mlp_norm: nn.Module,
        dropout: nn.Module,
        wiring: Wiring = pre_norm,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.mlp_norm, self.mlp = mlp_norm, mlp
        self.dropout, self.wiring = dropout, wiring

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        def attention(x: Tensor) -> Tensor:
            return self.dropout(self.attention(x, mask, rotate, cache, layer))

        def mlp(x: Tensor) -> Tensor:
            return self.dropout(self.mlp(x))

        return self.wiring(x, attention, mlp, self.attention_norm, self.mlp_norm)
