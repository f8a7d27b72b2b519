"""Sampling: kept sets against their definitions in exact arithmetic, draws against the inverse transform by hand."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from minilm.decoding.config import SampleConfig
from minilm.decoding.sampling import Sampler, apply_temperature, draw, keep_top_k, keep_top_p


def kept(logits: torch.Tensor) -> list[set[int]]:
    return [set((row > -math.inf).nonzero()[:, 0].tolist()) for row in logits]


def by_rank(row: list[float]) -> list[int]:
    """Ids from likely to unlikely, ties by lower id."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def random_logits(rows: int, V: int, generator: torch.Generator) -> torch.Tensor:
    """Rows of very different sharpness, every second one with many ties."""
    logits = torch.randn(rows, V, generator=generator, dtype=torch.double)
    logits *= torch.linspace(0.05, 6, rows, dtype=torch.double)[torch.randperm(rows, generator=generator), None]
    logits[::2] = logits[::2].round()
    return logits


@pytest.mark.parametrize("V", [1, 2, 7, 31])
def test_top_k_keeps_exactly_k(V: int) -> None:
    logits = random_logits(61, V, torch.Generator().manual_seed(V))
    for k in {1, 2, max(1, V - 1), V, V + 1}:
        result = keep_top_k(logits, k)
        assert kept(result) == [set(by_rank(row)[:k]) for row in logits.tolist()]
        assert torch.equal(result[result > -math.inf], logits[result > -math.inf])


def test_top_p_keeps_the_smallest_set_with_enough_mass() -> None:
    """3,000 distributions. The oracle tries set sizes upwards, with exact fractions of the exponentials."""
    generator, wrong = torch.Generator().manual_seed(3), 0
    for V, p in itertools.product([2, 5, 13], [1e-12, 0.1, 0.37, 0.5, 0.9, 0.99]):
        logits = random_logits(167, V, generator)
        for row, found in zip(logits.tolist(), kept(keep_top_p(logits, p)), strict=True):
            weights = [Fraction(math.exp(x - max(row))) for x in row]
            order, total = by_rank(row), sum(weights)
            sums = [sum(weights[i] for i in order[:n]) / total for n in range(1, V + 1)]
            size = next(n for n, mass in enumerate(sums, start=1) if mass >= Fraction(p))
            wrong += found != set(order[:size])
    assert wrong == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_top_p_on_exact_ties(dtype: torch.dtype) -> None:
    """Four equal tokens: sums 1/4, 2/4, 3/4, 1 are exact, so p on the border must not keep one more."""
    logits = torch.zeros(2, 4, dtype=dtype)
    for p, size in [(1e-12, 1), (0.25, 1), (0.2500001, 2), (0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)]:
        if dtype != torch.bfloat16 or p != 0.2500001:
            assert kept(keep_top_p(logits, p)) == [set(range(size))] * 2, p


def test_top_p_of_one_keeps_the_rarest_token() -> None:
    logits = torch.tensor([[50.0, 49.0, -50.0], [0.0, -80.0, 1.0]])
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_filters_follow_one_another() -> None:
    """Probabilities 0.4 0.3 0.2 0.1: after top-k 2 they are 4/7 and 3/7, so p = 0.55 keeps one, and alone two."""
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.4, 0.1, 0.2, 0.3]]).double().log()
    assert kept(keep_top_p(logits, 0.55)) == [{1, 2}, {0, 3}]
    assert kept(keep_top_p(keep_top_k(logits, 2), 0.55)) == [{1}, {0}]
    ids = {
        tuple(Sampler(SampleConfig(1.0, 2, 0.55), torch.Generator().manual_seed(s))(logits).tolist()) for s in range(40)
    }
    assert ids == {(1, 0)}


def test_temperature_comes_before_top_p() -> None:
    """Temperature 0.5 squares 0.6 0.3 0.1 to 0.78 0.20 0.02: then p = 0.7 keeps one token, and two before."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).double().log().expand(500, 3)
    ids = Sampler(SampleConfig(0.5, top_p=0.7), torch.Generator().manual_seed(1))(logits)
    assert set(ids.tolist()) == {0}
    ids = Sampler(SampleConfig(1.0, top_p=0.7), torch.Generator().manual_seed(1))(logits)
    assert set(ids.tolist()) == {0, 1}


def test_draw_is_the_inverse_transform() -> None:
    generator = torch.Generator().manual_seed(5)
    probabilities = torch.rand(400, 11, generator=generator, dtype=torch.double).pow(3)
    probabilities[probabilities < 0.05] = 0.0
    probabilities /= probabilities.sum(-1, keepdim=True)
    uniforms = torch.rand(400, generator=generator, dtype=torch.double)
    for row, u, found in zip(
        probabilities.tolist(), uniforms.tolist(), draw(probabilities, uniforms).tolist(), strict=True
    ):
        end, expected = 0.0, None
        for token, p in enumerate(row):
            end += p
            if u < end:
                expected = token
                break
        assert found == expected


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_draw_never_gives_an_impossible_token(u: float) -> None:
    """Zeros at both ends, and sums that are not exactly 1: the extreme uniforms still fall on a token with a chance."""
    for scale in (1.0, 1 - 1e-12, 1 + 1e-12, 0.7):
        probabilities = torch.tensor([[0.0, 0.1, 0.0, 0.9, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]], dtype=torch.double) * scale
        for row, token in enumerate(draw(probabilities, torch.full((2,), u, dtype=torch.double)).tolist()):
            assert probabilities[row, token] > 0


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(chi-square >= statistic), by the Wilson-Hilferty approximation."""
    z = ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))
    return 0.5 * math.erfc(z / math.sqrt(2))


def check_frequencies(distributions: int, draws: int) -> None:
    generator = torch.Generator().manual_seed(11)
    for n in range(distributions):
        V, temperature = 3 + n, 0.5 + 0.1 * n
        logits = 1.5 * torch.randn(V, generator=generator, dtype=torch.double)
        weights = [math.exp(x / temperature) for x in logits.tolist()]
        expected = [draws * weight / sum(weights) for weight in weights]
        ids = Sampler(SampleConfig(temperature), generator)(logits.expand(draws, V))
        counts = torch.bincount(ids, minlength=V).tolist()
        cells = [(count, e) for count, e in zip(counts, expected, strict=True) if e >= 5]
        statistic = sum((count - e) ** 2 / e for count, e in cells)
        assert chi_square_tail(statistic, max(1, len(cells) - 1)) > 1e-6


def test_frequencies_follow_the_probabilities() -> None:
    check_frequencies(distributions=8, draws=20_000)


@pytest.mark.nightly
def test_frequencies_follow_the_probabilities_long() -> None:
    check_frequencies(distributions=20, draws=200_000)


def test_rows_are_independent_of_their_neighbours() -> None:
    """A row's token follows from its own uniform: other logits in the other rows change nothing."""
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(5, 9, generator=generator), torch.randn(5, 9, generator=generator)
    b[3] = a[3]
    config = SampleConfig(1.3, top_k=7, top_p=0.9)
    first, second = (Sampler(config, torch.Generator().manual_seed(8))(x) for x in (a, b))
    assert first[3] == second[3]
    assert len(set(Sampler(config, generator)(a[:1].expand(64, 9)).tolist())) > 1  # and not one draw for all rows


def test_greedy_takes_the_largest_and_of_ties_the_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 3.0], [-9.0, -8.0, -7.0]])
    assert Sampler(SampleConfig(temperature=0))(logits).tolist() == [1, 0, 2]


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    logits = torch.tensor([[1.0, 5.0, 4.9], [-300.0, -200.0, -250.0]]).double()
    assert Sampler(SampleConfig(temperature=1e-308), torch.Generator())(logits).tolist() == [1, 1]
    assert not apply_temperature(logits, 1e-308).isnan().any()


def test_inputs_are_left_alone() -> None:
    logits = torch.randn(3, 8)
    before = logits.clone()
    Sampler(SampleConfig(0.9, 4, 0.8), torch.Generator())(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": -3}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
    ],
)
def test_bad_settings_are_one_line(settings: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        SampleConfig(**settings)
    assert "\n" not in str(error.value)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="generator"):
        Sampler(SampleConfig(0.8))
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not finite"):
            Sampler(SampleConfig(0))(torch.tensor([[0.0, 1.0], [value, 0.0]]))
