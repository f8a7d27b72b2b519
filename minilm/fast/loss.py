"""The cross-entropy of logits by torch's kernel: the same number as `minilm.training.loss.cross_entropy`, in fewer passes.

For small vocabularies. The logits of a large one should never all exist: `minilm.fast.cross_entropy`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Mean of -log p(target) over the counted targets, in nats per token: logits (..., V), targets (...) -> ().

    Half-precision logits are computed in float32. With no counted target the loss is 0, and so are all gradients.
    Raises ValueError for a label that is neither ignore_index nor in [0, V).
    """
    vocab_size, counted = logits.shape[-1], targets != ignore_index
    outside = counted & ((targets < 0) | (targets >= vocab_size))
    if outside.any():
        label = targets[outside][0].item()
        raise ValueError(f"target {label} is not a token: labels go from 0 to {vocab_size - 1}, or are {ignore_index}")
    rows = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, vocab_size)
    total = functional.cross_entropy(rows, targets.flatten(), ignore_index=ignore_index, reduction="sum")
    return total / counted.sum().clamp(min=1)


def next_token_loss(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    """`minilm.training.loss.next_token_loss`, for `train(loss_function=...)`: inputs (B, T), targets (B, T) -> ()."""
    return cross_entropy(model(inputs), targets)
