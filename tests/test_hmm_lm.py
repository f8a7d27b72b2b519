"""The hidden Markov model behind the protocol: any chunking, batch, fork and rollback gives the rows of the whole."""

import json

import numpy as np
import pytest
import torch
from hmm_by_enumeration import random_rows

from minilm.classical.config import HMMConfig
from minilm.classical.hmm import HMM
from minilm.decoding.batch import generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.sampling import Sampler
from minilm.evaluation.evaluate import evaluate
from minilm.models.hmm_lm import HmmLM
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

V, K, EOT, B, T = 9, 4, 7, 3, 13


@pytest.fixture
def model() -> HmmLM:
    return hidden(V, K, EOT)


def hidden(vocab_size: int, n_states: int, end_of_text: int, seed: int = 1) -> HmmLM:
    rng = np.random.default_rng(seed)
    start, transition = random_rows(rng, (n_states,), 0.2), random_rows(rng, (n_states, n_states), 0.2)
    emission = random_rows(rng, (n_states, vocab_size), 0.0)
    return HmmLM(HMM(HMMConfig(vocab_size, n_states), start, transition, emission, end_of_text))


def batch(seed: int, n_rows: int = B, length: int = T) -> torch.Tensor:
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, V, (n_rows, length)))
    ids[0, 0] = ids[1, 6] = EOT  # one row begins with <|endoftext|>, one has it in its middle, one has none
    ids[2] = ids[2] % EOT
    return ids


def test_rows_are_those_of_the_model_itself(model: HmmLM) -> None:
    ids = batch(2)
    logits = model(ids)
    assert logits.shape == (B, T, V) and logits.dtype == torch.float64
    for b in range(B):
        row = ids[b].numpy()
        np.testing.assert_allclose(logits[b].numpy(), model.model.log_probs(row), rtol=0, atol=1e-12)
        scores = model.token_log_probs(row)
        np.testing.assert_allclose(logits[b, torch.arange(T - 1), ids[b, 1:]], scores[1:], rtol=0, atol=1e-12)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(B, T, dtype=torch.float64), rtol=0, atol=1e-12)


def test_any_chunking_gives_the_rows_of_the_whole(model: HmmLM) -> None:
    ids, rng = batch(3), np.random.default_rng(4)
    whole = model(ids)
    for n_cuts in (0, 1, 2, 5, T - 1):
        for max_length in (None, T):
            cuts = np.sort(rng.choice(np.arange(1, T), n_cuts, replace=False)).tolist()
            cache = model.new_cache(B, max_length)
            chunks = [model(ids[:, a:b], cache=cache) for a, b in zip([0, *cuts], [*cuts, T], strict=True)]
            torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=0, atol=1e-13)
            assert cache.lengths.tolist() == [T] * B


def test_rollback_forgets(model: HmmLM) -> None:
    ids, other = batch(5), batch(6)
    cache = model.new_cache(B, 20)
    model(ids[:, :8], cache)
    model(other[:, 8:11], cache)
    cache.rollback(3)
    torch.testing.assert_close(model(ids[:, 8:], cache), model(ids)[:, 8:], rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="rollback of 14"):
        cache.rollback(14)
    with pytest.raises(ValueError, match="rows hold"):
        cache.rollback(torch.tensor([1, 14, 1]))
    cache.rollback(13)
    torch.testing.assert_close(model(other, cache), model(other), rtol=0, atol=1e-13)


def test_ragged_rows(model: HmmLM) -> None:
    """Rows of different lengths, made by rolling back a different number of tokens in each."""
    ids, lengths = batch(7), torch.tensor([5, 9, 2])
    cache = model.new_cache(B)
    model(ids[:, :9], cache)
    cache.rollback(9 - lengths)
    step = model(ids[:, 9:11], cache)
    for b, length in enumerate(lengths.tolist()):
        alone = torch.cat([ids[b, :length], ids[b, 9:11]])[None]
        torch.testing.assert_close(step[b], model(alone)[0, -2:], rtol=0, atol=1e-13)


def test_select_and_fork(model: HmmLM) -> None:
    ids = batch(8)
    cache = model.new_cache(B, T)
    model(ids[:, :6], cache)
    twin = cache.fork()
    cache.select(torch.tensor([2, 0, 2, 1]))
    picked = ids[[2, 0, 2, 1]]
    torch.testing.assert_close(model(picked[:, 6:], cache), model(picked)[:, 6:], rtol=0, atol=1e-13)
    assert twin.lengths.tolist() == [6] * B and cache.lengths.tolist() == [T] * 4
    torch.testing.assert_close(model(ids[:, 6:], twin), model(ids)[:, 6:], rtol=0, atol=1e-13)


def test_the_cache_has_its_bounds(model: HmmLM) -> None:
    ids = batch(9)
    cache = model.new_cache(B, 10)
    model(ids[:, :8], cache)
    before = cache.last.copy()
    with pytest.raises(ValueError, match=r"holds 10 tokens: 8 \+ 3"):
        model(ids[:, 8:11], cache)
    with pytest.raises(ValueError, match=r"beyond 0\.\.8"):
        model(torch.full((B, 1), V), cache)
    assert cache.lengths.tolist() == [8] * B
    np.testing.assert_array_equal(cache.last, before)
    assert cache.bytes_per_token == K * 8 and cache.n_bytes == B * 11 * K * 8
    grows = model.new_cache(2)
    long = torch.from_numpy(np.random.default_rng(0).integers(0, V, (2, 150)))
    chunks = [model(part, grows) for part in long.split(40, dim=1)]
    torch.testing.assert_close(torch.cat(chunks, 1), model(long), rtol=0, atol=1e-12)


def test_generation_with_and_without_the_cache() -> None:
    model = hidden(V, K, EOT, seed=3)
    prompts = [[EOT], [EOT, 1, 2, 3], [4, 0]]
    for temperature in (0.0, 1.0):
        config = SampleConfig(temperature=temperature)
        alone = []
        for seed, prompt in enumerate(prompts):
            rows = [
                list(generate(model, prompt, Sampler(config, torch.Generator().manual_seed(seed)), 30, use_cache=cached,
                              stop_tokens={EOT}))
                for cached in (True, False)
            ]  # fmt: skip
            assert rows[0] == rows[1]
            alone.append(rows[0])
        together = generate_batch(model, prompts, config, 30, seeds=[0, 1, 2], stop_tokens={EOT})
        assert [row.ids for row in together] == alone


def test_evaluation_streams_and_agrees_with_the_windows() -> None:
    """token_log_probs and the logits of whole documents: the same bits per byte."""
    tokenizer = ByteTokenizer()
    model = hidden(tokenizer.vocab_size, 5, tokenizer.end_of_text)
    data = encode_corpus(["The fox ran.", "é", "An owl saw it, and the fox saw the owl."], tokenizer)
    ids = np.asarray(data.ids)
    found = evaluate(model, data, tokenizer)
    slow = [model(torch.from_numpy(ids[None]))[0, t, ids[t + 1]].item() for t in range(len(ids) - 1)]
    kept = ids[1:] != tokenizer.end_of_text
    assert found.nats_per_token == pytest.approx(-np.array(slow)[kept].mean(), abs=1e-12)
    assert found.tokens == kept.sum() and found.bytes == data.n_bytes


def test_a_checkpoint_keeps_it(tmp_path) -> None:
    tokenizer = ByteTokenizer()
    model = hidden(tokenizer.vocab_size, 5, tokenizer.end_of_text)
    save_checkpoint(tmp_path, model, tokenizer, validation=3.5, state={"data": "x"})
    loaded = load_checkpoint(tmp_path)
    assert loaded.model.kind == "hmm" and loaded.model.config == model.config
    ids = torch.tensor([[tokenizer.end_of_text, 84, 104, 101]])
    assert torch.equal(loaded.model(ids), model(ids))
    assert loaded.model.n_parameters == 5 + 25 + 5 * tokenizer.vocab_size
    assert json.loads((loaded.path / "config.json").read_text())["kind"] == "hmm"
