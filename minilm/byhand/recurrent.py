"""The recurrent layers of `layers/recurrent.py` in numpy, with back-propagation through time derived by hand.

A recurrent layer is a deep network with one layer a token and the same weights in each. So it goes back as any network does, from
the last token to the first, and two gradients meet at every state: what its own output got from above, and what comes back from
the token behind it. The weights were used T times: their gradients are summed over the tokens.

    out, cache = lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    dx, dh, dc, dweight_ih, dweight_hh, dbias_ih, dbias_hh = lstm_backward(dout, cache)

out (B, T, H) are the states h after each token; dh and dc are the gradients of the state before the first one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minilm.byhand.basic import Cache, linear, linear_backward, sigmoid

State = tuple[np.ndarray, ...]  # (h,), of an LSTM (h, c), each (B, H)


class Cell(NamedTuple):
    """One step, without its two products: from_x, from_h (B, gates H) and a state -> the next state, and its way back.

    back(dstate, cache) -> the gradients of from_x and from_h, and of the state as far as the step used it directly.
    """

    forward: Callable[[np.ndarray, np.ndarray, State], tuple[State, Cache]]
    back: Callable[[State, Cache], tuple[np.ndarray, np.ndarray, State]]


def rnn_step(from_x: np.ndarray, from_h: np.ndarray, state: State) -> tuple[State, Cache]:
    """h' = tanh(from_x + from_h)."""
    h = np.tanh(from_x + from_h)
    return (h,), (h,)


def rnn_step_backward(dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
    """tanh' = 1 - tanh², and a sum hands its gradient to both sides: dfrom_x = dfrom_h = dh' (1 - h'²).

    The old h was used in from_h only. At each step back the gradient meets this factor and the matrix W_hh.
    """
    (dh,), (h,) = dstate, cache
    da = dh * (1.0 - h * h)
    return da, da, (np.zeros_like(h),)


def gru_step(from_x: np.ndarray, from_h: np.ndarray, state: State) -> tuple[State, Cache]:
    """r, z = sigmoid, n = tanh(x_n + r h_n); h' = (1 - z) n + z h. The three parts stand in the order r, z, n."""
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(from_x, 3, axis=-1), np.split(from_h, 3, axis=-1)
    (r, _), (z, _) = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return ((1.0 - z) * n + z * h,), (h, r, z, n, h_n)


def gru_step_backward(dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
    """From h' = (1 - z) n + z h: dn = dh' (1 - z), dz = dh' (h - n), dh = dh' z. From n = tanh(a_n) and a_n = x_n + r h_n:
    da_n = dn (1 - n²), dx_n = da_n, dh_n = da_n r, dr = da_n h_n. The gates are sigmoids: da = ds s (1 - s).
    """
    (dout,), (h, r, z, n, h_n) = dstate, cache
    da_n = dout * (1.0 - z) * (1.0 - n * n)
    da_z = dout * (h - n) * z * (1.0 - z)
    da_r = da_n * h_n * r * (1.0 - r)
    return np.concatenate([da_r, da_z, da_n], -1), np.concatenate([da_r, da_z, da_n * r], -1), (dout * z,)


def lstm_step(from_x: np.ndarray, from_h: np.ndarray, state: State) -> tuple[State, Cache]:
    """i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of from_x + from_h; c' = f c + i g, h' = o tanh(c')."""
    _, c = state
    a_i, a_f, a_g, a_o = np.split(from_x + from_h, 4, axis=-1)
    (i, _), (f, _), (o, _), g = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), np.tanh(a_g)
    c_next = f * c + i * g
    shown = np.tanh(c_next)
    return (o * shown, c_next), (c, i, f, g, o, shown)


def lstm_step_backward(dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
    """c' is used twice, in h' = o tanh(c') and by the next step: dc' = dc' from there + dh' o (1 - tanh(c')²).

    From c' = f c + i g: di = dc' g, df = dc' c, dg = dc' i, and dc = dc' f: no matrix and no tanh stands on this way. From
    h': do = dh' tanh(c'). Then through the sigmoids, da = ds s (1 - s), and the tanh, da = dg (1 - g²).
    """
    (dh, dc), (c, i, f, g, o, shown) = dstate, cache
    dc = dc + dh * o * (1.0 - shown * shown)
    da_i, da_f = dc * g * i * (1.0 - i), dc * c * f * (1.0 - f)
    da_g, da_o = dc * i * (1.0 - g * g), dh * shown * o * (1.0 - o)
    da = np.concatenate([da_i, da_f, da_g, da_o], -1)
    return da, da, (np.zeros_like(dh), dc * f)


def through_time(
    cell: Cell,
    x: np.ndarray,
    state: State,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray | None = None,
    bias_hh: np.ndarray | None = None,
) -> tuple[np.ndarray, Cache]:
    """x (B, T, I) and a state -> the h after each token (B, T, H): one step a token, with the same weights."""
    from_x, input_cache = linear(x, weight_ih, bias_ih)  # (B, T, gates H), which waits for no state
    outputs, steps = [], []
    for t in range(x.shape[1]):
        from_h, product = linear(state[0], weight_hh, bias_hh)
        state, step = cell.forward(from_x[:, t], from_h, state)
        outputs.append(state[0])
        steps.append((product, step))
    return np.stack(outputs, axis=1), (cell, input_cache, steps, len(state))


def through_time_backward(dout: np.ndarray, cache: Cache) -> tuple[Any, ...]:
    """dout (B, T, H) -> dx, the gradients of the first state, then those of the weights and biases (None if missing).

    At token t the gradient of h is dout_t + what came back from t + 1: directly, and through from_h = W_hh h + b_hh.
    """
    cell, input_cache, steps, n_states = cache
    dstate: State = (np.zeros_like(dout[:, 0]),) * n_states
    dfrom_x: list[np.ndarray] = []
    dweight: Any = 0.0
    dbias: Any = 0.0
    for t in reversed(range(dout.shape[1])):
        product, step = steps[t]
        da_x, da_h, direct = cell.back((dstate[0] + dout[:, t], *dstate[1:]), step)
        dh, dweight_t, dbias_t = linear_backward(da_h, product)
        dstate = (direct[0] + dh, *direct[1:])
        dfrom_x.append(da_x)
        dweight, dbias = dweight + dweight_t, None if dbias_t is None else dbias + dbias_t
    dx, dweight_ih, dbias_ih = linear_backward(np.stack(dfrom_x[::-1], axis=1), input_cache)
    return dx, *dstate, dweight_ih, dweight, dbias_ih, dbias


def rnn(x: np.ndarray, h: np.ndarray, *weights: Any, **named: Any) -> tuple[np.ndarray, Cache]:
    """x (B, T, I), h (B, H), weight_ih (H, I), weight_hh (H, H) and two biases (H,) or none -> (B, T, H)."""
    return through_time(Cell(rnn_step, rnn_step_backward), x, (h,), *weights, **named)


def gru(x: np.ndarray, h: np.ndarray, *weights: Any, **named: Any) -> tuple[np.ndarray, Cache]:
    """x (B, T, I), h (B, H), weight_ih (3 H, I), weight_hh (3 H, H) and two biases (3 H,) or none -> (B, T, H)."""
    return through_time(Cell(gru_step, gru_step_backward), x, (h,), *weights, **named)


def lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray, *weights: Any, **named: Any) -> tuple[np.ndarray, Cache]:
    """x (B, T, I), h and c (B, H), weight_ih (4 H, I), weight_hh (4 H, H) and two biases (4 H,) or none -> (B, T, H)."""
    return through_time(Cell(lstm_step, lstm_step_backward), x, (h, c), *weights, **named)


rnn_backward = gru_backward = lstm_backward = through_time_backward
