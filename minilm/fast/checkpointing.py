"""Activation checkpointing: memory bought with time (Chen et al. 2016).

For the way back a block keeps nearly everything it computed: in our models 30 to 45 times the size of its input, with long
texts and plain attention more. A checkpointed block keeps its input alone and, on the way back, computes the rest once more:
a step takes a third to a half longer, with the memory of one block instead of all.

    model = GPT(config, block=checkpointed(build_block))
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minilm.layers.kv_cache import KVCache


def checkpointed(build_block: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A builder of the same blocks, with the same weights under the same names, that recompute on the way back.

    Dropout draws the same numbers the second time, so the gradients are those of the plain block, bit for bit.
    """

    def build(*parts: Any) -> nn.Module:
        block = build_block(*parts)
        block.forward = functools.partial(_forward, block.forward)  # a wrapper around it would change the names
        return block

    return build


def _forward(
    plain: Callable[..., Tensor], x: Tensor, mask: Any, rotate: Any = None, cache: KVCache | None = None, layer: int = 0
) -> Tensor:
    """`plain` of the same arguments. A cache would be filled a second time: with one, nothing is recomputed."""
    if cache is not None:
        return plain(x, mask, rotate, cache, layer)
    return checkpoint(plain, x, mask, rotate, cache, layer, use_reentrant=False)
