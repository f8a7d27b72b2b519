"""The exercise of lesson 28 on the way back through one step of an LSTM: slopes by imaginary steps, and what goes wrong."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Array = np.ndarray
Answer = tuple[Array, Array, tuple[Array, Array]]

# lstm_step_backward((dh, dc), (c, i, f, g, o, tanh(c'))) -> dfrom_x (B, 4 H), dfrom_h (B, 4 H), (dh, dc) of the state before


def step(from_x: Array, from_h: Array, c: Array) -> tuple[Array, Array]:
    """The forward pass, for complex numbers too."""
    a_i, a_f, a_g, a_o = np.split(from_x + from_h, 4, axis=-1)
    c = c / (1.0 + np.exp(-a_f)) + np.tanh(a_g) / (1.0 + np.exp(-a_i))
    return np.tanh(c) / (1.0 + np.exp(-a_o)), c


def by_imaginary_step(dstate: tuple[Array, Array], cache: tuple[Array, ...]) -> Answer:
    """f(x + is) = f(x) + is f'(x): one number at a time, the imaginary part of the loss over s. h itself is not in the step."""
    (dh, dc), (c, i, f, g, o, _), small = dstate, cache, 1e-100
    sums = np.concatenate([np.log(i / (1 - i)), np.log(f / (1 - f)), np.arctanh(g), np.log(o / (1 - o))], axis=-1)
    inputs = [sums.astype(complex), np.zeros_like(sums).astype(complex), c.astype(complex)]
    slopes = []
    for x in inputs:
        slope = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            x[place] += 1j * small
            h_next, c_next = step(*inputs)
            slope[place] = ((dh * h_next).sum() + (dc * c_next).sum()).imag / small
            x[place] = x[place].real
        slopes.append(slope)
    return slopes[0], slopes[1], (np.zeros_like(dh), slopes[2])


def in_steps(
    meet: Callable[..., Array] = lambda dh, dc, o, shown, new: dc + dh * o * (1.0 - shown * shown),
    of_gate: Callable[[Array], Array] = lambda s: s * (1.0 - s),
    of_proposal: Callable[[Array], Array] = lambda g: 1.0 - g * g,
    partners: Callable[..., tuple[Array, Array, Array]] = lambda c, i, f, g, new: (g, c, i),
    shows: Callable[..., Array] = lambda dh, dc, o, shown, new: dh * shown,
    order: str = "ifgo",
    read: Mapping[str, str] = MappingProxyType({}),
    before: Callable[..., tuple[Array, Array]] = lambda dh, total, dc, f: (np.zeros_like(dh), total * f),
) -> Callable[..., Answer]:
    """The steps back with switches thrown: where dc' meets, the slopes, what each was multiplied by, the state before.

    `read` says for a gate in whose values its slope is taken; "" for in none, and then it has no slope.
    """

    def backward(dstate: tuple[Array, Array], cache: tuple[Array, ...]) -> Answer:
        (dh, dc), (c, i, f, g, o, shown) = dstate, cache
        new = f * c + i * g
        total = meet(dh, dc, o, shown, new)
        with_i, with_f, with_g = partners(c, i, f, g, new)
        slopes = {name: of_gate(gate) for name, gate in (("i", i), ("f", f), ("o", o))} | {"": np.ones_like(i)}
        slope_i, slope_f, slope_o = (slopes[read.get(name, name)] for name in "ifo")
        parts = {
            "i": total * with_i * slope_i,
            "f": total * with_f * slope_f,
            "g": total * with_g * of_proposal(g),
            "o": shows(dh, dc, o, shown, new) * slope_o,
        }
        da = np.concatenate([parts[name] for name in order], axis=-1)
        return da, da.copy(), before(dh, total, dc, f)

    return backward


def by_stack(dstate: tuple[Array, Array], cache: tuple[Array, ...]) -> Answer:
    """All four gradients at once, then all slopes."""
    (dh, dc), (c, i, f, g, o, shown) = dstate, cache
    total = dc + dh * o - dh * o * shown**2
    grads = np.stack([total * g, total * c, total * i, dh * shown])
    slopes = np.stack([i - i**2, f - f**2, 1 - g**2, o - o**2])
    da = np.concatenate(list(grads * slopes), axis=1)
    return da, da, (0.0 * dh, f * total)


def unit_by_unit(dstate: tuple[Array, Array], cache: tuple[Array, ...]) -> list[Any]:
    (dh, dc), (c, i, f, g, o, shown) = dstate, cache
    B, H = dh.shape
    da, back = np.empty((B, 4 * H)), np.empty((B, H))
    for b in range(B):
        for k in range(H):
            total = dc[b, k] + dh[b, k] * o[b, k] * (1 + shown[b, k]) * (1 - shown[b, k])
            da[b, k] = total * g[b, k] * i[b, k] * (1 - i[b, k])
            da[b, H + k] = total * c[b, k] * f[b, k] * (1 - f[b, k])
            da[b, 2 * H + k] = total * i[b, k] * (1 + g[b, k]) * (1 - g[b, k])
            da[b, 3 * H + k] = dh[b, k] * shown[b, k] * o[b, k] * (1 - o[b, k])
            back[b, k] = total * f[b, k]
    return [da, da.copy(), [np.zeros((B, H)), back]]


def from_shown(dstate: tuple[Array, Array], cache: tuple[Array, ...]) -> Answer:
    """Into one array, part by part."""
    (dh, dc), (c, i, f, g, o, shown) = dstate, cache
    dc = dc + (1.0 - np.square(shown)) * (dh * o)
    da = np.zeros((len(dh), 4, dh.shape[1]))
    da[:, 0], da[:, 1], da[:, 2] = dc * g, dc * c, dc * i * (1.0 - np.square(g))
    da[:, 3] = dh * shown
    for place, gate in ((0, i), (1, f), (3, o)):
        da[:, place] *= gate - np.square(gate)
    return da.reshape(len(dh), -1), da.reshape(len(dh), -1), (np.zeros(dh.shape), dc * f)


def backward_inputs(seed: int) -> list[tuple[Any, ...]]:
    """One unit by hand, f shut to a tenth; then drawn. A dc of zero (the last token), a dh of zero (an output nobody used)."""
    generator = np.random.default_rng([seed, 28])
    cases: list[tuple[Any, ...]] = []
    one = np.ones((1, 1))
    by_hand = (2.0 * one, 0.5 * one, 0.1 * one, 0.4 * one, 0.8 * one)
    for dh, dc in ((one, one), (one, 0.0 * one), (0.0 * one, one)):
        cases.append(((dh.copy(), dc.copy()), (*by_hand, np.tanh(0.4 * one))))
    for B, H in ((2, 3), (3, 2), (1, 5)):
        c, dh, dc = generator.standard_normal((3, B, H))
        i, f, o = generator.uniform(0.05, 0.95, (3, B, H))
        g = generator.uniform(-0.95, 0.95, (B, H))
        cases.append(((dh, dc), (c, i, f, g, o, np.tanh(f * c + i * g))))
    return cases


BACK = Exercise(
    "lstm_step_backward",
    "(dh, dc), (c, i, f, g, o, shown) = dstate, cache; first all that reaches the new c, then its three parts, then o",
    backward_inputs,
    by_imaginary_step,
    (
        Mistake(
            "dc from behind forgotten",
            in_steps(meet=lambda dh, dc, o, shown, new: dh * o * (1.0 - shown * shown)),
            "the new c was used twice, in h and by the next step: dc from there is missing",
        ),
        Mistake(
            "only dc from behind",
            in_steps(meet=lambda dh, dc, o, shown, new: dc + 0.0 * dh),
            "the new c was used twice, by the next step and in h = o * tanh(c): what comes through h is missing",
        ),
        Mistake(
            "no slope of the shown c",
            in_steps(meet=lambda dh, dc, o, shown, new: dc + dh * o),
            "h shows tanh(c): on the way from h to c stands its slope",
        ),
        Mistake(
            "slope at c",
            in_steps(meet=lambda dh, dc, o, shown, new: dc + dh * o * (1.0 - new * new)),
            "the slope of a tanh is 1 - out², of what came out, which is stored as the last of the cache",
        ),
        Mistake(
            "one minus shown",
            in_steps(meet=lambda dh, dc, o, shown, new: dc + dh * o * (1.0 - shown)),
            "the slope of a tanh is 1 - out²: the square is missing where h shows c",
        ),
        Mistake(
            "no output gate on the way",
            in_steps(meet=lambda dh, dc, o, shown, new: dc + dh * (1.0 - shown * shown)),
            "h = o * tanh(c): on the way from h to c stands the output gate",
        ),
        Mistake(
            "the slope over all",
            in_steps(meet=lambda dh, dc, o, shown, new: (dc + dh * o) * (1.0 - shown * shown)),
            "dc comes from the next step directly, through no tanh: the slope belongs to the other way only",
        ),
        Mistake(
            "no slopes of the gates",
            in_steps(of_gate=lambda s: np.ones_like(s)),
            "the gradients of the gates are not yet those of the sums inside: a sigmoid has the slope s (1 - s)",
        ),
        Mistake("no slope of i", in_steps(read={"i": ""}), "the input gate is a sigmoid, too: times i (1 - i)"),
        Mistake("no slope of f", in_steps(read={"f": ""}), "the forget gate is a sigmoid, too: times f (1 - f)"),
        Mistake("no slope of o", in_steps(read={"o": ""}), "the output gate is a sigmoid, too: times o (1 - o)"),
        Mistake(
            "slopes of i and f exchanged",
            in_steps(read={"i": "f", "f": "i"}),
            "each gate has the slope of its own value: those of i and f are exchanged",
        ),
        Mistake(
            "tanh for sigmoid",
            in_steps(of_gate=lambda s: 1.0 - s * s),
            "three of the four are sigmoids: their slope is s (1 - s), not 1 - s²",
        ),
        Mistake(
            "sigmoid of the output",
            in_steps(of_gate=lambda s: (1.0 / (1.0 + np.exp(-s))) * (1.0 - 1.0 / (1.0 + np.exp(-s)))),
            "i, f and o are sigmoids already: their slope is s (1 - s) with s as it is stored",
        ),
        Mistake(
            "sigmoid for tanh",
            in_steps(of_proposal=lambda g: g * (1.0 - g)),
            "the proposal g is a tanh: its slope is 1 - g²",
        ),
        Mistake("no slope of g", in_steps(of_proposal=np.ones_like), "the proposal g is a tanh: its slope is missing"),
        Mistake(
            "one minus g",
            in_steps(of_proposal=lambda g: 1.0 - g),
            "the slope of the proposal is 1 - g²: the square is missing",
        ),
        Mistake(
            "own factors",
            in_steps(partners=lambda c, i, f, g, new: (i, f, g)),
            "in a product each gets the gradient times the *other*: i * g gives i its g",
        ),
        Mistake(
            "partners of i and f exchanged",
            in_steps(partners=lambda c, i, f, g, new: (c, g, i)),
            "c' = f c + i g: the partner of i is g, that of f is c",
        ),
        Mistake(
            "g for c", in_steps(partners=lambda c, i, f, g, new: (g, g, i)), "the partner of f is the old c, not g: f c"
        ),
        Mistake(
            "f times the new c",
            in_steps(partners=lambda c, i, f, g, new: (g, new, i)),
            "the forget gate was multiplied by the old c, which is the first of the cache",
        ),
        Mistake(
            "o times c",
            in_steps(shows=lambda dh, dc, o, shown, new: dh * new),
            "the output gate was multiplied by tanh(c), the last of the cache",
        ),
        Mistake(
            "o with dc",
            in_steps(shows=lambda dh, dc, o, shown, new: (dh * o * (1.0 - shown * shown) + dc) * shown),
            "the output gate stands in h alone: only dh reaches it",
        ),
        Mistake("order i f o g", in_steps(order="ifog"), "all four are right, but the order is i, f, g, o"),
        Mistake("order f i g o", in_steps(order="figo"), "all four are right; the input gate is the first"),
        Mistake(
            "dc without f",
            in_steps(before=lambda dh, total, dc, f: (np.zeros_like(dh), total)),
            "the old c went on through the forget gate: so does its gradient, times f",
        ),
        Mistake(
            "only the next step's dc goes on",
            in_steps(before=lambda dh, total, dc, f: (np.zeros_like(dh), dc * f)),
            "all that reached the new c goes on to the old one, also what came through h",
        ),
        Mistake(
            "dh handed on",
            in_steps(before=lambda dh, total, dc, f: (dh, total * f)),
            "the old h was read through its matrix only, which comes later: directly it gets zeros",
        ),
        Mistake(
            "only the sums",
            lambda dstate, cache: in_steps()(dstate, cache)[0],
            "three things are asked for: da, da again, and the pair (zeros, dc of the old state)",
        ),
        Mistake(
            "dstate turned round",
            lambda dstate, cache: in_steps()(dstate[::-1], cache),
            "dstate is (dh, dc), in the order of the state: dh, dc = dstate",
        ),
        Mistake(
            "four in a row",
            lambda dstate, cache: (*in_steps()(dstate, cache)[:2], *in_steps()(dstate, cache)[2]),
            "three things are asked for, of which the last is a pair: da, da, (zeros, dc)",
        ),
        Mistake(
            "no pair",
            lambda dstate, cache: (*in_steps()(dstate, cache)[:2], in_steps()(dstate, cache)[2][1]),
            "the last is a pair, as the state is: (zeros like dh, dc)",
        ),
    ),
    (by_stack, unit_by_unit, from_shown),
)

EXERCISES = (BACK,)
