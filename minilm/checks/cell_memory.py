"""The exercise of lesson 28 on one step of an LSTM: an oracle unit by unit, its mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Function = Callable[..., Any]
Two = tuple[Tensor, Tensor]

# lstm_cell(x, (h, c), weight_ih, weight_hh, bias_ih, bias_hh) -> (h, c)


def number_sums(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, biases: list[Any], terms: str = "xhbc"
) -> Tensor:
    """What stands in the brackets, (B, 4 H), a number after the other: of the terms W x, W h and the two biases."""
    from_x, from_h, rows = weight_ih.tolist(), weight_hh.tolist(), []
    for token, state in zip(x.tolist(), h.tolist(), strict=True):
        row = []
        for j in range(len(from_x)):
            a = sum(w * number for w, number in zip(from_x[j], token, strict=True)) if "x" in terms else 0.0
            a += sum(w * number for w, number in zip(from_h[j], state, strict=True)) if "h" in terms else 0.0
            added = [b[j].item() for name, b in zip("bc", biases, strict=True) if name in terms and b is not None]
            row.append(a + sum(added))
        rows.append(row)
    return torch.tensor(rows, dtype=x.dtype)


def sigmoid(a: Tensor) -> Tensor:
    return 1.0 / (1.0 + torch.exp(-a))


def number_lstm(
    x: Tensor,
    state: Two,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    place: Callable[[int, int, int], int] = lambda part, k, H: part * H + k,
    order: str = "ifgo",
    keep: Function = lambda i, f, g, c: f * c + i * g,
    show: Function = lambda o, c, old: o * torch.tanh(c),
    propose: Function = torch.tanh,
    gate: Function = sigmoid,
    out_gate: Function = sigmoid,
    terms: str = "xhbc",
    names: tuple[int, int] = (0, 1),
) -> Two:
    """Unit by unit: its four numbers, then its c and its h. The switches make the mistakes; `names` says which of the state
    is h, and which is c."""
    h, old = state[names[0]], state[names[1]]
    a = number_sums(x, h, weight_ih, weight_hh, [bias_ih, bias_hh], terms)
    h_next, c_next = torch.zeros_like(h), torch.zeros_like(h)
    H = h.shape[1]
    for k in range(H):
        part = {name: a[:, place(number, k, H)] for number, name in enumerate(order)}
        i, f, o, g = gate(part["i"]), gate(part["f"]), out_gate(part["o"]), propose(part["g"])
        c_next[:, k] = keep(i, f, g, old[:, k])
        h_next[:, k] = show(o, c_next[:, k], old[:, k])
    return h_next, c_next


def lstm_with(**switch: Any) -> Function:
    return lambda x, state, w, u, b=None, c=None: number_lstm(x, state, w, u, b, c, **switch)


def changed(change: Callable[[Tensor, Tensor], Any]) -> Function:
    """The right two, but something else is returned: change(h, c)."""
    return lambda x, state, *weights: change(*number_lstm(x, state, *weights))


def adding(bias: Callable[[Any, Any], Any]) -> Function:
    """With bias(bias_ih, bias_hh) as the one that is added."""
    return lambda x, state, w, u, b=None, c=None: lstm_joined(x, state, w, u, bias(b, c))


def cut_along_the_batch(x: Tensor, state: Two, w: Tensor, u: Tensor, b: Any = None, c: Any = None) -> Two:
    """ValueError: too many or too few."""
    i, f, g, o = number_sums(x, state[0], w, u, [b, c]).chunk(4)
    new = sigmoid(f) * state[1] + sigmoid(i) * torch.tanh(g)
    return sigmoid(o) * torch.tanh(new), new


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


def lstm_inputs(seed: int) -> list[tuple[Any, ...]]:
    """One unit by hand, then drawn; with both biases, without, with either of them alone."""
    generator = Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    one, four = torch.ones(1, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)
    cases: list[tuple[Any, ...]] = [(one / 2, (-one, one * 3), four, four / 4, None, None)]
    for B, X, H, biases in ((3, 2, 4, "bc"), (2, 5, 3, ""), (1, 4, 2, "b"), (2, 3, 4, "c")):
        state, w, u = (draw(B, H), draw(B, H)), draw(4 * H, X), draw(4 * H, H)
        x, b, c = draw(B, X), draw(4 * H), draw(4 * H)
        cases.append((x, state, w, u, b if "b" in biases else None, c if "c" in biases else None))
    return cases


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
            "cut unit by unit",
            lstm_with(place=lambda part, k, H: 4 * k + part),
            "the four parts lie one after the other, H numbers each: view(B, 4, H), not view(B, H, 4); or .chunk(4, dim=-1)",
        ),
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
        Mistake(
            "gates by tanh",
            lstm_with(gate=torch.tanh, out_gate=torch.tanh),
            "a gate is between shut (0) and open (1): a sigmoid",
        ),
        Mistake("output gate by tanh", lstm_with(out_gate=torch.tanh), "o is a gate, too: a sigmoid, not a tanh"),
        Mistake("c read for h", lstm_with(names=(1, 1)), "the product is of h; c is seen only through the gates"),
        Mistake("state turned round", lstm_with(names=(1, 0)), "the state comes as (h, c): h, c = state"),
        Mistake("exchanged", changed(lambda h, c: (c, h)), "both are right, but they stand in the wrong order: (h, c)"),
        Mistake("only h", changed(lambda h, c: h), "the answer is the whole state: (h, c)"),
        Mistake("side by side", changed(lambda h, c: torch.cat([h, c], -1)), "two tensors (h, c), not one of both"),
        Mistake("no bias", lstm_with(terms="xh"), "if there are biases, they are added"),
        Mistake("bias_hh left out", lstm_with(terms="xhb"), "there are two biases: bias_hh is missing"),
        Mistake("bias_ih left out", lstm_with(terms="xhc"), "there are two biases: bias_ih is missing"),
        Mistake("no past", lstm_with(terms="xbc"), "the old h must come in, through weight_hh"),
        Mistake("no token", lstm_with(terms="hbc"), "the token must come in, through weight_ih"),
        Mistake(
            "cut along the batch",
            cut_along_the_batch,
            "the four parts lie beside each other in the last axis: .chunk(4, dim=-1), which without dim cuts the batch",
        ),
        Mistake(
            "both biases or none",
            adding(lambda b, c: None if b is None or c is None else b + c),
            "either bias may be there without the other: ask for each of them alone",
        ),
        Mistake(
            "biases must be there",  # TypeError
            adding(lambda b, c: b + c),
            "a bias may be None: ask `if bias_ih is not None`, and for bias_hh as well",
        ),
        Mistake(
            "only bias_ih is asked for",  # TypeError
            adding(lambda b, c: None if b is None else b + c),
            "you ask for bias_ih alone, but add both: bias_hh may be None where bias_ih is not, and the other way round",
        ),
        Mistake(
            "only bias_hh is asked for",  # TypeError
            adding(lambda b, c: None if c is None else b + c),
            "you ask for bias_hh alone, but add both: bias_ih may be None where bias_hh is not, and the other way round",
        ),
    ),
    (lstm_joined, lstm_by_matrices, lstm_by_tanh),
    differentiable=True,
)

EXERCISES = (LSTM,)
