"""The exercises of lesson 28 on one step of a recurrent network: oracles number by number, mistakes, other solutions."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]
Two = tuple[Tensor, Tensor]

# rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh) -> (B, H)
# lstm_cell(x, (h, c), weight_ih, weight_hh, bias_ih, bias_hh) -> (h, c)


def number_sums(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    terms: str = "xhbc",
    turned: bool = False,
) -> list[list[Any]]:
    """What stands in the brackets, (B, gates H), one number after the other: of the terms W x, W h and the two biases."""
    B, rows = len(x), len(weight_ih)
    sums: list[list[Any]] = [[0.0 * x[0, 0]] * rows for _ in range(B)]
    for b, j in itertools.product(range(B), range(rows)):
        if "x" in terms:
            sums[b][j] = sums[b][j] + sum(weight_ih[j, i] * x[b, i] for i in range(x.shape[1]))
        if "h" in terms:
            column = weight_hh[:, j] if turned else weight_hh[j]
            sums[b][j] = sums[b][j] + sum(column[i] * h[b, i] for i in range(h.shape[1]))
        if "b" in terms and bias_ih is not None:
            sums[b][j] = sums[b][j] + bias_ih[j]
        if "c" in terms and bias_hh is not None:
            sums[b][j] = sums[b][j] + bias_hh[j]
    return sums


def stacked(numbers: list[list[Any]]) -> Tensor:
    return torch.stack([torch.stack(row) for row in numbers])


def number_rnn(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    squash: Function = torch.tanh,
    **sums: Any,
) -> Tensor:
    """Number by number; the switches make the mistakes."""
    return squash(stacked(number_sums(x, h, weight_ih, weight_hh, bias_ih, bias_hh, **sums)))


def rnn_with(**switch: Any) -> Function:
    return lambda x, h, w, u, b=None, c=None: number_rnn(x, h, w, u, b, c, **switch)


def number_lstm(
    x: Tensor,
    state: Two,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    order: str = "ifgo",
    keep: Function = lambda i, f, g, c: f * c + i * g,
    show: Function = lambda o, c, old: o * torch.tanh(c),
    propose: Function = torch.tanh,
    gate: Function = lambda a: 1.0 / (1.0 + torch.exp(-a)),
    read: int = 0,
    **sums: Any,
) -> Two:
    """Unit by unit: its four numbers, then its c and its h. The switches make the mistakes."""
    old, H = state[1], state[0].shape[1]
    a = number_sums(x, state[read], weight_ih, weight_hh, bias_ih, bias_hh, **sums)
    h_next: list[list[Any]] = [[None] * H for _ in a]
    c_next: list[list[Any]] = [[None] * H for _ in a]
    for b, k in itertools.product(range(len(a)), range(H)):
        part = {name: a[b][place * H + k] for place, name in enumerate(order)}
        i, f, o, g = gate(part["i"]), gate(part["f"]), gate(part["o"]), propose(part["g"])
        c_next[b][k] = keep(i, f, g, old[b, k])
        h_next[b][k] = show(o, c_next[b][k], old[b, k])
    return stacked(h_next), stacked(c_next)


def lstm_with(**switch: Any) -> Function:
    return lambda x, state, w, u, b=None, c=None: number_lstm(x, state, w, u, b, c, **switch)


def swapped(x: Tensor, state: Two, *weights: Any) -> Two:
    h, c = number_lstm(x, state, *weights)
    return c, h


def rnn_by_einsum(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Tensor:
    a = torch.einsum("bi,hi->bh", x, w) + torch.einsum("bk,hk->bh", h, u)
    a = a if b is None else a + b
    a = a if c is None else a + c
    return (torch.exp(2.0 * a) - 1.0) / (torch.exp(2.0 * a) + 1.0)


def rnn_joined(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Tensor:
    """One product: x and h side by side, and so the matrices."""
    a = torch.cat([x, h], dim=1) @ torch.cat([w, u], dim=1).T
    return torch.tanh(a + sum(bias for bias in (b, c) if bias is not None))


def rnn_row_by_row(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Tensor:
    zero = w.new_zeros(len(w))
    b, c = zero if b is None else b, zero if c is None else c
    return torch.stack([torch.tanh(w @ one + b + u @ other + c) for one, other in zip(x, h, strict=True)])


def lstm_joined(x: Tensor, state: Two, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Two:
    a = torch.cat([x, state[0]], dim=1) @ torch.cat([w, u], dim=1).T
    for bias in (b, c):
        a = a if bias is None else a + bias
    i, f, g, o = a.chunk(4, dim=1)
    new = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def lstm_by_matrices(x: Tensor, state: Two, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Two:
    """A matrix and a bias for each gate, cut out of the large ones first."""
    h, old = state
    H = h.shape[1]

    def part(n: int) -> Tensor:
        rows = slice(n * H, (n + 1) * H)
        biases = sum(bias[rows] for bias in (b, c) if bias is not None)
        return torch.einsum("bi,hi->bh", x, w[rows]) + torch.einsum("bk,hk->bh", h, u[rows]) + biases

    new = torch.tanh(part(2)) / (1 + torch.exp(-part(0))) + old / (1 + torch.exp(-part(1)))
    return torch.tanh(new) / (1 + torch.exp(-part(3))), new


def lstm_by_tanh(x: Tensor, state: Two, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> list[Tensor]:
    """sigmoid(a) = (1 + tanh(a / 2)) / 2; all units beside each other as (B, 4, H)."""
    a = x @ w.T + state[0] @ u.T + (0.0 if b is None else b) + (0.0 if c is None else c)
    a = a.unflatten(1, (4, state[0].shape[1]))
    gates, g = (1.0 + torch.tanh(a / 2.0)) / 2.0, torch.tanh(a[:, 2])
    new = gates[:, 1] * state[1] + gates[:, 0] * g
    return [gates[:, 3] * torch.tanh(new), new]


def cell_inputs(seed: int, n_gates: int) -> list[tuple[Any, ...]]:
    """(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh): one unit by hand, then drawn; with both biases, without, with one."""
    generator = Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    one = torch.ones(1, 1, dtype=torch.float64)
    ones = torch.ones(n_gates, 1, dtype=torch.float64)
    cases: list[tuple[Any, ...]] = [(one / 2, -one, one * 3, ones, ones / 4, None, None)]
    for B, X, H, biased in ((2, 3, 4, True), (3, 2, 5, True), (2, 5, 3, False), (1, 4, 2, True)):
        x, h, c, w, u, b, d = (
            draw(B, X), draw(B, H), draw(B, H), draw(n_gates * H, X), draw(n_gates * H, H), draw(n_gates * H), draw(n_gates * H)
        )  # fmt: skip
        cases.append((x, h, c, w, u, *((b, d) if biased else (None, None))))
    return cases


def rnn_inputs(seed: int) -> list[tuple[Any, ...]]:
    return [(x, h, *weights) for x, h, _, *weights in cell_inputs(seed, 1)]


def lstm_inputs(seed: int) -> list[tuple[Any, ...]]:
    return [(x, (h, c), *weights) for x, h, c, *weights in cell_inputs(seed, 4)]


def sigmoid(a: Tensor) -> Tensor:
    return 1.0 / (1.0 + torch.exp(-a))


RNN = Exercise(
    "rnn_cell",
    "x @ weight_ih.T is what the token says, h @ weight_hh.T what the past says; add them and the biases, then tanh",
    rnn_inputs,
    number_rnn,
    (
        Mistake("no tanh", rnn_with(squash=lambda a: a), "the sum is right; the new state is its tanh"),
        Mistake("sigmoid", rnn_with(squash=sigmoid), "a gate has a sigmoid; a state has a tanh, and may be negative"),
        Mistake("no past", rnn_with(terms="xbc"), "the old state must come in: else nothing is remembered"),
        Mistake("no token", rnn_with(terms="hbc"), "the token must come in: the state listens to nobody"),
        Mistake("no bias", rnn_with(terms="xh"), "if there are biases, they are added"),
        Mistake("bias_hh left out", rnn_with(terms="xhb"), "there are two biases: one is missing"),
        Mistake("not turned", rnn_with(turned=True), "a row of weight_hh belongs to an output: h @ weight_hh.T"),
        Mistake(
            "added to the old state",
            lambda x, h, w, u, b=None, c=None: h + number_rnn(x, h, w, u, b, c),
            "the old state is read through its matrix only: the new one replaces it",
        ),
        Mistake(
            "biases must be there",  # TypeError
            lambda x, h, w, u, b=None, c=None: torch.tanh(x @ w.T + b + h @ u.T + c),
            "a bias may be None: ask `if bias_ih is not None`",
        ),
        Mistake(
            "matrices exchanged",  # RuntimeError
            lambda x, h, w, u, b=None, c=None: torch.tanh(x @ u.T + h @ w.T),
            "weight_ih (H, I) goes with x (B, I), weight_hh (H, H) with h (B, H), both turned: .T",
        ),
    ),
    (rnn_by_einsum, rnn_joined, rnn_row_by_row),
    differentiable=True,
)

LSTM = Exercise(
    "lstm_cell",
    "h, c = state; one sum (B, 4 H) as in rnn_cell, cut by .chunk(4, dim=-1); three sigmoids, one tanh; then c, then h",
    lstm_inputs,
    number_lstm,
    (
        Mistake(
            "order f i g o",
            lstm_with(order="figo"),
            "input and forget gate are exchanged: the order is i, f, g, o, and f belongs to the old c",
        ),
        Mistake("order i f o g", lstm_with(order="ifog"), "the proposal stands before the output gate: i, f, g, o"),
        Mistake("order i g f o", lstm_with(order="igfo"), "the forget gate stands before the proposal: i, f, g, o"),
        Mistake(
            "nothing is forgotten",
            lstm_with(keep=lambda i, f, g, c: c + i * g),
            "c goes on without its forget gate: f * c",
        ),
        Mistake(
            "all is forgotten", lstm_with(keep=lambda i, f, g, c: i * g), "the old c must come in, as far as f lets it"
        ),
        Mistake(
            "no input gate", lstm_with(keep=lambda i, f, g, c: f * c + g), "the proposal enters through its gate: i * g"
        ),
        Mistake(
            "one gate for both",
            lstm_with(keep=lambda i, f, g, c: f * c + (1.0 - f) * g),
            "1 - f is the input gate of another cell (of a GRU's kind): here i decides for itself",
        ),
        Mistake(
            "c squashed",
            lstm_with(keep=lambda i, f, g, c: torch.tanh(f * c + i * g), show=lambda o, c, old: o * c),
            "the tanh belongs to what is shown: c itself goes on without one, or it would fade at each step",
        ),
        Mistake("c shown as it is", lstm_with(show=lambda o, c, old: o * c), "a tanh is missing: h = o * tanh(c)"),
        Mistake("no output gate", lstm_with(show=lambda o, c, old: torch.tanh(c)), "the output gate is missing in h"),
        Mistake(
            "the old c shown",
            lstm_with(show=lambda o, c, old: o * torch.tanh(old)),
            "h shows the new c, not the one before",
        ),
        Mistake(
            "proposal by a sigmoid",
            lstm_with(propose=sigmoid),
            "the proposal is no gate: it is a tanh, and may be negative",
        ),
        Mistake("gates by tanh", lstm_with(gate=torch.tanh), "a gate is between shut (0) and open (1): a sigmoid"),
        Mistake("c read for h", lstm_with(read=1), "the product is of h; c is seen only through the gates"),
        Mistake("exchanged", swapped, "both are right, but they stand in the wrong order: (h, c)"),
        Mistake(
            "only h",
            lambda x, state, *weights: number_lstm(x, state, *weights)[0],
            "the answer is the whole state: (h, c)",
        ),
        Mistake("no bias", lstm_with(terms="xh"), "if there are biases, they are added"),
        Mistake(
            "cut along the batch",  # ValueError: too many or too few
            lambda x, state, w, u, b=None, c=None: lstm_cut_wrongly(x, state, w, u, b, c),
            "the four parts lie beside each other in the last axis: .chunk(4, dim=-1), which without dim cuts the batch",
        ),
        Mistake(
            "biases must be there",  # TypeError
            lambda x, state, w, u, b=None, c=None: lstm_joined(x, state, w, u, b + c),
            "a bias may be None: ask `if bias_ih is not None`",
        ),
    ),
    (lstm_joined, lstm_by_matrices, lstm_by_tanh),
)


def lstm_cut_wrongly(x: Tensor, state: Two, w: Tensor, u: Tensor, b: Any, c: Any) -> Two:
    a = x @ w.T + state[0] @ u.T + (0.0 if b is None else b) + (0.0 if c is None else c)
    i, f, g, o = a.chunk(4)
    new = sigmoid(f) * state[1] + sigmoid(i) * torch.tanh(g)
    return sigmoid(o) * torch.tanh(new), new


EXERCISES = (RNN, LSTM)
