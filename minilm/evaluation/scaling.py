"""A scaling law: from the losses of small runs to that of a larger one, with an interval.

    loss(x) = floor + scale / x^exponent

x is what grows: the parameters of the model, the tokens it reads, or the FLOPs of the run. The floor is what no model can
learn (the entropy of the text), the rest is what a larger one still gains. Hestness et al. (2017) found this form for many
tasks, Kaplan et al. (2020) for language models without a floor, Hoffmann et al. (2022) with one.

Fitted are the logarithms of the losses, as Hoffmann et al. do, since a seed moves a loss by a fraction of itself. They
search all numbers at once; here, for a given floor, the other two come from a straight line, and only the floor is searched.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

N_FLOORS, ROUNDS = 65, 9  # each round of the search leaves a thirty-second of the interval: in the end 3e-14 of it
HIGHEST = 1 - 1e-6  # of the lowest loss: the highest floor that is tried


class PowerLaw(NamedTuple):
    """loss(x) = floor + scale * x ** -exponent. An exponent below 0 says that the loss rises with x.

    >>> float(PowerLaw(floor=1.0, scale=6.0, exponent=0.5)(9.0))
    3.0
    """

    floor: float
    scale: float
    exponent: float

    def __call__(self, x: float | np.ndarray) -> np.ndarray:
        """The loss at x, of any shape."""
        return self.floor + self.scale * np.asarray(x, dtype=np.float64) ** -self.exponent


def fit_power_law(
    x: Sequence[float] | np.ndarray, loss: Sequence[float] | np.ndarray, floor: float | None = None
) -> PowerLaw:
    """The law with the least squares of log loss - log law(x), from x (N,) and losses (N,), all above 0.

    With floor=None the floor is searched from 0 to the lowest loss, which takes three different x at least; with a number,
    0 for a pure power law, two. ValueError where there are fewer, or numbers that no law of this form has.

    >>> law = fit_power_law([1, 4, 16], [7.0, 4.0, 2.5])
    >>> [round(float(number), 6) for number in law]
    [1.0, 6.0, 0.5]
    """
    places, losses = check(x, loss, 2 if floor is not None else 3)
    if floor is not None:
        if not 0 <= floor < losses.min():
            raise ValueError(f"floor is {floor}: it must be at least 0 and below the lowest loss, {losses.min():g}")
        return best_law(places, losses, np.array([float(floor)]))[0]
    low, high = 0.0, HIGHEST * float(losses.min())
    for _ in range(ROUNDS):
        floors = np.linspace(low, high, N_FLOORS)
        law, best = best_law(places, losses, floors)
        low, high = floors[max(best - 1, 0)], floors[min(best + 1, N_FLOORS - 1)]
    return law


def best_law(x: np.ndarray, loss: np.ndarray, floors: np.ndarray) -> tuple[PowerLaw, int]:
    """Of the laws with these floors (F,), each with its best scale and exponent, the one that fits best, and its place.

    log(loss - floor) = log(scale) - exponent * log(x) is a straight line. An error of the line by e moves log(loss) by
    e * (loss - floor) / loss: this is what a point weighs.
    """
    height = np.log(loss - floors[:, None])  # (F, N)
    weights = ((loss - floors[:, None]) / loss) ** 2
    weights /= weights.sum(1, keepdims=True)
    along = np.log(x) - (weights * np.log(x)).sum(1, keepdims=True)  # with a weighted mean of 0
    mean = (weights * height).sum(1, keepdims=True)
    slope = (weights * along * height).sum(1, keepdims=True) / (weights * along**2).sum(1, keepdims=True)
    predicted = np.logaddexp(mean + slope * along, np.log(np.maximum(floors, 1e-300))[:, None])  # log of the law
    best = int(np.argmin(((np.log(loss) - predicted) ** 2).sum(1)))
    scale = np.exp(mean - slope * (np.log(x) - along))[best, 0]
    return PowerLaw(float(floors[best]), float(scale), float(-slope[best, 0])), best


def bootstrap_interval(
    x: Sequence[float] | np.ndarray,
    losses_by_seed: Sequence[Sequence[float]] | np.ndarray,
    at: float,
    draws: int,
    rng: np.random.Generator,
    *,
    floor: float | None = None,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """What one new run at `at` should come to: (low, median, high), where `level` of the draws lie between low and high.

    losses_by_seed (S, N) holds the losses of S seeds, at least 2, at each x (N,). A draw takes N of the points with
    replacement, at each the mean of S of its seeds with replacement, fits the law, and adds to its value at `at` what a seed
    is off its mean (Efron 1979). So the interval knows of chance in the seeds and of points that leave the curve; it does
    not know whether the curve goes on like this, and no bootstrap does.
    """
    losses = np.asarray(losses_by_seed, dtype=np.float64)
    if losses.ndim != 2 or len(losses) < 2:
        raise ValueError(f"losses_by_seed has shape {losses.shape}: give (seeds, points), with at least 2 seeds")
    fit_power_law(x, losses.min(0), floor)  # complains before anything is drawn
    places, needed = np.asarray(x, dtype=np.float64), 2 if floor is not None else 3
    if draws < 1 or not 0 < level < 1 or not at > 0:
        raise ValueError(f"draws is {draws}, level {level}, at {at}: at least 1, between 0 and 1, and above 0")
    S, N = losses.shape
    lowest = 0.0 if floor is None else floor * (1 + 1e-9)  # no draw falls below a floor that is given
    logs = np.log(losses)
    centres = logs.mean(0)  # (N,)
    chance = (logs - centres) * np.sqrt(S / (S - 1))  # a deviation from the mean of S is that much too small
    predictions = np.empty(draws)
    for i in range(draws):
        points = rng.integers(N, size=N)
        while len(np.unique(places[points])) < needed:
            points = rng.integers(N, size=N)
        means = centres[points] + chance[rng.integers(S, size=(S, N)), points].mean(0)
        law = fit_power_law(places[points], np.maximum(np.exp(means), lowest), floor)
        predictions[i] = law(at) * np.exp(chance[rng.integers(S), rng.integers(N)])
    low, median, high = np.quantile(predictions, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return float(low), float(median), float(high)


def check(
    x: Sequence[float] | np.ndarray, loss: Sequence[float] | np.ndarray, needed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (N,); ValueError for what no law can be fitted to."""
    places, losses = np.asarray(x, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if places.ndim != 1 or places.shape != losses.shape:
        raise ValueError(f"x has shape {places.shape}, the losses {losses.shape}: give one loss for each x")
    for name, numbers in (("x", places), ("the loss", losses)):
        if not (np.isfinite(numbers) & (numbers > 0)).all():
            raise ValueError(
                f"{name} holds a number that is not finite or not above 0: a power law has no place for it"
            )
    if len(np.unique(places)) < needed:
        raise ValueError(f"{len(np.unique(places))} different x: a law with this many unknowns needs at least {needed}")
    return places, losses
