"""The learning rate at every step, against a table written by hand and against what the words promise."""

import math
from itertools import pairwise

import pytest

from minilm.training.schedule import learning_rate_factor

COS45 = math.sqrt(0.5)
TABLE = [  # steps, settings, the factor at each step
    (4, dict(warmup=0, kind="linear"), [1, 3 / 4, 2 / 4, 1 / 4]),
    (4, dict(warmup=0, kind="cosine"), [1, (1 + COS45) / 2, 1 / 2, (1 - COS45) / 2]),
    (6, dict(warmup=2, kind="linear"), [1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4]),
    (6, dict(warmup=2, kind="linear", final=0.2), [1 / 3, 2 / 3, 1, 0.8, 0.6, 0.4]),
    (8, dict(warmup=1, kind="linear", warmdown=0.5), [1 / 2, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
    (3, dict(warmup=1, kind="cosine", warmdown=0.0), [1 / 2, 1, 1]),
    (3, dict(warmup=9, kind="cosine"), [1 / 10, 2 / 10, 3 / 10]),  # never leaves the warm-up
    (1, dict(warmup=0, kind="cosine", final=0.1), [1]),
]


@pytest.mark.parametrize(("n_steps", "settings", "expected"), TABLE)
def test_table(n_steps: int, settings: dict, expected: list[float]) -> None:
    factors = [learning_rate_factor(step, n_steps, **settings) for step in range(n_steps)]
    assert factors == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 50])
@pytest.mark.parametrize("warmdown", [0.3, 1.0])
def test_it_rises_then_never_rises_again_and_is_never_zero(kind: str, warmup: int, warmdown: float) -> None:
    factors = [learning_rate_factor(step, 50, warmup, kind, warmdown) for step in range(50)]
    assert all(a < b for a, b in pairwise(factors[:warmup]))
    assert all(a >= b for a, b in pairwise(factors[warmup:]))
    assert all(0 < factor <= 1 for factor in factors)


def test_the_step_after_the_last_would_have_reached_the_floor() -> None:
    for kind in ("cosine", "linear"):
        assert learning_rate_factor(50, 50, 5, kind, 0.4, final=0.25) == pytest.approx(0.25, abs=1e-12)


def test_a_clock_ahead_of_the_steps_moves_the_warmdown_but_not_the_warmup() -> None:
    assert learning_rate_factor(1, 100, warmup=4, kind="linear", warmdown=0.5, progress=0.4) == pytest.approx(2 / 5)
    assert learning_rate_factor(30, 100, warmup=4, kind="linear", warmdown=0.5, progress=0.75) == pytest.approx(0.5)
    assert learning_rate_factor(30, 100, warmup=4, kind="linear", warmdown=0.5, progress=1.3) == 0.0


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="schedule 'square' is unknown: give cosine or linear"):
        learning_rate_factor(0, 10, kind="square")
