"""The exercise of lesson 28 on one step of a recurrent network: an oracle number by number, mistakes, other solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]

# rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh) -> (B, H)


def number_rnn(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    squash: Function = torch.tanh,
    terms: str = "xhbc",
    turned: bool = False,
) -> Tensor:
    """One number after the other, in Python's own: of the terms W x, W h and the two biases. The switches make the mistakes."""
    from_x, from_h = weight_ih.tolist(), (weight_hh.T if turned else weight_hh).tolist()
    rows = []
    for token, state in zip(x.tolist(), h.tolist(), strict=True):
        row = []
        for j in range(len(weight_ih)):
            a = sum(w * number for w, number in zip(from_x[j], token, strict=True)) if "x" in terms else 0.0
            a += sum(w * number for w, number in zip(from_h[j], state, strict=True)) if "h" in terms else 0.0
            a += bias_ih[j].item() if "b" in terms and bias_ih is not None else 0.0
            a += bias_hh[j].item() if "c" in terms and bias_hh is not None else 0.0
            row.append(a)
        rows.append(row)
    return squash(torch.tensor(rows, dtype=x.dtype))


def rnn_with(**switch: Any) -> Function:
    return lambda x, h, w, u, b=None, c=None: number_rnn(x, h, w, u, b, c, **switch)


def in_brackets(change: Callable[..., Tensor]) -> Function:
    """tanh of change(x, h, weight_ih, weight_hh, bias_ih, bias_hh)."""
    return lambda x, h, w, u, b=None, c=None: torch.tanh(change(x, h, w, u, b, c))


def rnn_by_einsum(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Tensor:
    a = torch.einsum("bi,hi->bh", x, w) + torch.einsum("bk,hk->bh", h, u)
    a = a if b is None else a + b
    a = a if c is None else a + c
    return 2.0 / (1.0 + torch.exp(-2.0 * a)) - 1.0


def rnn_joined(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Tensor:
    """One product: x and h side by side, and so the matrices."""
    a = torch.cat([x, h], dim=1) @ torch.cat([w, u], dim=1).T
    return torch.tanh(a + sum(bias for bias in (b, c) if bias is not None))


def rnn_row_by_row(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Tensor:
    zero = w.new_zeros(len(w))
    b, c = zero if b is None else b, zero if c is None else c
    return torch.stack([torch.tanh(w @ one + b + u @ other + c) for one, other in zip(x, h, strict=True)])


def rnn_inputs(seed: int) -> list[tuple[Any, ...]]:
    """One unit by hand, then drawn; with both biases, without, with either of them alone."""
    generator = Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    one = torch.ones(1, 1, dtype=torch.float64)
    cases: list[tuple[Any, ...]] = [(one / 2, -one, one, one / 4, None, None)]
    for B, X, H, biases in ((2, 3, 4, "bc"), (3, 2, 5, "bc"), (2, 5, 3, ""), (1, 4, 2, "b"), (2, 4, 3, "c")):
        x, h, w, u, b, c = draw(B, X), draw(B, H), draw(H, X), draw(H, H), draw(H), draw(H)
        cases.append((x, h, w, u, b if "b" in biases else None, c if "c" in biases else None))
    return cases


RNN = Exercise(
    "rnn_cell",
    "x @ weight_ih.T is what the token says, h @ weight_hh.T what the past says; add them and the biases, then tanh",
    rnn_inputs,
    number_rnn,
    (
        Mistake("no tanh", rnn_with(squash=lambda a: a), "the sum is right; the new state is its tanh"),
        Mistake(
            "sigmoid",
            rnn_with(squash=lambda a: 1.0 / (1.0 + torch.exp(-a))),
            "a gate has a sigmoid; a state has a tanh, and may be negative",
        ),
        Mistake("no past", rnn_with(terms="xbc"), "the old state must come in: else nothing is remembered"),
        Mistake("no token", rnn_with(terms="hbc"), "the token must come in: the state listens to nobody"),
        Mistake("no bias", rnn_with(terms="xh"), "if there are biases, they are added"),
        Mistake("bias_hh left out", rnn_with(terms="xhb"), "there are two biases: bias_hh is missing"),
        Mistake("bias_ih left out", rnn_with(terms="xhc"), "there are two biases: bias_ih is missing"),
        Mistake("not turned", rnn_with(turned=True), "a row of weight_hh belongs to an output: h @ weight_hh.T"),
        Mistake(
            "added to the old state",
            lambda x, h, w, u, b=None, c=None: h + number_rnn(x, h, w, u, b, c),
            "the old state is read through its matrix only: the new one replaces it",
        ),
        Mistake(
            "tanh of each",
            lambda x, h, w, u, b=None, c=None: (
                rnn_with(terms="xb")(x, h, w, u, b) + rnn_with(terms="hc")(x, h, w, u, b, c)
            ),
            "one tanh of the whole sum, not a tanh of each part",
        ),
        Mistake(
            "both biases or none",
            lambda x, h, w, u, b=None, c=None: number_rnn(
                x, h, w, u, *((None, None) if b is None or c is None else (b, c))
            ),
            "either bias may be there without the other: ask for each of them alone",
        ),
        Mistake(
            "biases must be there",  # TypeError
            in_brackets(lambda x, h, w, u, b, c: x @ w.T + b + h @ u.T + c),
            "a bias may be None: ask `if bias_ih is not None`, and for bias_hh as well",
        ),
        Mistake(
            "only bias_ih is asked for",  # TypeError
            in_brackets(lambda x, h, w, u, b, c: x @ w.T + h @ u.T + (b + c if b is not None else 0.0)),
            "you ask for bias_ih alone, but add both: bias_hh may be None where bias_ih is not, and the other way round",
        ),
        Mistake(
            "only bias_hh is asked for",  # TypeError
            in_brackets(lambda x, h, w, u, b, c: x @ w.T + h @ u.T + (b + c if c is not None else 0.0)),
            "you ask for bias_hh alone, but add both: bias_ih may be None where bias_hh is not, and the other way round",
        ),
        Mistake(
            "matrices exchanged",  # RuntimeError
            in_brackets(lambda x, h, w, u, b, c: x @ u.T + h @ w.T),
            "weight_ih (H, I) goes with x (B, I), weight_hh (H, H) with h (B, H), both turned: .T",
        ),
    ),
    (rnn_by_einsum, rnn_joined, rnn_row_by_row),
    differentiable=True,
)

EXERCISES = (RNN,)
