"""The bare loop says what the library's loop says, and reads each token once."""

import pytest
import torch

from minilm.decoding.config import SampleConfig
from minilm.decoding.continuing import continue_text
from minilm.decoding.generate import generate
from minilm.decoding.sampling import Sampler
from minilm.models.config import gpt2_config
from minilm.models.gpt import GPT

V = 13


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = GPT(gpt2_config(vocab_size=V, context_length=24, d_model=12, n_layers=2, n_heads=3)).double()
    for weight in model.parameters():
        weight.data.mul_(8.0)  # or all logits are nearly alike
    return model.requires_grad_(False)


def sampler(temperature):
    return Sampler(SampleConfig(temperature=temperature), torch.Generator().manual_seed(4))


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(("prompt", "n"), [([3], 0), ([3], 1), ([7, 1, 4], 6), ([2, 2, 0, 9, 5], 19)])
def test_it_is_the_loop_of_generate(model, prompt, n, temperature):
    new = continue_text(model, prompt, sampler(temperature), n)
    assert new == list(generate(model, prompt, sampler(temperature), n, use_cache=False))
    assert len(new) == n and all(type(token) is int for token in new)


def test_each_token_is_read_once_and_the_prompt_is_left_alone(model):
    read, prompt = [], [7, 1, 4]

    class Watched:
        new_cache = staticmethod(model.new_cache)

        def __call__(self, ids, cache):
            read.append(ids.tolist())
            return model(ids, cache)

    new = continue_text(Watched(), prompt, sampler(0.9), 5)
    assert read == [[[7, 1, 4]], *([[token]] for token in new[:-1])] and prompt == [7, 1, 4]


def test_a_prompt_may_be_a_tensor(model):
    assert continue_text(model, torch.tensor([7, 1, 4]), sampler(0), 4) == continue_text(
        model, [7, 1, 4], sampler(0), 4
    )


def test_two_texts_in_a_row_know_nothing_of_each_other(model):
    """Pitfalls 26-33: no cache may outlive its text."""
    first = continue_text(model, [1, 2], sampler(0), 8)
    continue_text(model, [5, 6, 7], sampler(0), 8)
    assert continue_text(model, [1, 2], sampler(0), 8) == first
