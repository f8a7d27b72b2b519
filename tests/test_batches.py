"""Windows of token ids: every one is drawn, every target is the next token, and every run can be resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from minilm.training.batches import Batches, sample_batch


def starts_of(x: torch.Tensor) -> list[int]:
    return x[:, 0].tolist()  # with ids = arange, a window's first id is where it starts


def test_targets_are_the_next_tokens() -> None:
    ids = np.random.default_rng(0).integers(0, 999, size=57)
    text = ids.tolist()
    for x, y in (sample_batch(ids, 5, 7), next(Batches(ids, 5, 7))):
        assert x.shape == y.shape == (5, 7)
        assert x.dtype == y.dtype == torch.int64
        for inputs, targets in zip(x.tolist(), y.tolist(), strict=True):
            assert inputs[1:] == targets[:-1]
            assert any(text[i : i + 8] == [*inputs, targets[-1]] for i in range(50))


def test_sample_batch_draws_every_start_and_no_other() -> None:
    ids = np.arange(20)
    x, y = sample_batch(ids, 2000, 7, torch.Generator().manual_seed(0))
    assert set(starts_of(x)) == set(range(13))  # the last window is ids[12:20]
    assert int(y.max()) == 19


def test_sample_batch_obeys_its_generator() -> None:
    ids = np.arange(500)
    draws = [sample_batch(ids, 4, 9, torch.Generator().manual_seed(seed))[0] for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("n_ids", [8, 9, 14, 15, 16, 100, 103])
def test_an_epoch_holds_each_window_once_side_by_side(n_ids: int) -> None:
    batches = Batches(np.arange(n_ids), batch_size=1, context_length=7, seed=5)
    for epoch in range(4):
        expected_length = len(batches.starts)
        seen: list[int] = []
        while batches.epoch == epoch and len(seen) < expected_length:
            seen += starts_of(next(batches)[0])
        first = min(seen)
        assert 0 <= first < 7
        assert sorted(seen) == list(range(first, n_ids - 7, 7))  # so what is left over is shorter than a window
        next_x, _ = next(batches)  # steps into the next epoch
        assert batches.epoch == epoch + 1
        batches._begin_epoch(epoch + 1)
        assert starts_of(next_x) == starts_of(next(batches)[0])
        batches._begin_epoch(epoch + 1)


def test_every_start_is_drawn_in_some_epoch() -> None:
    batches = Batches(np.arange(31), batch_size=3, context_length=7, seed=0)
    seen = {start for _ in range(100) for start in starts_of(next(batches)[0])}
    assert seen == set(range(24))  # 23 is the last that still has a target


def test_epochs_and_seeds_differ_and_the_same_seed_repeats() -> None:
    def order(seed: int, n: int = 40) -> list[int]:
        batches = Batches(np.arange(141), batch_size=4, context_length=7, seed=seed)
        return [start for _ in range(n // 4) for start in starts_of(next(batches)[0])]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:20] != order(1)[20:]


def test_a_batch_larger_than_an_epoch_is_full() -> None:
    x, _ = next(Batches(np.arange(30), batch_size=50, context_length=7))
    assert x.shape == (50, 7)


def test_resume_at_every_step_of_two_and_a_half_epochs() -> None:
    def fresh() -> Batches:
        return Batches(np.arange(200), batch_size=3, context_length=7, seed=9)

    batches, states, seen = fresh(), [], []
    while batches.epoch < 2 or batches.position < 14:
        states.append(batches.state())
        seen.append(starts_of(next(batches)[0]))
    for k, state in enumerate(states):
        resumed = fresh()
        resumed.restore(state)
        assert [starts_of(next(resumed)[0]) for _ in seen[k:]] == seen[k:]


def test_restore_refuses_another_text() -> None:
    state = Batches(np.arange(200), 3, 7, seed=9).state()
    with pytest.raises(ValueError, match="the saved batches have n_ids = 200, these have 201"):
        Batches(np.arange(201), 3, 7, seed=9).restore(state)


@pytest.mark.parametrize("name", ["epoch", "position"])
@pytest.mark.parametrize("count", [-1, 0.5, "0", True, None, 10**9])
def test_restore_refuses_a_place_that_is_none(name: str, count: object) -> None:
    """From beyond the end of its epoch no way would lead on: the next batch would be searched for ever."""
    state = Batches(np.arange(200), 3, 7, seed=9).state()
    if (name, count) == ("epoch", 10**9):
        return Batches(np.arange(200), 3, 7, seed=9).restore({**state, name: count})  # late, but a place
    with pytest.raises(ValueError, match=f"the saved batches have {name} = {count!r}"):
        Batches(np.arange(200), 3, 7, seed=9).restore({**state, name: count})


def test_memory_mapped_ids(tmp_path: Path) -> None:
    np.arange(300, dtype=np.uint16).tofile(tmp_path / "ids")
    ids = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="r")
    for x, y in (next(Batches(ids, 4, 7)), sample_batch(ids, 4, 7)):
        assert x.dtype == torch.int64
        assert torch.equal(y, x + 1)


def test_too_short_a_text() -> None:
    for draw in (lambda: sample_batch(np.arange(7), 2, 7), lambda: Batches(np.arange(7), 2, 7)):
        with pytest.raises(ValueError, match=r"the text has 7 tokens, a window needs 8: .*smaller context_length"):
            draw()
    with pytest.raises(ValueError, match="batch_size = 0"):
        Batches(np.arange(9), 0, 7)
