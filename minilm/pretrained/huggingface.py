"""Weights to and from Hugging Face: the same numbers under other names, and sometimes lying on their side.

Two architectures, GPT-2 and Llama. Two traps: GPT-2 keeps the matrices of its blocks transposed (I, O), which goes
unnoticed where they are square, and joins q, k and v into one; Llama's rotary pairs are (i, i + K / 2), as in
`rotate_half_split`.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from minilm.layers.attention import AttentionFunction, scaled_dot_product_attention
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT, load_arrays

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}  # theirs -> ours


@dataclasses.dataclass(frozen=True)
class Names:
    """What one architecture calls our modules: `outside` and, behind `prefix + block + number`, `inside` the blocks."""

    prefix: str
    block: str
    outside: dict[str, str]
    inside: dict[str, str]

    def translate(self, name: str) -> str:
        """Our parameter name -> theirs: "blocks.3.mlp.up.weight" -> "transformer.h.3.mlp.c_fc.weight"."""
        module, leaf = name.rsplit(".", 1)
        if module == "lm_head":
            return name
        if not module.startswith("blocks."):
            return f"{self.prefix}.{self.outside[module]}.{leaf}"
        _, number, part = module.split(".", 2)
        return f"{self.prefix}.{self.block}.{number}.{self.inside[part]}.{leaf}"


GPT2_NAMES = Names(
    prefix="transformer",
    block="h",
    outside={"embedding": "wte", "positions": "wpe", "norm": "ln_f"},
    inside={
        "attention_norm": "ln_1",
        "attention.q": "attn.c_attn",
        "attention.k": "attn.c_attn",
        "attention.v": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "mlp_norm": "ln_2",
        "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    },
)
LLAMA_NAMES = Names(
    prefix="model",
    block="layers",
    outside={"embedding": "embed_tokens", "norm": "norm"},
    inside={
        "attention_norm": "input_layernorm",
        "attention.q": "self_attn.q_proj",
        "attention.k": "self_attn.k_proj",
        "attention.v": "self_attn.v_proj",
        "attention.out": "self_attn.o_proj",
        "mlp_norm": "post_attention_layernorm",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    },
)
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # constants that old files hold among the weights


def is_llama(config: GPTConfig) -> bool:
    """True for Llama, False for GPT-2, ValueError for a mixture, for which Hugging Face has no model."""
    if config.norm == "rms" and config.mlp == "swiglu" and config.rope_theta:
        return True
    learned = config.rope_theta is None and config.kv_heads == config.n_heads
    if config.norm == "layer" and config.mlp != "swiglu" and config.bias and learned:
        return False
    raise ValueError(
        f"only the architectures of gpt2_config and llama_config have a twin at Hugging Face, not {config}"
    )


def config_from_huggingface(config: Mapping[str, Any]) -> GPTConfig:
    """The content of a config.json -> GPTConfig; ValueError for whatever would make our logits differ from theirs."""

    def require(name: str, *allowed: Any) -> Any:
        value = config.get(name, allowed[0])
        if value not in allowed:
            raise ValueError(f"config.json says {name}={value!r}, minilm needs {' or '.join(map(repr, allowed))}")
        return value

    if require("model_type", "gpt2", "llama") == "gpt2":
        require("scale_attn_weights", True)
        require("scale_attn_by_inverse_layer_idx", False)
        return gpt2_config(
            vocab_size=config["vocab_size"],
            context_length=config["n_positions"],
            d_model=config["n_embd"],
            n_layers=config["n_layer"],
            n_heads=config["n_head"],
            d_ff=config.get("n_inner"),
            mlp=ACTIVATIONS[require("activation_function", *ACTIVATIONS)],
            norm_eps=config.get("layer_norm_epsilon", 1e-5),
            tie_embeddings=config.get("tie_word_embeddings", True),
        )
    require("hidden_act", "silu")
    require("head_dim", None, config["hidden_size"] // config["num_attention_heads"])
    bias = config.get("attention_bias", False)
    if config.get("mlp_bias", False) != bias:
        raise ValueError(f"config.json says attention_bias={bias} but mlp_bias={not bias}, minilm needs them equal")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ValueError(f"config.json stretches its rotary positions ({rope}); minilm knows only the default kind")
    return llama_config(
        vocab_size=config["vocab_size"],
        context_length=config["max_position_embeddings"],
        d_model=config["hidden_size"],
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        n_kv_heads=config.get("num_key_value_heads"),
        d_ff=config["intermediate_size"],
        bias=bias,
        norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        tie_embeddings=config.get("tie_word_embeddings", False),
    )


def config_to_huggingface(config: GPTConfig) -> dict[str, Any]:
    """GPTConfig -> the content of a config.json."""
    shared = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if is_llama(config):
        return shared | {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": config.context_length,
            "hidden_size": config.d_model,
            "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.d_head,
            "intermediate_size": config.d_ff,
            "hidden_act": "silu",
            "attention_bias": config.bias,
            "mlp_bias": config.bias,
            "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rope_theta,  # where transformers 4 looks; 5 reads the next line
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        }
    dropouts = {name: config.dropout for name in ("embd_pdrop", "resid_pdrop")}
    return (
        shared
        | dropouts
        | {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_positions": config.context_length,
            "n_embd": config.d_model,
            "n_layer": config.n_layers,
            "n_head": config.n_heads,
            "n_inner": config.d_ff,
            "activation_function": "gelu_new" if config.mlp == "gelu_tanh" else "gelu",
            "layer_norm_epsilon": config.norm_eps,
            "attn_pdrop": 0.0,
        }
    )


def arrays_to_huggingface(arrays: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Our arrays by our names -> the same numbers by theirs. Works for gradients, too."""
    llama = is_llama(config)
    names = LLAMA_NAMES if llama else GPT2_NAMES
    parts: dict[str, list[Tensor]] = {}
    for name, value in arrays.items():  # q, k and v follow each other
        parts.setdefault(names.translate(name), []).append(value)
    state = {name: torch.cat(values) for name, values in parts.items()}
    if not llama:
        state = {name: value.T if ".h." in name and value.ndim == 2 else value for name, value in state.items()}
    if config.tie_embeddings:
        state["lm_head.weight"] = state[names.translate("embedding.weight")]
    return {name: value.contiguous() for name, value in state.items()}


def to_huggingface(model: GPT) -> dict[str, Tensor]:
    """The state dict for GPT2LMHeadModel or LlamaForCausalLM; `config_to_huggingface(model.config)` is its config."""
    return arrays_to_huggingface({name: value.detach() for name, value in model.arrays().items()}, model.config)


def from_huggingface(
    state: Mapping[str, Tensor], config: GPTConfig, attention: AttentionFunction = scaled_dot_product_attention
) -> GPT:
    """A state dict of GPT2LMHeadModel or LlamaForCausalLM -> GPT, in the dtype of its weights.

    ValueError if a name is missing or unknown, a shape is wrong, or a head that should be tied is not.
    """
    llama = is_llama(config)
    names = LLAMA_NAMES if llama else GPT2_NAMES
    known = (names.prefix + ".", "lm_head.")  # the files of GPT-2 leave the prefix out
    theirs = {
        name if name.startswith(known) else f"{names.prefix}.{name}": value
        for name, value in state.items()
        if not name.endswith(BUFFERS)
    }
    table = theirs.get(names.translate("embedding.weight"))
    head = theirs.pop("lm_head.weight", None) if config.tie_embeddings else None
    if head is not None and (table is None or not torch.equal(head, table)):
        raise ValueError("the weights hold a head of their own, the config says tied: set tie_embeddings=False")
    model = GPT(config, attention).to(torch.float32 if table is None else table.dtype)
    arrays: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in model.arrays():
        foreign = names.translate(name)
        if foreign not in theirs:
            raise ValueError(f"the weights lack {foreign}: do they belong to this config?")
        used.add(foreign)
        value = theirs[foreign]
        if not llama and name.startswith("blocks."):
            value = value.T if value.ndim == 2 else value
            part = name.split(".")[-2]
            value = value.chunk(3)["qkv".index(part)] if part in ("q", "k", "v") else value
        arrays[name] = value
    if theirs.keys() - used:
        raise ValueError(f"the weights hold {sorted(theirs.keys() - used)[0]}, which a model of this config has not")
    load_arrays(model, arrays)
    return model


def read_huggingface(directory: str | Path, attention: AttentionFunction = scaled_dot_product_attention) -> GPT:
    """A directory with config.json and one or more *.safetensors files -> GPT."""
    folder = Path(directory)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise ValueError(f"{folder} must hold config.json and *.safetensors: download both from the page of the model")
    config = config_from_huggingface(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(load_file(file))
    return from_huggingface(state, config, attention)


def write_huggingface(model: GPT, directory: str | Path) -> None:
    """A new directory that `AutoModelForCausalLM.from_pretrained` reads. It appears whole or not at all."""
    folder = Path(directory)
    if folder.exists():
        raise ValueError(f"{folder} exists already: name a new directory")
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    state = to_huggingface(model)
    if model.config.tie_embeddings:
        del state["lm_head.weight"]  # stored once
    save_file(state, unfinished / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config_to_huggingface(model.config), indent=2)
    (unfinished / "config.json").write_text(text + "\n", encoding="utf-8")
    unfinished.rename(folder)
