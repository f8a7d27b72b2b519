"""The exercise of lesson 08 on attention with a memory: a loop as the oracle, the mistakes, other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# ---- attend_to_cache(q, k, v, past_k, past_v) -> output, all keys, all values

Three = tuple[Tensor, Tensor, Tensor]


def joined(past: Tensor, new: Tensor) -> Tensor:
    """The remembered rows, then the new ones, copied one at a time."""
    (B, H, P, K), T = past.shape, new.shape[2]
    out = torch.zeros(B, H, P + T, K, dtype=new.dtype)
    for s in range(P + T):
        out[:, :, s] = past[:, :, s] if s < P else new[:, :, s - P]
    return out


def loop_cached(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    past_k: Tensor,
    past_v: Tensor,
    sees: Callable[[int, int, int, int], bool] = lambda s, t, P, T: s <= P + t,
    root: Callable[[int], float] = math.sqrt,
    order: Callable[[Tensor, Tensor], Tensor] = joined,
) -> Three:
    """One query, one key at a time; key s is seen by new token t where `sees` says so. The switches make the mistakes."""
    keys, values = order(past_k, k), order(past_v, v)
    (B, H, T, K), P = q.shape, past_k.shape[2]
    out = torch.zeros(B, H, T, v.shape[3], dtype=q.dtype)
    for b, h, t in itertools.product(range(B), range(H), range(T)):
        seen = [s for s in range(P + T) if sees(s, t, P, T)]
        scores = [float(q[b, h, t] @ keys[b, h, s]) / root(K) for s in seen]
        parts = [math.exp(score - max(scores)) for score in scores]
        for s, part in zip(seen, parts, strict=True):
            out[b, h, t] += part / sum(parts) * values[b, h, s]
    return out, keys, values


def cached_with(**switches: Any) -> Any:
    """The loop with switches thrown."""
    return lambda q, k, v, past_k, past_v: loop_cached(q, k, v, past_k, past_v, **switches)


def told_from(change: Callable[..., Any]) -> Any:
    """Right, but `change(out, keys, values, k, v)` is what is returned."""
    return lambda q, k, v, past_k, past_v: change(*loop_cached(q, k, v, past_k, past_v), k, v)


def shares(scores: Tensor) -> Tensor:
    parts = torch.exp(scores - scores.amax(-1, keepdim=True))
    return parts / parts.sum(-1, keepdim=True)


def square_mask(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> Three:
    keys, values, T = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2), q.shape[2]
    scores = (q @ keys.mT / math.sqrt(q.shape[-1])).masked_fill(~torch.ones(T, T).tril().bool(), -math.inf)
    return shares(scores) @ values, keys, values


def mask_for_the_past(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> Three:
    if past_k.shape[2] < q.shape[2]:
        raise ValueError("as causal_mask says: fewer keys than queries")
    visible = torch.ones(q.shape[2], past_k.shape[2]).tril(past_k.shape[2] - q.shape[2]).bool()
    keys = torch.cat([past_k, k], 2)
    return (q @ keys.mT).masked_fill(~visible, -math.inf) @ torch.cat([past_v, v], 2), keys, past_v


def values_alone(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> Three:
    out, keys, values = loop_cached(q, k, v, past_k, past_v)
    return (shares(q @ keys.mT) @ v if past_k.shape[2] else out), keys, values


def along(axis: int) -> Any:
    return lambda q, k, v, past_k, past_v: (q, torch.cat([past_k, k], axis), torch.cat([past_v, v], axis))


def as_one_text(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> Three:
    """As if the past asked as well: attention of the whole text, of which the last rows are wanted."""
    keys, values, P = torch.cat((past_k, k), dim=-2), torch.cat((past_v, v), dim=-2), past_k.shape[2]
    queries = torch.cat((torch.zeros_like(past_k), q), dim=2)
    later = torch.ones(keys.shape[2], keys.shape[2]).triu(1).bool()
    scores = (queries @ keys.transpose(2, 3) * q.shape[3] ** -0.5).masked_fill(later, -math.inf)
    return (shares(scores) @ values)[:, :, P:], keys, values


def token_by_token(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> Three:
    outs = []
    for t in range(q.shape[2]):  # what is remembered holds no later token: no mask is needed
        past_k, past_v = torch.cat([past_k, k[:, :, t : t + 1]], 2), torch.cat([past_v, v[:, :, t : t + 1]], 2)
        outs.append(shares(q[:, :, t : t + 1] @ past_k.mT / math.sqrt(q.shape[3])) @ past_v)
    return torch.cat(outs, 2), past_k, past_v


def past_and_present(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> list[Tensor]:
    """The past is seen by all, the present under a triangle; both meet in one softmax."""
    T, P = q.shape[2], past_k.shape[2]
    present = torch.einsum("bhtk,bhsk->bhts", q, k)
    present = torch.where(torch.arange(T) <= torch.arange(T)[:, None], present, -math.inf)
    weights = shares(torch.cat([torch.einsum("bhtk,bhsk->bhts", q, past_k), present], -1) / math.sqrt(q.shape[3]))
    out = weights[..., :P] @ past_v + weights[..., P:] @ v
    return [out, torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)]


def cache_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand: nothing remembered, one new token behind two. Then ugly sizes: K' != K, one new token and several, P of 0 too."""
    generator = Generator().manual_seed(seed)

    def numbers(*axes: int) -> Tensor:
        return torch.randn(axes, generator=generator, dtype=torch.float64)

    def hand(*rows: float) -> Tensor:
        return torch.tensor(rows, dtype=torch.float64).reshape(1, 1, -1, 1)

    none = torch.zeros(1, 1, 0, 1, dtype=torch.float64)
    cases = [(hand(1), hand(2), hand(3), none, none), (hand(1), hand(2), hand(3), hand(0, 1), hand(5, -1))]
    cases += [(hand(1, 2), hand(2, 0), hand(3, 4), hand(1), hand(5)), (hand(1, 2), hand(2, 0), hand(3, 4), none, none)]
    for B, H, T, P, K, width in ((2, 3, 1, 5, 4, 6), (3, 2, 4, 6, 5, 3), (2, 1, 3, 0, 2, 5)):
        new = numbers(B, H, T, K), numbers(B, H, T, K), numbers(B, H, T, width)
        cases.append((*new, numbers(B, H, P, K), numbers(B, H, P, width)))
    return cases


CACHED = Exercise(
    "attend_to_cache",
    "first join past and new, keys and values alike; then attention of lesson 05, with the mask for T queries and P + T keys",
    cache_inputs,
    loop_cached,
    (
        Mistake(
            "mask at the upper left",
            cached_with(sees=lambda s, t, P, T: s <= t),
            "new token t is not at place t of the text but P places further: it sees all of the past, and itself",
        ),
        Mistake("no mask", cached_with(sees=lambda s, t, P, T: True), "of several new tokens none may see a later one"),
        Mistake(
            "square mask", square_mask, "the scores are T times P + T, and so is the mask: the past is seen as well"
        ),
        Mistake(
            "mask for the past",
            mask_for_the_past,
            "the mask has a column for every key, past and new: P + T of them, not P",
        ),
        Mistake(
            "the past forgotten",
            cached_with(sees=lambda s, t, P, T: P <= s <= P + t),
            "the new tokens look at the remembered keys too, not only at each other",
        ),
        Mistake(
            "only the past",
            cached_with(sees=lambda s, t, P, T: s < P),
            "a new token sees itself, and those new ones before it: join first, attend then",
        ),
        Mistake(
            "not itself",
            cached_with(sees=lambda s, t, P, T: s < P + t),
            "one key too few: the last query is at the last key, and sees it",
        ),
        Mistake(
            "one ahead",
            cached_with(sees=lambda s, t, P, T: s <= P + t + 1),
            "one key too many: new token t sees P keys of the past and t + 1 of the new ones",
        ),
        Mistake(
            "new before old",
            cached_with(order=lambda past, new: joined(new, past)),
            "the remembered tokens come first, then the new ones: that is how they stand in the text",
        ),
        Mistake(
            "new before old, seen rightly",
            lambda q, k, v, past_k, past_v: (
                loop_cached(q, k, v, past_k, past_v)[0],
                joined(k, past_k),
                joined(v, past_v),
            ),
            "the output is right, but what is returned to be remembered stands in the wrong order",
        ),
        Mistake("another axis", along(1), "tokens lie along axis 2 of (B, H, T, K): join there"),
        Mistake(
            "values not joined",
            values_alone,
            "there is a value for each key: the values have a past as well as the keys",
        ),
        Mistake("no scale", cached_with(root=lambda K: 1.0), "the scores are still divided by the root of K"),
        Mistake("scale by K", cached_with(root=float), "divide by the root of K, not by K"),
        Mistake(
            "only the new remembered",
            told_from(lambda out, keys, values, k, v: (out, k, v)),
            "return all keys and values so far, not only the new ones: the next call gets them as its past",
        ),
        Mistake(
            "output alone", told_from(lambda out, *_: out), "return three things: the output, all keys, all values"
        ),
        Mistake(
            "values first",
            told_from(lambda out, keys, values, k, v: (out, values, keys)),
            "the order is output, keys, values",
        ),
        Mistake(
            "keys first",
            told_from(lambda out, keys, values, k, v: (keys, values, out)),
            "the output comes first, then keys and values",
        ),
    ),
    (as_one_text, token_by_token, past_and_present),
)

EXERCISES = (CACHED,)
