"""The first exercise of lesson 26, the forward recursion: an oracle state by state, its mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Answer = tuple[np.ndarray, np.ndarray]

SMALL = "take the tables as they are"

# forward_beliefs(start, transition, likelihoods) -> beliefs (T, K), log_probs (T,)


def state_by_state(
    start: np.ndarray,
    transition: np.ndarray,
    likelihoods: np.ndarray,
    first: Callable[..., Any] = lambda start, transition: start,
    gather: Callable[..., float] = sum,
    move: Callable[..., float] = lambda transition, i, j: transition[i, j],
    token: Callable[[int, int], int] = lambda t, T: t,
    carried: Callable[..., Any] = lambda belief, joint, before: belief,
    divisor: Callable[[float], float] = lambda total: total,
) -> Answer:
    """How likely each state is after each token, over all ways, one at a time. The switches make the mistakes.

    `carried` says what goes on to the next token: of the belief, what it was before it was divided, and what was expected.
    """
    T, K = likelihoods.shape
    beliefs, totals = np.zeros((T, K)), np.zeros(T)
    expected = [float(p) for p in first(start, transition)]
    for t in range(T):
        joint = [expected[j] * float(likelihoods[token(t, T), j]) for j in range(K)]
        totals[t] = sum(joint)
        with np.errstate(all="ignore"):
            beliefs[t] = np.array(joint) / divisor(totals[t])
        goes_on = carried(beliefs[t], joint, expected)
        expected = [gather(float(goes_on[i]) * float(move(transition, i, j)) for i in range(K)) for j in range(K)]
    with np.errstate(divide="ignore"):
        return beliefs, np.log(totals)


def slip(**switch: Any) -> Callable[..., Answer]:
    """The oracle with switches thrown."""
    return lambda start, transition, likelihoods: state_by_state(start, transition, likelihoods, **switch)


def told(change: Callable[..., Any]) -> Callable[..., Any]:
    """The right recursion, but something else is returned: change(beliefs, log_probs)."""
    return lambda start, transition, likelihoods: change(*state_by_state(start, transition, likelihoods))


def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Answer]:
    """The right recursion with all three tables changed."""
    return lambda start, moves, seen: state_by_state(change(start), change(moves), change(seen))


def not_divided(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """p(state, all tokens so far), and log p(all tokens so far): the textbook's alpha."""
    alphas = [start * likelihoods[0]]
    for likelihood in likelihoods[1:]:
        alphas.append(alphas[-1] @ transition * likelihood)
    with np.errstate(divide="ignore"):
        return np.array(alphas), np.log(np.sum(alphas, axis=1))


def divided_at_the_end(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """The alphas made to sum to 1 afterwards, and ratios of their sums: 0 / 0 from some place on."""
    with np.errstate(all="ignore"):
        alphas, log_probs = not_divided(start, transition, likelihoods)
        return alphas / alphas.sum(1, keepdims=True), np.diff(log_probs, prepend=0.0)


def divided_by_the_largest(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    beliefs, log_probs = np.zeros(likelihoods.shape), np.zeros(len(likelihoods))
    expected = start
    for t, likelihood in enumerate(likelihoods):
        joint = expected * likelihood
        beliefs[t], log_probs[t] = joint / joint.max(), np.log(joint.max())
        expected = beliefs[t] @ transition
    return beliefs, log_probs


def log_of_one(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """The logarithm is taken of the sum after the division."""
    beliefs = state_by_state(start, transition, likelihoods)[0]
    return beliefs, np.log(beliefs.sum(-1))


def predicted(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """What was expected at t, before token t was seen."""
    beliefs, log_probs = state_by_state(start, transition, likelihoods)
    return np.vstack([start, beliefs[:-1] @ transition]), log_probs


def moved_on(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    beliefs, log_probs = state_by_state(start, transition, likelihoods)
    return beliefs @ transition, log_probs


def unseen_first(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """The belief begins as `start`, and the first token is never looked at."""
    beliefs, log_probs = np.zeros(likelihoods.shape), np.zeros(len(likelihoods))
    beliefs[0] = start
    for t in range(1, len(likelihoods)):
        joint = beliefs[t - 1] @ transition * likelihoods[t]
        beliefs[t], log_probs[t] = joint / joint.sum(), np.log(joint.sum())
    return beliefs, log_probs


# ---- other ways that are right


def in_logarithms(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    with np.errstate(divide="ignore"):
        log_start, moves, log_likelihoods = np.log(start), np.log(transition), np.log(likelihoods)
    logs = [log_start + log_likelihoods[0]]
    for row in log_likelihoods[1:]:
        logs.append(row + np.logaddexp.reduce(logs[-1][:, None] + moves, axis=0))
    so_far = np.logaddexp.reduce(np.array(logs), axis=1)
    return np.exp(np.array(logs) - so_far[:, None]), np.diff(so_far, prepend=0.0)


def by_matrices(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """A token is a matrix: move, then weigh. Only the answers are divided, the numbers are kept near 1 by their largest."""
    row, beliefs, log_probs = start, [], []
    for t, likelihood in enumerate(likelihoods):
        before = row.sum()
        row = row @ (transition if t else np.eye(len(start))) @ np.diag(likelihood)
        log_probs.append(np.log(row.sum() / before))
        beliefs.append(row / row.sum())
        row = row / row.max()
    return np.stack(beliefs), np.array(log_probs)


def by_einsum(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    T, K = likelihoods.shape
    beliefs, p = np.zeros((T, K)), np.zeros(T)
    for t in range(T):
        expected = start if t == 0 else np.einsum("i,ij->j", beliefs[t - 1], transition)
        beliefs[t] = expected * likelihoods[t]
        p[t] = beliefs[t].sum()
        beliefs[t] /= p[t]
    return beliefs, np.log(p)


def chains(seed: int) -> list[tuple[Any, ...]]:
    """One token, a tiny chain by hand, small ones, with zeros, a long one, tiny likelihoods, a state that is never reached."""
    rng = np.random.default_rng(seed)
    by_hand = (np.array([0.5, 0.5]), np.array([[0.75, 0.25], [0.375, 0.625]]))
    cases = [(*by_hand, np.array([[0.5, 0.25]])), (*by_hand, np.array([[0.5, 0.25], [0.25, 0.75]]))]
    for T, K in ((5, 3), (7, 4), (600, 3)):
        transition = rng.dirichlet(np.full(K, 0.7), size=K)
        cases.append((rng.dirichlet(np.ones(K)), transition, rng.uniform(0.01, 0.3, (T, K))))
    start, transition, likelihoods = (array.copy() for array in cases[3])
    # a state in which nothing begins, a move that never happens, a token that a state cannot make
    start[1], transition[2, 0], likelihoods[4, 3] = 0.0, 0.0, 0.0
    cases.append((start / start.sum(), transition / transition.sum(1, keepdims=True), likelihoods))
    never = np.array([0.5, 0.5, 0.0]), np.eye(3), np.array([[1e-6, 1e-12, 1.0], [1e-12, 1e-6, 1.0], [1e-12, 1e-6, 1.0]])
    return [*cases, (*by_hand, 1e-30 * np.array([[2.0, 1.0], [1.0, 3.0], [0.5, 4.0]])), never]


FORWARD = Exercise(
    "forward_beliefs",
    "at each token three things: weigh what was expected by the token's likelihoods, take the sum, divide by it; then move on "
    "by the transition",
    chains,
    state_by_state,
    (
        Mistake(
            "not divided",
            not_divided,
            "nothing is divided: row t must sum to 1. As it is, the numbers become smaller with every token, and after a few "
            "hundred they are 0",
        ),
        Mistake("divided at the end", divided_at_the_end, "divide inside the loop, before the products have become 0"),
        Mistake(
            "divided beside the recursion",
            slip(carried=lambda belief, joint, before: joint),
            "what you return is divided, but what goes on to the next token is not, and becomes 0 after a few hundred: "
            "carry the divided row on; then each sum is of one token alone",
        ),
        Mistake(
            "divided by the largest",
            divided_by_the_largest,
            "not by the largest: only the sum is the probability of the token",
        ),
        Mistake(
            "at least 1e-10",
            changed(lambda p: np.maximum(p, 1e-10)),
            f"{SMALL}: a floor lets what is impossible happen",
        ),
        Mistake("plus 1e-10", changed(lambda p: p + 1e-10), f"{SMALL}: what you add lets the impossible happen"),
        Mistake(
            "divided by a little more",
            slip(divisor=lambda total: total + 1e-12),
            "no 1e-12 below the line: the sum of a token that is unlikely everywhere is small itself",
        ),
        Mistake(
            "sums so far",
            told(lambda rows, logs: (rows, np.cumsum(logs))),
            "log_probs[t] is of token t alone; you return the sum up to t",
        ),
        Mistake(
            "one sum",
            told(lambda rows, logs: (rows, logs.sum())),
            "one number for each token, (T,): do not add them up",
        ),
        Mistake(
            "the scale is lost",
            log_of_one,
            "your logarithms are those of 1: take the sum before you divide by it; nowhere else is the likelihood kept",
        ),
        Mistake(
            "no logarithm",
            told(lambda rows, logs: (rows, np.exp(logs))),
            "the second answer is a logarithm: np.log of the sums",
        ),
        Mistake("in bits", told(lambda rows, logs: (rows, logs / np.log(2))), "nats, not bits: np.log"),
        Mistake("surprise", told(lambda rows, logs: (rows, -logs)), "log p is below 0: no minus here"),
        Mistake(
            "the largest for the sum",
            slip(gather=max),
            "a state is reached on several ways, and they add up: a sum, not the largest (that is the next exercise)",
        ),
        Mistake(
            "transposed",
            slip(move=lambda transition, i, j: transition[j, i]),
            "row i of transition says where i goes: belief @ transition, not transition @ belief",
        ),
        Mistake(
            "always from the start",
            lambda start, transition, likelihoods: state_by_state(start, np.tile(start, (len(start), 1)), likelihoods),
            "each token begins anew from `start`: what is expected next comes from the belief, moved on by `transition`",
        ),
        Mistake(
            "nothing moves",
            lambda start, transition, likelihoods: state_by_state(start, np.eye(len(start)), likelihoods),
            "between two tokens the state moves: where is `transition`?",
        ),
        Mistake(
            "start not used",
            slip(first=lambda start, transition: np.full(len(start), 1 / len(start))),
            "you begin with all states alike: where is `start`?",
        ),
        Mistake(
            "start of ones",
            slip(first=lambda start, transition: np.ones(len(start))),
            "begin with `start`, not with ones",
        ),
        Mistake(
            "moved before the first",
            slip(first=lambda start, transition: start @ transition),
            "`start` is of the first token already: no move comes before it",
        ),
        Mistake(
            "first token not seen", unseen_first, "the first belief is not `start`: the first token has been seen, too"
        ),
        Mistake(
            "token of the step before",
            slip(token=lambda t, T: t - 1),
            "you weigh with the token of the step before (and at t = 0, index -1, with the last): which one is seen at t?",
        ),
        Mistake(
            "token of the next step",
            slip(token=lambda t, T: min(t + 1, T - 1)),
            "you weigh with the token of the next step: which one is seen at t?",
        ),
        Mistake(
            "token not carried on",
            slip(carried=lambda belief, joint, before: before),
            "what moves on is the belief, after the token was seen, not what was expected before",
        ),
        Mistake(
            "expected instead of believed", predicted, "that was expected before the token: the belief has seen it"
        ),
        Mistake(
            "moved on", moved_on, "keep the belief before it moves on: row t is about the state at t, not at t + 1"
        ),
        Mistake(
            "only the last",
            told(lambda rows, logs: (rows[-1], logs)),
            "all beliefs are asked for, (T, K): keep each of them",
        ),
        Mistake("beliefs alone", told(lambda rows, logs: rows), "two answers: rows, logs"),
        Mistake("exchanged", told(lambda rows, logs: (logs, rows)), "rows come first"),
        Mistake(
            "a list of rows",
            told(lambda rows, logs: (list(rows), list(logs))),
            "lists of rows are not an array: np.array(rows)",
        ),
    ),
    (in_logarithms, by_matrices, by_einsum),
)

EXERCISES = (FORWARD,)
