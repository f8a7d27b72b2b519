"""The readable attention beside torch's fused kernel and beside our tiles, forward and backward: time, and memory against T.

All lengths read the same 2,048 tokens, in fewer and longer rows: what grows with T is the price of attention.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.layers.attention import AttentionFunction, scaled_dot_product_attention
from minilm.layers.masks import causal_mask
from minilm.layers.tiled_attention import tiled_attention

LENGTHS = (64, 256, 1024, 2048)
TOKENS = 2048
Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def contests() -> Contests:
    """What is compared, and the megabytes that each side keeps for its backward pass -> (one, other)."""
    rows: Contests = {}
    for length in LENGTHS:
        plain = pass_of(scaled_dot_product_attention, length)
        for name, one, other in (
            ("readable attention / fused", plain, pass_of(fused, length)),
            ("tiled attention / readable", pass_of(tiled_attention, length), plain),
        ):
            kept = " / ".join(f"{megabytes_kept(side):.0f}" for side in (one, other))
            rows[f"{name}, T = {length} ({kept} MB kept)"] = (both_ways(one), both_ways(other))
    return rows


def pass_of(attention: AttentionFunction, length: int) -> Callable[[], Tensor]:
    """A causal forward pass over TOKENS tokens in rows of `length`, 4 heads of 64."""
    generator = torch.Generator().manual_seed(0)
    shape = (TOKENS // length, 4, length, 64)
    q, k, v = (torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3))
    mask = causal_mask(length)
    return lambda: attention(q, k, v, mask)


def both_ways(forward: Callable[[], Tensor]) -> Callable[[], object]:
    """The forward pass, then the backward pass."""
    return lambda: forward().square().sum().backward()


def megabytes_kept(forward: Callable[[], Tensor]) -> float:
    """The size of all tensors that autograd keeps from the forward pass until the backward pass, each counted once."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = forward()  # alive while the sizes are noted, so that no two of its tensors share an address
    del out
    return sum(sizes.values()) / 1e6
