"""Cross-attention: the tokens of one sequence ask, those of another answer (Vaswani et al. 2017, the decoder's middle part).

A translator reads the English sentence once and looks at it again before each French word. The queries come from the French
tokens x, keys and values from the English ones, `memory`. Nothing is causal here: all of the memory is there from the start.
"""

from torch import Tensor, nn

from minilm.layers.attention import AttentionFunction, merge_heads, scaled_dot_product_attention, split_heads
from minilm.layers.basic import Linear


class CrossAttention(nn.Module):
    """x (B, T, D) and memory (B, S, D') -> (B, T, D): what each token of x found in the memory.

    mask is boolean, broadcast to (B, H, T, S): it hides the padding of the memory. There are no rotary positions, as the
    distance between places of two sequences means nothing.
    """

    def __init__(
        self,
        d_model: int,
        d_memory: int,
        n_heads: int,
        n_kv_heads: int,
        bias: bool = True,
        output_std: float = 0.02,
        attention: AttentionFunction = scaled_dot_product_attention,
    ) -> None:
        super().__init__()
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(
                f"d_model {d_model} must be a multiple of n_heads {n_heads}, and that one of n_kv_heads {n_kv_heads}"
            )
        d_head = d_model // n_heads
        self.n_heads, self.n_kv_heads, self.attention = n_heads, n_kv_heads, attention
        self.q = Linear(d_model, n_heads * d_head, bias)
        self.k = Linear(d_memory, n_kv_heads * d_head, bias)
        self.v = Linear(d_memory, n_kv_heads * d_head, bias)
        self.out = Linear(n_heads * d_head, d_model, bias, std=output_std)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        q = split_heads(self.q(x), self.n_heads)  # (B, H, T, K)
        k = split_heads(self.k(memory), self.n_kv_heads)  # (B, G, S, K)
        v = split_heads(self.v(memory), self.n_kv_heads)
        return self.out(merge_heads(self.attention(q, k, v, mask)))
