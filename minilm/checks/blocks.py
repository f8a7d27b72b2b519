"""The exercises of lesson 06 on the MLP and the block: oracles with switches that make the mistakes, and other right solutions.

The parts of a block are arguments here. A `Part` is a function with a name, so that a failure can say which part is which.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Change = Callable[[Tensor], Tensor]

# Parts, as the arguments of what follows


@dataclass(frozen=True)
class Part:
    """A function with a name. It computes in the precision of what it is given."""

    says: str
    change: Change

    def __call__(self, x: Tensor) -> Tensor:
        return self.change(x)

    def __repr__(self) -> str:
        return self.says


def affine(name: str, d_in: int, d_out: int, generator: Generator) -> Part:
    """x (..., d_in) -> (..., d_out): a matrix and a bias drawn at random."""
    weight = torch.randn(d_in, d_out, generator=generator, dtype=torch.float64) / math.sqrt(d_in)
    bias = torch.randn(d_out, generator=generator, dtype=torch.float64)
    return Part(f"<{name}: {d_in} to {d_out} numbers>", lambda x: x @ weight.to(x.dtype) + bias.to(x.dtype))


# swiglu(x, gate, up, down) -> as x


def number_swiglu(
    x: Tensor,
    gate: Change,
    up: Change,
    down: Change,
    gated: Callable[[float, float], float] = lambda g, u: g / (1 + math.exp(-g)) * u,
    last: str = "down",
) -> Tensor:
    """One number of the wide middle at a time: `gated` joins what the gate and up say. The switches make the mistakes."""
    opened, offered = gate(x), up(x)
    wide = torch.empty_like(offered)
    for place in itertools.product(*map(range, wide.shape)):
        wide[place] = gated(float(opened[place]), float(offered[place]))
    out = wide if last == "nothing" else down(wide)
    return x + out if last == "residual" else out


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def gated_with(gated: Callable[[float, float], float]) -> Any:
    """SwiGLU with another way to join gate and up."""
    return lambda x, gate, up, down: number_swiglu(x, gate, up, down, gated)


def swiglu_by_sigmoid(x: Tensor, gate: Change, up: Change, down: Change) -> Tensor:
    opened = gate(x)
    return down(opened * torch.sigmoid(opened) * up(x))


def swiglu_by_exp(x: Tensor, gate: Change, up: Change, down: Change) -> Tensor:
    opened, offered = gate(x), up(x)
    return down(offered * opened / (1 + torch.exp(-opened)))


def swiglu_by_tanh(x: Tensor, gate: Change, up: Change, down: Change) -> Tensor:
    """sigmoid(z) is half of 1 + tanh(z / 2)."""
    half = 0.5 * gate(x)
    return down((half + half * torch.tanh(half)) * up(x))


def swiglu_inputs(seed: int) -> list[tuple[Any, ...]]:
    """First a token of two numbers with parts that can be followed by hand, then random ones; D is not F."""
    generator = Generator().manual_seed(seed)
    by_hand = (
        Part("<gate: x -> 2 x>", lambda x: 2 * x),
        Part("<up: x -> x + 1>", lambda x: x + 1),
        Part("<down: x -> 3 x - 1>", lambda x: 3 * x - 1),
    )
    cases: list[tuple[Any, ...]] = [(torch.randn(2, generator=generator, dtype=torch.float64), *by_hand)]
    for *shape, D, F in ((3, 4, 6), (2, 3, 5, 7)):
        x = 1.5 * torch.randn(*shape, D, generator=generator, dtype=torch.float64)
        parts = [affine(name, D, F, generator) for name in ("gate", "up")]
        cases.append((x, *parts, affine("down", F, D, generator)))
    return cases


SWIGLU = Exercise(
    "swiglu",
    "three lines: open = gate(x), what is offered = up(x), and what comes down of their product; silu(z) is z times sigmoid(z)",
    swiglu_inputs,
    number_swiglu,
    (
        Mistake(
            "gate and up swapped",
            gated_with(lambda g, u: u * sigmoid(u) * g),
            "which of the two is bent? It is the one that opens and closes",
        ),
        Mistake(
            "silu of the product",
            gated_with(lambda g, u: g * u * sigmoid(g * u)),
            "bend what the gate says before it meets what up says",
        ),
        Mistake(
            "silu of both",
            gated_with(lambda g, u: g * sigmoid(g) * u * sigmoid(u)),
            "one of the two stays straight: what is offered may be any number",
        ),
        Mistake("sigmoid", gated_with(lambda g, u: sigmoid(g) * u), "that is a GLU; SiLU is z times sigmoid(z)"),
        Mistake("sum", gated_with(lambda g, u: g * sigmoid(g) + u), "a gate multiplies: shut means times 0"),
        Mistake("relu", gated_with(lambda g, u: max(g, 0.0) * u), "that bend is ReLU; SiLU has no corner at 0"),
        Mistake(
            "gelu",
            gated_with(lambda g, u: g * 0.5 * (1 + math.erf(g / math.sqrt(2))) * u),
            "that bend is GELU; SiLU has the sigmoid where GELU has the normal distribution",
        ),
        Mistake("no bend", gated_with(lambda g, u: g * u), "the gate goes through silu first"),
        Mistake("no up", gated_with(lambda g, u: g * sigmoid(g)), "what the gate lets through is up(x): use it"),
        Mistake("no gate", gated_with(lambda g, u: u * sigmoid(u)), "there are three parts: what is the gate for?"),
        Mistake(
            "x as the gate",
            lambda x, gate, up, down: down(x * torch.sigmoid(x) * up(x)),
            "gate is a function: what is bent is gate(x), not x itself",
        ),
        Mistake(
            "no down",
            lambda x, gate, up, down: number_swiglu(x, gate, up, down, last="nothing"),
            "the result has D numbers again: down makes them of the F in the middle",
        ),
        Mistake(
            "residual inside",
            lambda x, gate, up, down: number_swiglu(x, gate, up, down, last="residual"),
            "return what is found only: whoever calls this function adds x",
        ),
    ),
    (swiglu_by_sigmoid, swiglu_by_exp, swiglu_by_tanh),
    differentiable=True,
)


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


def wiring_inputs(seed: int) -> list[tuple[Any, ...]]:
    """First one number a token with parts that can be followed by hand, then random parts that bend, and one that mixes tokens."""
    generator = Generator().manual_seed(seed)
    by_hand = (
        Part("<attention: x -> 10 x>", lambda x: 10 * x),
        Part("<mlp: x -> x + 100>", lambda x: x + 100),
        Part("<attention_norm: x -> x / 2>", lambda x: x / 2),
        Part("<mlp_norm: x -> x / 5>", lambda x: x / 5),
    )
    cases: list[tuple[Any, ...]] = [(torch.tensor([[[2.0], [4.0]]], dtype=torch.float64), *by_hand)]
    for B, T, D in ((2, 3, 4), (3, 5, 2)):
        x = 2 * torch.randn(B, T, D, generator=generator, dtype=torch.float64) + 1
        straight = {name: affine(name, D, D, generator) for name in ("attention", "mlp", "attention_norm", "mlp_norm")}
        cases.append((x, *(bent(part, mixes=name == "attention") for name, part in straight.items())))
    return cases


def bent(part: Part, mixes: bool) -> Part:
    """The part, bent by sin so that no two of them can change places; `mixes` adds up the tokens so far first."""
    return Part(part.says, lambda x: torch.sin(part(x.cumsum(-2) if mixes else x)))


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

EXERCISES = (SWIGLU, WIRING)
