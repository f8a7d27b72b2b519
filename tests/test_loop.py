"""The training loop: accumulation, clipping, the clock, interruption and failure, on a model that fits in the head."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.layers.basic import Embedding, Linear
from minilm.training import loop
from minilm.training.config import TrainConfig
from minilm.training.loop import TrainingFailed, accumulate_gradients, train
from minilm.training.loss import IGNORE, cross_entropy, next_token_loss
from minilm.training.optim import Optimizer
from minilm.training.schedule import learning_rate_factor

VOCAB = 7
CPU = torch.device("cpu")


class Bigram(nn.Module):
    """The smallest language model with a matrix, a table and a bias."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = Embedding(VOCAB, 5, std=1.0)
        self.out = Linear(5, VOCAB, std=0.3)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(torch.tanh(self.embedding(ids)))


class SGD(Optimizer):
    """Plain gradient descent: unlike Adam it is not blind to a gradient of the wrong size."""

    def update(self, p: Tensor, gradient: Tensor, memory: dict[str, Tensor], group: dict[str, Any]) -> None:
        p.sub_(group["lr"] * gradient)


def make_batches(n: int, seed: int = 0, ignored: bool = True) -> list[tuple[Tensor, Tensor]]:
    """n batches (3, 4), with a share of ignored labels that differs from batch to batch."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for i in range(n):
        x, y = torch.randint(VOCAB, (2, 3, 4), generator=generator)
        if ignored:
            y[torch.rand(y.shape, generator=generator) < (0.11 * i) % 0.6] = IGNORE
        batches.append((x, y))
    return batches


def config(**changes: Any) -> TrainConfig:
    plain: dict[str, Any] = dict(
        steps=3, warmup=0, warmdown=0.0, clip=0.0, dtype="float32", learning_rate=0.3, weight_decay=0.0, eval_every=0
    )
    return TrainConfig(**{**plain, **changes})


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_same_weights(a: nn.Module, b: nn.Module, atol: float = 0.0) -> None:
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=atol)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_accumulation_with_unequal_labels_is_one_big_batch(k: int) -> None:
    batches = make_batches(k)
    small, big = Bigram(), Bigram()
    loss, tokens = accumulate_gradients(small, batches, next_token_loss, CPU)
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    reference = F.cross_entropy(big(x).reshape(-1, VOCAB), y.reshape(-1), ignore_index=IGNORE)
    reference.backward()
    assert tokens == int((y != IGNORE).sum())
    assert loss == pytest.approx(reference.item(), abs=1e-12)
    for ours, theirs in zip(gradients(small), gradients(big), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_accumulation_with_nothing_to_learn() -> None:
    model = Bigram()
    x, y = make_batches(1)[0]
    assert accumulate_gradients(model, [(x, y.fill_(IGNORE))] * 2, next_token_loss, CPU) == (0.0, 0)
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients(model))


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_training_is_gradient_descent_written_out(clip: float) -> None:
    """7 batches, 3 a step: the third step has only one, and still takes the mean over its own tokens."""
    batches = make_batches(7)
    ours, theirs = Bigram(), Bigram()
    history = train(
        ours, batches, config(accumulation=3, clip=clip), optimizer=SGD(ours.parameters(), lr=0.3), progress=False
    )
    for step, part in enumerate([batches[0:3], batches[3:6], batches[6:7]]):
        x, y = (torch.cat(tensors) for tensors in zip(*part, strict=True))
        theirs.zero_grad()
        loss = F.cross_entropy(theirs(x).reshape(-1, VOCAB), y.reshape(-1), ignore_index=IGNORE)
        loss.backward()
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients(theirs)))
        with torch.no_grad():
            for p, gradient in zip(theirs.parameters(), gradients(theirs), strict=True):
                p.sub_(0.3 * gradient * (min(1.0, clip / norm) if clip else 1.0))
        assert history[step]["loss"] == pytest.approx(loss.item(), abs=1e-12)
        assert history[step]["gradient_norm"] == pytest.approx(norm, rel=1e-12)
        assert history[step]["tokens"] == int((y != IGNORE).sum())
    assert norm > 0.05  # the clip was active
    assert_same_weights(ours, theirs, atol=1e-12)
    assert all(p.grad is None for p in ours.parameters())


def test_it_learns() -> None:
    """The next token is the token plus one: at the end the model knows."""
    x = torch.arange(VOCAB).repeat(3, 2)
    history = train(Bigram(), [(x, (x + 1) % VOCAB)] * 150, config(steps=150, learning_rate=0.05), progress=False)
    assert history[0]["loss"] > 1.5
    assert history[-1]["loss"] < 0.05


def test_the_learning_rates_are_the_schedule_whatever_step_it_resumes_at() -> None:
    settings = config(steps=12, warmup=3, warmdown=0.5, schedule="cosine", final=0.1)
    expected = [0.3 * learning_rate_factor(step, 12, 3, "cosine", 0.5, 0.1) for step in range(12)]
    for start in range(13):
        history = train(Bigram(), make_batches(12)[start:], settings, start=start, progress=False)
        assert [record["learning_rate"] for record in history] == pytest.approx(expected[start:], abs=1e-15)
        assert [record["step"] for record in history] == list(range(start + 1, 13))


def test_both_groups_of_muon_follow_the_schedule() -> None:
    model = Bigram()
    settings = config(steps=4, warmdown=1.0, schedule="linear", optimizer="muon", matrix_learning_rate=0.02)
    optimizer = loop.build_optimizer(model, settings)
    train(model, make_batches(4), settings, optimizer=optimizer, progress=False)
    rates = sorted({(group["base_lr"], group["lr"]) for group in optimizer.groups})
    assert rates == [(0.02, pytest.approx(0.005)), (0.3, pytest.approx(0.075))]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_before_the_weights_are_touched(poison: str) -> None:
    model, seen = Bigram(), []

    def loss_function(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = model(inputs)
        loss = cross_entropy(logits, targets)
        seen.append(loss)
        if len(seen) < 3:
            return loss
        return loss * math.nan if poison == "loss" else loss + 0 * torch.sqrt(0 * logits.sum())  # d sqrt(0) = inf

    weights: list[list[Tensor]] = []
    with pytest.raises(TrainingFailed, match=r"^step 3: loss .*: try a smaller learning_rate") as caught:
        train(
            model, make_batches(5), config(steps=5), loss_function=loss_function, progress=False,
            on_step=lambda *_: weights.append([p.detach().clone() for p in model.parameters()]),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert len(weights) == 2
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights[-1], strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_evaluation_and_callback() -> None:
    model = Bigram()
    modes, called = [], []

    def evaluate(given: nn.Module) -> float:
        modes.append(given.training)
        return 2.5

    def on_step(step: int, given: nn.Module, record: dict) -> None:
        assert given is model
        assert given.training
        called.append((step, record.get("validation")))

    history = train(
        model, make_batches(7), config(steps=7, eval_every=3), evaluate=evaluate, on_step=on_step, progress=False
    )
    assert called == [(1, None), (2, None), (3, 2.5), (4, None), (5, None), (6, 2.5), (7, 2.5)]
    assert [record.get("validation") for record in history] == [value for _, value in called]
    assert modes == [False] * 3
    assert not model.training


def test_evaluation_does_not_change_training() -> None:
    watched, alone = Bigram(), Bigram()
    x, y = make_batches(1, seed=8)[0]
    train(watched, make_batches(6), config(steps=6, eval_every=1), progress=False,
          evaluate=lambda model: cross_entropy(model(x), y).item())  # fmt: skip
    train(alone, make_batches(6), config(steps=6), progress=False)
    assert_same_weights(watched, alone)


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that advances by `seconds` each time it is read; a step reads it twice."""
    now = [0.0]

    def read() -> float:
        now[0] += seconds
        return now[0]

    return read


def test_the_clock_ends_the_run_and_brings_the_learning_rate_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.time, "perf_counter", ticking(3.0))
    settings = config(steps=1000, minutes=0.5, warmdown=1.0, schedule="linear")
    history = train(Bigram(), make_batches(50), settings, progress=False)
    assert [record["seconds"] for record in history] == [3.0 * n for n in range(1, 11)]  # 30 s are half a minute
    assert [record["learning_rate"] for record in history] == pytest.approx([0.3 * (1 - n / 10) for n in range(10)])
    resumed = train(Bigram(), make_batches(50), settings, start=6, seconds=18.0, progress=False)
    assert [record["step"] for record in resumed] == [7, 8, 9, 10]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["in the step", "in the callback"])
def test_a_signal_waits_for_the_end_of_the_step(number: signal.Signals, moment: str) -> None:
    interrupted, straight = Bigram(), Bigram()
    before = signal.getsignal(number)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for i, batch in enumerate(make_batches(9)):
            if i == 3 and moment == "in the step":
                os.kill(os.getpid(), number)
            yield batch

    def on_step(step: int, model: nn.Module, record: dict) -> None:
        if step == 4 and moment == "in the callback":
            os.kill(os.getpid(), number)

    history = train(interrupted, batches(), config(steps=9), on_step=on_step, progress=False)
    assert history[-1]["step"] == 4
    assert history[-1]["interrupted"] == number
    assert "interrupted" not in history[-2]
    assert signal.getsignal(number) is before
    train(straight, make_batches(4), config(steps=4), progress=False)
    assert_same_weights(interrupted, straight)


def test_a_second_ctrl_c_stops_at_once() -> None:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in make_batches(9):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with pytest.raises(KeyboardInterrupt):
        train(Bigram(), batches(), config(), progress=False)


def test_bfloat16_only_where_asked_for() -> None:
    dtypes = []

    def loss_function(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = model(inputs)
        dtypes.append(logits.dtype)
        return cross_entropy(logits, targets)

    for dtype in ("float32", "bfloat16"):
        model = Bigram().float()
        model.out.bias = None  # a float32 bias would turn the product back
        train(model, make_batches(1), config(steps=1, dtype=dtype), loss_function=loss_function, progress=False)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert dtypes == [torch.float32, torch.bfloat16]


def test_the_bar_says_loss_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    train(Bigram(), make_batches(3), config(), optimizer=None, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "nats" in shown
    assert "tokens/s" in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(steps=0), "steps is 0: it must be at least 1"),
        (dict(minutes=0.0), "minutes is 0.0: it must be from 0.001 to 1e+06"),
        (dict(learning_rate=math.nan), "learning_rate is nan: it must be from 0 to 10"),
        (dict(beta2=1.0), "beta2 is 1.0: it must be from 0 to 0.99999"),
        (dict(optimizer="lion"), "optimizer is 'lion': choose one of adamw, muon, adam, sgd"),
        (dict(schedule="step"), "schedule is 'step': choose one of cosine, linear"),
        (dict(dtype="float8"), "dtype is 'float8': choose one of auto, float32, bfloat16"),
        (dict(clip=-1.0), "clip is -1.0: it must be from 0 to 1e+09"),
    ],
)
def test_config_out_of_range(changes: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        TrainConfig(**changes)
    assert str(caught.value) == message
