"""Recurrent layers by torch's fused kernels: all steps of a layer in one call, forward and backward.

A step of the readable layer is a dozen operations on small arrays, each a call from Python that costs more than its numbers.
The kernel makes the same loop in C++. Weights, states and results are those of `minilm.layers.recurrent`; only the outputs and
the last state are known afterwards, so what keeps the state after every token (a StateCache) asks the readable `steps`.

A layer whose matrices are adapted or rounded computes as before.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minilm.layers.basic import Linear
from minilm.layers.recurrent import GRULayer, LSTMLayer, RecurrentLayer, RNNLayer, State


def lstm(part: LSTMLayer, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """x (B, T, I) and a state (h, c), each (B, H) -> the outputs (B, T, H) and the state behind them."""
    if not is_plain(part):
        return type(part).forward(part, x, state)
    before = tuple(one[None].contiguous() for one in (part.start(x) if state is None else state))
    weights = weights_of(part)
    outputs, h, c = torch.lstm(x, before, weights, len(weights) == 4, 1, 0.0, part.training, False, True)
    return outputs, (h[0], c[0])


def gru(part: GRULayer, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """x (B, T, I) and a state (h,) -> the outputs (B, T, H) and the state behind them."""
    return with_one_state(torch.gru, part, x, state)


def rnn(part: RNNLayer, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """x (B, T, I) and a state (h,) -> the outputs (B, T, H) and the state behind them."""
    return with_one_state(torch.rnn_tanh, part, x, state)


def with_one_state(
    kernel: Callable[..., Any], part: RecurrentLayer, x: Tensor, state: State | None
) -> tuple[Tensor, State]:
    """What GRU and RNN share."""
    if not is_plain(part):
        return type(part).forward(part, x, state)
    (h,) = part.start(x) if state is None else state
    weights = weights_of(part)
    outputs, h = kernel(x, h[None].contiguous(), weights, len(weights) == 4, 1, 0.0, part.training, False, True)
    return outputs, (h[0],)


def is_plain(part: RecurrentLayer) -> bool:
    """Whether both products are those of a Linear, whose matrix the kernel may read."""
    return type(part.input) is Linear and type(part.recurrent) is Linear


def weights_of(part: RecurrentLayer) -> list[Tensor]:
    """The weights in torch's order: weight_ih, weight_hh and, where there are any, bias_ih, bias_hh."""
    weights = (part.input.weight, part.recurrent.weight, part.input.bias, part.recurrent.bias)
    return [weight for weight in weights if weight is not None]


FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {LSTMLayer: lstm, GRULayer: gru, RNNLayer: rnn}
