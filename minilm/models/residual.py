"""The residual model: a neural model learns only what an n-gram misses.

    logits(w | context) = neural(w | context) + trust * log p_counted(w | context)

A softmax makes probabilities of them: p is p_counted^trust, corrected by a factor exp(neural) for every token. Where the
n-gram is right the factors can stay 1, so a neural model with a head of zeros starts as good as the n-gram. In a mixture
both models learn alone and are joined afterwards; here the neural one is trained inside the product. That is a head start
and later a burden: a neural model that would pass the n-gram alone must first take back what the n-gram says wrongly.
`trust` is one learned number, 1 at the start.

In training the n-gram must answer as if it had never seen the token that it predicts (classical/leave_one_out.py), else
the neural model learns to lean on answers that no new text will get. So `forward` takes the n-gram's answers as an
argument, and training/residual.py gives them; without it the n-gram is asked, with all its counts.

Products of experts: Hinton (2002). A neural model that corrects an n-gram: Li et al. (2022), "N-gram is back: residual learning
of neural text generation with n-gram language model".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from minilm.layers.basic import log_softmax
from minilm.models.log_linear import LEAST
from minilm.models.mixture import MixtureCache, Pair, PairConfig


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(PairConfig):
    """Both models; how far the counted one is trusted is learned and lies with the weights."""


class Residual(Pair):
    """ids (B, T) -> logits (B, T, V): neural + trust * log p_counted."""

    kind = "residual"

    def __init__(self, neural: Any, counted: Any) -> None:
        super().__init__(neural, counted, ResidualConfig)
        self.trust = nn.Parameter(torch.ones(1))

    def forward(self, ids: Tensor, cache: MixtureCache | None = None, counted: Tensor | None = None) -> Tensor:
        """logits[:, t] predict ids[:, t + 1]; `counted` (B, T, V) are log-probabilities to take for the counted model's."""
        neural = self.neural(ids, cache=cache and cache.neural)
        if counted is None:
            counted = log_softmax(self.counted(ids, cache=cache and cache.counted))
        return neural + self.trust * counted.to(neural).clamp(min=LEAST)

    def arrays(self) -> dict[str, Any]:
        """Those of a pair, and `trust`."""
        return super().arrays() | {"trust": self.trust}

    @classmethod
    def from_arrays(cls, config: PairConfig, arrays: Mapping[str, Any]) -> Self:
        """The model that these arrays came from; ValueError if a name does not fit."""
        if "trust" not in arrays:
            raise ValueError("the arrays of a residual model lack `trust`, the factor of the counted model's answers")
        model = super().from_arrays(config, {name: array for name, array in arrays.items() if name != "trust"})
        with torch.no_grad():
            model.trust.copy_(torch.as_tensor(arrays["trust"]))
        return model
