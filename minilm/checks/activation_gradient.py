"""The exercise of lesson 04 on an activation: the gradient of SiLU. Its oracle by complex steps, mistakes, alternatives."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Cache = tuple[Any, ...]
Backward = Callable[[np.ndarray, Cache], Any]
STEP = 1e-40

# silu_backward(dout, cache) -> dx; the cache is (x, s) with s = sigmoid(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Written with tanh, which no number is too large for; x may be complex."""
    return (1 + np.tanh(x / 2)) / 2


def silu_by_steps(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Every number makes a step in the imaginary direction: f(x + ih) = f(x) + ih f'(x), so f' needs no derivation."""
    moved = cache[0] + STEP * 1j
    return dout * (moved * sigmoid(moved)).imag / STEP


def silu_inputs(seed: int) -> list[Cache]:
    """Whole numbers; numbers near 0 and large ones, of both signs; so large that exp of them, or of minus them, overflows."""
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal(axes) * size for axes, size in (((4,), 0.3), ((3, 5), 2.0), ((2, 3, 2), 12.0))]
    drawn = [(rng.standard_normal(x.shape), (x, sigmoid(x))) for x in xs]
    wholes = (([2, 3], [0, 1]), ([1, -2, 3], [-1, 2, -3]), ([1, 10], [1, 800]), ([1, 10], [1, -800]))
    return [(np.array(d, float), (np.array(x, float), sigmoid(np.array(x, float)))) for d, x in wholes] + drawn


def silu_slope(slope: Callable[[np.ndarray, np.ndarray], Any]) -> Backward:
    """dout times a slope that was worked out from x and s."""

    def backward(dout: np.ndarray, cache: Cache) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return dout * slope(*cache)

    return backward


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
        Mistake(
            "dout added",
            lambda dout, cache: dout + silu_by_steps(np.ones_like(dout), cache),
            "slopes that follow one another are multiplied, not added",
        ),
        Mistake(
            "forward again",
            silu_slope(lambda x, s: x * s),
            "that is dout times x · s itself, not times its slope: a bracket lost around 1 - s comes to the same",
        ),
        Mistake("s only", silu_slope(lambda x, s: s), "s moves with x too: the product rule has two terms"),
        Mistake(
            "s' only",
            silu_slope(lambda x, s: x * s * (1 - s)),
            "x itself moves as well, with s in front of it: the product rule has another term",
        ),
        Mistake(
            "x forgotten",
            silu_slope(lambda x, s: s + s * (1 - s)),
            "where s moves, x stands still as a factor: the second term has lost it",
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
        Mistake(
            "inner bracket lost",
            silu_slope(lambda x, s: s * (1 + x * 1 - s)),
            "x multiplies all of 1 - s: a bracket is missing inside",
        ),
        Mistake(
            "outer bracket lost",
            lambda dout, cache: dout * cache[1] * 1 + cache[0] * (1 - cache[1]),
            "dout and s stand before the whole sum: a bracket is missing around it",
        ),
        Mistake(
            "dout in one term",
            lambda dout, cache: dout * cache[1] + cache[0] * cache[1] * (1 - cache[1]),
            "dout multiplies the whole slope, both terms of it",
        ),
        Mistake(
            "exp of x overflows",
            silu_slope(lambda x, s: (e := np.exp(x)) / (1 + e) * (1 + x * (1 - e / (1 + e)))),
            "exp of a large number is infinite, and infinite over infinite is NaN: the sigmoid lies in the cache, safe",
        ),
        Mistake(
            "exp of -x overflows",
            silu_slope(lambda x, s: s + x * np.exp(-x) / (1 + np.exp(-x)) ** 2),
            "exp of -x is infinite for x far below 0, and what comes of it is NaN: write the slope of s with s alone",
        ),
    ),
    (
        lambda dout, cache: dout * (cache[1] + cache[0] * cache[1] * (1 - cache[1])),
        lambda dout, cache: dout * sigmoid(cache[0]) + dout * cache[0] * (1 - np.tanh(cache[0] / 2) ** 2) / 4,
        silu_number_by_number,
    ),
)

EXERCISES = (SILU,)
