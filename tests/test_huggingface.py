"""GPT against transformers: logits, gradients and files, GPT-2 and Llama, in both directions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.llama import modeling_llama

from minilm.fast import attention as fast_attention
from minilm.layers import attention
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.pretrained import huggingface

# Every size of a model differs from every other one, so that no transposed matrix fits by accident.
SMALL = {"vocab_size": 31, "context_length": 17, "n_layers": 2}
CONFIGS = {
    "gpt2": gpt2_config(**SMALL, d_model=20, n_heads=5, d_ff=28),
    "gpt2 exact gelu": gpt2_config(**SMALL, d_model=18, n_heads=3, d_ff=22, mlp="gelu", norm_eps=1e-2),
    "gpt2 untied": gpt2_config(**SMALL, d_model=24, n_heads=2, tie_embeddings=False),
    "gpt2 one head": gpt2_config(vocab_size=19, context_length=13, d_model=10, n_layers=3, n_heads=1),
    "llama": llama_config(**SMALL, d_model=24, n_heads=6, n_kv_heads=2, d_ff=28),
    "llama one key head": llama_config(**SMALL, d_model=20, n_heads=5, n_kv_heads=1, d_ff=26, rope_theta=500.0),
    "llama tied": llama_config(**SMALL, d_model=36, n_heads=6, n_kv_heads=3, d_ff=40, tie_embeddings=True),
    "llama full heads": llama_config(
        vocab_size=19, context_length=13, d_model=12, n_layers=3, n_heads=2, norm_eps=1e-2
    ),
    "llama with biases": llama_config(**SMALL, d_model=24, n_heads=4, n_kv_heads=2, d_ff=30, bias=True),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def reference_model(config: GPTConfig) -> Any:
    """Their model of this config, float64, with large and different random weights everywhere."""
    settings = huggingface.config_to_huggingface(config)
    kind = settings.pop("model_type")
    theirs = transformers.AutoConfig.for_model(kind, **settings, attn_implementation="sdpa")
    model = transformers.AutoModelForCausalLM.from_config(theirs).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def float64_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their norm and rotary table compute in float32 whatever the dtype; here they keep float64."""

    def norm(self: Any, x: Tensor) -> Tensor:
        return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon) ** -0.5

    def rotary(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        size, theta = self.config.head_dim, self.config.rope_parameters["rope_theta"]
        angles = torch.stack([position_ids.double() / theta ** (2 * i / size) for i in range(size // 2)] * 2, -1)
        return angles.cos(), angles.sin()

    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(modeling_llama.LlamaRotaryEmbedding, "forward", rotary)


def random_ids(config: GPTConfig) -> Tensor:
    return torch.randint(0, config.vocab_size, (3, config.context_length))


@every_config
@pytest.mark.parametrize(
    "attend", [attention.scaled_dot_product_attention, fast_attention.scaled_dot_product_attention]
)
def test_logits_and_gradients_are_theirs(
    config: GPTConfig, attend: attention.AttentionFunction, float64_llama: None
) -> None:
    theirs = reference_model(config)
    ours = huggingface.from_huggingface(theirs.state_dict(), config, attend)
    ids = random_ids(config)
    logits, expected = ours(ids), theirs(ids).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    upstream = torch.randn_like(expected)
    logits.backward(upstream)
    expected.backward(upstream)
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    gradients = huggingface.arrays_to_huggingface(gradients, config)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-10, atol=1e-10)


@every_config
def test_our_weights_in_their_model(config: GPTConfig, float64_llama: None) -> None:
    ours = GPT(config).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = reference_model(config)
    theirs.load_state_dict(huggingface.to_huggingface(ours))  # strict
    ids = random_ids(config)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-10)
    again = huggingface.from_huggingface(huggingface.to_huggingface(ours), config)
    assert all(torch.equal(again.arrays()[name], value) for name, value in ours.arrays().items())
    assert (again.lm_head.weight is again.embedding.weight) == config.tie_embeddings


@every_config
@torch.no_grad()
def test_logits_of_an_untouched_llama(config: GPTConfig) -> None:
    theirs = reference_model(config)
    ours = huggingface.from_huggingface(theirs.state_dict(), config)
    ids = random_ids(config)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=2e-5)


@every_config
@torch.no_grad()
def test_files_both_ways(config: GPTConfig, tmp_path: Path) -> None:
    theirs, ids = reference_model(config).float(), random_ids(config)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = huggingface.read_huggingface(tmp_path / "theirs")
    assert ours.config == config and ours.embedding.weight.dtype == torch.float32
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=2e-5)
    huggingface.write_huggingface(ours, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="sdpa")
    assert torch.equal(loaded(ids).logits, theirs(ids).logits)
    assert huggingface.read_huggingface(tmp_path / "ours").config == config
    with pytest.raises(ValueError, match="exists already"):
        huggingface.write_huggingface(ours, tmp_path / "ours")
    (tmp_path / "ours" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="must hold"):
        huggingface.read_huggingface(tmp_path / "ours")


def test_old_files_of_gpt2() -> None:
    # Without a prefix, without a head, and with the causal mask among the weights.
    config = CONFIGS["gpt2"]
    state = huggingface.to_huggingface(GPT(config))
    old = {name.removeprefix("transformer."): value for name, value in state.items() if name != "lm_head.weight"}
    old |= {"h.0.attn.bias": torch.ones(1, 1, 17, 17), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    again = huggingface.to_huggingface(huggingface.from_huggingface(old, config))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", ["gpt2", "llama tied"])
def test_weights_that_do_not_fit_are_errors(name: str) -> None:
    config = CONFIGS[name]
    state = huggingface.to_huggingface(GPT(config))
    norm = next(key for key in state if "norm.weight" in key or "ln_f.weight" in key)
    with pytest.raises(ValueError, match=f"lack {norm}"):
        huggingface.from_huggingface({key: value for key, value in state.items() if key != norm}, config)
    with pytest.raises(ValueError, match="which a model of this config has not"):
        huggingface.from_huggingface(state | {"score.weight": torch.zeros(2, 3)}, config)
    with pytest.raises(ValueError, match="has shape"):
        huggingface.from_huggingface(state | {norm: torch.zeros(7)}, config)
    with pytest.raises(ValueError, match="head of their own"):
        huggingface.from_huggingface(state | {"lm_head.weight": state["lm_head.weight"] + 1}, config)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2", {"model_type": "opt"}, "model_type='opt'"),
        ("gpt2", {"activation_function": "relu"}, "activation_function='relu'"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights=False"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("llama", {"head_dim": 8}, "head_dim=8"),
        ("llama", {"attention_bias": True}, "attention_bias=True but mlp_bias=False"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "stretches its rotary positions"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "stretches its rotary positions"),
    ],
)
def test_architectures_we_do_not_have_are_errors(name: str, changes: dict[str, Any], message: str) -> None:
    settings = huggingface.config_to_huggingface(CONFIGS[name])
    assert huggingface.config_from_huggingface(json.loads(json.dumps(settings))) == CONFIGS[name]
    with pytest.raises(ValueError, match=message):
        huggingface.config_from_huggingface(settings | changes)


@pytest.mark.parametrize("changes", [{"rope_theta": 1e4}, {"norm": "rms"}, {"bias": False}, {"n_kv_heads": 1}])
def test_mixed_architectures_have_no_twin(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="have a twin at Hugging Face"):
        huggingface.config_to_huggingface(gpt2_config(d_model=24, n_heads=6, **changes))
