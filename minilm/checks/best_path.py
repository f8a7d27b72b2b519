"""The second exercise of lesson 26, Viterbi's path: an oracle that keeps whole paths, its mistakes, and other right solutions."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Answer = tuple[np.ndarray, float]

FLOOR = "what has the probability 0 must never be chosen, so log 0 is -inf"

# viterbi(start, transition, likelihoods) -> path (T,), log p(path, tokens)


def log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


def whole_paths(
    start: np.ndarray,
    transition: np.ndarray,
    likelihoods: np.ndarray,
    first: Callable[..., float] = lambda start, row, j: log(start[j]) + log(row[j]),
    move: Callable[..., float] = lambda transition, i, j: log(transition[i, j]),
    weigh: Callable[..., float] = lambda likelihoods, t, j: log(likelihoods[t, j]),
    end: Callable[..., int] = lambda scores, likelihoods: int(np.argmax(scores)),
) -> Answer:
    """For each state the best path that ends there, written out, and its score. The switches make the mistakes."""
    T, K = likelihoods.shape
    best: list[Any] = [(first(start, likelihoods[0], j), (j, None)) for j in range(K)]  # score, (state, path before it)
    for t in range(1, T):
        ahead = []
        for j in range(K):
            scores = [best[i][0] + move(transition, i, j) for i in range(K)]
            i = int(np.argmax(scores))
            ahead.append((scores[i] + weigh(likelihoods, t, j), (j, best[i][1])))
        best = ahead
    score, link = best[end([score for score, _ in best], likelihoods)]
    path: list[int] = []
    while link is not None:
        path.append(link[0])
        link = link[1]
    return np.array(path[::-1]), score


def slip(**switch: Any) -> Callable[..., Answer]:
    """The oracle with switches thrown."""
    return lambda start, transition, likelihoods: whole_paths(start, transition, likelihoods, **switch)


def told(change: Callable[..., Any]) -> Callable[..., Any]:
    """The right path, but something else is returned: change(path, score)."""
    return lambda start, transition, likelihoods: change(*whole_paths(start, transition, likelihoods))


def logs(*arrays: np.ndarray) -> list[np.ndarray]:
    with np.errstate(divide="ignore"):
        return [np.log(array) for array in arrays]


def tables(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, gather: Any = np.max, axis: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The scores (T, K), and for each state the one before it (T, K); the first row of those is 0."""
    log_start, moves, weights = logs(start, transition, likelihoods)
    scores, before = np.zeros(likelihoods.shape), np.zeros(likelihoods.shape, dtype=int)
    scores[0] = log_start + weights[0]
    for t in range(1, len(likelihoods)):
        ways = scores[t - 1][:, None] + moves  # from, to
        before[t] = ways.argmax(axis)
        scores[t] = gather(ways, axis=axis) + weights[t]
    return scores, before


def walk_back(last: int, before: np.ndarray, shift: int = 0, stuck: bool = False) -> np.ndarray:
    """From the last state to the first, by the pointers. Or by those `shift` rows before, or always from the last state."""
    path = [last]
    for t in range(len(before) - 1, 0, -1):
        path.append(before[t - shift][last if stuck else path[-1]])
    return np.array(path[::-1])


def by_tables(*chain: Any, shift: int = 0, stuck: bool = False, **switch: Any) -> Answer:
    scores, before = tables(*chain, **switch)
    return walk_back(int(scores[-1].argmax()), before, shift, stuck), scores[-1].max()


def greedy(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """Each state is chosen at once, given the one chosen before."""
    log_start, moves, weights = logs(start, transition, likelihoods)
    score, path, expected = 0.0, [], log_start
    for row in weights:
        path.append(int((expected + row).argmax()))
        score += (expected + row)[path[-1]]
        expected = moves[path[-1]]
    return np.array(path), score


def likeliest_states(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """At each place the state that is likeliest there, given all tokens."""
    T, K = likelihoods.shape
    alpha, beta = np.zeros((T, K)), np.ones((T, K))
    for t in range(T):
        alpha[t] = (alpha[t - 1] @ transition if t else start) * likelihoods[t]
        alpha[t] /= max(alpha[t].sum(), 1e-300)
    for t in range(T - 1, 0, -1):
        beta[t - 1] = transition @ (likelihoods[t] * beta[t])
        beta[t - 1] /= max(beta[t - 1].sum(), 1e-300)
    return (alpha * beta).argmax(1), by_tables(start, transition, likelihoods)[1]


def in_products(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, divide: bool = False, keep: bool = False
) -> Answer:
    """Probabilities instead of logarithms: 0 after some hundred tokens; where each step divides by its largest, what is
    further behind than a float is small becomes 0, and never comes back."""
    best, before, score = start * likelihoods[0], [np.zeros(len(start), dtype=int)], 0.0
    for likelihood in likelihoods[1:]:
        ways = best[:, None] * transition
        before.append(ways.argmax(0))
        best = ways.max(0) * likelihood
        if divide:
            score += log(float(best.max()))
            with np.errstate(invalid="ignore"):
                best = best / best.max()
    return walk_back(int(best.argmax()), np.array(before)), log(float(best.max())) + (score if keep else 0.0)


def with_log(own: Callable[[float], float]) -> Callable[..., Answer]:
    """Another logarithm, of all three tables."""
    return slip(
        first=lambda start, row, j: own(start[j]) + own(row[j]),
        move=lambda transition, i, j: own(transition[i, j]),
        weigh=lambda likelihoods, t, j: own(likelihoods[t, j]),
    )


# ---- other ways that are right


def from_behind(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """The best score of all that follows, from the end; then the path is read forwards."""
    log_start, moves, weights = logs(start, transition, likelihoods)
    follows = np.zeros(likelihoods.shape)
    for t in range(len(likelihoods) - 1, 0, -1):
        follows[t - 1] = (moves + weights[t] + follows[t]).max(1)
    ahead = log_start + weights[0] + follows[0]
    path, score = [int(ahead.argmax())], float(ahead.max())
    for t in range(1, len(likelihoods)):
        path.append(int((moves[path[-1]] + weights[t] + follows[t]).argmax()))
    return np.array(path), score


def with_dictionaries(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """{state: (score, path)}, in plain Python; of two paths into a state max takes the better."""
    K = len(start)
    best = {j: (log(start[j]) + log(likelihoods[0, j]), [j]) for j in range(K)}
    for row in likelihoods[1:]:
        moved = {j: max((best[i][0] + log(transition[i, j]), best[i][1]) for i in range(K)) for j in range(K)}
        best = {j: (score + log(row[j]), [*path, j]) for j, (score, path) in moved.items()}
    score, path = max(best.values())
    return np.array(path), score


def forbidden() -> list[tuple[Any, ...]]:
    """What is impossible would pay, if it cost less than some 10,000 nats: a move, a beginning, a token."""
    zero, one = np.array([1.0, 1e-100]), np.array([1e-100, 1.0])
    half, stay = np.array([0.5, 0.5]), np.eye(2)
    return [
        (half, stay, np.array([[1, 1e-6], [1e-6, 1], [1e-6, 1]])),
        (half, stay, np.stack([*[zero] * 60, *[one] * 70])),
        (np.array([1.0, 0.0]), stay, np.stack([one] * 60)),
        (half, stay, np.stack([one, np.array([1.0, 0.0]), *[one] * 60])),
    ]


def chains(seed: int) -> list[tuple[Any, ...]]:
    """A tiny chain by hand, one token alone, some random ones, one of 600 tokens; moves that never happen, some tempting."""
    rng = np.random.default_rng(seed)
    by_hand = (np.array([0.5, 0.5]), np.array([[0.75, 0.25], [0.375, 0.625]]))
    cases = [(*by_hand, np.array([[0.5, 0.25]])), (*by_hand, np.array([[0.5, 0.25], [0.25, 0.75]]))]
    for T, K in ((5, 3), (7, 4), (600, 3), (6, 5)):
        transition = rng.dirichlet(np.full(K, 0.7), size=K)
        if K == 5:
            transition = np.where(np.arange(25).reshape(5, 5) == 10, 0.0, transition)
        transition = transition / transition.sum(1, keepdims=True)
        cases.append((rng.dirichlet(np.ones(K)), transition, rng.uniform(0.01, 0.3, (T, K))))
    return [*cases, *forbidden()]


VITERBI = Exercise(
    "viterbi",
    "take logarithms first. best[j] is the score of the best path that ends in j; best[:, None] + log_transition has all ways "
    "from i to j: keep the largest of each column, and which i it came from",
    chains,
    whole_paths,
    (
        Mistake(
            "products",
            in_products,
            "products of many probabilities are 0, and then all paths are alike: add logarithms",
        ),
        Mistake(
            "divided, score lost", partial(in_products, divide=True), "the score has lost the divisors: take logarithms"
        ),
        Mistake(
            "divided by the largest",
            partial(in_products, divide=True, keep=True),
            "what is far behind becomes 0, and cannot catch up: add logarithms instead",
        ),
        Mistake("at least 1e-12", with_log(lambda p: log(max(p, 1e-12))), f"{FLOOR}: no np.maximum"),
        Mistake("at least 1e-10", with_log(lambda p: log(max(p, 1e-10))), f"{FLOOR}: no floor of 1e-10"),
        Mistake("at least 1e-300", with_log(lambda p: log(max(p, 1e-300))), f"{FLOOR}, and even at 1e-300 it pays"),
        Mistake("plus 1e-12", with_log(lambda p: log(p + 1e-12)), f"{FLOOR}: add nothing to the tables"),
        Mistake("plus 1e-10", with_log(lambda p: log(p + 1e-10)), f"{FLOOR}: do not add 1e-10"),
        Mistake("-1000 for log 0", with_log(lambda p: log(p) if p > 0 else -1000.0), f"{FLOOR}: -1000 is too little"),
        Mistake(
            "a sum for the largest",
            partial(by_tables, gather=np.logaddexp.reduce),
            "all ways into a state are added: only the best counts",
        ),
        Mistake(
            "largest along the row",
            partial(by_tables, axis=1),
            "ways[i, j] goes from i to j: for each j the largest over i, axis 0",
        ),
        Mistake(
            "transposed",
            slip(move=lambda moves, i, j: log(moves[j, i])),
            "the way from i to j is transition[i, j]: row i says where i goes",
        ),
        Mistake(
            "nobody looks back",
            lambda *chain: (tables(*chain)[0].argmax(1), by_tables(*chain)[1]),
            "the best path may have come through a state that did not lead at t - 1: follow the pointers back from the end",
        ),
        Mistake("greedy", greedy, "you choose each state at once, and can never take it back: decide at the end"),
        Mistake(
            "one by one",
            likeliest_states,
            "those are the likeliest states one by one: together they may be an impossible path",
        ),
        Mistake("pointers off by one", partial(by_tables, shift=1), "the state before t stands in before[t]"),
        Mistake("pointers of the last state", partial(by_tables, stuck=True), "ask for the state just found"),
        Mistake(
            "backwards", told(lambda path, score: (path[::-1].copy(), score)), "it was found from its end: turn it"
        ),
        Mistake("ends in state 0", slip(end=lambda *scores: 0), "the path ends where the score is largest"),
        Mistake(
            "end by the last token",
            slip(end=lambda scores, seen: int(seen[-1].argmax())),
            "the score says where the path ends",
        ),
        Mistake(
            "start not used", slip(first=lambda start, row, j: log(row[j])), "the first score has log(start) in it"
        ),
        Mistake("first token not seen", slip(first=lambda start, row, j: log(start[j])), "the first token counts, too"),
        Mistake(
            "token of the step before",
            slip(weigh=lambda seen, t, j: log(seen[t - 1, j])),
            "a path in j at t makes token t there",
        ),
        Mistake("moves not weighed", slip(move=lambda *way: 0.0), "the moves cost nothing: where is `transition`?"),
        Mistake(
            "likelihoods as they are",
            slip(first=lambda start, row, j: log(start[j]) + row[j], weigh=lambda seen, t, j: float(seen[t, j])),
            "you add probabilities to logarithms: take the logarithm of likelihoods, too",
        ),
        Mistake(
            "transition as it is",
            slip(move=lambda moves, i, j: float(moves[i, j])),
            "you add probabilities to logarithms: log(transition), too",
        ),
        Mistake("a probability", told(lambda path, score: (path, math.exp(score))), "a logarithm is asked for: no exp"),
        Mistake("path alone", told(lambda path, score: path), "two answers: the path, and its log-probability"),
        Mistake("exchanged", told(lambda path, score: (score, path)), "the path comes first"),
        Mistake("a list", told(lambda path, score: (path.tolist(), score)), "a list is no array: np.array(path)"),
        Mistake(
            "first state missing",
            told(lambda path, score: (path[1:].copy(), score)),
            "a state for each token: the first is missing",
        ),
    ),
    (by_tables, from_behind, with_dictionaries),
)

EXERCISES = (VITERBI,)
