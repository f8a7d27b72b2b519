"""A rounded model on disk: the logits bit for bit, about a quarter of the bytes, and a model like any other."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.quantize import QuantizedEmbedding, QuantizedLinear, quantize, to_int8
from minilm.decoding.sampling import Sampler
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.models.quantized import Quantized
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

TOKENIZER = ByteTokenizer()
SHAPE: dict[str, Any] = dict(vocab_size=257, context_length=24, d_model=72, n_layers=2, n_heads=3)
KINDS = ["gpt2", "llama", "speedrun"]


def build(kind: str) -> Any:
    """Random weights, biases and norms included; gpt2 has one matrix for embedding and head."""
    torch.manual_seed(3)
    model: Any
    if kind == "speedrun":
        model = SpeedrunGPT(SpeedrunConfig(**SHAPE, ngram_rows=53))
    else:
        model = GPT(gpt2_config(**SHAPE) if kind == "gpt2" else llama_config(**SHAPE, n_kv_heads=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def file_size(path: Path) -> int:
    return (path / "weights.safetensors").stat().st_size


@pytest.mark.parametrize("group", [64, 20, None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_says_the_same_bit_for_bit(kind: str, group: int | None, tmp_path: Path) -> None:
    """As the model that was saved, and as one that is rounded anew; with a cache, too."""
    model = build(kind)
    rounded = quantize(copy.deepcopy(model), lambda weight: to_int8(weight, group))
    path = save_checkpoint(tmp_path, Quantized(model, group), TOKENIZER)
    torch.manual_seed(99)  # what the loaded model begins with must not matter
    loaded = load_checkpoint(path).model.eval()
    assert loaded.kind == "quantized" and loaded.config.group == group
    ids = torch.randint(0, 257, (3, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = rounded(ids)
        assert torch.equal(loaded(ids), expected) and torch.equal(loaded.head(loaded.hidden(ids)), expected)
        assert not torch.equal(build(kind)(ids), expected)
        cache = loaded.new_cache(3)
        parts = torch.cat([loaded(ids[:, :9], cache=cache), loaded(ids[:, 9:], cache=cache)], dim=1)
        torch.testing.assert_close(parts, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_twice_it_is_the_same_file(kind: str, tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path / "first", Quantized(build(kind)), TOKENIZER)
    second = save_checkpoint(tmp_path / "second", load_checkpoint(first).model, TOKENIZER)
    for name in ("weights.safetensors", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    """8 bits for 32, and 0.5 for the scales; a tied matrix is stored once, and stays one."""
    plain, small = (
        save_checkpoint(tmp_path / name, make(build("gpt2")), TOKENIZER)
        for name, make in (("plain", lambda model: model), ("small", Quantized))
    )
    assert 0.25 < file_size(small) / file_size(plain) < 0.3
    model = load_checkpoint(small).model.model
    table, head = model.embedding, model.lm_head
    assert isinstance(table, QuantizedEmbedding) and isinstance(head, QuantizedLinear)
    assert table.numbers.data_ptr() == head.numbers.data_ptr() and head.numbers.dtype == torch.int8


def test_it_writes_like_any_model(tmp_path: Path) -> None:
    model = build("llama")
    path = save_checkpoint(tmp_path, Quantized(model), TOKENIZER)
    loaded = load_checkpoint(path).model
    for temperature in (0.0, 0.9):
        texts = []
        for one in (model, loaded):
            sampler = Sampler(SampleConfig(temperature), torch.Generator().manual_seed(2))
            texts.append(list(generate(one, [5, 6], sampler, 15)))
        assert texts[0] == texts[1]
    assert loaded.config.vocab_size == 257 and loaded.config.context_length == 24


def test_what_does_not_fit_is_refused() -> None:
    model = Quantized(build("gpt2"), 64)
    arrays = model.arrays()
    with pytest.raises(ValueError, match="is not rounded: choose one of gpt, speedrun"):
        Quantized(model)
    with pytest.raises(ValueError, match=r"missing or unknown norm\.weight"):
        Quantized.from_arrays(model.config, {name: array for name, array in arrays.items() if name != "norm.weight"})
    wrong = arrays | {"lm_head.scales": torch.ones(1, 2)}
    with pytest.raises(ValueError, match=r"has shape|missing or unknown"):
        Quantized.from_arrays(model.config, wrong)
    floats = {name: array.float() for name, array in arrays.items()}
    with pytest.raises(ValueError, match="int8"):
        Quantized.from_arrays(model.config, floats)
