"""GPT as a whole: causal, cacheable in any pieces, and counted. Its numbers are compared in test_huggingface.py."""

import copy
import dataclasses
import random

import pytest
import torch
from torch import Tensor

from minilm.fast import attention as fast_attention
from minilm.layers import attention
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT

CONTEXT = 24
GPT2 = gpt2_config(vocab_size=29, context_length=CONTEXT, d_model=20, n_layers=3, n_heads=5, d_ff=28)
LLAMA = llama_config(vocab_size=29, context_length=CONTEXT, d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=28)
both = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])


def random_model(
    config: GPTConfig, attend: attention.AttentionFunction = attention.scaled_dot_product_attention
) -> GPT:
    """A float64 model with large random weights everywhere, norms and biases included."""
    model = GPT(config, attend).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def assert_close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=0, atol=1e-10)
    assert torch.equal(x.argmax(-1), y.argmax(-1))


@torch.no_grad()
def read_in_pieces(model: GPT, ids: Tensor, ends: list[int]) -> Tensor:
    """The logits of ids (B, T), read through a cache in pieces that end at `ends`."""
    cache = model.new_cache(len(ids))
    pieces = [model(ids[:, start:end], cache) for start, end in zip([0, *ends], [*ends, ids.shape[1]], strict=True)]
    assert cache.lengths.tolist() == [ids.shape[1]] * len(ids)
    return torch.cat(pieces, 1)


@both
def test_cached_is_uncached_for_every_prompt_and_chunk(config: GPTConfig) -> None:
    model, ids = random_model(config, fast_attention.scaled_dot_product_attention), torch.randint(0, 29, (3, CONTEXT))
    whole = model(ids).detach()
    assert whole.std() > 0.1
    cuts = [list(range(prompt, CONTEXT)) for prompt in range(1, CONTEXT)]  # a prompt, then one token at a time
    cuts += [list(range(size, CONTEXT, size)) for size in range(2, CONTEXT + 1)]  # equal chunks
    cuts += [[i, j] for i in range(1, CONTEXT) for j in range(i + 1, CONTEXT, 3)]
    chance = random.Random(3)
    cuts += [sorted(chance.sample(range(1, CONTEXT), chance.randrange(3, 9))) for _ in range(40)]
    for ends in cuts:
        assert_close(read_in_pieces(model, ids, ends), whole)
    for length in range(1, CONTEXT):  # and a shorter text is a prefix
        assert_close(model(ids[:, :length]), whole[:, :length])


@both
@torch.no_grad()
def test_ragged_rows_are_the_rows_alone(config: GPTConfig) -> None:
    model = random_model(config)
    lengths = torch.tensor([7, 1, 15, 4])
    ids = torch.randint(0, 29, (4, CONTEXT))
    cache = model.new_cache(4)
    first = model(ids[:, :15], cache)  # what lies behind a row's end is read, and forgotten
    cache.rollback(15 - lengths)
    new = torch.stack([ids[b, n : n + 5] for b, n in enumerate(lengths.tolist())])
    logits = torch.cat([model(new[:, :1], cache), model(new[:, 1:4], cache), model(new[:, 4:], cache)], 1)
    for b, n in enumerate(lengths.tolist()):
        alone = model(ids[b : b + 1, : n + 5])[0]
        assert_close(first[b, :n], alone[:n])
        assert_close(logits[b], alone[n:])
    kept = torch.tensor([2, 0, 2])
    cache.select(kept)
    after = model(ids[:3, :1], cache)[:, 0]
    for row, b in enumerate(kept.tolist()):
        alone = torch.cat([ids[b, : int(lengths[b])], new[b], ids[row, :1]])
        assert_close(after[row], model(alone[None])[0, -1])


@both
def test_more_tokens_than_the_context_are_an_error(config: GPTConfig) -> None:
    model, ids = random_model(config), torch.zeros(2, CONTEXT + 1, dtype=torch.long)
    with pytest.raises(ValueError, match=f"{CONTEXT + 1} tokens do not fit into context_length {CONTEXT}"):
        model(ids)
    cache = model.new_cache(2)
    model(ids[:, 1:], cache)
    with pytest.raises(ValueError, match="do not fit"):
        model(ids[:, :1], cache)


@both
@pytest.mark.parametrize(
    "attend", [attention.scaled_dot_product_attention, fast_attention.scaled_dot_product_attention]
)
def test_no_token_hears_of_the_future(config: GPTConfig, attend: attention.AttentionFunction) -> None:
    model, ids = random_model(config, attend), torch.randint(0, 29, (2, 9))
    inputs: list[Tensor] = []
    model.embedding.register_forward_hook(lambda _module, _arguments, output: inputs.append(output))
    logits = model(ids)
    for t in range(9):
        (gradient,) = torch.autograd.grad(logits[:, t].square().sum(), inputs[0], retain_graph=True)
        influence = gradient.abs().sum(-1)  # (B, T)
        assert (influence[:, : t + 1] > 0).all()
        assert (influence[:, t + 1 :] == 0).all()  # exactly
    order = torch.tensor([1, 0])
    assert_close(model(ids[order]), logits[order])  # rows do not hear of each other


def test_numbers_of_parameters() -> None:
    def count(config: GPTConfig) -> int:
        with torch.device("meta"):  # shapes without memory
            return sum(parameter.numel() for parameter in GPT(config).parameters())

    gpt2 = dict(vocab_size=50257, context_length=1024)
    assert count(gpt2_config(**gpt2, d_model=768, n_layers=12, n_heads=12)) == 124_439_808
    assert count(gpt2_config(**gpt2, d_model=1600, n_layers=48, n_heads=25)) == 1_557_611_200
    llama = dict(vocab_size=32000, context_length=2048, n_heads=32)
    assert count(llama_config(**llama, d_model=4096, n_layers=32, d_ff=11008)) == 6_738_415_616
    assert count(llama_config(**llama, d_model=2048, n_layers=22, n_kv_heads=4, d_ff=5632)) == 1_100_048_384


@pytest.mark.parametrize("tied", [True, False])
@both
def test_tied_head_is_the_embedding(config: GPTConfig, tied: bool) -> None:
    model = random_model(dataclasses.replace(config, tie_embeddings=tied))
    again = GPT.from_arrays(model.config, model.arrays()).double()
    numpy = GPT.from_arrays(model.config, {name: array.numpy() for name, array in model.arrays().items()})
    for each in (model, again, numpy, copy.deepcopy(model)):
        assert (each.lm_head.weight is each.embedding.weight) == tied
    assert ("lm_head.weight" in model.arrays()) != tied
    ids = torch.randint(0, 29, (2, 5))
    torch.testing.assert_close(again(ids), model(ids), rtol=0, atol=1e-4)  # through float32
    torch.testing.assert_close(model(ids), model.head(model.hidden(ids)), rtol=0, atol=0)


def test_arrays_that_do_not_fit_are_an_error() -> None:
    arrays = GPT(LLAMA).arrays()
    with pytest.raises(ValueError, match=r"missing or unknown blocks\.1\.mlp\.up\.weight"):
        GPT.from_arrays(LLAMA, {name: array for name, array in arrays.items() if name != "blocks.1.mlp.up.weight"})
    with pytest.raises(ValueError, match="unknown spare"):
        GPT.from_arrays(LLAMA, arrays | {"spare": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"norm\.weight has shape \(1,\), the model needs \(24,\)"):
        GPT.from_arrays(LLAMA, arrays | {"norm.weight": torch.zeros(1)})


@both
def test_dropout_acts_in_training_only(config: GPTConfig) -> None:
    model = random_model(dataclasses.replace(config, dropout=0.3))
    without, ids = random_model(config), torch.randint(0, 29, (2, 7))
    without.load_state_dict(model.state_dict())
    assert torch.equal(model(ids), without(ids))
    model.train(True)
    assert not torch.equal(model(ids), model(ids))
    model.train(False)
    assert torch.equal(model(ids), without(ids))


@both
def test_a_new_model_knows_nothing(config: GPTConfig) -> None:
    # The first loss is close to ln V, and every weight matters: none has a gradient of zero.
    model, ids = GPT(config).double(), torch.randint(0, 29, (6, CONTEXT))
    log_probs = model(ids[:, :-1]).log_softmax(-1)
    loss = -log_probs.gather(-1, ids[:, 1:, None]).mean()
    assert loss.item() == pytest.approx(torch.tensor(29.0).log().item(), abs=0.05)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    for name in ("attention.out", "mlp.down"):  # what writes to the residual stream starts smaller
        narrow = model.get_parameter(f"blocks.1.{name}.weight")
        assert narrow.std().item() == pytest.approx(0.02 / (2 * config.n_layers) ** 0.5, rel=0.15)
    assert model.get_parameter("blocks.1.mlp.up.weight").std().item() == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"n_layers": -1}, "n_layers is -1"),
        ({"d_model": 20, "n_heads": 6}, "d_model 20 must be a multiple of n_heads 6"),
        ({"d_model": 24, "n_heads": 6, "n_kv_heads": 4}, "n_heads 6 must be a multiple of n_kv_heads 4"),
        ({"d_model": 20, "n_heads": 4, "rope_theta": 1e4}, "even head size"),
        ({"rope_theta": 0.0}, "theta > 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"mlp": "relu"}, "mlp is 'relu'"),
    ],
)
def test_impossible_shapes_are_errors(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPTConfig(**changes)
