"""Training a residual model: batches of places in the text instead of tokens, and a loss that looks up both models' side.

What the n-gram says without the event at a place (classical/leave_one_out.py) depends on where in the text the place is,
which its tokens do not tell. So a batch holds places: the loss takes the tokens from there, and the n-gram's answers.

    leave_one_out = LeaveOneOut(ngram, ids)
    batches = place_batches(len(ids), batch_size, context_length, seed)
    train(Residual(gpt, CountedLM(ngram)), batches, config, loss_function=residual_loss(ids, leave_one_out.log_probs))
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from minilm.training.batches import Batches
from minilm.training.loss import LossFunction, cross_entropy


def place_batches(n_ids: int, batch_size: int, context_length: int, seed: int = 0) -> Batches:
    """`Batches` of the places 0 .. n_ids - 1 of a text: windows (B, T) of places, and of the places one further."""
    return Batches(np.arange(n_ids), batch_size, context_length, seed)


def residual_loss(ids: np.ndarray, log_probs: Callable[[np.ndarray], np.ndarray]) -> LossFunction:
    """The loss of a residual model on `place_batches` of ids (N,), in nats per token.

    `log_probs`: places (n,) -> the n-gram's log-probabilities (n, V) of all tokens there, given the tokens before.
    """

    def loss(model: nn.Module, places: Tensor, next_places: Tensor) -> Tensor:
        here, further = places.cpu().numpy(), next_places.cpu().numpy()  # (B, T)
        inputs, targets = (torch.from_numpy(ids[at].astype(np.int64)).to(places.device) for at in (here, further))
        rows = log_probs(further.ravel()).astype(np.float32).reshape(*further.shape, -1)  # (B, T, V)
        return cross_entropy(model(inputs, counted=torch.from_numpy(rows).to(places.device)), targets)

    return loss
