"""The exercise of lesson 15 on when a search may end: an oracle that tries every length, its mistakes, other right solutions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator

from minilm.checks.compare import Exercise, Mistake

# best_reachable(log_prob, length, room, length_penalty) -> score


def best_of_all_lengths(
    log_prob: float,
    length: int,
    room: int,
    length_penalty: float,
    score: Callable[[float, int, float], float] = lambda log_prob, n, penalty: log_prob / n**penalty,
    choose: Callable[..., float] = max,
    more: int = 1,
    beyond: int = 0,
) -> float:
    """Try every length at which a text of this beam may end. The switches make the mistakes."""
    return choose(score(log_prob, n, length_penalty) for n in range(length + more, room + 1 + beyond))


def bounded(**switch: Any) -> Callable[..., float]:
    """All lengths with switches thrown."""
    return lambda *arguments: best_of_all_lengths(*arguments, **switch)


def some_bounds(seed: int) -> list[tuple[float, int, int, float]]:
    """By hand; then every sign of the penalty, room for one token only, and random ones."""
    generator = Generator().manual_seed(seed)
    cases = [(-6.0, 2, 4, 1.0), (-6.0, 2, 4, -1.0), (-6.0, 2, 4, 0.0), (-6.0, 2, 3, 0.5)]
    for penalty in (0.7, -0.6, 2.0, -1.5, 1.0):
        length, more = torch.randint(2, 9, (2,), generator=generator).tolist()
        log_prob = -20 * torch.rand(1, generator=generator, dtype=torch.double).item() - 0.1
        cases.append((log_prob, length, length + more, penalty))
    return cases


def shifted(log_prob: float, n: int, penalty: float) -> float:
    return log_prob / ((5 + n) / 6) ** penalty


BEST_REACHABLE = Exercise(
    "best_reachable",
    "log p can only fall, so at best it stays. What remains to choose is the length: at which one is the quotient largest?",
    some_bounds,
    best_of_all_lengths,
    (
        Mistake(
            "as it stands",
            lambda log_prob, length, room, a: log_prob / length**a,
            "this is the score now: a beam that is dropped for it might still have won by growing longer",
        ),
        Mistake(
            "the longest always",
            lambda log_prob, length, room, a: log_prob / room**a,
            "and with a penalty below 0? Then a longer text divides by less, and the negative number falls",
        ),
        Mistake(
            "the next token always",
            lambda log_prob, length, room, a: log_prob / (length + 1) ** a,
            "and with a penalty above 0? Then a longer text divides by more: where does that end?",
        ),
        Mistake(
            "the worst",
            bounded(choose=min),
            "log p is negative: dividing it by *more* makes the score better. You have the signs the wrong way round",
        ),
        Mistake(
            "no token more",
            bounded(more=0),
            "a beam has not ended yet: its text will have at least length + 1 tokens",
        ),
        Mistake("one beyond", bounded(beyond=1), "the longest text has `room` tokens, not one more"),
        Mistake(
            "room behind the beam",
            lambda log_prob, length, room, a: best_of_all_lengths(log_prob, length, length + room, a),
            "`room` is the whole length of the longest text, from its first new token on, not what is left behind the beam",
        ),
        Mistake(
            "what is left",
            lambda log_prob, length, room, a: log_prob / (room - length) ** a,
            "a score divides by the length of the *whole* text, beam included, not by what is still to come",
        ),
        Mistake(
            "multiplied",
            bounded(score=lambda log_prob, n, a: log_prob * n**a),
            "log p is divided by length ** penalty, not multiplied",
        ),
        Mistake("no penalty", lambda log_prob, *_: log_prob, "divide by length ** length_penalty"),
        Mistake(
            "times the penalty",
            bounded(score=lambda log_prob, n, a: log_prob / (n * a)),
            "length ** penalty is a power, not a product: with penalty 0 it is 1",
        ),
        Mistake(
            "another formula",
            bounded(score=shifted),
            "((5 + length) / 6) ** penalty is another rule (Wu et al.): here it is length ** penalty",
        ),
        Mistake(
            "the mean goes on",
            lambda log_prob, length, room, a: max(log_prob / length * n / n**a for n in range(length + 1, room + 1)),
            "the next tokens need not cost what the last ones did: at best they have probability 1 and cost nothing",
        ),
    ),
    (
        lambda log_prob, length, room, a: max(log_prob / (length + 1) ** a, log_prob / room**a),
        lambda log_prob, length, room, a: -math.exp(math.log(-log_prob) - a * math.log(room if a >= 0 else length + 1)),
        lambda log_prob, length, room, a: log_prob * min(float(n) ** -a for n in (room, length + 1)),
    ),
)

EXERCISES = (BEST_REACHABLE,)
