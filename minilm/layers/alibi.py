"""ALiBi: attention with linear biases (Press et al. 2021, "Train short, test long"). No position is ever told.

Instead, each key loses score in proportion to its distance: score - slope * (t - s). Every head has its own slope, so some
heads see only the last few tokens and others far back. A distance longer than any in training is only a bit more of the
same, so the model may read longer texts than it was trained on. Use: GPT(config, attention=attention_with(alibi)).
"""

import torch
from torch import Tensor


def alibi_slopes(n_heads: int) -> Tensor:
    """The slopes (H,) in float64: head h = 1 ... H has 2^(-8h/H), from nearly 1 down to 1/256.

    Where H is no power of two, the paper takes the slopes of the power P below, and fills up with every second slope of 2P.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    if n_heads < 1:
        raise ValueError(f"alibi_slopes: there must be at least 1 head, got {n_heads}")

    def geometric(n: int) -> Tensor:
        return 2.0 ** (-8.0 * torch.arange(1, n + 1, dtype=torch.float64) / n)

    power = 1 << n_heads.bit_length() - 1
    return torch.cat([geometric(power), geometric(2 * power)[0::2]])[:n_heads]


def alibi(scores: Tensor) -> Tensor:
    """scores (B, H, T, S) -> scores - slope * distance; made for causal masks: a key ahead would win by its distance.

    The last query stands at the last key, as in `causal_mask`. Where a row of the batch is shorter, all its distances are
    wrong by one constant, which the softmax does not see. A soft cap would see it: among several changes ALiBi is the last.
    """
    _, n_heads, n_queries, n_keys = scores.shape
    keys = torch.arange(n_keys, device=scores.device)
    distance = keys[n_keys - n_queries :, None] - keys  # (T, S)
    bias = alibi_slopes(n_heads).to(scores.device)[:, None, None] * distance  # (H, T, S)
    return scores - bias.to(scores.dtype)
