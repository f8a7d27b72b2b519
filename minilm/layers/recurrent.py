"""Recurrent layers: a state of fixed size reads the tokens one after another, and what it remembers is all it knows of them.

    h_t = f(x_t, h_{t-1})        the same f, with the same weights, at every token

Three kinds of f, with the gates, their order and the two biases of torch.nn, so that weights can be exchanged:

    RNN    h' = tanh(a)                                                             Elman 1990
    GRU    r, z = sigmoid(a_r), sigmoid(a_z)     reset, update                      Cho et al. 2014
           n = tanh(x_n + r h_n)                 proposal; r decides how much of the old state it sees
           h' = (1 - z) n + z h
    LSTM   i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), g = tanh(a_g)        Hochreiter and Schmidhuber 1997,
           c' = f c + i g                        input, forget, output gate         Gers et al. 2000
           h' = o tanh(c')

where a = W_ih x + b_ih + W_hh h + b_hh. Through c' = f c + ... a gradient comes back multiplied by f alone: where the gate is
open, by nearly 1. In the plain RNN it meets W_hh and a tanh at each step, and dies or grows as a power of the distance.
"""

from collections.abc import Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from minilm.layers.basic import Dropout, Linear, linear, sigmoid

State = tuple[Tensor, ...]  # what a layer remembers: (h,), of an LSTM (h, c), each (B, H); h is what others read of it


def rnn_step(from_x: Tensor, from_h: Tensor, state: State) -> State:
    """from_x = W_ih x + b_ih and from_h = W_hh h + b_hh, both (B, H) -> the next state (h,)."""
    return (torch.tanh(from_x + from_h),)


def gru_step(from_x: Tensor, from_h: Tensor, state: State) -> State:
    """from_x, from_h (B, 3 H): reset, update, proposal -> the next state (h,). The reset gate is put on W_hh h, not on h."""
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = from_x.chunk(3, -1), from_h.chunk(3, -1)
    reset, update = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    proposal = torch.tanh(x_n + reset * h_n)
    return ((1.0 - update) * proposal + update * h,)


def lstm_step(from_x: Tensor, from_h: Tensor, state: State) -> State:
    """from_x, from_h (B, 4 H): input, forget, proposal, output -> the next state (h, c)."""
    _, c = state
    i, f, g, o = (from_x + from_h).chunk(4, -1)
    c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
    return sigmoid(o) * torch.tanh(c), c


def rnn_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    """One token of each row: x (B, I), h (B, H), weight_ih (H, I), weight_hh (H, H), biases (H,) -> the next h (B, H).

    >>> one = torch.ones(1, 1)
    >>> rnn_cell(0.5 * one, -0.5 * one, one, one)  # tanh(0.5 - 0.5)
    tensor([[0.]])
    """
    return rnn_step(linear(x, weight_ih, bias_ih), linear(h, weight_hh, bias_hh), (h,))[0]


def gru_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    """As `rnn_cell`, with weight_ih (3 H, I), weight_hh (3 H, H) and biases (3 H,): reset, update, proposal."""
    return gru_step(linear(x, weight_ih, bias_ih), linear(h, weight_hh, bias_hh), (h,))[0]


def lstm_cell(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """x (B, I), state (h, c), each (B, H), weight_ih (4 H, I), weight_hh (4 H, H), biases (4 H,) -> the next (h, c)."""
    h, c = lstm_step(linear(x, weight_ih, bias_ih), linear(state[0], weight_hh, bias_hh), state)
    return h, c


class RecurrentLayer(nn.Module):
    """One layer: x (B, T, I) and the state before it -> the outputs h (B, T, H) and the state behind the last token.

    The two products are Linear layers: `input` is torch's weight_ih and bias_ih, `recurrent` its weight_hh and bias_hh. All
    weights start uniform between -1 / sqrt(H) and 1 / sqrt(H), as torch's do.
    """

    n_gates: ClassVar[int]  # rows of the weights, in units of H
    n_states: ClassVar[int] = 1  # tensors in a state

    def __init__(self, d_in: int, d_hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        self.input = Linear(d_in, self.n_gates * d_hidden, bias)
        self.recurrent = Linear(d_hidden, self.n_gates * d_hidden, bias)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-(d_hidden**-0.5), d_hidden**-0.5)

    @staticmethod
    def step(from_x: Tensor, from_h: Tensor, state: State) -> State:
        """The state after one more token."""
        raise NotImplementedError  # each kind has its own

    def start(self, x: Tensor) -> State:
        """The state before the first token: zeros, one row for each of x (B, ...)."""
        return (x.new_zeros(len(x), self.d_hidden),) * self.n_states

    def steps(self, x: Tensor, state: State | None = None) -> Iterator[State]:
        """The state after each token of x (B, T, I), one after the other.

        What the tokens say is computed for all at once; only what the state says has to wait for the step before.
        """
        state = self.start(x) if state is None else state
        for from_x in self.input(x).unbind(1):  # (B, n_gates H), T times
            state = self.step(from_x, self.recurrent(state[0]), state)
            yield state

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        states = list(self.steps(x, state))
        return torch.stack([state[0] for state in states], dim=1), states[-1]


class RNNLayer(RecurrentLayer):
    """A layer of `rnn_cell`s."""

    n_gates = 1
    step = staticmethod(rnn_step)


class GRULayer(RecurrentLayer):
    """A layer of `gru_cell`s."""

    n_gates = 3
    step = staticmethod(gru_step)


class LSTMLayer(RecurrentLayer):
    """A layer of `lstm_cell`s. With a forget_bias the two biases of the forget gate start with this sum instead of random.

    At 1 the gate starts open by sigmoid(1) = 0.73, so that a new network does not forget at once (Gers et al. 2000). What is to
    be kept for T tokens needs more: sigmoid(b)^T is only far from 0 for b near log T (Tallec and Ollivier 2018).
    """

    n_gates, n_states = 4, 2
    step = staticmethod(lstm_step)

    def __init__(self, d_in: int, d_hidden: int, bias: bool = True, forget_bias: float | None = None) -> None:
        super().__init__(d_in, d_hidden, bias)
        if forget_bias is not None:
            if self.input.bias is None or self.recurrent.bias is None:
                raise ValueError(f"forget_bias is {forget_bias}, but the layer has no bias: leave out one of the two")
            with torch.no_grad():
                self.input.bias[d_hidden : 2 * d_hidden] = forget_bias
                self.recurrent.bias[d_hidden : 2 * d_hidden] = 0.0


LAYERS: dict[str, type[RecurrentLayer]] = {"rnn": RNNLayer, "gru": GRULayer, "lstm": LSTMLayer}


class Memory(Protocol):
    """What a stack needs of a cache (`layers/recurrent_cache.py`)."""

    def read(self, number: int, layer: RecurrentLayer, x: Tensor) -> Tensor: ...


class RecurrentStack(nn.Module):
    """(B, T, I) -> (B, T, H): layers on top of each other, each reading the outputs of the one below, through dropout.

    Dropout stands between the layers, never on the way from token to token (Zaremba et al. 2014): there it would be applied
    T times and nothing would be remembered. Without a cache the layers start from zeros.
    """

    def __init__(self, layers: list[RecurrentLayer], dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(layers)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, cache: Memory | None = None) -> Tensor:
        for number, layer in enumerate(self.blocks):
            x = self.dropout(x) if number else x
            x = layer(x)[0] if cache is None else cache.read(number, layer, x)  # type: ignore[arg-type]
        return x
