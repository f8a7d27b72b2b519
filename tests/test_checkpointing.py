"""Blocks that recompute on the way back: the plain blocks' gradients to the bit, from less memory."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from minilm.fast.checkpointing import checkpointed
from minilm.layers.attention import AttentionFunction
from minilm.layers.basic import Dropout, relu
from minilm.layers.blocks import MLP
from minilm.layers.mixture_of_experts import MixtureOfExperts, with_balance
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT, build_block
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import cross_entropy, next_token_loss

SHAPE = {"vocab_size": 23, "context_length": 11, "d_model": 12, "n_layers": 3, "n_heads": 2}
CONFIGS = [gpt2_config(**SHAPE, dropout=0.3), llama_config(**SHAPE, dropout=0.0)]


def make(config: GPTConfig, block: Callable[..., nn.Module] = build_block) -> GPT:
    torch.manual_seed(3)
    return GPT(config, block=block).train()


def step(model: GPT, ids: Tensor, seed: int = 9) -> tuple[Tensor, list[Tensor]]:
    """The loss, and all gradients, with dropout drawn from this seed."""
    torch.manual_seed(seed)
    model.zero_grad()
    loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def draw(*shape: int) -> Tensor:
    return torch.randint(23, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", CONFIGS)
def test_gradients_are_those_of_the_plain_blocks_bit_for_bit(config: GPTConfig) -> None:
    plain, saving = make(config), make(config, checkpointed(build_block))
    for seed in (9, 10):
        losses, gradients = zip(*(step(model, draw(4, 12), seed) for model in (plain, saving)), strict=True)
        assert torch.equal(*losses)
        assert len(gradients[0]) == len(gradients[1]) == len(list(plain.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
        after = torch.rand(5)
        step(plain, draw(4, 12), seed)
        assert torch.equal(torch.rand(5), after)  # the random numbers that follow are the same too
    if config.dropout:
        assert not torch.equal(step(saving, draw(4, 12), 9)[0], step(saving, draw(4, 12), 10)[0])


@pytest.mark.parametrize("config", CONFIGS)
def test_less_is_kept_for_the_way_back(config: GPTConfig) -> None:
    """Of each block its input alone, and the mask: the rest of the model keeps the same."""

    def kept(model: GPT) -> int:
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        tensors: dict[int, Tensor] = {}  # by where they lie: what is kept twice takes its memory once

        def keep(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                tensors[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            cross_entropy(model(draw(4, 11)), draw(4, 11))
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())

    B, T, D, float32 = 4, 11, 12, 4
    deeper = GPTConfig(**{**config.__dict__, "n_layers": 7})
    blocks = {
        build: kept(make(deeper, build)) - kept(make(config, build))
        for build in (build_block, checkpointed(build_block))
    }
    plain, saving = blocks.values()  # of four blocks
    assert saving <= 4 * B * T * D * float32
    assert plain > 15 * saving


def test_each_block_is_computed_twice_in_training_and_once_otherwise() -> None:
    calls = []

    def counted(config: GPTConfig, attention: Callable[..., Tensor]) -> nn.Module:
        block = build_block(config, attention)
        block.attention.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
        return block

    model = make(CONFIGS[0], checkpointed(counted))
    step(model, draw(2, 12))
    assert len(calls) == 2 * 3
    calls.clear()
    with torch.no_grad():
        model(draw(2, 7))
    assert len(calls) == 3
    calls.clear()
    with torch.inference_mode():
        model(draw(2, 7))
    assert len(calls) == 3


@pytest.mark.parametrize("config", CONFIGS)
def test_a_cache_is_filled_once_even_if_there_is_a_way_back(config: GPTConfig) -> None:
    gradients = []
    for block in (build_block, checkpointed(build_block)):
        model = make(config, block).eval()
        cache = model.new_cache(2)
        model(draw(2, 7), cache).square().sum().backward()
        assert torch.equal(cache.lengths, torch.full((2,), 7))
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        gradients[-1] += [cache.keys[0].detach().clone(), cache.values[2].detach().clone()]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("config", CONFIGS)
def test_decoding_with_a_cache(config: GPTConfig) -> None:
    plain, saving = make(config).eval(), make(config, checkpointed(build_block)).eval()
    ids, caches = draw(3, 11), (plain.new_cache(3), saving.new_cache(3))
    for start, end in ((0, 4), (4, 5), (5, 11)):
        a, b = (model(ids[:, start:end], cache) for model, cache in zip((plain, saving), caches, strict=True))
        assert torch.equal(a, b)
        assert torch.equal(caches[1].lengths, torch.full((3,), end))
    torch.testing.assert_close(b, plain(ids)[:, 5:])


def test_weights_have_the_names_of_the_plain_blocks() -> None:
    config = CONFIGS[0]
    saving = GPT.from_arrays(config, make(config).arrays(), block=checkpointed(build_block))
    assert saving.arrays().keys() == make(config).arrays().keys()
    assert torch.equal(saving.eval()(draw(2, 5)), make(config).eval()(draw(2, 5)))


def test_a_copy_computes_with_its_own_weights() -> None:
    """The plan of a training run times copies of the model: they must not train the model itself."""
    model = make(CONFIGS[1], checkpointed(build_block))
    twin = copy.deepcopy(model)
    nn.init.normal_(twin.blocks[0].mlp.down.weight)
    assert not torch.equal(twin(draw(2, 5)), model(draw(2, 5)))
    step(twin, draw(2, 12))
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_another_builder_and_another_mode() -> None:
    """A block with parts of its own; dropout follows train() and eval()."""

    def post_norm(
        x: Tensor, attention: Callable, mlp: Callable, attention_norm: Callable, mlp_norm: Callable
    ) -> Tensor:
        x = attention_norm(x + attention(x))
        return mlp_norm(x + mlp(x))

    build = partial(build_block, wiring=post_norm)
    config = CONFIGS[0]
    plain, saving = make(config, build), make(config, checkpointed(build))
    assert all(
        torch.equal(a, b) for a, b in zip(step(plain, draw(4, 12))[1], step(saving, draw(4, 12))[1], strict=True)
    )
    assert sum(isinstance(module, Dropout) for module in saving.modules()) == 4
    saving.eval()
    assert torch.equal(saving(draw(2, 5)), saving(draw(2, 5)))


def mixed_block(config: GPTConfig, attention: AttentionFunction) -> nn.Module:
    block = build_block(config, attention)
    block.mlp = MixtureOfExperts([MLP(config.d_model, 9, relu) for _ in range(3)], config.d_model, k=2)
    return block


def test_the_balance_of_experts_is_not_left_behind_by_the_way_back() -> None:
    plain, saving = make(CONFIGS[0], mixed_block), make(CONFIGS[0], checkpointed(mixed_block))
    ids, gradients = draw(4, 12), []
    for model in (plain, saving):
        torch.manual_seed(9)
        with_balance(next_token_loss, 0.5)(model, ids[:, :-1], ids[:, 1:]).backward()
        gradients.append([p.grad for p in model.parameters()])
        assert [block.mlp.balance for block in model.blocks] == [None] * 3
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_balance_that_waits_is_not_touched_by_the_way_back_of_an_earlier_pass() -> None:
    model = make(CONFIGS[0], checkpointed(mixed_block))
    first = next_token_loss(model, draw(4, 11), draw(4, 11))
    taken = [block.mlp.take_balance() for block in model.blocks]
    model(draw(2, 7))
    waiting = [block.mlp.balance for block in model.blocks]
    (first + sum(taken)).backward()
    assert all(block.mlp.balance is balance is not None for block, balance in zip(model.blocks, waiting, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_is_the_same_run(dtype: str) -> None:
    settings = TrainConfig(steps=4, dtype=dtype, warmup=0, eval_every=0, learning_rate=0.01)
    ids, histories = draw(4, 12), []
    models = [make(CONFIGS[0], block) for block in (build_block, checkpointed(build_block))]
    for model in models:
        torch.manual_seed(6)
        histories.append(train(model, [(ids[:, :-1], ids[:, 1:])] * 4, settings, progress=False))
    assert [a["loss"] for a in histories[0]] == [b["loss"] for b in histories[1]]
    assert all(torch.equal(p, q) for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True))
