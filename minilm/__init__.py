"""minilm: language models, from scratch."""

import importlib
from typing import Any

__version__ = "0.1.0"

# The public names and the file that each lives in. They load when first used (PEP 562), so `import minilm` stays instant.
_HOMES = {
    "load_corpus": "minilm.text.corpus",
    "load_tokenizer": "minilm.text.tokenizer",
    "CharTokenizer": "minilm.text.tokenizer",
    "ByteTokenizer": "minilm.text.tokenizer",
    "BPETokenizer": "minilm.text.bpe",
    "encode_corpus": "minilm.text.token_file",
    "NgramLM": "minilm.classical.ngram",
    "NgramConfig": "minilm.classical.config",
    "CountedLM": "minilm.models.counted",
    "GPT": "minilm.models.gpt",
    "GPTConfig": "minilm.models.config",
    "gpt2_config": "minilm.models.config",
    "llama_config": "minilm.models.config",
    "SpeedrunGPT": "minilm.models.speedrun_gpt",
    "SpeedrunConfig": "minilm.models.config",
    "KVCache": "minilm.layers.kv_cache",
    "cross_entropy": "minilm.training.loss",
    "AdamW": "minilm.training.optim",
    "clip_grad_norm": "minilm.training.optim",
    "Batches": "minilm.training.batches",
    "sample_batch": "minilm.training.batches",
    "train": "minilm.training.loop",
    "TrainConfig": "minilm.training.config",
    "save_checkpoint": "minilm.training.checkpoint",
    "load_checkpoint": "minilm.training.checkpoint",
    "evaluate": "minilm.evaluation.evaluate",
    "generate": "minilm.decoding.generate",
    "Sampler": "minilm.decoding.sampling",
    "SampleConfig": "minilm.decoding.config",
    "set_seed": "minilm.runtime",
}
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"minilm has no {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
