"""The cross-entropy of `training/loss.py` in numpy, with its famously simple gradient derived by hand."""

import numpy as np

from minilm.byhand.basic import Cache, exp, log_softmax

IGNORE = -100  # a target with this label is not counted


def cross_entropy(logits: np.ndarray, targets: np.ndarray, ignore_index: int = IGNORE) -> tuple[np.ndarray, Cache]:
    """Mean of -log p(target) over the counted targets, in nats per token: logits (..., V), targets (...) -> ().

    With no counted target the loss is 0. ValueError for a label that is neither ignore_index nor in [0, V).
    """
    vocab_size = logits.shape[-1]
    counted = targets != ignore_index
    outside = counted & ((targets < 0) | (targets >= vocab_size))
    if outside.any():
        label = targets[outside][0]
        raise ValueError(f"target {label} is not a token: labels go from 0 to {vocab_size - 1}, or are {ignore_index}")
    labels = np.where(counted, targets, 0)[..., None]
    log_probs, _ = log_softmax(logits)
    chosen = np.take_along_axis(log_probs, labels, -1)[..., 0]  # (...): log p(target)
    n_counted = max(int(counted.sum()), 1)
    return -(chosen * counted).sum() / n_counted, (log_probs, labels, counted, n_counted)


def cross_entropy_backward(dout: np.ndarray | float, cache: Cache) -> np.ndarray:
    """dlogits = dout · (p - 1 at the target) / (number of counted targets): what the model said less what was true.

    One target's loss is -x_target + log sum_k exp(x_k). Its derivative by x_j is p_j, less 1 if j is the target. The mean
    divides all of it by the number of counted targets; a target that is not counted changes nothing: its row is 0.

    >>> loss, cache = cross_entropy(np.zeros((2, 4)), np.array([1, -100]))
    >>> cross_entropy_backward(1.0, cache)
    array([[ 0.25, -0.75,  0.25,  0.25],
           [ 0.  ,  0.  ,  0.  ,  0.  ]])
    """
    log_probs, labels, counted, n_counted = cache
    difference = exp(log_probs)  # p
    np.put_along_axis(difference, labels, np.take_along_axis(difference, labels, -1) - 1.0, -1)
    return np.where(counted[..., None], difference, 0.0) * (dout / n_counted)
