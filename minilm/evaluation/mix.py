"""A GPT and an n-gram asked together: how much each is trusted is decided on training text that neither has learned from."""

from typing import Any

import numpy as np
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.evaluation.evaluate import evaluating, token_log_probs, windows
from minilm.models.counted import CountedLM
from minilm.models.log_linear import LogLinear, fit_powers
from minilm.models.mixture import Mixture, Pair, fit_mixture_weight


def mix(neural: Any, ngram: CountedLM, learned: np.ndarray, held_out: np.ndarray, end_of_text: int) -> Mixture:
    """The mixture of two models with the weight that predicts `held_out` (N,) best.

    `ngram` has counted all the training text and would know held_out by heart, so a twin that has only counted `learned`, the
    part that the neural model learned from, stands in for it while the weight is fitted.
    """
    twin = counted_twin(ngram, learned, end_of_text)
    scored = held_out != end_of_text
    scores = (token_log_probs(model, held_out, end_of_text)[scored] for model in (neural, twin))
    return Mixture(neural, ngram, fit_mixture_weight(*scores))


def mix_log_linear(
    neural: Any,
    ngram: CountedLM,
    learned: np.ndarray,
    held_out: np.ndarray,
    end_of_text: int,
    max_tokens: int = 20_000,
) -> LogLinear:
    """The log-linear mixture with the powers that predict `held_out` (N,) best; otherwise as `mix`.

    The fit needs what both models say of every token of the vocabulary, 8 V bytes a token, so it takes at most about
    max_tokens, from windows spread evenly over the text.
    """
    pair = LogLinear(neural, counted_twin(ngram, learned, end_of_text), (0.5, 0.5))
    return LogLinear(neural, ngram, fit_powers(*rows_of(pair, held_out, end_of_text, max_tokens)))


def counted_twin(ngram: CountedLM, learned: np.ndarray, end_of_text: int) -> CountedLM:
    """The same model, counted on `learned` only."""
    config: NgramConfig = ngram.config
    return CountedLM(NgramLM(config).fit(learned, end_of_text))


def rows_of(
    pair: Pair, ids: np.ndarray, end_of_text: int, max_tokens: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities (N, V), (N, V) of both models before each of N tokens of ids, and those tokens (N,)."""
    todo = list(windows(ids, end_of_text, pair.config.context_length or len(ids)))
    n_tokens = sum(stop - first for _, first, stop in todo)
    parts = []
    with evaluating(pair) as device:
        for start, first, stop in todo[:: max(1, -(-n_tokens // max_tokens))]:
            read = torch.from_numpy(ids[start : stop - 1].astype(np.int64)).to(device)
            rows = (log_probs[0, first - stop :].float().cpu().numpy() for log_probs in pair.both(read[None]))
            parts.append((*rows, ids[first:stop]))
    neural, counted, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
    return neural, counted, targets
