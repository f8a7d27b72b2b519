"""Which tokens stay in the draw: top-k, top-p, min-p and locally typical, each a pure function on logits (B, V).

A filter sets the logits it drops to -inf and leaves the others as they are, so filters can follow one another in any
number; each sees the probabilities of what the one before has kept. It decides in float64, whatever the type of the
logits: in bfloat16 a running sum of probabilities stops growing long before it is 1. At least one token always stays.
Ties go to the lower id, on every device. The ranges of k and p are checked by `SampleConfig`.
"""

import torch
from torch import Tensor

from minilm.layers.basic import log_softmax, softmax


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) -> (B, V): keep exactly the k largest of each row (Fan et al. 2018), or all where k >= V.

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), k=2)
    tensor([[-inf, 3., 2., -inf]])
    """
    return logits.scatter(-1, descending(logits)[:, k:], -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): keep the smallest set of tokens whose probability is at least p (Holtzman et al. 2020).

    In order of falling probability a token stays if those before it have less than p together: the token that crosses p
    stays, and the likeliest always does. With probabilities 0.5, 0.3, 0.2 and p = 0.6 the first two stay.
    """
    return keep_first(logits, descending(logits), p)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """(B, V) -> (B, V): keep tokens with at least min_p times the largest probability of the row (Nguyen et al. 2024).

    Where the model is sure few tokens stay, and where it hesitates many. With probabilities 0.6, 0.3, 0.1 and
    min_p = 0.2 the bound is 0.12 and the first two stay.
    """
    scores = logits.double()
    parts = torch.exp(scores - scores.amax(-1, keepdim=True))  # of the largest probability: the sum cancels
    return logits.masked_fill(parts < min_p, -torch.inf)


def keep_typical(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): keep the most typical tokens, as many as it takes for probability p (Meister et al. 2022).

    A token is typical if its surprise -log P is near the mean surprise of the row, its entropy. The likeliest token may
    go: people seldom write what says nothing. With probabilities 0.4 and sixty times 0.01 the entropy is 3.1 nats; the
    rare tokens (4.6 nats) are nearer to it than the likely one (0.9), which with p = 0.5 is not kept.
    """
    surprise = -log_softmax(logits.double())  # (B, V) nats, inf for what an earlier filter has dropped
    expected = torch.where(surprise < torch.inf, softmax(logits.double()) * surprise, 0.0)
    distance = (surprise - expected.sum(-1, keepdim=True)).abs()
    return keep_first(logits, descending(-distance), p)


def descending(scores: Tensor) -> Tensor:
    """(B, V) -> ids (B, V) from the largest score to the smallest, ties by lower id."""
    return scores.argsort(dim=-1, descending=True, stable=True)


def keep_first(logits: Tensor, order: Tensor, p: float) -> Tensor:
    """logits (B, V), order (B, V) of ids: keep those that come first, up to and with the one that brings p together."""
    if p >= 1:
        return logits  # a sum that rounds to 1 too early must not cost the rarest tokens their chance
    probabilities = softmax(logits.double().gather(-1, order))
    before = torch.zeros_like(probabilities)
    before[:, 1:] = probabilities.cumsum(-1)[:, :-1]
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -torch.inf)
