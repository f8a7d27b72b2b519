"""A GPT and an n-gram asked together: how much each is trusted is decided on training text that neither has learned from."""

from typing import Any

import numpy as np

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.evaluation.evaluate import token_log_probs
from minilm.models.counted import CountedLM
from minilm.models.mixture import Mixture, fit_mixture_weight


def mix(neural: Any, ngram: CountedLM, learned: np.ndarray, held_out: np.ndarray, end_of_text: int) -> Mixture:
    """The mixture of two models with the weight that predicts `held_out` (N,) best.

    `ngram` has counted all the training text and would know held_out by heart, so a twin that has only counted `learned`, the
    part that the neural model learned from, stands in for it while the weight is fitted.
    """
    config: NgramConfig = ngram.config
    twin = NgramLM(config).fit(learned, end_of_text)
    scored = held_out != end_of_text
    scores = (token_log_probs(neural, held_out, end_of_text), twin.token_log_probs(held_out))
    return Mixture(neural, ngram, fit_mixture_weight(*(score[scored] for score in scores)))
