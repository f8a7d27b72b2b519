"""Penalties for tokens that the text so far already has, each a pure function on logits (B, V) and counts (B, V).

All three count the whole text, the prompt included. (Some servers count only what is new for presence and frequency.)
Each goes on the logits before the temperature: at a low temperature the same penalty changes more.
"""

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.decoding.processors import Texts, check_texts


def count_tokens(texts: Texts, V: int) -> Tensor:
    """B lists of ids -> counts (B, V): how often each token is in each text.

    >>> count_tokens([[2, 0, 2], []], V=3)
    tensor([[1, 0, 2], [0, 0, 0]])
    """
    return torch.stack([torch.bincount(torch.tensor(text, dtype=torch.long), minlength=V) for text in texts])


def penalise_repetition(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of tokens in the text by the penalty, multiply negative ones (Keskar et al. 2019, CTRL).

    Both make the token less likely where the penalty is above 1. The rule depends on where the model puts its zero:
    logits moved by a constant mean the same to softmax, but not here. The two penalties below have no such weakness.
    """
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(counts > 0, penalised, logits)


def penalise_presence(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Take the penalty from the logits of tokens in the text, once: their odds change by exp(-penalty)."""
    return torch.where(counts > 0, logits - penalty, logits)


def penalise_frequency(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Take the penalty from a token's logit for each time it is in the text."""
    return logits - penalty * counts.to(logits.dtype)


def penalise(logits: Tensor, texts: Texts, config: SampleConfig) -> Tensor:
    """logits (B, V) and the texts of the rows -> logits: repetition, then presence, then frequency, as the config says."""
    if config.repetition_penalty == 1 and config.presence_penalty == config.frequency_penalty == 0:
        return logits
    check_texts(texts, len(logits))
    counts = count_tokens(texts, logits.shape[-1]).to(logits.device)
    logits = penalise_repetition(logits, counts, config.repetition_penalty)
    logits = penalise_presence(logits, counts, config.presence_penalty)
    return penalise_frequency(logits, counts, config.frequency_penalty)
