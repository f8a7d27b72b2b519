"""What a number of nats means: perplexity and bits per byte. Standard library only."""

import math


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens): among how many equally likely tokens the model seems to choose. Depends on the tokenizer.

    >>> perplexity(2 * math.log(6), tokens=2)  # two rolls of a die
    6.0
    """
    if tokens < 1:
        raise ValueError(f"perplexity of {tokens} tokens: at least 1 is needed")
    mean = nats / tokens
    return math.exp(mean) if mean < 700 else math.inf


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """nats / ln 2 / bytes: what the model needs to write down a byte of the original UTF-8 text, in bits.

    Comparable between tokenizers, because the text has the same bytes under all of them; 8 is no compression at all.

    >>> bits_per_byte(8 * math.log(2), n_bytes=4)  # one choice among 256 tokens, each 4 bytes long
    2.0
    """
    if n_bytes < 1:
        raise ValueError(f"bits per byte of {n_bytes} bytes: at least 1 is needed")
    return nats / math.log(2) / n_bytes
