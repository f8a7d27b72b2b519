"""The smallest bricks of `layers/basic.py` in numpy, each with its backward pass derived by hand.

    out, cache = f(x, weight)                forward: the result, and what the backward pass will want to know
    dx, dweight = f_backward(dout, cache)    backward: from the gradient of out to the gradients of what went in

`dout`, short for dL/dout, has the shape of out: it says how the loss L moves when each number of out moves. The chain rule
sums over all the ways on which an input reaches the loss:

    dL/dx_j = sum_i dL/dout_i · dout_i/dx_j

Every docstring of a backward pass is that sum, worked out. A gradient always has the shape of what it is the gradient of.
All is computed in the dtype that comes in, and no argument is changed.
"""

import math
from typing import Any

import numpy as np

Cache = tuple[Any, ...]


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[np.ndarray, Cache]:
    """x (..., I) times weight (O, I) transposed, plus bias (O,): (..., O)."""
    out = x @ weight.T
    return (out if bias is None else out + bias), (x, weight, bias is not None)


def linear_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """dout (..., O) -> dx (..., I), dweight (O, I), dbias (O,) or None.

    For one token, out_o = sum_i w_oi x_i + b_o. So dout_o/dx_i = w_oi, dout_o/dw_oi = x_i and dout_o/db_o = 1:
    dx_i = sum_o dout_o w_oi. All tokens use the same weights, so their parts add up: dw_oi = sum over tokens of dout_o x_i.

    >>> out, cache = linear(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]]))
    >>> linear_backward(np.array([[1.0], [10.0]]), cache)[1]  # 1 · [1 2] + 10 · [3 4]
    array([[31., 42.]])
    """
    x, weight, has_bias = cache
    tokens, gradients = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])  # (N, I), (N, O)
    return dout @ weight, gradients.T @ tokens, gradients.sum(0) if has_bias else None


def embedding(ids: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, Cache]:
    """ids (...) -> rows of a table weight (V, D): (..., D). ValueError for an id that has no row."""
    if ids.size and (ids.min() < 0 or ids.max() >= len(weight)):
        raise ValueError(f"ids go from {ids.min()} to {ids.max()}, but the table has the rows 0 to {len(weight) - 1}")
    return weight[ids], (ids, weight)


def embedding_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dout (..., D) -> dweight (V, D).

    out_t = w[ids_t] is a linear layer whose input is 1 at place ids_t and 0 elsewhere. So row v gets the sum of dout_t over
    all places t with ids_t = v: added up for a token that occurs twice, 0 for a token that does not occur.

    >>> out, cache = embedding(np.array([2, 0, 2]), np.zeros((3, 1)))
    >>> embedding_backward(np.array([[1.0], [10.0], [100.0]]), cache).T
    array([[ 10.,   0., 101.]])
    """
    ids, weight = cache
    dweight = np.zeros_like(weight)
    np.add.at(dweight, ids, dout)  # dweight[ids] += dout would keep only the last of equal ids
    return dweight


def dropout(x: np.ndarray, p: float, keep: np.ndarray | None) -> tuple[np.ndarray, Cache]:
    """x · keep / (1 - p): the kept elements grow so that the expected value stays. keep None: nothing is dropped.

    keep is boolean, of x's shape, True with probability 1 - p: the caller draws it, `generator.random(x.shape) >= p`.
    """
    scale = 1.0 if keep is None else keep.astype(x.dtype) / (1.0 - p)
    return x * scale, (scale,)


def dropout_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """out_i = s_i x_i with s_i = 0 or 1 / (1 - p), drawn in the forward pass: dx_i = dout_i s_i with the same s."""
    (scale,) = cache
    return dout * scale


def exp(x: np.ndarray) -> np.ndarray:
    """e^x for x <= 0, and exactly 0 where even its square would be too small for the dtype (below e^-354 in float64).

    Beside a 1 such a number is nothing, and a true 0 can be multiplied further without an underflow.
    """
    lowest = 0.5 * math.log(np.finfo(x.dtype).tiny)
    return np.exp(np.maximum(x, lowest)) * (x > lowest)


def softmax(x: np.ndarray, dim: int = -1) -> tuple[np.ndarray, Cache]:
    """Turn scores into probabilities along `dim`: p_i = exp(x_i) / sum_j exp(x_j). The maximum is subtracted first."""
    exponentials = exp(x - x.max(dim, keepdims=True))
    p = exponentials / exponentials.sum(dim, keepdims=True)
    return p, (p, dim)


def softmax_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx_j = p_j (dout_j - sum_i p_i dout_i).

    By the quotient rule dp_i/dx_j = p_i (1 - p_j) if i = j, else -p_i p_j: every score moves every probability. The chain
    rule gives dx_j = p_j dout_j - sum_i dout_i p_i p_j. If all dout are equal dx is 0, as the p always sum to 1.

    >>> p, cache = softmax(np.log(np.array([1.0, 3.0])))  # 1/4 and 3/4
    >>> softmax_backward(np.array([4.0, 8.0]), cache)  # 1/4 (4 - 7) and 3/4 (8 - 7)
    array([-0.75,  0.75])
    """
    p, dim = cache
    return p * (dout - (p * dout).sum(dim, keepdims=True))


def log_softmax(x: np.ndarray, dim: int = -1) -> tuple[np.ndarray, Cache]:
    """log(softmax(x)) in nats: x_i - log sum_j exp(x_j), which never takes the logarithm of a rounded zero."""
    shifted = x - x.max(dim, keepdims=True)
    out = shifted - np.log(exp(shifted).sum(dim, keepdims=True))
    return out, (out, dim)


def log_softmax_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dx_j = dout_j - p_j sum_i dout_i.

    d out_i/dx_j = [i = j] - p_j, because the derivative of log sum_k exp(x_k) by x_j is exp(x_j) / sum_k exp(x_k) = p_j.
    """
    out, dim = cache
    return dout - exp(out) * dout.sum(dim, keepdims=True)


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """n = (x - mean) / sqrt(variance + eps) for each token of x (..., D); out = n · weight + bias."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1.0 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)  # (..., 1)
    n = centred * inverse
    out = n * weight
    return (out if bias is None else out + bias), (n, inverse, weight, bias is not None)


def layer_norm_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """dx = (dn - mean(dn) - n · mean(dn · n)) · r, with dn = dout · weight and r = 1 / sqrt(variance + eps).

    x_j reaches n_i = (x_i - m) r in three ways: itself, through m (dm/dx_j = 1 / D) and through r (dr/dx_j = -r² n_j / D):
    dn_i/dx_j = r ([i = j] - 1 / D - n_i n_j / D). The sum over i makes the two means. weight and bias serve all tokens.

    >>> out, cache = layer_norm(np.array([[0.0, 0.0, 4.0, 4.0]]), np.ones(4), eps=0.0)  # n = -1 -1 1 1, r = 1/2
    >>> layer_norm_backward(np.array([[1.0, 0.0, 0.0, 0.0]]), cache)[0]
    array([[ 0.25, -0.25,  0.  ,  0.  ]])
    """
    n, inverse, weight, has_bias = cache
    dn = dout * weight
    dx = (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True)) * inverse
    return dx, sum_tokens(dout * n), sum_tokens(dout) if has_bias else None


def rms_norm(x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-5) -> tuple[np.ndarray, Cache]:
    """n = x / sqrt(mean(x²) + eps) for each token of x (..., D); out = n · weight. No mean is subtracted."""
    inverse = 1.0 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)  # (..., 1)
    n = x * inverse
    return (n if weight is None else n * weight), (n, inverse, weight)


def rms_norm_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray | None]:
    """dx = (dn - n · mean(dn · n)) · r: as in LayerNorm, without the way through the mean."""
    n, inverse, weight = cache
    dn = dout if weight is None else dout * weight
    dx = (dn - n * (dn * n).mean(-1, keepdims=True)) * inverse
    return dx, None if weight is None else sum_tokens(dout * n)


def sum_tokens(x: np.ndarray) -> np.ndarray:
    """(..., D) -> (D,): the gradient of a vector that was used for every token is the sum over the tokens."""
    return x.reshape(-1, x.shape[-1]).sum(0)


# ---- activations: out_i = f(x_i), each number on its own, so the chain rule has one term, dx_i = dout_i f'(x_i)


def sigmoid(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """s = 1 / (1 + exp(-x)), written with tanh so that no input overflows."""
    s = 0.5 * (1.0 + np.tanh(0.5 * x))
    return s, (s,)


def sigmoid_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """s' = exp(-x) / (1 + exp(-x))² = s (1 - s), for 1 - s = exp(-x) / (1 + exp(-x))."""
    (s,) = cache
    return dout * s * (1.0 - s)


def silu(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x · sigmoid(x)."""
    s, _ = sigmoid(x)
    return x * s, (x, s)


def silu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """Product rule: (x s)' = s + x s' = s + x s (1 - s)."""
    x, s = cache
    return dout * s * (1.0 + x * (1.0 - s))


def gelu(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x · Phi(x), the exact form; Phi(x) = (1 + erf(x / sqrt(2))) / 2 is the normal distribution function."""
    phi = 0.5 * (1.0 + erf(x / math.sqrt(2.0)))
    return x * phi, (x, phi)


def gelu_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """(x Phi(x))' = Phi(x) + x · exp(-x² / 2) / sqrt(2 pi): the slope of a distribution function is its bell curve."""
    x, phi = cache
    bell = exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return dout * (phi + x * bell)


def gelu_tanh(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x³): GPT-2's variant, up to 4.7e-4 off the exact one."""
    t = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))
    return 0.5 * x * (1.0 + t), (x, t)


def gelu_tanh_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """(x (1 + t) / 2)' = (1 + t) / 2 + x t' / 2, where tanh' = 1 - tanh²: t' = (1 - t²) sqrt(2 / pi) (1 + 3 · 0.044715 x²)."""
    x, t = cache
    dt = (1.0 - t * t) * math.sqrt(2.0 / math.pi) * (1.0 + 3 * 0.044715 * x * x)
    return dout * 0.5 * (1.0 + t + x * dt)


def relu_squared(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """max(x, 0)² (So et al. 2021)."""
    positive = np.maximum(x, 0)
    return positive * positive, (positive,)


def relu_squared_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """(x²)' = 2 x where x > 0, else 0; the two meet at 0 without a kink."""
    (positive,) = cache
    return dout * 2.0 * positive


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, element by element: numpy has none, Python's `math` has."""
    return np.array([math.erf(value) for value in x.ravel().tolist()], x.dtype).reshape(x.shape)
