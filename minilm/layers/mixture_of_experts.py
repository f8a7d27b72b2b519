"""A mixture of experts: many MLPs, of which each token passes through only k (Shazeer et al. 2017).

A router gives each token a score for each expert. The token goes to the k with the highest scores, and their answers are
added with weights that come from the scores. The model holds the parameters of all experts but computes with k of them:
more knowledge for the same time. Left alone, a router soon sends all to a few experts, which then learn faster and are
chosen even more often; `balance_loss` works against it. No expert has a limit of tokens, so no token is ever dropped, and
what a token gets does not depend on its neighbours: with a cache the numbers are the same.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minilm.layers.basic import Linear, linear, softmax
from minilm.layers.blocks import Change

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (model, inputs, targets) -> ()
Route = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def route(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """logits (..., E) -> weights, chosen (..., k): the k best experts, best first, with the softmax of their scores alone.

    It is the same as a softmax over all E, of which the k chosen are divided by their sum, and costs less (Mixtral, Jiang
    et al. 2024). The weights add up to 1, so what the block writes is at most the size of one expert's answer. With k = 1 the
    only weight is always 1, and the loss tells the router nothing: then take `route_by_probability`.
    Equal scores: the expert with the lower number.

    >>> route(torch.tensor([0.0, 2.0, 2.0, 1.0]), k=2)
    (tensor([0.5000, 0.5000]), tensor([1, 2]))
    """
    scores, chosen = best(logits, k)
    return softmax(scores), chosen


def route_by_probability(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `route`, but the weights are the softmax over all E: they add up to at most 1 (Switch, Fedus et al. 2021).

    So with k = 1 the weight is the router's own probability of its choice, and the loss can raise or lower it.
    """
    _, chosen = best(logits, k)
    return softmax(logits).gather(-1, chosen), chosen


def best(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of logits (..., E) and their places, largest first; ValueError unless 1 <= k <= E."""
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k is {k}: each token is sent to 1 to {logits.shape[-1]} experts")
    scores, order = logits.sort(dim=-1, descending=True, stable=True)
    return scores[..., :k], order[..., :k]


def balance_loss(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """How unevenly the experts are used: probabilities (..., E), chosen (..., k) -> E * sum_i f_i P_i (Fedus et al. 2021).

    f_i is the share of all choices that fell on expert i, P_i the router's mean probability of it. f is a count and has no
    gradient; P has one, which is larger the busier the expert is: the busiest becomes less likely first.

    Where all experts are chosen equally often it is 1, whatever P. Its largest value is E / k: all tokens choose the same
    k experts, and give the others no probability. 1 is no lower bound: 0.875 is possible with two experts, of which the
    one seldom chosen is the more probable in the mean. Where f = P, nothing is below 1.

    >>> balance_loss(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([[0], [0]]))
    tensor(1.5000)
    """
    n_experts = probabilities.shape[-1]
    counts = torch.bincount(chosen.flatten(), minlength=n_experts)
    shares = counts.to(probabilities.dtype) / chosen.numel()  # f
    return n_experts * (shares * probabilities.reshape(-1, n_experts).mean(0)).sum()


def mixture_of_experts(tokens: Tensor, weights: Tensor, chosen: Tensor, experts: Iterable[Change]) -> Tensor:
    """tokens (N, D), weights and chosen (N, k) -> (N, D): for each token the sum of weight * expert(token).

    Each expert gets its own tokens together, as one matrix, and no others; one that nobody chose is not called.
    """
    out = torch.zeros_like(tokens)
    for number, expert in enumerate(experts):
        row, place = (chosen == number).nonzero(as_tuple=True)  # the tokens of this expert, and which of their k it is
        if len(row):
            answer = weights[row, place].unsqueeze(-1) * expert(tokens[row])
            out = out.index_add(0, row, answer.to(out.dtype))
    return out


class MixtureOfExperts(nn.Module):
    """(..., D) -> (..., D): an MLP made of the MLPs it is given, of which each token uses k.

    `balance` is the balance loss of the last forward pass, with its graph, until a loss takes it; a copy has none.
    """

    def __init__(self, experts: Sequence[nn.Module], d_model: int, k: int, route: Route = route) -> None:
        super().__init__()
        if not 1 <= k <= len(experts):
            raise ValueError(f"k is {k}: each token is sent to 1 to {len(experts)} experts")
        self.router = Linear(d_model, len(experts), bias=False)
        self.experts = nn.ModuleList(experts)
        self.k, self.route = k, route
        self.balance: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])  # (N, D)
        with torch.autocast(tokens.device.type, enabled=False):  # half precision would blur close scores
            exact = torch.promote_types(tokens.dtype, torch.float32)
            logits = linear(tokens.to(exact), self.router.weight.to(exact))  # (N, E)
        weights, chosen = self.route(logits, self.k)
        self.balance = balance_loss(softmax(logits), chosen)
        return mixture_of_experts(tokens, weights, chosen, self.experts).reshape(x.shape)

    def take_balance(self) -> Tensor:
        """The balance loss of the last forward pass, which is forgotten here, so that no graph outlives its step."""
        if self.balance is None:
            raise ValueError("no balance loss: run the model first; each forward pass leaves one, to be taken once")
        balance, self.balance = self.balance, None
        return balance

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "balance": None}  # copy.deepcopy refuses a tensor that has a graph


def with_balance(loss_function: Loss, coefficient: float = 0.01) -> Loss:
    """The same loss plus coefficient * the balance losses of all mixtures in the model, for `train(loss_function=...)`.

    0.01 is the coefficient of Fedus et al.: enough for balance, little beside the loss. What is shown as the loss then
    contains it; validation should use the plain loss.
    """

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        value = loss_function(model, inputs, targets)
        balances = [layer.take_balance() for layer in model.modules() if isinstance(layer, MixtureOfExperts)]
        if not balances:
            raise ValueError("with_balance: the model has no MixtureOfExperts: train it with the plain loss function")
        return value + coefficient * torch.stack(balances).sum()

    return loss
