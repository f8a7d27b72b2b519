"""From scores to a token: temperature, top-k, top-p and the draw, each a pure function on logits (B, V).

A filter sets the logits it drops to -inf, so filters can follow one another in any number. `Sampler` applies them in
this order: temperature, top-k, top-p. Ties go to the lower id, on every device.
"""

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.layers.basic import softmax


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """(B, V) -> (B, V): divide by the temperature. Below 1 the likely tokens gain, above 1 the unlikely ones.

    The maximum is subtracted first: it changes no probability, and a tiny temperature cannot overflow.
    """
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) -> (B, V): keep exactly the k largest of each row (Fan et al. 2018), or all where k >= V.

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), k=2)
    tensor([[-inf, 3., 2., -inf]])
    """
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return logits.scatter(-1, order[:, k:], -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): keep the smallest set of tokens whose probability is at least p (Holtzman et al. 2020).

    In order of falling probability a token stays if those before it have less than p together: the token that crosses p
    stays, and the likeliest always does. With probabilities 0.5, 0.3, 0.2 and p = 0.6 the first two stay.
    """
    if p >= 1:
        return logits  # a sum that rounds to 1 too early must not cost the rarest tokens their chance
    order = logits.argsort(dim=-1, descending=True, stable=True)
    probabilities = softmax(logits.gather(-1, order))
    before = torch.zeros_like(probabilities)
    before[:, 1:] = probabilities.cumsum(-1)[:, :-1]
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -torch.inf)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """probabilities (B, V), uniforms (B,) from [0, 1) -> ids (B,): the inverse transform.

    Lay the probabilities side by side on a line; the id is that of the piece into which the uniform falls. With
    probabilities 0.2, 0.5, 0.3 and uniform 0.69 it is 1. A token of probability 0 has no piece and is never drawn.
    """
    ends = probabilities.cumsum(-1)  # (B, V)
    points = uniforms[:, None] * ends[:, -1:]  # the last end may miss 1 by rounding
    return torch.searchsorted(ends, points, right=True)[:, 0]


class Sampler:
    """logits (B, V) -> ids (B,), as the config says. All randomness comes from the generator, one uniform a row.

    >>> sampler = Sampler(SampleConfig(temperature=0.8, top_k=50), torch.Generator().manual_seed(7))
    """

    def __init__(self, config: SampleConfig, generator: torch.Generator | None = None) -> None:
        if generator is None and config.temperature > 0:
            raise ValueError("sampling needs a generator: pass torch.Generator().manual_seed(SEED), or temperature 0")
        self.config, self.generator = config, generator

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits.cpu().double()  # a seed gives the same tokens on every device that computes the same logits
        if not bool(logits.amax(-1).isfinite().all()):
            raise ValueError("the model's logits are not finite: its training has diverged, take an earlier checkpoint")
        if self.config.temperature == 0:
            return logits.argmax(-1)
        logits = apply_temperature(logits, self.config.temperature)
        if self.config.top_k is not None:
            logits = keep_top_k(logits, self.config.top_k)
        if self.config.top_p is not None:
            logits = keep_top_p(logits, self.config.top_p)
        uniforms = torch.rand(len(logits), generator=self.generator, dtype=torch.double)
        return draw(softmax(logits), uniforms)
