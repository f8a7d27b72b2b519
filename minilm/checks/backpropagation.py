"""The exercises of lesson 04 on layers: the gradients of linear and SiLU. Oracles by complex steps, mistakes, alternatives."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Cache = tuple[Any, ...]
Backward = Callable[[np.ndarray, Cache], Any]
STEP = 1e-40


def slopes(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, dout: np.ndarray) -> np.ndarray:
    """The gradient of sum(dout · f(x)) by x, from f alone: each number of x makes a step in the imaginary direction.

    f(x + ih) = f(x) + ih f'(x) - ..., so the imaginary part over h is the slope, and nothing is subtracted that could
    cancel (Squire and Trapp 1998). It needs no derivation: that is why it is a good judge of derivations.
    """
    gradient = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[place] += STEP * 1j
        gradient[place] = (dout * f(moved)).sum().imag / STEP
    return gradient


# linear_backward(dout, cache) -> dx, dweight, dbias; the cache is (x, weight, has_bias)


def linear_by_steps(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Every number that went in is moved by itself."""
    x, weight, has_bias = cache
    bias = np.zeros(len(weight))
    dx = slopes(lambda moved: moved @ weight.T, x, dout)
    dweight = slopes(lambda moved: x @ moved.T, weight, dout)
    return dx, dweight, slopes(lambda moved: x @ weight.T + moved, bias, dout) if has_bias else None


def linear_inputs(seed: int) -> list[Cache]:
    """Rectangular weights; tokens along one, two and three axes; with and without a bias."""
    draw = np.random.default_rng(seed).standard_normal
    sizes = (((3,), 4, 2, True), ((5,), 2, 3, False), ((2, 4), 3, 5, True), ((3, 1, 2), 4, 2, True))
    return [
        (draw((*axes, n_out)), (draw((*axes, n_in)), draw((n_out, n_in)), has_bias))
        for axes, n_in, n_out, has_bias in sizes
    ]


def linear_changed(change: Callable[..., Any]) -> Backward:
    """The right gradients as change(dout, cache, dx, dweight, dbias) makes them wrong; dbias is there with no bias too."""

    def backward(dout: np.ndarray, cache: Cache) -> Any:
        dx, dweight, dbias = linear_by_steps(dout, (*cache[:2], True))
        answer = change(dout, cache, dx, dweight, dbias)
        return answer if cache[2] or len(answer) != 3 else (*answer[:2], None)

    return backward


def n_tokens(dout: np.ndarray) -> int:
    return dout.size // dout.shape[-1]


def two_axes_only(dout: np.ndarray, cache: Cache) -> Any:
    x, weight, has_bias = cache
    return dout @ weight, np.einsum("no,ni->oi", dout, x), dout.sum(0) if has_bias else None


def linear_by_einsum(dout: np.ndarray, cache: Cache) -> Any:
    x, weight, has_bias = cache
    dweight = np.einsum("no,ni->oi", dout.reshape(-1, dout.shape[-1]), x.reshape(-1, x.shape[-1]))
    axes = tuple(range(dout.ndim - 1))
    return np.einsum("...o,oi->...i", dout, weight), dweight, dout.sum(axis=axes) if has_bias else None


def linear_token_by_token(dout: np.ndarray, cache: Cache) -> Any:
    x, weight, has_bias = cache
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(len(weight))
    for token in np.ndindex(x.shape[:-1]):
        dx[token] = weight.T @ dout[token]
        dweight += np.outer(dout[token], x[token])
        dbias += dout[token]
    return dx, dweight, dbias if has_bias else None


def linear_with_ones(dout: np.ndarray, cache: Cache) -> Any:
    x, weight, has_bias = cache
    tokens, gradients = x.reshape(-1, weight.shape[1]), dout.reshape(-1, len(weight))
    dx = (gradients @ weight).reshape(x.shape)
    return dx, (tokens.T @ gradients).T, np.ones(len(gradients)) @ gradients if has_bias else None


LINEAR = Exercise(
    "linear_backward",
    "three products: write the shape of each gradient first, then see which axes of dout, x and weight must meet",
    linear_inputs,
    linear_by_steps,
    (
        Mistake(
            "weight transposed",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw.T, db)),
            "a gradient has the shape of what it belongs to: which shape has the weight?",
        ),
        Mistake(
            "weight for x transposed",
            lambda dout, cache: (dout @ cache[1].T, None, None),
            "dx_i is a sum over the outputs o: along which axis of the weight do they lie?",
        ),
        Mistake(
            "bias not summed",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw, dout)),
            "the same bias was added to every token: each of them has its part in the gradient",
        ),
        Mistake(
            "bias averaged",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw, db / n_tokens(dout))),
            "the ways from the bias to the loss add up: why should there be a mean?",
        ),
        Mistake(
            "divided by the tokens",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw / n_tokens(dout), db / n_tokens(dout))),
            "if the loss is a mean, dout was divided already where that mean was taken: not once more here",
        ),
        Mistake(
            "bias summed over one axis",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw, dout.sum(0))),
            "there may be several axes of tokens: all but the last must go",
        ),
        Mistake(
            "bias summed to one number",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw, dout.sum())),
            "the bias has a number for each output, and so has its gradient",
        ),
        Mistake(
            "two axes only",
            two_axes_only,
            "x may come as (B, T, I): reshape(-1, ...) makes one row of each token, and then there are two axes",
        ),
        Mistake(
            "two axes, transposed",
            lambda dout, cache: (dout @ cache[1], cache[0].T @ dout, dout.sum(0) if cache[2] else None),
            "compare the shape of your second product with that of the weight",
        ),
        Mistake(
            "dout ignored",
            linear_changed(lambda dout, cache, *right: linear_by_steps(np.ones_like(dout), cache)),
            "not every output moves the loss alike: how much each does, stands in dout",
        ),
        Mistake(
            "weight first",
            linear_changed(lambda dout, cache, dx, dw, db: (dw, dx, db)),
            "the order is that of the forward pass: x, weight, bias",
        ),
        Mistake(
            "always a bias",
            lambda dout, cache: linear_by_steps(dout, (*cache[:2], True)),
            "where no bias went in, its gradient is None",
        ),
        Mistake(
            "never a bias",
            lambda dout, cache: linear_by_steps(dout, (*cache[:2], False)),
            "look at the last entry of the cache: with a bias there is a third gradient",
        ),
    ),
    (linear_by_einsum, linear_token_by_token, linear_with_ones),
)


# silu_backward(dout, cache) -> dx; the cache is (x, s) with s = sigmoid(x)


def silu_by_steps(dout: np.ndarray, cache: Cache) -> np.ndarray:
    return slopes(lambda moved: moved / (1 + np.exp(-moved)), cache[0], dout)


def silu_inputs(seed: int) -> list[Cache]:
    """Numbers near 0 and large ones, of both signs."""
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal(axes) * size for axes, size in (((4,), 0.3), ((3, 5), 2.0), ((2, 3, 2), 12.0))]
    return [(rng.standard_normal(x.shape), (x, 1 / (1 + np.exp(-x)))) for x in xs]


def silu_slope(slope: Callable[[np.ndarray, np.ndarray], Any]) -> Backward:
    """dout times a slope that was worked out from x and s."""
    return lambda dout, cache: dout * slope(*cache)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu_number_by_number(dout: np.ndarray, cache: Cache) -> np.ndarray:
    dx = np.zeros_like(dout)
    for place in np.ndindex(dout.shape):
        x = float(cache[0][place])
        e = math.exp(-abs(x))
        s = 1 / (1 + e) if x > 0 else e / (1 + e)
        dx[place] = dout[place] * (s + x * e / (1 + e) ** 2)
    return dx


SILU = Exercise(
    "silu_backward",
    "each number goes its own way: dx = dout times the slope of x · s. Both factors of the product depend on x",
    silu_inputs,
    silu_by_steps,
    (
        Mistake(
            "dout forgotten",
            lambda dout, cache: silu_by_steps(np.ones_like(dout), cache),
            "that is the slope of the SiLU alone; the chain rule multiplies it by what comes from above",
        ),
        Mistake("s only", silu_slope(lambda x, s: s), "s moves with x too: the product rule has two terms"),
        Mistake(
            "s' only",
            silu_slope(lambda x, s: x * s * (1 - s)),
            "x itself moves as well, with s in front of it: the product rule has another term",
        ),
        Mistake("slope of s left out", silu_slope(lambda x, s: s + x), "the second term needs the slope of s, not a 1"),
        Mistake(
            "slope of s at x",
            silu_slope(lambda x, s: s + x * x * (1 - x)),
            "the slope of the sigmoid is a formula in its output s: you put x there",
        ),
        Mistake(
            "slope of s at s",
            silu_slope(lambda x, s: s + x * sigmoid(s) * (1 - sigmoid(s))),
            "s in the cache is the sigmoid already: do not apply it again",
        ),
        Mistake(
            "slope of the sigmoid",
            silu_slope(lambda x, s: s * (1 - s)),
            "that is the slope of the sigmoid; the SiLU is x times it",
        ),
        Mistake(
            "as ReLU",
            silu_slope(lambda x, s: x > 0),
            "0 or 1 is the slope of a ReLU: the SiLU bends smoothly, and has a slope below 0 too",
        ),
        Mistake(
            "output for input",
            silu_slope(lambda x, s: s * (1 + x * s * (1 - s))),
            "somewhere you have the output x · s where the formula has x",
        ),
        Mistake(
            "falling sigmoid",
            silu_slope(lambda x, s: s - x * s * (1 - s)),
            "the sigmoid rises everywhere: its slope is never below 0. Look for a lost sign",
        ),
    ),
    (
        lambda dout, cache: dout * (cache[1] + cache[0] * cache[1] * (1 - cache[1])),
        lambda dout, cache: dout * sigmoid(cache[0]) + dout * cache[0] * (1 - np.tanh(cache[0] / 2) ** 2) / 4,
        silu_number_by_number,
    ),
)

EXERCISES = (LINEAR, SILU)
