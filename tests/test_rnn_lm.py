"""Recurrent language models: one protocol with GPT, whatever reads, forgets, scores, samples, rounds or adapts them."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from minilm.decoding.batch import generate_batch
from minilm.decoding.beam import beam_search
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.quantize import QuantizedLinear, quantize
from minilm.decoding.sampling import Sampler
from minilm.evaluation.evaluate import token_log_probs
from minilm.fast.cross_entropy import next_token_loss as fused_loss
from minilm.fast.recurrent import FORWARDS
from minilm.finetuning.batches import PAD
from minilm.finetuning.heads import SequenceClassifier
from minilm.layers.basic import Linear
from minilm.layers.recurrent_cache import LastState
from minilm.models import rnn_config
from minilm.models.recurrent_account import account_recurrent
from minilm.models.registry import build_model
from minilm.models.rnn_config import RNNConfig, Seq2SeqConfig
from minilm.models.rnn_lm import RecurrentLM
from minilm.training.loss import cross_entropy, next_token_loss
from minilm.training.muon import muon_groups
from minilm.training.optim import AdamW

V, D, T = 23, 12, 11
CELLS = ["rnn", "gru", "lstm"]
every_cell = pytest.mark.parametrize("cell", CELLS)


def make(cell: str, **changes: object) -> RecurrentLM:
    """A model in float64 whose weights all matter, with much dropout, which whoever decodes has to leave out."""
    shape = {"vocab_size": V, "d_model": D, "n_layers": 3, "dropout": 0.4, "window": 5, **changes}
    model = RecurrentLM(RNNConfig(cell=cell, **shape))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
    return model.double().eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, V, (4, T), generator=torch.Generator().manual_seed(8))


def assert_near(got: torch.Tensor, wanted: torch.Tensor, bound: float = 1e-12) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=bound)


# ---- caches


@every_cell
def test_every_split_of_a_text_gives_the_same_logits(cell, ids):
    """Pitfall 31: cached equals uncached for every prompt length, and token by token."""
    model = make(cell)
    whole = model(ids)
    assert whole.std() > 0.1
    for cached in (lambda: model.new_cache(4), lambda: model.new_cache(4, T), lambda: model.new_state(4)):
        for first in range(1, T):
            cache = cached()
            assert_near(torch.cat([model(ids[:, :first], cache), model(ids[:, first:], cache)], 1), whole)
            assert cache.lengths.tolist() == [T] * 4
        cache = cached()
        assert_near(torch.cat([model(ids[:, t : t + 1], cache) for t in range(T)], 1), whole)


@every_cell
def test_rows_of_different_lengths(cell, ids):
    """Pitfalls 32 and 63: after a rollback by row, every row goes on as if it were alone."""
    model = make(cell)
    cache, back = model.new_cache(4), torch.tensor([3, 0, 7, 1])
    model(ids[:, :7], cache)
    cache.rollback(back)
    assert cache.lengths.tolist() == [4, 7, 0, 6]
    onward = torch.stack([row[7 - n : 11 - n] for row, n in zip(ids, back.tolist(), strict=True)])
    logits = model(onward, cache)
    for row, n in enumerate(back.tolist()):
        assert_near(logits[row], model(ids[row : row + 1, : 11 - n])[0, 7 - n :])


def test_many_rollbacks_are_as_reading_again():
    """Pitfall 63: a thousand random patterns of reading and forgetting; the cache is as one that read the text at once."""
    model, rng = make("lstm", n_layers=2), np.random.default_rng(0)
    with torch.inference_mode():
        cache, text = model.new_cache(1), []
        for _ in range(1000):
            new = rng.integers(0, V, size=rng.integers(1, 4)).tolist()
            logits = model(torch.tensor([new]), cache)[0, -1]
            text += new
            if rng.random() < 0.01:  # reading all of it again is what takes time
                assert_near(logits, model(torch.tensor([text]))[0, -1], 1e-11)
            n = int(rng.integers(0, min(4, len(text))))
            cache.rollback(n)
            text = text[: len(text) - n][-10_000:]
        assert cache.lengths.tolist() == [len(text)]
        assert len(text) > 200  # so that the store has grown


@every_cell
def test_chosen_rows_and_forks_are_independent(cell, ids):
    model = make(cell)
    cache = model.new_cache(4)
    model(ids[:, :5], cache)
    fork = cache.fork()
    fork.select(torch.tensor([2, 2, 0]))
    other = model(ids[:3, 8:11], fork)
    assert_near(model(ids[:, 5:8], cache), model(ids)[:, 5:8])
    assert_near(other, model(torch.cat([ids[[2, 2, 0], :5], ids[:3, 8:11]], 1))[:, 5:])


def test_a_full_cache_and_an_empty_one_say_so(ids):
    model = make("gru")
    cache = model.new_cache(4, 6)
    model(ids[:, :4], cache)
    with pytest.raises(ValueError, match=r"the cache holds 6 tokens: 4 \+ 3 do not fit"):
        model(ids[:, 4:7], cache)
    assert_near(model(ids[:, 4:6], cache), model(ids)[:, 4:6])  # refused tokens have changed nothing
    with pytest.raises(ValueError, match=r"rollback of 7 tokens, but the rows hold \[6, 6, 6, 6\]"):
        cache.rollback(7)


# ---- the model


@every_cell
def test_it_is_embedding_torch_layers_and_head(cell, ids):
    """The whole model against torch.nn's stack with the same weights, with and without a tied head."""
    peers = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    for tied in (True, False):
        model = make(cell, tie_embeddings=tied)
        peer = peers[cell](D, D, 3, batch_first=True).double()
        for number, layer in enumerate(model.layers):
            for ours, theirs in ((layer.input, "ih"), (layer.recurrent, "hh")):
                getattr(peer, f"weight_{theirs}_l{number}").data.copy_(ours.weight.data)
                getattr(peer, f"bias_{theirs}_l{number}").data.copy_(ours.bias.data)
        head = model.embedding.weight if tied else model.lm_head.weight
        assert_near(model(ids), peer(model.embedding.weight[ids])[0] @ head.T)
        assert (model.lm_head.weight is model.embedding.weight) == tied
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
        layers = 3 * gates * (2 * D * D + 2 * D)
        assert sum(weight.numel() for weight in model.parameters()) == layers + (V * D if tied else 2 * V * D)


@every_cell
def test_no_token_sees_the_future(cell, ids):
    """Pitfall 40: causality by gradient."""
    model, marks = make(cell), ids[:1].clone() % (V - 1)
    marks[0, 6:] = V - 1
    (gradient,) = torch.autograd.grad(model.hidden(marks)[0, 5].square().sum(), model.embedding.weight)
    assert (gradient[V - 1] == 0).all()
    (gradient,) = torch.autograd.grad(model.hidden(marks)[0, 6].square().sum(), model.embedding.weight)
    assert (gradient[V - 1] != 0).any()


def test_it_starts_knowing_nothing():
    torch.manual_seed(1)
    model = RecurrentLM(RNNConfig(vocab_size=V))
    loss = cross_entropy(model(torch.randint(0, V, (8, 20))), torch.randint(0, V, (8, 20)))
    assert loss.item() == pytest.approx(math.log(V), abs=0.15)
    for layer in model.layers:
        width = model.config.d_model
        assert (layer.input.bias + layer.recurrent.bias)[width : 2 * width].tolist() == [1.0] * width


def test_dropout_is_on_in_training_only(ids):
    """Pitfalls 43 and 44: on the embeddings, between the layers and before the head; not at all at evaluation."""
    model = make("lstm")
    assert torch.equal(model(ids), model(ids))
    outs = [model.train()(ids) for _ in range(2)]
    assert not torch.equal(*outs)
    hidden = model.hidden(ids)
    assert 0.3 < (hidden == 0).double().mean() < 0.5


@every_cell
def test_saved_and_built_again(cell, ids):
    """Pitfall 46: a tied head is stored once and still tied afterwards."""
    for tied in (True, False):
        model = make(cell, tie_embeddings=tied).float()
        assert ("lm_head.weight" in model.arrays()) != tied
        again = build_model("rnn", dataclasses.asdict(model.config), model.arrays()).eval()
        assert_near(again(ids), model(ids), 0)
        assert (again.lm_head.weight is again.embedding.weight) == tied
    with pytest.raises(ValueError, match="missing or unknown"):
        RecurrentLM.from_arrays(model.config, {})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"cell": "elman"}, "cell is 'elman': choose one of rnn, gru, lstm"),
        ({"d_model": 0}, "d_model is 0: it must be at least 1"),
        ({"window": 0}, "window is 0"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"forget_bias": math.inf}, "forget_bias is inf"),
    ],
)
def test_bad_shapes(bad, says):
    with pytest.raises(ValueError, match=says):
        RNNConfig(**bad)


def test_bad_shapes_of_two_sides():
    with pytest.raises(ValueError, match="pad is 13: it must be an id of both sides"):
        Seq2SeqConfig(pad=13)
    assert rnn_config.CELLS == ("rnn", "gru", "lstm")


# ---- what the house does with a language model


def greedy(logits: torch.Tensor, texts: list[list[int]]) -> torch.Tensor:
    return logits.argmax(-1)


@every_cell
def test_generation_with_and_without_a_cache(cell):
    model = make(cell).train()  # generate leaves dropout out by itself
    prompt = [3, 1, 4, 1, 5]
    texts = [list(generate(model, prompt, greedy, 40, use_cache=use)) for use in (True, False)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1
    assert model.training


def test_a_text_longer_than_the_limit_slides():
    model = make("lstm", context_length=8)
    slid = [list(generate(model, [1, 2, 3], greedy, 30, use_cache=use, overflow="slide")) for use in (True, False)]
    assert slid[0] == slid[1]
    assert len(slid[0]) == 30
    assert len(list(generate(model, [1, 2, 3], greedy, 30))) == 6  # "stop": eight tokens are read


@every_cell
def test_a_batch_is_its_rows(cell):
    """Pitfalls 32, 54 and 65: prompts of different lengths side by side, each with its own seed."""
    model, config = make(cell), SampleConfig(temperature=0.8)
    prompts = [[3], [1, 4, 1, 5, 9, 2], [1, 4, 1, 6], [3]]
    rows = generate_batch(model, prompts, config, 12, seeds=[1, 2, 3, 4])
    for row, prompt, seed in zip(rows, prompts, (1, 2, 3, 4), strict=True):
        sampler = Sampler(config, torch.Generator().manual_seed(seed))
        assert list(row.ids) == list(generate(model, prompt, sampler, 12))


def test_beams_with_and_without_a_cache():
    model = make("lstm")
    found = [beam_search(model, [[1, 2], [5, 6, 7]], 3, 6, use_cache=use) for use in (True, False)]
    assert [[beam.ids for beam in beams] for beams in found[0]] == [[beam.ids for beam in beams] for beams in found[1]]


@every_cell
def test_speculation_is_greedy_decoding(cell):
    """Pitfall 62 and 63, through the draft's and the model's own caches."""
    from minilm.decoding.drafts import ModelDraft
    from minilm.decoding.speculative import generate_speculative

    model, draft = make(cell), make("gru", n_layers=1)
    for prompt in ([1, 2, 3], [7], [9, 9]):
        plain = list(generate(model, prompt, greedy, 25))
        fast = generate_speculative(model, ModelDraft(draft), prompt, SampleConfig(temperature=0), 25, gamma=4)
        assert list(fast) == plain


@every_cell
def test_scores_are_those_of_reading_each_document_alone(cell, monkeypatch):
    """DESIGN, decision 1: each token once, with all the past that its document has; also in many small pieces."""
    model = make(cell).train()
    rng = np.random.default_rng(3)
    lengths, end = [5, 1, 17, 9, 40, 2, 0, 9], V - 1
    ids = np.concatenate([[end, *rng.integers(0, V - 1, size=n)] for n in lengths])
    wanted = np.zeros(len(ids))
    place = 0
    for n in lengths:
        document = torch.tensor(ids[place : place + n + 1])[None]
        with torch.no_grad():
            logits = copy.deepcopy(model).eval()(document).log_softmax(-1)
        for t in range(n):
            wanted[place + t + 1] = logits[0, t, document[0, t + 1]]
        place += n + 1
    assert wanted.std() > 0.1
    for side_by_side, most_logits in ((32, 2**22), (3, 4 * V), (1, 1)):
        monkeypatch.setattr("minilm.models.rnn_lm.SIDE_BY_SIDE", side_by_side)
        monkeypatch.setattr("minilm.models.rnn_lm.MOST_LOGITS", most_logits)
        np.testing.assert_allclose(model.token_log_probs(ids), wanted, rtol=0, atol=1e-12)
        np.testing.assert_allclose(token_log_probs(model, ids, end), wanted, rtol=0, atol=1e-12)
    assert model.training


@every_cell
def test_the_fused_loss(cell, ids):
    model = make(cell)
    for loss in (next_token_loss, fused_loss):
        model.zero_grad()
        loss(model, ids[:, :-1], ids[:, 1:]).backward()
        gradients = [weight.grad.clone() for weight in model.parameters()]
        if loss is next_token_loss:
            wanted = gradients
    for got, right in zip(gradients, wanted, strict=True):
        assert_near(got, right)


@every_cell
def test_fused_layers_in_the_whole_model(cell, ids):
    model = make(cell)
    fused = copy.deepcopy(model)
    for layer in fused.layers:
        layer.forward = functools.partial(FORWARDS[type(layer)], layer)
    assert_near(fused(ids), model(ids))
    state = fused.new_state(4)
    assert_near(torch.cat([fused(ids[:, :4], state), fused(ids[:, 4:], state)], 1), model(ids))
    cache = fused.new_cache(4)  # asks the readable steps
    assert_near(torch.cat([fused(ids[:, :4], cache), fused(ids[:, 4:], cache)], 1), model(ids))


@every_cell
def test_a_head_on_it_never_sees_the_padding(cell, ids):
    model = make(cell)
    classifier = SequenceClassifier.from_backbone(model, ["good", "bad", "ugly"]).eval()
    assert not hasattr(classifier.backbone, "lm_head")
    assert hasattr(model, "lm_head")
    padded = torch.full((4, T + 3), PAD)
    for row, n in enumerate((11, 4, 1, 7)):
        padded[row, :n] = ids[row, :n]
    together = classifier(padded)
    assert together.std() > 1e-3
    for row, n in enumerate((11, 4, 1, 7)):
        assert_near(together[row], classifier(ids[row : row + 1, :n])[0])


@every_cell
def test_rounded_to_int8(cell, ids):
    """Every matrix is rounded, the recurrent ones too, and the model reads on from its cache as before."""
    model = make(cell).float()
    small = quantize(copy.deepcopy(model))
    assert all(isinstance(layer.recurrent, QuantizedLinear) for layer in small.layers)
    assert isinstance(small.lm_head, QuantizedLinear)
    difference = (small(ids) - model(ids)).abs().max()
    assert 0 < difference < 0.2 * model(ids).std() * 5
    cache, state = small.new_cache(4), small.new_state(4)
    assert cache.stores[0].dtype is state.states[0].dtype is torch.float32
    assert_near(torch.cat([small(ids[:, :4], cache), small(ids[:, 4:], cache)], 1), small(ids), 1e-5)


def test_adapters_reach_the_recurrent_matrices(ids):
    from minilm.finetuning.lora import LoRALinear, add_lora
    from minilm.finetuning.lora_config import LoRAConfig

    model, generator = make("lstm"), torch.Generator().manual_seed(0)
    before = model(ids)
    add_lora(model, LoRAConfig(targets=("recurrent",), rank=3, alpha=7.0), generator)
    assert all(isinstance(layer.recurrent, LoRALinear) for layer in model.layers)
    assert_near(model(ids), before)
    assert model.new_cache(2).stores[0].dtype is torch.float64


def test_muon_takes_the_matrices_and_leaves_table_and_head():
    groups = muon_groups(make("lstm", tie_embeddings=False), 0.1, 0.2, 0.3)
    names = {name for group in groups if group["matrices"] for name in group["names"]}
    assert names == {f"stack.blocks.{n}.{part}.weight" for n in range(3) for part in ("input", "recurrent")}


@pytest.mark.parametrize(("cell", "seed"), [("rnn", 0), ("gru", 1), ("lstm", 2)])
def test_it_memorises_one_batch(cell, seed):
    """The overfit gate: 300 steps at most, a loss of at most 0.05 nats, and the text itself, greedily."""
    torch.manual_seed(seed)
    model = RecurrentLM(RNNConfig(vocab_size=V, cell=cell, d_model=32, n_layers=2))
    text = torch.randint(0, V, (4, 13), generator=torch.Generator().manual_seed(seed))
    optimizer = AdamW(model.parameters(), lr=0.02)
    for _ in range(300):
        loss = next_token_loss(model, text[:, :-1], text[:, 1:])
        if loss.item() < 0.02:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() <= 0.05
    first = {row[0]: row for row in text.tolist()}
    for start, row in first.items():
        if sum(other[0] == start for other in text.tolist()) == 1:
            assert [start, *generate(model.eval(), [start], greedy, 12)] == row


def test_a_state_is_small_and_does_not_grow(ids):
    model = make("lstm")
    state = model.new_state(4)
    size = state.n_bytes
    for _ in range(3):
        model(ids, state)
    assert isinstance(state, LastState)
    assert state.n_bytes == size == 4 * 3 * 2 * D * 8
    assert model.new_cache(4).bytes_per_token == 3 * 2 * D * 8


@every_cell
@pytest.mark.parametrize("tied", [True, False])
def test_what_it_costs_is_what_is_built(cell, tied):
    config = RNNConfig(vocab_size=V, cell=cell, d_model=D, n_layers=3, tie_embeddings=tied)
    model = RecurrentLM(config)
    told = account_recurrent(config)
    assert told.parameters == sum(weight.numel() for weight in model.parameters())
    assert told.weights == told.gradients == told.optimizer // 2 == 4 * told.parameters
    matrices = [layer for layer in model.modules() if isinstance(layer, Linear)]
    assert told.flops_forward == sum(2 * matrix.weight.numel() for matrix in matrices)
    assert told.flops_forward_backward == 3 * told.flops_forward
    assert told.state == model.new_state(1).n_bytes
    half = account_recurrent(config, "bfloat16")
    assert (half.weights, half.optimizer) == (told.weights // 2, 12 * told.parameters)
    with pytest.raises(ValueError, match="dtype is 'int4'"):
        account_recurrent(config, "int4")
