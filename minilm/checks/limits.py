"""The exercise of lesson 16 on the limit of decoding: an oracle in exact fractions, the formula with switches, other solutions."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from minilm.checks.compare import Exercise, Mistake

# step_seconds(n_weights, bits, group, cache_bytes, batch, bandwidth, speed) -> seconds


def exactly(
    n_weights: int, bits: int, group: int | None, cache_bytes: int, batch: int, bandwidth: float, speed: float
) -> float:
    """All in bits first, one text after the other, and in fractions: nothing is rounded before the end."""
    read = Fraction(n_weights * bits)
    if group is not None:
        read += 32 * Fraction(n_weights, group)
    computed = Fraction(0)
    for _ in range(batch):
        read += 8 * cache_bytes
        computed += n_weights + n_weights
    times = read / 8 / Fraction(bandwidth), computed / Fraction(speed)
    return float(times[0] if times[0] > times[1] else times[1])


def limit_with(
    weight: Callable[[float], float] = lambda bits: bits / 8,
    scale: Callable[[int], float] = lambda group: 4 / group,
    all_bytes: Callable[[float, float, int], float] = lambda weights, cache, batch: weights + batch * cache,
    flops: Callable[[int, int], float] = lambda n, batch: 2 * n * batch,
    slower: Callable[[float, float], float] = max,
    then: Callable[[float, int], float] = lambda seconds, batch: seconds,
) -> Any:
    """The formula; its parts make the mistakes."""

    def seconds(
        n_weights: int, bits: int, group: int | None, cache_bytes: int, batch: int, bandwidth: float, speed: float
    ) -> float:
        weights = n_weights * (weight(bits) + (scale(group) if group else 0.0))
        read = all_bytes(weights, cache_bytes, batch) / bandwidth
        return then(slower(read, flops(n_weights, batch) / speed), batch)

    return seconds


def multiplied(n: int, bits: int, group: int | None, cache: int, batch: int, bandwidth: float, speed: float) -> float:
    stored = n * bits / 8 + (4 * n / group if group else 0)
    return max((stored + batch * cache) * bandwidth, 2 * n * batch * speed)


def step_by_step(n: int, bits: int, group: int | None, cache: int, batch: int, bandwidth: float, speed: float) -> float:
    stored = n * bits / 8
    if group is not None:
        stored += 4 * (n / group)
    reading, computing = (stored + cache * batch) / bandwidth, 2 * n * batch / speed
    if reading > computing:
        return reading
    return computing


def by_rates(n: int, bits: int, group: int | None, cache: int, batch: int, bandwidth: float, speed: float) -> float:
    """How many steps a second each limit allows; the lower number counts."""
    per_weight = bits / 8 if group is None else (bits + 32 / group) / 8
    return 1 / min(bandwidth / (n * per_weight + cache * batch), speed / (2 * batch * n))


def limit_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; many formats, with and without scales; long texts, many texts, a slow processor and a slow memory."""
    more = 64 * (seed % 89)
    return [
        (1000, 8, None, 0, 1, 1000.0, 1e9),
        (1280, 8, 64, 0, 1, 1000.0, 1e9),
        (7680 + more, 4, 32, 500, 3, 2e4, 1e9),
        (6400 + more, 16, None, 900, 5, 3e4, 7e9),
        (12800 + more, 8, 64, 700, 7, 2.5e9, 3e5),
        (960, 32, None, 110, 1, 5e8, 2e4),
        (2560 + more, 2, 16, 12345, 2, 7e4, 3e6),
    ]


LIMITS = Exercise(
    "step_seconds",
    "three numbers: the bytes that are read, the seconds that reading takes, the seconds that computing takes",
    limit_inputs,
    exactly,
    (
        Mistake(
            "bits for bytes", limit_with(weight=lambda bits: bits), "a byte has 8 bits, and the bandwidth is in bytes"
        ),
        Mistake("scales forgotten", limit_with(scale=lambda group: 0.0), "the scales are read, too: 4 bytes a group"),
        Mistake(
            "a scale for each weight",
            limit_with(scale=lambda group: 4.0),
            "a group of weights shares one scale: how many groups are there?",
        ),
        Mistake(
            "4 bits a scale",
            limit_with(scale=lambda group: 4 / group / 8),
            "a float32 scale has 4 bytes, that is 32 bits: do not divide it by 8 as well",
        ),
        Mistake(
            "a byte a scale",
            limit_with(scale=lambda group: 1 / group),
            "a scale is a float32: how many bytes has one?",
        ),
        Mistake(
            "as many scales as a group has weights",
            limit_with(scale=lambda group: 4 * group),
            "the larger the groups, the fewer the scales: n_weights / group of them",
        ),
        Mistake(
            "one cache",
            limit_with(all_bytes=lambda weights, cache, batch: weights + cache),
            "each text has keys and values of its own",
        ),
        Mistake(
            "weights for each text",
            limit_with(all_bytes=lambda weights, cache, batch: batch * (weights + cache)),
            "the weights are read once for all texts: that is what a batch is good for",
        ),
        Mistake(
            "weights for each text, one cache",
            limit_with(all_bytes=lambda weights, cache, batch: batch * weights + cache),
            "it is the other way round: all texts share the weights, and each has its own cache",
        ),
        Mistake(
            "no cache",
            limit_with(all_bytes=lambda weights, cache, batch: weights),
            "attention reads keys and values: cache_bytes",
        ),
        Mistake(
            "reading and computing in turn",
            limit_with(slower=lambda reading, computing: reading + computing),
            "both happen at the same time: the least time is that of the slower one, not their sum",
        ),
        Mistake("the faster of the two", limit_with(slower=min), "a step is over when the *slower* of the two is done"),
        Mistake(
            "reading only",
            limit_with(slower=lambda reading, computing: reading),
            "with many texts the processor may be the slower one: how long do its sums take?",
        ),
        Mistake(
            "computing only",
            limit_with(slower=lambda reading, computing: computing),
            "where is the time that the memory needs?",
        ),
        Mistake(
            "one FLOP a weight",
            limit_with(flops=lambda n, batch: n * batch),
            "each weight is multiplied, and the product is added: that is two FLOPs",
        ),
        Mistake(
            "one text computed",
            limit_with(flops=lambda n, batch: 2 * n),
            "the weights are read once for all texts, but the sums are done for each",
        ),
        Mistake(
            "steps a second",
            limit_with(then=lambda seconds, batch: 1 / seconds),
            "that is how many steps fit into a second: return the seconds of one",
        ),
        Mistake(
            "tokens a second",
            limit_with(then=lambda seconds, batch: batch / seconds),
            "that is the tokens in a second: return the seconds of a step",
        ),
        Mistake(
            "seconds of a token",
            limit_with(then=lambda seconds, batch: seconds / batch),
            "that is the time divided by the texts: a step gives a token to every text, and its whole time is asked for",
        ),
        Mistake(
            "multiplied",
            multiplied,
            "bytes divided by bytes a second are seconds: check the units",
        ),
    ),
    (step_by_step, by_rates, limit_with()),
)

EXERCISES = (LIMITS,)
