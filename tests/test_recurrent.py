"""Recurrent cells and layers against torch.nn's: outputs, states and gradients in float64; their caches; their fast twins."""

import copy
import doctest
import itertools

import pytest
import torch
from torch import Tensor, nn

from minilm.decoding.quantize import quantize
from minilm.fast import recurrent as fast
from minilm.layers import recurrent
from minilm.layers.basic import dropout
from minilm.layers.recurrent import LAYERS, LSTMLayer, RecurrentLayer, RecurrentStack, gru_cell, lstm_cell, rnn_cell
from minilm.layers.recurrent_cache import LastState, StateCache

B, T, D_IN, H = 3, 6, 5, 7
CELLS = ["rnn", "gru", "lstm"]
PEERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
PEER_CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
every_cell = pytest.mark.parametrize("cell", CELLS)


def random(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100 * len(shape) + sum(shape))
    return (scale * torch.randn(*shape, dtype=torch.float64, generator=generator)).requires_grad_()


def random_layer(cell: str, d_in: int = D_IN, d_hidden: int = H, bias: bool = True) -> RecurrentLayer:
    """Weights large enough that each gate and each bias matters."""
    layer = LAYERS[cell](d_in, d_hidden, bias).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.6)
    return layer


def as_peer(layers: list[RecurrentLayer], cell: str) -> nn.Module:
    """torch.nn's module with the weights of these layers."""
    d_hidden, bias = layers[0].d_hidden, layers[0].input.bias is not None
    d_in = layers[0].input.weight.shape[1]
    peer = PEERS[cell](d_in, d_hidden, len(layers), bias=bias, batch_first=True).double()
    for number, layer in enumerate(layers):
        for ours, theirs in (("input", "ih"), ("recurrent", "hh")):
            for what in ("weight", "bias") if bias else ("weight",):
                value = getattr(getattr(layer, ours), what)
                getattr(peer, f"{what}_{theirs}_l{number}").data.copy_(value.data)
    return peer


def peer_gradients(peer: nn.Module, out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((out * weights_like(out)).sum(), inputs))


def weights_like(out: Tensor) -> Tensor:
    """An upstream gradient that is neither constant nor related to the inputs."""
    return torch.arange(out.numel(), dtype=out.dtype).view_as(out).mul(0.7).sin()


def assert_near(got: Tensor, wanted: Tensor, bound: float = 1e-12) -> None:
    assert wanted.isfinite().all()
    torch.testing.assert_close(got, wanted, rtol=0, atol=bound)


# ---- cells


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_is_that_of_torch(cell, bias):
    n = LAYERS[cell].n_gates * H
    x, h, c = random(B, D_IN), random(B, H), random(B, H, seed=1)
    weights = [random(n, D_IN), random(n, H), *([random(n), random(n, seed=3)] if bias else [])]
    peer = PEER_CELLS[cell](D_IN, H, bias=bias).double()
    for parameter, weight in zip(peer.parameters(), weights, strict=True):
        parameter.data.copy_(weight.data)
    if cell == "lstm":
        ours, theirs = lstm_cell(x, (h, c), *weights), peer(x, (h, c))
        wanted_inputs = [x, h, c]
    else:
        ours, theirs = ((rnn_cell if cell == "rnn" else gru_cell)(x, h, *weights),), (peer(x, h),)
        wanted_inputs = [x, h]
    for got, wanted in zip(ours, theirs, strict=True):
        assert wanted.std() > 0.1
        assert_near(got, wanted)
    mine = torch.autograd.grad(sum((one * weights_like(one)).sum() for one in ours), [*wanted_inputs, *weights])
    peers = torch.autograd.grad(
        sum((one * weights_like(one)).sum() for one in theirs), [*wanted_inputs, *peer.parameters()]
    )
    for got, wanted in zip(mine, peers, strict=True):
        assert_near(got, wanted)


def test_docstrings():
    assert doctest.testmod(recurrent).failed == 0
    assert doctest.testmod(recurrent).attempted >= 2


# ---- layers


@every_cell
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_stack_is_that_of_torch_with_given_states(cell, n_layers, bias):
    """Outputs, last states, and the gradients of input, first states and all weights (TEST_PLAN 4.3)."""
    layers = [random_layer(cell, D_IN if number == 0 else H, H, bias) for number in range(n_layers)]
    peer, x = as_peer(layers, cell), random(B, T, D_IN)
    S = layers[0].n_states
    before = [random(B, S, H, seed=number) for number in range(n_layers)]  # of each layer
    memory = LastState(before)
    out = RecurrentStack(layers)(x, memory)

    initial = [torch.stack([state[:, s] for state in before]) for s in range(S)]  # (L, B, H) each
    theirs, last = peer(x, tuple(initial) if cell == "lstm" else initial[0])
    assert theirs.std() > 0.1
    assert_near(out, theirs)
    last = last if cell == "lstm" else (last,)
    for number, s in itertools.product(range(n_layers), range(S)):
        assert_near(memory.states[number][:, s], last[s][number])

    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    order = [n.replace("input.", "ih.").replace("recurrent.", "hh.") for n, _ in layers[0].named_parameters()]
    theirs_in_order = [
        getattr(peer, f"{what}_{part}_l{number}")
        for number in range(n_layers)
        for part, what in (name.split(".") for name in order)
    ]
    mine = peer_gradients(layers[0], out, [x, *before, *parameters])
    peers = peer_gradients(peer, theirs, [x, *before, *theirs_in_order])
    for got, wanted in zip(mine, peers, strict=True):
        assert wanted.abs().max() > 1e-3
        assert_near(got, wanted)


@every_cell
def test_without_a_state_a_layer_begins_with_zeros(cell):
    layer, x = random_layer(cell), random(B, T, D_IN)
    out, state = layer(x)
    zeros = (torch.zeros(B, H, dtype=torch.float64),) * layer.n_states
    assert_near(out, layer(x, zeros)[0], 0)
    assert_near(out, as_peer([layer], cell)(x)[0])
    assert [tuple(one.shape) for one in state] == [(B, H)] * layer.n_states
    assert_near(state[0], out[:, -1], 0)


@every_cell
def test_steps_are_the_states_after_each_token(cell):
    layer, x = random_layer(cell), random(B, T, D_IN)
    states = list(layer.steps(x))
    assert len(states) == T
    for t, state in enumerate(states):
        for got, wanted in zip(state, layer(x[:, : t + 1])[1], strict=True):
            assert_near(got, wanted, 1e-14)


@every_cell
def test_no_token_sees_the_future(cell):
    layers = RecurrentStack([random_layer(cell), random_layer(cell, H)])
    x = random(B, T, D_IN)
    (gradient,) = torch.autograd.grad(layers(x)[:, 2].square().sum(), x)
    assert (gradient[:, 3:] == 0).all()
    assert (gradient[:, :3] != 0).any(-1).all()


@every_cell
def test_rows_do_not_meet(cell):
    layer, x = random_layer(cell), random(B, T, D_IN)
    assert_near(layer(x[1:2])[0], layer(x)[0][1:2], 1e-14)


@every_cell
def test_huge_inputs_stay_finite(cell):
    layer = random_layer(cell)
    x = (1e4 * random(B, T, D_IN)).detach().requires_grad_()
    out, state = layer(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert all(tensor.isfinite().all() for tensor in (out, gradient, *state))
    assert out.abs().max() > 0.5


# ---- how they start


@every_cell
def test_weights_start_as_torchs_do(cell):
    """Uniform between -1 / sqrt(H) and 1 / sqrt(H), biases too (row 23 of the pitfalls: no parameter is left as it was)."""
    torch.manual_seed(1)
    layer = LAYERS[cell](40, 90)
    bound = 90**-0.5
    for name, parameter in layer.named_parameters():
        assert parameter.abs().max() <= bound, name
        assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.1), name
        assert abs(parameter.mean().item()) < 0.2 * bound, name
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), LAYERS[cell](40, 90).parameters(), strict=True))


def test_a_forget_bias_is_that_of_the_forget_gate_alone():
    torch.manual_seed(2)
    plain = LSTMLayer(D_IN, H)
    torch.manual_seed(2)
    open_gate = LSTMLayer(D_IN, H, forget_bias=3.0)
    total = open_gate.input.bias + open_gate.recurrent.bias
    assert_near(total[H : 2 * H], torch.full((H,), 3.0), 0)
    others = torch.arange(4 * H).div(H, rounding_mode="floor") != 1
    assert_near(total[others], (plain.input.bias + plain.recurrent.bias)[others], 0)
    assert torch.equal(open_gate.input.weight, plain.input.weight)
    # the gate's value for an empty state and an empty input
    _, c = open_gate.step(
        open_gate.input(torch.zeros(1, D_IN)), open_gate.recurrent(torch.zeros(1, H)), (0, torch.ones(1, H))
    )
    x = plain.input(torch.zeros(1, D_IN)) + plain.recurrent(torch.zeros(1, H))
    i, _, g, _ = x.chunk(4, -1)
    assert_near(c, torch.sigmoid(torch.tensor(3.0)) + torch.sigmoid(i) * torch.tanh(g), 1e-6)
    with pytest.raises(ValueError, match=r"forget_bias is 1\.0, but the layer has no bias"):
        LSTMLayer(D_IN, H, bias=False, forget_bias=1.0)


# ---- dropout


@every_cell
def test_dropout_stands_between_the_layers_only(cell):
    layers = [random_layer(cell), random_layer(cell, H), random_layer(cell, H)]
    stack, x = RecurrentStack(layers, dropout=0.4), random(B, T, D_IN)
    torch.manual_seed(5)
    out = stack.train()(x)
    torch.manual_seed(5)
    first = dropout(layers[0](x)[0], 0.4, True)
    second = dropout(layers[1](first)[0], 0.4, True)
    assert_near(out, layers[2](second)[0], 0)
    assert not torch.equal(out, stack(x))
    assert torch.equal(stack.eval()(x), stack(x))  # row 43: none at evaluation
    assert_near(stack(x), RecurrentStack(layers)(x), 0)
    alone = RecurrentStack(layers[:1], dropout=0.4).train()
    assert torch.equal(alone(x), alone(x))


# ---- the last state as a cache


def states_of(layers: list[RecurrentLayer], rows: int = B) -> LastState:
    return LastState([torch.zeros(rows, layer.n_states, H, dtype=torch.float64) for layer in layers])


@every_cell
def test_a_text_in_pieces_is_the_text_with_its_gradients(cell):
    layers = [random_layer(cell), random_layer(cell, H)]
    stack, x = RecurrentStack(layers), random(B, T, D_IN)
    whole = stack(x)
    for first in range(1, T):
        memory = states_of(layers)
        parts = [stack(x[:, :first], memory), stack(x[:, first:], memory)]
        out = torch.cat(parts, dim=1)
        assert_near(out, whole, 1e-14)
        wanted = peer_gradients(stack, whole, [x, *stack.parameters()])
        for got, right in zip(peer_gradients(stack, out, [x, *stack.parameters()]), wanted, strict=True):
            assert_near(got, right)
        whole = stack(x)


@every_cell
def test_detach_cuts_the_gradient_and_keeps_the_numbers(cell):
    layers = [random_layer(cell), random_layer(cell, H)]
    stack, x, memory = RecurrentStack(layers), random(B, T, D_IN), states_of(layers)
    stack(x[:, :4], memory)
    memory.detach()
    later = stack(x[:, 4:], memory)
    assert_near(later, stack(x)[:, 4:], 1e-14)
    (gradient,) = torch.autograd.grad(later.sum(), x)
    assert (gradient[:, :4] == 0).all()
    assert (gradient[:, 4:] != 0).any()


def test_the_last_state_forgets_all_or_nothing():
    """Pitfall 63: what cannot be rolled back is refused, never silently wrong."""
    layers = [random_layer("lstm")]
    stack, x, memory = RecurrentStack(layers), random(B, T, D_IN), states_of(layers)
    stack(x[:, :4], memory)
    memory.advance(4)
    with pytest.raises(ValueError, match=r"rollback of \[1, 1, 1\] tokens: of \[4, 4, 4\] only the last state is kept"):
        memory.rollback(1)
    with pytest.raises(ValueError, match="StateCache"):
        memory.rollback(torch.tensor([0, 4, 5]))
    memory.rollback(0)
    memory.rollback(torch.tensor([0, 4, 0]))
    assert memory.lengths.tolist() == [4, 0, 4]
    later, whole = stack(x[:, 4:], memory), stack(x)
    assert_near(later[0], whole[0, 4:], 1e-14)
    assert_near(later[2], whole[2, 4:], 1e-14)
    assert_near(later[1], stack(x[1:2, 4:])[0], 1e-14)


def test_rows_of_the_last_state_can_be_chosen_and_copied():
    layers = [random_layer("gru"), random_layer("gru", H)]
    stack, x, memory = RecurrentStack(layers), random(B, T, D_IN), states_of(layers)
    stack(x[:, :3], memory)
    memory.advance(3)
    twin = memory.fork()
    twin.select(torch.tensor([2, 0, 0, 1]))
    assert twin.lengths.tolist() == [3, 3, 3, 3]
    stack(x[:, 3:], memory)  # must not move the twin
    assert_near(stack(x[[2, 0, 0, 1], 3:], twin), stack(x)[[2, 0, 0, 1], 3:], 1e-14)
    assert memory.n_bytes == 2 * B * H * 8
    assert memory.bytes_per_token == 0
    assert memory.to(torch.device("cpu")) is memory


def test_a_state_cache_says_what_it_holds():
    cache = StateCache(2, (B, 9, 2, H), torch.zeros((), dtype=torch.float64))
    assert cache.bytes_per_token == 2 * 2 * H * 8
    assert cache.n_bytes == B * 10 * cache.bytes_per_token


# ---- fast twins


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_a_fast_layer_is_the_readable_one(cell, bias):
    layer = random_layer(cell, bias=bias)
    x, state = random(B, T, D_IN), tuple(random(B, H, seed=s) for s in range(layer.n_states))
    forward = fast.FORWARDS[type(layer)]
    for before in (None, state):
        for mode in (True, False):
            layer.train(mode)
            mine, after = layer(x, before)
            got, got_after = forward(layer, x, before)
            assert_near(got, mine)
            for one, other in zip(got_after, after, strict=True):
                assert_near(one, other)
            inputs = [x, *layer.parameters(), *(state if before else ())]
            total = sum((one * weights_like(one)).sum() for one in (mine, *after))
            fast_total = sum((one * weights_like(one)).sum() for one in (got, *got_after))
            for one, other in zip(
                torch.autograd.grad(fast_total, inputs), torch.autograd.grad(total, inputs), strict=True
            ):
                assert_near(one, other)


@every_cell
def test_a_rounded_layer_takes_the_readable_way(cell):
    stack = RecurrentStack([random_layer(cell).float()])
    quantize(stack)
    x = random(B, T, D_IN).detach().float()
    layer = stack.blocks[0]
    wanted = layer(x)[0]
    assert_near(fast.FORWARDS[type(layer)](layer, x)[0], wanted, 0)
    assert wanted.std() > 0.1


def test_states_that_are_views_are_taken():
    """A LastState hands out slices of one tensor; the kernel wants them in one piece."""
    layer, x, state = random_layer("lstm"), random(B, T, D_IN), random(B, 2, H)
    mine, got = layer(x, state.unbind(1)), fast.lstm(layer, x, state.unbind(1))
    assert_near(got[0], mine[0])
    assert copy.deepcopy(layer).d_hidden == H
