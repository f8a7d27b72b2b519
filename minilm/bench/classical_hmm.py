"""The hidden Markov model beside the same recursions in plain Python, and beside hmmlearn where that is installed."""

import importlib.util
import logging
import math
from collections.abc import Callable
from functools import partial

import numpy as np

from minilm.classical.config import HMMConfig
from minilm.classical.hmm import HMM
from minilm.classical.hmm_train import Counts, expected_counts, maximise, random_hmm, supervised_counts

logger = logging.getLogger(__name__)
Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]
Rows = list[list[float]]


def contests(n_documents: int = 100, length: int = 250, n_states: int = 8, vocab_size: int = 64) -> Contests:
    """A round of Baum-Welch and the best paths of documents of random tokens. ValueError if both sides differ."""
    config, end = HMMConfig(vocab_size, n_states), vocab_size - 1
    rng = np.random.default_rng(0)
    model = random_hmm(config, rng, end_of_text=end)
    documents = [np.append(rng.integers(0, end, n), end) for n in rng.integers(length // 2, length, n_documents)]
    stream = np.concatenate(documents)
    rows = [ids.tolist() for ids in documents]
    tables = (model.start.tolist(), model.transition.tolist(), model.emission.tolist())
    counted = expected_counts(model, stream)
    same("a round of Baum-Welch", counted.emission, plain_counts(*tables, rows)[2], 1e-8)
    same("the best paths", model.states(stream), [state for row in rows for state in plain_viterbi(*tables, row)], 0)
    size = f"{len(stream):,} tokens in {n_documents} documents, {n_states} states"
    found: Contests = {
        f"Baum-Welch, a round on {size} / plain loops": (
            partial(expected_counts, model, stream),
            partial(plain_counts, *tables, rows),
        ),
        f"Viterbi on {size} / plain loops": (
            partial(model.states, stream),
            lambda: [plain_viterbi(*tables, row) for row in rows],
        ),
    }
    if importlib.util.find_spec("hmmlearn"):
        return found | against_hmmlearn(model, documents, counted, size)
    logger.warning("no comparison with hmmlearn (pip install hmmlearn): it is not installed")
    return found


def plain_forward(start: list[float], transition: Rows, emission: Rows, ids: list[int]) -> tuple[Rows, list[float]]:
    """Beliefs and the probability of each token, one number at a time."""
    states, beliefs, scales = range(len(start)), [], []
    expected = start
    for token in ids:
        joint = [expected[j] * emission[j][token] for j in states]
        scales.append(sum(joint))
        beliefs.append([p / scales[-1] for p in joint])
        expected = [sum(beliefs[-1][i] * transition[i][j] for i in states) for j in states]
    return beliefs, scales


def plain_counts(
    start: list[float], transition: Rows, emission: Rows, documents: list[list[int]]
) -> tuple[list[float], Rows, Rows]:
    """Expected first states, moves and tokens of all documents, one number at a time."""
    states = range(len(start))
    firsts, moves = [0.0 for _ in states], [[0.0 for _ in states] for _ in states]
    tokens = [[0.0] * len(emission[0]) for _ in states]
    for ids in documents:
        beliefs, scales = plain_forward(start, transition, emission, ids)
        ahead = [1.0 for _ in states]
        for t in range(len(ids) - 1, -1, -1):
            for j in states:
                tokens[j][ids[t]] += beliefs[t][j] * ahead[j]
            if t == 0:
                for j in states:
                    firsts[j] += beliefs[0][j] * ahead[j]
                continue
            arrivals = [emission[j][ids[t]] * ahead[j] / scales[t] for j in states]
            for i in states:
                for j in states:
                    moves[i][j] += beliefs[t - 1][i] * transition[i][j] * arrivals[j]
            ahead = [sum(transition[i][j] * arrivals[j] for j in states) for i in states]
    return firsts, moves, tokens


def plain_viterbi(start: list[float], transition: Rows, emission: Rows, ids: list[int]) -> list[int]:
    """The likeliest path through one document, one number at a time."""
    states = range(len(start))
    best = [math.log(start[j]) + math.log(emission[j][ids[0]]) for j in states]
    came_from: list[list[int]] = []
    for token in ids[1:]:
        before = [max(states, key=lambda i: best[i] + math.log(transition[i][j])) for j in states]
        best = [best[before[j]] + math.log(transition[before[j]][j]) + math.log(emission[j][token]) for j in states]
        came_from.append(before)
    path = [max(states, key=lambda j: best[j])]
    for before in reversed(came_from):
        path.append(before[path[-1]])
    return path[::-1]


def against_hmmlearn(model: HMM, documents: list[np.ndarray], counted: Counts, size: str) -> Contests:
    """One round of its `fit` beside ours, from the same model, and its best paths."""
    from hmmlearn.hmm import CategoricalHMM

    column, lengths = np.concatenate(documents)[:, None], [len(ids) for ids in documents]

    def peer(n_rounds: int) -> CategoricalHMM:
        made = CategoricalHMM(
            model.config.n_states, n_iter=n_rounds, init_params="", n_features=model.config.vocab_size
        )
        made.startprob_, made.transmat_, made.emissionprob_ = model.start, model.transition, model.emission
        return made

    logging.getLogger("hmmlearn.base").setLevel(logging.ERROR)  # it warns that one round is not the end
    ours = maximise(counted, model, 0.0)
    theirs = peer(1).fit(column, lengths)
    same("hmmlearn's round", ours.emission, theirs.emissionprob_, 1e-8)
    same("hmmlearn's transitions", ours.transition, theirs.transmat_, 1e-8)
    same("hmmlearn's log-probability", counted.log_prob, peer(1).score(column, lengths), 1e-6)
    stream = column[:, 0]
    ours_best, their_best = model.states(stream), peer(1).predict(column, lengths)
    nats = [path_log_prob(model, documents, path) for path in (ours_best, their_best)]
    same("hmmlearn's best paths", nats[0], nats[1], 1e-6)  # of equally likely ones it may take another
    return {
        f"Baum-Welch, a round on {size} / hmmlearn": (
            lambda: maximise(expected_counts(model, stream), model, 0.0),
            lambda: peer(1).fit(column, lengths),
        ),
        f"Viterbi on {size} / hmmlearn": (partial(model.states, stream), partial(peer(1).predict, column, lengths)),
    }


def path_log_prob(model: HMM, documents: list[np.ndarray], path: np.ndarray) -> float:
    """log p(paths, tokens) of all documents, whose paths stand one behind the other, in nats."""
    parts = np.split(path, np.cumsum([len(ids) for ids in documents])[:-1])
    counts = supervised_counts(zip(parts, documents, strict=True), model.config.n_states, model.config.vocab_size)
    rows = (model.start, model.transition, model.emission)
    return float(sum((count * np.log(p)).sum() for count, p in zip(counts, rows, strict=True)))


def same(what: str, ours: object, theirs: object, at_most: float) -> None:
    """ValueError unless both sides say the same."""
    apart = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not apart <= at_most:
        raise ValueError(f"{what}: ours and the peer's are {apart:.2g} apart, at most {at_most:.2g} is rounding")
