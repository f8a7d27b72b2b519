"""What a hidden Markov model says, by adding up all paths: no recursion, nothing of the library."""

from itertools import product
from typing import NamedTuple

import numpy as np


class Enumerated(NamedTuple):
    """Of one sequence: p(tokens), log p(each token | those before), p(state at t), p(move from i to j at t), the best path."""

    probability: float
    log_probs: np.ndarray  # (T,)
    beliefs: np.ndarray  # (T, K), from the tokens so far
    states: np.ndarray  # (T, K), from all
    moves: np.ndarray  # (T - 1, K, K)
    best: tuple[int, ...]
    best_probability: float
    margin: float  # how much better the best path is than the second, as a ratio


def enumerate_paths(start, transition, likelihoods) -> Enumerated:
    """Of one sequence with likelihoods (T, K); all K ** T paths."""
    T, K = likelihoods.shape
    paths = np.array(list(product(range(K), repeat=T)))  # (P, T)
    step = start[paths[:, 0]] * likelihoods[0, paths[:, 0]]
    prefixes = [step]
    for t in range(1, T):
        step = step * transition[paths[:, t - 1], paths[:, t]] * likelihoods[t, paths[:, t]]
        prefixes.append(step)
    # a prefix of t + 1 states stands K ** (T - t - 1) times among the paths
    sums = np.array([prefix.sum() / K ** (T - t - 1) for t, prefix in enumerate(prefixes)])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_probs = np.log(sums) - np.log(np.append(1.0, sums[:-1]))
        beliefs = np.array([np.bincount(paths[:, t], prefix, K) / prefix.sum() for t, prefix in enumerate(prefixes)])
        states = np.array([np.bincount(paths[:, t], step, K) for t in range(T)]) / step.sum()
        moves = (
            np.array(
                [np.bincount(paths[:, t - 1] * K + paths[:, t], step, K * K).reshape(K, K) for t in range(1, T)]
            ).reshape(T - 1, K, K)
            / step.sum()
        )
    order = np.argsort(-step, kind="stable")
    margin = step[order[0]] / step[order[1]] if len(step) > 1 and step[order[1]] > 0 else np.inf
    return Enumerated(
        float(step.sum()), log_probs, beliefs, states, moves, tuple(paths[order[0]].tolist()), float(step[order[0]]),
        float(margin),
    )  # fmt: skip


def random_rows(rng, shape, zeros: float) -> np.ndarray:
    """Random distributions along the last axis; each number is 0 with this probability, but never a whole row."""
    rows = rng.exponential(size=shape) ** rng.choice([1, 3])
    rows[rng.random(shape) < zeros] = 0
    empty = rows.sum(-1) == 0
    rows[..., 0] = np.where(empty, 1.0, rows[..., 0])
    return rows / rows.sum(-1, keepdims=True)
