"""Beam search: instead of one continuation, keep the n likeliest, and let each of them go on.

Greedy decoding takes the best token now, even where every sentence that begins so is poor. Beam search looks at all
tokens behind each of its beams and keeps the n_beams best of these n_beams * V continuations. With as many beams as
there are texts it finds the likeliest of all; with one beam it is greedy decoding.

    score = log p(ids) / length ** length_penalty

log p is a sum of negative numbers, so it falls with every token: penalty 0 prefers short texts. Penalty 1 compares
the mean of log p per token. Above 0 long texts gain, below 0 they lose. `length` counts the tokens that have a
factor in p: the new tokens and the stop token, but neither prompt nor padding. Wu et al. (2016) divide by
((5 + length) / 6) ** length_penalty instead: there the first tokens count for less.

With processors (a bias, bad words, a constraint) p is what they leave of the model's probabilities, renormalised at each
step: the distribution that sampling draws from with the same processors. So log p still never rises, and one beam is still
greedy decoding. It is not the model's p of the text: see `constrained.py` on the difference.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import prompt_list
from minilm.decoding.processors import Processor
from minilm.decoding.reading import evaluating, next_logits_of_texts
from minilm.decoding.sampling import judge
from minilm.layers.basic import log_softmax


class Hypothesis(NamedTuple):
    """A continuation that has ended: by a stop token, which is not among the ids, or cut at the end of its room (None).

    The stop token has its share in log_prob and counts for the length. The same ids can end by two different stop tokens:
    these are two hypotheses.
    """

    ids: list[int]
    log_prob: float
    score: float
    stop: int | None


@dataclass(frozen=True)
class Rules:
    """What the searches of all prompts have in common. ValueError for a value out of its range."""

    n_beams: int
    length_penalty: float
    early_stopping: bool
    n_best: int
    stop_tokens: frozenset[int]

    def __post_init__(self) -> None:
        if self.n_beams < 1:
            raise ValueError(f"n_beams is {self.n_beams}: it must be at least 1 (greedy)")
        if not 1 <= self.n_best <= self.n_beams:
            raise ValueError(f"n_best is {self.n_best}: choose 1 to n_beams ({self.n_beams})")
        if not abs(self.length_penalty) <= 10:
            raise ValueError(f"length_penalty is {self.length_penalty}: it must lie between -10 and 10, such as 1.0")


def beam_search(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n_beams: int,
    max_new_tokens: int,
    *,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    n_best: int = 1,
    processors: Sequence[Processor] = (),
    stop_tokens: Collection[int] = frozenset(),
    use_cache: bool = True,
) -> list[list[Hypothesis]]:
    """Prompts of any lengths -> for each, its n_best hypotheses (fewer if there are no more), best score first.

    A prompt has room for max_new_tokens, or for less where the model's context ends before. A prompt's search ends as
    soon as no beam can still reach its n_best, whatever follows: the result is that of a search to the end. With
    early_stopping it ends as soon as n_beams hypotheses have ended: quicker, but a better one that takes longer is lost.
    The prompts are read together and do not influence each other. Ties go to the better beam, then to the lower id.
    A Constraint among the processors needs the stop token that it allows at the end, and `after_prompts` for its start.

    >>> [[best, second]] = beam_search(model, [[5, 7]], n_beams=4, max_new_tokens=20, n_best=2, stop_tokens={0})
    """
    rules = Rules(n_beams, length_penalty, early_stopping, n_best, frozenset(stop_tokens))
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
    texts = [prompt_list(prompt, getattr(model.config, "vocab_size", None)) for prompt in prompts]
    rooms = [room_for(text, max_new_tokens, getattr(model.config, "context_length", None)) for text in texts]
    searches = [Search(text, room, rules) for text, room in zip(texts, rooms, strict=True)]
    cache, live = None, searches
    if live and use_cache and hasattr(model, "new_cache"):
        cache = model.new_cache(len(live), max(len(search.prompt) + search.room - 1 for search in live))
    with evaluating(model):
        while live:
            rows = [text for search in live for text in search.texts()]
            logits = judge(next_logits_of_texts(model, rows, cache), SampleConfig(), rows, processors)
            parents, first_row = [], 0
            for search, row_logits in zip(live, logits.split([len(search.beams) for search in live]), strict=True):
                parents.append(search.step(log_softmax(row_logits)) + first_row)  # rows of the batch, not of the prompt
                first_row += len(row_logits)
            live = [search for search in live if search.beams]
            if cache is not None:
                cache.select(torch.cat(parents))
    return [search.hypotheses for search in searches]


def room_for(text: list[int], max_new_tokens: int, limit: int | None) -> int:
    """How many tokens may follow the text; the last one is never read, so it may stand behind the context."""
    if limit is not None and len(text) > limit:
        raise ValueError(f"a prompt has {len(text)} tokens, the model reads at most {limit}: shorten it")
    return max_new_tokens if limit is None else min(max_new_tokens, limit - len(text) + 1)


def expand(
    log_probs: Tensor, next_log_probs: Tensor, n_beams: int, stop_tokens: Collection[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """log p of the beams (K,) and of each token behind them (K, V) -> totals (K * V,), stopping (N,), going (M,).

    Token w behind beam k has place k * V + w: totals holds log p of all places. `stopping` are the places of stop tokens
    among the n_beams best, `going` the n_beams best places of other tokens: a beam that ends frees its seat for another.
    Both are in order of falling log p, and leave out what is impossible.

    >>> expand(torch.tensor([0.0]), torch.tensor([[0.5, 0.3, 0.2]]).log(), n_beams=2, stop_tokens={1})[1:]
    (tensor([1]), tensor([0, 2]))
    """
    V = next_log_probs.shape[1]
    totals = (log_probs[:, None] + next_log_probs).flatten()
    order = totals.argsort(descending=True, stable=True)
    order = order[totals[order] > -torch.inf]
    stops = torch.isin(order % V, torch.tensor(sorted(stop_tokens), dtype=torch.long))
    return totals, order[:n_beams][stops[:n_beams]], order[~stops][:n_beams]


def score(log_prob: float, length: int, length_penalty: float) -> float:
    """log p / length ** penalty: higher is better."""
    return log_prob / math.pow(length, length_penalty)


def best_reachable(log_prob: float, length: int, room: int, length_penalty: float) -> float:
    """A bound: no hypothesis that begins with these `length` tokens has a higher score.

    log p can only fall from here, and it is negative: the best case is that it stays as it is and is divided by the
    largest number. That is the longest text for a penalty above 0, and the very next token for one below.
    """
    return score(log_prob, room if length_penalty > 0 else length + 1, length_penalty)


class Search:
    """The search behind one prompt: the beams that go on, best first, and the best of those that have ended."""

    def __init__(self, prompt: list[int], room: int, rules: Rules) -> None:
        self.prompt, self.room, self.rules = prompt, room, rules
        self.beams: list[list[int]] = [[]]
        self.log_probs = torch.zeros(1, dtype=torch.double)  # (K,), of the beams
        self.length = self.n_ended = 0
        self.hypotheses: list[Hypothesis] = []

    def texts(self) -> list[list[int]]:
        """What the model has to read: one row a beam."""
        return [self.prompt + beam for beam in self.beams]

    def step(self, next_log_probs: Tensor) -> Tensor:
        """log p of each token behind each beam (K, V) -> which of the K beams each new beam continues; none at the end."""
        rules, V = self.rules, next_log_probs.shape[1]
        totals, stopping, going = expand(self.log_probs, next_log_probs, rules.n_beams, rules.stop_tokens)
        self.length += 1
        self.n_ended += len(stopping)
        self.end(totals, stopping, V, stopped=True)
        if self.length == self.room:
            self.end(totals, going, V, stopped=False)
            going = going[:0]
        self.log_probs = totals[going]
        if self.is_decided():
            going = going[:0]
        self.beams = [[*self.beams[place // V], place % V] for place in going.tolist()]
        return going // V

    def end(self, totals: Tensor, places: Tensor, V: int, stopped: bool) -> None:
        """Add the continuations at these places, best first, to the hypotheses."""
        rules = self.rules
        for place in places[: rules.n_best].tolist():
            beam, token, log_prob = self.beams[place // V], place % V, float(totals[place])
            ids, stop = (beam, token) if stopped else ([*beam, token], None)
            new = Hypothesis(ids, log_prob, score(log_prob, self.length, rules.length_penalty), stop)
            self.hypotheses.append(new)
        self.hypotheses = sorted(self.hypotheses, key=lambda one: one.score, reverse=True)[: rules.n_best]

    def is_decided(self) -> bool:
        """Whether the search may end here."""
        rules = self.rules
        if rules.early_stopping:
            return self.n_ended >= rules.n_beams
        if len(self.hypotheses) < rules.n_best or not len(self.log_probs):
            return False
        bound = best_reachable(float(self.log_probs[0]), self.length, self.room, rules.length_penalty)
        return self.hypotheses[-1].score >= bound
