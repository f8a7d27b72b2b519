"""Parts: bricks that find their weights by name, as the modules of `layers/` do, and name their gradients alike.

    out, cache = part.forward(x, weights)            weights: {"q.weight": array, ...}
    dx, gradients = part.backward(dout, cache)       gradients: {"q.weight": array, ...}, the same names

A bigger part hands `inside(weights, "q")` to a smaller one, and collects its gradients by `outside("q", gradients)`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minilm.byhand.basic import Cache, linear, linear_backward

Weights = Mapping[str, np.ndarray]
Gradients = dict[str, np.ndarray]


class Part(NamedTuple):
    """A forward pass and the backward pass that belongs to it."""

    forward: Callable[[np.ndarray, Weights], tuple[np.ndarray, Cache]]
    backward: Callable[[np.ndarray, Cache], tuple[np.ndarray, Gradients]]


def inside(weights: Weights, name: str) -> Weights:
    """The weights of the part `name`, by the names that it knows: "q.weight" of "q" is its "weight"."""
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}


def outside(name: str, gradients: Gradients) -> Gradients:
    """The way back of `inside`: what the part `name` calls "weight" is "q.weight" for the whole."""
    return {f"{name}.{key}": value for key, value in gradients.items()}


def part_of(function: Callable[..., Any], backward: Callable[..., Any], **options: Any) -> Part:
    """A Part from a brick f(x, weight, bias, **options) whose bias may be missing."""

    def forward(x: np.ndarray, weights: Weights) -> tuple[np.ndarray, Cache]:
        return function(x, **weights, **options)

    def named_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
        dx, *gradients = backward(dout, cache)
        named = zip(("weight", "bias"), gradients, strict=False)
        return dx, {name: gradient for name, gradient in named if gradient is not None}

    return Part(forward, named_backward)


LINEAR = part_of(linear, linear_backward)
