"""What no reference can foretell, or only in a different size: the device's random numbers, and arrays beyond 2^24 and 2^31.

Random numbers are asked yes-or-no questions: whether a mean lies within six standard deviations of what it should be (a
right generator fails one in a thousand million times), and whether a seed always gives the same numbers.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minilm.layers.basic import dropout
from minilm.training.doctor import Case, Place, Results

N_DRAWN = 2**18  # an error of 1 % in a mean of 1/2 is nine of its standard deviations
FEW = 4096  # numbers are enough to see that they are the same
SIGMAS = 6.0
BINS = 64
P_DROPPED = 0.3
BEYOND_FLOATS = 2**24 + 3  # from here on float32 skips whole numbers, and so do indices that were kept in it
BEYOND_INT32 = 2**31 + 11
SMALL = 1001  # the size of the reference: what is asked does not depend on it

Sampler = Callable[[torch.Generator], Tensor]


def draw_cases(seed: int = 0) -> list[Case]:
    """The device's generator: uniform and normal numbers, and dropout."""
    case = partial(Case, dtypes=(torch.float32,))
    return [
        case("random numbers", "uniform", partial(draws, torch.rand, seed), settle=uniform_answers),
        case("random numbers", "normal", partial(draws, torch.randn, seed), settle=normal_answers),
        case("random numbers", "dropout", partial(dropped, seed), settle=dropout_answers),
    ]


def draws(sample: Callable[..., Tensor], seed: int, place: Place) -> Results:
    """Many numbers, and few: of a generator, of it once more, of another seed, and of a state that was saved."""

    def numbers(generator: torch.Generator, n: int = FEW) -> Tensor:
        return sample(n, generator=generator, device=place.device)

    generator = torch.Generator(place.device).manual_seed(seed)
    first = numbers(generator)
    state = generator.get_state()
    following = numbers(generator)
    later = torch.Generator(place.device)
    later.set_state(state)
    return {
        "first": first,
        "following": following,
        "again": numbers(torch.Generator(place.device).manual_seed(seed)),
        "other": numbers(torch.Generator(place.device).manual_seed(seed + 1)),
        "restored": numbers(later),
        "many": numbers(generator, N_DRAWN),
    }


def answers(**questions: bool) -> Results:
    return {name.replace("_", " "): torch.tensor(answer) for name, answer in questions.items()}


def within(value: float, expected: float, deviation: float) -> bool:
    """Whether a value lies within SIGMAS standard deviations; one that is not a number does not."""
    return abs(value - expected) <= SIGMAS * deviation


def seeds_are_kept(numbers: Results) -> dict[str, bool]:
    """What a generator owes its seed, whatever it draws."""
    first, following = numbers["first"], numbers["following"]
    return {
        "same_seed_same_numbers": torch.equal(first, numbers["again"]),
        "another_seed_other_numbers": float((first == numbers["other"]).double().mean()) < 0.01,
        "numbers_go_on": float((first == following).double().mean()) < 0.01,
        "a_saved_state_goes_on_as_before": torch.equal(following, numbers["restored"]),
    }


def uniform_answers(numbers: Results) -> Results:
    """Mean 1/2, variance 1/12, all of [0, 1) and nothing else, equally often, and neighbours that know nothing of each other."""
    x = numbers["many"].double()
    n = len(x)
    return answers(
        mean=within(float(x.mean()), 0.5, math.sqrt(1 / 12 / n)),
        variance=within(float(x.var()), 1 / 12, math.sqrt(1 / 180 / n)),
        from_0_to_1=bool(0.0 <= x.min() < 1e-3 and 1.0 - 1e-3 < x.max() < 1.0),
        all_parts_equally_often=evenly(x),
        neighbours_independent=within(correlation(x), 0.0, 1 / math.sqrt(n)),
        **seeds_are_kept(numbers),
    )


def normal_answers(numbers: Results) -> Results:
    """Mean 0, variance 1, fourth moment 3, and neighbours that know nothing of each other."""
    x = numbers["many"].double()
    n = len(x)
    return answers(
        mean=within(float(x.mean()), 0.0, 1 / math.sqrt(n)),
        variance=within(float(x.square().mean()), 1.0, math.sqrt(2 / n)),
        all_parts_as_often_as_they_should=evenly(0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))),
        fourth_moment=within(float((x**4).mean()), 3.0, math.sqrt(96 / n)),
        neighbours_independent=within(correlation(x), 0.0, 1 / math.sqrt(n)),
        **seeds_are_kept(numbers),
    )


def evenly(x: Tensor) -> bool:
    """Whether all parts of [0, 1) hold equally many numbers, by chi-square, whose cube root is nearly normal (Wilson and
    Hilferty 1931)."""
    expected, freedom = len(x) / BINS, BINS - 1
    chi_square = float(((torch.histc(x, BINS, 0.0, 1.0) - expected) ** 2).sum()) / expected
    return within((chi_square / freedom) ** (1 / 3), 1 - 2 / (9 * freedom), math.sqrt(2 / (9 * freedom)))


def correlation(x: Tensor) -> float:
    """Of each number with the next."""
    centred = x - x.mean()
    return float((centred[1:] * centred[:-1]).mean() / centred.square().mean())


def dropped(seed: int, place: Place) -> Results:
    """Ones after dropout, by a generator of the device."""
    generator = torch.Generator(place.device).manual_seed(seed)
    return {"kept": dropout(torch.ones(N_DRAWN, device=place.device), P_DROPPED, True, generator)}


def dropout_answers(numbers: Results) -> Results:
    """The right part is 0, and the rest is 1 / (1 - p)."""
    x = numbers["kept"].double()
    part = float((x == 0).double().mean())
    return answers(
        part_that_is_dropped=within(part, P_DROPPED, math.sqrt(P_DROPPED * (1 - P_DROPPED) / len(x))),
        the_rest_is_scaled=bool(((x == 0) | ((x * (1 - P_DROPPED) - 1).abs() < 1e-5)).all()),
    )


# ---- large arrays: whatever is said of their ends is counted from the end, so that a small reference can say it too


def large_cases(free_bytes: float = 0.0, seed: int = 0, size: int = BEYOND_FLOATS) -> list[Case]:
    """Arrays of more than 2^24 numbers (at most 200 MB), and of more than 2^31 where there is room for four of them."""
    case = partial(Case, dtypes=(torch.float32,), training=False)
    cases = [
        case("more than 2^24 numbers", what, partial(way, size))
        for what, way in {"ends": far_end, "counting": counted, "found": found, "rows": far_rows}.items()
    ]
    if free_bytes > 4 * BEYOND_INT32:
        cases.append(case("more than 2^31 numbers", "ends", partial(far_end, BEYOND_INT32)))
    return cases


def length(size: int, place: Place) -> int:
    return SMALL if place.is_reference else size


def far_end(size: int, place: Place) -> Results:
    """Ones, but for a few numbers at the ends: what is there, how many are not 0, and where the largest is. No sum: torch
    would first make an array of int64 of it."""
    n = length(size, place)
    x = torch.zeros(n, dtype=torch.uint8, device=place.device)
    x[n - 7], x[n - 2] = 3, 5
    x[1 : n - 3].add_(1)
    return {"last": x[-9:], "not 0": x.count_nonzero() - n, "largest, from the end": n - x.argmax()}


def counted(size: int, place: Place) -> Results:
    """Positions and running sums of whole numbers, at their ends."""
    n = length(size, place)
    ones = torch.ones(n, dtype=torch.int32, device=place.device)
    return {
        "positions": torch.arange(n, dtype=torch.int32, device=place.device)[-5:] - n,
        "sum": ones.sum() - n,
        "running sum": ones.cumsum(0, dtype=torch.int32)[-5:] - n,
    }


def found(size: int, place: Place) -> Results:
    """Where a mask is true."""
    n = length(size, place)
    mask = torch.zeros(n, dtype=torch.bool, device=place.device)
    mask[n - 6 :: 2] = True
    return {"places, from the end": n - mask.nonzero()[:, 0]}


def far_rows(size: int, place: Place) -> Results:
    """The last rows of a table (N, 4) with more numbers than `size`: read by number, and added to, some of them twice."""
    rows = length(size, place) // 4 + 2
    table = torch.zeros(rows, 4, device=place.device)
    table[-3:] = torch.arange(12, device=place.device).view(3, 4) * 1.0
    ids = rows - torch.tensor([1, 3, 2, 3], device=place.device)
    read = table[ids]
    table.index_add_(0, ids, read)
    table.view(-1)[-1:].mul_(0.5)
    return {"read": read, "added": table[-5:]}
