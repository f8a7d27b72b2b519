"""The cross-entropy of a head and its logits in one: the same number as `minilm.training.loss.cross_entropy`, in less memory.

With a vocabulary of 50,304 the logits of 2,048 tokens take 412 MB in float32, and the plain loss holds them several times
over. Here a chunk of tokens at a time goes all the way: its logits, its loss, the gradient of its logits p - onehot, and
from that the gradients of hidden states and head; then the chunk's logits are forgotten, and the next chunk takes their memory.
The gradients are made on the way forward, where the logits are: to make them on the way back, the logits would have to be
computed a second time, a third more work. A gradient of the loss is a number, by which they are multiplied in the end.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 2**23  # logits held at a time: 34 MB in float32


def _forward_and_back(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """logits (R, V), labels (R, 1) -> the sum of -log p(label), and its gradient p - onehot, in the memory of the logits."""
    logits -= logits.amax(-1, keepdim=True)
    chosen = logits.gather(-1, labels)
    exponentials = logits.exp_()
    normaliser = exponentials.sum(-1, keepdim=True)
    probs = exponentials.div_(normaliser)
    return (normaliser.log() - chosen).sum(), probs.scatter_add_(-1, labels, torch.full_like(chosen, -1.0))


class _LinearCrossEntropy(torch.autograd.Function):
    """hidden (N, D), weight (V, D), targets (N,) -> (): the mean loss, with all products computed in `dtype`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, rows: int) -> Tensor:
        sums = torch.promote_types(dtype, torch.float32)  # what is added up, is added up in float32 at least
        matrix, total = weight.to(dtype), torch.zeros((), dtype=sums, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=sums) if ctx.needs_input_grad[1] else None
        for start in range(0, len(hidden), rows):
            chunk = slice(start, start + rows)
            x = hidden[chunk].to(dtype)
            loss, gradient = _forward_and_back((x @ matrix.mT).to(sums), targets[chunk, None])
            total += loss
            d_logits = gradient.to(dtype)  # (R, V)
            if d_hidden is not None:
                d_hidden[chunk] = d_logits @ matrix
            if d_weight is not None and dtype is sums:
                d_weight.addmm_(d_logits.mT, x)
            elif d_weight is not None:
                d_weight += d_logits.mT @ x
            del gradient, d_logits  # before there are those of the next chunk
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.n_targets, ctx.weight_dtype = max(len(hidden), 1), weight.dtype
        return total / ctx.n_targets

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: to the second derivative these gradients would be constants
            raise RuntimeError(
                "the fused cross-entropy has no second derivative: use the plain one, of logits, for that"
            )
        d_hidden, d_weight = ctx.saved_tensors
        scale = d_loss / ctx.n_targets
        d_hidden = None if d_hidden is None else d_hidden * scale
        d_weight = None if d_weight is None else (d_weight * scale).to(ctx.weight_dtype)
        return d_hidden, d_weight, None, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -100, chunk: int = CHUNK
) -> Tensor:
    """cross_entropy(hidden @ weight.T, targets): hidden (..., D), weight (V, D), targets (...) -> (), nats per token.

    At most `chunk` logits exist at a time, but at least one token's. What is ignored is not computed at all. Under
    autocast the products are in its dtype, as those of a Linear would be. A second derivative is a RuntimeError.

    Raises ValueError for shapes that do not fit, and for a label that is neither ignore_index nor in [0, V).
    """
    vocab_size, d_model = weight.shape
    if hidden.shape != (*targets.shape, d_model):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (hidden, weight, targets))
        raise ValueError(f"hidden, weight and targets have the shapes {shapes}: give (..., D), (V, D) and (...)")
    counted = targets != ignore_index
    outside = counted & ((targets < 0) | (targets >= vocab_size))
    if outside.any():
        label = targets[outside][0].item()
        raise ValueError(f"target {label} is not a token: labels go from 0 to {vocab_size - 1}, or are {ignore_index}")
    places = counted.flatten().nonzero().squeeze(-1)
    rows, labels = hidden.reshape(-1, d_model).index_select(0, places), targets.flatten()[places]
    dtype, device = torch.promote_types(hidden.dtype, weight.dtype), hidden.device.type
    if torch.is_autocast_enabled(device) and dtype is torch.float32:
        dtype = torch.get_autocast_dtype(device)
    if not torch.is_grad_enabled():
        weight = weight.detach()  # a Function would still be told that it needs a gradient
    return _LinearCrossEntropy.apply(rows, weight, labels, dtype, max(1, chunk // vocab_size))


def next_token_loss(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    """`minilm.training.loss.next_token_loss` of a model with `hidden` and `lm_head`, for `train(loss_function=...)`.

    ValueError for a model out of torch.compile: what is compiled is its `forward`, and `hidden` is the original's.
    """
    if hasattr(model, "_orig_mod"):
        raise ValueError(
            "the fused loss calls model.hidden, which torch.compile leaves as it is: train a compiled model with the "
            "plain loss, minilm.training.loss.next_token_loss, or leave out compile"
        )
    return linear_cross_entropy(model.hidden(inputs), model.lm_head.weight, targets)
