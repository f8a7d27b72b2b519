"""QK-norm: queries and keys of one length, so that no head can shout (Henry et al. 2020).

A score is |q| |k| cos(angle). Without a bound on the lengths a head can make its scores ever larger, until the softmax is a
one and zeros and its gradient vanishes. Normalised, only the angle counts.
"""

import math

from torch import Tensor

from minilm.layers.attention import AttentionFunction
from minilm.layers.basic import rms_norm


def with_qk_norm(attention: AttentionFunction, scale: float | None = None) -> AttentionFunction:
    """The same attention, with scores scale * cos(angle between q and k); scale is sqrt(K) if not given.

    It normalises after the rotary positions. As they keep lengths, the order does not matter.
    """

    def normed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        size = math.sqrt(q.shape[-1])  # of a vector that rms_norm has made: q k^T / sqrt(K) = sqrt(K) * cos
        factor = 1.0 if scale is None else scale / size
        return attention(rms_norm(q) * factor, rms_norm(k), v, mask)

    return normed
