"""The mixture of experts of `layers/mixture_of_experts.py`, in numpy and with its backward passes derived by hand.

Which experts a token goes to is a choice, and a choice has no derivative: moved a little, a score changes no place in the
order. So all gradients are taken with the choice as it fell. The router learns by two other ways: through the weights of
the experts that were chosen, and through the balance loss.
"""

import numpy as np

from minilm.byhand.basic import Cache, softmax, softmax_backward
from minilm.byhand.parts import LINEAR, Gradients, Part, Weights, inside, outside


def route(logits: np.ndarray, k: int) -> tuple[np.ndarray, Cache]:
    """logits (N, E) -> weights (N, k): the softmax of the k largest scores of each token, largest first.

    The cache begins with `chosen` (N, k), the experts they belong to; among equal scores, the lower number.
    """
    chosen = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    weights, cache = softmax(np.take_along_axis(logits, chosen, axis=-1))
    return weights, (chosen, logits.shape[-1], cache)


def route_backward(dweights: np.ndarray, cache: Cache) -> np.ndarray:
    """dweights (N, k) -> dlogits (N, E): the softmax's gradient in the places of the chosen, 0 for all others.

    With k = 1 the weight is 1 whatever the score, and dlogits is 0.
    """
    chosen, n_experts, softmax_cache = cache
    dlogits = np.zeros((len(chosen), n_experts), dtype=dweights.dtype)
    np.put_along_axis(dlogits, chosen, softmax_backward(dweights, softmax_cache), axis=-1)
    return dlogits


def balance_loss(probabilities: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, Cache]:
    """probabilities (N, E), chosen (N, k) -> E sum_i f_i P_i: f the shares of the choices, P the mean probabilities."""
    n_tokens, n_experts = probabilities.shape
    shares = np.bincount(chosen.ravel(), minlength=n_experts).astype(probabilities.dtype) / chosen.size
    return n_experts * (shares * probabilities.mean(0)).sum(), (shares, n_tokens)


def balance_loss_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dout () -> dprobabilities (N, E): P_i = 1/N sum_n p_ni, so dp_ni = dout E f_i / N. f is a count: no gradient.

    >>> out, cache = balance_loss(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([[0], [0]]))  # f = 1, 0
    >>> balance_loss_backward(np.array(1.0), cache)
    array([[1., 0.],
           [1., 0.]])
    """
    shares, n_tokens = cache
    return np.tile(dout * len(shares) * shares / n_tokens, (n_tokens, 1))


def mixture_of_experts(
    x: np.ndarray, weights: Weights, experts: tuple[Part, ...], k: int
) -> tuple[tuple[np.ndarray, np.ndarray], Cache]:
    """x (..., D) -> out (..., D) and the balance loss (): each token gets the weighted sum of its k experts' answers.

    Weights: router.weight (E, D), and those of expert number i by "experts.<i>.".
    """
    tokens = x.reshape(-1, x.shape[-1])  # (N, D)
    logits, router_cache = LINEAR.forward(tokens, inside(weights, "router"))
    shares, route_cache = route(logits, k)
    chosen = route_cache[0]
    probabilities, softmax_cache = softmax(logits)
    balance, balance_cache = balance_loss(probabilities, chosen)
    out, visits = np.zeros_like(tokens), []
    for number, expert in enumerate(experts):
        row, place = np.nonzero(chosen == number)
        if len(row):
            answer, cache = expert.forward(tokens[row], inside(weights, f"experts.{number}"))
            out[row] += shares[row, place, None] * answer  # a token visits an expert once: no row stands twice
            visits.append((number, expert, row, place, answer, cache))
    shapes = {name: array.shape for name, array in weights.items()}
    router = (router_cache, route_cache, softmax_cache, balance_cache)
    return (out.reshape(x.shape), balance), (x.shape, shapes, shares, router, visits)


def mixture_of_experts_backward(dout: np.ndarray, dbalance: np.ndarray, cache: Cache) -> tuple[np.ndarray, Gradients]:
    """dout (..., D), dbalance () -> dx (..., D) and the gradients by name; 0 for an expert that nobody chose.

    For one token out = sum_j w_j e_j, e_j being the answer of its j-th expert. So de_j = w_j dout, which goes back through
    the expert, and dw_j = sum_d dout_d e_jd, which goes back through the route: an answer that points along dout raises
    the loss, and loses weight. x was read by k experts and by the router: dx is the sum of all.
    """
    shape, shapes, shares, (router_cache, route_cache, softmax_cache, balance_cache), visits = cache
    dtokens = dout.reshape(-1, shape[-1])
    dx, dshares = np.zeros_like(dtokens), np.zeros_like(shares)
    gradients = {name: np.zeros(its_shape, dtype=dout.dtype) for name, its_shape in shapes.items()}
    for number, expert, row, place, answer, expert_cache in visits:
        dshares[row, place] = (dtokens[row] * answer).sum(-1)
        dread, own = expert.backward(shares[row, place, None] * dtokens[row], expert_cache)
        dx[row] += dread
        gradients |= outside(f"experts.{number}", own)
    dprobabilities = balance_loss_backward(dbalance, balance_cache)
    dlogits = route_backward(dshares, route_cache) + softmax_backward(dprobabilities, softmax_cache)
    dread, own = LINEAR.backward(dlogits, router_cache)
    return (dx + dread).reshape(shape), gradients | outside("router", own)
