"""Choosing an n-gram's order and discounts on text that was kept out of the counting, all of it training text."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM


def tune_ngram(
    config: NgramConfig,
    ids: np.ndarray,
    end_of_text: int,
    orders: Iterable[int] = range(2, 9),
    scales: Iterable[float] = (0.9, 1.1, 1.2),
) -> NgramConfig:
    """The config with the order, and for Kneser-Ney the discounts, that predict the last tenth of ids (N,) best.

    The first nine tenths are counted. Orders are tried upwards until one is no better than the order before it. Then
    the estimated discounts are multiplied by each scale: other documents hold a little more that is new than the
    estimate, made from the counted ones, expects. Count all of ids with the result.
    """
    counted, held_out = split_last_tenth(np.asarray(ids), end_of_text)

    def nats(model: NgramLM) -> float:
        return -float(model.token_log_probs(held_out)[held_out != end_of_text].sum())

    best, least = NgramLM(replace(config, discounts=())), float("inf")
    for order in sorted(orders):
        model = NgramLM(replace(config, order=order, discounts=())).fit(counted, end_of_text)
        if (loss := nats(model)) >= least:
            break
        best, least = model, loss
    tuned = best.config
    if not config.is_kneser_ney:
        return tuned
    for scale in (1.0, *scales):
        discounts = np.minimum(best.discounts * scale, range(4))
        loss = nats(NgramLM.from_arrays(best.config, best.arrays() | {"discounts": discounts}))
        if loss <= least:
            tuned, least = replace(best.config, discounts=tuple(map(tuple, discounts[:, 1:].tolist()))), loss
    return tuned


def split_last_tenth(ids: np.ndarray, end_of_text: int) -> tuple[np.ndarray, np.ndarray]:
    """The first nine tenths of ids and the rest, cut where a document begins if one does near by (5 % of the ids)."""
    if len(ids) < 20:
        raise ValueError(f"{len(ids)} tokens are too few to keep some out: give at least 20, or name the order")
    cut = len(ids) - len(ids) // 10
    begins = np.flatnonzero(ids == end_of_text)
    near = begins[np.abs(begins - cut) <= len(ids) // 20]
    if len(near):
        cut = int(near[np.argmin(np.abs(near - cut))])
    return ids[:cut], ids[cut:]
