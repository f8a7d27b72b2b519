"""The exercises of lesson 02: surprise, perplexity, bits per byte. Oracles by other formulas, and the mistakes of learners."""

import math
import random
import unicodedata
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


def product_or_inf(probabilities: Sequence[float]) -> float:
    product = math.prod(probabilities)
    return -math.log(product) if product > 0 else math.inf


def numpy_surprise(probabilities: Sequence[float]) -> Any:
    with np.errstate(divide="ignore"):
        return -np.log(np.array(probabilities, dtype=np.float64)).sum()


def probability_inputs(seed: int) -> list[tuple[Any, ...]]:
    """None, one, certain ones, thousands, two so small that their product is 0, and some with an impossible token."""
    draw = random.Random(seed)
    some = [draw.uniform(0.01, 0.99) for _ in range(7)]
    many = [draw.uniform(0.01, 0.4) for _ in range(3001)]
    cases = [[0.5, 0.25], some, [1.0, 0.3, 1.0], [0.6], many, [1e-200, 0.5, 1e-180], [0.3, 0.0, 0.9], [0.0], []]
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
        Mistake("bits", guarded(lambda ps: -sum(math.log2(p) for p in ps)), "nats come from the natural logarithm"),
        Mistake(
            "mean",
            guarded(lambda ps: -sum(math.log(p) for p in ps) / len(ps)),
            "the total is asked for; dividing by the number of tokens comes later",
        ),
        Mistake(
            "sign",
            guarded(lambda ps: sum(math.log(p) for p in ps)),
            "the logarithm of a number below 1 is negative, a surprise is not",
        ),
        Mistake(
            "entropy",
            guarded(lambda ps: -sum(p * math.log(p) for p in ps)),
            "these tokens did come: each counts fully, not p times",
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


# perplexity(nats, tokens) -> number of equal choices


def by_series(nats: float, tokens: int) -> float:
    """exp as its power series: 1 + x + x^2/2 + x^3/6 + ..., with x = nats / tokens."""
    if nats == math.inf:
        return math.inf
    terms = [1.0]
    for k in range(1, 200):
        terms.append(terms[-1] * nats / tokens / k)
    return math.fsum(terms)


def perplexity_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Dice, one token, a certain text, thousands of tokens, and a text that was held impossible."""
    draw = random.Random(seed)
    cases: list[tuple[Any, ...]] = [(3 * math.log(6), 3), (draw.uniform(3, 9), 5), (draw.uniform(1, 4), 1)]
    return [*cases, (5000 * draw.uniform(2, 5), 5000), (0.0, 7), (math.inf, 4)]


PERPLEXITY = Exercise(
    "perplexity",
    "first the surprise of one token on average; then undo the logarithm",
    perplexity_inputs,
    by_series,
    (
        Mistake("base 2", lambda nats, n: 2 ** (nats / n), "nats are natural logarithms: undo them with the same base"),
        Mistake(
            "total", lambda nats, n: math.exp(nats), "among how many choices for each token, not for the whole text"
        ),
        Mistake(
            "mean only", lambda nats, n: nats / n, "this is the mean surprise; one step is left: undo the logarithm"
        ),
        Mistake(
            "divided late",
            lambda nats, n: math.exp(nats) / n,
            "the order matters: first the mean, then the exponential",
        ),
        Mistake(
            "upside down",
            lambda nats, n: math.exp(-nats / n),
            "this is the typical probability of a token; ask instead: one choice among how many?",
        ),
        Mistake("swapped", lambda nats, n: math.exp(n / nats), "nats for each token, not tokens for each nat"),
        Mistake(
            "one too few",
            lambda nats, n: math.exp(nats / (n - 1)),
            "every token that was scored counts: n of them, not n - 1",
        ),
        Mistake(
            "bits and e",
            lambda nats, n: math.exp(nats / math.log(2) / n),
            "you turned nats into bits and undid them with e: keep to one base",
        ),
        Mistake(
            "root of the total",
            lambda nats, n: math.exp(nats) ** (1 / n),
            "on paper this is right, but e to the total of a long text is too large for a float",
        ),
        Mistake(
            "whole choices",
            lambda nats, n: round(math.exp(nats / n)),
            "a typical number of choices need not be whole: 6.4 says more than 6",
        ),
    ),
    (
        lambda nats, n: math.e ** (nats / n),
        lambda nats, n: 2 ** (nats / n * math.log2(math.e)),
        lambda nats, n: np.exp(np.float64(nats) / n),
        lambda nats, n: 1 / math.exp(-nats / n) if nats < math.inf else math.inf,
    ),
)


# text_bits_per_byte(nats, text) -> bits


def by_code_points(nats: float, text: str) -> float:
    """UTF-8 spends 1 byte below U+0080, 2 below U+0800, 3 below U+10000, else 4; a nat is log2(e) bits."""
    n_bytes = sum(1 + (ord(c) >= 0x80) + (ord(c) >= 0x800) + (ord(c) >= 0x10000) for c in text)
    return nats * math.log2(math.e) / n_bytes


def per(count: Callable[[str], int]) -> Callable[[float, str], float]:
    """Bits, divided by a count of something else."""
    return lambda nats, text: nats / math.log(2) / count(text)


def numpy_bits(nats: float, text: str) -> Any:
    return np.float64(nats) / np.log(2) / np.frombuffer(text.encode(), dtype=np.uint8).size


def text_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Plain, accented (both ways), with blanks around, CR LF, emoji of several parts, NUL, and other alphabets."""
    draw = random.Random(seed)
    texts = [
        "the cat sat",
        "Zoë ate a crème brûlée",
        "e\u0301te\u0301, nin\u0303o",
        " \tover and out \n",
        "one\r\ntwo\r\n🦔",
        "👩\u200d👩\u200d👧 and 🇩🇪🇫🇷",
        "Привет, 世界\x00!",
        "".join(draw.choice("aé ж世🦔\r\n") for _ in range(30)) + "x",
    ]
    return [(draw.uniform(1.5, 90), text) for text in texts]


BITS = Exercise(
    "text_bits_per_byte",
    "two steps: the nats in bits, and the bytes of the text (lesson 01 showed how a text becomes bytes)",
    text_inputs,
    by_code_points,
    (
        Mistake("characters", per(len), "a character can take up to four bytes: see how long the bytes of 🦔 are"),
        Mistake("words", per(lambda text: len(text.split())), "the measure is for each byte, not for each word"),
        Mistake(
            "UTF-16",
            per(lambda text: len(text.encode("utf-16"))),
            "another encoding has another number of bytes: the house counts those of UTF-8",
        ),
        Mistake(
            "ASCII only",
            per(lambda text: len(text.encode("ascii", errors="ignore"))),
            "the bytes of é and 🦔 count as well: do not ignore what is not ASCII",
        ),
        Mistake(
            "normalised",
            per(lambda text: len(unicodedata.normalize("NFC", text).encode())),
            "the text as it is: joining a letter and its accent makes it shorter",
        ),
        Mistake("stripped", per(lambda text: len(text.strip().encode())), "blanks and line ends at the edges are text"),
        Mistake(
            "line ends",
            per(lambda text: len(text.replace("\r\n", "\n").encode())),
            "CR LF is two bytes, and the original has both",
        ),
        Mistake(
            "nats", lambda nats, text: nats / len(text.encode()), "this is nats per byte: how many nats has a bit?"
        ),
        Mistake(
            "times ln 2",
            lambda nats, text: nats * math.log(2) / len(text.encode()),
            "a nat is more than a bit, so the number must grow when nats become bits",
        ),
        Mistake(
            "share of the size",
            lambda nats, text: nats / math.log(2) / len(text.encode()) / 8,
            "this is the share of its size to which the text would be compressed; bits per byte is 8 times that",
        ),
    ),
    (
        lambda nats, text: nats * math.log2(math.e) / len(bytes(text, "utf-8")),
        lambda nats, text: nats / (math.log(2) * sum(len(c.encode()) for c in text)),
        lambda nats, text: -math.log2(math.exp(-nats)) / len(text.encode("utf-8")),
        numpy_bits,
    ),
)

EXERCISES = (SURPRISE, PERPLEXITY, BITS)
