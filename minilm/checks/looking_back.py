"""The exercise of lesson 28 on additive attention: an oracle place by place, its mistakes, and other right solutions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Two = tuple[Tensor, Tensor]

# additive_attention(query, memory, mask, weight_query, weight_memory, v) -> context (B, M), weights (B, S)


def place_by_place(
    query: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    weight_query: Tensor,
    weight_memory: Tensor,
    v: Tensor,
    fit: Callable[..., Tensor] = lambda q, m: torch.tanh(q + m),
    score: Callable[..., Tensor] = lambda fit, v: (fit * v).sum(),
    seen: Callable[[Tensor], Tensor] = lambda mask: mask,
    hide: str = "before",
) -> Two:
    """Row by row: a score for each place that may be seen, its exponential, its share. The switches make the mistakes."""
    B, S = memory.shape[:2]
    mask = seen(torch.ones(B, S, dtype=torch.bool) if mask is None else mask)
    weights, contexts = torch.zeros(B, S, dtype=memory.dtype), torch.zeros_like(memory[:, 0])
    for b in range(B):
        open_places = [s for s in range(S) if bool(mask[b, s])] if hide in ("before", "multiplied") else list(range(S))
        scores = [score(fit(weight_query @ query[b], weight_memory @ memory[b, s]), v) for s in range(S)]
        if hide == "multiplied" and open_places:
            scores = [one * bool(mask[b, s]) for s, one in enumerate(scores)]
            open_places = list(range(S))
        if not open_places:
            continue
        highest = max(scores[s].item() for s in open_places)
        size = {s: torch.exp(scores[s] - highest) for s in open_places}
        for s in open_places:
            weights[b, s] = size[s] / sum(size.values())
            if hide == "after" and not bool(mask[b, s]):
                weights[b, s] = 0.0
        for s in range(S):
            contexts[b] = contexts[b] + weights[b, s] * memory[b, s]
    return contexts, weights


def look(**switch: Any) -> Any:
    return lambda query, memory, mask, wq, wm, v: place_by_place(query, memory, mask, wq, wm, v, **switch)


def scores_of(query: Tensor, memory: Tensor, wq: Tensor, wm: Tensor, v: Tensor) -> Tensor:
    return torch.tanh((query @ wq.T).unsqueeze(1) + memory @ wm.T) @ v


def shares(scores: Tensor, dim: int = -1) -> Tensor:
    """A softmax; NaN where all scores are -inf."""
    sizes = torch.exp(scores - scores.amax(dim, keepdim=True))
    return sizes / sizes.sum(dim, keepdim=True)


def mixed(weights: Tensor, memory: Tensor) -> Two:
    return torch.einsum("bs,bsm->bm", weights, memory), weights


def over_the_batch(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    scores = scores_of(query, memory, wq, wm, v)
    scores = scores if mask is None else scores.masked_fill(~mask, -math.inf)
    return mixed(shares(scores, dim=0).nan_to_num(0.0), memory)


def nowhere(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor, low: float) -> Two:
    scores = scores_of(query, memory, wq, wm, v)
    return mixed(shares(scores if mask is None else scores.masked_fill(~mask, low), dim=-1), memory)


def always_masked(query: Tensor, memory: Tensor, mask: Any, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    scores = scores_of(query, memory, wq, wm, v).masked_fill(~mask, -math.inf)
    return mixed(shares(scores, dim=-1).nan_to_num(0.0), memory)


def hardest(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    weights = place_by_place(query, memory, mask, wq, wm, v)[1]
    return memory[torch.arange(len(memory)), weights.argmax(-1)] * weights.any(-1, keepdim=True), weights


def changed_memory(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    weights = place_by_place(query, memory, mask, wq, wm, v)[1]
    return mixed(weights, torch.tanh(memory @ wm.T))


def projected(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    weights = place_by_place(query, memory, mask, wq, wm, v)[1]
    return mixed(weights, memory @ wm.T)


def mean_context(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    weights = place_by_place(query, memory, mask, wq, wm, v)[1]
    return (weights[..., None] * memory).mean(1), weights


def by_shares(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    """Exponentials, masked by a product, over their sum: right, and without -inf."""
    sizes = torch.exp(scores_of(query, memory, wq, wm, v))
    sizes = sizes if mask is None else sizes * mask
    return mixed(sizes / sizes.sum(-1, keepdim=True).clamp(min=1e-300), memory)


def with_zeros_for_nan(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> Two:
    scores = scores_of(query, memory, wq, wm, v)
    scores = scores if mask is None else torch.where(mask, scores, -math.inf)
    return mixed(shares(scores).nan_to_num(0.0), memory)


def row_by_row(query: Tensor, memory: Tensor, mask: Tensor | None, wq: Tensor, wm: Tensor, v: Tensor) -> list[Tensor]:
    """Only the places that may be seen, cut out of each row."""
    weights = torch.zeros_like(memory[..., 0])
    for b, own in enumerate(memory):
        places = torch.arange(len(own)) if mask is None else mask[b].nonzero()[:, 0]
        if len(places):
            weights[b, places] = shares(torch.tanh(own[places] @ wm.T + wq @ query[b]) @ v)
    return [(weights.unsqueeze(-1) * memory).sum(1), weights]


def looking_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand, then drawn: without a mask, with short rows, with a row that may look nowhere. No two sizes are alike."""
    generator = Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    one = torch.ones(1, 1, dtype=torch.float64)
    by_hand = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    cases: list[tuple[Any, ...]] = [(0.5 * one, by_hand, None, one, 2.0 * one, 3.0 * one[0])]
    for B, S, Q, M, A, lengths in (
        (2, 3, 4, 5, 6, None),
        (3, 5, 2, 4, 7, (2, 5, 1)),
        (2, 4, 5, 3, 2, (4, 3)),
        (3, 4, 3, 2, 5, (4, 0, 2)),
    ):
        mask = None if lengths is None else torch.arange(S) < torch.tensor(lengths)[:, None]
        cases.append((draw(B, Q), draw(B, S, M), mask, draw(A, Q), draw(A, M), 2.0 * draw(A)))
    return cases


LOOK = Exercise(
    "additive_attention",
    "query @ weight_query.T is (B, A): with [:, None] it goes with memory @ weight_memory.T (B, S, A); then tanh, then @ v",
    looking_inputs,
    place_by_place,
    (
        Mistake(
            "no tanh",
            look(fit=lambda q, m: q + m),
            "a tanh is missing: without it the query moves all scores of a row alike",
        ),
        Mistake(
            "query left out",
            look(fit=lambda q, m: torch.tanh(m)),
            "the query must come in, inside the same tanh as the memory: outside it moves all scores of a row alike",
        ),
        Mistake(
            "multiplied",
            look(fit=lambda q, m: torch.tanh(q * m)),
            "query and memory are added inside the tanh: hence the name",
        ),
        Mistake(
            "tanh of the score",
            look(fit=lambda q, m: q + m, score=lambda fit, v: torch.tanh((fit * v).sum())),
            "the tanh is of the A numbers, before v makes one score of them: v · tanh(...), not tanh(v · (...))",
        ),
        Mistake(
            "v inside the tanh",
            look(fit=lambda q, m: q + m, score=lambda fit, v: torch.tanh(fit * v).sum()),
            "v comes after the tanh: it weighs the A numbers that the tanh gives",
        ),
        Mistake("v left out", look(score=lambda fit, v: fit.sum()), "v says how much each of the A numbers counts"),
        Mistake(
            "scaled",
            look(score=lambda fit, v: (fit * v).sum() / math.sqrt(len(v))),
            "no scale here: the tanh has kept the numbers small, and v may be learned at any length",
        ),
        Mistake("mask ignored", look(hide="never"), "what the mask hides must get no weight"),
        Mistake(
            "mask after the softmax",
            look(hide="after"),
            "the mask comes before the softmax: the weights of what may be seen should sum to 1",
        ),
        Mistake(
            "scores times the mask",
            look(hide="multiplied"),
            "a score of 0 is no score that is hidden: exp(0) = 1; -inf has an exponential of 0",
        ),
        Mistake("mask inverted", look(seen=lambda mask: ~mask), "True means may be looked at"),
        Mistake(
            "softmax over the batch",
            over_the_batch,
            "the weights of one row sum to 1: the softmax goes over its places, dim=-1",
        ),
        Mistake(
            "nowhere is NaN",
            lambda query, memory, mask, wq, wm, v: nowhere(query, memory, mask, wq, wm, v, -math.inf),
            "a row that may look nowhere gives 0 / 0: let it have zeros",
        ),
        Mistake(
            "nowhere is everywhere",
            lambda query, memory, mask, wq, wm, v: nowhere(query, memory, mask, wq, wm, v, -1e9),
            "a row that may look nowhere gets zeros, not the mean of what is hidden",
        ),
        Mistake(
            "the best place only",
            hardest,
            "the context is the mean of all places by their weights, not the heaviest place",
        ),
        Mistake(
            "memory through its matrix",
            changed_memory,
            "the matrix serves the scores; the context is a mean of the memory as it is",
        ),
        Mistake(
            "memory projected",
            projected,
            "W_m is for the scores only: the context is a mean of the memory itself, (B, M), not of memory @ weight_memory.T",
        ),
        Mistake(
            "mean of the weighted", mean_context, "the weights sum to 1 already: add the places up, do not divide by S"
        ),
        Mistake(
            "only the context",
            lambda query, memory, mask, wq, wm, v: place_by_place(query, memory, mask, wq, wm, v)[0],
            "two things are asked for: the context, and the weights",
        ),
        Mistake(
            "exchanged",
            lambda query, memory, mask, wq, wm, v: place_by_place(query, memory, mask, wq, wm, v)[::-1],
            "both are right, but the context comes first",
        ),
        Mistake(
            "mask must be there", always_masked, "the mask may be None: then every place may be looked at"
        ),  # TypeError
        Mistake(
            "query without an axis",  # RuntimeError, except where B is S or 1
            lambda query, memory, mask, wq, wm, v: mixed(
                shares(torch.tanh(query @ wq.T + memory @ wm.T) @ v, -1), memory
            ),
            "the query (B, A) needs an axis for the places: [:, None] makes it (B, 1, A)",
        ),
    ),
    (by_shares, with_zeros_for_nan, row_by_row),
    differentiable=True,
)

EXERCISES = (LOOK,)
