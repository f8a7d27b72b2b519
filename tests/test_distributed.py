"""Several processes that train one model do what one process does: gradients, losses, weights, order, clock and end.

TEST_PLAN 4.4; PITFALLS 90 (no_sync at the wrong small batch) and 91 (uneven shards hang). Every group of processes has a
watchdog of 30 seconds.
"""

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from crews import WATCHDOG, start, together
from torch import Tensor, nn

from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training.batches import Batches
from minilm.training.budget import step_seconds
from minilm.training.config import TrainConfig
from minilm.training.crew import LostProcess
from minilm.training.distributed import Team, fingerprint, join, own_draws, share_of
from minilm.training.loop import TrainingFailed, accumulate_gradients, train
from minilm.training.loss import IGNORE, next_token_loss

V, T, D = 11, 7, 12
CPU = torch.device("cpu")
SIZES = pytest.mark.parametrize("size", [2, 3])
Batch = tuple[Tensor, Tensor]


def gpt(dropout: float = 0.0) -> GPT:
    torch.manual_seed(3)
    return GPT(GPTConfig(V, context_length=T, d_model=D, n_layers=2, n_heads=3, dropout=dropout)).double()


def speedrun() -> SpeedrunGPT:
    """With tables of n-grams so small that all processes read some of the same rows."""
    torch.manual_seed(3)
    config = SpeedrunConfig(
        V, context_length=T, d_model=D, n_layers=1, n_heads=3, max_ngram=3, ngram_rows=50, ngram_dropout=0.0
    )
    model = SpeedrunGPT(config).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


MODELS = {"gpt": gpt, "speedrun": speedrun}


def batches(*rows: int) -> list[Batch]:
    """A batch (rows, T) each, with a share of ignored targets that differs from row to row."""
    generator = torch.Generator().manual_seed(len(rows))
    made = []
    for n in rows:
        x, y = torch.randint(V, (2, n, T), generator=generator)
        ignored = torch.rand(y.shape, generator=generator) < torch.linspace(0.0, 1.0, n)[:, None]
        made.append((x, y.masked_fill(ignored, IGNORE)))
    return made


def config(**changes: Any) -> TrainConfig:
    plain: dict[str, Any] = dict(steps=6, warmup=2, dtype="float32", eval_every=0, batch_size=3)
    return TrainConfig(**{**plain, **changes})


# ---- shares


def test_every_row_is_in_one_share_and_shares_differ_by_one_row_at_most() -> None:
    for n in range(1, 9):
        for size in range(1, 6):
            x = torch.arange(n)[:, None].expand(n, T)
            shares = [share_of((x, x), rank, size) for rank in range(size)]
            counted = [y[(y != IGNORE).all(1)][:, 0].tolist() for _, y in shares]
            assert sorted(itertools.chain(*counted)) == list(range(n))
            assert max(map(len, counted)) - min(map(len, counted)) <= 1
            assert all(len(x) == len(y) >= 1 for x, y in shares)  # there is always something to compute


# ---- gradients and steps


@SIZES
def test_gradients_are_those_of_one_process(size: int) -> None:
    """PITFALLS 91. 1e-12: shares that differ by 1 ... k rows or are empty, batches without a target, k small batches."""
    cases = [
        batches(5),
        batches(1),
        batches(2, 7, 1),
        batches(4, 1, 3),
        [(x, torch.full_like(y, IGNORE)) for x, y in batches(2)],
    ]
    cases.append([*batches(3), *((x, torch.full_like(y, IGNORE)) for x, y in batches(1, 1))])

    def worst(team: Team) -> list[list[float]]:
        found = []
        for make in MODELS.values():
            for case in cases:
                alone, shared = make(), make()
                loss, n_targets = accumulate_gradients(alone, case, next_token_loss, CPU)
                our_loss, our_targets = team.gradients(shared, case, next_token_loss, CPU, False)
                assert our_targets == n_targets
                gaps = [abs(loss - our_loss)]
                for p, q in zip(alone.parameters(), shared.parameters(), strict=True):
                    assert p.grad is not None and q.grad is not None and p.grad.is_sparse == q.grad.is_sparse
                    if p.grad.is_sparse:  # the very rows
                        assert torch.equal(p.grad.coalesce().indices(), q.grad.coalesce().indices())
                    gaps.append(float((p.grad.to_dense() - q.grad.to_dense()).abs().max()))
                found.append(gaps)
        return found

    for gaps in together(size, worst):
        assert max(map(max, gaps)) < 1e-12


@pytest.mark.parametrize(
    ("kind", "optimizer", "size", "steps"),
    [
        ("gpt", "adamw", 2, 50),
        ("speedrun", "muon", 3, 50),
        ("gpt", "muon", 3, 8),
        ("gpt", "sgd", 2, 8),
        ("speedrun", "adam", 2, 8),
    ],
)
def test_fifty_steps_are_those_of_one_process(kind: str, optimizer: str, size: int, steps: int) -> None:
    """Losses within 1e-6, in float32, with three small batches a step; the weights have the same bits on all at every step."""
    plan = config(steps=steps, accumulation=3, optimizer=optimizer)
    text = batches(*[3, 1, 4, 2, 5] * (3 * steps // 5 + 1))
    alone = MODELS[kind]().float()
    expected = train(alone, text, plan, progress=False)

    def histories(team: Team) -> Any:
        model, prints = MODELS[kind]().float(), []
        history = train(
            model, text, plan, progress=False, crew=team,
            on_step=lambda step, model, record: prints.append(fingerprint(model.parameters()).hex()),
        )  # fmt: skip
        gap = max(
            float((p - q).detach().abs().max()) for p, q in zip(alone.parameters(), model.parameters(), strict=True)
        )
        return [record["loss"] for record in history], [record["tokens"] for record in history], prints, gap

    answers = together(size, histories, check_every=1)
    for losses, tokens, prints, gap in answers:
        assert losses == pytest.approx([record["loss"] for record in expected], rel=1e-6)
        assert tokens == [record["tokens"] for record in expected]
        assert prints == answers[0][2] and len(set(prints)) == steps
        assert gap < 1e-3


@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradients_are_exchanged_once_an_update(accumulation: int) -> None:
    """PITFALLS 90: also where the last update has fewer small batches, and none of them is forgotten."""

    def exchanges(team: Team) -> int:
        model, count = gpt(), 0

        def hook(state: None, bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
            nonlocal count
            count += bucket.is_last()
            done = torch.distributed.all_reduce(bucket.buffer().div_(team.size), async_op=True)
            return done.get_future().then(lambda future: future.value()[0])

        team.engine_for(model, next_token_loss).register_comm_hook(None, hook)
        history = train(
            model, batches(*[2] * (3 * accumulation + 1)), config(accumulation=accumulation), progress=False, crew=team
        )
        assert len(history) == 4
        return count

    assert together(2, exchanges) == [4, 4]


def test_weights_that_differ_end_the_run_on_all() -> None:
    def differ(team: Team) -> str:
        def meddle(step: int, model: nn.Module, record: Any) -> None:
            if step == 3 and team.rank == 1:
                with torch.no_grad():
                    next(model.parameters()).view(-1)[5] += 1e-12

        try:
            train(gpt(), batches(*[2] * 9), config(steps=9), progress=False, crew=team, on_step=meddle)
        except TrainingFailed as failure:
            return str(failure)
        return "nobody noticed"

    assert together(3, differ, check_every=2) == ["the weights of process 1 are no longer those of process 0"] * 3


def test_each_process_tosses_its_own_coins_from_one_common_generator() -> None:
    def draws(team: Team) -> Any:
        torch.manual_seed(8)
        own = []
        for _ in range(2):
            with own_draws(team.rank, CPU):
                own.append(float(torch.rand(())))
        train(gpt(dropout=0.5), batches(*[3] * 4), config(steps=4), progress=False, crew=team)
        return own, float(torch.rand(()))

    (first, after), (second, there) = together(2, draws)
    assert len({*first, *second}) == 4 and after == there
    assert together(2, draws) == [[first, after], [second, there]]  # and the same at another time


# ---- the clock, signals, and what one does for all


def test_one_clock_and_the_same_end() -> None:
    """With --minutes all stop at the same step, by the clock of the first, however long the others think they have worked."""

    def clock(team: Team) -> Any:
        def slow(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
            time.sleep(0.0 if team.leads else 0.02)
            return next_token_loss(model, inputs, targets)

        plan = config(steps=1000, minutes=0.3 / 60)
        history = train(gpt(), batches(*[2] * 1000), plan, loss_function=slow, progress=False, crew=team)
        ids = torch.arange(400).numpy() % V
        timed = step_seconds(gpt(), Batches(ids, 2, T), config(), crew=team)
        return [(record["seconds"], record["learning_rate"]) for record in history], timed

    (ours, our_time), (theirs, their_time) = together(2, clock)
    assert ours == theirs and our_time == their_time
    assert len(ours) < 1000 and ours[-1][0] >= 0.3 and all(seconds < 0.3 for seconds, _ in ours[:-1])


def test_agreement_on_numbers() -> None:
    def agreed(team: Team) -> Any:
        return [
            team.agree(10.125 + 1e-9 - team.rank, []),
            team.agree(team.rank + 0.5, [signal.SIGTERM] if team.rank == 2 else []),
        ]

    assert (
        together(3, lambda team: (setattr(team, "engine", gpt()), agreed(team))[1])
        == [[[10.125000001, []], [0.5, [15]]]] * 3
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_ends_all_after_the_same_step(rank: int) -> None:
    def struck(team: Team) -> Any:
        def strike(step: int, model: nn.Module, record: Any) -> None:
            if step == 3 and team.rank == rank:
                os.kill(os.getpid(), signal.SIGTERM)

        history = train(gpt(), batches(*[2] * 90), config(steps=90), progress=False, crew=team, on_step=strike)
        return len(history), history[-1].get("interrupted")

    assert together(2, struck) == [[4, 15]] * 2


def test_one_does_the_work_and_all_get_what_it_gives() -> None:
    def led(team: Team) -> Any:
        calls: list[int] = []

        def work() -> Any:
            calls.append(team.rank)
            return {"Wörter": ["é", None, 0.1, 10**17], "long": "x" * 5000}

        told = team.lead(work)
        score = team.score(lambda model: calls.append(7) or 2.0**-40, gpt())
        return told, score, calls, team.leads

    told = {"Wörter": ["é", None, 0.1, 10**17], "long": "x" * 5000}
    assert together(3, led) == [[told, 2.0**-40, [0, 7] if rank == 0 else [], rank == 0] for rank in range(3)]


# ---- a process that is lost


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_lost_process_ends_the_others_with_one_voice(how: str) -> None:
    """Within 10 s of the kill; one that is stopped, or hangs, after the patience that was asked for."""

    def lose(team: Team) -> Any:
        def strike(step: int, model: nn.Module, record: Any) -> None:
            if step == 3 and team.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)

        began = time.monotonic()
        try:
            train(gpt(), batches(*[3] * 999), config(steps=999), progress=False, crew=team, on_step=strike)
        except LostProcess as lost:
            return str(lost), lost.speaks, time.monotonic() - began
        return "nobody noticed"

    answers = together(3, lose, lost=1, patience=600.0 if how == "killed" else 2.0)
    assert [speaks for _, speaks, _ in answers] == [True, False]
    assert {message for message, _, _ in answers} == {"process 1 of 3 has ended or does not answer"}
    assert all(seconds < 10.0 for *_, seconds in answers)


def test_who_does_not_come_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    def first_of_two(rank: int) -> None:
        os.environ["WORLD_SIZE"] = "2"
        with pytest.raises(LostProcess, match="process 1 of 2 did not come") as lost, join(CPU, patience=0.3):
            pass
        assert lost.value.speaks

    (child,) = start(1, first_of_two, tmp_path)
    assert child.wait(WATCHDOG) == 0, child.output.read_text()


def test_an_error_of_ones_own_is_no_lost_process() -> None:
    def fails(team: Team) -> str:
        def broken(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
            raise RuntimeError("not enough memory")

        with pytest.raises(RuntimeError, match="not enough memory") as caught:
            team.gradients(gpt(), batches(2), broken, CPU, False)
        return type(caught.value).__name__

    assert together(2, fails) == ["RuntimeError"] * 2
