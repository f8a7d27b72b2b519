"""The hidden Markov model as a language model: behind every token stands a state that nobody sees.

Each document is made so: the first state is drawn from `start`, each next one from the row of `transition` of the state
before, and every state makes one token, drawn from its row of `emission`. <|endoftext|> is a token like the others: the
state that makes it ends the document, and the next document begins anew. So a stream of documents is read as

    <|endoftext|> t1 t2 t3 <|endoftext|> t1 ...        the first <|endoftext|> is given, every other is predicted

and a row of ids that begins without it is read as the beginning of a document. All that the model knows of the past is
how likely each state comes next, K numbers:

    p(next token w | past) = sum over states j of expected(j) * emission(j, w)

An n-gram knows the last tokens exactly and forgets all before them; an HMM may keep one of K things for ever.

The recursions are in hmm_chain.py, the learning in hmm_train.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from minilm.classical.config import HMMConfig
from minilm.classical.counting import draw
from minilm.classical.hmm_chain import smooth, token_log_probs, viterbi
from minilm.classical.hmm_log import log_observe, log_sum
from minilm.classical.ngram import check_ids

FILL = -1  # no place of the stream; as an index it reads the last entry of an array, made for it
MOST_NUMBERS = 2**23  # in one array of a batch: 64 MB


class HMM:
    """K hidden states over V tokens: start (K,), transition (K, K), emission (K, V), each row a distribution.

    ValueError where shapes do not fit the config, or a row does not sum to 1.

    >>> vowels = HMM(HMMConfig(3, 2), [0.5, 0.5], [[0.1, 0.9], [0.9, 0.1]], [[0.9, 0.0, 0.1], [0.0, 0.9, 0.1]], end_of_text=2)
    >>> vowels.states(np.array([0, 1, 0, 2]))  # two states that take turns, and the end
    array([0, 1, 0, 1])
    """

    kind = "hmm"

    def __init__(
        self,
        config: HMMConfig,
        start: np.ndarray | Sequence[float],
        transition: np.ndarray | Sequence[Sequence[float]],
        emission: np.ndarray | Sequence[Sequence[float]],
        end_of_text: int = 0,
    ) -> None:
        K, V = config.n_states, config.vocab_size
        self.config = config
        self.start = distributions("start", start, (K,))
        self.transition = distributions("transition", transition, (K, K))
        self.emission = distributions("emission", emission, (K, V))
        self.end_of_text = int(check_ids([end_of_text], V)[0])
        with np.errstate(divide="ignore"):
            logs = [np.log(array) for array in (self.start, self.transition, self.emission.T)]
        self.log_start, self.log_transition, self.log_likelihoods = logs  # the last one: (V, K)

    @property
    def n_parameters(self) -> int:
        """How many probabilities the model holds: K + K * K + K * V."""
        return self.start.size + self.transition.size + self.emission.size

    # ---- a stream of documents, scored and explained

    def token_log_probs(self, ids: np.ndarray) -> np.ndarray:
        """log p(ids[t] | the tokens before it in its document), in nats: (N,) -> (N,), in O(N K^2), without a (N, V) array.

        Where the stream begins with <|endoftext|>, that one is scored as the end of an empty document.
        """
        ids = check_ids(ids, self.config.vocab_size)
        found = np.empty(len(ids) + 1)
        for places in self.batches(ids):
            found[places] = token_log_probs(self.start, self.transition, self.likelihoods(ids, places))
        return found[:-1]

    def score(self, document: Sequence[int] | np.ndarray, with_end: bool = True) -> float:
        """log p(this document), in nats: ids (N,) without <|endoftext|>; `with_end` also that nothing more follows."""
        ids = check_ids(document, self.config.vocab_size, allow_empty=True)
        stream = np.append(ids, self.end_of_text)
        return float(self.token_log_probs(stream)[: len(stream) - (not with_end)].sum())

    def posteriors(self, ids: np.ndarray) -> np.ndarray:
        """p(state at t | all tokens of its document): (N,) -> (N, K). ValueError for a document that is impossible."""
        ids = check_ids(ids, self.config.vocab_size)
        found = np.empty((len(ids) + 1, self.config.n_states))
        for places in self.batches(ids):
            found[places] = smooth(self.start, self.transition, self.likelihoods(ids, places)).states
        return found[:-1]

    def states(self, ids: np.ndarray) -> np.ndarray:
        """The likeliest path of states through each document of a stream: (N,) -> (N,). ValueError if there is none."""
        ids = check_ids(ids, self.config.vocab_size)
        found = np.empty(len(ids) + 1, dtype=np.int64)
        for places in self.batches(ids):
            lengths = (places != FILL).sum(0)
            path, nats = viterbi(self.start, self.transition, self.likelihoods(ids, places), lengths)
            if np.isneginf(nats).any():
                first = int(places[0, np.argmin(nats)])
                raise ValueError(f"the document from token {first} on is impossible: no path of states can make it")
            found[places] = path
        return found[:-1]

    def batches(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """The documents of a stream side by side: places (T, B) in the stream, FILL behind the end of the shorter ones."""
        return document_batches(ids, self.end_of_text, MOST_NUMBERS // self.config.n_states)

    def likelihoods(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        """p(token | state) at these places, (T, B, K); 1 where there is no token."""
        nothing = self.config.vocab_size
        table = np.concatenate([self.emission.T, np.ones((1, self.config.n_states))])
        return table[np.append(ids, nothing)[places]]

    # ---- reading on from what was read before

    def beginning(self, n_rows: int) -> np.ndarray:
        """log p(state of the first token): (n_rows, K)."""
        return np.tile(self.log_start, (n_rows, 1))

    def follow(self, ids: np.ndarray, log_expected: np.ndarray) -> np.ndarray:
        """Read ids (B, T) on from log p(next state) (B, K): the same after every token, (B, T, K).

        In logarithms, since what is impossible by now may be all that is left later.
        """
        found = np.empty((*ids.shape, self.config.n_states))
        for t, tokens in enumerate(ids.T):
            belief, _ = log_observe(log_expected, self.log_likelihoods[tokens])
            log_expected = log_sum(belief[:, :, None] + self.log_transition, -2)
            ended = (tokens == self.end_of_text)[:, None]
            log_expected = np.where(ended, self.log_start, log_expected)
            found[:, t] = log_expected
        return found

    def predict(self, log_expected: np.ndarray) -> np.ndarray:
        """log p(token), in nats, from log p(its state): (..., K) -> (..., V)."""
        top = log_expected.max(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            return np.log(np.exp(log_expected - top) @ self.emission) + top

    def log_probs(self, ids: np.ndarray, last: int | None = None) -> np.ndarray:
        """log p(any token | ids[: t + 1]) for all t, or the `last` ones: (N,) -> (last, V) float64, in nats."""
        ids = check_ids(ids, self.config.vocab_size, allow_empty=True)
        n = len(ids) if last is None else last
        ended = np.flatnonzero(ids[: len(ids) + 1 - n] == self.end_of_text)
        begin = int(ended[-1]) + 1 if len(ended) else 0  # what is before it, no prediction asks for
        first = self.beginning(1)
        expected = np.concatenate([first, self.follow(ids[None, begin:], first)[0]])
        return self.predict(expected[len(expected) - n :])

    def next_log_probs(self, context: np.ndarray | Sequence[int]) -> np.ndarray:
        """log p(next token | context), in nats: (N,) -> (V,). The context may be empty."""
        return self.log_probs(np.asarray(context, dtype=np.int64), last=1)[0]

    # ---- made up

    def sample(self, uniforms: Iterable[tuple[float, float]]) -> Iterator[tuple[int, int]]:
        """A new document as (state, token) pairs, each `draw`n by two numbers in [0, 1), until <|endoftext|>, left out."""
        expected = self.start
        for u_state, u_token in uniforms:
            state = draw(expected, u_state)
            token = draw(self.emission[state], u_token)
            if token == self.end_of_text:
                return
            yield state, token
            expected = self.transition[state]

    # ---- kept

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint stores."""
        end = np.array([self.end_of_text])
        return {"start": self.start, "transition": self.transition, "emission": self.emission, "end_of_text": end}

    @classmethod
    def from_arrays(cls, config: HMMConfig, arrays: Mapping[str, np.ndarray]) -> "HMM":
        """The model that these arrays came from; ValueError if they are not those of a model with this config."""
        given = {name: np.asarray(array) for name, array in arrays.items()}
        wrong = sorted(given.keys() ^ {"start", "transition", "emission", "end_of_text"})
        if wrong or given["end_of_text"].size != 1:
            raise ValueError(f"not the arrays of a hidden Markov model: {', '.join(wrong[:3]) or 'end_of_text'}")
        return cls(config, given["start"], given["transition"], given["emission"], int(given["end_of_text"].item()))


def distributions(name: str, array: np.ndarray | Sequence, shape: tuple[int, ...]) -> np.ndarray:
    """The array in float64; ValueError if it has another shape, or a row that is no distribution (to 1e-6)."""
    found = np.array(array, dtype=np.float64)
    if found.shape != shape:
        raise ValueError(
            f"{name} has shape {found.shape}, the config wants {shape}: states first, then what they lead to"
        )
    if not (found >= 0).all() or not (np.abs(found.sum(-1) - 1) < 1e-6).all():
        raise ValueError(f"{name}: each row must hold probabilities of at least 0 that sum to 1")
    return found


def document_batches(ids: np.ndarray, end_of_text: int, most: int) -> Iterator[np.ndarray]:
    """Places (T, B) in a stream (N,), a document a column: of similar lengths, at most `most` places unless one has more.

    A document ends with its <|endoftext|>; the last one may have none. FILL stands behind the end of the shorter ones.

    >>> [places.T.tolist() for places in document_batches(np.array([5, 9, 6, 7, 8, 9, 5]), end_of_text=9, most=8)]
    [[[2, 3, 4, 5], [0, 1, -1, -1]], [[6]]]
    """
    borders = np.unique(np.concatenate([[0], np.flatnonzero(ids == end_of_text) + 1, [len(ids)]]))
    begins, lengths = borders[:-1], np.diff(borders)
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        longest = int(lengths[order[0]])
        rows, order = np.split(order, [max(1, most // longest)])
        steps = np.arange(longest)[:, None]
        yield np.where(steps < lengths[rows], begins[rows] + steps, FILL)
