"""The exercises of lesson 02 on perplexity and bits per byte. Oracles by other formulas, and the mistakes of learners."""

import math
import random
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

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
        Mistake("base 10", lambda nats, n: 10 ** (nats / n), "10 undoes log10, and nats were not made with it"),
        Mistake(
            "logarithm again",
            lambda nats, n: math.log(nats / n),
            "nats are logarithms already: undo the logarithm, do not take it twice",
        ),
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
        "İSTANBUL",  # its lower case is a byte longer
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
        Mistake(
            "lower case",
            per(lambda text: len(text.lower().encode())),
            "the text as it is: small letters are another text, and İ in small is longer",
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
        Mistake("bits only", lambda nats, text: nats / math.log(2), "bits for each *byte*: one division is left"),
        Mistake(
            "upside down",
            lambda nats, text: len(text.encode()) / (nats / math.log(2)),
            "this is bytes for each bit: what is divided by what?",
        ),
        Mistake(
            "rounded",
            lambda nats, text: nats / 0.693 / len(text.encode()),
            "nearly right: 0.693 is rounded, and on a whole text that adds up. Use math.log(2)",
        ),
        Mistake(
            "0.7",
            lambda nats, text: nats / 0.7 / len(text.encode()),
            "nearly right: 0.7 is only about log 2. Let the computer do it, with math.log(2)",
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

EXERCISES = (PERPLEXITY, BITS)
