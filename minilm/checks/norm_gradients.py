"""The exercises of lesson 14 on norms: the oracle takes slopes by a tiny imaginary step, so it knows no formula for them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Gradients = tuple[np.ndarray | None, ...]


def normed(x: np.ndarray, eps: float | np.ndarray, centre: bool) -> np.ndarray:
    """The norm of one token (D,), for complex numbers too: x less its mean, over the root of its mean square plus eps."""
    y = x - x.mean() if centre else x
    return y / np.sqrt((y * y).mean() + eps)


def slopes(dout: np.ndarray, cache: tuple[Any, ...], centre: bool) -> np.ndarray:
    """dx, one number of one token at a time. f(x + ih) = f(x) + ih f'(x): the imaginary part over h is the slope, unrounded."""
    n, inverse, weight = cache[:3]
    dx, h = np.zeros_like(dout), 1e-100
    for token in np.ndindex(dout.shape[:-1]):
        x = (n[token] / inverse[token]).astype(complex)  # up to its mean, which does not matter
        eps = inverse[token] ** -2 - (x * x).real.mean()
        dn = dout[token] if weight is None else dout[token] * weight
        for j in range(len(x)):
            moved = x.copy()
            moved[j] += 1j * h
            dx[(*token, j)] = (dn * normed(moved, eps, centre)).sum().imag / h
    return dx


def added(x: np.ndarray) -> np.ndarray:
    """(..., D) -> (D,), token by token."""
    total = np.zeros(x.shape[-1], dtype=x.dtype)
    for token in np.ndindex(x.shape[:-1]):
        total = total + x[token]
    return total


def layer_oracle(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    return slopes(dout, cache, centre=True), added(dout * cache[0]), added(dout) if cache[3] else None


def rms_oracle(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    return slopes(dout, cache, centre=False), None if cache[2] is None else added(dout * cache[0])


def cases(seed: int, centre: bool) -> list[tuple[Any, ...]]:
    """(dout, cache): three by hand whose n is 1 or -1; tokens far from mean 0, one of them so small that eps counts; gains that
    are not 1; with and without."""
    generator = np.random.default_rng([seed, centre])
    n, dout, gains = np.array([-1.0, -1, 1, 1]), np.array([[4.0, 0, 8, 0], [0.0, 4, 4, -8]]), np.array([1.0, 2, 3, -1])
    found: list[tuple[Any, ...]] = [
        (dout[:1], (n[None], np.array([[0.5]]), gains, *([True] if centre else []))),
        (
            dout[:, None],
            (np.array([[n], [n[[2, 0, 3, 1]]]]), np.array([[[0.5]], [[2.0]]]), gains, *([True] if centre else [])),
        ),
        (dout, (np.array([n, n[[2, 0, 3, 1]]]), np.array([[0.5], [2.0]]), *([gains, False] if centre else [None]))),
    ]
    for shape, eps, with_more in (((3, 4), 0.03, True), ((2, 3, 5), 0.2, False), ((3, 2, 7), 0.01, True)):
        x = 2.5 * generator.standard_normal(shape) + 3.0
        x[-1] *= 0.01
        y = x - x.mean(-1, keepdims=True) if centre else x
        inverse = 1.0 / np.sqrt((y * y).mean(-1, keepdims=True) + eps)
        weight = 1.5 * generator.standard_normal(shape[-1]) + 0.5
        dout = 2.0 * generator.standard_normal(shape)
        last: tuple[Any, ...] = (weight, with_more) if centre else (weight if with_more else None,)
        found.append((dout, (y * inverse, inverse, *last)))
    return found


# The formula with switches, which make the mistakes: what dx leaves out of dn, and how the rest is put together.


def dx_with(
    dn: np.ndarray,
    n: np.ndarray,
    r: np.ndarray,
    dout: np.ndarray,
    mean: bool = True,
    spread: bool = True,
    less: int = 0,
    total: bool = False,
    tokens: bool = False,
    third: Callable[..., np.ndarray] = lambda dn, dout, n: dn * n,
    sign: float = -1.0,
) -> np.ndarray:
    """(dn - mean(dn) - n mean(dn n)) r; `less` is taken from the D that the means divide by, `tokens` averages over those too."""

    def average(a: np.ndarray) -> np.ndarray:
        if tokens:
            return a.mean(keepdims=True)
        return a.sum(-1, keepdims=True) / (1 if total else a.shape[-1] - less)

    out = dn
    if mean:
        out = out - average(dn)
    if spread:
        out = out + sign * n * average(third(dn, dout, n))
    return out * r


def joined(a: np.ndarray, how: str) -> np.ndarray:
    """The tokens of a (..., D) joined as they should be, or along one axis, or not at all."""
    return a if how == "kept" else a.sum(0) if how == "one axis" else added(a)


def layer_with(gain: str = "first", r: str = "times", dweight: str = "sum", bias: bool = False, **switches: Any) -> Any:
    """A LayerNorm gradient with switches thrown."""

    def backward(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
        n, inverse, weight, has_bias = cache
        factor = {"times": inverse, "divided": 1.0 / inverse, "none": np.ones_like(inverse)}[r]
        dx = dx_with(dout * weight if gain == "first" else dout, n, factor, dout, **switches)
        dx = dx * weight if gain == "last" else dx
        shares = dout.size // dout.shape[-1] if dweight.startswith("mean") else 1
        dgain = dout * weight * n if dweight == "with gain" else dout if dweight == "without n" else dout * n
        dbias = joined(dout, dweight) / (1 if dweight == "mean, not of the bias" else shares)
        return dx, joined(dgain, dweight) / shares, dbias if has_bias or bias else None

    return backward


def rms_with(gain: str = "first", r: bool = True, dweight: str = "sum", always: bool = False, **switches: Any) -> Any:
    """An RMSNorm gradient with switches thrown."""

    def backward(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
        n, inverse, weight = cache
        gains = np.ones(dout.shape[-1]) if weight is None else weight
        switches.setdefault("mean", False)
        dn, factor = dout * gains if gain == "first" else dout, inverse if r else np.ones_like(inverse)
        dx = dx_with(dn, n, factor, dout, **switches)
        dx = dx * gains if gain == "last" else dx
        dgain = dout * gains * n if dweight == "with gain" else dout * n
        return dx, None if weight is None and not always else joined(dgain, dweight)

    return backward


def needs_a_gain(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    return rms_with()(dout * 1.0, (cache[0], cache[1], np.multiply(cache[2], 1.0)))


# Other right solutions.


def layer_by_jacobian(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    n, r, weight, has_bias = cache
    D = n.shape[-1]
    jacobian = (np.eye(D) - 1 / D - n[..., :, None] * n[..., None, :] / D) * r[..., None]  # (..., D, D)
    dx = np.einsum("...i,...ij->...j", dout * weight, jacobian)
    tokens, upstream = n.reshape(-1, D), dout.reshape(-1, D)
    return dx, np.einsum("ni,ni->i", tokens, upstream), np.ones(len(tokens)) @ upstream if has_bias else None


def layer_by_ways(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    """Through n, through the variance, through the mean, each on its own."""
    n, r, weight, has_bias = cache
    D, dn, y = n.shape[-1], dout * weight, n / r
    dvariance = (dn * y).sum(-1, keepdims=True) * -0.5 * r**3
    dcentred = dn * r + dvariance * 2 * y / D
    axes = tuple(range(dout.ndim - 1))
    dx = dcentred - dcentred.sum(-1, keepdims=True) / D
    return dx, (dout * n).sum(axes), dout.sum(axes) if has_bias else None


def layer_by_sums(dout: np.ndarray, cache: tuple[Any, ...]) -> list[np.ndarray | None]:
    n, r, weight, has_bias = cache
    D, dn = n.shape[-1], weight * dout
    total, product = dn.sum(-1)[..., None], (dn * n).sum(-1)[..., None]
    return [r / D * (D * dn - total - n * product), (n * dout).reshape(-1, D).sum(0), added(dout) if has_bias else None]


def rms_by_jacobian(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    n, r, weight = cache
    dn = dout if weight is None else weight * dout
    jacobian = (np.eye(n.shape[-1]) - n[..., :, None] * n[..., None, :] / n.shape[-1]) * r[..., None]
    dx = (dn[..., None, :] @ jacobian)[..., 0, :]
    D = n.shape[-1]
    return dx, None if weight is None else np.einsum("ni,ni->i", dout.reshape(-1, D), n.reshape(-1, D))


def rms_by_tokens(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    n, r, weight = cache
    dx, dweight = np.empty_like(dout), np.zeros(dout.shape[-1], dtype=dout.dtype)
    for token in np.ndindex(dout.shape[:-1]):
        dn = dout[token] * (1.0 if weight is None else weight)
        dx[token] = r[token] * (dn - n[token] * (dn @ n[token]) / len(dn))
        dweight += dout[token] * n[token]
    return dx, None if weight is None else dweight


def rms_by_ways(dout: np.ndarray, cache: tuple[Any, ...]) -> Gradients:
    """Through x itself, and through r: dr = sum(dn x), dr/dx = -r³ x / D."""
    n, r, weight = cache
    x, dn = n / r, dout if weight is None else dout * weight
    dr = (dn * x).sum(-1, keepdims=True)
    dx = dn * r - dr * r**3 * x / x.shape[-1]
    return dx, None if weight is None else (dout * n).sum(tuple(range(dout.ndim - 1)))


LAYER = Exercise(
    "layer_norm_backward",
    "unpack the cache; dn = dout · weight is the gradient of n. Three terms make dx, sums over the tokens the rest",
    lambda seed: cases(seed, centre=True),
    layer_oracle,
    (
        Mistake(
            "mean and spread held fixed",
            layer_with(mean=False, spread=False),
            "the mean and the spread are made of x too: x reaches the output by three ways",
        ),
        Mistake(
            "spread held fixed", layer_with(spread=False), "if one number moves, the spread moves: a way is missing"
        ),
        Mistake("mean held fixed", layer_with(mean=False), "if one number moves, the mean moves: a way is missing"),
        Mistake("gain forgotten", layer_with(gain="never"), "between n and the output stands the weight"),
        Mistake(
            "gain last",
            layer_with(gain="last"),
            "go back in order: the weight came last in the forward pass, so it comes first now, before the two means",
        ),
        Mistake("no r", layer_with(r="none"), "a token with a large spread was shrunk: its gradient is, too"),
        Mistake("divided by r", layer_with(r="divided"), "the cache holds one over the spread, not the spread"),
        Mistake("sums", layer_with(total=True), "the mean shares its move among D numbers: where is the D?"),
        Mistake("D - 1", layer_with(less=1), "the forward pass divides by D, not by D - 1"),
        Mistake("one mean for all", layer_with(tokens=True), "each token was normalized on its own"),
        Mistake(
            "weight averaged",
            layer_with(dweight="mean"),
            "a weight that serves N tokens gets N gradients: added, not averaged",
        ),
        Mistake(
            "weight averaged, bias summed",
            layer_with(dweight="mean, not of the bias"),
            "the bias gets a sum over the tokens: why should the weight get a mean?",
        ),
        Mistake(
            "dout in the third term",
            layer_with(third=lambda dn, dout, n: dout * n),
            "all three terms are made of dn: look at the last one",
        ),
        Mistake(
            "gain in its own gradient",
            layer_with(dweight="with gain"),
            "out = n · weight: the slope in the weight is n alone",
        ),
        Mistake(
            "no sum over tokens", layer_with(dweight="kept"), "all tokens share one weight: its gradient is a row (D,)"
        ),
        Mistake(
            "summed over one axis", layer_with(dweight="one axis"), "all axes but the last are tokens: none may stay"
        ),
        Mistake("weight without n", layer_with(dweight="without n"), "the weight multiplies n: its slope holds n"),
        Mistake("sign", layer_with(sign=1.0), "where the spread grows n shrinks: look at the sign of the last term"),
        Mistake("bias that was not there", layer_with(bias=True), "where there was no bias, its gradient is None"),
    ),
    (layer_by_jacobian, layer_by_ways, layer_by_sums),
)

RMS = Exercise(
    "rms_norm_backward",
    "it is LayerNorm's gradient with one way less; and the weight may be None",
    lambda seed: cases(seed, centre=False),
    rms_oracle,
    (
        Mistake("as LayerNorm", rms_with(mean=True), "no mean was subtracted: is there a way through it?"),
        Mistake("r held fixed", rms_with(spread=False), "r is made of x too: x reaches the output by two ways"),
        Mistake("gain forgotten", rms_with(gain="never"), "between n and the output stands the weight"),
        Mistake("gain last", rms_with(gain="last"), "the weight came last: go back through it first, before the mean"),
        Mistake("no r", rms_with(r=False), "a large token was shrunk: its gradient is, too"),
        Mistake("sum", rms_with(total=True), "r depends on the mean of the squares: where is the D?"),
        Mistake("one mean for all", rms_with(tokens=True), "each token was normalized on its own"),
        Mistake(
            "mean of dn", rms_with(third=lambda dn, dout, n: dn), "how r moves the loss: each dn counts with its own n"
        ),
        Mistake(
            "gain in dweight", rms_with(dweight="with gain"), "out = n · weight: the slope in the weight is n alone"
        ),
        Mistake(
            "no sum over tokens", rms_with(dweight="kept"), "all tokens share one weight: its gradient is a row (D,)"
        ),
        Mistake(
            "summed over one axis", rms_with(dweight="one axis"), "all axes but the last are tokens: none may stay"
        ),
        Mistake("sign", rms_with(sign=1.0), "where x grows r shrinks: look at the sign of the second term"),
        Mistake("a gradient for None", rms_with(always=True), "where there is no weight, its gradient is None"),
        Mistake(
            "needs a weight", needs_a_gain, "the weight may be None: then n is the output, and there is no dweight"
        ),
    ),
    (rms_by_jacobian, rms_by_tokens, rms_by_ways),
)

EXERCISES = (LAYER, RMS)
