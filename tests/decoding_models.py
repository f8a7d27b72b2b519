"""Small models with random weights in float64, one of every kind in the house, for the tests of caches and decoding."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.layers.alibi import alibi
from minilm.layers.attention import AttentionFunction, scaled_dot_product_attention
from minilm.layers.changed_scores import attention_with
from minilm.layers.rolling_cache import RollingCache, with_rolling_window
from minilm.layers.sliding_window import with_window
from minilm.models.config import GPTConfig, SpeedrunConfig, llama_config
from minilm.models.counted import CountedLM
from minilm.models.expert_block import expert_block
from minilm.models.gpt import GPT
from minilm.models.log_linear import LogLinear
from minilm.models.mixture import Mixture
from minilm.models.residual import Residual
from minilm.models.speedrun_gpt import SpeedrunGPT

V, H, K, LAYERS, D_FF = 23, 6, 4, 2, 17  # with G = 6, 3 or 1: no two dimensions but H and G are alike
KINDS = ["learned", "rotary", "alibi"]
GROUPS = [6, 3, 1]  # multi-head, grouped-query and multi-query attention
WINDOW = 4
OTHERS = ["speedrun", "ngram", "mixture", "log-linear", "residual", "experts", "rolling"]


class RollingGPT(GPT):
    """A GPT with a window, whose own cache is a RollingCache."""

    window = WINDOW

    def new_cache(self, batch: int, max_length: int | None = None) -> RollingCache:
        return RollingCache.like(super().new_cache(batch, 1), self.window)


def gpt(
    kind: str, groups: int = 3, window: int | None = None, context: int = 11, rolling: bool = False, **parts: Any
) -> GPT:
    """A GPT with learned, rotary or ALiBi positions, which is deaf to nothing: large random weights."""
    attention: AttentionFunction = attention_with(alibi) if kind == "alibi" else scaled_dot_product_attention
    if window is not None:
        attention = (with_rolling_window if rolling else with_window)(attention, window)
    config = GPTConfig(
        vocab_size=V,
        context_length=context,
        d_model=H * K,
        n_layers=LAYERS,
        n_heads=H,
        n_kv_heads=groups,
        d_ff=D_FF,
        rope_theta=50.0 if kind == "rotary" else None,
        dropout=0.3,
    )
    model: GPT = (RollingGPT if rolling else GPT)(config, attention=attention, **parts)
    if window is not None and isinstance(model, RollingGPT):
        model.window = window
    randomise(model)
    if kind == "alibi":
        assert model.positions is not None
        nn.init.zeros_(model.positions.weight)  # ALiBi alone says where a token stands
    return model.double().eval()


def randomise(model: nn.Module, seed: int = 4) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)


def build(name: str, context: int = 11) -> Any:
    """One of OTHERS, or one of KINDS."""
    if name == "ngram":
        ids = torch.randint(0, V, (400,), generator=torch.Generator().manual_seed(4)).numpy()
        return CountedLM(NgramLM(NgramConfig(vocab_size=V, order=4)).fit(ids, V - 1))
    if name == "mixture":
        return Mixture(gpt("learned", context=context), build("ngram"), 0.6).eval()
    if name == "log-linear":
        return LogLinear(gpt("rotary", context=context), build("ngram"), (0.7, 0.4)).eval()
    if name == "residual":
        return Residual(build("speedrun", context), build("ngram")).double().eval()
    if name == "experts":
        return gpt("learned", context=context, block=functools.partial(expert_block, n_experts=5, k=2))
    if name == "rolling":
        return gpt("rotary", window=WINDOW, context=context, rolling=True)
    if name == "speedrun":
        model = SpeedrunGPT(
            SpeedrunConfig(
                vocab_size=V,
                context_length=context,
                d_model=H * K,
                n_layers=LAYERS,
                n_heads=H,
                max_ngram=3,
                ngram_rows=53,
            )
        )
        randomise(model)
        return model.double().eval()
    return gpt(name, context=context)


def small(name: str, size: int, context: int, seed: int = 4, n_layers: int = 2, heads: tuple[int, int] = (4, 6)) -> Any:
    """gpt, llama, speedrun, ngram or mixture: a small model of the house, random, in float64, with H heads of size K.

    It is in training mode, and gpt drops out much: whoever decodes has to leave dropout out.
    """
    generator, (n_heads, d_head) = torch.Generator().manual_seed(seed), heads
    shape: dict[str, Any] = dict(vocab_size=size, context_length=context, d_model=n_heads * d_head)
    shape |= dict(n_layers=n_layers, n_heads=n_heads)
    if name == "ngram":
        ids = torch.randint(0, size, (300,), generator=generator).numpy()
        return CountedLM(NgramLM(NgramConfig(vocab_size=size, order=3)).fit(ids, size - 1))
    if name == "mixture":
        parts = (small(part, size, context, seed, n_layers, heads) for part in ("gpt", "ngram"))
        return Mixture(*parts, 0.6)
    model: nn.Module
    if name == "gpt":
        model = GPT(GPTConfig(**shape, dropout=0.4))
    elif name == "llama":
        model = GPT(llama_config(**shape, n_kv_heads=n_heads // 2))
    else:
        model = SpeedrunGPT(SpeedrunConfig(**shape))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    return model.double()


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


def random_prompt(length: int, seed: int = 0) -> list[int]:
    return random_ids(length, seed=1000 * seed + length).tolist()
