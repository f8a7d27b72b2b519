"""The exercise of lesson 06 on layer norm: an oracle in plain Python, the formula with switches, and other right solutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# layer_norm(x, weight, bias, eps) -> as x


def loop_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """One token, one number at a time, in plain Python."""
    scales, shifts = weight.tolist(), [0.0] * len(weight) if bias is None else bias.tolist()
    out = torch.empty_like(x)
    for token in itertools.product(*map(range, x.shape[:-1])):
        numbers = x[token].tolist()
        mean = sum(numbers) / len(numbers)
        spread = math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers) + eps)
        normed = [(number - mean) / spread for number in numbers]
        out[token] = torch.tensor([n * w + b for n, w, b in zip(normed, scales, shifts, strict=True)], dtype=x.dtype)
    return out


def norm_with(
    axes: Callable[[int], tuple[int, ...]] = lambda n: (-1,),
    less: int = 0,
    centre: str = "both",
    root: bool = True,
    eps_is: str = "in the root",
    weight_is: str = "last",
    bias_is: str = "added",
) -> Any:
    """LayerNorm with switches thrown; `centre` says where the mean is taken away, `less` is taken from the number of numbers."""

    def norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
        x = x * weight if weight_is == "first" else x
        dims = axes(x.ndim)
        centred = x - x.mean(dims, keepdim=True)
        squares = (centred if centre in ("both", "in the variance") else x) ** 2
        variance = squares.sum(dims, keepdim=True) / (math.prod(x.shape[d] for d in dims) - less)
        inside, outside = {
            "in the root": (eps, 0.0),
            "outside": (0.0, eps),
            "nowhere": (0.0, 0.0),
            "fixed": (1e-5, 0.0),
        }[eps_is]
        spread = torch.sqrt(variance + inside) + outside if root else variance + inside
        out = (centred if centre in ("both", "above") else x) / spread
        if bias is not None and bias_is == "scaled":
            out = out + bias
        out = out * weight if weight_is == "last" else out
        return out + bias if bias_is == "needed" or (bias is not None and bias_is == "added") else out  # type: ignore[operator]

    return norm


def norm_without_keepdim(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Right for one token alone; for more, the shapes do not fit."""
    out = weight * (x - x.mean(-1)) / torch.sqrt(x.var(-1, unbiased=False) + eps)
    return out if bias is None else out + bias


def sum_of_squares_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """The variance is a length squared, over a number that is 1: D times too large."""
    centred = x - x.mean(-1, keepdim=True)
    out = weight * centred / torch.sqrt((centred**2).sum(-1, keepdim=True) + eps)
    return out if bias is None else out + bias


def norm_by_var(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    normalised = (x - x.mean(dim=-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps) ** 0.5
    return normalised * weight if bias is None else normalised * weight + bias


def norm_by_matrix(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Taking the mean away is a product with the matrix 1 - 1/D."""
    D = x.shape[-1]
    centred = x @ (torch.eye(D, dtype=x.dtype) - 1 / D)
    inverse = (torch.einsum("...i,...i->...", centred, centred) / D + eps).rsqrt()
    out = torch.einsum("...i,...,i->...i", centred, inverse, weight)
    return out + (torch.zeros_like(weight) if bias is None else bias)


def norm_by_moments(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """The variance as the mean of the squares less the square of the mean."""
    mean, square = x.sum(-1)[..., None] / x.shape[-1], x.pow(2).sum(-1)[..., None] / x.shape[-1]
    scale = weight / torch.sqrt(square - mean * mean + eps)
    return scale * x - scale * mean + (0 if bias is None else bias)


def norm_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Tokens far from mean 0, of different spreads, one of equal numbers; with and without bias and eps."""
    generator = Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    cases: list[tuple[Any, ...]] = [(2 * noise(3) + 3, 1 + noise(3), noise(3)), (noise(4, 5) - 2, 1 + noise(5))]
    for shape, eps in (((2, 5, 4), 0.2), ((3, 2, 7), 0.03), ((2, 3, 2, 6), 0.5)):
        x, weight, bias = 2.5 * noise(*shape) + 3, 0.5 + 1.5 * noise(shape[-1]), noise(shape[-1])
        x[-1] *= 0.05
        alike = x.clone()
        alike[0, 1] = 1.75
        cases += [(x, weight, bias), (x, weight, None), (alike, weight, bias, eps), (x, weight, None, 2 * eps)]
    return cases


NORM = Exercise(
    "layer_norm",
    "four lines: the mean of the last axis, what is left without it, the mean of its squares, and the division by a root",
    norm_inputs,
    loop_norm,
    (
        Mistake(
            "D - 1", norm_with(less=1), "the variance is a plain mean of D squares; `var` and `std` divide by less"
        ),
        Mistake(
            "eps outside", norm_with(eps_is="outside"), "eps is added to the variance, before the root is taken of it"
        ),
        Mistake(
            "std + eps",
            norm_with(less=1, eps_is="outside"),
            "two things about `std`: by what does it divide, and where can you add eps if the root has been taken already?",
        ),
        Mistake(
            "no eps",
            norm_with(eps_is="nowhere"),
            "a token whose numbers are all alike has variance 0: what saves the division?",
        ),
        Mistake("eps fixed", norm_with(eps_is="fixed"), "eps is an argument: use the one that is given"),
        Mistake(
            "all numbers",
            norm_with(axes=lambda n: tuple(range(n))),
            "each token has a mean and a variance of its own: they run over one axis only",
        ),
        Mistake(
            "each text",
            norm_with(axes=lambda n: tuple(range(1, n)) or (0,)),
            "the tokens of a text do not share their mean: what comes later would change what stood before",
        ),
        Mistake(
            "over the tokens",
            norm_with(axes=lambda n: (-2,)),
            "the mean runs over the D numbers of a token, which is the last axis",
        ),
        Mistake(
            "over all tokens",
            norm_with(axes=lambda n: tuple(range(n - 1)) or (0,)),
            "that is batch norm, where the tokens share a mean for each number: here each token is on its own",
        ),
        Mistake(
            "first axis",
            norm_with(axes=lambda n: (0,)),
            "axis 0 is the numbers of a token only if there is one token: count from the end, -1",
        ),
        Mistake(
            "second axis",
            norm_with(axes=lambda n: (1,)),
            "there may be any number of axes before the last: count from the end, -1",
        ),
        Mistake(
            "third axis",
            norm_with(axes=lambda n: (2,)),
            "axis 2 is the last one of three, but there may be more or fewer: count from the end, -1",
        ),
        Mistake(
            "mean stays",
            norm_with(centre="in the variance"),
            "the result should have mean 0 before weight and bias: what must be taken away from x?",
        ),
        Mistake(
            "mean in the variance",
            norm_with(centre="above"),
            "the variance is the mean square of what is left when the mean has been taken away",
        ),
        Mistake(
            "no keepdim",
            norm_without_keepdim,
            "one mean for each token must stand against its D numbers: keepdim=True leaves an axis of length 1 for that",
        ),
        Mistake("RMSNorm", norm_with(centre="nowhere"), "there is no mean in your formula; that is RMSNorm"),
        Mistake("no root", norm_with(root=False), "the variance is in squares: take its root before you divide by it"),
        Mistake("sum of squares", sum_of_squares_norm, "the variance is the mean of the squares, not their sum"),
        Mistake(
            "weight first",
            norm_with(weight_is="first"),
            "normalise x as it comes; the weight scales what came out of that",
        ),
        Mistake("no weight", norm_with(weight_is="nowhere"), "each of the D numbers has a weight that scales it"),
        Mistake("bias scaled", norm_with(bias_is="scaled"), "first the weight, then the bias: the bias is not scaled"),
        Mistake("no bias", norm_with(bias_is="nowhere"), "where there is a bias, it is added at the end"),
        Mistake("bias needed", norm_with(bias_is="needed"), "the bias may be None: then nothing is added"),
    ),
    (norm_by_var, norm_by_matrix, norm_by_moments),
    differentiable=True,
)

EXERCISES = (NORM,)
