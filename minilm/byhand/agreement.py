"""Are the hand-derived gradients right? A table of every brick's largest error against central differences.

The derivative of f by x is nearly (f(x + h) - f(x - h)) / 2h: slow, as it moves one number at a time, but nobody has to
derive it. It is wrong by about h², and by the rounding of f over h: with h = 1e-5 in float64 ten digits are right. The loss
is sum(dout · out) for a random dout. If all dout were equal, a wrong softmax or norm gradient could pass, as the true one is 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.byhand.bricks import SIZES, Brick, bricks


def agreement() -> dict[str, float]:
    """The largest error of each brick over all SIZES, relative to its largest gradient: {name: error}."""
    table: dict[str, float] = {}
    for seed, size in enumerate(SIZES):
        for name, brick in bricks(size, seed).items():
            table[name] = max(table.get(name, 0.0), error_of(brick, seed))
    return table


def error_of(brick: Brick, seed: int) -> float:
    """max |by hand - central difference| / max |central difference|, over all gradients of a brick. NaN is an error."""
    out, cache = brick.forward(**brick.inputs)
    dout = upstream(out, seed)
    by_hand = gradients_of(brick, dout, cache)

    def f() -> float:
        return float((dout * brick.forward(**brick.inputs)[0]).sum())

    measured = {path: central_differences(f, array) for path, array in differentiable(brick.inputs).items()}
    largest = max(np.abs(gradient).max() for gradient in measured.values())
    errors = [np.abs(by_hand[path] - gradient).max() / largest for path, gradient in measured.items()]
    return float(np.nan_to_num(errors, nan=np.inf).max())


def upstream(out: np.ndarray, seed: int) -> np.ndarray:
    """A random dout, from another stream than the inputs: a dout that resembles x hides errors of the norms, as dx is near 0."""
    return np.random.default_rng([seed, 1]).standard_normal(np.shape(out))


def central_differences(f: Callable[[], float], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """The gradient of f() by x, which f reads: each number of x is moved by h and by -h, and put back."""
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + h
        above = f()
        x[place] = kept - h
        below = f()
        x[place] = kept
        gradient[place] = (above - below) / (2 * h)
    return gradient


def differentiable(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of floats among the inputs but the angles; those in a dict by "dict/name"."""
    found: dict[str, np.ndarray] = {}
    for name, value in inputs.items():
        if isinstance(value, dict):
            found |= {f"{name}/{key}": array for key, array in value.items()}
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and name != "angles":
            found[name] = value
    return found


def gradients_of(brick: Brick, dout: np.ndarray, cache: Any) -> dict[str, np.ndarray]:
    """What the backward pass gives, by the names of `differentiable`. ValueError if it gives too few or too many."""
    result = brick.backward(dout, cache)
    given = [gradient for gradient in (result if isinstance(result, tuple) else (result,)) if gradient is not None]
    arrays = differentiable(brick.inputs)
    gradients = differentiable(dict(zip(dict.fromkeys(path.split("/")[0] for path in arrays), given, strict=True)))
    wrong = {path for path in arrays if path not in gradients or gradients[path].shape != arrays[path].shape}
    if wrong or len(gradients) != len(arrays):
        raise ValueError(f"no gradient, or one of another shape, for {', '.join(sorted(wrong))}")
    return gradients
