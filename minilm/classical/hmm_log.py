"""Forward and backward in logarithms: no number is too small, but each step takes K * K exponentials.

The recursions of hmm_chain.py, for the sequences that need them, and for reading them as textbooks write them:

    forward    log a_t(j) = log p(token t | j) + log sum_i exp(log a_{t-1}(i) + log transition(i, j))
    backward   log b_t(i) = log sum_j exp(log transition(i, j) + log p(token t+1 | j) + log b_{t+1}(j))

Both are scaled all the same, by the log-probability of each token: sums of 100,000 logarithms would lose five digits.
"""

import numpy as np


def log_sum(logs: np.ndarray, axis: int = -1) -> np.ndarray:
    """log of the sum of exp(logs) over an axis, which is dropped; -inf where all are -inf.

    >>> log_sum(np.log([[0.25, 0.5], [1e-300, 3e-300]])) - np.log([0.75, 4e-300])
    array([0., 0.])
    """
    top = logs.max(axis, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logs - top).sum(axis)) + np.squeeze(top, axis)


def log_observe(log_expected: np.ndarray, log_likelihood: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bayes' rule in logarithms, (..., K) twice -> log belief (..., K), log p(token) (..., 1).

    A token that no expected state can make teaches nothing, as in `hmm_chain.observe`.
    """
    log_joint = log_expected + log_likelihood
    log_p = log_sum(log_joint)[..., None]
    possible = ~np.isneginf(log_p)
    return np.where(possible, log_joint - np.where(possible, log_p, 0.0), log_expected), log_p


def log_forward(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log beliefs (T, ..., K) and log p(token t | tokens before it) (T, ...), from what `forward_beliefs` takes."""
    with np.errstate(divide="ignore"):
        log_start, log_transition, log_likelihoods = (np.log(a) for a in (start, transition, likelihoods))
    log_beliefs, log_probs = np.empty(likelihoods.shape), np.empty((*likelihoods.shape[:-1], 1))
    log_expected = np.broadcast_to(log_start, likelihoods.shape[1:])
    for t, log_likelihood in enumerate(log_likelihoods):
        log_beliefs[t], log_probs[t] = log_observe(log_expected, log_likelihood)
        log_expected = log_sum(log_beliefs[t][..., :, None] + log_transition, -2)
    return log_beliefs, log_probs[..., 0]


def log_smooth(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p(state | all tokens) (T, ..., K), expected moves (K, K) and log-probabilities (T, ...): `hmm_chain.smooth`.

    ValueError for a sequence that no path can make.
    """
    log_beliefs, log_probs = log_forward(start, transition, likelihoods)
    if np.isneginf(log_probs).any():
        t = int(np.argwhere(np.isneginf(log_probs))[0, 0])
        raise ValueError(
            f"the tokens up to place {t} of a sequence are impossible: no path of states can make them; "
            "give the model a pseudo_count above 0"
        )
    with np.errstate(divide="ignore"):
        log_transition, log_likelihoods = np.log(transition), np.log(likelihoods)
    log_ahead, moves = np.zeros(likelihoods.shape), np.zeros(transition.shape)
    for t in range(len(likelihoods) - 1, 0, -1):
        arrivals = log_likelihoods[t] + log_ahead[t] - log_probs[t][..., None]
        ways = log_transition + arrivals[..., None, :]  # (..., from, to)
        log_ahead[t - 1] = log_sum(ways)
        here = np.exp(log_beliefs[t - 1][..., :, None] + ways)
        if known is not None:
            here = here * known[t][..., None, None]
        moves += here.reshape(-1, *transition.shape).sum(0)
    states = np.exp(log_beliefs + log_ahead)
    return states / states.sum(-1, keepdims=True), moves, log_probs
