"""An LSTM layer beside torch.nn.LSTM, forward and backward: the readable loop, and the fused kernel behind our layer.

Contests for `bench/classical.py`: both sides have the same weights and read the same batch, and their results are compared
before anything is timed.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from minilm.fast.recurrent import lstm
from minilm.layers.recurrent import LSTMLayer

SHAPE = (32, 64, 128, 256)  # B, T, width of the input, width of the state
Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def contests() -> Contests:
    """A training step of one layer (forward and backward) -> (ours, torch.nn.LSTM)."""
    B, T, d_in, d_hidden = SHAPE
    torch.manual_seed(0)
    layer, peer = LSTMLayer(d_in, d_hidden), torch.nn.LSTM(d_in, d_hidden, batch_first=True)
    x = torch.randn(B, T, d_in)
    with torch.no_grad():
        for name, weight in peer.named_parameters():
            weight.copy_(weights_by_torch_name(layer)[name])
    fused = copy.deepcopy(layer)

    def readable() -> Tensor:
        return layer(x)[0]

    def fast() -> Tensor:
        return lstm(fused, x)[0]

    def torch_lstm() -> Tensor:
        return peer(x)[0]

    for ours in (readable, fast):
        torch.testing.assert_close(ours(), torch_lstm(), rtol=1e-4, atol=1e-5)
    size = f"B = {B}, T = {T}, {d_in} -> {d_hidden}"
    return {
        f"LSTM step, readable / torch.nn.LSTM, {size}": (both_ways(readable), both_ways(torch_lstm)),
        f"LSTM step, fast / torch.nn.LSTM, {size}": (both_ways(fast), both_ways(torch_lstm)),
    }


def weights_by_torch_name(layer: LSTMLayer) -> dict[str, Tensor]:
    """The layer's weights by the names that torch.nn.LSTM gives to those of its first layer."""
    names = {"input.weight": "weight_ih_l0", "recurrent.weight": "weight_hh_l0"}
    names |= {"input.bias": "bias_ih_l0", "recurrent.bias": "bias_hh_l0"}
    return {names[name]: weight for name, weight in layer.named_parameters()}


def both_ways(forward: Callable[[], Tensor]) -> Callable[[], object]:
    """The forward pass, then the backward pass."""
    return lambda: forward().square().sum().backward()
