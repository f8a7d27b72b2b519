"""The speed-run GPT: cache and ragged rows, causality, the start, and that Muon with it learns."""

import dataclasses
import itertools
import math

import pytest
import torch

from minilm.layers.ngram_embedding import ngram_rows
from minilm.models.config import SpeedrunConfig
from minilm.models.registry import build_model
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training.loss import cross_entropy

CONFIG = SpeedrunConfig(
    vocab_size=37, context_length=19, d_model=24, n_layers=2, n_heads=3, n_shift=3, max_ngram=5, ngram_rows=101
)


@pytest.fixture
def model():
    torch.manual_seed(3)
    model = SpeedrunGPT(CONFIG).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def ids():
    return torch.randint(0, 37, (4, 19), generator=torch.Generator().manual_seed(8))


def test_every_split_of_a_text_gives_the_same_logits(model, ids):
    whole = model(ids)
    assert whole.std() > 0.1
    for first in range(1, 19):
        cache = model.new_cache(4)
        parts = [model(ids[:, :first], cache), model(ids[:, first:], cache)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-10)
    cache = model.new_cache(4)
    one_by_one = [model(ids[:, t : t + 1], cache) for t in range(19)]
    torch.testing.assert_close(torch.cat(one_by_one, 1), whole, rtol=0, atol=1e-10)


def test_rows_of_different_lengths(model, ids):
    """After a rollback by row, every row goes on as if it were alone: also its token shift."""
    whole, cache, back = model(ids), model.new_cache(4), torch.tensor([3, 0, 5, 1])
    model(ids[:, :10], cache)
    cache.rollback(back)
    onward = torch.stack([row[10 - n : 14 - n] for row, n in zip(ids, back.tolist(), strict=True)])
    logits = model(onward, cache)
    for row, n in enumerate(back.tolist()):
        torch.testing.assert_close(logits[row], whole[row, 10 - n : 14 - n], rtol=0, atol=1e-10)


def test_chosen_rows_and_forks_are_independent(model, ids):
    cache = model.new_cache(4)
    model(ids[:, :9], cache)
    fork = cache.fork()
    fork.select(torch.tensor([2, 2, 0]))
    other = model(ids[:3, 12:15], fork)
    torch.testing.assert_close(model(ids[:, 9:12], cache), model(ids)[:, 9:12], rtol=0, atol=1e-10)
    joined = torch.cat([ids[[2, 2, 0], :9], ids[:3, 12:15]], 1)
    torch.testing.assert_close(other, model(joined)[:, 9:], rtol=0, atol=1e-10)


def test_no_token_sees_the_future(model, ids):
    tables = [table.weight for table in model.embeddings]
    marks = ids.clone()
    marks[0, 11:] = 36
    marks[0, :11] = marks[0, :11] % 36  # token 36 stands from place 11 on only
    gradients = torch.autograd.grad(model(marks[:1])[0, 10].square().sum(), tables)
    assert all((gradient[36] == 0).all() for gradient in gradients)
    assert all((gradient != 0).any() for gradient in gradients)


def test_it_starts_knowing_nothing():
    torch.manual_seed(1)
    logits = SpeedrunGPT(CONFIG)(torch.randint(0, 37, (2, 7)))
    assert cross_entropy(logits, torch.randint(0, 37, (2, 7))).item() == pytest.approx(math.log(37), abs=1e-5)


def test_saved_and_built_again(model, ids):
    again = build_model("speedrun", {**CONFIG.__dict__}, {k: v.float() for k, v in model.arrays().items()}).eval()
    torch.testing.assert_close(again(ids), model.float()(ids))
    with pytest.raises(ValueError, match="missing or unknown"):
        SpeedrunGPT.from_arrays(CONFIG, {})


def test_without_ngrams_and_beyond_the_shift():
    """The longest n-gram may be longer or shorter than the token shift; the window's border counts as a token of its own."""
    for n_shift, max_ngram in ((0, 4), (3, 1), (3, 2)):
        torch.manual_seed(5)
        config = dataclasses.replace(CONFIG, n_shift=n_shift, max_ngram=max_ngram)
        model = SpeedrunGPT(config).double().eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        assert (model.ngrams is None) == (max_ngram == 1)
        ids = torch.randint(0, 37, (2, 9), generator=torch.Generator().manual_seed(2))
        recent = model.recent_tokens(ids, torch.arange(9)[None], None)
        for row, t, back in itertools.product(range(2), range(9), range(recent.shape[-1])):
            assert recent[row, t, back] == (ids[row, t - back] if back <= t else -1)
        cache = model.new_cache(2)
        parts = [model(ids[:, :4], cache), model(ids[:, 4:], cache)]
        torch.testing.assert_close(torch.cat(parts, 1), model(ids), rtol=0, atol=1e-10)


def test_bad_shapes():
    for bad in ({"max_ngram": 0}, {"ngram_rows": 0}, {"ngram_dropout": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is "):
            SpeedrunConfig(**bad)
    with pytest.raises(ValueError, match="multiple of 2"):
        SpeedrunConfig(d_model=30, n_heads=4)
    with pytest.raises(ValueError, match="n_shift is -1"):
        SpeedrunConfig(n_shift=-1)
    with pytest.raises(ValueError, match="20 tokens do not fit"):
        SpeedrunGPT(CONFIG)(torch.zeros(1, 20, dtype=torch.long))


def test_what_stands_before_a_text_is_the_id_vocab_size_to_its_ngrams(model, ids):
    """Row by row: checkpoints were trained so. A model that has grown says which id it was (no_token)."""
    grown = SpeedrunGPT(dataclasses.replace(CONFIG, no_token=5)).double().eval()
    grown.load_state_dict(model.state_dict())
    for one, before in ((model, 37), (grown, 5)):
        vectors = one.embed(one.recent_tokens(ids, torch.arange(19)[None], None))
        for t in range(6):
            newest_first = [int(ids[1, t - back]) if back <= t else before for back in range(5)]
            expected = sum(one.embeddings[back].weight[ids[1, t - back]] for back in range(min(t, 3) + 1))
            expected = expected + one.ngrams.weight[ngram_rows(torch.tensor(newest_first), 101)].sum(0)
            torch.testing.assert_close(vectors[1, t], expected, rtol=0, atol=1e-12)
