"""A block whose MLP is a mixture of experts: GPT(config, block=functools.partial(expert_block, n_experts=8, k=2))."""

from minilm.layers.attention import AttentionFunction
from minilm.layers.blocks import TransformerBlock, Wiring, pre_norm
from minilm.layers.mixture_of_experts import MixtureOfExperts, Route, route
from minilm.models.config import GPTConfig
from minilm.models.gpt import build_block, build_mlp


def expert_block(
    config: GPTConfig,
    attention: AttentionFunction,
    n_experts: int,
    k: int,
    route: Route = route,
    wiring: Wiring = pre_norm,
) -> TransformerBlock:
    """`build_block` with n_experts MLPs as the config names them, of which each token uses k.

    The parameters of the MLP are n_experts times as many, its FLOPs k times, and the router's D x n_experts are few.
    With k = 1 give route=route_by_probability, or the router learns from its balance alone.
    """
    if n_experts < 1:
        raise ValueError(f"n_experts is {n_experts}: it must be at least 1")
    block = build_block(config, attention, wiring)
    experts = [block.mlp, *(build_mlp(config) for _ in range(n_experts - 1))]
    block.mlp = MixtureOfExperts(experts, config.d_model, k, route)
    return block
