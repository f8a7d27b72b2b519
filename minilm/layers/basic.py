"""The smallest bricks: activations, softmax, norms, dropout, and the modules that hold their weights.

Every function takes its weights as arguments and returns a new tensor; every module is a few lines that keep the weights
and call the function. Nothing here knows what a transformer is.
"""

import math

import torch
from torch import Tensor, nn


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Turn scores into probabilities along `dim`: exp(x_i) / sum_j exp(x_j).

    The maximum is subtracted first, as a constant. It cancels in the fraction, and exp can no longer overflow.

    >>> softmax(torch.tensor([0.0, math.log(3.0)]))
    tensor([0.2500, 0.7500])
    """
    exponentials = torch.exp(x - x.detach().amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)) in nats, without ever taking the logarithm of a rounded zero: x_i - log sum_j exp(x_j)."""
    shifted = x - x.detach().amax(dim, keepdim=True)
    return shifted - torch.log(torch.exp(shifted).sum(dim, keepdim=True))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), written with tanh so that no input overflows."""
    return 0.5 * (1.0 + torch.tanh(0.5 * x))


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element."""
    return torch.relu(x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish (Elfwing et al. 2017)."""
    return x * sigmoid(x)


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x), Phi being the normal distribution function (Hendrycks and Gimpel 2016). The exact form, as in BERT."""
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by a tanh, as in GPT-2. It differs from the exact form by up to 4.7e-4, so a checkpoint must name its variant."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1.0 + torch.tanh(inner))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise each token of x (..., D) to mean 0 and variance 1, then scale and shift (Ba et al. 2016).

    The variance divides by D, not by D - 1. eps keeps a constant row finite.
    """
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    normalised = centred * torch.rsqrt(variance + eps) * weight
    return normalised if bias is None else normalised + bias


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Divide each token of x (..., D) by its root mean square, then scale (Zhang and Sennrich 2019). No mean is subtracted."""
    normalised = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)
    return normalised if weight is None else normalised * weight


def dropout(x: Tensor, p: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """While training, set each element to 0 with probability p and scale the rest by 1 / (1 - p) (Srivastava et al. 2014).

    The scaling keeps the expected value, so that nothing has to change at evaluation.
    """
    if not training or p == 0.0:
        return x
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= p
    return x * keep / (1.0 - p)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., I) times weight (O, I) transposed, plus bias (O,): (..., O)."""
    y = x @ weight.mT
    return y if bias is None else y + bias


class Linear(nn.Module):
    """(..., I) -> (..., O). Weights start normal with standard deviation `std`, the bias at zero."""

    def __init__(self, d_in: int, d_out: int, bias: bool = True, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_out, d_in) * std)
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """ids (...) -> rows of a table (..., D). Row i is all the model knows of token i before it reads the neighbours."""

    def __init__(self, n_rows: int, d_model: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_rows, d_model) * std)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids]


class LayerNorm(nn.Module):
    """`layer_norm` with its scale (starting at 1) and its shift (starting at 0)."""

    def __init__(self, d_model: int, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """`rms_norm` with its scale, starting at 1."""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Dropout(nn.Module):
    """`dropout` that is active in training mode only."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
