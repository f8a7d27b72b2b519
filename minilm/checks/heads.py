"""The exercises of lesson 05 around the attention, on who may see whom and on heads: oracles in loops, mistakes, alternatives."""

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
        Mistake(
            "places the wrong way",
            lambda t, s: loop_mask(t, s, first=t - s),
            "there are more keys than queries, and the first query stands behind some of them: look at the sign",
        ),
        Mistake("strict", lambda t, s: loop_mask(t, s, strict=True), "a token may see itself"),
        Mistake(
            "one too far",
            lambda t, s: loop_mask(t, s, first=s - t + 1),
            "a query sees the token that it should predict: where does its row have to end?",
        ),
        Mistake("inverted", lambda t, s: loop_mask(t, s, turned=True), "True means that a query may attend"),
        Mistake(
            "upper triangle",
            lambda t, s: torch.ones(t, s).triu(s - t).bool(),
            "the past lies at the left of the diagonal: is it the upper or the lower triangle?",
        ),
        Mistake("all keys", lambda t, s: torch.ones(t, s, dtype=torch.bool), "a query may not see the keys behind it"),
        Mistake(
            "queries only",
            lambda t, s: loop_mask(t, t),
            "a column for each key: there may be more keys than queries",
        ),
        Mistake("transposed", lambda t, s: loop_mask(t, s).T, "one row for each query, one column for each key"),
        Mistake(
            "numbers",
            lambda t, s: loop_mask(t, s).float(),
            "the mask is boolean, not 0 and 1: a last step is missing",
        ),
        Mistake("whole numbers", lambda t, s: loop_mask(t, s).long(), "True and False, not the integers 1 and 0"),
        Mistake(
            "short numbers", lambda t, s: loop_mask(t, s).int(), "True and False are a type of their own, not integers"
        ),
        Mistake(
            "numbers, upper left",
            lambda t, s: loop_mask(t, s, first=0).float(),
            "two things: the mask is boolean, and with more keys than queries the last query is the last key",
        ),
        Mistake(
            "0 and -inf",
            lambda t, s: torch.zeros(t, s).masked_fill(~loop_mask(t, s), -torch.inf),
            "that is what one adds to scores; here only True and False are asked for",
        ),
        Mistake(
            "four axes",
            lambda t, s: loop_mask(t, s)[None, None],
            "two axes are enough: the mask is the same for every text and head",
        ),
    ),
    (
        lambda t, s: torch.ones(t, s).tril(s - t).bool(),
        lambda t, s: torch.arange(s)[None] <= torch.arange(s - t, s)[:, None],
        lambda t, s: ~torch.triu(torch.ones(t, s, dtype=torch.bool), diagonal=s - t + 1),
    ),
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


def heads_inputs(seed: int) -> list[tuple[Tensor, int]]:
    """Two small ones with the numbers 0, 1, 2, ..., of one text and of two; then ugly sizes."""
    counted = [
        (torch.arange(12.0, dtype=torch.float64).reshape(axes), H) for axes, H in (((1, 2, 6), 3), ((2, 1, 6), 2))
    ]
    drawn = [
        (torch.randn(B, T, D, generator=Generator().manual_seed(seed + D), dtype=torch.float64), H)
        for B, T, D, H in ((2, 5, 12, 3), (3, 4, 10, 2))
    ]
    return [*counted, *drawn]


HEADS = Exercise(
    "split_heads",
    "K = D / n_heads. First give the last axis two axes of its own, then move the axis of the heads",
    heads_inputs,
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
        Mistake(
            "moved before the cut",
            lambda x, H: x.transpose(1, 2).reshape(x.shape[0], H, x.shape[1], -1),
            "cut while the numbers of a token are the last axis; only then move axes",
        ),
        Mistake(
            "heads before texts",
            lambda x, H: torch.stack(x.chunk(H, dim=-1)),
            "stack puts its new axis first, where the texts belong: tell it where the heads go",
        ),
        Mistake(
            "K heads of H",
            lambda x, H: x.reshape(*x.shape[:2], -1, H).transpose(1, 2),
            "n_heads says how many pieces there are, not how long a piece is: H and K have changed places",
        ),
        Mistake(
            "texts and heads in one",
            lambda x, H: x.reshape(*x.shape[:2], H, -1).transpose(1, 2).flatten(0, 1),
            "texts and heads keep an axis each: four axes",
        ),
        Mistake(
            "laid end to end",
            lambda x, H: torch.cat(x.chunk(H, dim=-1), dim=1),
            "the heads lie one behind the other on the axis of the tokens: they need an axis of their own",
        ),
        Mistake(
            "K is not whole",
            lambda x, H: x.reshape(*x.shape[:2], H, x.shape[2] / H),
            "a shape is made of whole numbers, and / gives a number with a point: which division does not?",
        ),
    ),
    (
        lambda x, H: x.unflatten(-1, (H, x.shape[-1] // H)).transpose(1, 2),
        lambda x, H: torch.stack(x.chunk(H, dim=-1), dim=1),
        lambda x, H: torch.cat([part[:, None] for part in x.split(x.shape[-1] // H, dim=-1)], dim=1),
    ),
    differentiable=True,
)

EXERCISES = (MASK, HEADS)
