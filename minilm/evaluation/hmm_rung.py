"""The rung of the hidden Markov model: learned where the ladder stands, on as much text as a few seconds allow."""

import time
from collections.abc import Callable

import numpy as np

from minilm.classical.config import HMMConfig, HMMTraining
from minilm.classical.hmm_train import Round, learn_hmm
from minilm.evaluation.ladder import Rung, Writer, model_rung
from minilm.models.hmm_lm import HmmLM
from minilm.text.token_file import TokenFile
from minilm.text.tokenizer import Tokenizer

TRAINING = HMMTraining(iterations=30, tolerance=1e-3)


def hmm_rung(
    train: TokenFile,
    validation: TokenFile,
    tokenizer: Tokenizer,
    n_states: int = 32,
    *,
    training: HMMTraining = TRAINING,
    seed: int = 0,
    write: Writer | None = None,
    max_bytes: int | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> tuple[Rung, HmmLM]:
    """A hidden Markov model of the first tokens of `train`, and its rung; `on_round` hears of each round of learning."""
    started = time.perf_counter()
    config = HMMConfig(tokenizer.vocab_size, n_states)
    learned, _ = learn_hmm(config, train.ids, tokenizer.end_of_text, training, np.random.default_rng(seed), on_round)
    model = HmmLM(learned)
    seconds = time.perf_counter() - started
    return model_rung(
        f"HMM, {n_states} states", model, validation, tokenizer, seconds, write=write, max_bytes=max_bytes
    ), model
