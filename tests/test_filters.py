"""Filters: kept sets against their definitions, on 10,000 distributions each, against subsets, and transformers."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from sampling_by_definition import min_p, random_logits, top_k, top_p, typical
from torch import Tensor
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper

from minilm.decoding.filters import keep_min_p, keep_top_k, keep_top_p, keep_typical

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SIZES = [1, 2, 5, 13, 37]
ROWS = 50  # times 4 types, 5 sizes, 10 settings: 10,000 distributions a filter
MASSES = [1e-12, 1e-7, 1e-3, 0.11, 0.37, 0.5, 0.77, 0.93, 0.999, 1.0]


def kept(logits: Tensor) -> list[list[int]]:
    return [(row > -math.inf).nonzero()[:, 0].tolist() for row in logits]


FILTERS: dict[str, tuple[Callable, Callable, Callable[[int], list]]] = {
    "top_k": (keep_top_k, top_k, lambda V: [k for k in (1, 2, 3, 4, V // 2, V - 2, V - 1, V, V + 1, 10 * V) if k > 0]),
    "top_p": (keep_top_p, top_p, lambda V: MASSES),
    "min_p": (keep_min_p, min_p, lambda V: [0.0, *MASSES[1:]]),
    "typical": (keep_typical, typical, lambda V: MASSES),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FILTERS)
def test_exactly_the_defined_set_stays(name: str, dtype: torch.dtype) -> None:
    """Rows 50 and 52: the token that crosses p stays, k is k. The kept logits are as they were, in their own type."""
    keep, definition, settings = FILTERS[name]
    generator, wrong = torch.Generator().manual_seed(3), []
    for V in SIZES:
        for setting in settings(V):
            logits = random_logits(ROWS, V, generator).to(dtype)
            before = logits.clone()
            result = keep(logits, setting)
            assert result.dtype == dtype and torch.equal(logits, before)
            assert torch.equal(result[result > -math.inf], logits[result > -math.inf])
            expected = [definition(row, setting) for row in logits.tolist()]
            wrong += [(V, setting) for a, b in zip(kept(result), expected, strict=True) if a != b]
    assert wrong == []


@pytest.mark.parametrize("mass", [0.2, 0.5, 0.83])
def test_top_p_is_the_best_of_all_subsets(mass: float) -> None:
    """Row 50: of all 31 sets, the smallest with probability p; of those the likeliest; of ties the lowest ids."""
    logits = random_logits(300, 5, torch.Generator().manual_seed(8))
    subsets = [s for n in range(1, 6) for s in itertools.combinations(range(5), n)]
    for row, found in zip(logits.tolist(), kept(keep_top_p(logits, mass)), strict=True):
        weights = [math.exp(x - max(row)) for x in row]
        masses = {s: math.fsum(weights[i] for i in s) for s in subsets}
        enough = [s for s in subsets if masses[s] >= mass * masses[(0, 1, 2, 3, 4)]]
        assert tuple(found) == min(enough, key=lambda s: (len(s), -masses[s], s))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_row_51_the_likeliest_token_always_stays(dtype: torch.dtype) -> None:
    """On 1,000 tokens, where bfloat16 cannot hold the running sum: a tiny p must not drop everything."""
    logits = random_logits(24, 1000, torch.Generator().manual_seed(5)).to(dtype)
    best = logits.argmax(-1)
    for p in [1e-300, *MASSES]:
        for keep in (keep_top_p, keep_min_p):
            assert (keep(logits, p).gather(-1, best[:, None]) > -math.inf).all()
        assert (keep_typical(logits, p) > -math.inf).any(-1).all()
    flat = torch.zeros(2, 1000, dtype=dtype)
    assert [len(ids) for ids in kept(keep_top_p(flat, 0.9995))] == [1000, 1000]


def test_row_52_top_k_with_ties_and_more_than_there_is() -> None:
    logits = torch.tensor([[2.0, 2.0, 2.0, 1.0], [0.0, 3.0, 1.0, 3.0]])
    assert [kept(keep_top_k(logits, k)) for k in (1, 2, 3)] == [[[0], [1]], [[0, 1], [1, 3]], [[0, 1, 2], [1, 2, 3]]]
    for k in (4, 5, 10**9):
        assert torch.equal(keep_top_k(logits, k), logits)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_top_p_on_exact_ties(dtype: torch.dtype) -> None:
    """Four equal tokens: sums 1/4, 2/4, 3/4, 1 are exact, so p on the border must not keep one more."""
    logits = torch.zeros(2, 4, dtype=dtype)
    for p, size in [(1e-12, 1), (0.25, 1), (0.2500001, 2), (0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)]:
        assert kept(keep_top_p(logits, p)) == kept(keep_typical(logits, p)) == [list(range(size))] * 2, p


def test_a_mass_of_one_keeps_the_rarest_token() -> None:
    logits = torch.tensor([[50.0, 49.0, -50.0], [0.0, -80.0, 1.0]])
    for keep in (keep_top_p, keep_typical):
        assert torch.equal(keep(logits, 1.0), logits)


def test_min_p_on_the_border() -> None:
    """1 keeps those that tie with the likeliest, and 1/4 still keeps what has exactly a quarter of it."""
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    assert kept(keep_min_p(logits, 1.0)) == [[1, 2]]
    assert kept(keep_min_p(torch.tensor([[0.5, 0.125, 0.0625, 0.25]]).double().log(), 0.25)) == [[0, 1, 3]]


def test_typical_may_drop_the_likeliest() -> None:
    """The example of the docstring: entropy 3.13 nats, 0.4 has 0.92 and the rare tokens 4.61."""
    logits = torch.tensor([[0.4, *[0.01] * 60]]).double().log()
    assert kept(keep_typical(logits, 0.495)) == [list(range(1, 51))]
    assert kept(keep_typical(logits, 0.65)) == [list(range(61))]


@pytest.mark.parametrize("name", FILTERS)
def test_what_an_earlier_filter_dropped_counts_for_nothing(name: str) -> None:
    """A row with -inf among the logits is filtered as the row without those tokens."""
    keep, definition, _ = FILTERS[name]
    generator = torch.Generator().manual_seed(6)
    logits = random_logits(200, 12, generator)
    logits[:, [0, 4, 5, 11]] = -math.inf
    rest = [1, 2, 3, 6, 7, 8, 9, 10]
    for setting in (1, 3, 7) if name == "top_k" else (0.05, 0.4, 0.8, 0.95):
        expected = [[rest[i] for i in definition(row, setting)] for row in logits[:, rest].tolist()]
        assert kept(keep(logits, setting)) == expected


@pytest.mark.parametrize("V", [7, 50])
def test_same_as_transformers_where_nothing_ties(V: int) -> None:
    """Their top-k keeps all that tie with the k-th, their typical all that tie with the last, so rows have no ties."""
    logits = random_logits(500, V, torch.Generator().manual_seed(V), tied=False)
    for k in (1, 3, V - 1, V, V + 5):
        assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))
    for p in (1e-12, 0.05, 0.3, 0.62, 0.9, 0.999):
        assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))
        assert torch.equal(keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))
        assert torch.equal(keep_typical(logits, p), TypicalLogitsWarper(p)(None, logits))


def test_min_p_is_that_of_transformers_with_ties_too() -> None:
    logits = random_logits(500, 20, torch.Generator().manual_seed(9))
    for p in (1e-3, 0.11, 0.6, 1.0):
        assert torch.equal(keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))
