"""The exercise of lesson 04 on a layer: the gradients of linear. Its oracle by complex steps, mistakes, alternatives."""

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
    """Small ones in whole numbers; rectangular weights; tokens along one, two and three axes; with and without a bias."""
    draw = np.random.default_rng(seed).standard_normal

    def whole(*axes: int) -> np.ndarray:
        return (np.arange(1.0, 1 + np.prod(axes)) * 3 % 5 - 1).reshape(axes)

    sizes = (((3,), 4, 2, True), ((5,), 2, 3, False), ((2, 4), 3, 5, True), ((3, 1, 2), 4, 2, True))
    small = (((2,), 2, 1, True), ((2,), 2, 2, True), ((2,), 3, 2, False), ((2, 2), 2, 3, True))
    return [
        (numbers((*axes, n_out)), (numbers((*axes, n_in)), numbers((n_out, n_in)), has_bias))
        for numbers, cases in ((lambda axes: whole(*axes), small), (draw, sizes))
        for axes, n_in, n_out, has_bias in cases
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
            linear_changed(lambda dout, cache, dx, dw, db: (dout @ cache[1].T, dw, db)),
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
            "bias keeps an axis",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw, db[None])),
            "the bias has one axis, and so has its gradient: no keepdims",
        ),
        Mistake(
            "weight averaged",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dw / n_tokens(dout), db)),
            "every token uses the same weight, and their parts add up: no mean",
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
            "tokens in one row",
            linear_changed(lambda dout, cache, dx, dw, db: (dx.reshape(-1, dx.shape[-1]), dw, db)),
            "dx has the shape of x: the axes of the tokens that you made one of have to come back",
        ),
        Mistake(
            "a weight for each text",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, dout.swapaxes(-1, -2) @ cache[0], db)),
            "all texts share one weight: its gradient has two axes, and their parts are added up",
        ),
        Mistake(
            "x forgotten",
            linear_changed(lambda dout, cache, dx, dw, db: (dx, db[:, None] + np.zeros_like(dw), db)),
            "how much a weight matters depends on the x that it multiplies: where is x?",
        ),
        Mistake(
            "star for @",
            linear_changed(lambda dout, cache, dx, dw, db: (dout * cache[1], dw, db)),
            "* multiplies place by place; a sum over the outputs is a matrix product",
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

EXERCISES = (LINEAR,)
