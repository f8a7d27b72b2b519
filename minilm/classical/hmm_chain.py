"""The three recursions over a chain of hidden states: forward, backward, and Viterbi's. Pure functions on arrays.

A hidden Markov model with K states: `start` (K,) says in which state a sequence begins, `transition` (K, K) in its row i where
it goes from state i, and every state makes tokens with probabilities of its own. The tokens enter as `likelihoods`
(T, ..., K): p(token t | state), for every state. Time comes first, so that one step reads what lies together; behind it
may stand as many axes as you like, for sequences side by side: (T, K) is one sequence, (T, B, K) are B of them.

A product of T probabilities is too small for a float from T = 400 or so. So each step divides by its own sum, the
probability of the token after those before it, and keeps that as a logarithm (Rabiner 1989, V.A): the numbers stay near 1
for any T. One thing can still become too small: a state that is hopeless for long, where no move leads back to it, and
needed after all. `smooth` and `token_log_probs` see that coming, and do the same in logarithms (hmm_log.py), more slowly.

A place that says nothing has likelihood 1 for all states: so shorter sequences are filled up behind their end.

    sum over all paths   forward, backward     what the tokens say, taken together
    best of all paths    viterbi               what happened, most likely, as a whole

Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech recognition".
"""

from typing import NamedTuple

import numpy as np

from minilm.classical.hmm_log import log_forward, log_smooth

SMALLEST = 1e-290  # a product of three numbers above it has lost nothing


class Smoothed(NamedTuple):
    """What all tokens together say about the states.

    `states` (T, ..., K): p(state at t | all tokens). `moves` (K, K): how often one goes from i to j, as expected, over all
    sequences and places that are known. `log_probs` (T, ...): log p(token t | tokens before it), in nats.
    """

    states: np.ndarray
    moves: np.ndarray
    log_probs: np.ndarray


def observe(expected: np.ndarray, likelihood: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bayes' rule for one token: expected states (..., K), p(token | state) (..., K) -> belief (..., K), p(token) (..., 1).

    A token that no expected state can make has probability 0, and teaches nothing: the belief is what was expected.

    >>> observe(np.array([0.5, 0.5]), np.array([0.75, 0.25]))
    (array([0.75, 0.25]), array([0.5]))
    """
    joint = expected * likelihood
    p = joint.sum(-1, keepdims=True)
    return np.divide(joint, p, out=np.array(expected), where=p > 0), p


def forward_beliefs(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs (T, ..., K): p(state at t | tokens up to t); and log p(token t | tokens before it) (T, ...), in nats.

    The sum of the second over time is the log-probability of the tokens. A token that no state can make costs inf.

    >>> likelihoods = np.array([[0.9, 0.2], [0.9, 0.2]])  # two tokens, both likely in state 0
    >>> beliefs, log_probs = forward_beliefs(np.array([0.5, 0.5]), np.array([[0.7, 0.3], [0.3, 0.7]]), likelihoods)
    >>> beliefs.round(3)
    array([[0.818, 0.182],
           [0.883, 0.117]])
    """
    beliefs, p = np.empty(likelihoods.shape), np.empty((*likelihoods.shape[:-1], 1))
    expected = np.broadcast_to(start, likelihoods.shape[1:])
    for t, likelihood in enumerate(likelihoods):
        beliefs[t], p[t] = observe(expected, likelihood)
        expected = beliefs[t] @ transition
    with np.errstate(divide="ignore"):
        return beliefs, np.log(p[..., 0])


def backward(transition: np.ndarray, likelihoods: np.ndarray, beliefs: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """What the tokens after t say about the state at t, (T, ..., K): p(they | state at t) / p(they | tokens up to t).

    `beliefs` and `log_probs` are those of `forward_beliefs`. beliefs * backward(...) = p(state at t | all tokens).
    """
    ahead = np.ones(likelihoods.shape)
    # Where nobody can be, the future would weigh without bound. It weighs nothing: no possible state leads there.
    weights = np.where(beliefs > 0, likelihoods, 0.0) / np.exp(log_probs)[..., None]
    for t in range(len(likelihoods) - 1, 0, -1):
        ahead[t - 1] = (weights[t] * ahead[t]) @ transition.T
    return ahead


def smooth(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, known: np.ndarray | None = None
) -> Smoothed:
    """Forward and backward together: likelihoods (T, ..., K) -> p(state | all tokens), expected moves, log-probabilities.

    `known` (T, ...) is False at places that only fill up: the move into such a place does not count. Without it, all count.
    ValueError for a sequence that no path can make.
    """
    beliefs, log_probs = forward_beliefs(start, transition, likelihoods)
    if np.isneginf(log_probs).any() or not is_exact(start, transition, likelihoods, beliefs):
        return Smoothed(*log_smooth(start, transition, likelihoods, known))
    ahead = backward(transition, likelihoods, beliefs, log_probs)
    arrivals = likelihoods[1:] * ahead[1:] / np.exp(log_probs[1:])[..., None]
    if known is not None:
        arrivals = arrivals * known[1:, ..., None]
    K = len(start)
    moves = transition * (beliefs[:-1].reshape(-1, K).T @ arrivals.reshape(-1, K))
    states = beliefs * ahead
    return Smoothed(states / states.sum(-1, keepdims=True), moves, log_probs)


def token_log_probs(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> np.ndarray:
    """log p(token t | tokens before it), (T, ...), in nats, of likelihoods (T, ..., K)."""
    beliefs, log_probs = forward_beliefs(start, transition, likelihoods)
    if is_exact(start, transition, likelihoods, beliefs):
        return log_probs
    return log_forward(start, transition, likelihoods)[1]


def is_exact(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, beliefs: np.ndarray) -> bool:
    """Whether `forward_beliefs` has lost no possible state to underflow: no product of its smallest numbers above 0 could be lost.

    Where that is so, every 0 among the beliefs is a state that is impossible.
    """
    least = [np.min(array, where=array > 0, initial=1.0) for array in (beliefs, transition, likelihoods)]
    return bool(min(least[0], np.min(start, where=start > 0, initial=1.0)) * least[1] * least[2] > SMALLEST)


def viterbi(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest path of states (T, ...) and log p(path, tokens) (...), in nats, of likelihoods (T, ..., K).

    It is not the likeliest state at each place: those may follow each other in a way that is impossible. Of equally likely
    paths it is the one whose last state has the lowest number, then whose last but one has, and so on. `lengths` (...)
    says where shorter sequences end; behind it their path repeats its last state. A sequence that no path can make has -inf.

    >>> likelihoods = np.array([[0.9, 0.2], [0.1, 0.2], [0.9, 0.2]])  # the second token is likelier in state 1
    >>> viterbi(np.array([0.5, 0.5]), np.array([[0.8, 0.2], [0.2, 0.8]]), likelihoods)[0]  # but moves are rare
    array([0, 0, 0])
    """
    with np.errstate(divide="ignore"):
        best, log_transition, log_likelihoods = (np.log(a) for a in (start, transition, likelihoods))
    best = best + log_likelihoods[0]
    before = np.zeros(likelihoods.shape, dtype=np.int32)  # [t, ..., j]: the state at t - 1 on the best way to j at t
    for t in range(1, len(likelihoods)):
        ways = best[..., None, :] + log_transition.T  # (..., to, from)
        before[t] = ways.argmax(-1)
        ahead = ways.max(-1) + log_likelihoods[t]
        if lengths is not None:
            goes_on = (t < lengths)[..., None]
            before[t] = np.where(goes_on, before[t], np.arange(len(start)))
            ahead = np.where(goes_on, ahead, best)
        best = ahead
    path = np.empty(likelihoods.shape[:-1], dtype=np.int64)
    path[-1] = best.argmax(-1)
    for t in range(len(path) - 1, 0, -1):
        path[t - 1] = np.take_along_axis(before[t], path[t][..., None], -1)[..., 0]
    return path, best.max(-1)
