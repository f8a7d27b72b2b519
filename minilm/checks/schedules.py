"""The exercise of lesson 12 on the learning rate over a run: an oracle in exact fractions, mistakes, and other solutions."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from minilm.checks.compare import Exercise, Mistake

# learning_rate_factor(step, n_steps, warmup=0, kind="cosine", warmdown=1.0, final=0.0) -> float


def schedule_with(
    rise: Callable[[int, int], Any] = lambda step, warmup: Fraction(step + 1, warmup + 1),
    begin: Callable[[int, int, Fraction], Any] = lambda n, warmup, down: max(warmup, n - n * down),
    fallen: Callable[[Any, Any, int], Any] = lambda step, begin, n: (step - begin) / (n - begin),
    cosine: Callable[[float], float] = lambda x: math.cos(math.pi * x / 2) ** 2,
    line: Callable[[Any], Any] = lambda x: 1 - x,
    end: Callable[[float, float], float] = lambda left, final: final + (1 - final) * left,
) -> Any:
    """One phase after the other: warm-up, level, warm-down. The arguments make the mistakes."""

    def factor(
        step: int, n_steps: int, warmup: int = 0, kind: str = "cosine", warmdown: float = 1.0, final: float = 0.0
    ) -> float:
        if step < warmup:
            return float(rise(step, warmup))
        starts = begin(n_steps, warmup, Fraction(warmdown).limit_denominator(1000))
        if step < starts:
            return 1.0
        over = fallen(step, starts, n_steps)
        return end(float(cosine(float(over)) if kind == "cosine" else line(over)), final)

    return factor


def as_long_as_asked(
    step: int, n_steps: int, warmup: int = 0, kind: str = "cosine", warmdown: float = 1.0, final: float = 0.0
) -> float:
    """Divides by n_steps * warmdown, also where the warm-up has cut the fall short."""
    length = n_steps * Fraction(warmdown).limit_denominator(1000) or 1
    return schedule_with(fallen=lambda step, begin, n: (step - begin) / length)(
        step, n_steps, warmup, kind, warmdown, final
    )


def by_minimum(
    step: int, n_steps: int, warmup: int = 0, kind: str = "cosine", warmdown: float = 1.0, final: float = 0.0
) -> float:
    """What is still to come, as a part of the warm-down."""
    length = min(n_steps - warmup, n_steps * warmdown)
    left = min(1.0, (n_steps - step) / length) if length > 1e-9 else 1.0
    if kind == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return min((step + 1) / (warmup + 1), 1.0) * (final + (1 - final) * left)


def by_phases(
    step: int, n_steps: int, warmup: int = 0, kind: str = "cosine", warmdown: float = 1.0, final: float = 0.0
) -> float:
    begin = max(n_steps - warmdown * n_steps, warmup)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if step < begin:
        return 1.0
    x = (step - begin) / (n_steps - begin)
    shape = 1 - x if kind == "linear" else 0.5 + 0.5 * math.cos(x * math.pi)
    return shape + final * (1 - shape)


def by_lists(
    step: int, n_steps: int, warmup: int = 0, kind: str = "cosine", warmdown: float = 1.0, final: float = 0.0
) -> float:
    """The whole run is written down, then looked up."""
    factors = [(i + 1) / (warmup + 1) for i in range(warmup)]
    begin = max(float(warmup), n_steps * (1.0 - warmdown))
    for i in range(warmup, n_steps):
        x = 0.0 if i <= begin else (i - begin) / (n_steps - begin)
        left = math.cos(math.pi * x / 2) ** 2 if kind == "cosine" else 1 - x
        factors.append(1.0 - (1.0 - final) * (1.0 - left))
    return factors[step]


def schedule_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Every step of short runs: both kinds, with and without each phase, and phases that would overlap."""
    runs = (
        (8, 2, "linear", 0.5, 0.0),
        (9 + seed % 4, 3, "cosine", 1.0, 0.1),
        (11, 0, "linear", 0.3, 0.2),
        (7, 4, "cosine", 0.9, 0.0),
        (6, 1, "cosine", 0.0, 0.3),
    )
    return [(step, *run) for run in runs for step in range(run[0])]


SCHEDULE = Exercise(
    "learning_rate_factor",
    "three phases: before `warmup`, before the warm-down begins, and after; draw them on paper for 8 steps first",
    schedule_inputs,
    schedule_with(),
    (
        Mistake(
            "first step at 0",
            schedule_with(lambda step, warmup: step / warmup),
            "steps count from 0, and the first one should already learn something",
        ),
        Mistake(
            "warm-up one early",
            schedule_with(lambda step, warmup: (step + 1) / warmup),
            "step `warmup` is the first with the whole rate: the one before it has a little less",
        ),
        Mistake("no warm-up", schedule_with(lambda step, warmup: 1.0), "the steps before `warmup` have a smaller rate"),
        Mistake(
            "warm-up downwards",
            schedule_with(lambda step, warmup: 1 - step / (warmup + 1)),
            "the warm-up begins small and grows",
        ),
        Mistake(
            "falls from the start",
            schedule_with(begin=lambda n, warmup, down: warmup),
            "the warm-down is the last part of the run, as long as `warmdown` says: before it the rate stays level",
        ),
        Mistake(
            "begins where it should last",
            schedule_with(begin=lambda n, warmup, down: max(warmup, n * down)),
            "`warmdown` is the fraction that the fall lasts, counted from the end",
        ),
        Mistake(
            "falls during the warm-up",
            schedule_with(begin=lambda n, warmup, down: n - n * down),
            "the fall cannot begin before the warm-up is over",
        ),
        Mistake(
            "begin rounded down",
            schedule_with(begin=lambda n, warmup, down: max(warmup, int(n - n * down))),
            "the fall may begin between two steps: do not cut off what follows the point",
        ),
        Mistake(
            "begin rounded",
            schedule_with(begin=lambda n, warmup, down: max(warmup, round(n - n * down))),
            "the fall may begin between two steps: do not round",
        ),
        Mistake(
            "fraction of the rest",
            schedule_with(begin=lambda n, warmup, down: warmup + (n - warmup) * (1 - down)),
            "`warmdown` is a fraction of the whole run, not of what is left after the warm-up",
        ),
        Mistake(
            "arrives one early",
            schedule_with(fallen=lambda step, begin, n: min(1, (step - begin) / max(n - 1 - begin, Fraction(1, 1000)))),
            "it is step n_steps, the one after the last, that would reach the end",
        ),
        Mistake(
            "counted in steps of the run",
            schedule_with(fallen=lambda step, begin, n: (step - begin) / n),
            "x goes from 0 to 1 within the fall: divide by how long the fall lasts, not the run",
        ),
        Mistake(
            "as long as asked",
            as_long_as_asked,
            "where the warm-up cuts the fall short, it lasts from where it begins to n_steps, not n_steps · warmdown",
        ),
        Mistake(
            "one step ahead",
            schedule_with(fallen=lambda step, begin, n: min(1, (step + 1 - begin) / (n - begin))),
            "where the fall begins nothing has fallen yet: the warm-down is one step ahead",
        ),
        Mistake(
            "measured from the start of the run",
            schedule_with(fallen=lambda step, begin, n: Fraction(step, n)),
            "what counts is the part of the warm-down that is over, not of the run",
        ),
        Mistake(
            "cosine upside down",
            schedule_with(cosine=lambda x: 0.5 * (1 - math.cos(math.pi * x))),
            "cos(0) is 1: where the fall begins your cosine is at the wrong end",
        ),
        Mistake(
            "no pi",
            schedule_with(cosine=lambda x: (1 + math.cos(x)) / 2),
            "math.cos takes radians: half a wave is pi of them",
        ),
        Mistake(
            "a whole wave",
            schedule_with(cosine=lambda x: (1 + math.cos(2 * math.pi * x)) / 2),
            "2 pi is a whole wave, which climbs again: the fall is half of one",
        ),
        Mistake(
            "half a cosine",
            schedule_with(cosine=lambda x: math.cos(math.pi * x / 2)),
            "that is a quarter of a wave, which ends steeply: half a wave goes from 1 to -1, and must be brought to 1 to 0",
        ),
        Mistake(
            "cosine not shifted",
            schedule_with(cosine=lambda x: math.cos(math.pi * x)),
            "this goes down to -1: a rate below 0 climbs uphill",
        ),
        Mistake(
            "always a line",
            schedule_with(cosine=lambda x: 1 - x),
            "there are two kinds: look at `kind`",
        ),
        Mistake(
            "always a cosine",
            schedule_with(line=lambda x: math.cos(math.pi * float(x) / 2) ** 2),
            "there are two kinds, and one of them is a straight line",
        ),
        Mistake("line upwards", schedule_with(line=lambda x: x), "what is left is 1 minus what has fallen"),
        Mistake("final ignored", schedule_with(end=lambda left, final: left), "the fall ends at `final`, not at 0"),
        Mistake(
            "cut off at final",
            schedule_with(end=lambda left, final: max(left, final)),
            "the fall is flattened so that it ends at `final`: it does not stop there half-way",
        ),
        Mistake(
            "final added",
            schedule_with(end=lambda left, final: left + final),
            "the fall begins at 1, also where `final` is above 0",
        ),
        Mistake(
            "final as a factor",
            schedule_with(end=lambda left, final: left * (1 - final)),
            "the fall ends at `final`, and begins at 1: two ends to look at",
        ),
    ),
    (by_minimum, by_phases, by_lists),
)

EXERCISES = (SCHEDULE,)
