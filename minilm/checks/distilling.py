"""The exercise of lesson 16 on distillation: an oracle in plain Python, the formula with switches, other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

IGNORE = -100
Change = Callable[[Tensor], Tensor]

# distillation_loss(teacher, student, targets, temperature=1.0) -> ()


def place_by_place(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """One place, one token of the vocabulary at a time."""

    def logs(scores: list[float]) -> list[float]:
        top = max(scores)
        total = math.log(math.fsum(math.exp((score - top) / temperature) for score in scores))
        return [(score - top) / temperature - total for score in scores]

    losses = []
    for place in itertools.product(*map(range, targets.shape)):
        if int(targets[place]) != IGNORE:
            pairs = zip(logs(teacher[place].tolist()), logs(student[place].tolist()), strict=True)
            losses.append(math.fsum(math.exp(wanted) * (wanted - found) for wanted, found in pairs))
    mean = math.fsum(losses) / len(losses) if losses else 0.0
    return torch.tensor(temperature**2 * mean, dtype=student.dtype)


def logs_of(x: Tensor, dim: int = -1) -> Tensor:
    return x - x.logsumexp(dim, keepdim=True)


def shares(x: Tensor) -> Tensor:
    exponentials = torch.exp(x - x.amax(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True)


def divergence(wanted: Tensor, found: Tensor) -> Tensor:
    """Log-probabilities of teacher and student -> the terms of KL(teacher || student)."""
    return wanted.exp() * (wanted - found)


def counted_mean(losses: Tensor, counted: Tensor) -> Tensor:
    return losses.where(counted, 0.0).sum() / counted.sum().clamp(min=1)


def loss_with(
    teacher_logs: Callable[[Tensor, float], Tensor] = lambda x, tau: logs_of(x / tau),
    student_logs: Callable[[Tensor, float], Tensor] = lambda x, tau: logs_of(x / tau),
    terms: Callable[[Tensor, Tensor], Tensor] = divergence,
    add: Change = lambda terms: terms.sum(-1),
    count: Change = lambda targets: targets != IGNORE,
    mean: Callable[[Tensor, Tensor], Tensor] = counted_mean,
    factor: Callable[[float], float] = lambda tau: tau**2,
) -> Any:
    """The formula; its parts make the mistakes."""

    def loss(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
        wanted, found = teacher_logs(teacher, temperature), student_logs(student, temperature)
        return factor(temperature) * mean(add(terms(wanted, found)), count(targets))

    return loss


def both(logs: Callable[[Tensor, float], Tensor], **more: Any) -> Any:
    """The same wrong logarithms for teacher and student."""
    return loss_with(logs, logs, **more)


def mean_of_texts(losses: Tensor, counted: Tensor) -> Tensor:
    return (losses.where(counted, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)).mean()


def best_only(wanted: Tensor, found: Tensor) -> Tensor:
    return -found * (wanted == wanted.amax(-1, keepdim=True))


def rows_that_count(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Ignored places are dropped at the beginning."""
    kept = targets != IGNORE
    p, q = (logits[kept] / temperature for logits in (teacher, student))
    p, q = p - torch.logsumexp(p, -1, keepdim=True), q - torch.logsumexp(q, -1, keepdim=True)
    return temperature**2 * (torch.exp(p) * (p - q)).sum() / max(len(p), 1)


def by_entropies(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """The cross-entropy less the teacher's own entropy."""
    wanted, found = logs_of(teacher / temperature), logs_of(student / temperature)
    p = shares(teacher / temperature)
    cross, own = -(p * found).sum(-1), -(p * wanted).sum(-1)
    counted = (targets != IGNORE).to(p.dtype)
    return ((cross - own) * counted).sum() * temperature**2 / counted.sum().clamp(min=1)


def by_ratios(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """The mean of (logit of the teacher - logit of the student) under the teacher, less how far apart the two totals are."""
    a, b = teacher / temperature, student / temperature
    apart = torch.logsumexp(a, -1) - torch.logsumexp(b, -1)
    losses = torch.einsum("...v,...v->...", shares(a), a - b) - apart
    kept = losses[targets != IGNORE]
    return temperature * temperature * kept.sum() / max(kept.numel(), 1)


def distilling_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; several temperatures; texts with unequally many counted places; logits far apart; nothing that counts."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def labels(*shape: int) -> Tensor:
        return torch.randint(0, 4, shape, generator=generator)

    hand = [torch.log(torch.tensor([row], dtype=torch.float64)) for row in ([1.0, 3.0], [1.0, 1.0])]
    far = drawn(3, 6) + torch.tensor([[1000.0], [-1000.0], [0.0]], dtype=torch.float64)
    far[2, 1] -= 900.0
    ragged = labels(2, 3)
    ragged[0, 1:] = IGNORE
    one = labels(3, 2)
    one[1, 0] = IGNORE
    return [
        (*hand, torch.tensor([0]), 1.0),
        (drawn(3, 4), drawn(3, 4), labels(3), 2.5),
        (far, drawn(3, 6), labels(3), 0.8),
        (drawn(3, 6), far, labels(3), 1.5),
        (drawn(2, 3, 5), drawn(2, 3, 5), ragged, 1.7),
        (drawn(3, 2, 7), drawn(3, 2, 7), one, 3.0),
        (drawn(2, 2, 3), drawn(2, 2, 3), torch.full((2, 2), IGNORE), 2.0),
    ]


DISTILLATION = Exercise(
    "distillation_loss",
    "divide both logits by the temperature, take log-probabilities of both, and sum p (log p - log q) over the vocabulary",
    distilling_inputs,
    place_by_place,
    (
        Mistake(
            "tau squared forgotten",
            loss_with(factor=lambda tau: 1.0),
            "the higher the temperature, the smaller this becomes, by its square: which factor gives it back?",
        ),
        Mistake(
            "tau for its square", loss_with(factor=lambda tau: tau), "the factor is the *square* of the temperature"
        ),
        Mistake(
            "divided by tau squared",
            loss_with(factor=lambda tau: 1 / tau**2),
            "the loss shrinks at a high temperature all by itself: multiply by the square, do not divide",
        ),
        Mistake(
            "the other way round",
            loss_with(terms=lambda wanted, found: divergence(found, wanted)),
            "the teacher's probabilities are the weights, and its logarithm stands first: KL(teacher || student)",
        ),
        Mistake(
            "minus",
            loss_with(terms=lambda wanted, found: -divergence(wanted, found)),
            "a divergence is never below 0: look at the order inside the brackets",
        ),
        Mistake(
            "teacher at temperature 1",
            loss_with(teacher_logs=lambda x, tau: logs_of(x)),
            "the teacher's logits are divided by the temperature, too",
        ),
        Mistake(
            "student at temperature 1",
            loss_with(student_logs=lambda x, tau: logs_of(x)),
            "the student's logits are divided by the temperature, too: else it would have to become as vague as that",
        ),
        Mistake(
            "no temperature",
            both(lambda x, tau: logs_of(x)),
            "the factor alone is not enough: where are the logits divided by the temperature?",
        ),
        Mistake(
            "no temperature at all",
            both(lambda x, tau: logs_of(x), factor=lambda tau: 1.0),
            "the temperature comes in twice: the logits are divided by it, and the sum is multiplied by its square",
        ),
        Mistake(
            "multiplied by the temperature",
            both(lambda x, tau: logs_of(x * tau)),
            "a high temperature makes probabilities more even: divide the logits",
        ),
        Mistake(
            "temperature after the softmax",
            both(lambda x, tau: logs_of(x) / tau, terms=lambda p, q: p.exp() * (p - q)),
            "logarithms divided by the temperature are no log-probabilities any more: divide first, softmax after",
        ),
        Mistake(
            "cross-entropy",
            loss_with(terms=lambda wanted, found: -wanted.exp() * found),
            "its gradient is right, but this is not 0 where student and teacher agree: the teacher's own log p is missing",
        ),
        Mistake(
            "only the best",
            loss_with(terms=best_only),
            "the teacher says more than its first choice: use all its probabilities",
        ),
        Mistake(
            "no weights",
            loss_with(terms=lambda wanted, found: wanted - found),
            "a difference of logarithms counts as much as the teacher thinks of the token: times p",
        ),
        Mistake(
            "log forgotten",
            loss_with(terms=lambda wanted, found: wanted.exp() * (wanted.exp() - found.exp())),
            "the difference is one of logarithms",
        ),
        Mistake(
            "squares of the probabilities",
            loss_with(terms=lambda wanted, found: (wanted.exp() - found.exp()) ** 2),
            "that is a distance, too, but not the divergence: p (log p - log q)",
        ),
        Mistake(
            "no softmax",
            both(lambda x, tau: x / tau),
            "logits are not yet log-probabilities: exp of them does not sum to 1",
        ),
        Mistake(
            "softmax over the first axis",
            both(lambda x, tau: logs_of(x / tau, 0)),
            "the probabilities of one place sum to 1: which axis is the vocabulary?",
        ),
        Mistake(
            "softmax over axis 1",
            both(lambda x, tau: logs_of(x / tau, 1)),
            "the vocabulary lies on the last axis, however many there are before it: count from the end",
        ),
        Mistake(
            "log of the softmax",
            both(lambda x, tau: torch.log(shares(x / tau))),
            "a probability of exp(-800) is stored as 0, and its log is infinite: torch.log_softmax stays in the logs",
        ),
        Mistake(
            "a little added",
            both(lambda x, tau: torch.log(shares(x / tau) + 1e-9)),
            "adding a small number hides the log of 0, and makes other answers a little wrong: stay in the logs",
        ),
        Mistake(
            "mean over the vocabulary",
            loss_with(add=lambda terms: terms.mean(-1)),
            "within a place it is a sum over the vocabulary; the mean is over the places",
        ),
        Mistake(
            "mean over all places",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).mean()),
            "you divide by all places: those whose target is ignored have no part in the mean either",
        ),
        Mistake(
            "nothing is ignored",
            loss_with(count=lambda targets: torch.ones_like(targets, dtype=torch.bool)),
            "places whose target is -100 must not count: the targets are there for nothing else",
        ),
        Mistake(
            "ignored stay in the sum",
            loss_with(mean=lambda losses, counted: losses.sum() / counted.sum().clamp(min=1)),
            "you divide by the right number, but the ignored places are still in the sum: make them 0 there",
        ),
        Mistake(
            "sum",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).sum()),
            "the loss is a mean: it must not grow with the size of the batch",
        ),
        Mistake(
            "one loss for each place",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0)),
            "these are all the losses; what is asked for is one number, their mean",
        ),
        Mistake(
            "divided by the texts",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).sum() / len(losses)),
            'the mean is over places, not over texts (which is what reduction="batchmean" divides by)',
        ),
        Mistake(
            "mean of the means",
            loss_with(mean=mean_of_texts),
            "texts with few counted places get too much weight: one sum over all, one division",
        ),
        Mistake(
            "0 / 0",
            loss_with(mean=lambda losses, counted: losses.where(counted, 0.0).sum() / counted.sum()),
            "in a batch where nothing counts, the sum is 0 and so is the number: what should 0 / 0 be here?",
        ),
    ),
    (rows_that_count, by_entropies, by_ratios, loss_with()),
    differentiable=True,
)

EXERCISES = (DISTILLATION,)
