"""The exercise of lesson 22 on gradients: those of the two narrow factors. An oracle in loops, mistakes, alternatives."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Cache = tuple[Any, ...]
Gradients = tuple[np.ndarray, ...]

# lora_backward(dout, cache) -> dx, dA, dB; the cache is (x, A, B, scale, h)


def way_by_way(dout: np.ndarray, cache: Cache) -> Gradients:
    """Every way from an input i through a direction r to an output o: what it carries, is added to all on it."""
    x, A, B, scale, _ = cache
    dx, dA, dB = np.zeros_like(x), np.zeros_like(A), np.zeros_like(B)
    for token in np.ndindex(x.shape[:-1]):
        for o, r in np.ndindex(B.shape):
            for i in range(x.shape[-1]):
                moved = scale * dout[token][o]
                dx[token][i] += moved * B[o, r] * A[r, i]
                dA[r, i] += moved * B[o, r] * x[token][i]
                dB[o, r] += moved * A[r, i] * x[token][i]
    return dx, dA, dB


def changed(change: Callable[..., Any]) -> Callable[..., Any]:
    """The right gradients as change(dout, cache, dx, dA, dB) makes them wrong."""
    return lambda dout, cache: change(dout, cache, *way_by_way(dout, cache))


def rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def in_steps(
    scale_out: bool = True,
    back: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = lambda d, A, B: d @ B,
    join: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda d, x: rows(d).T @ rows(x),
) -> Any:
    """Back through B, then through A, as the chain rule goes; its parts make mistakes."""

    def backward(dout: np.ndarray, cache: Cache) -> Gradients:
        x, A, B, scale, h = cache
        d = scale * dout if scale_out else dout
        dh = back(d, A, B)
        return dh @ A, join(dh, x), join(d, h)

    return backward


def by_matrix(dout: np.ndarray, cache: Cache) -> Gradients:
    """The gradient of the whole matrix s B A first, and from it those of its factors."""
    x, A, B, scale, _ = cache
    dW = np.einsum("no,ni->oi", rows(dout), rows(x))
    return dout @ (scale * B @ A), scale * B.T @ dW, scale * dW @ A.T


def by_einsum(dout: np.ndarray, cache: Cache) -> Gradients:
    x, A, B, scale, h = cache
    d, tokens, narrow = rows(dout), rows(x), rows(h)
    dx = np.einsum("...o,or,ri->...i", dout, B, A)
    return scale * dx, scale * np.einsum("no,or,ni->ri", d, B, tokens), scale * np.einsum("no,nr->or", d, narrow)


def gradient_inputs(seed: int) -> list[tuple[np.ndarray, Cache]]:
    """By hand; rectangles with tokens along no, one and two axes; a square; all sizes alike; a B that is still 0."""
    draw = np.random.default_rng(seed).standard_normal

    def case(x: np.ndarray, A: np.ndarray, B: np.ndarray, scale: float, dout: Any = None) -> tuple[np.ndarray, Cache]:
        upstream = draw((*x.shape[:-1], len(B))) if dout is None else np.array(dout)
        return upstream, (x, A, B, scale, x @ A.T)

    return [
        case(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[5.0], [-1.0], [2.0]]), 0.5, [[1.0, 10.0, 4.0]]),
        case(draw(5), draw((2, 5)), draw((3, 2)), 1.5),
        case(draw((6, 4)), draw((3, 4)), draw((4, 3)), 0.7),
        case(draw((3, 3)), draw((3, 3)), draw((3, 3)), 2.5),
        case(draw((2, 3, 5)), draw((2, 5)), draw((7, 2)), 3.0),
        case(draw((4, 2, 3)), draw((2, 3)), np.zeros((5, 2)), 1.3),
    ]


GRADIENTS = Exercise(
    "lora_backward",
    "two linear layers in a row: go back through B first. What it hands on, dh, is the dout of A; and where is the scale?",
    gradient_inputs,
    way_by_way,
    (
        Mistake("scale forgotten", in_steps(scale_out=False), "out = scale · B h: the scale is on every way back"),
        Mistake(
            "scale missing in dB",
            changed(lambda dout, cache, dx, dA, dB: (dx, dA, dB / cache[3])),
            "the scale stands between B h and the output: B's gradient holds it, too",
        ),
        Mistake(
            "scale in dB only",
            changed(lambda dout, cache, dx, dA, dB: (dx / cache[3], dA / cache[3], dB)),
            "dB has its scale; what goes on to A and x has passed the same place",
        ),
        Mistake(
            "scale twice",
            changed(lambda dout, cache, dx, dA, dB: (dx * cache[3], dA * cache[3], dB)),
            "if dout was multiplied by the scale, it must not come in again on the way to A",
        ),
        Mistake(
            "dh for dx",
            changed(lambda dout, cache, dx, dA, dB: (cache[3] * dout @ cache[2], dA, dB)),
            "that is dh, with R numbers: one more step leads from h back to x",
        ),
        Mistake(
            "A for B",
            in_steps(back=lambda d, A, B: d @ A.T),
            "dout has O numbers, and B led from R to O: the way back goes through B",
        ),
        Mistake(
            "B turned",
            in_steps(back=lambda d, A, B: d @ B.T),
            "the way forward was h @ B.T, so the way back is dout @ B",
        ),
        Mistake(
            "A turned",
            changed(lambda dout, cache, dx, dA, dB: (cache[3] * dout @ cache[2] @ cache[1].T, dA, dB)),
            "the way forward was x @ A.T, so the way back is dh @ A",
        ),
        Mistake(
            "B left out of dA",
            changed(lambda dout, cache, dx, dA, dB: (dx, cache[3] * rows(dout).T @ rows(cache[0]), dB)),
            "A reaches the output through B only: its gradient is made of dh, not of dout",
        ),
        Mistake(
            "x for h in dB",
            changed(lambda dout, cache, dx, dA, dB: (dx, dA, cache[3] * rows(dout).T @ rows(cache[0]))),
            "what B multiplied was h, not x",
        ),
        Mistake(
            "h for x in dA",
            changed(lambda dout, cache, dx, dA, dB: (dx, rows(cache[3] * dout @ cache[2]).T @ rows(cache[4]), dB)),
            "what A multiplied was x: h came out of it",
        ),
        Mistake(
            "dA transposed",
            changed(lambda dout, cache, dx, dA, dB: (dx, dA.T, dB)),
            "a gradient has the shape of what it belongs to: which shape has A?",
        ),
        Mistake(
            "dB transposed",
            changed(lambda dout, cache, dx, dA, dB: (dx, dA, dB.T)),
            "a gradient has the shape of what it belongs to: which shape has B?",
        ),
        Mistake(
            "both transposed",
            changed(lambda dout, cache, dx, dA, dB: (dx, dA.T, dB.T)),
            "each gradient has the shape of its matrix: turn both products round",
        ),
        Mistake(
            "dB before dA",
            changed(lambda dout, cache, dx, dA, dB: (dx, dB, dA)),
            "the order is that of the forward pass: x, A, B",
        ),
        Mistake(
            "dx last",
            changed(lambda dout, cache, dx, dA, dB: (dA, dB, dx)),
            "the order is that of the forward pass: x comes first",
        ),
        Mistake(
            "dx left out",
            changed(lambda dout, cache, dx, dA, dB: (dA, dB)),
            "x is the output of the layer below, which needs its gradient: three of them",
        ),
        Mistake(
            "averaged",
            changed(
                lambda dout, cache, dx, dA, dB: (
                    dx,
                    dA / (dout.size // dout.shape[-1]),
                    dB / (dout.size // dout.shape[-1]),
                )
            ),
            "if the loss is a mean, dout was divided already where that mean was taken: tokens add up here",
        ),
        Mistake(
            "two axes only",
            in_steps(join=lambda d, x: np.einsum("no,ni->oi", d, x)),
            "x may come as (B, T, I), or as one token (I,): reshape(-1, ...) makes one row of each token",
        ),
        Mistake(
            "a gradient for each text",
            in_steps(join=lambda d, x: np.swapaxes(np.atleast_2d(d), -1, -2) @ np.atleast_2d(x)),
            "all texts share one A and one B: their parts are added up",
        ),
        Mistake(
            "dout ignored",
            lambda dout, cache: way_by_way(np.ones_like(dout), cache),
            "not every output moves the loss alike: how much each does, stands in dout",
        ),
        Mistake(
            "tokens in one row",
            changed(lambda dout, cache, dx, dA, dB: (rows(dx), dA, dB)),
            "dx has the shape of x: the axes of the tokens that you made one of have to come back",
        ),
    ),
    (in_steps(), by_matrix, by_einsum),
)

EXERCISES = (GRADIENTS,)
