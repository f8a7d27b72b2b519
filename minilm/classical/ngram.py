"""The n-gram model: count what followed the last few tokens, and trust long contexts as far as their counts go.

ids (N,) -> log-probabilities in nats. Every smoothing is one recursion over the context lengths m = 0 ... order - 1:

    p_m(w | m tokens) = share(m tokens, w) + leftover(m tokens) * p_{m-1}(w | the last m - 1 of them)

with p_{-1} = 1 / V: `share` is what the counts say, `leftover` the probability that is left to the shorter context.
With c = how often w came after the context, total = how often any token did:

    smoothing                 share             leftover
    maximum-likelihood        c / total         0
    add-k                     c / (total + kV)  kV / (total + kV), spread over 1 / V, not over the shorter context
    interpolated-kneser-ney   (c - D) / total   D * (number of different tokens seen after the context) / total
    kneser-ney (modified)     (c - Dj) / total  all Dj taken away / total; D1, D2, D3 for c = 1, 2, 3 and more

A context that was never seen has share 0 and leftover 1: the shorter one decides (with add-k, 1 / V does).

In Kneser-Ney only the longest n-grams have real counts. A shorter one counts the *different* tokens seen before it:
where "Francisco" follows only "San", it is a likely word after "San" and an unlikely one elsewhere, however often it
occurs. An n-gram that begins at <|endoftext|> has nothing before it and keeps its real count. Every token gets a
probability above 0, even one that the text never used: its part of the last 1 / V. So no id is unknown to the model.

<|endoftext|> stands before each document. It is the first token of every context, and no context reaches back beyond it;
after a document it is the token to predict, so the model knows where documents end and `generate` stops there. The
one that opens the stream is never predicted. The last document of a stream may have been cut: its end only counts if
the stream has one more <|endoftext|> behind it.

Kneser and Ney (1995); Chen and Goodman (1998), "An empirical study of smoothing techniques for language modeling".
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minilm.classical.config import NgramConfig
from minilm.classical.counting import draw
from minilm.classical.discounts import choose_discounts

UNSEEN = -1  # the row of an n-gram that was never seen; as an index it reads the last entry of every array, made for it


@dataclass(frozen=True)
class Level:
    """All n-grams of one length, sorted. Row r has the key (row of its context, one level down) * V + its last token.

    The n-grams of one context are neighbours: rows first[context] ... first[context] + size[context] - 1.
    The last entry of each array stands for everything UNSEEN: share 0, leftover 1, size 0.
    """

    keys: np.ndarray  # (R + 1,) int64
    counts: np.ndarray  # (R,) int64
    share: np.ndarray  # (R + 1,) float64
    leftover: np.ndarray  # (contexts + 1,) float64
    first: np.ndarray  # (contexts + 1,) int64
    size: np.ndarray  # (contexts + 1,) int64

    @classmethod
    def of(cls, vocab_size: int, keys: np.ndarray, counts: np.ndarray, share: np.ndarray, left: np.ndarray) -> "Level":
        """From the sorted keys (R,) with their counts and shares, and the leftover of every context (contexts,)."""
        size = np.bincount(keys // vocab_size, minlength=len(left))
        return cls(
            keys=np.append(keys, np.iinfo(np.int64).max),
            counts=counts,
            share=np.append(share, 0.0),
            leftover=np.append(left, 1.0),
            first=np.append(np.cumsum(size) - size, 0),
            size=np.append(size, 0),
        )

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The rows of these keys, UNSEEN where there is none: a binary search."""
        rows = np.searchsorted(self.keys, keys)
        return np.where(self.keys[rows] == keys, rows, UNSEEN)


class NgramLM:
    """A language model made of counts.

    >>> config = NgramConfig(vocab_size=4, order=2, smoothing="maximum-likelihood")
    >>> model = NgramLM(config).fit(np.array([3, 0, 1, 0, 2]), end_of_text=3)
    >>> np.exp(model.next_log_probs(np.array([0])))  # after token 0 came token 1 once and token 2 once
    array([0. , 0.5, 0.5, 0. ])
    """

    kind = "ngram"

    def __init__(self, config: NgramConfig) -> None:
        self.config = config
        self.end_of_text = 0  # until it is counted
        self.levels: list[Level] = []
        self.discounts = np.zeros((config.order, 4))  # what a count of 0, 1, 2, 3 or more loses, for each order

    @property
    def context_tokens(self) -> int:
        """How many tokens of the past the model looks at."""
        return self.config.order - 1

    @property
    def n_parameters(self) -> int:
        """How many different n-grams, of all lengths, the model has counted."""
        return sum(int(np.count_nonzero(level.counts)) for level in self.levels)

    def fit(self, ids: np.ndarray, end_of_text: int) -> "NgramLM":
        """Count a stream of ids (N,), in which each document begins with end_of_text. Contexts never cross it.

        A text too small to estimate the discounts of an order gets standard ones, and one logged warning says so.
        """
        V, kneser_ney = self.config.vocab_size, self.config.is_kneser_ney
        self.end_of_text = int(check_ids([end_of_text], V)[0])
        ids = check_ids(ids, V)
        past = history_lengths(ids, end_of_text)[:-1]
        rows = ids  # rows[t]: the row, one level down, of the n-gram that ends with ids[t]
        keys, counts = [np.arange(V)], [np.bincount(ids[int(ids[0] == end_of_text) :], minlength=V)]
        begins = np.zeros(V, dtype=bool)  # which n-grams one level down begin at <|endoftext|>
        for length in range(2, self.config.order + 1):
            here = np.flatnonzero(past >= length - 1)
            key, row, count = np.unique(rows[here - 1] * V + ids[here], return_inverse=True, return_counts=True)
            if kneser_ney:
                shorter = np.empty(len(key), dtype=np.int64)  # the n-gram without its first token
                shorter[row] = rows[here]
                counts[-1] = np.where(begins, counts[-1], np.bincount(shorter, minlength=len(begins)))
                begins = key // V == end_of_text if length == 2 else begins[key // V]
            keys.append(key)
            counts.append(count)
            rows = np.full(len(ids), UNSEEN, dtype=np.int64)
            rows[here] = row
        self._weigh(keys, counts, choose_discounts(self.config, counts))
        return self

    def _weigh(self, keys: list[np.ndarray], counts: list[np.ndarray], discounts: np.ndarray) -> None:
        """Counts -> share and leftover of every level: the table at the top of this file."""
        V, self.discounts = self.config.vocab_size, discounts
        imagined = self.config.k * V if self.config.smoothing == "add-k" else 0.0
        self.levels, n_contexts = [], 1
        for key, count, discount in zip(keys, counts, discounts, strict=True):
            context, taken = key // V, discount[np.minimum(count, 3)]
            total = np.bincount(context, count, n_contexts) + imagined
            left = np.bincount(context, taken, n_contexts) + imagined
            share = np.divide(count - taken, total[context], out=np.zeros(len(key)), where=count > 0)
            leftover = np.divide(left, total, out=np.ones(n_contexts), where=total > 0)
            self.levels.append(Level.of(V, key, count, share, leftover))
            n_contexts = len(key)

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """(order + 1, N + 1): rows[m, t] is the row of the n-gram made of the m tokens before ids[t], the context there."""
        if not self.levels:
            raise ValueError("this n-gram model has no counts: call fit(ids, end_of_text) first")
        rows = np.full((len(self.levels) + 1, len(ids) + 1), UNSEEN, dtype=np.int64)
        rows[0] = 0  # the empty context
        for m, level in enumerate(self.levels):
            # Nothing was ever counted after a context that crosses <|endoftext|>, so those need no care here.
            rows[m + 1, 1:] = level.find(rows[m, :-1] * self.config.vocab_size + ids)
        return rows

    def token_log_probs(self, ids: np.ndarray, past: np.ndarray | None = None) -> np.ndarray:
        """log p(ids[t] | the past[t] tokens before it), in nats: (N,) -> (N,) float64.

        The past (N,) reaches back to the last <|endoftext|>, if it is not given. Many documents are scored at once as one
        stream. Without smoothing (maximum-likelihood) a token never seen after its context gets -inf.
        """
        ids, V = check_ids(ids, self.config.vocab_size), self.config.vocab_size
        rows = self._rows(ids)
        past = history_lengths(ids, self.end_of_text)[:-1] if past is None else past
        p = np.full(len(ids), 1 / V)
        for m, level in enumerate(self.levels):
            shorter = 1 / V if self.config.smoothing == "add-k" else p
            longer = level.share[rows[m + 1, 1:]] + level.leftover[rows[m, :-1]] * shorter
            p = np.where(past >= m, longer, p)
        with np.errstate(divide="ignore"):
            return np.log(p)

    def score(self, document: Sequence[int] | np.ndarray, with_end: bool = True) -> float:
        """log p(this document), in nats: ids (N,) without <|endoftext|>; `with_end` also that nothing more follows."""
        end, ids = [self.end_of_text], check_ids(document, self.config.vocab_size, allow_empty=True)
        stream = np.concatenate([end, ids, end])
        return float(self.token_log_probs(stream)[1 : len(stream) - (not with_end)].sum())

    def log_probs(self, ids: np.ndarray, last: int | None = None) -> np.ndarray:
        """log p(any token | ids[: t + 1]) for all t, or the `last` ones: (N,) -> (last, V) float64, in nats."""
        ids, V = check_ids(ids, self.config.vocab_size, allow_empty=True), self.config.vocab_size
        rows, past = self._rows(ids), history_lengths(ids, self.end_of_text)
        n = len(ids) if last is None else last
        p = np.full((n, V), 1 / V)
        for m, level in enumerate(self.levels):
            context, exists = rows[m, len(ids) + 1 - n :], past[len(ids) + 1 - n :] >= m
            shorter = 1 / V if self.config.smoothing == "add-k" else p
            p = np.where(exists[:, None], level.leftover[context][:, None] * shorter, p)
            size = level.size[context]
            place = np.repeat(np.arange(n), size)
            seen = np.arange(len(place)) + np.repeat(level.first[context] - (np.cumsum(size) - size), size)
            p[place, level.keys[seen] % V] += level.share[seen]
        with np.errstate(divide="ignore"):
            return np.log(p)

    def next_log_probs(self, context: np.ndarray) -> np.ndarray:
        """log p(next token | context), in nats: (N,) -> (V,). The context may be empty."""
        return self.log_probs(np.asarray(context)[max(0, len(context) - self.context_tokens) :], last=1)[0]

    def generate(self, context: Sequence[int] | np.ndarray, uniforms: Iterable[float]) -> Iterator[int]:
        """Go on from a context (N,): `draw` a token for each number u in [0, 1), until <|endoftext|>, which is left out."""
        text = deque(context, maxlen=self.context_tokens)
        for u in uniforms:
            token = draw(np.exp(self.next_log_probs(np.array(text))), u)
            if token == self.end_of_text:
                return
            yield token
            text.append(token)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint stores: the sorted n-grams, their counts and the discounts. The rest follows from them."""
        arrays = {"end_of_text": np.array([self.end_of_text]), "discounts": self.discounts}
        for n, level in enumerate(self.levels, start=1):
            arrays |= {f"keys.{n}": level.keys[:-1], f"counts.{n}": level.counts}
        return arrays

    @classmethod
    def from_arrays(cls, config: NgramConfig, arrays: Mapping[str, np.ndarray]) -> "NgramLM":
        """The model that these arrays came from; ValueError if they are not those of a model with this config."""
        given = {name: np.asarray(array) for name, array in arrays.items()}
        keys, counts = ([f"{name}.{n}" for n in range(1, config.order + 1)] for name in ("keys", "counts"))
        wrong = sorted(given.keys() ^ {"end_of_text", "discounts", *keys, *counts})
        if wrong or len(given["keys.1"]) != config.vocab_size:
            raise ValueError(f"not the counts of order {config.order} over {config.vocab_size} tokens: {wrong[:3]}")
        model = cls(config)
        model.end_of_text = int(given["end_of_text"][0])
        model._weigh([given[name] for name in keys], [given[name] for name in counts], given["discounts"])
        return model


def history_lengths(ids: np.ndarray, end_of_text: int) -> np.ndarray:
    """How many tokens each place 0..N can see, back to the last <|endoftext|>, itself included: (N,) -> (N + 1,).

    >>> history_lengths(np.array([9, 4, 7, 9, 5]), end_of_text=9)
    array([0, 1, 2, 3, 1, 2])
    """
    places = np.arange(len(ids) + 1)
    begin = np.maximum.accumulate(np.where(ids == end_of_text, places[:-1], 0))
    return np.append(0, places[1:] - begin)


def check_ids(ids: np.ndarray | Sequence[int], vocab_size: int, allow_empty: bool = False) -> np.ndarray:
    """The ids as int64 (N,); ValueError if there are none, or one is not in 0..vocab_size - 1."""
    array = np.asarray(ids)
    if len(array) == 0:
        if allow_empty:
            return array.astype(np.int64)
        raise ValueError("no ids to count or to score: give at least one token")
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"ids must be one row of integers, got shape {array.shape} of {array.dtype}")
    if array.min() < 0 or array.max() >= vocab_size:
        raise ValueError(f"ids {array.min()} to {array.max()} go beyond 0..{vocab_size - 1}: use the model's tokenizer")
    return array.astype(np.int64)
