"""The exercise of lesson 08 on top-k: sorted lists as the oracle, the mistakes that people make, other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Keep = Callable[..., Tensor]


def ranked(row: list[float]) -> list[int]:
    """The ids from the largest score down, of equals the lower id first."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def only(logits: Tensor, kept: Callable[[list[float]], Any], dropped: float = -math.inf) -> Tensor:
    """The logits (B, V), where those of ids that `kept` does not name for their row are `dropped`."""
    rows = []
    for row in logits.tolist():
        stay = set(kept(row))
        rows.append([score if i in stay else dropped for i, score in enumerate(row)])
    return torch.tensor(rows, dtype=logits.dtype)


def softmax(logits: Tensor) -> Tensor:
    """(B, V) -> (B, V), along the last axis."""
    parts = torch.exp(logits - logits.amax(-1, keepdim=True))
    return parts / parts.sum(-1, keepdim=True)


# ---- keep_top_k(logits, k) -> (B, V)


def top_k(logits: Tensor, k: int, more: int = 0, dropped: float = -math.inf, order: Any = ranked) -> Tensor:
    """The first k of each row's order. The switches make the mistakes."""
    return only(logits, lambda row: order(row)[: k + more], dropped)


def with_k(**switches: Any) -> Keep:
    """Top-k with switches thrown."""
    return lambda logits, k: top_k(logits, k, **switches)


def above_the_last(logits: Tensor, k: int, safe: bool = True, strict: bool = False) -> Tensor:
    """What is at least the k-th largest score: more than k tokens, where there are ties."""
    bound = torch.topk(logits, min(k, logits.shape[1]) if safe else k).values[:, -1:]
    return logits.masked_fill(logits <= bound if strict else logits < bound, -math.inf)


def by_topk_indices(logits: Tensor, k: int) -> Tensor:
    chosen = torch.topk(logits, k).indices
    return torch.full_like(logits, -math.inf).scatter(-1, chosen, logits.gather(-1, chosen))


def index_k(logits: Tensor, k: int) -> Tensor:
    bound = logits.sort(-1, descending=True).values[:, k]
    return logits.masked_fill(logits < bound[:, None], -math.inf)


def the_same_ids(logits: Tensor, k: int) -> Tensor:
    return only(logits, lambda row: ranked(logits[0].tolist())[:k])


def best_of_all(logits: Tensor, k: int) -> Tensor:
    return top_k(logits.reshape(1, -1), k).reshape(logits.shape)


def first_rows_dropped(logits: Tensor, n: int) -> Tensor:
    return torch.where(torch.arange(len(logits))[:, None] < n, -math.inf, logits)


def smallest(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (row[i], i))


def higher_first(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (-row[i], -i))


def ranks_below_k(logits: Tensor, k: int) -> Tensor:
    """A token's rank: how many are larger, or equal and before it."""
    one, other, ids = logits[:, :, None], logits[:, None, :], torch.arange(logits.shape[1])
    rank = ((other > one) | ((other == one) & (ids < ids[:, None]))).sum(-1)
    return torch.where(rank < k, logits, -math.inf)


def one_by_one(logits: Tensor, k: int) -> Tensor:
    left, out = logits.clone(), torch.full_like(logits, -math.inf)
    for _, b in itertools.product(range(min(k, logits.shape[1])), range(len(logits))):
        best = int(left[b].argmax())
        out[b, best], left[b, best] = logits[b, best], -math.inf
    return out


def by_stable_sort(logits: Tensor, k: int) -> Tensor:
    places = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :k]
    kept = torch.zeros(logits.shape, dtype=torch.bool).scatter_(1, places, torch.ones_like(places).bool())
    return logits.masked_fill(~kept, -math.inf)


def k_inputs(seed: int) -> list[tuple[Any, ...]]:
    """A row by hand with a tie at the border; then ugly ones: k = 1, k = V, k > V, ties, what an earlier filter has dropped."""
    generator = Generator().manual_seed(seed)
    by_hand = torch.tensor([[1.0, 3.0, 2.0, 2.0]], dtype=torch.float64)
    rough = torch.randint(-3, 4, (4, 9), generator=generator).double()  # many ties
    fine = 3 * torch.randn(3, 7, generator=generator, dtype=torch.float64) - 2
    gone = fine.clone()
    gone[torch.arange(3), fine.argmax(-1)] = -math.inf
    return [
        (by_hand, 2),
        (by_hand, 3),
        (by_hand, 1),
        (rough, 4),
        (rough, 2),
        *((fine, k) for k in (1, 3, 7, 12)),
        (gone, 2),
    ]


TOP_K = Exercise(
    "keep_top_k",
    "sort the ids of each row by falling score: which ids stand at place k and behind it? Their scores become -inf",
    k_inputs,
    top_k,
    (
        Mistake("ties stay", above_the_last, "the k-th score may occur twice: exactly k stay, of equals the lower ids"),
        Mistake(
            "ties stay, k too large",
            lambda logits, k: above_the_last(logits, k, safe=False),
            "two things: (1) k may be larger than V (2) of equal scores only so many stay that there are k",
        ),
        Mistake(
            "k too large",
            by_topk_indices,
            "k may be larger than the vocabulary: then every token stays, without an error",
        ),
        Mistake(
            "k too large, ties right",
            lambda logits, k: top_k(logits, k) if k <= logits.shape[1] else torch.topk(logits, k).values,
            "what if k is larger than the number of tokens? All of them stay",
        ),
        Mistake(
            "as topk likes",
            lambda logits, k: by_topk_indices(logits, min(k, logits.shape[1])),
            "torch.topk does not say which of equal scores it takes: a stable sort keeps the lower ids first",
        ),
        Mistake("k - 1", with_k(more=-1), "you keep one too few: ids at the places 0 to k - 1 stay, and these are k"),
        Mistake("k + 1", with_k(more=1), "you keep one too many: places count from 0, so place k is already out"),
        Mistake(
            "compared with place k",
            index_k,
            "places count from 0: the last score to stay is at place k - 1, if there is one",
        ),
        Mistake(
            "the last one lost",
            lambda logits, k: above_the_last(logits, k, strict=True),
            "the k-th largest itself stays: you drop all that are not above it",
        ),
        Mistake("zeros", with_k(dropped=0.0), "a score of 0 is not out of the draw, for exp(0) is 1: use -inf"),
        Mistake(
            "-1e9", with_k(dropped=-1e9), "-inf, not a number that is only very small: a filter may follow this one"
        ),
        Mistake(
            "times the mask",
            lambda logits, k: top_k(torch.zeros_like(logits), k).isfinite() * logits,
            "False times a score is 0, and exp(0) is 1: what is dropped must be -inf",
        ),
        Mistake(
            "the best dropped",
            lambda logits, k: only(logits, lambda row: ranked(row)[k:]),
            "it is the wrong way round: the k largest stay, and those behind them become -inf",
        ),
        Mistake("the smallest", with_k(order=smallest), "these are the k smallest: sort from the largest down"),
        Mistake(
            "higher ids first", with_k(order=higher_first), "of equal scores the lower id stays, not the higher one"
        ),
        Mistake(
            "only the kept",
            lambda logits, k: logits.sort(-1, descending=True).values[:, :k],
            "the answer has V scores a row, as before: each token keeps its place, or nobody knows who is who",
        ),
        Mistake(
            "the ids",
            lambda logits, k: logits.argsort(dim=-1, descending=True, stable=True)[:, :k],
            "these are the ids that stay: the answer is the scores, with -inf for all other ids",
        ),
        Mistake(
            "sorted",
            lambda logits, k: top_k(logits.sort(-1, descending=True).values, k),
            "the scores come out sorted: token i must keep column i",
        ),
        Mistake("one row for all", the_same_ids, "every row has its own best tokens: you take those of the first"),
        Mistake("over all rows", best_of_all, "k tokens of each row, not k of the whole batch"),
        Mistake("along the batch", lambda logits, k: top_k(logits.T, k).T, "axis 0 is the rows: sort along the last"),
        Mistake(
            "untouched",
            lambda logits, k: logits.clone(),
            "nothing is dropped: scatter makes a new tensor, and this is the answer; logits stays as it was",
        ),
        Mistake(
            "rows behind k",
            lambda logits, k: first_rows_dropped(logits, len(logits[k:])),
            "order[k:] leaves out rows: each row's ids from place k on are order[:, k:]",
        ),
        Mistake(
            "the first k rows",
            lambda logits, k: first_rows_dropped(logits, k),
            "order[:k] is the first k rows: the places of each row lie along axis 1, and those from k on are dropped",
        ),
        Mistake(
            "probabilities",
            lambda logits, k: softmax(top_k(logits, k)),
            "give back logits: another filter and the softmax come afterwards",
        ),
    ),
    (ranks_below_k, one_by_one, by_stable_sort),
)

EXERCISES = (TOP_K,)
