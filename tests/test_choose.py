"""Which fast twins are chosen: the fused attention where it pays, a fused loss, torch's kernels, and none of them with --plain."""

import dataclasses

import pytest
import torch
from torch import nn

from minilm.fast import attention, choose, cross_entropy, loss, short_attention
from minilm.finetuning.config import HeadConfig
from minilm.finetuning.lora_config import AdaptedConfig
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.models.rnn_config import RNNConfig
from minilm.training.batches import Batches
from minilm.training.config import TrainConfig
from minilm.training.loop import train


@pytest.mark.parametrize(
    ("plain", "device", "length", "has_bfloat16", "twin"),
    [
        (True, "cuda", 4096, True, None),
        (True, "cpu", 4096, False, None),
        (True, "cpu", 8, True, None),
        (False, "cpu", 256, True, short_attention),
        (False, "cpu", 257, True, attention),
        (False, "cpu", 8, False, attention),
        (False, "cuda", 8, True, attention.causal_attention),
        (False, "mps", 4096, False, attention.causal_attention),
    ],
)
def test_attention(monkeypatch, plain, device, length, has_bfloat16, twin):
    monkeypatch.setattr(choose, "multiplies_bfloat16", lambda device: has_bfloat16)
    expected = {"attention": getattr(twin, "scaled_dot_product_attention", twin)} if twin else {}
    assert choose.attention_part(plain, torch.device(device), length) == expected
    compiled = {} if plain else {"attention": attention.causal_attention}
    assert choose.attention_part(plain, torch.device(device), length, compiled=True) == compiled


def test_a_recurrent_model_has_no_attention():
    """Nor has a head on one, nor an adapter: all others get what `attention_part` says."""
    cpu, rnn, gpt = torch.device("cpu"), RNNConfig(vocab_size=9), small_gpt(9).config
    fields = {name: {**dataclasses.asdict(config), "d_model": 6} for name, config in (("rnn", rnn), ("gpt", gpt))}
    for kind, wanted in (("rnn", {}), ("gpt", choose.attention_part(False, cpu, gpt.context_length))):
        settings = [
            rnn if kind == "rnn" else gpt,
            HeadConfig(kind, fields[kind], ("good", "bad")),
            AdaptedConfig(base="b", fingerprint="f", base_kind=kind, base_config=fields[kind], lora={}),
        ]
        assert all(choose.parts_for(False, cpu, one).keys() == wanted.keys() for one in settings)
        assert not any(choose.parts_for(True, cpu, one) for one in settings)


def small_gpt(vocab_size: int) -> GPT:
    torch.manual_seed(2)
    return GPT(GPTConfig(vocab_size=vocab_size, context_length=7, d_model=6, n_layers=1, n_heads=2))


def test_loss():
    large = small_gpt(choose.LARGE_VOCABULARY)
    assert choose.loss_part(False, False, large) == {"loss_function": cross_entropy.next_token_loss}
    other = nn.Linear(2, 2)
    other.config = large.config
    for compiled, model in ((True, large), (False, small_gpt(choose.LARGE_VOCABULARY - 1)), (False, other)):
        assert choose.loss_part(False, compiled, model) == {"loss_function": loss.next_token_loss}
        assert choose.loss_part(True, compiled, model) == {}


def test_kernels():
    model = small_gpt(50)
    assert choose.with_kernels(True, model) is model
    assert "forward" not in vars(model.norm)
    assert choose.with_kernels(False, model) is model
    assert "forward" in vars(model.norm)


def test_the_fused_loss_trains_to_the_same_weights():
    ids = torch.randint(0, choose.LARGE_VOCABULARY, (200,), generator=torch.Generator().manual_seed(4)).numpy()
    weights = []
    for fused in (False, True):
        model = small_gpt(choose.LARGE_VOCABULARY).double()
        part = choose.loss_part(not fused, False, model)
        config = TrainConfig(steps=5, eval_every=0, save_every=0, threads=1, dtype="float32")
        train(model, Batches(ids, 3, 7), config, progress=False, **part)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=1e-9)
