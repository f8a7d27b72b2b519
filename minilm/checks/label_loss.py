"""The exercise of lesson 10 on the loss of labels: smoothing, class weights. An oracle in plain Python, switches for mistakes."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]
IGNORED = -100

# smoothed_cross_entropy(logits, targets, smoothing, weights) -> ()


def loss_label_by_label(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """One target at a time: what each of the C labels is held for, times its surprise, times the weight of the target's label."""
    losses = []
    for place in itertools.product(*map(range, targets.shape)):
        scores, target = logits[place].tolist(), int(targets[place])
        if target == IGNORED:
            continue
        highest = max(scores)
        total = highest + math.log(math.fsum(math.exp(score - highest) for score in scores))
        held = [smoothing / len(scores) + (1 - smoothing) * (c == target) for c in range(len(scores))]
        loss = math.fsum(share * (total - score) for share, score in zip(held, scores, strict=True))
        losses.append(loss if weights is None else loss * float(weights[target]))
    return torch.tensor(math.fsum(losses) / len(losses) if losses else 0.0, dtype=logits.dtype)


def log_p(x: Tensor) -> Tensor:
    return x - x.logsumexp(-1, keepdim=True)


def chosen(rows: Tensor, labels: Tensor) -> Tensor:
    return rows.gather(-1, labels[..., None])[..., 0]


def mean_of_counted(losses: Tensor, counted: Tensor, w: Tensor) -> Tensor:
    return losses.where(counted, 0.0).sum() / counted.sum().clamp(min=1)


def by_their_weights(losses: Tensor, counted: Tensor, w: Tensor) -> Tensor:
    """As PyTorch's own loss does."""
    total = w.where(counted, 0.0).sum()
    return losses.where(counted, 0.0).sum() / total.where(total > 0, 1.0)


def smoothed(rows: Tensor, labels: Tensor, s: float, w: Tensor) -> Tensor:
    return w * (-(1 - s) * chosen(rows, labels) - s * rows.mean(-1))


def others_only(rows: Tensor, labels: Tensor, s: float, w: Tensor) -> Tensor:
    right = chosen(rows, labels)
    return w * (-(1 - s) * right - s * (rows.sum(-1) - right) / (rows.shape[-1] - 1))


def loss_with(
    logs: Function = log_p,
    one: Function = smoothed,
    mean: Function = mean_of_counted,
    counts: Function = lambda targets: targets != IGNORED,
    weigh: Function = lambda weights, labels: weights[labels],
    then: Function = lambda loss: loss,
    label: Function = lambda targets: targets.where(targets != IGNORED, 0),
) -> Function:
    """The formula with switches: log p, loss of one example, mean, what counts, weight of each, end, which labels to look up."""

    def loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
        counted = counts(targets)
        labels = label(targets)
        plain = torch.ones(targets.shape, dtype=logits.dtype)
        w = plain if weights is None else weigh(weights.to(logits.dtype), labels)
        return then(mean(one(logs(logits), labels, smoothing, w), counted, w))

    return loss


def as_pytorch(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Its own loss: each log p has the weight of its own label, and the sum is divided by the weights of the targets."""
    counted = targets != IGNORED
    w = torch.ones(logits.shape[-1], dtype=logits.dtype) if weights is None else weights
    logs, labels = log_p(logits[counted]) * w, targets[counted]
    return (-(1 - smoothing) * chosen(logs, labels) - smoothing * logs.mean(-1)).sum() / w[labels].sum()


def by_rows(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Only the rows that count."""
    counted = targets != IGNORED
    rows, labels = logits[counted], targets[counted]
    if not len(rows):
        return logits.sum() * 0
    logs = rows - torch.logsumexp(rows, dim=-1, keepdim=True)
    losses = -(1 - smoothing) * logs[torch.arange(len(labels)), labels] - smoothing * logs.mean(dim=-1)
    return (losses if weights is None else losses * weights[labels]).mean()


def by_soft_targets(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """A distribution over the labels for each target, then one product."""
    n_classes, counted = logits.shape[-1], targets != IGNORED
    hot = (torch.arange(n_classes) == targets[..., None]).to(logits.dtype)
    held = ((1 - smoothing) * hot + smoothing / n_classes) * counted[..., None]
    if weights is not None:
        held = held * (hot @ weights.to(logits.dtype))[..., None]
    lower = logits - logits.amax(-1, keepdim=True)
    return -(held * (lower - lower.exp().sum(-1, keepdim=True).log())).sum() / max(int(counted.sum()), 1)


def by_two_losses(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """The loss of hard labels, and what smoothing adds: the distance from the mean score to that of the label."""
    counted = (targets != IGNORED).to(logits.dtype)
    labels = targets.clamp(min=0)
    score = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    losses = logits.logsumexp(-1) - score + smoothing * (score - logits.mean(-1))
    if weights is not None:
        losses = losses * weights.to(logits.dtype)[labels]
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def loss_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand, then drawn: with and without smoothing and weights, ignored labels, more axes, scores far apart, and nothing
    that counts."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def labels(*shape: int, below: int) -> Tensor:
        return torch.randint(1, below, shape, generator=generator)

    def weights(n: int) -> Tensor:
        return 0.3 + 2 * torch.rand(n, generator=generator, dtype=torch.float64)

    far = drawn(3, 4) + torch.tensor([[900.0], [-900.0], [0.0]], dtype=torch.float64)
    far[2, 1] -= 800.0
    some = labels(5, below=3)
    some[1] = IGNORED
    ragged = labels(2, 4, below=5)
    ragged[0, 1:] = IGNORED
    by_hand = torch.log(torch.tensor([[1.0, 3.0]], dtype=torch.float64))
    return [
        (by_hand, torch.tensor([1])),
        (by_hand, torch.tensor([1]), 0.2),
        (by_hand, torch.tensor([1]), 0.0, torch.tensor([0.5, 2.0], dtype=torch.float64)),
        (drawn(4, 3), torch.tensor([2, 0, 1, 1]), 0.15, weights(3)),
        (drawn(5, 3), some, 0.3),
        (drawn(5, 3), some, 0.0, weights(3)),
        (drawn(2, 4, 5), ragged, 0.1, weights(5)),
        (far, torch.tensor([3, 2, 1]), 0.05, weights(4)),
        (drawn(2, 3), torch.full((2,), IGNORED), 0.1, weights(3)),
    ]


SMOOTHED = Exercise(
    "smoothed_cross_entropy",
    "begin with the loss of lesson 07, but keep one loss for each target; then smoothing, then weights, and the mean at the end",
    loss_inputs,
    loss_label_by_label,
    (
        Mistake(
            "no smoothing",
            loss_with(one=lambda rows, labels, s, w: -w * chosen(rows, labels)),
            "what does your function do with `smoothing`? A part s of each target goes to all labels alike",
        ),
        Mistake(
            "no weights",
            loss_with(weigh=lambda weights, labels: torch.ones_like(weights)[labels]),
            "what does your function do with `weights`? The loss of each example is multiplied by that of its label",
        ),
        Mistake(
            "smoothing over the others",
            loss_with(one=others_only),
            "s is spread over all C labels, the right one too: it is -s times the mean of all log p",
        ),
        Mistake(
            "smoothing added on top",
            loss_with(one=lambda rows, labels, s, w: w * (-chosen(rows, labels) - s * rows.mean(-1))),
            "what is given to all labels is taken from the right one, which keeps 1 - s",
        ),
        Mistake(
            "sign of smoothing",
            loss_with(one=lambda rows, labels, s, w: w * (-(1 - s) * chosen(rows, labels) + s * rows.mean(-1))),
            "both parts are surprises, -log p: the mean over all labels has a minus, too",
        ),
        Mistake(
            "smoothing with a sum",
            loss_with(one=lambda rows, labels, s, w: w * (-(1 - s) * chosen(rows, labels) - s * rows.sum(-1))),
            "each of the C labels gets s / C, together s: you give s to each of them",
        ),
        Mistake(
            "smoothing taken away only",
            loss_with(one=lambda rows, labels, s, w: -w * (1 - s) * chosen(rows, labels)),
            "you take s from the right label and give it to nobody",
        ),
        Mistake(
            "shares exchanged",
            loss_with(one=lambda rows, labels, s, w: w * (-s * chosen(rows, labels) - (1 - s) * rows.mean(-1))),
            "the label keeps 1 - s, and s is what is spread: you have them the other way round",
        ),
        Mistake(
            "smoothing unweighted",
            loss_with(one=lambda rows, labels, s, w: -w * (1 - s) * chosen(rows, labels) - s * rows.mean(-1)),
            "the weight belongs to the whole loss of an example, to the smoothed part as well",
        ),
        Mistake(
            "divided by the weights",
            loss_with(mean=by_their_weights),
            "you divide by the sum of the weights, as PyTorch does: here by the number of targets that count, "
            "so that an example weighs the same in every batch",
        ),
        Mistake(
            "as PyTorch",
            as_pytorch,
            "PyTorch divides by the targets' weights (even if that is 0 / 0), and weighs each log p of the smoothed part by its "
            "own label: here one weight, that of the target, is for the whole example, and you divide by the number counted",
        ),
        Mistake(
            "weights along the batch",
            loss_with(weigh=lambda weights, labels: weights),
            "there is a weight for each label, not for each example: look up that of the example's label",
        ),
        Mistake(
            "weights divided by their mean",
            loss_with(weigh=lambda weights, labels: weights[labels] / weights.mean()),
            "use the weights as they are: that their mean is 1 is not this function's business",
        ),
        Mistake(
            "ignored in the mean",
            loss_with(mean=lambda losses, counted, w: losses.where(counted, 0.0).mean()),
            "you divide by all targets: one that does not count has no part in the number either",
        ),
        Mistake(
            "ignored are label 0",
            loss_with(counts=lambda targets: torch.ones_like(targets, dtype=torch.bool)),
            "a target of -100 does not count: its loss must not enter the sum",
        ),
        Mistake(
            "smoothing where nothing counts",
            loss_with(
                one=lambda r, y, s, w: w * (-(1 - s) * chosen(r, y.clamp(min=0)).where(y >= 0, 0.0) - s * r.mean(-1)),
                mean=lambda losses, counted, w: losses.sum() / counted.sum().clamp(min=1),
                weigh=lambda weights, labels: weights[labels.clamp(min=0)],
                label=lambda targets: targets,
            ),
            "the smoothed part of a target that does not count is still in your sum: mask the whole loss",
        ),
        Mistake(
            "gather at -100",  # RuntimeError
            loss_with(weigh=lambda weights, labels: weights[labels.clamp(min=0)], label=lambda targets: targets),
            "gather takes no place -100: put any label there first, say 0, and mask its loss afterwards",
        ),
        Mistake(
            "index -100",  # IndexError
            loss_with(
                one=lambda rows, labels, s, w: smoothed(rows, labels.clamp(min=0), s, w) + 0 * rows.flatten()[labels],
                label=lambda targets: targets,
            ),
            "-100 is no index: keep only the rows that count, or look up label 0 there and mask its loss",
        ),
        Mistake(
            "0 of Python",
            lambda logits, targets, *rest: loss_with()(logits, targets, *rest) if (targets >= 0).any() else 0,
            "where nothing counts the answer is a tensor, too, and a gradient flows through it: logits.sum() * 0",
        ),
        Mistake(
            "0 / 0",
            loss_with(mean=lambda losses, counted, w: losses.where(counted, 0.0).sum() / counted.sum()),
            "in a batch where nothing counts, the sum is 0 and so is the number: what should 0 / 0 be here?",
        ),
        Mistake("sum", loss_with(mean=lambda x, counted, w: x[counted].sum()), "a mean does not grow with the batch"),
        Mistake(
            "losses", loss_with(mean=lambda x, counted, w: x.where(counted, 0)), "one number is asked for: their mean"
        ),
        Mistake(
            "log of the softmax",
            loss_with(logs=lambda x: log_p(x).exp().log()),
            "a probability of exp(-900) is stored as 0, and its log is infinite: never leave the logs",
        ),
        Mistake(
            "scores for log p", loss_with(logs=lambda x: x), "exp of scores does not sum to 1: they are no log p yet"
        ),
        Mistake(
            "softmax over the first axis",
            loss_with(logs=lambda x: x - x.logsumexp(0, keepdim=True)),
            "the probabilities of one example sum to 1: which axis holds its C scores?",
        ),
        Mistake("sign", loss_with(then=lambda loss: -loss), "a log-probability is below 0, a loss is not"),
        Mistake("bits", loss_with(then=lambda loss: loss / math.log(2)), "the loss is in nats: take the natural log"),
    ),
    (by_rows, by_soft_targets, by_two_losses),
    differentiable=True,
)

EXERCISES = (SMOOTHED,)
