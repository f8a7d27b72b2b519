"""The exercise of lesson 08 on top-p: a sum over sorted lists as the oracle, the mistakes, other right solutions."""

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


# ---- keep_top_p(logits, p) -> (B, V)


def smallest(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (row[i], i))


def higher_first(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (-row[i], -i))


def shares(row: list[float]) -> list[float]:
    top = max(row)
    parts = [math.exp(score - top) for score in row]
    return [part / sum(parts) for part in parts]


def first_with(
    row: list[float], p: float, order: Any = ranked, crossing: int = 1, at_least: int = 1, probability: Any = shares
) -> list[int]:
    """The ids in their order as long as those before have less than p together. The switches make the mistakes."""
    ids, parts, together, n = order(row), probability(row), 0.0, 0
    while n < len(ids) and together < p:
        together += parts[ids[n]]
        n += 1
    short = n == len(ids) and together <= p  # all are needed: nobody crosses
    return ids[: max(n if short else n - 1 + crossing, at_least)]


def top_p(logits: Tensor, p: float, dropped: float = -math.inf, whole: bool = True, **switches: Any) -> Tensor:
    """The smallest set with probability p. With p = 1 all stay, unless `whole` is off, and a rounded sum decides."""
    if p == 1 and whole:
        return logits.clone()
    return only(logits, lambda row: first_with(row, p, **switches), dropped)


def with_p(**switches: Any) -> Any:
    """A pair of functions with switches thrown: one that keeps all where p = 1, one that trusts the sum."""
    return lambda logits, p, whole=True: top_p(logits, p, whole=whole, **switches)


def kept_by(kept: Callable[[Tensor, Tensor, float], Tensor], told: Keep = lambda logits: logits) -> Any:
    """`kept` maps logits, probabilities (B, V) and p to booleans: True stays. What is cut is `told` of the logits."""

    def keep(logits: Tensor, p: float, whole: bool = True) -> Tensor:
        if p == 1 and whole:
            return logits.clone()
        return told(logits).masked_fill(~kept(logits, softmax(logits), p), -math.inf)

    return keep


def stays_sorted(probabilities: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """In sorted order: who stays, and the order."""
    order = probabilities.argsort(dim=-1, descending=True, stable=True)
    sorted_ones = probabilities.gather(-1, order)
    return sorted_ones.cumsum(-1) - sorted_ones < p, order


def in_place(numbers: Tensor, stays: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Who stays, by id; `stays` sees the sorted numbers and their running sum, the own number included."""
    order = numbers.argsort(dim=-1, descending=True, stable=True)
    own = numbers.gather(-1, order)
    kept = stays(own, own.cumsum(-1))
    return torch.zeros_like(kept).scatter(-1, order, kept)


def at_least_the_last(logits: Tensor, probabilities: Tensor, p: float) -> Tensor:
    stays, order = stays_sorted(probabilities, p)
    last = probabilities.gather(-1, order).masked_fill(~stays, 2.0).amin(-1, keepdim=True)
    return probabilities >= last


def as_many_as_the_first_row(logits: Tensor, probabilities: Tensor, p: float) -> Tensor:
    stays, order = stays_sorted(probabilities, p)
    return torch.zeros_like(stays).scatter(-1, order, stays[:1].expand_as(stays))


def overflows(logits: Tensor, p: float, whole: bool = True) -> Tensor:
    if p == 1 and whole:
        return logits.clone()
    stays, order = stays_sorted(torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True), p)
    return logits.masked_fill(~torch.zeros_like(stays).scatter(-1, order, stays), -math.inf)


def from_below(logits: Tensor, p: float) -> Tensor:
    """Drop the rarest as long as what is left has p: the smallest set, found from the other end."""
    out = logits.clone()
    for b, row in enumerate(logits.tolist()):
        parts, left = shares(row), 1.0
        for token in reversed(ranked(row)):
            left -= parts[token]
            if left < p or p == 1:
                break
            out[b, token] = -math.inf
    return out


def what_stands_before(logits: Tensor, p: float) -> Tensor:
    """What is likelier than each token, or as likely and before it, without sorting."""
    if p == 1:
        return logits.clone()
    parts, ids = softmax(logits), torch.arange(logits.shape[1])
    one, other = logits[:, :, None], logits[:, None, :]
    ahead = (other > one) | ((other == one) & (ids < ids[:, None]))
    return torch.where((ahead * parts[:, None, :]).sum(-1) < p, logits, -math.inf)


def shifted(logits: Tensor, p: float) -> Tensor:
    if p >= 1:
        return logits + 0
    values, order = torch.sort(logits, descending=True, stable=True, dim=-1)
    out = torch.cumsum(softmax(values), -1) >= p
    out = torch.cat([torch.zeros(len(out), 1, dtype=torch.bool), out[:, :-1]], -1)
    return torch.empty_like(logits).scatter(-1, order, values.masked_fill(out, -math.inf))


def p_inputs(seed: int) -> list[tuple[Any, ...]]:
    """A row by hand; then a tiny p, ties at the border, large scores, what a filter has dropped, p = 1 with a rare token."""
    generator = Generator().manual_seed(seed)
    by_hand = torch.tensor([[0.3, 0.5, 0.2]], dtype=torch.float64).log()
    alike = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.float64)
    fine = 2 * torch.randn(3, 7, generator=generator, dtype=torch.float64) - 1
    gone = fine.masked_fill(fine == fine.amax(-1, keepdim=True), -math.inf)
    rare = torch.tensor([[0.0, -50.0, 0.0, -45.0, -60.0], [3.0, 3.0, -44.0, 3.0, 3.0]], dtype=torch.float64)
    cases = [(by_hand, p) for p in (0.6, 0.4, 0.75, 0.9)] + [(alike, 0.5), (alike, 0.7), (alike[:1, :4], 0.5)]
    cases += [(fine + 1000, 0.8), (gone, 0.55), (rare, 1.0)]
    return cases + [(fine, p) for p in (1e-12, 0.1, 0.5, 0.77, 0.97)]


WHOLE = "and with p = 1 every token stays: by rounding, the running sum may be 1 before all are counted"
P_MISTAKES = (
    Mistake(
        "the crossing one dropped",
        kept_by(lambda logits, parts, p: in_place(parts, lambda own, together: together <= p)),
        "without the token that crosses p, the set has less than p: it stays. With a small p you even keep nobody",
    ),
    Mistake(
        "the crossing one dropped, not the first",
        kept_by(lambda logits, parts, p: in_place(parts, lambda own, together: (together <= p) | (together == own))),
        "the token with which the sum reaches p belongs to the set, or the set has less than p",
    ),
    Mistake(
        "the others",
        kept_by(lambda logits, parts, p: in_place(parts, lambda own, together: together - own >= p)),
        "it is the wrong way round: the likeliest stay, and those behind p become -inf",
    ),
    Mistake("one too many", with_p(crossing=2), "the token that crosses p stays, the one behind it does not"),
    Mistake(
        "one too many at p",
        kept_by(lambda logits, parts, p: in_place(parts, lambda own, together: together - own <= p)),
        "where those before a token have exactly p, they are enough: it stays only if they have less",
    ),
    Mistake(
        "not sorted",
        with_p(order=lambda row: list(range(len(row)))),
        "add up from the likeliest token down, not in the order of the ids",
    ),
    Mistake("from the rarest up", with_p(order=smallest), "sort the other way: the likeliest come first"),
    Mistake(
        "higher ids first", with_p(order=higher_first), "of tokens that are equally likely the lower id comes first"
    ),
    Mistake("zeros", with_p(dropped=0.0), "a score of 0 is not out of the draw, for exp(0) is 1: use -inf"),
    Mistake("-1e9", with_p(dropped=-1e9), "-inf, not a number that is only very small: a filter may follow this one"),
    Mistake(
        "scores added",
        kept_by(lambda logits, parts, p: in_place(logits, lambda own, together: together - own < p)),
        "add up probabilities: the scores are logarithms, and their sum means nothing here",
    ),
    Mistake(
        "not back in place",
        kept_by(lambda logits, parts, p: stays_sorted(parts, p)[0]),
        "who stays is known in sorted order: bring it back to the ids before you use it, by scatter",
    ),
    Mistake(
        "gathered",
        kept_by(lambda logits, parts, p: stays_sorted(parts, p)[0].gather(-1, stays_sorted(parts, p)[1])),
        "gather sorts once more: scatter goes the way back, and writes to place order[i] what is at i",
    ),
    Mistake(
        "each at least p",
        kept_by(lambda logits, parts, p: parts >= p),
        "p is what the tokens have together, not what each of them needs",
    ),
    Mistake(
        "min-p",
        kept_by(lambda logits, parts, p: parts >= p * parts.amax(-1, keepdim=True)),
        "that is min-p, a part of the largest probability: here a running sum decides",
    ),
    Mistake(
        "ties stay",
        kept_by(at_least_the_last),
        "several tokens may be as likely as the last one that stays: of those, take only as many as p needs",
    ),
    Mistake(
        "as many as in the first row",
        kept_by(as_many_as_the_first_row),
        "each row has its own sum: how many stay differs from row to row",
    ),
    Mistake(
        "a part of the ids",
        lambda logits, p, whole=True: only(logits, lambda row: ranked(row)[: max(1, math.ceil(p * len(row)))]),
        "p is a part of the probability, not of the number of tokens",
    ),
    Mistake(
        "softmax along the batch",
        lambda logits, p, whole=True: top_p(logits.T, p, whole=whole).T,
        "axis 0 is the rows: tokens compete along the last axis",
    ),
    Mistake("overflow", overflows, "exp(1000) is infinite: torch.softmax takes the largest score away first"),
    Mistake(
        "sorted",
        lambda logits, p, whole=True: top_p(logits.sort(-1, descending=True).values, p, whole=whole),
        "the scores come out sorted: token i must keep column i",
    ),
    Mistake(
        "probabilities, cut",
        kept_by(lambda logits, parts, p: in_place(parts, lambda own, together: together - own < p), told=softmax),
        "these are probabilities: cut the logits, and give those back",
    ),
    Mistake(
        "probabilities",
        lambda logits, p, whole=True: softmax(top_p(logits, p, whole=whole)),
        "give back logits: another filter and the softmax come afterwards",
    ),
)


def trusting(keep: Any) -> Keep:
    """The same, but where p = 1 the rounded sum decides as well."""
    return lambda logits, p: keep(logits, p, whole=False)


def as_asked(keep: Any) -> Keep:
    """With the two arguments of the exercise."""
    return lambda logits, p: keep(logits, p)


ALIKE = ["the crossing one dropped", "the crossing one dropped, not the first", "from the rarest up"]
ALIKE += ["one too many at p", "a part of the ids", "probabilities"]  # these give the same where p = 1

TOP_P = Exercise(
    "keep_top_p",
    "sort, softmax, cumsum: then each token knows what those before it have together. It stays if that is less than p",
    p_inputs,
    top_p,
    (
        Mistake(
            "up to p only",
            lambda logits, p: kept_by(lambda x, parts, p: in_place(parts, lambda own, together: together < p))(
                logits, p, whole=False
            ),
            f"the token that crosses p stays as well, or the set has less than p. {WHOLE.capitalize()}",
        ),
        Mistake("the sum at p = 1", trusting(with_p()), f"p = 1: {WHOLE.removeprefix('and with p = 1 ')}"),
        *(Mistake(one.name, as_asked(one.function), one.hint) for one in P_MISTAKES),
        *(
            Mistake(f"{one.name}, p = 1", trusting(one.function), f"{one.hint}. {WHOLE.capitalize()}")
            for one in P_MISTAKES
            if one.name not in ALIKE
        ),
    ),
    (from_below, what_stands_before, shifted),
)

EXERCISES = (TOP_P,)
