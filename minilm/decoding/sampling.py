"""From scores to a token, in this order, each step a pure function on logits (B, V):

    penalties     repetition, presence, frequency       penalties.py
    processors    bias, bad words, constraints, ...     processors.py
    temperature   0 takes the likeliest and ends here
    filters       top-k, top-p, min-p, typical          filters.py
    the draw      one uniform a row

`distribution` is all but the draw, `sample` is all, and `Sampler` is `sample` with a generator.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.decoding.filters import keep_min_p, keep_top_k, keep_top_p, keep_typical
from minilm.decoding.penalties import penalise
from minilm.decoding.processors import Processor, Texts
from minilm.layers.basic import softmax


def sample(
    logits: Tensor,
    config: SampleConfig,
    uniforms: Tensor | None = None,
    texts: Texts = (),
    processors: Sequence[Processor] = (),
) -> Tensor:
    """logits (B, V), uniforms (B,) from [0, 1), texts: for each row all ids so far, prompt included -> ids (B,).

    Temperature 0 needs no uniforms. Texts may be left out where nothing reads them. No row depends on another.
    """
    logits = judge(logits, config, texts, processors)
    if config.temperature == 0:
        return logits.argmax(-1)
    if uniforms is None:
        raise ValueError("sampling needs a uniform from [0, 1) for each row, or temperature 0")
    return draw(softmax(filtered(logits, config)), uniforms)


def distribution(
    logits: Tensor, config: SampleConfig, texts: Texts = (), processors: Sequence[Processor] = ()
) -> Tensor:
    """logits (B, V) -> probabilities (B, V) in float64 on the CPU: what `sample` draws from.

    At temperature 0 one token has it all: the likeliest after penalties and processors, of ties the first.
    """
    logits = judge(logits, config, texts, processors)
    if config.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    return softmax(filtered(logits, config))


def judge(logits: Tensor, config: SampleConfig, texts: Texts, processors: Sequence[Processor]) -> Tensor:
    """logits (B, V) -> (B, V) in float64 on the CPU: after penalties and processors."""
    logits = logits.cpu().double()  # a seed gives the same tokens on every device that computes the same logits
    if not largest_are_finite(logits):
        raise ValueError("the model's logits are not finite: its training has diverged, take an earlier checkpoint")
    judged = penalise(logits, texts, config)
    for processor in processors:
        judged = processor(judged, texts)
    if (judged is not logits or processors) and not largest_are_finite(judged):
        raise ValueError("no token can be chosen: penalties and processors leave a row without a largest finite logit")
    return judged


def largest_are_finite(logits: Tensor) -> bool:
    """Whether the largest logit of each row (B, V) is a finite number. In Python: for few numbers, calls of torch are slow."""
    return all(map(math.isfinite, logits.amax(-1).tolist()))


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """(B, V) -> (B, V): divide by the temperature. Below 1 the likely tokens gain, above 1 the unlikely ones.

    The maximum is subtracted first: it changes no probability, and a tiny temperature cannot overflow.
    """
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def filtered(logits: Tensor, config: SampleConfig) -> Tensor:
    """(B, V) -> (B, V): temperature, then top-k, top-p, min-p, typical, those that the config sets."""
    logits = apply_temperature(logits, config.temperature)
    if config.top_k is not None:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p is not None:
        logits = keep_min_p(logits, config.min_p)
    if config.typical_p is not None:
        logits = keep_typical(logits, config.typical_p)
    return logits


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """probabilities (B, V), uniforms (B,) from [0, 1) -> ids (B,): the inverse transform.

    Lay the probabilities side by side on a line; the id is that of the piece into which the uniform falls. With
    probabilities 0.2, 0.5, 0.3 and uniform 0.69 it is 1. A token of probability 0 has no piece and is never drawn.
    """
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise ValueError("a uniform lies outside [0, 1): take them from torch.rand")
    ends = probabilities.double().cumsum(-1)  # (B, V)
    points = uniforms.double()[:, None] * ends[:, -1:]  # the last end may miss 1 by rounding
    return torch.searchsorted(ends, points, right=True)[:, 0]


class Sampler:
    """logits (B, V), texts -> ids (B,), as the config says. All randomness is the generator's, one uniform a row.

    >>> sampler = Sampler(SampleConfig(temperature=0.8, top_k=50), torch.Generator().manual_seed(7))
    >>> ids = sampler(logits, texts)
    """

    def __init__(
        self, config: SampleConfig, generator: torch.Generator | None = None, processors: Sequence[Processor] = ()
    ) -> None:
        if generator is None and config.temperature > 0:
            raise ValueError("sampling needs a generator: pass torch.Generator().manual_seed(SEED), or temperature 0")
        self.config, self.generator, self.processors = config, generator, tuple(processors)

    def __call__(self, logits: Tensor, texts: Texts = ()) -> Tensor:
        uniforms = None
        if self.config.temperature > 0:
            uniforms = torch.rand(len(logits), generator=self.generator, dtype=torch.double)
        return sample(logits, self.config, uniforms, texts, self.processors)
