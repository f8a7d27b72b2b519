"""The exercises of lesson 09 on mixing. The oracles count with 50 digits and follow a slope; the mistakes are real ones."""

import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Rule = Callable[[np.ndarray, np.ndarray, float], Any]

# mix_log_probs(neural, counted, weight) -> (N,)


def mixed_in_decimals(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
    """The definition, token by token, in numbers of 50 digits that know exp(-800) as well as any other."""
    with decimal.localcontext(decimal.Context(prec=50)):
        share = Decimal(weight)
        pairs = zip(neural.tolist(), counted.tolist(), strict=True)
        mixed = [share * Decimal(a).exp() + (1 - share) * Decimal(b).exp() for a, b in pairs]
        return np.array([float(p.ln()) for p in mixed])


def pair_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Two to redo on paper, one token, several; tokens that one model or both find impossible; both all but impossible."""
    rng = np.random.default_rng(seed)
    some, other = -rng.gamma(1.0, 2.0, 7), -rng.gamma(1.0, 2.0, 7)
    far = np.array([-800.0, -2.0, -1300.0, -0.5, -1500.0])
    return [
        (np.log([0.5, 0.25]), np.log([0.25, 0.75]), 0.5),
        (np.log([0.1, 0.9]), np.log([0.3, 0.2]), 0.25),
        (np.array([-0.3]), np.array([-40.0]), 0.125),
        (some, other, float(rng.uniform(0.55, 0.95))),
        (some[:5], other[:5], float(rng.uniform(0.05, 0.4))),
        (np.array([-math.inf, -1.0, -math.inf]), np.array([-2.0, -math.inf, -math.inf]), 0.3),
        (far, np.array([-801.0, -1400.0, -0.75, -900.0, -1499.5]), 0.8),
        (np.array([-900.0, -903.0, -899.5]), np.array([-901.0, -900.0, -907.0]), 0.35),
    ]


def quiet(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The rule, without numpy's warnings."""

    def silently(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return rule(*arguments)

    return silently


def joined(first: Callable[[float], float], second: Callable[[float], float], exact: bool = True) -> Rule:
    """The sum of both probabilities with factors made of the weight, safely or by exp."""

    def rule(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
        one, other = first(weight), second(weight)
        if exact:
            return np.logaddexp(neural + np.log(one), counted + np.log(other))
        return np.log(one * np.exp(neural) + other * np.exp(counted))

    return quiet(rule)


def shifted(top: Callable[[np.ndarray, np.ndarray], Any], back: bool = True) -> Rule:
    """Take `top` away before the exp, and (unless forgotten) put it back afterwards."""

    def rule(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
        highest = top(neural, counted)
        mixed = np.log(weight * np.exp(neural - highest) + (1 - weight) * np.exp(counted - highest))
        return mixed + highest if back else mixed

    return quiet(rule)


def row_top(neural: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The larger of both, or 0 where both are -inf."""
    top = np.maximum(neural, counted)
    return np.where(np.isinf(top), 0.0, top)


def loop(neural: np.ndarray, counted: np.ndarray, weight: float) -> np.ndarray:
    answer = np.empty_like(neural)
    for i, (a, b) in enumerate(zip(neural + math.log(weight), counted + math.log(1 - weight), strict=True)):
        low, high = sorted((a, b))
        answer[i] = high if low == -math.inf else high + math.log1p(math.exp(low - high))
    return answer


WEIGHTS: tuple[tuple[str, Callable[[float], float], Callable[[float], float], str], ...] = (
    ("wrong side", lambda w: 1 - w, lambda w: w, "the weight belongs to the neural model, the rest to the counted one"),
    ("no weights", lambda w: 1.0, lambda w: 1.0, "two probabilities added may exceed 1: what share does each get?"),
    ("equal weights", lambda w: 0.5, lambda w: 0.5, "one model may deserve more trust than the other: use the weight"),
    ("one weight", lambda w: w, lambda w: 1.0, "the counted model does not speak with its full voice: what is left?"),
    ("the same weight twice", lambda w: w, lambda w: w, "the two weights sum to 1: which one is the other's?"),
)
SAFER = "And exp(-800) is 0 for a computer: add in the logarithm, as np.logaddexp does"

MIX = Exercise(
    "mix_log_probs",
    "for one token: what is the logarithm of weight * exp(a)? Then find the numpy function that adds in the logarithm",
    pair_inputs,
    mixed_in_decimals,
    (
        Mistake(
            "logarithms averaged",
            quiet(lambda a, b, w: w * a + (1 - w) * b),
            "that is a geometric mean: if one model says 0 so does the mixture. Average the probabilities themselves",
        ),
        *(Mistake(name, joined(one, other), hint) for name, one, other, hint in WEIGHTS),
        *(
            Mistake(f"{name}, underflow", joined(one, other, exact=False), f"two things: {hint} {SAFER}")
            for name, one, other, hint in WEIGHTS
        ),
        Mistake(
            "underflow",
            joined(lambda w: w, lambda w: 1 - w, exact=False),
            "exp(-800) is 0 for a computer, and the logarithm of 0 is -inf: add in the logarithm, as np.logaddexp does",
        ),
        Mistake(
            "small number added",
            quiet(lambda a, b, w: np.log(w * np.exp(a) + (1 - w) * np.exp(b) + 1e-12)),
            "a small number added hides the underflow and changes every answer: add in the logarithm instead",
        ),
        Mistake(
            "small number for zero",
            quiet(lambda a, b, w: np.log(np.maximum(w * np.exp(a) + (1 - w) * np.exp(b), 1e-300))),
            "a floor under the probability makes up an answer: what both models say of that token is known",
        ),
        Mistake(
            "probabilities returned",
            quiet(lambda a, b, w: w * np.exp(a) + (1 - w) * np.exp(b)),
            "logarithms come in and logarithms go out",
        ),
        Mistake(
            "weights as logarithms",
            quiet(lambda a, b, w: np.logaddexp(a + w, b + 1 - w)),
            "a factor of the probability becomes a summand of the logarithm: which one?",
        ),
        Mistake(
            "weights as factors",
            quiet(lambda a, b, w: np.logaddexp(w * a, (1 - w) * b)),
            "a weight times a logarithm is a power: the weight must multiply the probability",
        ),
        Mistake(
            "the larger part",
            quiet(lambda a, b, w: np.maximum(a + math.log(w), b + math.log(1 - w))),
            "both parts count, also the smaller one: add them",
        ),
        Mistake(
            "the better model",
            quiet(lambda a, b, w: np.maximum(a, b)),
            "which model is better is known only when the token has come: a mixture must say its share before",
        ),
        Mistake(
            "bits",
            quiet(lambda a, b, w: np.logaddexp(a + math.log(w), b + math.log(1 - w)) / math.log(2)),
            "nats come in and nats go out: nothing is divided by log 2",
        ),
        Mistake(
            "weights in bits",
            quiet(lambda a, b, w: np.logaddexp(a + np.log2(w), b + np.log2(1 - w))),
            "the logarithms here are natural ones: log2 of the weight does not fit to them",
        ),
        Mistake(
            "surprise",
            quiet(lambda a, b, w: -np.logaddexp(a + math.log(w), b + math.log(1 - w))),
            "log-probabilities are asked for, which are never above 0",
        ),
        Mistake(
            "one top for all",
            shifted(lambda a, b: np.maximum(a, b).max()),
            "the largest number of all tokens does not help a token far below it: each needs its own",
        ),
        Mistake(
            "the top is not put back",
            shifted(row_top, back=False),
            "what was taken away before the exp must be added again after the log",
        ),
        Mistake(
            "always the neural on top",
            shifted(lambda a, b: a),
            "what if the other one is larger by 800, or this one -inf? Take away the larger of the two",
        ),
        Mistake(
            "-inf less -inf",
            shifted(np.maximum),
            "where both say -inf, -inf - -inf is nan: np.logaddexp knows what to do",
        ),
        Mistake(
            "summed up",
            quiet(lambda a, b, w: np.logaddexp(a + math.log(w), b + math.log(1 - w)).sum()),
            "each token has an answer of its own",
        ),
        Mistake(
            "averaged",
            quiet(lambda a, b, w: np.logaddexp(a + math.log(w), b + math.log(1 - w)).mean()),
            "each token has an answer of its own; averaging comes later",
        ),
    ),
    (
        shifted(row_top),
        loop,
        quiet(lambda a, b, w: np.logaddexp.reduce([a + np.log(w), b + np.log1p(-w)])),
    ),
)

EXERCISES = (MIX,)
