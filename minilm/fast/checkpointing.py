"""Activation checkpointing: memory bought with time (Chen et al. 2016).

For the way back a block keeps nearly everything it computed: in our models 30 to 45 times the size of its input, with long
texts and plain attention more. A checkpointed block keeps its input alone and, on the way back, computes the rest once more:
a step takes a third to a half longer, with the memory of one block instead of all.

    model = GPT(config, block=checkpointed(build_block))
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minilm.layers.kv_cache import KVCache
from minilm.layers.mixture_of_experts import MixtureOfExperts


def checkpointed(build_block: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A builder of the same blocks, with the same weights under the same names, that recompute on the way back.

    Dropout draws the same numbers the second time, so the gradients are those of the plain block, bit for bit.
    """

    def build(*parts: Any) -> nn.Module:
        block = build_block(*parts)
        block.forward = functools.partial(_forward, block, block.forward)  # a wrapper around it would change the names
        return block

    return build


def _forward(
    block: nn.Module,
    plain: Callable[..., Tensor],
    x: Tensor,
    mask: Any,
    rotate: Any = None,
    cache: KVCache | None = None,
    layer: int = 0,
) -> Tensor:
    """`plain` of the same arguments. A cache would be filled a second time: with one, nothing is recomputed."""
    if cache is not None:
        return plain(x, mask, rotate, cache, layer)
    how: dict[str, Any] = {}
    if mixtures := [part for part in block.modules() if isinstance(part, MixtureOfExperts)]:
        how["context_fn"] = lambda: (nullcontext(), _balances_restored(mixtures))  # the second is for the way back
    return checkpoint(plain, x, mask, rotate, cache, layer, use_reentrant=False, **how)


@contextmanager
def _balances_restored(mixtures: Sequence[MixtureOfExperts]) -> Iterator[None]:
    """They have the balance losses that they had before: those of the second time nobody would take."""
    balances = [part.balance for part in mixtures]
    try:
        yield
    finally:  # the recomputation ends by an exception, as soon as it has all it needs
        for part, balance in zip(mixtures, balances, strict=True):
            part.balance = balance
