"""Choosing an n-gram's order and discounts on text that was kept out of the counting, all of it training text.

`k_fold` and `grid_search` serve any model, `cross_validated_nats` asks an n-gram in every fold. They take their time;
`tune_ngram` is the quick way, with one split and a search that stops early.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM


def k_fold(n: int, k: int) -> list[tuple[list[int], list[int]]]:
    """k ways to split the indices 0 .. n - 1 into (training, validation), both in rising order.

    The indices are dealt like cards: i is validated in fold i % k, and only there. So every index is validated once,
    and the sizes of the folds differ by one at most. ValueError unless 2 <= k <= n.

    >>> k_fold(5, 2)
    [([1, 3], [0, 2, 4]), ([0, 2, 4], [1, 3])]
    """
    if not 2 <= k <= n:
        raise ValueError(f"{k} folds of {n} things: there must be at least 2 folds, and no more than things to deal")
    return [([i for i in range(n) if i % k != fold], list(range(fold, n, k))) for fold in range(k)]


def grid(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the choices, the last one changing fastest; none where an option has no choices.

    >>> grid({"order": [2, 3], "k": [0.5, 0.1]})
    [{'order': 2, 'k': 0.5}, {'order': 2, 'k': 0.1}, {'order': 3, 'k': 0.5}, {'order': 3, 'k': 0.1}]
    """
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def grid_search(score: Callable[..., float], choices: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], float]:
    """The combination of choices with the smallest score, and that score; `score` takes the choices by name.

    All combinations are tried, the last choice changing fastest. Of equals the first one wins, and NaN never does. ValueError if no
    combination has a score below infinity.

    >>> grid_search(lambda order, k: abs(order - 3) + k, {"order": [2, 3, 4], "k": [0.5, 0.1]})
    ({'order': 3, 'k': 0.1}, 0.1)
    """
    best, least = None, float("inf")
    for settings in grid(choices):
        value = score(**settings)
        if value < least:
            best, least = settings, value
    if best is None:
        raise ValueError(f"no combination of {', '.join(choices) or 'nothing'} has a score below infinity")
    return best, least


def cross_validated_nats(
    config: NgramConfig,
    documents: Sequence[Sequence[int] | np.ndarray],
    end_of_text: int,
    folds: Iterable[tuple[Sequence[int], Sequence[int]]],
) -> float:
    """Nats per token of documents, ids (N,) each: in every fold, (training, validation), the model counts the first and

    is asked for the second. The ends of documents are counted, but not asked for. ValueError if nothing is.
    """

    def stream(chosen: Iterable[int]) -> np.ndarray:
        return np.array([end_of_text, *(token for i in chosen for token in (*documents[i], end_of_text))])

    nats, tokens = 0.0, 0
    for training, validation in folds:
        nats += held_out_nats(NgramLM(config).fit(stream(training), end_of_text), stream(validation))
        tokens += sum(len(documents[i]) for i in validation)
    if tokens == 0:
        raise ValueError(
            "the folds validate no tokens at all: give documents that have some, and k_fold of their number"
        )
    return nats / tokens


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
    best, least = NgramLM(replace(config, discounts=())), float("inf")
    for order in sorted(orders):
        model = NgramLM(replace(config, order=order, discounts=())).fit(counted, end_of_text)
        if (loss := held_out_nats(model, held_out)) >= least:
            break
        best, least = model, loss
    tuned = best.config
    if not config.is_kneser_ney:
        return tuned
    for scale in (1.0, *scales):
        discounts = np.minimum(best.discounts * scale, range(4))
        loss = held_out_nats(NgramLM.from_arrays(best.config, best.arrays() | {"discounts": discounts}), held_out)
        if loss <= least:
            tuned, least = replace(best.config, discounts=tuple(map(tuple, discounts[:, 1:].tolist()))), loss
    return tuned


def held_out_nats(model: NgramLM, ids: np.ndarray) -> float:
    """What the model needs for the ids (N,), in nats, without the <|endoftext|> among them."""
    return -float(model.token_log_probs(ids)[ids != model.end_of_text].sum())


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
