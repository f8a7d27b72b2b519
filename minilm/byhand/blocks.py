"""The MLPs and the pre-norm block of `layers/blocks.py`, in numpy and with their backward passes derived by hand.

Nothing new is derived here: a chain of parts goes back in reverse order, and where a value was used twice, the two
gradients add up. That sum is why a residual stream trains well: the gradient passes each block unchanged, plus something.
"""

from collections.abc import Callable

import numpy as np

from minilm.byhand.basic import Cache, dropout, dropout_backward, silu, silu_backward
from minilm.byhand.parts import LINEAR, Gradients, Part, Weights, inside, outside

# An activation and its backward pass, (gelu, gelu_backward) for example.
Activation = tuple[
    Callable[[np.ndarray], tuple[np.ndarray, Cache]],
    Callable[[np.ndarray, Cache], np.ndarray],
]


def mlp(x: np.ndarray, weights: Weights, activation: Activation) -> tuple[np.ndarray, Cache]:
    """(..., D) -> (..., D): down(activation(up(x))). Weights: up.weight (F, D), down.weight (D, F), and biases."""
    bend, bend_backward = activation
    wide, up_cache = LINEAR.forward(x, inside(weights, "up"))  # (..., F)
    bent, bend_cache = bend(wide)
    out, down_cache = LINEAR.forward(bent, inside(weights, "down"))
    return out, (up_cache, bend_backward, bend_cache, down_cache)


def mlp_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
    """dout (..., D) -> dx (..., D) and the gradients by name: back through down, the activation, up."""
    up_cache, bend_backward, bend_cache, down_cache = cache
    dbent, down_gradients = LINEAR.backward(dout, down_cache)
    dx, up_gradients = LINEAR.backward(bend_backward(dbent, bend_cache), up_cache)
    return dx, outside("up", up_gradients) | outside("down", down_gradients)


def swiglu(x: np.ndarray, weights: Weights) -> tuple[np.ndarray, Cache]:
    """(..., D) -> (..., D): down(silu(gate(x)) · up(x)). Weights: gate.weight, up.weight (F, D), down.weight (D, F)."""
    gate, gate_cache = LINEAR.forward(x, inside(weights, "gate"))  # (..., F)
    up, up_cache = LINEAR.forward(x, inside(weights, "up"))
    opening, silu_cache = silu(gate)
    out, down_cache = LINEAR.forward(opening * up, inside(weights, "down"))
    return out, (gate_cache, up_cache, silu_cache, opening, up, down_cache)


def swiglu_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
    """For a product c = a b, da = dc b and db = dc a. x was read by the gate and by up: dx is the sum of both."""
    gate_cache, up_cache, silu_cache, opening, up, down_cache = cache
    dproduct, down_gradients = LINEAR.backward(dout, down_cache)
    dx_gate, gate_gradients = LINEAR.backward(silu_backward(dproduct * up, silu_cache), gate_cache)
    dx_up, up_gradients = LINEAR.backward(dproduct * opening, up_cache)
    gradients = outside("gate", gate_gradients) | outside("up", up_gradients) | outside("down", down_gradients)
    return dx_gate + dx_up, gradients


def residual(
    x: np.ndarray, weights: Weights, name: str, part: Part, norm: Part, p: float, keep: np.ndarray | None
) -> tuple[np.ndarray, Cache]:
    """x + dropout(part(norm(x))): one half of a block, whose weights begin with "<name>_norm." and "<name>."."""
    normed, norm_cache = norm.forward(x, inside(weights, f"{name}_norm"))
    change, part_cache = part.forward(normed, inside(weights, name))
    change, dropout_cache = dropout(change, p, keep)
    return x + change, (name, part, norm, norm_cache, part_cache, dropout_cache)


def residual_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
    """out = x + change(x): dx = dout, the straight way, + dout carried back through the change."""
    name, part, norm, norm_cache, part_cache, dropout_cache = cache
    dnormed, part_gradients = part.backward(dropout_backward(dout, dropout_cache), part_cache)
    dx, norm_gradients = norm.backward(dnormed, norm_cache)
    return dout + dx, outside(f"{name}_norm", norm_gradients) | outside(name, part_gradients)


def transformer_block(
    x: np.ndarray,
    weights: Weights,
    attention: Part,
    mlp: Part,
    norm: Part,
    p: float = 0.0,
    keeps: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> tuple[np.ndarray, Cache]:
    """(B, T, D) -> (B, T, D), made of the parts it is given: x = x + attention(norm(x)); x = x + mlp(norm(x)).

    p and keeps are the dropout of the two changes (see `dropout`).
    """
    x, attention_cache = residual(x, weights, "attention", attention, norm, p, keeps[0])
    out, mlp_cache = residual(x, weights, "mlp", mlp, norm, p, keeps[1])
    return out, (attention_cache, mlp_cache)


def transformer_block_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
    """dout (B, T, D) -> dx (B, T, D) and the gradients by name: back through the MLP's half, then attention's."""
    attention_cache, mlp_cache = cache
    dx, mlp_gradients = residual_backward(dout, mlp_cache)
    dx, attention_gradients = residual_backward(dx, attention_cache)
    return dx, attention_gradients | mlp_gradients
