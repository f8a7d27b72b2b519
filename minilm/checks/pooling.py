"""The exercise of lesson 10 on one vector for each text: pooling under padding. A walk through the places, and what goes wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]

# pool(hidden, mask, how) -> (B, D)


def pool_text_by_text(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    """Write down the vectors of a text's own tokens, one text after the other; then take one of them, or add them up."""
    texts = []
    for b in range(hidden.shape[0]):
        own = [hidden[b, t] for t in range(hidden.shape[1]) if bool(mask[b, t])]
        if how == "mean":
            total = torch.zeros_like(own[0])
            for vector in own:
                total = total + vector
            texts.append(total / len(own))
        else:
            texts.append(own[0] if how == "first" else own[-1])
    return torch.stack(texts)


def pool_with(**ways: Function) -> Function:
    """The right pooling, but for the ways that are given: last=..., mean=... or first=..., each (hidden, mask) -> answer."""

    def pool(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
        return ways[how](hidden, mask) if how in ways else pool_text_by_text(hidden, mask, how)

    return pool


def at(hidden: Tensor, places: Tensor) -> Tensor:
    """Row b at its own place: (B, T, D), (B,) -> (B, D)."""
    return hidden[torch.arange(len(hidden)), places]


def own_sum(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask[..., None]).sum(1)


def pool_by_weights(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    """A share for each token, then one product: all ways are averages."""
    places, lengths = torch.arange(mask.shape[1]), mask.sum(1, keepdim=True)
    shares = {"last": places == lengths - 1, "mean": mask.to(hidden.dtype) / lengths, "first": places == 0 * lengths}[
        how
    ]
    return torch.einsum("bt,btd->bd", shares.to(hidden.dtype), hidden)


def pool_by_gather(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    if how == "mean":
        return hidden.masked_fill(~mask.unsqueeze(-1), 0).sum(dim=1) / mask.sum(dim=1).unsqueeze(1)
    places = mask.sum(dim=1) - 1 if how == "last" else torch.zeros(len(mask), dtype=torch.long)
    index = places[:, None, None].expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, index)[:, 0]


def pool_by_slices(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    """Cut each text to its length first."""
    own = [row[: int(real.sum())] for row, real in zip(hidden, mask, strict=True)]
    if how == "last":
        return torch.stack([row[-1] for row in own])
    return torch.stack([row.mean(dim=0) if how == "mean" else row[0] for row in own])


def pooling_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand, then drawn: in each way texts of all lengths, from one token to the whole row; padding is anything but 0."""
    generator = Generator().manual_seed(seed)

    def drawn(lengths: list[int], T: int, D: int) -> tuple[Tensor, Tensor]:
        hidden = torch.randn(len(lengths), T, D, generator=generator, dtype=torch.float64)
        return hidden, torch.arange(T) < torch.tensor(lengths)[:, None]

    by_hand = torch.tensor([[[1.0], [2.0], [9.0]], [[3.0], [5.0], [7.0]]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    cases: list[tuple[Any, ...]] = [(by_hand, mask, how) for how in ("last", "mean", "first")]
    for how in ("last", "mean", "first"):
        cases += [(*drawn([3, 1, 5, 4], 5, 3), how), (*drawn([2, 4, 1], 6, 5), how)]
    return [*cases, drawn([1, 3], 4, 7)]


POOL = Exercise(
    "pool",
    "how many tokens has each text? The mask says so, and where its last one stands; one `if` for each of the three ways",
    pooling_inputs,
    pool_text_by_text,
    (
        Mistake(
            "last column",
            pool_with(last=lambda hidden, mask: hidden[:, -1]),
            "the last column is padding in all but the longest text: each text has a last token of its own",
        ),
        Mistake(
            "one too far",
            pool_with(last=lambda hidden, mask: at(hidden, mask.sum(1))),
            "places count from 0: where is the last of 3 tokens?",
        ),
        Mistake(
            "one too early",
            pool_with(last=lambda hidden, mask: at(hidden, (mask.sum(1) - 2).clamp(min=0))),
            "you stop at the last token but one: it has not read the whole text",
        ),
        Mistake(
            "length of the longest",
            pool_with(last=lambda hidden, mask: hidden[:, int(mask.sum(1).max()) - 1]),
            "you take one place for all texts, that of the longest: short ones have ended before",
        ),
        Mistake(
            "length of the first",
            pool_with(last=lambda hidden, mask: hidden[:, int(mask[0].sum()) - 1]),
            "you take the length of the first text for all: pair each row with its own",
        ),
        Mistake(
            "every place in every row",
            pool_with(last=lambda hidden, mask: hidden[:, mask.sum(1) - 1]),
            "a slice beside a list of places takes all these places from every text: "
            "pair them with the numbers of the rows, torch.arange(B)",
        ),
        Mistake(
            "all places in one",
            pool_with(last=lambda hidden, mask: hidden[mask]),
            "hidden[mask] has all tokens of all texts in one long list; one of each text is asked for",
        ),
        Mistake(
            "padding in the mean",
            pool_with(mean=lambda hidden, mask: hidden.mean(1)),
            "padding takes part in your mean: a text would change with the texts beside it",
        ),
        Mistake(
            "padding in the sum",
            pool_with(mean=lambda hidden, mask: hidden.sum(1) / mask.sum(1, keepdim=True)),
            "you divide by the right number, but the vectors at padding are still in the sum",
        ),
        Mistake(
            "divided by T",
            pool_with(mean=lambda hidden, mask: own_sum(hidden, mask) / hidden.shape[1]),
            "the sum is right; divide it by how many tokens the text has, not by the length of the row",
        ),
        Mistake(
            "divided by all tokens",
            pool_with(mean=lambda hidden, mask: own_sum(hidden, mask) / mask.sum()),
            "you divide by the number of tokens of the whole batch: count along the row",
        ),
        Mistake(
            "sum",
            pool_with(mean=own_sum),
            "that is the sum: a long text would get a long vector",
        ),
        Mistake(
            "mask without an axis",  # RuntimeError
            pool_with(mean=lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1)),
            "mask (B, T) needs a last axis: mask[..., None] goes with (B, T, D)",
        ),
        Mistake(
            "number without an axis",  # RuntimeError, except where D is 1
            pool_with(mean=lambda hidden, mask: own_sum(hidden, mask) / mask.sum(1)),
            "the sums are (B, D), how many tokens there are is (B,): it needs a last axis, too, as with keepdim=True",
        ),
        Mistake(
            "gather at a list of places",  # RuntimeError
            pool_with(last=lambda hidden, mask: hidden.gather(1, mask.sum(1) - 1)),
            "gather wants as many axes as hidden has; hidden[torch.arange(B), places] is shorter",
        ),
        Mistake(
            "mean of everything",
            pool_with(mean=lambda hidden, mask: hidden[mask].mean(0)),
            "that is one vector for the whole batch: hidden[mask] forgets which token was in which text",
        ),
        Mistake(
            "mean along D",
            pool_with(mean=lambda hidden, mask: hidden.mean(-1)),
            "the mean goes along the tokens, axis 1; the D numbers of a vector stay apart",
        ),
        Mistake(
            "axis kept",
            pool_with(
                last=lambda hidden, mask: at(hidden, mask.sum(1) - 1)[:, None],
                mean=lambda hidden, mask: own_sum(hidden, mask)[:, None] / mask.sum(1)[:, None, None],
                first=lambda hidden, mask: hidden[:, :1],
            ),
            "the axis of the tokens is gone in the answer: (B, D), not (B, 1, D)",
        ),
        Mistake(
            "first of the batch",
            pool_with(first=lambda hidden, mask: hidden[0]),
            "hidden[0] is the first text, not the first token: axis 0 is that of the texts",
        ),
        Mistake(
            "always last",
            lambda hidden, mask, how="last": pool_text_by_text(hidden, mask),
            "three ways are asked for: what does your function do with `how`?",
        ),
        Mistake(
            "last and first exchanged",
            lambda hidden, mask, how="last": pool_text_by_text(
                hidden, mask, {"last": "first", "first": "last", "mean": "mean"}[how]
            ),
            "what you return for last is the first token, and the other way round",
        ),
    ),
    (pool_by_weights, pool_by_gather, pool_by_slices),
    differentiable=True,
)

EXERCISES = (POOL,)
