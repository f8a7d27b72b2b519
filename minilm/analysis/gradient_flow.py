"""How far back does a gradient reach? Its length at each distance, for a recurrent layer.

A state h_{T-k} reaches the last one through k steps. The gradient of the last by the first is a product of k matrices; if they
make it smaller on average it dies exponentially, if larger it explodes (Bengio et al. 1994; Pascanu et al. 2013). What has no
gradient is not learned, however much it matters.
"""

import math

import torch
from torch import Tensor

from minilm.layers.recurrent import RecurrentLayer


def gradient_by_distance(layer: RecurrentLayer, x: Tensor, generator: torch.Generator | None = None) -> list[float]:
    """x (B, T, I) -> T numbers, distances 0 to T - 1: the length of the gradient at the state so many steps before the last.

    The gradient is that of w · h_T with a random direction w of length 1 for each row; of an LSTM's state h and c count
    together. The mean over the rows is the root of the mean square. No .grad is touched.
    """
    state, states = layer.start(x), []
    for token in x.detach().unbind(1):
        # Copies, so that h and c are two variables: otherwise c would also count for what h has from it.
        state = tuple(one.clone() for one in next(layer.steps(token[:, None], state)))
        states.append(state)
    last = state[0]
    w = torch.randn(last.shape, generator=generator, dtype=last.dtype)
    w = w / w.norm(dim=1, keepdim=True)
    tensors = [tensor for state in states for tensor in state]
    found = torch.autograd.grad((w * last).sum(), tensors, allow_unused=True)
    squares = [0.0 if gradient is None else gradient.square().sum().item() for gradient in found]
    n = layer.n_states
    by_step = [math.sqrt(sum(squares[t : t + n]) / len(x)) for t in range(0, len(squares), n)]
    return by_step[::-1]
