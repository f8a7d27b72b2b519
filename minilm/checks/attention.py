"""The exercises of lesson 05: oracles in loops, the mistakes of their switches, and other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# causal_mask(n_queries, n_keys) -> bool (T, S)


def loop_mask(
    n_queries: int, n_keys: int, first: int | None = None, strict: bool = False, turned: bool = False
) -> Tensor:
    """Query t stands at place t + S - T and sees the keys up to its own place; the switches make the mistakes."""
    mask = torch.zeros(n_queries, n_keys, dtype=torch.bool)
    offset = n_keys - n_queries if first is None else first
    for t in range(n_queries):
        for s in range(n_keys):
            seen = s < t + offset if strict else s <= t + offset
            mask[t, s] = seen != turned
    return mask


MASK = Exercise(
    "causal_mask",
    "start from torch.ones(n_queries, n_keys) and think which corner to keep, or compare a column of places with a row of places",
    lambda seed: [(1, 1), (1, 4), (2, 7), (5, 5)],
    loop_mask,
    (
        Mistake(
            "upper left",
            lambda t, s: loop_mask(t, s, first=0),
            "the last query is the last key: align at the lower right",
        ),
        Mistake("strict", lambda t, s: loop_mask(t, s, strict=True), "a token may see itself"),
        Mistake("inverted", lambda t, s: loop_mask(t, s, turned=True), "True means that a query may attend"),
        Mistake("all keys", lambda t, s: torch.ones(t, s, dtype=torch.bool), "a query may not see the keys behind it"),
        Mistake("transposed", lambda t, s: loop_mask(t, s).T, "one row for each query, one column for each key"),
        Mistake("numbers", lambda t, s: loop_mask(t, s).double(), "the mask is boolean, not 0 and 1"),
    ),
    (
        lambda t, s: torch.ones(t, s).tril(s - t).bool(),
        lambda t, s: torch.arange(s)[None] <= torch.arange(s - t, s)[:, None],
        lambda t, s: ~torch.triu(torch.ones(t, s, dtype=torch.bool), diagonal=s - t + 1),
    ),
)


# scaled_dot_product_attention(q, k, v, mask) -> (B, H, T, K')


def loop_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    scale: Callable[[int, int], float] = lambda K, width: math.sqrt(K),
    inverted: bool = False,
    mask_late: bool = False,
    softmax: bool = True,
) -> Tensor:
    """One query, one key at a time. A query that sees nothing gets zeros. The switches make the mistakes."""
    B, H, T, K = q.shape
    S, width = k.shape[2], v.shape[3]
    out = torch.zeros(B, H, T, width, dtype=q.dtype)
    allowed = torch.ones(B, H, T, S, dtype=torch.bool) if mask is None else mask.expand(B, H, T, S)
    for b, h, t in itertools.product(range(B), range(H), range(T)):
        seen = [s for s in range(S) if mask is None or bool(allowed[b, h, t, s]) != inverted]
        scores = [float(q[b, h, t] @ k[b, h, s]) / scale(K, width) for s in range(S)]
        counted = range(S) if mask_late else seen
        top = max((scores[s] for s in counted), default=0.0)
        total = sum(math.exp(scores[s] - top) for s in counted)
        for s in seen:
            out[b, h, t] += (math.exp(scores[s] - top) / total if softmax else scores[s]) * v[b, h, s]
    return out


def mistaken(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda q, k, v, mask=None: loop_attention(q, k, v, mask, **switch)


def shares(scores: Tensor, dim: int = -1, top: str = "row") -> Tensor:
    """exp of each score above the largest one, divided by the sum. A row of nothing but -inf gives NaN."""
    if top == "row":
        scores = scores - scores.max(dim, keepdim=True).values
    elif top == "all":
        scores = scores - scores.max()
    return torch.exp(scores) / torch.exp(scores).sum(dim, keepdim=True)


def in_matrices(hidden: float = -math.inf, dim: int = -1, top: str = "row", empty: float | None = 0.0) -> Any:
    """Attention in matrices; the arguments make the mistakes: another score for hidden keys, another axis, no care for size."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        weights = shares(scores if mask is None else scores.masked_fill(~mask, hidden), dim, top)
        return (
            weights if empty is None or mask is None else weights.masked_fill(~mask.any(-1, keepdim=True), empty)
        ) @ v

    return attention


def needs_a_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return loop_attention(q, k, v, torch.logical_not(torch.logical_not(mask)))  # type: ignore[arg-type]


def einsum_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.einsum("bhts,bhsw->bhtw", shares(scores).nan_to_num(0.0), v)


def exponential_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
    if mask is not None:
        weights = weights * mask
    total = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(total == 0, torch.ones_like(total), total)


def attention_by_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    rows = []
    for t in range(q.shape[2]):
        scores = (q[:, :, t, None] * k).sum(-1) / math.sqrt(q.shape[3])  # (B, H, S)
        seen = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask[:, :, t].expand(scores.shape)
        log_total = torch.where(seen, scores, -math.inf).logsumexp(-1, keepdim=True)
        weights = torch.where(seen, torch.exp(torch.where(seen, scores - log_total, 0.0)), 0.0)
        rows.append((weights[..., None] * v).sum(-2))
    return torch.stack(rows, dim=2)


def attention_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Ugly sizes, K' != K, T != S; with no mask, a random one, and one that hides everything from a query.

    The last case has scores of about a thousand, of which the mask hides the larger ones.
    """
    generator = Generator().manual_seed(seed)
    cases: list[tuple[Any, ...]] = []
    for B, H, T, S, K, width in ((2, 3, 5, 7, 4, 6), (3, 2, 4, 6, 5, 3)):
        q, k, v = (
            torch.randn(B, H, length, size, generator=generator, dtype=torch.float64)
            for length, size in ((T, K), (S, K), (S, width))
        )
        mask = torch.rand(B, 1, T, S, generator=generator) < 0.6
        mask[..., 0] = True
        empty = mask.clone()
        empty[0, 0, 1] = False
        cases += [(q, k, v), (q, k, v, None), (q, k, v, mask), (q, k, v, empty)]
    scores = 900 * (q @ k.mT)
    return [*cases, (30 * q, 30 * k, v, (scores <= scores.median(-1, keepdim=True).values))]


ATTENTION = Exercise(
    "scaled_dot_product_attention",
    "four steps: scores from q and k, the scale, the mask, the softmax; then the average of v. Look at the matrix version above",
    attention_inputs,
    loop_attention,
    (
        Mistake("no scale", mistaken(scale=lambda K, width: 1.0), "dot products grow with the key size: scale them"),
        Mistake("scale by K", mistaken(scale=lambda K, width: float(K)), "divide by the square root of the key size"),
        Mistake(
            "scale by K'",
            mistaken(scale=lambda K, width: math.sqrt(width)),
            "the scale is that of the keys, not of the values",
        ),
        Mistake("mask inverted", mistaken(inverted=True), "True means that a query may attend"),
        Mistake(
            "mask late",
            mistaken(mask_late=True),
            "mask the scores before the softmax, so that each row still sums to 1",
        ),
        Mistake("zero, not -inf", in_matrices(hidden=0.0), "a hidden score must be -inf: exp(0) is 1, not 0"),
        Mistake(
            "softmax over queries",
            in_matrices(dim=-2, empty=None),
            "each query shares out its attention among the keys: the last axis",
        ),
        Mistake("NaN", in_matrices(empty=None), "a query that may attend to nothing must get zeros, not NaN"),
        Mistake("no softmax", mistaken(softmax=False), "turn the scores of each query into probabilities first"),
        Mistake(
            "-100, not -inf",
            in_matrices(hidden=-100.0),
            "no number is small enough for every score: a hidden one is -inf",
        ),
        Mistake(
            "overflow",
            in_matrices(top="none"),
            "exp of a large score overflows: take the largest score of each row away first",
        ),
        Mistake(
            "maximum of all",
            in_matrices(top="all"),
            "the maximum of each row, not of all: a row far below it would vanish",
        ),
        Mistake("no mask, no answer", needs_a_mask, "the mask may be None: then every query sees every key"),
        Mistake("mask ignored", lambda q, k, v, mask=None: loop_attention(q, k, v), "use the mask where there is one"),
    ),
    (einsum_attention, exponential_attention, attention_by_rows),
    differentiable=True,
)


# split_heads(x, n_heads) -> (B, H, T, K)


def loop_split(x: Tensor, n_heads: int) -> Tensor:
    """Number i of head h is number h * K + i of the token."""
    B, T, D = x.shape
    K = D // n_heads
    out = torch.empty(B, n_heads, T, K, dtype=x.dtype)
    for h in range(n_heads):
        for i in range(K):
            out[:, h, :, i] = x[:, :, h * K + i]
    return out


HEADS = Exercise(
    "split_heads",
    "K = D / n_heads. First give the last axis two axes of its own, then move the axis of the heads",
    lambda seed: [
        (torch.randn(B, T, D, generator=Generator().manual_seed(seed + D), dtype=torch.float64), H)
        for B, T, D, H in ((2, 5, 12, 3), (3, 4, 10, 2))
    ],
    loop_split,
    (
        Mistake(
            "view only",
            lambda x, H: x.reshape(x.shape[0], H, x.shape[1], x.shape[2] // H),
            "cut the last axis into heads first, (B, T, H, K), then bring the heads forward",
        ),
        Mistake(
            "heads inside",
            lambda x, H: x.reshape(*x.shape[:2], x.shape[2] // H, H).permute(0, 3, 1, 2),
            "the numbers of one head lie side by side: H comes before K when you cut",
        ),
        Mistake(
            "not moved", lambda x, H: x.reshape(*x.shape[:2], H, x.shape[2] // H), "the heads go before the tokens"
        ),
        Mistake(
            "tokens last",
            lambda x, H: x.reshape(*x.shape[:2], H, x.shape[2] // H).permute(0, 2, 3, 1),
            "swap tokens and heads only; the numbers of a head stay last",
        ),
    ),
    (
        lambda x, H: x.unflatten(-1, (H, x.shape[-1] // H)).transpose(1, 2),
        lambda x, H: torch.stack(x.chunk(H, dim=-1), dim=1),
        lambda x, H: torch.cat([part[:, None] for part in x.split(x.shape[-1] // H, dim=-1)], dim=1),
    ),
    differentiable=True,
)

EXERCISES = (MASK, ATTENTION, HEADS)
