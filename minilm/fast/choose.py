"""Which fast twins pay on this machine, as parts to hand on: nothing where the readable version is the faster one."""

from typing import Any

import torch
from torch import nn

from minilm.runtime import multiplies_bfloat16

SHORT = 256  # contexts up to which all scores of a layer have room in a CPU's cache
LARGE_VOCABULARY = 8192  # below it the logits are small beside the rest, and may all exist


def attention_part(plain: bool, device: torch.device, context_length: int, compiled: bool = False) -> dict[str, Any]:
    """The attention to build a GPT or SpeedrunGPT with: nothing for the readable one, else a fast twin for `build_model`.

    That is the fused kernel, except on a CPU, in bfloat16 and short contexts: the kernel's backward pass is slow there.
    """
    if plain:
        return {}
    if device.type != "cpu" or compiled:
        from minilm.fast.attention import causal_attention

        return {"attention": causal_attention}
    if context_length <= SHORT and multiplies_bfloat16(device):
        from minilm.fast.short_attention import scaled_dot_product_attention
    else:
        from minilm.fast.attention import scaled_dot_product_attention

    return {"attention": scaled_dot_product_attention}


def parts_for(plain: bool, device: torch.device, settings: Any, compiled: bool = False) -> dict[str, Any]:
    """The parts to build a model of this config with: an attention, but for a recurrent model, which has none."""
    inside = (
        getattr(settings, "backbone_kind", None),
        getattr(settings, "base_kind", None),
    )  # of a head, of an adapter
    if hasattr(settings, "cell") or "rnn" in inside:
        return {}
    return attention_part(plain, device, settings.context_length, compiled)


def with_kernels(plain: bool, model: Any) -> Any:
    """The model to train: as it is, or with its parts computing by torch's kernels, in place (`fast.bricks.fuse`)."""
    if plain:
        return model
    from minilm.fast.bricks import fuse

    return fuse(model)


def loss_part(plain: bool, compiled: bool, model: nn.Module) -> dict[str, Any]:
    """The loss to train with: nothing for the plain one, else a fast twin.

    With a large vocabulary that is the one which never holds all logits. It asks the model for `hidden` and `lm_head`,
    which torch.compile, told to compile `forward`, would not see. In all other cases it is torch's kernel.
    """
    if plain:
        return {}
    large = model.config.vocab_size >= LARGE_VOCABULARY  # type: ignore[union-attr, operator]
    if large and not compiled and hasattr(model, "hidden") and hasattr(model, "lm_head"):
        from minilm.fast.cross_entropy import next_token_loss
    else:
        from minilm.fast.loss import next_token_loss

    return {"loss_function": next_token_loss}
