"""Discounts: how much probability every n-gram count gives up for what was not seen."""

import logging

import numpy as np

from minilm.classical.config import NgramConfig

logger = logging.getLogger(__name__)
FALLBACK = (0.5, 1.0, 1.5)  # the discounts of a text too small, or too odd, to estimate them


def choose_discounts(config: NgramConfig, counts: list[np.ndarray]) -> np.ndarray:
    """The discounts of each order for the counts 0, 1, 2, 3 and more: (order, 4).

    They are those of the config, or else estimated, or else FALLBACK (its first number for every count, where
    smoothing is interpolated-kneser-ney). The smoothings without discounts get zeros.
    """
    table = np.zeros((config.order, 4))
    if config.discounts:
        table[:, 1:] = config.discounts
    elif config.is_kneser_ney:
        modified = config.smoothing == "kneser-ney"
        found = [estimate_discounts(count, modified) for count in counts]
        table[:, 1:] = [row or (FALLBACK if modified else (FALLBACK[0],) * 3) for row in found]
        # Not order 1: in a small alphabet no token has only one or two different neighbours, however long the text.
        thin = [n for n, row in enumerate(found, start=1) if row is None and n > 1]
        if thin:
            logger.warning("too little text to estimate the discounts of orders %s: taking %s", thin, FALLBACK)
    return table


def estimate_discounts(counts: np.ndarray, modified: bool) -> tuple[float, float, float] | None:
    """(D1, D2, D3+) from n1..n4, how many n-grams have the counts 1..4, or None where they give none above 0.

    Y = n1 / (n1 + 2 n2) and Dj = j - (j + 1) Y n_{j+1} / nj, which is at most j (Chen and Goodman 1998).
    The interpolated Kneser-Ney of 1995 takes Y from every count.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == j)) for j in (1, 2, 3, 4))
    if min(n1, n2) == 0 or (modified and min(n3, n4) == 0):
        return None
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3) if modified else (y, y, y)
    return found if min(found) > 0 else None
