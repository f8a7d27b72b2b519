"""The exercise of lesson 02 on surprise. The oracle takes one logarithm of the whole product; the mistakes are real ones."""

import math
import random
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# negative_log_likelihood(probabilities) -> nats


def by_exponents(probabilities: Sequence[float]) -> float:
    """One product, kept as m * 2^e with m near 1, so that it never becomes 0; one logarithm at the end."""
    mantissa, exponent = 1.0, 0
    for p in probabilities:
        if p == 0:
            return math.inf
        mantissa, more = math.frexp(mantissa * p)
        exponent += more
    return -math.log(mantissa) - exponent * math.log(2)


def guarded(rule: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float]:
    """A rule for probabilities above 0; inf where one of them is 0."""
    return lambda probabilities: math.inf if 0 in probabilities else rule(probabilities)


def surprises(of: Callable[[float], float]) -> Callable[[Sequence[float]], float]:
    """The sum of something at each probability."""
    return lambda probabilities: sum(of(p) for p in probabilities)


def last_or_inf(probabilities: Sequence[float]) -> float:
    nats = 0.0
    for p in probabilities:
        nats = -math.log(p) if p > 0 else math.inf
    return nats


def last_token(probabilities: Sequence[float]) -> float:
    nats = 0.0
    for p in probabilities:
        nats = -math.log(p)
    return nats


# Wrong rules, each of which may stand with or without a guard for 0.
RULES = (
    ("bits", surprises(lambda p: -math.log2(p)), "nats come from the natural logarithm"),
    (
        "digits",
        surprises(lambda p: -math.log10(p)),
        "log10 counts decimal digits; nats are natural logarithms, math.log",
    ),
    (
        "mean",
        lambda ps: -sum(math.log(p) for p in ps) / len(ps),
        "the total is asked for; dividing by the number of tokens comes later",
    ),
    ("sign", surprises(math.log), "the logarithm of a number below 1 is negative, a surprise is not"),
    ("entropy", surprises(lambda p: -p * math.log(p)), "these tokens did come: each counts fully, not p times"),
    (
        "last token",
        last_token,
        "only the last token is left: add to the sum (+=) instead of putting something in its place",
    ),
)


def product_or_inf(probabilities: Sequence[float]) -> float:
    product = math.prod(probabilities)
    return -math.log(product) if product > 0 else math.inf


def numpy_surprise(probabilities: Sequence[float]) -> Any:
    with np.errstate(divide="ignore"):
        return -np.log(np.array(probabilities, dtype=np.float64)).sum()


def probability_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Two to redo on paper, an impossible one, certain ones, thousands, two whose product is 0 for a computer, one, none."""
    draw = random.Random(seed)
    some = [draw.uniform(0.01, 0.99) for _ in range(7)]
    many = [draw.uniform(0.01, 0.4) for _ in range(3001)]
    cases = [[0.5, 0.25], [0.3, 0.0, 0.9], some, [1.0, 0.3, 1.0], [0.6], many, [1e-200, 0.5, 1e-180], [0.0], []]
    return [(case,) for case in cases]


SURPRISE = Exercise(
    "negative_log_likelihood",
    "start a sum at 0 and go through the probabilities: what does each add? Then ask what a probability of 0 must do",
    probability_inputs,
    by_exponents,
    (
        Mistake(
            "product",
            lambda ps: -math.log(math.prod(ps)),
            "a product of many probabilities becomes 0, and 0 has no logarithm: turn each into its surprise first",
        ),
        Mistake(
            "product or inf",
            product_or_inf,
            "no single token here is impossible: your inf comes from a product too small for the computer. Add surprises",
        ),
        Mistake(
            "zero fails",
            lambda ps: -sum(math.log(p) for p in ps),
            "math.log(0) is an error: treat a probability of 0 by itself",
        ),
        Mistake(
            "zero left out",
            lambda ps: -sum(math.log(p) for p in ps if p > 0),
            "a token that was held impossible and came all the same is not free: where does -log p go as p goes to 0?",
        ),
        Mistake(
            "small number",
            lambda ps: -sum(math.log(max(p, 1e-12)) for p in ps),
            "a small number put in place of 0 hides that the model was infinitely wrong: say inf",
        ),
        *(Mistake(name, guarded(rule), hint) for name, rule, hint in RULES),
        *(
            Mistake(f"{name}, and zero fails", rule, f"{hint}. And math.log(0) is an error")
            for name, rule, hint in RULES
        ),
        Mistake(
            "sign, also of inf",
            lambda ps: sum(math.log(p) if p > 0 else -math.inf for p in ps),
            "a surprise is never below 0, and an impossible token surprises without end: which sign is missing?",
        ),
        Mistake(
            "last or inf", last_or_inf, "each step forgets the ones before it: the sum must grow, also past an inf"
        ),
        Mistake(
            "complement",
            surprises(lambda p: 1 - p),
            "1 - p is small for what was likely, but it does not add up as probabilities multiply: a logarithm does",
        ),
        Mistake(
            "log of the sum",
            lambda ps: -math.log(sum(ps)),
            "probabilities of one token after another are multiplied, not added",
        ),
    ),
    (
        numpy_surprise,
        lambda ps: sum(math.log(1 / p) if p else math.inf for p in ps),
        lambda ps: reduce(lambda nats, p: nats - (math.log(p) if p > 0 else -math.inf), ps, 0.0),
    ),
)

EXERCISES = (SURPRISE,)
