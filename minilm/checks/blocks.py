"""The exercise of lesson 06 on the block: an oracle with switches that make the mistakes, and other right solutions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake, Part

Change = Callable[[Tensor], Tensor]


# pre_norm(x, attention, mlp, attention_norm, mlp_norm) -> as x


def wired(
    x: Tensor,
    attention: Change,
    mlp: Change,
    attention_norm: Change,
    mlp_norm: Change,
    keeps: tuple[str, str] = ("stream", "stream"),
    norm_is: str = "before",
    second_reads: str = "stream",
) -> Tensor:
    """Two halves: each reads the stream and writes to it. `keeps` says to what each half adds; the switches make the mistakes."""
    stream = x
    for half, norm, kept in ((attention, attention_norm, keeps[0]), (mlp, mlp_norm, keeps[1])):
        read = x if half is mlp and second_reads == "x" else stream
        found = half(norm(read)) if norm_is == "before" else half(read)
        if norm_is == "on what is found":
            found = norm(found)
        stream = {"stream": stream, "x": x, "normed": norm(read), "nothing": torch.zeros_like(x)}[kept] + found
        if norm_is == "on the sum":
            stream = norm(stream)
    return stream


def wired_with(**switches: Any) -> Any:
    """The block with switches thrown."""
    return lambda x, attention, mlp, attention_norm, mlp_norm: wired(
        x, attention, mlp, attention_norm, mlp_norm, **switches
    )


def by_contributions(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    """Where the stream ends is where it began, plus all that was written to it."""
    fetched = attention(attention_norm(x))
    return x + (fetched + mlp(mlp_norm(x + fetched)))


def in_one_line(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    return (y := attention(attention_norm(x)) + x) + mlp(mlp_norm(y))


def by_halves(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    def half(stream: Tensor, part: Change, norm: Change) -> Tensor:
        return torch.stack([stream, part(norm(stream))]).sum(0)

    return half(half(x, attention, attention_norm), mlp, mlp_norm)


def attention_only(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    return x + attention(attention_norm(x))


def mlp_only(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    return x + mlp(mlp_norm(x))


def mlp_reads_what_was_found(
    x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change
) -> Tensor:
    fetched = attention(attention_norm(x))
    return x + fetched + mlp(mlp_norm(fetched))


def normed_once(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    normed = attention_norm(x)
    return x + attention(normed) + mlp(normed)


def second_norm_last(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    x = x + attention(attention_norm(x))
    return mlp_norm(x + mlp(x))


def bent(name: str, D: int, generator: Generator) -> Part:
    """D numbers -> D numbers, bent so that no two parts can change places; the attention adds up the tokens so far first."""
    weight = torch.randn(D, D, generator=generator, dtype=torch.float64) / math.sqrt(D)
    bias = torch.randn(D, generator=generator, dtype=torch.float64)

    def change(x: Tensor) -> Tensor:
        read = x.cumsum(-2) if name == "attention" else x
        return torch.sin(read @ weight.to(x.dtype) + bias.to(x.dtype))

    return Part(f"<{name}: {D} to {D} numbers>", change)


def wiring_inputs(seed: int) -> list[tuple[Any, ...]]:
    """First one number a token with parts that can be followed by hand, then random parts that bend, and one that mixes tokens."""
    generator = Generator().manual_seed(seed)
    by_hand = (
        Part("<attention: x -> x + 10>", lambda x: x + 10),
        Part("<mlp: x -> x * x>", lambda x: x * x),
        Part("<attention_norm: x -> x / 2>", lambda x: x / 2),
        Part("<mlp_norm: x -> x - 1>", lambda x: x - 1),
    )
    cases: list[tuple[Any, ...]] = [(torch.tensor([[[2.0], [4.0]]], dtype=torch.float64), *by_hand)]
    for B, T, D in ((2, 3, 4), (3, 5, 2)):
        x = 2 * torch.randn(B, T, D, generator=generator, dtype=torch.float64) + 1
        cases.append((x, *(bent(name, D, generator) for name in ("attention", "mlp", "attention_norm", "mlp_norm"))))
    return cases


WIRING = Exercise(
    "pre_norm",
    "two lines, one for each half. The first: x becomes x plus what the attention finds in the normed x",
    wiring_inputs,
    wired,
    (
        Mistake(
            "post-norm",
            wired_with(norm_is="on the sum"),
            "that is the wiring of 2017: here the norms stand before the parts, and nothing normalises the stream itself",
        ),
        Mistake(
            "second norm last",
            second_norm_last,
            "the second norm, too, stands before its part: the mlp reads through it, and the stream itself is not normed",
        ),
        Mistake("no mlp", attention_only, "that is the first half: the mlp is still to come"),
        Mistake("no attention", mlp_only, "that is the second half: where is the attention?"),
        Mistake(
            "mlp reads what was found",
            mlp_reads_what_was_found,
            "the mlp reads the stream x + a, not a alone, where a is what the attention found",
        ),
        Mistake(
            "parallel, normed once",
            normed_once,
            "one norm for both: the mlp comes after the attention has written, and reads through a norm of its own",
        ),
        Mistake(
            "norm of what is found",
            wired_with(norm_is="on what is found"),
            "normalise what a half reads, not what it writes",
        ),
        Mistake("no norms", wired_with(norm_is="nowhere"), "each half reads the stream through its norm"),
        Mistake(
            "no residuals",
            wired_with(keeps=("nothing", "nothing")),
            "each half adds to the stream instead of replacing it",
        ),
        Mistake(
            "first residual missing", wired_with(keeps=("nothing", "stream")), "what was x is lost in your first half"
        ),
        Mistake(
            "second residual missing", wired_with(keeps=("stream", "nothing")), "the mlp, too, adds to what was there"
        ),
        Mistake(
            "adds to the normed",
            wired_with(keeps=("normed", "normed")),
            "the norm is for the reader: what is added to is the stream as it was before the norm",
        ),
        Mistake(
            "mlp adds to the old x",
            wired_with(keeps=("stream", "x")),
            "the second half adds to what the first half left, or else what attention found is lost",
        ),
        Mistake(
            "parallel",
            wired_with(second_reads="x"),
            "the mlp reads the stream after attention has written to it, so that it can think about what was fetched",
        ),
        Mistake(
            "norms swapped",
            lambda x, attention, mlp, attention_norm, mlp_norm: wired(x, attention, mlp, mlp_norm, attention_norm),
            "each half has a norm of its own: which stands before which?",
        ),
        Mistake(
            "one norm twice",
            lambda x, attention, mlp, attention_norm, mlp_norm: wired(
                x, attention, mlp, attention_norm, attention_norm
            ),
            "there are two norms, with weights of their own: use both",
        ),
        Mistake(
            "mlp not normed",
            lambda x, attention, mlp, attention_norm, mlp_norm: wired(x, attention, mlp, attention_norm, lambda y: y),
            "the mlp reads through a norm as well",
        ),
        Mistake(
            "mlp first",
            lambda x, attention, mlp, attention_norm, mlp_norm: wired(x, mlp, attention, mlp_norm, attention_norm),
            "first the tokens exchange what they know, then each thinks about it",
        ),
    ),
    (by_contributions, in_one_line, by_halves),
    differentiable=True,
)

EXERCISES = (WIRING,)
