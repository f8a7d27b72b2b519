"""The scaling law: exact where there is no noise, the best fit where there is, and intervals that hold what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.evaluation.scaling import PowerLaw, bootstrap_interval, fit_power_law

SIZES = np.array([6e3, 1.4e4, 2.5e4, 3.8e4, 5.5e4])
LAW = PowerLaw(1.2, 30.0, 0.33)


def noisy(seeds: int, noise: float, rng: np.random.Generator, law: PowerLaw = LAW) -> np.ndarray:
    return law(SIZES) * np.exp(noise * rng.standard_normal((seeds, len(SIZES))))


def misfit(law: PowerLaw, x: np.ndarray, loss: np.ndarray) -> float:
    """What is made small, by its definition."""
    return sum(
        (math.log(one) - math.log(law.floor + law.scale * place**-law.exponent)) ** 2
        for place, one in zip(x, loss, strict=True)
    )


def test_a_law_is_its_formula() -> None:
    law = PowerLaw(floor=0.5, scale=6.0, exponent=0.5)
    assert float(law(9.0)) == pytest.approx(2.5) and law([1.0, 4.0, 36.0]) == pytest.approx([6.5, 3.5, 1.5])


@settings(max_examples=40, deadline=None)
@given(
    floor=st.floats(0.0, 3.0), scale=st.floats(0.5, 300.0), exponent=st.floats(0.1, 1.2), first=st.floats(1.0, 1e6),
    n=st.integers(3, 7),
)  # fmt: skip
def test_without_noise_the_law_comes_back(floor: float, scale: float, exponent: float, first: float, n: int) -> None:
    x = first * 3.0 ** np.arange(n)
    true = PowerLaw(floor, scale * first**exponent, exponent)  # so that it falls where we look, wherever that is
    found = fit_power_law(x, true(x))
    assert found(x) == pytest.approx(true(x), rel=1e-9)
    assert float(found(x[-1] * 10)) == pytest.approx(float(true(x[-1] * 10)), rel=1e-6)
    assert found.exponent == pytest.approx(exponent, rel=1e-5)


def test_a_floor_that_is_given_stays() -> None:
    law = fit_power_law(SIZES, LAW(SIZES), floor=1.2)
    assert law == pytest.approx(LAW, rel=1e-10)
    rng = np.random.default_rng(0)
    line = fit_power_law(SIZES, loss := noisy(1, 0.02, rng)[0], floor=0.0)
    slope, height = np.polyfit(np.log(SIZES), np.log(loss), 1)  # without a floor it is a straight line
    assert line == pytest.approx((0.0, math.exp(height), -slope), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_with_noise_no_law_nearby_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loss = noisy(1, 0.004, rng)[0]
    found = fit_power_law(SIZES, loss)
    at = misfit(found, SIZES, loss)
    best, point, width = at, np.array([found.floor, math.log(found.scale), found.exponent]), 0.02
    for _ in range(4000):
        trial = point + width * rng.standard_normal() * rng.standard_normal(3)
        law = PowerLaw(max(0.0, trial[0]), math.exp(trial[1]), trial[2])
        if (value := misfit(law, SIZES, loss)) < best:
            best, point = value, trial
        else:
            width = max(1e-5, 0.999 * width)
    assert at <= 1.03 * best


def test_a_point_near_the_floor_decides_little() -> None:
    """A loss of 1.002 for 1.04 is 4 % off; above a floor of 1 its logarithm is off by 3, which must not bend the curve."""
    x = np.array([1.0, 10.0, 100.0, 1000.0, 10_000.0])
    loss = PowerLaw(1.0, 4.0, 0.5)(x)
    loss[-1] = 1.002
    assert fit_power_law(x, loss, floor=1.0) == pytest.approx((1.0, 4.0, 0.5), rel=1e-3)


def test_what_rises_has_an_exponent_below_zero() -> None:
    assert fit_power_law([1, 2, 4], [1.0, 2.0, 4.0], floor=0).exponent == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("x", "loss", "floor", "says"),
    [
        ([1, 2], [3.0, 2.0], None, "2 different x: .* at least 3"),
        ([1, 1, 1], [3.0, 2.0, 1.0], 0.0, "1 different x: .* at least 2"),
        ([1, 2, 3], [3.0, 2.0], None, r"x has shape \(3,\), the losses \(2,\)"),
        ([0, 2, 3], [3.0, 2.0, 1.0], None, "x holds a number that is not finite or not above 0"),
        ([1, 2, 3], [3.0, math.nan, 1.0], None, "the loss holds a number that is not finite"),
        ([1, 2, 3], [3.0, 2.0, 1.0], 1.0, "floor is 1.0: it must be at least 0 and below the lowest loss, 1"),
        ([1, 2, 3], [3.0, 2.0, 1.0], -0.5, "floor is -0.5"),
    ],
)
def test_what_has_no_law_is_refused(x: list[float], loss: list[float], floor: float | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fit_power_law(x, loss, floor)


# ---- the interval


def test_without_chance_the_interval_is_a_point() -> None:
    losses = np.array([LAW(SIZES)] * 2)
    low, median, high = bootstrap_interval(SIZES, losses, 2.2e5, 20, np.random.default_rng(3))
    assert (low, median, high) == pytest.approx((float(LAW(2.2e5)),) * 3, rel=1e-7)


def test_the_same_numbers_from_the_same_generator() -> None:
    losses = noisy(3, 0.01, np.random.default_rng(1))
    first, second, other = (
        bootstrap_interval(SIZES, losses, 2e5, 30, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert first == second != other
    assert first[0] < first[1] < first[2]


def test_a_lower_level_is_a_narrower_interval_inside() -> None:
    losses = noisy(3, 0.01, np.random.default_rng(1))
    wide, narrow = (
        bootstrap_interval(SIZES, losses, 2e5, 200, np.random.default_rng(7), floor=1.2, level=level)
        for level in (0.95, 0.5)
    )
    assert wide[0] < narrow[0] < narrow[1] == wide[1] < narrow[2] < wide[2]


def test_a_single_run_is_off_by_as_much_as_a_seed() -> None:
    """Many seeds at two points that know the law well: what is left is the chance of the one run that is to come."""
    rng = np.random.default_rng(2)
    x, noise = np.array([10.0, 1000.0]), 0.05
    losses = PowerLaw(0.0, 5.0, 0.2)(x) * np.exp(noise * rng.standard_normal((60, 2)))
    low, _, high = bootstrap_interval(x, losses, 100.0, 1500, rng, floor=0.0, level=0.6827)
    assert (math.log(high) - math.log(low)) / 2 == pytest.approx(noise, rel=0.15)


def test_two_seeds_are_not_taken_for_a_sure_thing() -> None:
    """Two seeds, 0.05 above and below their mean, come from a spread of 0.05 * sqrt(2), as far as two numbers can say it."""
    x = np.geomspace(10.0, 3000.0, 30)
    losses = PowerLaw(0.0, 5.0, 0.2)(x) * np.exp([[0.05], [-0.05]])
    low, _, high = bootstrap_interval(x, losses, 100.0, 1000, np.random.default_rng(8), floor=0.0, level=0.6827)
    assert (math.log(high) - math.log(low)) / 2 == pytest.approx(0.05 * math.sqrt(2), rel=0.15)


def test_what_seeds_leave_open_grows_with_the_distance() -> None:
    """Two points a doubling apart, each mean known to within 0.05: ten doublings on that is 0.05 * sqrt(10² + 11²)."""
    losses = PowerLaw(0.0, 5.0, 0.2)(x := np.array([10.0, 20.0])) * np.exp([[0.05], [-0.05]])
    low, _, high = bootstrap_interval(x, losses, 20 * 2.0**10, 600, np.random.default_rng(1), floor=0.0, level=0.6827)
    assert (math.log(high) - math.log(low)) / 2 == pytest.approx(0.05 * math.sqrt(221), rel=0.2)


def test_ninety_five_of_a_hundred_runs_come_out_inside() -> None:
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(100):
        low, _, high = bootstrap_interval(SIZES, noisy(3, 0.005, rng), 2.2e5, 60, rng, floor=1.2)
        inside += low <= float(LAW(2.2e5)) * math.exp(0.005 * rng.standard_normal()) <= high
    assert inside >= 86  # 60 draws of five points know their own tails only roughly


def test_points_that_leave_the_curve_widen_the_interval() -> None:
    bent = LAW(SIZES) * np.array([1.0, 1.03, 0.97, 1.03, 1.0])
    low, _, high = bootstrap_interval(SIZES, [bent, bent], 2e5, 100, np.random.default_rng(0), floor=0.0)
    assert high / low > 1.02


@pytest.mark.parametrize(
    ("losses", "how", "says"),
    [
        ([[3.0, 2.0, 1.5]], {}, r"losses_by_seed has shape \(1, 3\): give \(seeds, points\), with at least 2 seeds"),
        ([[3.0, 2.0, 1.5]] * 2, {"draws": 0}, "draws is 0"),
        ([[3.0, 2.0, 1.5]] * 2, {"level": 1.0}, "level 1.0"),
        ([[3.0, 2.0, 1.5]] * 2, {"at": -1.0}, "at -1.0"),
        ([[3.0, 2.0, math.nan]] * 2, {}, "the loss holds a number"),
        ([[3.0, 2.0, 1.5]] * 2, {"floor": 1.6}, "floor is 1.6"),
    ],
)
def test_intervals_of_nothing_are_refused(losses: list[list[float]], how: dict[str, float], says: str) -> None:
    how = {"at": 9.0, "draws": 5, **how}
    with pytest.raises(ValueError, match=says):
        bootstrap_interval([1, 2, 4], losses, how.pop("at"), int(how.pop("draws")), np.random.default_rng(0), **how)
