"""Streams through the text with a carried state: what is read, what flows back, and that nothing is lost by a break."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch

from minilm.fast.cross_entropy import next_token_loss as fused_loss
from minilm.layers.recurrent_cache import LastState
from minilm.models.rnn_config import RNNConfig
from minilm.models.rnn_lm import RecurrentLM
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.batches import Batches
from minilm.training.budget import step_seconds
from minilm.training.checkpoint import load_checkpoint, random_state, restore_random_state, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import accumulate_gradients, train
from minilm.training.loss import cross_entropy, next_token_loss
from minilm.training.muon import build_optimizer
from minilm.training.streams import GoingOn, Streams, batches_for, pack, unpack_all

V, B, T = 19, 3, 4
CPU = torch.device("cpu")


def text(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, size=n).astype(np.uint16)


def make(cell: str = "lstm", dropout: float = 0.0) -> RecurrentLM:
    torch.manual_seed(7)
    model = RecurrentLM(RNNConfig(vocab_size=V, cell=cell, d_model=8, n_layers=2, window=T, dropout=dropout))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model.double()


# ---- which tokens


@pytest.mark.parametrize("n_ids", [B * T + 1, B * T + 2, B * T + T, 2 * B * T, 2 * B * T + T, 100, 103])
def test_rows_go_on_where_they_ended(n_ids):
    """Over an epoch the rows are stretches of the text, side by side, without a gap and without an overlap."""
    ids = np.arange(n_ids)
    streams = Streams(ids, B, T, seed=3)
    for epoch in range(4):
        xs, ys = zip(*itertools.islice(streams, streams.n_windows), strict=True)
        x, y = torch.cat(xs, dim=1), torch.cat(ys, dim=1)  # (B, n_windows T)
        assert torch.equal(y, x + 1)
        flat = x.flatten()
        assert torch.equal(flat, torch.arange(int(flat[0]), int(flat[0]) + len(flat)))
        assert int(flat[0]) >= 0
        assert int(y.max()) < n_ids
        assert n_ids - len(flat) < B * T + T
        assert divmod(streams.position, streams.n_windows) == (epoch + 1, 0)


def test_every_token_is_read_in_some_epoch_and_the_borders_move():
    streams = Streams(np.arange(57), B, T, seed=1)
    seen, first = set(), set()
    for _ in range(60):
        for number, (x, y) in enumerate(itertools.islice(streams, streams.n_windows)):
            seen |= set(x.flatten().tolist()) | set(y.flatten().tolist())
            if number == 0:
                first.add(int(x[0, 0]))
    assert seen == set(range(57))
    assert len(first) > 3


def test_targets_are_the_next_tokens_of_a_real_text():
    """H6: ids that are not in order."""
    ids = text(200)
    streams = Streams(ids, B, T)
    start = streams.offset(0)
    for number in range(3):
        x, y = next(streams)
        assert x.dtype == y.dtype == torch.int64
        for b in range(B):
            at = start + (b * streams.n_windows + number) * T
            assert x[b].tolist() == ids[at : at + T].tolist()
            assert y[b].tolist() == ids[at + 1 : at + T + 1].tolist()


def test_seeds_differ_and_repeat():
    def begins(seed: int) -> list[int]:
        return [Streams(np.arange(500), B, T, seed).offset(epoch) for epoch in range(8)]

    assert begins(1) == begins(1)
    assert begins(1) != begins(2)
    assert len(set(begins(1))) > 2


def test_memory_mapped_ids(tmp_path):
    np.arange(300, dtype=np.uint16).tofile(tmp_path / "ids")
    x, y = next(Streams(np.memmap(tmp_path / "ids", dtype=np.uint16, mode="r"), B, T))
    assert torch.equal(y, x + 1)
    assert x.dtype == torch.int64


def test_too_short_a_text_and_bad_sizes():
    with pytest.raises(
        ValueError, match="the text has 12 tokens, 3 streams with a window of 4 need 13: give more text"
    ):
        Streams(np.arange(12), B, T)
    for sizes in ((0, 4), (3, 0)):
        with pytest.raises(ValueError, match="at least 1 of each"):
            Streams(np.arange(50), *sizes)


# ---- what the state does


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("inner", [next_token_loss, fused_loss])
def test_the_second_window_is_read_behind_the_first(cell, inner):
    """Its loss is that of reading all; its gradient that of reading it alone from a given state (truncated)."""
    model, streams = make(cell), Streams(text(100), B, T)
    loss = streams.carrying(inner)
    (x1, y1), (x2, y2) = next(streams), next(streams)
    first, second = loss(model, x1, y1), loss(model, x2, y2)
    logits = model(torch.cat([x1, x2], dim=1))
    torch.testing.assert_close(first, cross_entropy(logits[:, :T], y1), rtol=0, atol=1e-12)
    torch.testing.assert_close(second, cross_entropy(logits[:, T:], y2), rtol=0, atol=1e-12)
    assert (second - cross_entropy(model(x2), y2)).abs() > 1e-3  # the state matters

    got = torch.autograd.grad(second, list(model.parameters()))
    state = model.new_state(B)
    with torch.no_grad():
        model(x1, state)
    wanted = torch.autograd.grad(cross_entropy(model(x2, state), y2), list(model.parameters()))
    whole = torch.autograd.grad(cross_entropy(logits[:, T:], y2), list(model.parameters()))
    for one, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, right, rtol=0, atol=1e-12)
    assert any((one - other).abs().max() > 1e-3 for one, other in zip(got, whole, strict=True))


def test_an_epoch_begins_with_an_empty_state():
    model, streams = make(), Streams(text(2 * B * T + T), B, T)
    loss = streams.carrying(next_token_loss)
    assert streams.n_windows == 2
    for number in range(6):
        x, y = next(streams)
        alone = cross_entropy(model(x), y)
        difference = (loss(model, x, y) - alone).abs()
        assert difference < 1e-14 if number % 2 == 0 else difference > 1e-4


def test_accumulated_windows_follow_each_other():
    """With accumulation all windows of a step are drawn before the first loss is taken, also where an epoch begins."""
    ids = text(3 * B * T + T)
    one_by_one, both = Streams(ids, B, T), Streams(ids, B, T)
    model = make()
    losses = []
    loss = one_by_one.carrying(next_token_loss)
    for _ in range(8):
        losses.append(loss(model, *next(one_by_one)).item())
    loss = both.carrying(next_token_loss)
    for step in range(4):
        got, n = accumulate_gradients(model, list(itertools.islice(both, 2)), loss, CPU)
        assert got == pytest.approx(sum(losses[2 * step : 2 * step + 2]) / 2, abs=1e-12)
        assert n == 2 * B * T
    assert both.learned == both.position == 8


def test_a_loss_sees_a_model_like_any_other():
    model = make()
    going_on = GoingOn(model, model.new_state(B))
    assert going_on.lm_head is model.lm_head
    assert not hasattr(going_on, "_orig_mod")
    x = torch.zeros(B, T, dtype=torch.long)
    hidden = going_on.hidden(x)
    torch.testing.assert_close(hidden, model.hidden(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(going_on(x), model(torch.cat([x, x], 1))[:, T:], rtol=0, atol=1e-14)


def test_a_carried_state_knows_what_lies_before_the_window():
    """What follows a 1 depends on the token before it. Where a window begins with the 1, only the state can tell; without it no
    model can be better than log(2) / 2 there."""
    ids = np.tile([1, 2, 1, 3], 200)
    torch.manual_seed(0)
    model = RecurrentLM(RNNConfig(vocab_size=5, cell="gru", d_model=16, n_layers=1, window=2))
    streams = Streams(ids, 2, 2)
    config = TrainConfig(steps=300, learning_rate=0.03, warmup=5, weight_decay=0.0, dtype="float32", threads=1)
    train(model, streams, config, loss_function=streams.carrying(next_token_loss), progress=False)
    fresh = Streams(ids[:-3], 2, 2)
    assert fresh.offset(0) % 2 == 0  # so that all windows begin with a 1
    carrying, losses = fresh.carrying(next_token_loss), []
    with torch.no_grad():
        for x, y in itertools.islice(fresh, 50):
            losses.append((carrying(model, x, y).item(), next_token_loss(model, x, y).item()))
    carried, alone = np.mean(losses[1:], axis=0)
    assert carried < 0.05
    assert alone > math.log(2) / 2 - 0.02


def test_some_rows_forget_before_a_window_and_the_others_go_on():
    """By seed and window alone, so that a resumed run forgets the same; the share is about right."""
    model, streams = make(), Streams(text(400), B, T, seed=3, forget=0.4)
    loss, kept = streams.carrying(next_token_loss), []
    states = model.new_state(B).states
    for x, y in itertools.islice(streams, 20):
        rows = streams.remembering()
        assert torch.equal(rows, streams.remembering())
        kept += rows.flatten().tolist()
        before = LastState([state.where(rows, 0.0) for state in states])
        wanted = cross_entropy(model(x, before), y)
        assert loss(model, x, y).item() == pytest.approx(wanted.item(), abs=1e-12)
        states = [state.detach() for state in streams.carried.states]
    assert 0.4 < np.mean(kept) < 0.8
    fresh = Streams(text(400), B, T, seed=3)
    assert fresh.forget == 0.0
    assert bool(fresh.remembering().all())


# ---- breaks


def test_resume_at_every_step_of_two_and_a_half_epochs():
    """Pitfalls 85 and 86: through JSON, states and windows alike, also at the borders of epochs."""
    ids = text(3 * B * T + T + 2)

    def follow(streams: Streams, n: int) -> list[float]:
        loss = streams.carrying(next_token_loss)
        with torch.no_grad():
            return [loss(model, *next(streams)).item() for _ in range(n)]

    model, streams, states, losses = make(), Streams(ids, B, T, seed=9), [], []
    assert streams.n_windows == 3
    for _ in range(8):
        states.append(json.dumps(streams.state()))
        losses += follow(streams, 1)
    for k, state in enumerate(states):
        resumed = Streams(ids, B, T, seed=9)
        resumed.restore(json.loads(state))
        assert follow(resumed, 8 - k) == losses[k:]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_training_has_the_same_bits(tmp_path, accumulation, monkeypatch):
    """Pitfalls 22, 85 to 87: a break after each checkpoint changes neither a loss nor a weight. Dropout is on."""
    from minilm.models.registry import KINDS

    monkeypatch.setitem(KINDS, "rnn", ("minilm.models.rnn_lm:RecurrentLM", "minilm.models.rnn_config:RNNConfig"))
    ids, tokenizer = text(100), ByteTokenizer()
    config = TrainConfig(steps=9, warmup=2, accumulation=accumulation, dtype="float32", threads=1, learning_rate=0.01)

    def run(model, until, checkpoint=None):
        streams, optimizer = Streams(ids, B, T, seed=5), build_optimizer(model, config)
        if checkpoint is not None:
            checkpoint.resume(optimizer, streams)

        def after(step, model, record):
            if step in (4, until):
                state = {"seconds": record["seconds"]}
                path = tmp_path / f"{until}-{step}"
                save_checkpoint(path, model, tokenizer, step=step, optimizer=optimizer, batches=streams, state=state)

        stopping = itertools.islice(streams, (until - (checkpoint.step if checkpoint else 0)) * accumulation)
        return train(
            model, stopping, config, optimizer=optimizer, loss_function=streams.carrying(next_token_loss),
            on_step=after, progress=False, start=checkpoint.step if checkpoint else 0,
        )  # fmt: skip

    torch.manual_seed(1)
    first = make(dropout=0.3).float()
    whole = run(first, 9)
    torch.manual_seed(1)
    run(make(dropout=0.3).float(), 5)
    torch.manual_seed(99)
    checkpoint = load_checkpoint(tmp_path / "5-5")
    rest = run(checkpoint.model, 9, checkpoint)
    assert [record["loss"] for record in rest] == [record["loss"] for record in whole[5:]]
    assert [record["gradient_norm"] for record in rest] == [record["gradient_norm"] for record in whole[5:]]
    for got, wanted in zip(checkpoint.model.parameters(), first.parameters(), strict=True):
        assert torch.equal(got, wanted)


def test_timing_a_step_leaves_no_trace():
    model, streams = make().float(), Streams(text(200), B, T)
    loss = streams.carrying(next_token_loss)
    loss(model, *next(streams))
    before, bits, weights = streams.state(), random_state(), copy.deepcopy(model.state_dict())
    config = TrainConfig(dtype="float32", threads=1, warmup=0)
    assert step_seconds(model, streams, config, loss, n_steps=3) > 0
    assert streams.state() == before
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in weights.items())
    assert all(torch.equal(random_state()[name], state) for name, state in bits.items())
    restore_random_state(bits)


def test_restore_refuses_another_text_and_other_rows():
    state = Streams(np.arange(200), B, T, seed=9).state()
    for other, says in (
        (Streams(np.arange(201), B, T, seed=9), "n_ids = 200, these have 201"),
        (Streams(np.arange(200), B, T + 1, seed=9), "context_length = 4, these have 5"),
        (Streams(np.arange(200), B + 1, T, seed=9), "batch_size = 3, these have 4"),
        (Streams(np.arange(200), B, T, seed=8), "seed = 9, these have 8"),
    ):
        with pytest.raises(ValueError, match=f"the saved batches have {says}"):
            other.restore(state)


def test_restore_refuses_a_state_that_was_tampered_with():
    """Pitfall 84: never silently something else."""
    streams = Streams(text(200), B, T)
    streams.carrying(next_token_loss)(make(), *next(streams))
    good = json.loads(json.dumps(streams.state()))
    packed = good["carried"][0]
    for wrong in (
        {"position": -1},
        {"position": 1.0},
        {"learned": "1"},
        {"learned": None},
        {"carried": [{**packed, "data": packed["data"][:-8]}]},
        {"carried": [{**packed, "data": "?" + packed["data"][1:]}]},
        {"carried": [{**packed, "dtype": "int8"}]},
        {"carried": [{**packed, "shape": [packed["shape"][1], B, packed["shape"][2]]}]},
        {"carried": [{}]},
        {"carried": []},
        {"carried": 3},
    ):
        fresh = Streams(text(200), B, T)
        with pytest.raises(ValueError, match="the saved streams"):
            fresh.restore({**good, **wrong})
        assert fresh.position == 0
    Streams(text(200), B, T).restore(good)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_through_json_bit_for_bit(dtype):
    tensor = torch.randn(3, 2, 5).to(dtype)[:, :, 1:]
    tensor[0, 0, 0], tensor[0, 0, 1] = float("nan"), -0.0
    (again,) = unpack_all(json.loads(json.dumps([pack(tensor)])))
    assert again.dtype is dtype
    assert again.shape == tensor.shape
    assert torch.equal(again.contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8))


# ---- which batches a model gets


def test_only_a_model_with_a_state_gets_streams():
    from minilm.models.config import GPTConfig
    from minilm.models.gpt import GPT

    ids, config = text(500), TrainConfig(batch_size=B, seed=4)
    streams, loss = batches_for(make(), ids, config, next_token_loss)
    assert isinstance(streams, Streams)
    assert (streams.batch_size, streams.context_length, streams.seed, streams.forget) == (B, T, 4, 0.05)
    assert loss(make(), *next(streams)).item() > 0
    assert streams.carried is not None
    gpt = GPT(GPTConfig(vocab_size=V, context_length=6, d_model=8, n_layers=1, n_heads=2))
    batches, loss = batches_for(gpt, ids, config, next_token_loss)
    assert isinstance(batches, Batches)
    assert (batches.batch_size, batches.context_length, batches.seed) == (B, 6, 4)
    assert loss is next_token_loss
