"""The exercise of lesson 15 on a step of beam search: an oracle that lists every case, its mistakes, other right solutions."""

import heapq
import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Expanded = tuple[Tensor, Tensor, Tensor]
Candidate = tuple[float, int, int]  # log p, beam, token

# expand(log_probs, next_log_probs, n_beams, stop_tokens) -> totals, stopping, going


def in_falling_order(found: list[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda one: (-one[0], one[1:]))


def listed(
    log_probs: Tensor,
    next_log_probs: Tensor,
    n_beams: int,
    stop_tokens: Collection[int],
    join: Callable[[float, float], float] = lambda before, now: before + now,
    name: Callable[[int, int, int, int], int] = lambda k, w, K, V: k * V + w,
    rank: Callable[[list[Candidate]], list[Candidate]] = in_falling_order,
    possible: bool = True,
    seats: str = "freed",
    ends: str = "best",
    stops: Callable[[int, int, int], int] = lambda k, w, V: w,
) -> Expanded:
    """Every token behind every beam, in a list that is sorted. The switches make the mistakes."""
    K, V = next_log_probs.shape
    rows = next_log_probs.tolist()
    found = [(join(float(log_probs[k]), rows[k][w]), k, w) for k in range(K) for w in range(V)]
    totals = torch.tensor([value for value, *_ in found], dtype=log_probs.dtype)
    ranked = rank([one for one in found if not possible or one[0] > -math.inf])
    width = K if seats == "as before" else n_beams
    first = ranked[:width]
    looked_at = first if ends in ("best", "stay") else ranked
    stopping = [(k, w) for _, k, w in looked_at if stops(k, w, V) in stop_tokens]
    if ends == "seats of their own":
        stopping = stopping[:width]
    going = [(k, w) for _, k, w in (first if seats == "taken" else ranked) if stops(k, w, V) not in stop_tokens]
    if ends == "stay":
        going = [(k, w) for _, k, w in first]
    named = ([name(k, w, K, V) for k, w in chosen] for chosen in (stopping, going[:width]))
    return totals, *(torch.tensor(places, dtype=torch.long) for places in named)  # type: ignore[return-value]


def mistaken(**switch: Any) -> Callable[..., Expanded]:
    """The list with switches thrown."""
    return lambda *arguments: listed(*arguments, **switch)


def as_lists(*arguments: Any) -> tuple[Tensor, list[int], list[int]]:
    totals, stopping, going = listed(*arguments)
    return totals, stopping.tolist(), going.tolist()


def one_of_each_row(found: list[Candidate]) -> list[Candidate]:
    best: dict[int, Candidate] = {}
    for one in in_falling_order(found):
        best.setdefault(one[1], one)
    return [*best.values()]


def row_after_row(found: list[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda one: (one[1], -one[0], one[2]))


def by_topk(log_probs: Tensor, next_log_probs: Tensor, n_beams: int, stop_tokens: Collection[int]) -> Expanded:
    totals = (next_log_probs + log_probs.unsqueeze(1)).reshape(-1)
    is_stop = torch.tensor([w in stop_tokens for w in range(next_log_probs.shape[1])]).repeat(len(log_probs))
    answers = []
    for kept, hidden in ((is_stop, totals), (~is_stop, totals.masked_fill(is_stop, -math.inf))):
        values, places = hidden.topk(min(n_beams, len(totals)))
        answers.append(places[kept[places] & (values > -math.inf)])
    return totals, answers[0], answers[1]


def by_heap(log_probs: Tensor, next_log_probs: Tensor, n_beams: int, stop_tokens: Collection[int]) -> Expanded:
    V = next_log_probs.shape[1]
    totals = torch.cat([row + before for row, before in zip(next_log_probs, log_probs, strict=True)])
    heap = [(-total, place) for place, total in enumerate(totals.tolist()) if total != -math.inf]
    heapq.heapify(heap)
    stopping, going, n_seen = list[int](), list[int](), 0
    while heap and len(going) < n_beams:
        place = heapq.heappop(heap)[1]
        if place % V not in stop_tokens:
            going.append(place)
        elif n_seen < n_beams:
            stopping.append(place)
        n_seen += 1
    return totals, torch.tensor(stopping, dtype=torch.long), torch.tensor(going, dtype=torch.long)


def by_masks(log_probs: Tensor, next_log_probs: Tensor, n_beams: int, stop_tokens: Collection[int]) -> Expanded:
    totals = torch.logaddexp(log_probs[:, None] + next_log_probs, torch.tensor(-math.inf)).flatten()
    order = torch.sort(-totals, stable=True).indices[: int(totals.isfinite().sum())]
    ended = torch.zeros_like(order, dtype=torch.bool)
    for token in stop_tokens:
        ended |= order % next_log_probs.shape[1] == token
    return totals, order[ended & (torch.arange(len(order)) < n_beams)], order[~ended & ((~ended).cumsum(0) <= n_beams)]


def some_beams(seed: int) -> list[tuple[Tensor, Tensor, int, set[int]]]:
    """First a step by hand; then the first step of a search, zeros, more beams than continuations, and no stop token."""
    generator = Generator().manual_seed(seed)
    cases = [(torch.zeros(1, dtype=torch.double), torch.tensor([[0.5, 0.3, 0.2]]).double().log(), 2, {1})]
    for K, V, n_beams, stop_tokens in ((3, 7, 3, {2, 6}), (1, 8, 5, {0, 3}), (2, 5, 4, {4}), (4, 6, 2, set())):
        log_probs = -3 * torch.rand(K, generator=generator, dtype=torch.double).sort().values
        scores = 1.5 * torch.randn(K, V, generator=generator, dtype=torch.double)
        cases.append((log_probs, scores.log_softmax(-1), n_beams, stop_tokens))
        best = scores.clone()
        best[:, sorted(stop_tokens)] += 2  # the stop tokens are likely
        best[torch.rand(K, V, generator=generator) < 0.4] = -torch.inf
        best[:, 1] = best[:, 1].clamp(min=-9)
        cases.append((log_probs, best.log_softmax(-1), n_beams + 1, stop_tokens))
    return cases


EXPAND = Exercise(
    "expand",
    "log p of a longer text is the sum of two logs: log_probs[:, None] + next_log_probs has them all; flatten it, then sort",
    some_beams,
    listed,
    (
        Mistake("the beams forgotten", mistaken(join=lambda _, now: now), "log p of the beam itself is missing"),
        Mistake(
            "logarithms multiplied",
            mistaken(join=lambda before, now: before * now),
            "probabilities are multiplied, so their logarithms are added",
        ),
        Mistake(
            "probabilities",
            mistaken(join=lambda before, now: math.exp(before + now)),
            "stay with logarithms: of 100 tokens nothing would be left of the probability",
        ),
        Mistake(
            "one of each beam",
            mistaken(rank=one_of_each_row),
            "a beam may have several children among the best, or none: compare all beams' tokens together",
        ),
        Mistake(
            "beam after beam",
            mistaken(rank=row_after_row),
            "you fill the seats with the first beam's tokens: sort all beams' continuations together",
        ),
        Mistake(
            "worst first", mistaken(rank=lambda found: in_falling_order(found)[::-1]), "the largest log p comes first"
        ),
        Mistake(
            "in order of place",
            mistaken(rank=lambda found: found),
            "nothing is sorted: the places must come in order of falling log p",
        ),
        Mistake(
            "the token only",
            mistaken(name=lambda k, w, K, V: w),
            "a place says the beam as well: k * V + w. Take % V only to ask which token it is",
        ),
        Mistake("the beam only", mistaken(name=lambda k, w, K, V: k), "a place says the token as well: k * V + w"),
        Mistake(
            "token by token",
            mistaken(name=lambda k, w, K, V: w * K + k),
            "the places count along the rows: w behind beam k has place k * V + w, not w * K + k",
        ),
        Mistake(
            "impossible ones",
            mistaken(possible=False),
            "log p = -inf is impossible: leave such places out, even if seats stay empty",
        ),
        Mistake(
            "seats taken",
            mistaken(seats="taken"),
            "a text that has ended takes no seat: look further down until n_beams others go on",
        ),
        Mistake(
            "seats taken, and impossible ones",
            mistaken(seats="taken", possible=False),
            "two things: (1) who stops takes no seat, so n_beams places are not enough to look at (2) leave out log p = -inf",
        ),
        Mistake("lists", as_lists, "the places are two tensors: torch.tensor(places, dtype=torch.long)"),
        Mistake(
            "as many as before",
            mistaken(seats="as before"),
            "n_beams of them, not as many as there were beams: the first step has one beam and needs all seats",
        ),
        Mistake(
            "all ends",
            mistaken(ends="all"),
            "`stopping` has only those stop tokens that are among the n_beams best of all: others have not earned it",
        ),
        Mistake(
            "seats of their own for ends",
            mistaken(ends="seats of their own"),
            "n_beams is no number of stop tokens: `stopping` has those among the n_beams best of all places, mostly fewer",
        ),
        Mistake(
            "ends go on",
            mistaken(ends="stay"),
            "a text with a stop token at its end must not go on: keep such places out of `going`",
        ),
        Mistake(
            "stop tokens by place",
            mistaken(stops=lambda k, w, V: k * V + w),
            "you look for the place among the stop tokens: which *token* is it? place % V",
        ),
    ),
    (by_topk, by_heap, by_masks),
)

EXERCISES = (EXPAND,)
