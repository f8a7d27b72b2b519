"""The kinds of model by name, so that a checkpoint can say what it holds. Modules are imported when their kind is asked for."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

# kind -> (module and class of the model, module and class of its config)
KINDS = {
    "gpt": ("minilm.models.gpt:GPT", "minilm.models.config:GPTConfig"),
    "speedrun": ("minilm.models.speedrun_gpt:SpeedrunGPT", "minilm.models.config:SpeedrunConfig"),
    "ngram": ("minilm.models.counted:CountedLM", "minilm.classical.config:NgramConfig"),
    "rnn": ("minilm.models.rnn_lm:RecurrentLM", "minilm.models.rnn_config:RNNConfig"),
    "hmm": ("minilm.models.hmm_lm:HmmLM", "minilm.classical.config:HMMConfig"),
    "glove": ("minilm.classical.glove:GloVe", "minilm.classical.glove_config:GloveConfig"),
    "mixture": ("minilm.models.mixture:Mixture", "minilm.models.mixture:MixtureConfig"),
    "log-linear": ("minilm.models.log_linear:LogLinear", "minilm.models.log_linear:LogLinearConfig"),
    "residual": ("minilm.models.residual:Residual", "minilm.models.residual:ResidualConfig"),
    "quantized": ("minilm.models.quantized:Quantized", "minilm.models.quantized:QuantizedConfig"),
    "sequence-classifier": ("minilm.finetuning.heads:SequenceClassifier", "minilm.finetuning.config:HeadConfig"),
    "token-classifier": ("minilm.finetuning.heads:TokenClassifier", "minilm.finetuning.config:HeadConfig"),
    "span-extractor": ("minilm.finetuning.heads:SpanExtractor", "minilm.finetuning.config:HeadConfig"),
    "adapted": ("minilm.finetuning.adapters:AdaptedModel", "minilm.finetuning.lora_config:AdaptedConfig"),
}


def look_up(path: str) -> Any:
    """The object behind "module:name"."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def build_model(kind: str, config: Mapping[str, Any], arrays: Mapping[str, Any] | None = None, **parts: Any) -> Any:
    """A model of this kind: fresh, or with the given arrays as weights. `config` holds the fields of its config.

    `parts` are handed on, for example attention=... for the kinds that take one.
    """
    if kind not in KINDS:
        raise ValueError(f"model kind {kind!r} is unknown: choose one of {', '.join(KINDS)}")
    model_class, config_class = (look_up(path) for path in KINDS[kind])
    unknown = config.keys() - {field.name for field in dataclasses.fields(config_class)}
    if unknown:
        raise ValueError(f"unknown option {sorted(unknown)[0]!r} for a model of kind {kind}")
    settings = config_class(**config)
    return model_class(settings, **parts) if arrays is None else model_class.from_arrays(settings, arrays, **parts)
