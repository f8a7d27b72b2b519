"""The third exercise of lesson 26, states and moves in hindsight: an oracle place by place, its mistakes, other solutions."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]

# smooth(start, transition, likelihoods) -> states (T, K), moves (K, K), log_probs (T,)


def believed(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The answer of the first exercise."""
    beliefs, p, expected = np.zeros(likelihoods.shape), np.zeros(len(likelihoods)), start
    for t, likelihood in enumerate(likelihoods):
        beliefs[t] = expected * likelihood
        p[t] = beliefs[t].sum()
        beliefs[t] = beliefs[t] / p[t]
        expected = beliefs[t] @ transition
    return beliefs, np.log(p)


def ahead_of(transition: np.ndarray, likelihoods: np.ndarray) -> np.ndarray:
    """p(tokens after t | state at t), up to a factor of each place: each row sums to 1."""
    T, K = likelihoods.shape
    ahead = np.full((T, K), 1 / K)
    for t in range(T - 2, -1, -1):
        for i in range(K):
            ahead[t, i] = sum(transition[i, j] * likelihoods[t + 1, j] * ahead[t + 1, j] for j in range(K))
        ahead[t] = ahead[t] / ahead[t].sum()
    return ahead


def place_by_place(
    start: np.ndarray,
    transition: np.ndarray,
    likelihoods: np.ndarray,
    weigh: Callable[..., Any] = lambda b, m, seen, ahead: b * m * seen * ahead,
    at: Callable[..., Any] = lambda t: (t, t + 1),
    divide: Callable[[np.ndarray], np.ndarray] = lambda joint: joint / joint.sum(),
) -> Answer:
    """For each place the K states, for each two neighbours the K * K moves, made to sum to 1. The switches make the mistakes."""
    T, K = likelihoods.shape
    beliefs, log_probs = believed(start, transition, likelihoods)
    ahead = ahead_of(transition, likelihoods)
    states, moves = beliefs * ahead, np.zeros((K, K))
    for t in range(T - 1):
        here, there = at(t)
        joint = np.zeros((K, K))
        for i, j in product(range(K), repeat=2):
            joint[i, j] = weigh(beliefs[here, i], transition[i, j], likelihoods[there, j], ahead[there, j])
        with np.errstate(all="ignore"):
            moves += divide(joint)
    return states / states.sum(1, keepdims=True), moves, log_probs


def slip(**switch: Any) -> Callable[..., Answer]:
    """The oracle with switches thrown."""
    return lambda start, transition, likelihoods: place_by_place(start, transition, likelihoods, **switch)


def told(change: Callable[..., Any]) -> Callable[..., Any]:
    """The right answers, but something else is returned: change(states, moves, log_probs)."""

    def answer(*chain: Any) -> Any:
        with np.errstate(all="ignore"):
            return change(*place_by_place(*chain))

    return answer


def by_arrays(
    start: np.ndarray,
    transition: np.ndarray,
    likelihoods: np.ndarray,
    scale: Callable[[np.ndarray], np.ndarray] = lambda log_probs: np.exp(log_probs[1:])[:, None],
    weight: Callable[..., np.ndarray] = lambda likelihoods, ahead: likelihoods[1:] * ahead[1:],
    sources: Callable[..., np.ndarray] = lambda beliefs, states, likelihoods: beliefs[:-1],
    table: Callable[[np.ndarray], np.ndarray] = lambda transition: transition,
) -> Answer:
    """As the library does it: beliefs, and what is ahead in units of what the beliefs expect. The switches make mistakes."""
    beliefs, log_probs = believed(start, transition, likelihoods)
    ahead = ahead_of(transition, likelihoods)
    ahead = ahead / (beliefs * ahead).sum(1, keepdims=True)
    states = beliefs * ahead
    with np.errstate(all="ignore"):
        arrivals = weight(likelihoods, ahead) / scale(log_probs)
    return states, table(transition) * (sources(beliefs, states, likelihoods).T @ arrivals), log_probs


def variant(**switch: Any) -> Callable[..., Answer]:
    return lambda start, transition, likelihoods: by_arrays(start, transition, likelihoods, **switch)


def with_states(change: Callable[..., np.ndarray]) -> Callable[..., Answer]:
    """Other states: change(beliefs, ahead, likelihoods), then made to sum to 1 in each row."""

    def answer(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
        _, moves, log_probs = place_by_place(start, transition, likelihoods)
        beliefs = believed(start, transition, likelihoods)[0]
        states = change(beliefs, ahead_of(transition, likelihoods), likelihoods)
        return states / states.sum(1, keepdims=True), moves, log_probs

    return answer


def most_likely_counted_once(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """One move for each two neighbours: between the states that are likeliest there."""
    states, moves, log_probs = place_by_place(start, transition, likelihoods)
    best, moves = states.argmax(1), np.zeros_like(moves)
    np.add.at(moves, (best[:-1], best[1:]), 1.0)
    return states, moves, log_probs


# ---- other ways that are right


def all_at_once(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """All moves of all places as (T - 1, K, K)."""
    beliefs, log_probs = believed(start, transition, likelihoods)
    ahead = ahead_of(transition, likelihoods)
    each = np.einsum("ti,ij,tj->tij", beliefs[:-1], transition, likelihoods[1:] * ahead[1:])
    states = beliefs * ahead
    each = each / each.sum((1, 2), keepdims=True)
    return states / states.sum(1, keepdims=True), each.sum(0), log_probs


def turned_round(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """From the end: given the state at t + 1, the state at t depends on what was believed alone (Rauch's smoother)."""
    beliefs, log_probs = believed(start, transition, likelihoods)
    states, moves = beliefs.copy(), np.zeros(transition.shape)
    for t in range(len(beliefs) - 2, -1, -1):
        joint = beliefs[t][:, None] * transition
        arrived = joint.sum(0)
        back = np.divide(joint, arrived, out=np.zeros_like(joint), where=arrived > 0) * states[t + 1]
        states[t], moves = back.sum(1), moves + back
    return states, moves, log_probs


def chains(seed: int) -> list[tuple[Any, ...]]:
    """One token, a tiny chain by hand, random ones, a long one, a move that never happens; tiny likelihoods, an unreached state."""
    rng = np.random.default_rng(seed)
    by_hand = (np.array([0.5, 0.5]), np.array([[0.75, 0.25], [0.375, 0.625]]))
    cases = [(*by_hand, np.array([[0.5, 0.25]])), (*by_hand, np.array([[0.5, 0.25], [0.25, 0.75]]))]
    for T, K in ((5, 3), (7, 4), (600, 3), (6, 5)):
        transition = rng.dirichlet(np.full(K, 0.7), size=K)
        if K == 5:
            transition = np.where(np.arange(25).reshape(5, 5) == 10, 0.0, transition)
        transition = transition / transition.sum(1, keepdims=True)
        cases.append((rng.dirichlet(np.ones(K)), transition, rng.uniform(0.01, 0.3, (T, K))))
    never = np.array([0.5, 0.5, 0.0]), np.eye(3), np.array([[1e-6, 1e-12, 1.0], [1e-12, 1e-6, 1.0], [1e-12, 1e-6, 1.0]])
    return [*cases, (*by_hand, 1e-30 * np.array([[2.0, 1.0], [1.0, 3.0], [0.5, 4.0]])), never]


SMOOTH = Exercise(
    "smooth",
    "beliefs, log_probs = forward_beliefs(...), ahead = backward(...), as above; states is their product. A move from i to j is as "
    "likely as the product of four numbers, divided by p(token t + 1)",
    chains,
    place_by_place,
    (
        Mistake("beliefs only", with_states(lambda b, ahead, seen: b), "beliefs alone have not seen what comes after"),
        Mistake(
            "token seen twice",
            with_states(lambda b, ahead, seen: b * seen * ahead),
            "the beliefs have seen token t already",
        ),
        Mistake(
            "a sum for the product",
            with_states(lambda b, ahead, seen: b + ahead / ahead.mean(1, keepdims=True)),
            "beliefs and ahead are multiplied, not added",
        ),
        Mistake(
            "divided over time", told(lambda s, m, p: (s / s.sum(0), m, p)), "each row of states must sum to 1: axis -1"
        ),
        Mistake(
            "as if neighbours were independent",
            told(lambda s, m, p: (s, s[:-1].T @ s[1:], p)),
            "p(i, then j) is not p(i) times p(j): neighbours depend on each other, by `transition`",
        ),
        Mistake("likeliest moves", most_likely_counted_once, "every move counts as much as it is likely"),
        Mistake(
            "transition missing",
            slip(weigh=lambda b, m, seen, ahead: b * seen * ahead),
            "the move itself is missing: transition[i, j]",
        ),
        Mistake("transition missing, not divided", variant(table=np.ones_like), "where is `transition` in your moves?"),
        Mistake(
            "transition transposed",
            variant(table=np.transpose),
            "a move from i to j has the probability transition[i, j], not transition[j, i]",
        ),
        Mistake(
            "likelihood missing",
            slip(weigh=lambda b, m, seen, ahead: b * m * ahead),
            "token t + 1 is not in your moves: times its likelihood in the state where the move arrives",
        ),
        Mistake(
            "likelihood missing, not divided",
            variant(weight=lambda seen, ahead: ahead[1:]),
            "the likelihood of token t + 1 is missing in the moves: it comes in where they arrive",
        ),
        Mistake(
            "ahead missing",
            slip(weigh=lambda b, m, seen, ahead: b * m * seen),
            "what comes after is missing: ahead[t + 1]",
        ),
        Mistake(
            "belief missing",
            slip(weigh=lambda b, m, seen, ahead: m * seen * ahead),
            "where does the move begin? beliefs[t, i]",
        ),
        Mistake(
            "from states",
            variant(sources=lambda b, states, seen: states[:-1]),
            "states have seen what comes after the move, which then counts twice: a move begins at beliefs",
        ),
        Mistake(
            "from and to at the same place",
            slip(at=lambda t: (t, t)),
            "a move goes from t to t + 1: likelihood and ahead are those of t + 1",
        ),
        Mistake(
            "from the place where it arrives",
            slip(at=lambda t: (t + 1, t + 1)),
            "a move that arrives at t + 1 begins at t: beliefs[:-1]",
        ),
        Mistake(
            "belief of the next place",
            variant(sources=lambda b, states, seen: b[1:]),
            "the belief of t + 1 has seen token t + 1 already: take that of t, beliefs[:-1]",
        ),
        Mistake(
            "likelihood where the move begins",
            variant(sources=lambda b, states, seen: b[:-1] * seen[1:], weight=lambda seen, ahead: ahead[1:]),
            "token t + 1 is made by the state where the move arrives: its likelihood goes along the columns j, not the rows i",
        ),
        Mistake(
            "each row divided",
            slip(divide=lambda joint: joint / joint.sum(1, keepdims=True)),
            "all K * K moves between two places sum to 1 together, not each row: where a move begins is uncertain, too",
        ),
        Mistake(
            "ahead of the place where it begins",
            variant(weight=lambda seen, ahead: seen[1:] * ahead[:-1]),
            "ahead[t] has the next token in it already: take ahead[t + 1], beside the likelihood of token t + 1",
        ),
        Mistake(
            "likelihood of the place where it begins",
            variant(weight=lambda seen, ahead: seen[:-1] * ahead[1:]),
            "token t is in the belief already: the move takes the likelihood of token t + 1",
        ),
        Mistake(
            "not divided",
            variant(scale=lambda log_probs: np.ones((len(log_probs) - 1, 1))),
            "the moves of each place must sum to 1, all T - 1 of them to T - 1: divide by p(token t + 1)",
        ),
        Mistake(
            "divided by the logarithm",
            variant(scale=lambda log_probs: log_probs[1:, None]),
            "those are logarithms: np.exp of them divides",
        ),
        Mistake(
            "divided by the token before",
            variant(scale=lambda log_probs: np.exp(log_probs[:-1])[:, None]),
            "p(token t + 1) is meant: log_probs[1:]",
        ),
        Mistake(
            "shares",
            told(lambda s, m, p: (s, m / m.sum(1, keepdims=True), p)),
            "moves are counts: the shares are taken later",
        ),
        Mistake(
            "mean", told(lambda s, m, p: (s, m / max(1, len(s) - 1), p)), "moves are sums over the places, not means"
        ),
        Mistake("backwards", told(lambda s, m, p: (s, m.T.copy(), p)), "row i of moves is where a move begins"),
        Mistake("log_probs missing", told(lambda s, m, p: (s, m)), "three answers: states, moves, log_probs"),
        Mistake(
            "one sum", told(lambda s, m, p: (s, m, p.sum())), "log_probs are one for each token: do not add them up"
        ),
        Mistake("another order", told(lambda s, m, p: (m, s, p)), "the order is states, moves, log_probs"),
    ),
    (by_arrays, all_at_once, turned_round),
)

EXERCISES = (SMOOTH,)
