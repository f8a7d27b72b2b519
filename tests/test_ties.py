"""The tied head is the embedding: one tensor, whatever is done to the model; and two that differ are never made one."""

import copy
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from minilm.layers.wirings import post_norm
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.expert_block import expert_block
from minilm.models.gpt import GPT, build_block
from minilm.pretrained.huggingface import from_huggingface, read_huggingface, to_huggingface, write_huggingface
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import next_token_loss
from minilm.training.muon import build_optimizer

TOKENIZER = ByteTokenizer()
V = TOKENIZER.vocab_size
GPT2 = gpt2_config(vocab_size=V, context_length=11, d_model=20, n_layers=2, n_heads=5, d_ff=28)
LLAMA = llama_config(vocab_size=V, context_length=11, d_model=24, n_layers=2, n_heads=6, d_ff=28, tie_embeddings=True)
both = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])


def saved_and_loaded(model: GPT, folder: Path) -> GPT:
    save_checkpoint(folder, model, TOKENIZER, step=3)
    return load_checkpoint(folder).model


def written_and_read(model: GPT, folder: Path) -> GPT:
    write_huggingface(model, folder / "theirs")
    return read_huggingface(folder / "theirs")


WAYS: dict[str, Callable[[GPT, Path], GPT]] = {
    "as built": lambda model, folder: model,
    "copied": lambda model, folder: copy.deepcopy(model),
    "saved and loaded": saved_and_loaded,
    "from arrays": lambda model, folder: GPT.from_arrays(model.config, model.arrays()),
    "from arrays of numpy": lambda model, folder: GPT.from_arrays(
        model.config, {name: array.numpy() for name, array in model.arrays().items()}
    ),
    "at Hugging Face and back": written_and_read,
    "in float64": lambda model, folder: model.to(torch.float64),
    "in bfloat16 and back": lambda model, folder: model.to(torch.bfloat16).float(),
    "a state dict loaded": lambda model, folder: loaded(GPT(model.config), model),
}


def loaded(model: GPT, source: GPT) -> GPT:
    """The model with the source's state dict, in which the head stands a second time."""
    model.load_state_dict(source.state_dict())
    return model


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@both
def test_one_tensor_before_and_after_training(
    config: GPTConfig, way: Callable[[GPT, Path], GPT], tmp_path: Path
) -> None:
    model = way(GPT(config), tmp_path)
    assert model.lm_head.weight is model.embedding.weight
    before = model.embedding.weight.detach().clone()
    batches = Batches(torch.arange(300).numpy() % 90, batch_size=3, context_length=7)
    train(model, batches, TrainConfig(steps=2, warmup=1, threads=1), progress=False)
    assert model.lm_head.weight is model.embedding.weight
    assert not torch.equal(model.embedding.weight, before)
    ids, table = torch.arange(7)[None], model.embedding(torch.arange(V))
    torch.testing.assert_close(model(ids), model.hidden(ids) @ table.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("part", ["post-norm", "experts"])
def test_with_other_blocks(part: str) -> None:
    block = {
        "post-norm": functools.partial(build_block, wiring=post_norm),
        "experts": functools.partial(expert_block, n_experts=3, k=2),
    }[part]
    model = GPT(GPT2, block=block)
    for each in (model, copy.deepcopy(model), GPT.from_arrays(GPT2, model.arrays(), block=block)):
        assert each.lm_head.weight is each.embedding.weight
        assert "lm_head.weight" not in each.arrays()


@both
def test_the_gradient_is_the_sum_of_both_uses(config: GPTConfig) -> None:
    """Against the untied model with the same numbers, in float64, before and after one step of the optimizer."""
    tied = GPT(config).double()
    apart = dataclasses.replace(config, tie_embeddings=False)
    arrays = tied.arrays()
    untied = GPT.from_arrays(apart, arrays | {"lm_head.weight": arrays["embedding.weight"]}).double()
    with torch.no_grad():
        for own, other in zip(tied.parameters(), untied.parameters(), strict=False):
            own.copy_(other)
    inputs, targets = torch.randint(0, V, (3, 9)), torch.randint(0, V, (3, 9))
    for model in (tied, untied):
        next_token_loss(model, inputs, targets).backward()
    assert untied.lm_head.weight.grad is not None
    expected = untied.embedding.weight.grad + untied.lm_head.weight.grad
    torch.testing.assert_close(tied.embedding.weight.grad, expected, rtol=0, atol=1e-12)
    assert untied.lm_head.weight is not untied.embedding.weight


@pytest.mark.parametrize("name", ["adamw", "muon"])
@both
def test_the_optimizer_has_it_once(config: GPTConfig, name: str) -> None:
    model = GPT(config)
    optimizer = build_optimizer(model, TrainConfig(optimizer=name))
    held = [parameter for group in optimizer.groups for parameter in group["params"]]
    assert sum(parameter is model.embedding.weight for parameter in held) == 1
    assert len(held) == len({id(parameter) for parameter in held}) == len(model.arrays())


# ---- two tensors that differ


def table_name(config: GPTConfig) -> str:
    return "transformer.wte.weight" if config.norm == "layer" else "model.embed_tokens.weight"


@both
def test_a_head_of_its_own_is_not_discarded(config: GPTConfig, tmp_path: Path) -> None:
    """Both keys in a state dict: equal is tied, one number apart is an error, in memory and from a file."""
    model = GPT(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    state = to_huggingface(model)
    assert torch.equal(state["lm_head.weight"], state[table_name(config)])
    again = from_huggingface(state, config)
    assert again.lm_head.weight is again.embedding.weight
    other = state["lm_head.weight"].clone()
    other[-1, -1] += 1e-6
    with pytest.raises(ValueError, match="hold a head of their own, the config says tied: set tie_embeddings=False"):
        from_huggingface(state | {"lm_head.weight": other}, config)
    write_huggingface(model, tmp_path / "theirs")
    save_file({"lm_head.weight": other}, tmp_path / "theirs" / "more.safetensors")
    with pytest.raises(ValueError, match="hold a head of their own"):
        read_huggingface(tmp_path / "theirs")


@both
def test_what_the_message_advises_works(config: GPTConfig) -> None:
    apart = dataclasses.replace(config, tie_embeddings=False)
    state = to_huggingface(GPT(apart))
    model = from_huggingface(state, apart)
    assert torch.equal(model.lm_head.weight, state["lm_head.weight"])
    assert torch.equal(model.embedding.weight, state[table_name(config)])
    assert not torch.equal(model.lm_head.weight, model.embedding.weight)
    with pytest.raises(ValueError, match=r"the weights lack lm_head\.weight"):
        from_huggingface({name: value for name, value in state.items() if name != "lm_head.weight"}, apart)


@both
def test_arrays_of_a_tied_model_have_no_head(config: GPTConfig) -> None:
    """A head among the arrays of a tied model would be lost in silence: it is an error."""
    arrays = GPT(config).arrays()
    with pytest.raises(ValueError, match=r"missing or unknown lm_head\.weight"):
        GPT.from_arrays(config, arrays | {"lm_head.weight": arrays["embedding.weight"] + 1})
    with pytest.raises(ValueError, match=r"missing or unknown lm_head\.weight"):
        GPT.from_arrays(dataclasses.replace(config, tie_embeddings=False), arrays)
