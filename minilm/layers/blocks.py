"""The transformer block: tokens exchange information (attention), then each thinks for itself (MLP).

Both halves add to the residual stream instead of replacing it, and normalise what they read, not what they write
(pre-norm, Xiong et al. 2020): x = x + attention(norm(x)); x = x + mlp(norm(x)).
"""

from collections.abc import Callable

from torch import Tensor, nn

from minilm.layers.attention import MultiHeadAttention
from minilm.layers.basic import Linear, silu
from minilm.layers.kv_cache import KVCache


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
    """(..., D) -> (..., D): silu(gate(x)) decides how much of up(x) passes (Shazeer 2020)."""

    def __init__(self, d_model: int, d_ff: int, bias: bool = False, output_std: float = 0.02) -> None:
        super().__init__()
        self.gate = Linear(d_model, d_ff, bias)
        self.up = Linear(d_model, d_ff, bias)
        self.down = Linear(d_ff, d_model, bias, std=output_std)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(silu(self.gate(x)) * self.up(x))


class TransformerBlock(nn.Module):
    """(B, T, D) -> (B, T, D), made of the parts it is given: an attention, an MLP, a norm for each."""

    def __init__(
        self,
        attention: MultiHeadAttention,
        mlp: nn.Module,
        attention_norm: nn.Module,
        mlp_norm: nn.Module,
        dropout: nn.Module,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.mlp_norm, self.mlp = mlp_norm, mlp
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rotate, cache, layer))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))
