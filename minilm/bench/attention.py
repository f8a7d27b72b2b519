"""The readable attention beside torch's fused kernel, forward and backward."""

from collections.abc import Callable

import torch

from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.layers.attention import AttentionFunction, scaled_dot_product_attention
from minilm.layers.masks import causal_mask


def contests() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """What is compared -> (readable, fused), at two lengths; 6 heads of 64."""
    generator = torch.Generator().manual_seed(0)

    def step(attention: AttentionFunction, length: int) -> Callable[[], object]:
        q, k, v = (torch.randn(4, 6, length, 64, generator=generator, requires_grad=True) for _ in range(3))
        mask = causal_mask(length)
        return lambda: attention(q, k, v, mask).square().sum().backward()

    return {
        f"readable attention / fused, T = {length}": (step(scaled_dot_product_attention, length), step(fused, length))
        for length in (128, 512)
    }
