"""What the probabilities of a model mean: surprise, perplexity and bits per byte. Standard library only."""

import math
from collections.abc import Iterable


def negative_log_likelihood(probabilities: Iterable[float]) -> float:
    """-sum log p in nats: the surprise at a text, from the probability that the model gave to each token that came.

    A sum of logarithms, because the product of a few hundred probabilities is 0 for a computer. A token that the model
    held impossible costs infinitely much; no tokens cost 0. ValueError where a number is no probability.

    >>> negative_log_likelihood([0.5, 0.25, 1.0]) / math.log(2)  # one chance in eight: three coins
    3.0
    """
    nats = 0.0
    for p in probabilities:
        if not 0 <= p <= 1:
            raise ValueError(f"{p} is no probability: it must be from 0 to 1 (a logarithm or a logit needs exp first)")
        nats += -math.log(p) if p > 0 else math.inf
    return nats


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens): among how many equally likely tokens the model seems to choose. Depends on the tokenizer.

    >>> perplexity(2 * math.log(6), tokens=2)  # two rolls of a die
    6.0
    """
    if tokens < 1:
        raise ValueError(f"perplexity of {tokens} tokens: at least 1 is needed")
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """nats / ln 2 / bytes: what the model needs to write down a byte of the original UTF-8 text, in bits.

    Comparable between tokenizers, because the text has the same bytes under all of them; 8 is no compression at all.

    >>> bits_per_byte(8 * math.log(2), n_bytes=4)  # one choice among 256 tokens, each 4 bytes long
    2.0
    """
    if n_bytes < 1:
        raise ValueError(f"bits per byte of {n_bytes} bytes: at least 1 is needed")
    return nats / math.log(2) / n_bytes


def text_bits_per_byte(nats: float, text: str) -> float:
    """nats / ln 2 / bytes, where the bytes are those of the text in UTF-8: the original, not cleaned, cut or normalised.

    >>> text_bits_per_byte(8 * math.log(2), "🦔")  # one character, four bytes
    2.0
    """
    return bits_per_byte(nats, len(text.encode("utf-8")))
