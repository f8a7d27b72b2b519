"""How a hidden Markov model learns: by counting, where the states are known, and by Baum-Welch, where they are not.

Counting: how often a state comes first, follows another, makes a token; shares of these counts are the likeliest model.

Baum-Welch: guess a model, ask it how often each of these happened, as expected over all paths (`expected_counts`), take the
shares of that as the new model (`maximise`), and so on. Why it works: the slope of the text's log-probability along the
logarithm of a probability is that probability's expected count, so the shares are where a lower bound, which touches the
log-probability at the old model, is highest. No round makes the text less likely. Where it ends depends on the guess.

With a `pseudo_count` k each count is k larger, as if so much had been seen before. Then what never falls is the
log-probability of the text plus k times the sum of the logarithms of all probabilities: the `objective`.

Baum, Petrie, Soules and Weiss (1970); Dempster, Laird and Rubin (1977), "Maximum likelihood from incomplete data via the EM
algorithm".
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from minilm.classical.config import HMMConfig, HMMTraining
from minilm.classical.hmm import FILL, HMM
from minilm.classical.hmm_chain import smooth
from minilm.classical.ngram import check_ids


class Counts(NamedTuple):
    """How often, expected or seen: a state came first (K,), i was followed by j (K, K), a state made a token (K, V)."""

    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray
    log_prob: float = 0.0  # of the text, under the model that was asked, in nats


class Round(NamedTuple):
    """A model on its way: how many rounds it has behind it, log p(text), and what Baum-Welch makes larger, in nats."""

    number: int
    log_prob: float
    objective: float
    tokens: int

    @property
    def nats_per_token(self) -> float:
        return -self.log_prob / self.tokens


def random_hmm(
    config: HMMConfig, rng: np.random.Generator, frequencies: np.ndarray | None = None, end_of_text: int = 0
) -> HMM:
    """A guess to begin with: each probability is drawn at random, exponentially around the even one.

    `frequencies` (V,) say how often tokens occur; on average the states make them so. States that are exactly alike stay
    alike for ever, and nearly alike ones stay so for many rounds, in which nothing seems to be gained.
    """
    K, V = config.n_states, config.vocab_size
    even = np.ones(V) if frequencies is None else np.asarray(frequencies, dtype=np.float64)
    rows = rng.exponential(size=K), rng.exponential(size=(K, K)), rng.exponential(size=(K, V)) * even
    start, transition, emission = (row / row.sum(-1, keepdims=True) for row in rows)
    return HMM(config, start, transition, emission, end_of_text)


def supervised_counts(
    sequences: Iterable[tuple[Any, Any]], n_states: int, vocab_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of sequences whose states are known: pairs of states (T,) and tokens (T,). Empty ones count nothing.

    They are those of `Counts`: first states (K,), moves (K, K) and tokens (K, V).

    >>> start, transition, emission = supervised_counts([([0, 1, 1], [4, 2, 2])], n_states=2, vocab_size=5)
    >>> transition  # once from 0 to 1, once from 1 to 1
    array([[0., 1.],
           [0., 1.]])
    """
    K, V = n_states, vocab_size
    start, transition, emission = np.zeros(K), np.zeros(K * K), np.zeros(K * V)
    for path, tokens in sequences:
        states, ids = (check_ids(row, size, allow_empty=True) for row, size in ((path, K), (tokens, V)))
        if len(states) != len(ids):
            raise ValueError(f"{len(states)} states for {len(ids)} tokens: give one for each")
        start[states[:1]] += 1
        transition += np.bincount(states[:-1] * K + states[1:], minlength=K * K)
        emission += np.bincount(states * V + ids, minlength=K * V)
    return start, transition.reshape(K, K), emission.reshape(K, V)


def expected_counts(model: HMM, ids: np.ndarray) -> Counts:
    """What the model expects to have happened when the stream (N,) was made; N is the sum of the counts of tokens.

    ValueError for a stream that the model finds impossible.
    """
    K, V = model.config.n_states, model.config.vocab_size
    counts = Counts(np.zeros(K), np.zeros((K, K)), np.zeros((K, V)))
    log_prob = 0.0
    for places in model.batches(ids):
        known = places != FILL
        found = smooth(model.start, model.transition, model.likelihoods(ids, places), known)
        tokens, states = ids[places[known]], found.states[known]  # (n,), (n, K)
        counts.start[:] += found.states[0].sum(0)
        counts.transition[:] += found.moves
        counts.emission[:] += np.stack([np.bincount(tokens, column, V) for column in states.T])
        log_prob += float(found.log_probs[known].sum())
    return counts._replace(log_prob=log_prob)


def shares(counts: np.ndarray, pseudo_count: float, otherwise: np.ndarray) -> np.ndarray:
    """Each row of counts (..., n) with pseudo_count added, divided by its sum; a row without any is taken from `otherwise`.

    >>> shares(np.array([[3.0, 1.0], [0.0, 0.0]]), 0.0, otherwise=np.array([[0.5, 0.5], [0.9, 0.1]]))
    array([[0.75, 0.25],
           [0.9 , 0.1 ]])
    """
    all_of_them = counts + pseudo_count
    total = all_of_them.sum(-1, keepdims=True)
    return np.divide(all_of_them, total, out=np.array(otherwise), where=total > 0)


def maximise(counts: Counts, model: HMM, pseudo_count: float) -> HMM:
    """The model for which these counts are likeliest. A state that was never in use stays as it is in `model`."""
    start, transition, emission = (
        shares(getattr(counts, name), pseudo_count, getattr(model, name))
        for name in ("start", "transition", "emission")
    )
    return HMM(model.config, start, transition, emission, model.end_of_text)


def objective(model: HMM, log_prob: float, pseudo_count: float) -> float:
    """What no round makes smaller: log p(text) + pseudo_count * sum of the logarithms of all probabilities."""
    if not pseudo_count:
        return log_prob
    rows = (model.start, model.transition, model.emission)
    with np.errstate(divide="ignore"):
        return log_prob + pseudo_count * float(sum(np.log(row).sum() for row in rows))


def baum_welch(
    model: HMM, ids: np.ndarray, training: HMMTraining, on_round: Callable[[Round], Any] | None = None
) -> tuple[HMM, list[Round]]:
    """Better and better models for a stream of ids (N,), and the last of them; the rounds, from the first guess on.

    The stream is split at <|endoftext|>; one that opens it is given. `on_round` sees each model's figures as soon as they
    are known, and ends the learning by returning True. The last round's figures are those of the model returned.
    """
    ids = check_ids(ids, model.config.vocab_size)
    ids = ids[int(ids[0] == model.end_of_text) :]
    if len(ids) == 0:
        raise ValueError("there is nothing to learn from but <|endoftext|>: give at least one document")
    rounds: list[Round] = []
    while True:
        counts = expected_counts(model, ids)
        value = objective(model, counts.log_prob, training.pseudo_count)
        gain = value - rounds[-1].objective if rounds else np.inf
        rounds.append(Round(len(rounds), counts.log_prob, value, len(ids)))
        stop = on_round is not None and on_round(rounds[-1]) is True
        if stop or len(rounds) > training.iterations or gain < training.tolerance * len(ids):
            return model, rounds
        model = maximise(counts, model, training.pseudo_count)


def learn_hmm(
    config: HMMConfig,
    ids: np.ndarray,
    end_of_text: int,
    training: HMMTraining,
    rng: np.random.Generator,
    on_round: Callable[[Round], Any] | None = None,
) -> tuple[HMM, list[Round]]:
    """A model learned from the first ids of a stream (N,): a random guess, on which all depends, then `baum_welch`."""
    ids = np.asarray(ids[: training.most_tokens or None])
    frequencies = np.bincount(check_ids(ids, config.vocab_size), minlength=config.vocab_size) + training.pseudo_count
    return baum_welch(random_hmm(config, rng, frequencies, end_of_text), ids, training, on_round)
