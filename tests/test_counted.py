"""A counted model behind the protocol: any chunking, batch, fork and rollback gives the rows of the whole."""

import numpy as np
import pytest
import torch

from minilm.classical.config import SMOOTHINGS, NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.models.counted import CountedLM

V, EOT, B, T = 9, 7, 3, 13


@pytest.fixture
def model() -> CountedLM:
    return counted("kneser-ney")


def counted(smoothing: str) -> CountedLM:
    ids = np.random.default_rng(1).integers(0, V, 400) % 5 + 1
    ids[::29] = EOT
    return CountedLM(NgramLM(NgramConfig(V, 4, smoothing)).fit(ids, EOT))


def batch(seed: int, n_rows: int = B, length: int = T) -> torch.Tensor:
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, V, (n_rows, length)))
    ids[0, 0] = ids[1, 6] = EOT  # one row begins with <|endoftext|>, one has it in its middle, one has none
    ids[2] = ids[2].clamp(max=EOT - 1)
    return ids


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_rows_are_those_of_the_model_itself(smoothing: str) -> None:
    model, ids = counted(smoothing), batch(2)
    logits = model(ids)
    assert logits.shape == (B, T, V) and logits.dtype == torch.float64
    for b in range(B):
        for t in range(T):
            expected = model.model.log_probs(ids[b, : t + 1].numpy(), last=1)[0]
            np.testing.assert_array_equal(logits[b, t].numpy(), expected)
        scores = model.token_log_probs(ids[b].numpy())
        np.testing.assert_allclose(logits[b, torch.arange(T - 1), ids[b, 1:]], scores[1:], rtol=0, atol=1e-12)
    torch.testing.assert_close(logits.softmax(-1), logits.exp(), rtol=0, atol=1e-12)


def test_any_chunking_gives_the_rows_of_the_whole(model: CountedLM) -> None:
    ids, rng = batch(3), np.random.default_rng(4)
    whole = model(ids)
    for n_cuts in (0, 1, 2, 5, T - 1):
        for max_length in (None, T):
            cuts = np.sort(rng.choice(np.arange(1, T), n_cuts, replace=False)).tolist()
            cache = model.new_cache(B, max_length)
            chunks = [model(ids[:, a:b], cache=cache) for a, b in zip([0, *cuts], [*cuts, T], strict=True)]
            assert torch.equal(torch.cat(chunks, dim=1), whole)
            assert cache.lengths.tolist() == [T] * B


def test_rollback_forgets(model: CountedLM) -> None:
    ids, other = batch(5), batch(6)
    cache = model.new_cache(B, 20)
    model(ids[:, :8], cache)
    model(other[:, 8:11], cache)
    cache.rollback(3)
    assert torch.equal(model(ids[:, 8:], cache), model(ids)[:, 8:])
    with pytest.raises(ValueError, match="rollback of 14"):
        cache.rollback(14)
    with pytest.raises(ValueError, match="rows hold"):
        cache.rollback(torch.tensor([1, 14, 1]))


def test_ragged_rows(model: CountedLM) -> None:
    """Rows of different lengths, made by rolling back a different number of tokens in each."""
    ids, lengths = batch(7), torch.tensor([5, 9, 2])
    cache = model.new_cache(B)
    model(ids[:, :9], cache)
    cache.rollback(9 - lengths)
    step = model(ids[:, 9:11], cache)
    for b, length in enumerate(lengths.tolist()):
        alone = torch.cat([ids[b, :length], ids[b, 9:11]])[None]
        assert torch.equal(step[b], model(alone)[0, -2:])
    assert cache.lengths.tolist() == (lengths + 2).tolist()


def test_select_and_fork(model: CountedLM) -> None:
    ids = batch(8)
    cache = model.new_cache(B)
    model(ids[:, :10], cache)
    twin = cache.fork()
    rows = torch.tensor([2, 0, 0, 1])
    cache.select(rows)
    assert torch.equal(model(ids[rows, 10:], cache), model(ids)[rows, 10:])
    assert torch.equal(model(ids[:, 10:], twin), model(ids)[:, 10:])  # untouched by what its twin went through
    one, two = twin.fork(), twin
    two.rollback(2)
    model(batch(9)[:, :2], two)
    assert torch.equal(model(ids[:, :1], one), model(torch.cat([ids, ids[:, :1]], dim=1))[:, -1:])


def test_cache_bounds(model: CountedLM) -> None:
    ids, cache = batch(10), model.new_cache(B, 12)
    model(ids[:, :12], cache)
    with pytest.raises(ValueError, match="holds 12 tokens: 12 \\+ 1"):
        model(ids[:, 12:], cache)
    endless, long = model.new_cache(B), batch(11, B, 200)
    assert torch.equal(torch.cat([model(part, endless) for part in long.split(37, dim=1)], dim=1), model(long))
    endless.rollback(150)
    assert torch.equal(model(long[:, 50:], endless), model(long)[:, 50:])


def test_refused_ids_leave_the_cache_as_it_was(model: CountedLM) -> None:
    ids, cache = batch(12), model.new_cache(B)
    model(ids[:, :6], cache)
    bad = ids[:, 6:8].clone()
    bad[2, 1] = V
    with pytest.raises(ValueError, match="tokenizer"):
        model(bad, cache)
    assert torch.equal(model(ids[:, 6:], cache), model(ids)[:, 6:])


def test_saved_and_loaded(model: CountedLM) -> None:
    again = CountedLM.from_arrays(model.config, model.arrays())
    assert (again.kind, again.config, again.n_parameters) == ("ngram", model.config, model.n_parameters)
    assert again.n_parameters > 300 and again.context_length is None
    assert torch.equal(again(batch(13)), model(batch(13)))


def test_without_context() -> None:
    """Order 1 looks at nothing: every row is the same distribution, cached or not."""
    model = CountedLM(NgramLM(NgramConfig(V, 1)).fit(np.array([EOT, 1, 2, 2, 5]), EOT))
    ids, cache = batch(14), model.new_cache(B)
    rows = torch.cat([model(ids[:, :4], cache), model(ids[:, 4:], cache)], dim=1)
    assert torch.equal(rows, model(ids)) and torch.equal(rows, rows[:1, :1].expand(B, T, V))
    assert rows[0, 0].std() > 0.1
