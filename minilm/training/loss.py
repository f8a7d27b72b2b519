"""How wrong is the model: the cross-entropy between its predictions and the tokens that really came."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minilm.layers.basic import log_softmax

IGNORE = -100  # a target with this label is not counted


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Mean of -log p(target) over the counted targets, in nats per token: logits (..., V), targets (...) -> ().

    A model that knows nothing gives each of V tokens the probability 1 / V and loses log V nats per token; a loss of L
    means that it hesitates as if between exp(L) equally likely tokens (its perplexity). Half-precision logits are
    computed in float32. With no counted target the loss is 0, and so are all gradients.

    >>> cross_entropy(torch.zeros(2, 3, 4), torch.tensor([[0, 1, 2], [3, -100, -100]]))  # log 4
    tensor(1.3863)

    Raises ValueError for a label that is neither ignore_index nor in [0, V).
    """
    vocab_size = logits.shape[-1]
    counted = targets != ignore_index
    outside = counted & ((targets < 0) | (targets >= vocab_size))
    if outside.any():
        label = targets[outside][0].item()
        raise ValueError(f"target {label} is not a token: labels go from 0 to {vocab_size - 1}, or are {ignore_index}")
    log_probs = log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)))
    chosen = log_probs.gather(-1, targets.where(counted, 0).unsqueeze(-1)).squeeze(-1)  # (...): log p(target)
    return -chosen.where(counted, 0.0).sum() / counted.sum().clamp(min=1)


# What training makes small: (model, inputs, targets) -> mean loss in nats per counted target.
LossFunction = Callable[[nn.Module, Tensor, Tensor], Tensor]


def next_token_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """`cross_entropy` of the model's guesses: inputs (B, T), targets (B, T) -> ()."""
    return cross_entropy(model(inputs), targets)
