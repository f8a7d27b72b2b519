"""The second exercise of lesson 26, Viterbi's path: an oracle that keeps whole paths, its mistakes, and other right solutions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Answer = tuple[np.ndarray, float]

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


def walk_back(last: int, before: np.ndarray) -> np.ndarray:
    path = [last]
    for row in before[:0:-1]:
        path.append(row[path[-1]])
    return np.array(path[::-1])


def by_tables(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, **switch: Any) -> Answer:
    scores, before = tables(start, transition, likelihoods, **switch)
    return walk_back(int(scores[-1].argmax()), before), scores[-1].max()


def pointers_off_by_one(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """The state at t - 1 is looked up in the pointers of t - 1."""
    scores, before = tables(start, transition, likelihoods)
    path = [int(scores[-1].argmax())]
    for t in range(len(likelihoods) - 2, -1, -1):
        path.append(before[t][path[-1]])
    return np.array(path[::-1]), scores[-1].max()


def one_pointer_late(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """Each pointer is looked up from the last state instead of the one just found."""
    scores, before = tables(start, transition, likelihoods)
    last = int(scores[-1].argmax())
    return np.array([*(before[t][last] for t in range(1, len(likelihoods))), last]), scores[-1].max()


def best_scores(start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray) -> Answer:
    """At each place the state with the highest score there: nobody looks back."""
    scores, _ = tables(start, transition, likelihoods)
    return scores.argmax(1), scores[-1].max()


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
        alpha[t] /= alpha[t].sum()
    for t in range(T - 1, 0, -1):
        beta[t - 1] = transition @ (likelihoods[t] * beta[t])
        beta[t - 1] /= beta[t - 1].sum()
    return (alpha * beta).argmax(1), by_tables(start, transition, likelihoods)[1]


def in_products(
    start: np.ndarray, transition: np.ndarray, likelihoods: np.ndarray, *, divide: bool = False, keep: bool = False
) -> Answer:
    """Probabilities instead of logarithms: 0 after some hundred tokens, unless each step divides by its largest."""
    best, before, score = start * likelihoods[0], [], 0.0
    for likelihood in likelihoods[1:]:
        ways = best[:, None] * transition
        before.append(ways.argmax(0))
        best = ways.max(0) * likelihood
        if divide:
            score += float(np.log(best.max()))
            best = best / best.max()
    with np.errstate(divide="ignore"):
        score = float(np.log(best.max())) + (score if keep else 0.0)
    path = walk_back(int(best.argmax()), np.array([np.zeros(len(start), dtype=int), *before]))
    return path, score


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


def chains(seed: int) -> list[tuple[Any, ...]]:
    """A tiny chain by hand, one token alone, some random ones, one of 600 tokens; in one of them a move that never happens."""
    rng = np.random.default_rng(seed)
    by_hand = (np.array([0.5, 0.5]), np.array([[0.75, 0.25], [0.375, 0.625]]))
    cases = [(*by_hand, np.array([[0.5, 0.25]])), (*by_hand, np.array([[0.5, 0.25], [0.25, 0.75]]))]
    for T, K in ((5, 3), (7, 4), (600, 3), (6, 5)):
        transition = rng.dirichlet(np.full(K, 0.7), size=K)
        if K == 5:
            transition = np.where(np.arange(25).reshape(5, 5) == 10, 0.0, transition)
        transition = transition / transition.sum(1, keepdims=True)
        cases.append((rng.dirichlet(np.ones(K)), transition, rng.uniform(0.01, 0.3, (T, K))))
    return cases


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
            "products of many probabilities are 0, and then all paths are alike: add logarithms instead",
        ),
        Mistake(
            "divided, score lost",
            lambda start, moves, seen: in_products(start, moves, seen, divide=True),
            "the path is right, but the score has lost what you divided by: add its logarithm up, or work in logarithms",
        ),
        Mistake(
            "a sum for the largest",
            lambda *chain: by_tables(*chain, gather=np.logaddexp.reduce),
            "you add up all ways into a state: that is the forward recursion. Here the best one counts alone",
        ),
        Mistake(
            "largest along the row",
            lambda *chain: by_tables(*chain, axis=1),
            "ways[i, j] goes from i to j: for each j the largest over i, that is along axis 0",
        ),
        Mistake(
            "transposed",
            slip(move=lambda transition, i, j: log(transition[j, i])),
            "row i of transition says where i goes: the way from i to j is transition[i, j]",
        ),
        Mistake(
            "nobody looks back",
            best_scores,
            "you take the best score at each place. The best path to t may have come through a state that did not lead at "
            "t - 1: follow the pointers back from the end",
        ),
        Mistake(
            "greedy",
            greedy,
            "you choose each state at once, after the one before, and can never take it back: decide at the end",
        ),
        Mistake(
            "likeliest state at each place",
            likeliest_states,
            "those are the likeliest states one by one (exercise 3); together they may be no likely path, or an impossible one",
        ),
        Mistake(
            "pointers off by one",
            pointers_off_by_one,
            "the state before t stands in the pointers of t: before[t][path[t]], not before[t - 1]",
        ),
        Mistake(
            "pointers of the last state",
            one_pointer_late,
            "going back, ask for the state just found, not always for the last one",
        ),
        Mistake(
            "backwards",
            told(lambda path, score: (path[::-1].copy(), score)),
            "you found the path from its end: turn it",
        ),
        Mistake(
            "ends in state 0",
            slip(end=lambda scores, likelihoods: 0),
            "the path ends where the score is largest",
        ),
        Mistake(
            "end by the last token",
            slip(end=lambda scores, likelihoods: int(likelihoods[-1].argmax())),
            "the last state is the one with the best score",
        ),
        Mistake(
            "start not used",
            slip(first=lambda start, row, j: log(row[j])),
            "where does a path begin? The first score has log(start) in it",
        ),
        Mistake(
            "first token not seen",
            slip(first=lambda start, row, j: log(start[j])),
            "the first token counts, too",
        ),
        Mistake(
            "token of the step before",
            slip(weigh=lambda likelihoods, t, j: log(likelihoods[t - 1, j])),
            "a path that is in j at t makes token t there",
        ),
        Mistake(
            "moves not weighed",
            slip(move=lambda transition, i, j: 0.0),
            "the way from i to j costs nothing: where is `transition`?",
        ),
        Mistake(
            "likelihoods as they are",
            slip(
                first=lambda start, row, j: log(start[j]) + row[j],
                weigh=lambda likelihoods, t, j: float(likelihoods[t, j]),
            ),
            "you add probabilities to logarithms: take the logarithm of likelihoods, too",
        ),
        Mistake(
            "transition as it is",
            slip(move=lambda transition, i, j: float(transition[i, j])),
            "you add probabilities to logarithms: take the logarithm of transition, too",
        ),
        Mistake("path alone", told(lambda path, score: path), "two answers: the path, and its log-probability"),
        Mistake("exchanged", told(lambda path, score: (score, path)), "the path comes first"),
        Mistake("a list", told(lambda path, score: (path.tolist(), score)), "a list is no array: np.array(path)"),
        Mistake(
            "first state missing",
            told(lambda path, score: (path[1:].copy(), score)),
            "one state for each token: T - 1 pointers, and the last state itself",
        ),
    ),
    (by_tables, from_behind, lambda start, moves, seen: in_products(start, moves, seen, divide=True, keep=True)),
)

EXERCISES = (VITERBI,)
