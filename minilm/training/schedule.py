"""The learning rate over a run: up in a warm-up, level, and down to the end. A pure function of the step.

Steps count from 0. The convention, in full:
    warm-up    factor(step) = (step + 1) / (warmup + 1)      for step < warmup; the first step already learns
    level      1                                             until the warm-down begins
    warm-down  from 1 towards `final`, which step n_steps, the one after the last, would have reached
A warm-down of 1.0 begins right after the warm-up: with a cosine this is the schedule of Loshchilov and Hutter (2016).
One of 0.6 along a line is "trapezoidal": the run may be lengthened as long as the warm-down has not begun.
"""

import math


def learning_rate_factor(
    step: int,
    n_steps: int,
    warmup: int = 0,
    kind: str = "cosine",
    warmdown: float = 1.0,
    final: float = 0.0,
    progress: float | None = None,
) -> float:
    """The fraction of the peak learning rate that `step` uses, from 0 to 1.

    `progress` in [0, 1] is the part of the run that is over, where a clock may be ahead of step / n_steps: only the
    warm-down follows it, so that a slow first step does not skip the warm-up.

    >>> [round(learning_rate_factor(step, 8, warmup=2, kind="linear", warmdown=0.5), 2) for step in range(8)]
    [0.33, 0.67, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if kind not in ("cosine", "linear"):
        raise ValueError(f"schedule {kind!r} is unknown: give cosine or linear")
    rise = min(1.0, (step + 1) / (warmup + 1))
    position = step if progress is None else progress * n_steps
    begin = max(warmup, n_steps * (1.0 - warmdown))
    fallen = 0.0 if position <= begin else min(1.0, (position - begin) / (n_steps - begin))
    left = 1.0 - fallen if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * fallen))
    return rise * (final + (1.0 - final) * left)
