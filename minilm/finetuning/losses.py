"""What fine-tuning makes small: cross-entropy over labels, over the ends of a span, and what helps where labels are few or rare.

Both losses are means over what is counted (targets other than IGNORE). So `training.loop.accumulate_gradients`, which
weighs batches by their counts, gives for many small batches what one big batch gives.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minilm.layers.basic import log_softmax
from minilm.training.loss import IGNORE, LossFunction, cross_entropy


def class_weights(counts: Sequence[int]) -> list[float]:
    """N / (C n_c) for the counts n_c of C classes among N examples: all classes weigh alike in sum, the mean example 1.

    >>> class_weights([6, 2])
    [0.6666666666666666, 2.0]
    """
    if not counts or min(counts) < 1:
        raise ValueError(f"the classes occur {list(counts)} times: a class weight needs every class at least once")
    return [sum(counts) / (len(counts) * count) for count in counts]


def smoothed_cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Mean over the counted targets of weights[y] · (-(1 - s) log p(y) - s · mean over c of log p(c)), in nats.

    logits (..., C), targets (...), weights (C,) -> (). With smoothing s each label is taken for right with 1 - s only, and s
    is spread over all C evenly, so that it never pays to be certain (Szegedy et al. 2015). The sum is divided by the number
    of examples, not of their weights: an example's share does not depend on the batch that it comes in. With no counted
    target the loss is 0, and so are all gradients. ValueError for a target that is neither IGNORE nor in [0, C).
    """
    n_classes, counted = logits.shape[-1], targets != IGNORE
    hard = cross_entropy(logits, targets)  # which also looks at the targets
    if smoothing == 0.0 and weights is None:
        return hard
    log_probs = log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)))  # (..., C)
    labels = targets.where(counted, 0)
    chosen = log_probs.gather(-1, labels[..., None]).squeeze(-1)
    losses = -(1.0 - smoothing) * chosen - smoothing * log_probs.mean(-1)
    if weights is not None:
        if weights.shape != (n_classes,):
            raise ValueError(f"there are {weights.numel()} class weights for {n_classes} labels: give one to each")
        losses = losses * weights.to(losses)[labels]
    return losses.where(counted, 0.0).sum() / counted.sum().clamp(min=1)


def label_loss(smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> LossFunction:
    """The loss for `train(loss_function=...)` of a model with logits (B, C) or (B, T, C) and targets (B,) or (B, T).

    ValueError for a smoothing outside 0 to 1, or weights that are not above 0.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}: it must be at least 0 and below 1")
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
    if weights is not None and not (weights.isfinite() & (weights > 0)).all():
        raise ValueError(f"class weights are {weights.tolist()}: they must be above 0")

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = model(inputs)
        if logits.shape[:-1] != targets.shape:
            raise ValueError(
                f"logits {tuple(logits.shape)} need targets {tuple(logits.shape[:-1])}, not {tuple(targets.shape)}"
            )
        return smoothed_cross_entropy(logits, targets, smoothing, weights)

    return loss


def span_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(start) and -log p(end), in nats: scores (B, T, 2), targets (B, 2), places of first and last token.

    A row without an answer has IGNORE twice and is not counted. ValueError for a place behind the end of the text.
    """
    scores = model(inputs).mT  # (B, 2, T): a distribution over T for the start, and one for the end
    if targets.shape != scores.shape[:2]:
        raise ValueError(f"a span is two places, start and end: targets have shape {tuple(targets.shape)}")
    places = targets.clamp(min=0).clamp(max=scores.shape[-1] - 1)
    beyond = scores.gather(-1, places[..., None]).squeeze(-1).isneginf() & (targets != IGNORE)
    if beyond.any():
        raise ValueError(f"place {targets[beyond][0].item()} lies behind the end of its text")
    return cross_entropy(scores, targets)
