"""What an n-gram model says of its own training text, asked at each place as if it had not counted that place.

A model knows by heart what it has counted: a long context that came once was followed by the very token that it is asked
for. Whoever learns from its answers on that text learns to trust it too much. So one event is taken back before each
answer: the n-grams of all lengths that end at that place lose one count, and all that follows from the counts moves:

    count - 1 for the n-gram, total - 1 for its context, and what the n-gram gives up is that of the smaller count.

In Kneser-Ney a shorter n-gram counts the different tokens before it. It loses one only if the n-gram that is one token
longer came nowhere else; where that one came twice, the shorter levels stay as they are. N-grams of the longest length and
those that begin at <|endoftext|> have real counts and always lose one. The discounts stay those of the whole text. Other
tokens after the same context keep their counts, out of a smaller total: their shares are scaled by total / (total - 1).

Only one n-gram of each length changes, so a place costs hardly more than in `NgramLM`, and nothing is counted again.
Ney, Essen and Kneser (1995), "On the estimation of small probabilities by leaving-one-out".
"""

import numpy as np

from minilm.classical.ngram import UNSEEN, NgramLM, check_ids, history_lengths


class LeaveOneOut:
    """The answers of a model about the ids (N,) that it was fitted on, each without the event it is asked about.

    >>> from minilm.classical.config import NgramConfig
    >>> ids = np.array([3, 0, 1, 0, 2, 0, 1])
    >>> model = NgramLM(NgramConfig(vocab_size=4, order=2, smoothing="maximum-likelihood")).fit(ids, end_of_text=3)
    >>> np.exp(LeaveOneOut(model, ids).log_probs(np.array([2, 4])))  # after 0 came 1, 2 and 1: without the first, 2 and 1
    array([[0. , 0.5, 0.5, 0. ],
           [0. , 1. , 0. , 0. ]])
    """

    def __init__(self, model: NgramLM, ids: np.ndarray) -> None:
        if not model.levels:
            raise ValueError("this n-gram model has no counts: call fit(ids, end_of_text) first")
        self.model, self.ids = model, check_ids(ids, model.config.vocab_size)
        self.past = history_lengths(self.ids, model.end_of_text)[:-1]
        self.rows = ngram_rows(model, self.ids)
        self.gone = self._gone()
        V, config = model.config.vocab_size, model.config
        self.imagined = config.k * V if config.smoothing == "add-k" else 0.0
        self.counts, self.totals, self.left = [], [], []  # each with one more entry, for what is UNSEEN
        for level, discount in zip(model.levels, model.discounts, strict=True):
            context, n = level.keys[:-1] // V, len(level.leftover)
            self.counts.append(np.append(level.counts, 0))
            self.totals.append(np.bincount(context, level.counts, n) + self.imagined)
            self.left.append(np.bincount(context, discount[np.minimum(level.counts, 3)], n) + self.imagined)

    def _gone(self) -> np.ndarray:
        """(order, N): does the n-gram of m + 1 tokens that ends at ids[t] lose a count when its place is left out?"""
        model, order, end = self.model, self.model.config.order, self.model.end_of_text
        gone = np.zeros((order, len(self.ids)), dtype=bool)
        longer_came_once = gone[0]  # no n-gram is longer than the longest
        for m in range(order - 1, -1, -1):
            here = self.past >= m
            here[0] &= self.ids[0] != end  # what opens the stream is never predicted
            ngrams, counts = self.rows[m + 1, 1:], model.levels[m].counts
            times = np.bincount(ngrams[here] - UNSEEN, minlength=len(counts) + 1)  # how often each n-gram really came
            if times[0] or (m == order - 1 and not np.array_equal(times[1:], counts)):
                raise ValueError(f"the model has not counted these {len(self.ids):,} ids: give those of its fit")
            at_start = (self.past == m) & (np.roll(self.ids, m) == end) & (m > 0)
            real = m == order - 1 or not model.config.is_kneser_ney
            gone[m] = here if real else at_start | longer_came_once
            longer_came_once = here & (times[ngrams - UNSEEN] == 1)
        return gone

    def _event(self, m: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of level m at these places (n,), without their events: the share of the token that came, the leftover, and what
        the shares of other tokens are multiplied by; each (n,)."""
        context, ngram, gone = self.rows[m, places], self.rows[m + 1, places + 1], self.gone[m, places]
        discount, before = self.model.discounts[m], self.counts[m][ngram]
        count, total = before - gone, self.totals[m][context] - gone
        taken = discount[np.minimum(count, 3)]
        left = self.left[m][context] - discount[np.minimum(before, 3)] + taken
        known = total > 0
        share, scale = np.zeros((2, len(places)))
        np.divide(count - taken, total, out=share, where=known)
        np.divide(self.totals[m][context], total, out=scale, where=known)
        return share, np.divide(left, total, out=np.ones(len(places)), where=known), scale

    def token_log_probs(self) -> np.ndarray:
        """log p(ids[t] | the tokens before it), in nats, without what was counted at t: (N,) float64."""
        places = np.arange(len(self.ids))
        p = np.full(len(places), 1 / self.model.config.vocab_size)
        for m in range(self.model.config.order):
            share, leftover, _ = self._event(m, places)
            shorter = 1 / self.model.config.vocab_size if self.imagined else p
            p = np.where(self.past >= m, share + leftover * shorter, p)
        with np.errstate(divide="ignore"):
            return np.log(p)

    def log_probs(self, places: np.ndarray) -> np.ndarray:
        """log p(any token | the tokens before ids[t]), in nats, without what was counted at t: places (n,) -> (n, V)."""
        V, n, each = self.model.config.vocab_size, len(places), np.arange(len(places))
        if n and not 0 <= places.min() <= places.max() < len(self.ids):
            raise ValueError(
                f"places {places.min()} to {places.max()}: the text's places go from 0 to {len(self.ids) - 1}"
            )
        target = self.ids[places]
        p = np.full((n, V), 1 / V)
        for m, level in enumerate(self.model.levels):
            share, leftover, scale = self._event(m, places)
            context = self.rows[m, places]
            if self.imagined:
                p[self.past[places] >= m] = 1 / V
            p *= leftover[:, None]
            came = p[each, target] + share
            size = level.size[context]
            place = np.repeat(each, size)
            seen = np.arange(len(place)) + np.repeat(level.first[context] - (np.cumsum(size) - size), size)
            p[place, level.keys[seen] % V] += level.share[seen] * scale[place]
            p[each, target] = came
        with np.errstate(divide="ignore"):
            return np.log(p)


def ngram_rows(model: NgramLM, ids: np.ndarray) -> np.ndarray:
    """(order + 1, N + 1): at [m, t] the row in the model's levels of the n-gram made of the m tokens before ids[t]."""
    rows = np.full((model.config.order + 1, len(ids) + 1), UNSEEN, dtype=np.int32)
    rows[0] = 0
    for m, level in enumerate(model.levels):
        rows[m + 1, 1:] = level.find(rows[m, :-1].astype(np.int64) * model.config.vocab_size + ids)
    return rows
