"""The exercise of lesson 05 on attention: an oracle in loops, the mistakes of its switches, and other right solutions."""

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

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
    """One query, one key at a time, in plain numbers. A query that sees nothing gets zeros. The switches make the mistakes."""
    (B, H, T, K), S, width = q.shape, k.shape[2], v.shape[3]
    allowed = torch.ones(B, H, T, S, dtype=torch.bool) if mask is None else mask.expand(B, H, T, S)
    queries, keys, values, who = q.tolist(), k.tolist(), v.tolist(), allowed.tolist()
    numbers = torch.zeros(B, H, T, width).tolist()
    for b, h, t in itertools.product(range(B), range(H), range(T)):
        seen = [s for s in range(S) if mask is None or who[b][h][t][s] != inverted]
        scores = [sum(map(operator.mul, queries[b][h][t], key)) / scale(K, width) for key in keys[b][h]]
        counted = range(S) if mask_late else seen
        top = max((scores[s] for s in counted), default=0.0)
        total = sum(math.exp(scores[s] - top) for s in counted)
        for s in seen:
            share = math.exp(scores[s] - top) / total if softmax else scores[s]
            for i in range(width):
                numbers[b][h][t][i] += share * values[b][h][s][i]
    return torch.tensor(numbers, dtype=q.dtype)


def mistaken(**switch: Any) -> Any:
    """The loop with switches thrown."""
    return lambda q, k, v, mask=None: loop_attention(q, k, v, mask, **switch)


def exponentials(scores: Tensor, dim: Any = -1, top: str = "row") -> Tensor:
    """exp of each score above the largest one, divided by the sum. A row of nothing but -inf gives NaN."""
    if top == "row":
        scores = scores - scores.amax(dim, keepdim=True)
    elif top == "all":
        scores = scores - scores.max()
    return torch.exp(scores) / torch.exp(scores).sum(dim, keepdim=True)


def in_matrices(
    hidden: float = -math.inf,
    dim: Any = -1,
    top: str = "row",
    empty: float | None = 0.0,
    pairs: Callable[[Tensor, Tensor], Tensor] = lambda q, k: q @ k.mT,
    hide: Callable[[Tensor, Tensor, float], Tensor] = lambda scores, mask, hidden: scores.masked_fill(~mask, hidden),
    mix: Callable[..., Tensor] = lambda weights, q, k, v: weights @ v,
) -> Any:
    """Attention in matrices; the arguments make the mistakes: what hides a key, along which axis, what meets what."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = pairs(q, k) / math.sqrt(q.shape[-1])
        weights = exponentials(scores if mask is None else hide(scores, mask, hidden), dim, top)
        if empty is not None and mask is not None:
            weights = weights.masked_fill(~mask.any(-1, keepdim=True), empty)
        return mix(weights, q, k, v)

    return attention


def scaled_by(size: Callable[[Tensor, Tensor], int]) -> Any:
    """The root of another size in the place of K."""
    return in_matrices(pairs=lambda q, k: q @ k.mT * math.sqrt(q.shape[-1] / size(q, k)))


def exp_times_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    weights = exponentials(q @ k.mT / math.sqrt(q.shape[-1]))
    weights = weights if mask is None else weights * mask
    return weights / weights.sum(-1, keepdim=True) @ v


def inverted(hidden: float) -> Any:
    return in_matrices(hidden, hide=lambda scores, mask, x: scores.masked_fill(mask, x), empty=None)


def careless(function: Callable[..., Tensor]) -> Any:
    """The same function, but with NaN for a query that sees nothing: few think of it at once."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        out = function(q, k, v, mask)
        return out if mask is None else out.masked_fill(~mask.any(-1, keepdim=True), math.nan)

    return attention


def by_index(scores: Tensor, mask: Tensor, hidden: float) -> Tensor:
    scores = scores.clone()
    scores[~mask] = hidden
    return scores


def needs_a_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return loop_attention(q, k, v, torch.logical_not(torch.logical_not(mask)))  # type: ignore[arg-type]


def causal_by_itself(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    causal = torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2]).bool()
    return loop_attention(q, k, v, causal if mask is None else causal & mask)


def einsum_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.einsum("bhts,bhsw->bhtw", exponentials(scores).nan_to_num(0.0), v)


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
        seen = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask[..., t, :].expand(scores.shape)
        log_total = torch.where(seen, scores, -math.inf).logsumexp(-1, keepdim=True)
        weights = torch.where(seen, torch.exp(torch.where(seen, scores - log_total, 0.0)), 0.0)
        rows.append((weights[..., None] * v).sum(-2))
    return torch.stack(rows, dim=2)


def whole(*axes: int, step: int = 1, start: int = 0) -> Tensor:
    """Small whole numbers, as one would write them on paper: start, start + step, ..., modulo 5, less 2."""
    return ((start + step * torch.arange(math.prod(axes))) % 5 - 2).reshape(axes).double()


def by_hand() -> list[tuple[Any, ...]]:
    """At most 12 numbers in an argument: square and not, one head and two, a mask (T, S), with an empty row, and none.

    The last has one key that is seen, among hidden ones whose scores are much larger: no finite number hides those.
    """
    square = whole(1, 2, 2, 2, step=2), whole(1, 2, 2, 2, step=3, start=1), whole(1, 2, 2, 3)
    one = whole(1, 1, 2, 2), whole(1, 1, 3, 2, step=2, start=4), whole(1, 1, 3, 1, step=3)
    mask = torch.tensor([[True, False, True], [True, True, False]])
    empty = torch.tensor([[False, False, False], [False, True, True]])
    far = torch.tensor([1e6, 1.0, 1e-3]), torch.tensor([-2e5, 1e5, 3e5, 2e5])
    q, k = (numbers.double().reshape(1, 1, -1, 1) for numbers in far)
    alone = torch.tensor([[True, False, False, False]]).expand(3, 4)
    return [
        (*square, None),
        (*square, torch.eye(2).bool()),
        one,
        (*one, mask),
        (*one, empty),
        (q, k, whole(1, 1, 4, 2), alone),
    ]


def attention_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Small ones by hand; ugly sizes, K' != K, T != S; with no mask, a random one, and one that hides everything from a query.

    The last case has scores of about a thousand, in one row two thousand; the mask hides the larger ones of each row.
    """
    generator = Generator().manual_seed(seed)
    cases = by_hand()
    for B, H, T, S, K, width in ((2, 3, 5, 7, 4, 6), (3, 2, 4, 6, 5, 3)):
        q, k, v = (
            torch.randn(B, H, length, size, generator=generator, dtype=torch.float64)
            for length, size in ((T, K), (S, K), (S, width))
        )
        mask = torch.rand(B, 1, T, S, generator=generator) < 0.6
        mask[..., 0] = True
        empty = mask.clone()
        empty[0, 0, 1] = False
        cases += [(q, k, v), (q, k, v, mask), (q, k, v, empty)]
    q, k = (torch.cat([torch.full_like(x[..., :1], 50.0), 10.0 * x[..., 1:]], -1) for x in (q, k))
    q[:, :, 0, 0] = 100.0
    scores = q @ k.mT
    return [*cases, (q, k, v, (scores <= scores.median(-1, keepdim=True).values))]


MISTAKES = (
    Mistake("no scale", mistaken(scale=lambda K, _: 1.0), "dot products grow with the key size: scale them"),
    Mistake("scale by K", mistaken(scale=lambda K, _: float(K)), "divide by the square root of the key size"),
    Mistake("times the root", mistaken(scale=lambda K, _: 1 / math.sqrt(K)), "the root makes scores smaller: divide"),
    Mistake(
        "scale by K'", mistaken(scale=lambda _, width: math.sqrt(width)), "the scale is that of keys, not of values"
    ),
    Mistake("scale by S", scaled_by(lambda q, k: k.shape[-2]), "K is the size of a key, not how many keys there are"),
    Mistake(
        "scale by T", scaled_by(lambda q, k: q.shape[-2]), "K is the size of a query, not how many queries there are"
    ),
    Mistake("scaled late", in_matrices(mix=lambda p, q, k, v: p @ v / q.shape[-1] ** 0.5), "scale before the softmax"),
    Mistake(
        "k.T", in_matrices(pairs=lambda q, k: q @ k.permute(3, 2, 1, 0)), "with four axes .T turns all four of them"
    ),
    Mistake("k as it is", in_matrices(pairs=lambda q, k: q @ k), "rows of q meet rows of k: one has to be turned"),
    Mistake(
        "heads moved", in_matrices(pairs=lambda q, k: q @ k.transpose(1, 2)), "turn the last two axes, not the heads"
    ),
    Mistake("k reshaped", in_matrices(pairs=lambda q, k: q @ k.reshape(k.mT.shape)), "reshape cuts the numbers anew"),
    Mistake("keys ask", in_matrices(pairs=lambda q, k: k @ q.mT), "row t of the scores is query t: who comes first?"),
    Mistake("keys handed over", in_matrices(mix=lambda p, q, k, v: p @ k), "a token hands over its value, not its key"),
    Mistake("mask inverted", mistaken(inverted=True), "True means that a query may attend"),
    Mistake("inverted, -inf", inverted(-math.inf), "True means that a query may attend: -inf goes where it says False"),
    Mistake("inverted, -1e30", inverted(-1e30), "the scores to hide are those where the mask says False, not True"),
    Mistake("mask late", mistaken(mask_late=True), "hide before the softmax, so that each row still sums to 1"),
    Mistake("mask ignored", lambda q, k, v, mask=None: loop_attention(q, k, v), "use the mask where there is one"),
    Mistake("no mask, no answer", needs_a_mask, "the mask may be None: then every query sees every key"),
    Mistake("causal by itself", causal_by_itself, "who sees whom is in the mask alone: None means that all see all"),
    Mistake(
        "an axis put into the mask",
        in_matrices(hide=lambda s, mask, x: s.masked_fill(~mask.unsqueeze(1), x)),
        "the mask fits (B, H, T, S) as it comes: (T, S) does, too",
    ),
    Mistake("mask as an index", in_matrices(hide=by_index), "an index does not broadcast: masked_fill does"),
    Mistake("zero, not -inf", in_matrices(hidden=0.0), "a hidden score must be -inf: exp(0) is 1, not 0"),
    Mistake("times the mask", in_matrices(hidden=0.0, empty=None), "a score of 0 hides nobody, since exp(0) is 1"),
    Mistake("mask added", in_matrices(hide=lambda s, mask, x: s + mask), "True is 1 in a sum: that hides nobody"),
    Mistake("inf times 0", in_matrices(hide=lambda s, mask, x: s + x * ~mask, empty=None), "infinity times 0 is NaN"),
    Mistake("-100", in_matrices(hidden=-100.0), "no such number is small enough for every score: -inf is"),
    Mistake("-100, no zeros", in_matrices(hidden=-100.0, empty=None), "-100 is too near: -inf; then zeros for no keys"),
    Mistake("-1e9", in_matrices(hidden=-1e9), "-1e9 hides a key only while others are above it: -inf always does"),
    Mistake(
        "-1e9 added", in_matrices(hide=lambda s, mask, x: s - 1e9 * ~mask), "an added number leaves the old score in"
    ),
    Mistake("-1e9, no zeros", in_matrices(-1e9, empty=None), "-1e9 is too near; and a row of it gives equal shares"),
    Mistake("equal shares", in_matrices(-1e30, empty=None), "-1e30 for all keys gives equal shares, not zeros"),
    Mistake("NaN", in_matrices(empty=None), "a query that may attend to nothing must get zeros, not NaN"),
    Mistake("no softmax", mistaken(softmax=False), "turn the scores of each query into probabilities first"),
    Mistake("softmax over queries", in_matrices(dim=-2, empty=None), "a query shares itself out among keys: last axis"),
    Mistake("over queries, -1e30", in_matrices(-1e30, -2, empty=None), "each row must sum to 1, not each column"),
    Mistake("softmax over texts", in_matrices(dim=0, empty=None), "axis 0 is the texts, which never meet: last axis"),
    Mistake(
        "maximum of the hidden, too",
        exp_times_mask,
        "the largest score may be a hidden one, and then exp gives 0 for all that are seen: hide first",
    ),
    Mistake(
        "softmax over queries, no NaN",
        in_matrices(dim=-2, empty=None, mix=lambda p, q, k, v: p.nan_to_num(0.0) @ v),
        "the NaN came from a column of -inf: is that the axis along which a query shares itself out?",
    ),
    Mistake(
        "softmax over heads", in_matrices(dim=1, empty=None), "axis 1 is the heads, and they do not compete: keys do"
    ),
    Mistake("softmax over all", in_matrices(dim=(0, 1, 2, 3)), "each query has a softmax of its own"),
    Mistake("overflow", in_matrices(top="none"), "exp of a large score overflows: take away the largest of its row"),
    Mistake(
        "overflow made zero",
        in_matrices(top="none", mix=lambda p, q, k, v: p.nan_to_num(0.0) @ v),
        "0 for every NaN hides an overflow, too: take away the largest of a row before exp",
    ),
    Mistake(
        "maximum of all", in_matrices(top="all"), "the maximum of each row: one far below that of all would vanish"
    ),
)
WITH_NAN = ("no scale", "scale by K", "times the root", "scale by K'", "keys handed over", "overflow", "maximum of all")

ATTENTION = Exercise(
    "scaled_dot_product_attention",
    "four steps: scores from q and k, the scale, the mask, the softmax; then the average of v. Look at the matrix version above",
    attention_inputs,
    loop_attention,
    MISTAKES
    + tuple(
        Mistake(f"{one.name}, NaN", careless(one.function), f"{one.hint}. And a query that sees nothing must get zeros")
        for one in MISTAKES
        if one.name in WITH_NAN
    ),
    (einsum_attention, exponential_attention, attention_by_rows),
    differentiable=True,
)

EXERCISES = (ATTENTION,)
