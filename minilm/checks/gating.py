"""The exercise of lesson 06 on the MLP: an oracle number by number, the mistakes of its switches, and other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake, Part

Change = Callable[[Tensor], Tensor]


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
        Mistake(
            "up on the gate",
            lambda x, gate, up, down: down(up(gate(x) * torch.sigmoid(gate(x)))),
            "up reads x, as gate does, not what the gate says",
        ),
        Mistake(
            "matrix product",
            lambda x, gate, up, down: down(gate(x) * torch.sigmoid(gate(x)) @ up(x)),
            "number by number is `*`; `@` is the matrix product",
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

EXERCISES = (SWIGLU,)
