"""llama.cpp as a peer in decoding: a Llama of ours in its file format, GGUF, and the tokens that it chooses.

It is asked through its C functions; the loop of its Python package takes a tenth longer. Its cache holds float16, and with
Q8_0 it rounds what it multiplies by to int8 as well, which ours does not.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from minilm.models.gpt import GPT
from minilm.pretrained.huggingface import is_llama

KINDS = ("F32", "F16", "Q8_0")  # of its matrices; Q8_0: int8, a scale for every 32
NAMES = {
    "embedding": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.out": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}  # ours -> theirs


def write_gguf(model: GPT, path: Path, kind: str) -> None:
    """A model of `llama_config` as a GGUF file, without a tokenizer, its matrices in one of KINDS. ValueError for other models."""
    import gguf

    config, weights = model.config, dict(model.named_parameters())
    if not is_llama(config) or config.rope_theta is None:
        raise ValueError(f"only models of llama_config are written for llama.cpp, not {config}")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(len(weights["blocks.0.mlp.up.weight"]))
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_dimension_count(config.d_head)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_tokenizer_model("no_vocab")
    for name, weight in weights.items():
        turned = ".attention.q." in name or ".attention.k." in name
        numbers = (neighbouring_pairs(weight, config.d_head) if turned else weight).detach().numpy()
        dtype = gguf.GGMLQuantizationType[kind if weight.dim() == 2 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(numbers, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Our parameter name -> theirs: "blocks.3.mlp.up.weight" -> "blk.3.ffn_up.weight"."""
    module, leaf = name.rsplit(".", 1)
    if not module.startswith("blocks."):
        return f"{NAMES[module]}.{leaf}"
    _, number, part = module.split(".", 2)
    return f"blk.{number}.{NAMES[part]}.{leaf}"


def neighbouring_pairs(weight: Tensor, d_head: int) -> Tensor:
    """(H K, ...) -> (H K, ...): its rotary pairs are neighbours (2 i, 2 i + 1), where ours are (i, i + K / 2)."""
    return weight.unflatten(0, (-1, 2, d_head // 2)).transpose(1, 2).reshape(weight.shape)


class LlamaCpp:
    """A GGUF file, opened by llama.cpp for texts of at most `context` tokens."""

    def __init__(self, path: Path, context: int, n_threads: int) -> None:
        import llama_cpp

        self.library: Any = llama_cpp
        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(bytes(path), llama_cpp.llama_model_default_params())
        if not self.model:
            raise ValueError(f"{path}: llama.cpp does not read it")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_threads, settings.n_threads_batch = context, n_threads, n_threads
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def read(self, ids: Sequence[int]) -> np.ndarray:
        """ids that follow those before -> the logits (V,) behind the last one, in its own memory: the next call writes there."""
        tokens = (self.library.llama_token * len(ids))(*ids)
        failure = self.library.llama_decode(self.context, self.library.llama_batch_get_one(tokens, len(ids)))
        if failure:
            raise ValueError(f"llama.cpp could not read {len(ids)} tokens (it says {failure})")
        return np.ctypeslib.as_array(self.library.llama_get_logits_ith(self.context, -1), (self.vocab_size,))

    def decode(self, prompt: Sequence[int], n_new: int) -> list[int]:
        """The n_new likeliest ids behind a prompt, which it reads from an empty cache."""
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        ids = [int(self.read(prompt).argmax())]
        while len(ids) < n_new:
            ids.append(int(self.read(ids[-1:]).argmax()))
        return ids

    def close(self) -> None:
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)
