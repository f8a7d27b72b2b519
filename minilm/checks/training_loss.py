"""The exercise of lesson 07 on the loss: cross-entropy. An oracle in plain Python, the formula with switches, alternatives."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# cross_entropy(logits, targets, ignore_index) -> ()


def loss_target_by_target(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """One target at a time, in plain Python: log of how many times exp(score of the target) fits into the sum of all."""
    losses = []
    for place in itertools.product(*map(range, targets.shape)):
        scores, target = logits[place].tolist(), int(targets[place])
        if target != ignore_index:
            highest = max(scores)
            losses.append(math.log(math.fsum(math.exp(s - highest) for s in scores)) - (scores[target] - highest))
    return torch.tensor(math.fsum(losses) / len(losses) if losses else 0.0, dtype=logits.dtype)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    return x - x.logsumexp(dim, keepdim=True)


def without_max(x: Tensor) -> Tensor:
    return x - torch.log(torch.exp(x).sum(-1, keepdim=True))


def max_taken_away_once(x: Tensor) -> Tensor:
    return x - torch.log(torch.exp(x - x.amax(-1, keepdim=True)).sum(-1, keepdim=True))


def max_of_all(x: Tensor) -> Tensor:
    lower = x - x.max()
    return lower - torch.log(torch.exp(lower).sum(-1, keepdim=True))


def counted_mean(losses: Tensor, counted: Tensor) -> Tensor:
    return losses.where(counted, 0.0).sum() / counted.sum().clamp(min=1)


def mean_of_texts(losses: Tensor, counted: Tensor) -> Tensor:
    """A mean for each text, then the mean of these."""
    return (losses.where(counted, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)).mean()


def loss_with(
    log_p: Callable[[Tensor], Tensor] = log_softmax,
    count: Callable[[Tensor, int], Tensor] = lambda targets, ignore_index: targets != ignore_index,
    mean: Callable[[Tensor, Tensor], Tensor] = counted_mean,
    then: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> Any:
    """The formula with switches: what is taken for log p, which targets count, how they are averaged, what is done at the end."""

    def loss(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
        counted = count(targets, ignore_index)
        chosen = log_p(logits).gather(-1, targets.where(counted, 0)[..., None])[..., 0]
        return then(mean(-chosen, counted))

    return loss


def ignored_are_token_0(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    labels = targets.where(targets != ignore_index, 0)
    return -log_softmax(logits).gather(-1, labels[..., None]).mean()


def ignored_stay_in_the_sum(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    counted = targets != ignore_index
    return -log_softmax(logits).gather(-1, targets.where(counted, 0)[..., None]).sum() / counted.sum().clamp(min=1)


def shifted_again(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Compares place t with the target of place t + 1; only where there are texts of tokens."""
    if targets.ndim > 1:
        logits, targets = logits[:, :-1], targets[:, 1:]
    return loss_target_by_target(logits, targets, ignore_index)


def every_target_in_every_row(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    counted = targets != ignore_index
    rows = log_softmax(logits)[counted]
    return -rows[:, targets[counted]].sum() / max(len(rows), 1) ** 2


def loss_by_rows(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """A list of rows, of which only the counted ones are kept."""
    rows, labels = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    rows, labels = rows[labels != ignore_index], labels[labels != ignore_index]
    losses = torch.logsumexp(rows, dim=-1) - rows[torch.arange(len(rows)), labels]
    return losses.sum() / max(len(losses), 1)


def loss_by_one_hot(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """A 1 at the target, 0 elsewhere, nothing but 0 where nothing counts: then one sum over all."""
    hot = (torch.arange(logits.shape[-1]) == targets[..., None]) & (targets != ignore_index)[..., None]
    lower = logits - logits.amax(-1, keepdim=True)
    log_probs = lower - lower.exp().sum(-1, keepdim=True).log()
    return (log_probs * hot).sum() / -max(int(hot.sum()), 1)


def loss_by_logsumexp(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Only the rows that count, each the log of its sum of exp less the target's score."""
    counted = targets != ignore_index
    scores, labels = logits[counted], targets[counted]
    surprise = scores.logsumexp(-1) - scores[torch.arange(len(labels)), labels]
    return surprise.sum() / max(len(labels), 1)


def shares(x: Tensor) -> Tensor:
    """Scores to probabilities along the last axis."""
    exponentials = torch.exp(x - x.amax(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True)


def loss_inputs(seed: int) -> list[tuple[Any, ...]]:
    """One by hand, then drawn ones: texts with unequally many counted targets, other labels to ignore, scores far apart, and
    a batch without any target."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def labels(*shape: int, below: int) -> Tensor:
        return torch.randint(1, below, shape, generator=generator)

    far = drawn(3, 4) + torch.tensor([[1000.0], [-1000.0], [0.0]], dtype=torch.float64)
    far[2, 1] -= 800.0
    ragged = labels(2, 3, below=5)
    ragged[0, 1:] = -100
    fours = labels(2, 4, below=4)
    fours[0, 1:], fours[1, 2] = 4, 4
    ones = labels(3, 2, below=6)
    ones[0, 0] = -1
    return [
        (torch.log(torch.tensor([[1.0, 3.0]], dtype=torch.float64)), torch.tensor([1])),
        (drawn(3, 4), torch.tensor([2, 0, 3])),
        (far, torch.tensor([3, 2, 1])),
        (drawn(2, 3, 5), ragged),
        (drawn(2, 4, 7), fours, 4),
        (drawn(3, 2, 6), ones, -1),
        (drawn(2, 2, 3), torch.full((2, 2), -100)),
    ]


CROSS_ENTROPY = Exercise(
    "cross_entropy",
    "three lines: log p of every token in every row, log p of each row's target (`gather`), and the mean of those that count",
    loss_inputs,
    loss_target_by_target,
    (
        Mistake(
            "mean over all",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).mean()),
            "you divide by all places: a target that is not counted has no part in the mean either",
        ),
        Mistake(
            "ignored counted as token 0",
            ignored_are_token_0,
            "a target that is ignored needs some label to be looked up, but its loss must not enter the sum",
        ),
        Mistake(
            "ignored stay in the sum",
            ignored_stay_in_the_sum,
            "you divide by the right number, but the losses of ignored targets are still in the sum: make them 0 there",
        ),
        Mistake(
            "nothing is ignored",
            loss_with(count=lambda targets, ignore_index: torch.ones_like(targets, dtype=torch.bool)),
            "what is done with a target that equals ignore_index? It is no place in the row",
        ),
        Mistake(
            "ignore_index fixed",
            loss_with(count=lambda targets, ignore_index: targets != -100),
            "which label is ignored is an argument: use the one that is given",
        ),
        Mistake(
            "negative labels ignored",
            loss_with(count=lambda targets, ignore_index: targets >= 0),
            "the label to ignore need not be negative: compare with the one that is given",
        ),
        Mistake(
            "sum",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).sum()),
            "the loss is a mean: it must not grow with the size of the batch",
        ),
        Mistake(
            "one loss for each target",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0)),
            "these are all the losses; what is asked for is one number, their mean",
        ),
        Mistake(
            "mean of the means",
            loss_with(mean=mean_of_texts),
            "texts with few counted targets get too much weight: one sum over all, one division",
        ),
        Mistake(
            "mean over the vocabulary too",
            lambda logits, targets, ignore_index=-100: (
                loss_target_by_target(logits, targets, ignore_index) / logits.shape[-1]
            ),
            "there is one loss in a row, not V of them: by what number is the sum divided?",
        ),
        Mistake(
            "0 / 0",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).sum() / counted.sum()),
            "in a batch where nothing counts, the sum is 0 and so is the number: what should 0 / 0 be here?",
        ),
        Mistake(
            "largest score not taken away",
            loss_with(log_p=without_max),
            "exp(1000) is infinite, and exp(-1000) is 0: take something away from every score of a row first",
        ),
        Mistake(
            "largest taken away once",
            loss_with(log_p=max_taken_away_once),
            "m is taken from every score of the row: in front of the log as well as inside it",
        ),
        Mistake(
            "axis lost",
            loss_with(log_p=lambda x: x - x.logsumexp(-1)),
            "the largest score and the sum must keep a last axis of size 1, to be lined up with the rows: keepdim=True",
        ),
        Mistake(
            "largest of all rows",
            loss_with(log_p=max_of_all),
            "each row has a largest score of its own: with one for all rows, low rows still become 0",
        ),
        Mistake(
            "log of the softmax",
            loss_with(log_p=lambda x: torch.log(shares(x))),
            "a probability of exp(-800) is stored as 0, and its log is infinite: never leave the logs",
        ),
        Mistake(
            "a little added",
            loss_with(log_p=lambda x: torch.log(shares(x) + 1e-9)),
            "adding a small number hides the log of 0, and makes every other answer a little wrong: stay in the logs",
        ),
        Mistake(
            "softmax twice",
            loss_with(log_p=lambda x: log_softmax(shares(x))),
            "the scores are turned into probabilities twice: look for a softmax too many",
        ),
        Mistake(
            "no softmax",
            loss_with(log_p=lambda x: x),
            "scores are not yet log-probabilities: exp of them does not sum to 1",
        ),
        Mistake(
            "softmax over the first axis",
            loss_with(log_p=lambda x: log_softmax(x, 0)),
            "the probabilities of one row sum to 1: which axis holds the V scores?",
        ),
        Mistake(
            "softmax over axis 1",
            loss_with(log_p=lambda x: log_softmax(x, 1)),
            "the V scores lie on the last axis, however many there are before it: count from the end",
        ),
        Mistake(
            "probability for its log",
            loss_with(log_p=lambda x: shares(x)),
            "the loss is the surprise of the target: where is its log?",
        ),
        Mistake(
            "sign",
            loss_with(then=lambda loss: -loss),
            "a log-probability is below 0, a loss is not",
        ),
        Mistake(
            "bits",
            loss_with(then=lambda loss: loss / math.log(2)),
            "the loss is in nats: use the natural logarithm",
        ),
        Mistake(
            "perplexity",
            loss_with(then=torch.exp),
            "exp of the loss is the perplexity; return the loss itself",
        ),
        Mistake(
            "shifted again",
            shifted_again,
            "the batch has shifted the targets already: row t and target t belong together",
        ),
        Mistake(
            "every target in every row",
            every_target_in_every_row,
            "each row has one target, its own: pair the row with it when you pick the place",
        ),
    ),
    (loss_by_rows, loss_by_one_hot, loss_by_logsumexp),
    differentiable=True,
)

EXERCISES = (CROSS_ENTROPY,)
