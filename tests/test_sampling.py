"""Sampling: the steps in their order against plain loops, draws against the inverse transform by hand, frequencies."""

import itertools
import math
from typing import Any

import pytest
import sampling_by_definition as by_definition
import torch
from sampling_by_definition import random_logits

from minilm.decoding.config import SampleConfig
from minilm.decoding.processors import BadWords, LogitBias
from minilm.decoding.sampling import Sampler, apply_temperature, distribution, draw, sample

CHOICES: dict[str, list[Any]] = {
    "top_k": [None, 1, 3, 50],
    "top_p": [None, 0.3, 0.8, 1.0],
    "min_p": [None, 0.02, 0.3],
    "typical_p": [None, 0.2, 0.7],
    "repetition_penalty": [1.0, 1.4],
    "presence_penalty": [0.0, 0.6],
    "frequency_penalty": [0.0, -0.2],
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]


def settings(count: int, seed: int) -> list[dict[str, Any]]:
    """Some of the 1,152 combinations."""
    order = torch.randperm(len(COMBINATIONS), generator=torch.Generator().manual_seed(seed)).tolist()
    return [COMBINATIONS[i] for i in order[:count]]


def texts_for(rows: int, V: int, generator: torch.Generator) -> list[list[int]]:
    return torch.randint(0, V, (rows, 6), generator=generator).tolist()


def uniforms_for(rows: int, seed: int) -> torch.Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_all_steps_in_their_order() -> None:
    """300 combinations of every setting with temperatures, 7 rows each, against the definition in lists."""
    generator = torch.Generator().manual_seed(2)
    for n, combination in enumerate(settings(300, seed=1)):
        config = SampleConfig(0.3 + 0.005 * n, **combination)
        logits, texts = random_logits(7, 11, generator), texts_for(7, 11, generator)
        expected = [
            by_definition.distribution(row, text, config) for row, text in zip(logits.tolist(), texts, strict=True)
        ]
        found = distribution(logits, config, texts)
        assert (found - torch.tensor(expected, dtype=torch.double)).abs().max() < 1e-12, config


def test_filters_follow_one_another() -> None:
    """Probabilities 0.4 0.3 0.2 0.1: after top-k 2 they are 4/7 and 3/7, so p = 0.55 keeps one, and alone two."""
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.4, 0.1, 0.2, 0.3]]).double().log()
    for k, expected in ((None, [{1, 2}, {0, 3}]), (2, [{1}, {0}])):
        config = SampleConfig(1.0, top_k=k, top_p=0.55)
        draws = [sample(logits, config, torch.full((2,), u)).tolist() for u in torch.linspace(0, 0.99, 40).tolist()]
        assert [set(ids) for ids in zip(*draws, strict=True)] == expected


def test_temperature_comes_before_top_p() -> None:
    """Temperature 0.5 squares 0.6 0.3 0.1 to 0.78 0.20 0.02: then p = 0.7 keeps one token, and two before."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).double().log().expand(500, 3)
    for temperature, expected in ((0.5, {0}), (1.0, {0, 1})):
        ids = Sampler(SampleConfig(temperature, top_p=0.7), torch.Generator().manual_seed(1))(logits)
        assert set(ids.tolist()) == expected


def test_penalties_come_before_the_temperature() -> None:
    """Presence 1 at temperature 0.5 changes the odds by exp(-2)."""
    before, after = (distribution(torch.zeros(1, 2), SampleConfig(0.5, presence_penalty=p), [[0]])[0] for p in (0, 1))
    assert float(after[0] / after[1]) == pytest.approx(math.exp(-2) * float(before[0] / before[1]), rel=1e-12)


def test_draw_is_the_inverse_transform() -> None:
    generator = torch.Generator().manual_seed(5)
    probabilities = torch.rand(400, 11, generator=generator, dtype=torch.double).pow(3)
    probabilities[probabilities < 0.05] = 0.0
    probabilities /= probabilities.sum(-1, keepdim=True)
    uniforms = uniforms_for(400, 5)
    found = draw(probabilities, uniforms).tolist()
    for row, u, token in zip(probabilities.tolist(), uniforms.tolist(), found, strict=True):
        ends = itertools.accumulate(row)
        assert token == next(i for i, end in enumerate(ends) if u < end)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_draw_on_the_borders_of_the_pieces(dtype: torch.dtype) -> None:
    """A piece has its left border and not its right one; pieces of length 0 have neither. All numbers are exact."""
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.0, 0.5, 0.125, 0.125, 0.0]], dtype=dtype)
    for left, right, token in [(0.0, 0.25, 1), (0.25, 0.75, 4), (0.75, 0.875, 5), (0.875, 1.0, 6)]:
        inside = [left, math.nextafter(left, 1), (left + right) / 2, math.nextafter(right, 0)]
        uniforms = torch.tensor(inside, dtype=torch.double)
        assert draw(probabilities.expand(4, 8), uniforms).tolist() == [token] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_draw_adds_up_in_float64(dtype: torch.dtype) -> None:
    """1,000 equal pieces: in bfloat16 their sum would stop at 0.5, and the later ones would never be drawn."""
    probabilities = torch.full((1000, 1000), 1 / 1024, dtype=dtype)
    uniforms = (torch.arange(1000, dtype=torch.double) + 0.5) / 1000
    assert draw(probabilities, uniforms).tolist() == list(range(1000))
    probabilities = torch.rand(50, 1000, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(draw(probabilities, uniforms[::20]), draw(probabilities.double(), uniforms[::20]))


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


@pytest.mark.parametrize("cases", [[{}] * 20, settings(20, seed=4)], ids=["as the model says", "filtered"])
def test_frequencies_follow_the_probabilities(cases: list[dict[str, Any]]) -> None:
    """200,000 draws from each of 20 distributions. Of tokens that the definition gives no chance, not one comes."""
    generator, draws = torch.Generator().manual_seed(11), 200_000
    for n, combination in enumerate(cases):
        V, config = 4 + n % 9, SampleConfig(0.5 + 0.1 * n, **combination)
        logits = 1.5 * torch.randn(1, V, generator=generator, dtype=torch.double)
        text = torch.randint(0, V, (5,), generator=generator).tolist()
        uniforms = torch.rand(draws, generator=generator, dtype=torch.double)
        counts = torch.bincount(draw(distribution(logits, config, [text]).expand(draws, V), uniforms), minlength=V)
        expected = [draws * p for p in by_definition.distribution(logits[0].tolist(), text, config)]
        cells = list(zip(counts.tolist(), expected, strict=True))
        assert all(count == 0 for count, e in cells if e == 0)
        cells = [(count, e) for count, e in cells if e >= 5]
        statistic = sum((count - e) ** 2 / e for count, e in cells)
        assert chi_square_tail(statistic, max(1, len(cells) - 1)) > 1e-6, config


def test_row_54_each_row_has_its_own_draw() -> None:
    """Row i of a batch is row i alone with its uniform; other logits and texts beside it change nothing."""
    generator = torch.Generator().manual_seed(2)
    for combination in settings(40, seed=6):
        config = SampleConfig(1.3, **combination)
        logits, texts, uniforms = random_logits(6, 9, generator), texts_for(6, 9, generator), uniforms_for(6, 3)
        together = sample(logits, config, uniforms, texts)
        alone = [sample(logits[i : i + 1], config, uniforms[i : i + 1], texts[i : i + 1]) for i in range(6)]
        assert together.tolist() == [int(ids) for ids in alone]


def test_row_54_one_uniform_for_each_row_and_call() -> None:
    """64 equal rows get 64 draws, and the sampler takes exactly one number a row from its generator, in order."""
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(4)).expand(64, 9)
    sampler = Sampler(SampleConfig(1.3, top_k=7, top_p=0.9), torch.Generator().manual_seed(8))
    found = torch.cat([sampler(logits[:40]), sampler(logits[40:])])
    assert torch.equal(found, sample(logits, sampler.config, uniforms_for(64, 8)))
    assert len(set(found.tolist())) > 2


def test_row_53_temperature_0_is_the_argmax_in_every_combination() -> None:
    """Of what penalties and processors leave; no filter matters, not even typical, which may drop the likeliest."""
    generator = torch.Generator().manual_seed(9)
    processors = [LogitBias({2: 1.5}), BadWords([[4], [0, 1]])]
    logits, texts = random_logits(5, 8, generator), texts_for(5, 8, generator)
    logits[:, 5] = logits[:, 6]  # ties
    expected: dict[tuple[float, ...], torch.Tensor] = {}
    for combination in COMBINATIONS:
        config = SampleConfig(0, **combination)
        penalties = {name: combination[name] for name in combination if name.endswith("penalty")}
        key = tuple(penalties.values())
        if key not in expected:
            expected[key] = distribution(logits, SampleConfig(1.0, **penalties), texts, processors).argmax(-1)
            assert torch.equal(Sampler(config, None, processors)(logits, texts), expected[key])
        found = distribution(logits, config, texts, processors)
        assert torch.equal(found, torch.nn.functional.one_hot(expected[key], 8).double())
    assert len(set(map(str, expected.values()))) > 2


def test_greedy_takes_the_largest_and_of_ties_the_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 3.0], [-9.0, -8.0, -7.0]])
    assert Sampler(SampleConfig(temperature=0))(logits).tolist() == [1, 0, 2]


def test_row_53_a_tiny_temperature_is_nearly_greedy() -> None:
    logits = torch.tensor([[1.0, 5.0, 4.9], [-300.0, -200.0, -250.0]]).double()
    assert Sampler(SampleConfig(temperature=1e-308), torch.Generator())(logits).tolist() == [1, 1]
    assert not apply_temperature(logits, 1e-308).isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_every_type_are_sampled_in_float64(dtype: torch.dtype) -> None:
    """And are left as they were."""
    logits = random_logits(30, 300, torch.Generator().manual_seed(1)).to(dtype)
    before = logits.clone()
    config = SampleConfig(0.9, 200, 0.97, 0.001, 0.9)
    assert torch.equal(distribution(logits, config), distribution(logits.double(), config))
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [0, 1e-308, 50.0], [-0.1, math.nan, math.inf]),
        ("top_k", [1, 10**9], [0, -3]),
        ("top_p", [1e-300, 1.0], [0.0, 1.01, -0.5, math.nan]),
        ("min_p", [0.0, 1.0], [-0.01, 1.01, math.nan]),
        ("typical_p", [1e-300, 1.0], [0.0, 1.01, math.nan]),
        ("repetition_penalty", [0.1, 9.0], [0.0, -1.2, math.nan, math.inf]),
        ("presence_penalty", [-2.0, 0.0, 2.0], [math.nan, math.inf, -math.inf]),
        ("frequency_penalty", [-2.0, 0.0, 2.0], [math.nan, math.inf, -math.inf]),
    ],
)
def test_ranges_of_settings(name: str, good: list[float], bad: list[float]) -> None:
    """Row 53 for the temperature, row 52 for k: what is out of its range is one line, which names the setting."""
    for value in good:
        assert getattr(SampleConfig(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ValueError, match=f"{name} is {value}: ") as error:
            SampleConfig(**{name: value})
        assert "\n" not in str(error.value)


def test_as_it_comes() -> None:
    config = SampleConfig()
    assert (config.temperature, config.top_k, config.top_p, config.min_p, config.typical_p) == (
        0.8,
        None,
        None,
        None,
        None,
    )
    assert (config.repetition_penalty, config.presence_penalty, config.frequency_penalty) == (1, 0, 0)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="needs a generator"):
        Sampler(SampleConfig(0.8))
    with pytest.raises(ValueError, match="needs a uniform"):
        sample(torch.zeros(1, 3), SampleConfig(0.8))
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="logits are not finite"):
            Sampler(SampleConfig(0))(torch.tensor([[0.0, 1.0], [value, 0.0]]))
    for u in (1.0, -1e-9, math.nan):
        with pytest.raises(ValueError, match="outside"):
            draw(torch.ones(2, 3) / 3, torch.tensor([0.5, u]))
