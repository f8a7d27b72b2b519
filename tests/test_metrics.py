"""Surprise, perplexity and bits per byte: against exact fractions, decimals of 60 digits, and bytes counted by hand."""

import doctest
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from minilm import metrics
from minilm.metrics import bits_per_byte, negative_log_likelihood, perplexity, text_bits_per_byte


def decimal_surprise(probabilities: list[float]) -> float:
    """The product in decimals, whose exponents go far beyond those of floats, and one logarithm at the end."""
    with localcontext() as context:
        context.prec, context.Emin = 60, -999_999
        product = Decimal(1)
        for p in probabilities:
            product *= Decimal(p)
        return float(-product.ln())


@pytest.mark.parametrize("n", [1, 7, 4001])
def test_surprise_is_the_log_of_the_product_however_long_the_text(n: int) -> None:
    probabilities = np.random.default_rng(n).uniform(1e-4, 1.0, n).tolist()
    assert negative_log_likelihood(probabilities) == pytest.approx(decimal_surprise(probabilities), rel=1e-12)
    assert (math.prod(probabilities) == 0) == (n > 1000)


def test_surprise_at_the_edges() -> None:
    assert negative_log_likelihood([]) == 0.0
    assert math.copysign(1, negative_log_likelihood([1.0, 1])) == 1  # not -0.0
    assert negative_log_likelihood([0.5, 0.0, 1.0]) == math.inf
    assert negative_log_likelihood([5e-324]) == pytest.approx(1074 * math.log(2), rel=1e-12)  # the smallest float
    assert negative_log_likelihood(p for p in (0.25, 0.5)) == pytest.approx(3 * math.log(2), rel=1e-12)
    assert negative_log_likelihood(np.array([0.25, 0.5])) == pytest.approx(3 * math.log(2), rel=1e-12)


@pytest.mark.parametrize("wrong", [-0.1, 1.0000001, math.nan, math.inf, -2.3])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"{wrong} is no probability: it must be from 0 to 1"):
        negative_log_likelihood([0.5, wrong])


def test_perplexity_goes_on_to_the_largest_float() -> None:
    """e^1409 is no float, e^704.5 is one: half of the nats is as far as the mean goes."""
    assert perplexity(1409.0, 2) == pytest.approx(float(Decimal("704.5").exp()), rel=1e-12)
    assert perplexity(1420.0, 2) == perplexity(math.inf, 3) == math.inf
    assert perplexity(0.0, 3) == 1.0


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("e", 1),
        ("\u00e9", 2),
        ("e\u0301", 3),  # the same letter in two characters
        ("\r\n", 2),
        ("\ufeff", 3),
        ("\x00 ", 2),
        ("世", 3),
        ("🦔", 4),
        (" a\tb \n", 6),
        ("👩\u200d👧🇩🇪", 4 + 3 + 4 + 8),
    ],
)
def test_bytes_are_those_of_the_original_text(text: str, n_bytes: int) -> None:
    nats = 3 * n_bytes * math.log(2)
    assert text_bits_per_byte(nats, text) == pytest.approx(3, rel=1e-12)
    assert text_bits_per_byte(nats, text) == bits_per_byte(nats, n_bytes)


def test_a_text_without_bytes_has_no_measure() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        text_bits_per_byte(1.0, "")
    with pytest.raises(ValueError, match="surrogates"):
        text_bits_per_byte(1.0, "half \ud83e")
    assert text_bits_per_byte(math.inf, "a") == math.inf


def test_examples() -> None:
    assert doctest.testmod(metrics).failed == 0 and doctest.testmod(metrics).attempted >= 8
