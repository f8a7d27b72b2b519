"""The dictionary n-gram: counts by hand and by brute force, the twin in arrays, and draws that come out as they should."""

import doctest
import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.classical import counting
from minilm.classical.config import NgramConfig
from minilm.classical.counting import add_k, count_ngrams, draw, interpolate
from minilm.classical.ngram import NgramLM

V, END = 7, 4
DOCUMENTS = st.lists(
    st.lists(st.integers(0, V - 1).filter(lambda token: token != END), max_size=9), min_size=1, max_size=6
)


def joined(documents):
    return [token for document in documents for token in (END, *document)]


def test_the_examples():
    assert doctest.testmod(counting).attempted >= 4 and doctest.testmod(counting).failed == 0


# ---- counting


def test_by_hand():
    ids = [9, 4, 5, 4, 5, 9, 9, 5]
    assert count_ngrams(ids, 1, 9) == {(): {4: 2, 5: 3, 9: 2}}
    assert count_ngrams(ids, 2, 9) == {(9,): {4: 1, 9: 1, 5: 1}, (4,): {5: 2}, (5,): {4: 1, 9: 1}}
    assert count_ngrams(ids, 3, 9) == {(9, 4): {5: 1}, (4, 5): {4: 1, 9: 1}, (5, 4): {5: 1}}
    assert count_ngrams(ids, 5, 9) == {(9, 4, 5, 4): {5: 1}, (4, 5, 4, 5): {9: 1}}
    assert count_ngrams(ids, 7, 9) == count_ngrams([], 2, 9) == count_ngrams([9], 1, 9) == {}


@given(DOCUMENTS, st.integers(1, 5))
def test_every_ngram_of_every_document_and_no_other(documents, order):
    """A document closed by <|endoftext|>, unless it is the last, holds its n-grams; text is searched, nothing slides."""
    wanted = Counter()
    for i, document in enumerate(documents):
        whole = (END, *document, *([END] if i < len(documents) - 1 else []))
        for start, stop in itertools.combinations(range(len(whole) + 1), 2):
            if stop - start == order and (order > 1 or start > 0):
                wanted[whole[start:stop]] += 1
    counts = count_ngrams(joined(documents), order, END)
    assert {(*context, token): n for context, after in counts.items() for token, n in after.items()} == wanted
    assert all(len(context) == order - 1 for context in counts)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
def test_the_twin_in_arrays_has_the_same_counts(order):
    rng = np.random.default_rng(order)
    ids = np.array(joined([rng.choice([0, 1, 2, 3, 5, 6], size) for size in (31, 0, 1, 17, 3, 55)]), dtype=np.uint16)
    twin = NgramLM(NgramConfig(V, order, "maximum-likelihood")).fit(ids, END)
    names = [(w,) for w in range(V)]  # the tokens of each row, one level after the other
    for level in twin.levels[1:]:
        names = [(*names[key // V], int(key % V)) for key in level.keys[:-1].tolist()]
    theirs = {name: n for name, n in zip(names, twin.levels[-1].counts.tolist(), strict=True) if n}
    mine = count_ngrams(ids, order, END)
    assert {(*context, token): n for context, after in mine.items() for token, n in after.items()} == theirs
    assert all(type(part) is int for context, after in mine.items() for part in (*context, *after))


def test_an_order_below_1_is_refused():
    with pytest.raises(ValueError, match="order is 0"):
        count_ngrams([9, 1], 0, 9)


# ---- probabilities


@pytest.mark.parametrize("k", [0, 0.07, 1, 3.5])
@pytest.mark.parametrize("counts", [{}, {6: 1}, {3: 2, 0: 9, 5: 1}, {w: w + 2 for w in range(V)}])
def test_add_k_in_fractions(counts, k):
    exact = Fraction(k)
    total = sum(counts.values()) + exact * V
    wanted = [(counts.get(w, 0) + exact) / total if total else Fraction(1, V) for w in range(V)]
    p = add_k(counts, V, k)
    assert p.shape == (V,) and p.dtype == np.float64
    assert np.allclose(p, [float(x) for x in wanted], rtol=1e-14, atol=0) and sum(wanted) == 1


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("k", [0.03, 2.0])
def test_the_twin_in_arrays_has_the_same_probabilities(order, k):
    rng = np.random.default_rng(order)
    ids = joined([rng.choice([0, 1, 2, 3, 5, 6], size).tolist() for size in (40, 2, 0, 33)])
    twin = NgramLM(NgramConfig(V, order, "add-k", k=k)).fit(np.array(ids), END)
    counts, unseen = count_ngrams(ids, order, END), 0
    for past in itertools.product(range(V), repeat=order - 1):
        if END not in past[1:]:
            unseen += past not in counts
            assert np.allclose(
                add_k(counts.get(past, {}), V, k), np.exp(twin.next_log_probs(np.array(past, dtype=int)))
            )
    assert (unseen > 0) == (order == 4)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (({1: 2}, 5, -0.1), "k is -0.1"),
        (({1: 2}, 5, math.nan), "k is nan"),
        (({}, 5, math.inf), "k is inf"),
        (({5: 2, 1: 1}, 5, 1), r"tokens 1 to 5 go beyond 0\.\.4"),
        (({-1: 2}, 5, 1), "tokens -1 to -1"),
    ],
)
def test_add_k_refuses(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        add_k(*arguments)


def test_interpolation_is_a_weighted_average():
    rng = np.random.default_rng(8)
    rows = rng.dirichlet(np.ones(5), size=3)
    mixed = interpolate(list(rows), [0.5, 0.2, 0.3])
    for w in range(5):
        assert mixed[w] == pytest.approx(0.5 * rows[0, w] + 0.2 * rows[1, w] + 0.3 * rows[2, w], rel=1e-14)
    assert mixed.sum() == pytest.approx(1, abs=1e-12) and mixed.dtype == np.float64
    assert np.array_equal(interpolate(rows[:1], np.array([1.0])), rows[0])
    assert interpolate([rows[0], rows[1]], [0.0, 1.0]) == pytest.approx(rows[1])


@pytest.mark.parametrize("weights", [[0.5, 0.6], [0.5], [1.5, -0.5], [], [0.2, 0.3, 0.5], [1, math.nan]])
def test_interpolation_refuses_other_weights(weights):
    with pytest.raises(ValueError, match="weights"):
        interpolate([np.array([0.5, 0.5]), np.array([0.1, 0.9])], weights)


# ---- draws


def test_draws_on_the_boundaries():
    p = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    below = [math.nextafter(x, 0) for x in (0.25, 0.75, 1.0)]
    assert [draw(p, u) for u in (0.0, below[0], 0.25, below[1], 0.75, below[2])] == [1, 1, 3, 3, 4, 4]
    assert type(draw(p, 0.3)) is int


@pytest.mark.parametrize("p", [[0.1] * 10 + [0.0], np.array([6, 5, 6, 2, 7, 5, 0, 0]) / 31])
def test_rounding_never_draws_the_impossible(p):
    u = math.nextafter(1, 0)
    assert not np.cumsum(p)[-1] > u  # so the trouble is there
    assert draw(np.array(p), u) == np.nonzero(p)[0][-1]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(0, 1023))
def test_every_token_has_its_part_of_the_line(counts, place):
    """In fractions: u = place / 1024 lies on the piece of the token that is drawn, from its left end on."""
    total, u = sum(counts), Fraction(place, 1024)
    token = draw(np.array(counts) / total, float(u))
    left = Fraction(sum(counts[:token]), total)
    right = left + Fraction(counts[token], total)
    assert counts[token] > 0
    assert left - Fraction(1, 10**12) <= u < right + Fraction(1, 10**12)


def test_the_twin_draws_the_same():
    ids = joined([[0, 1, 2, 0, 1, 3, 5], [0, 2, 2, 1], [6, 0, 1, 2]])
    twin = NgramLM(NgramConfig(V, 2, "add-k", k=0.2)).fit(np.array(ids), END)
    counts, uniforms = count_ngrams(ids, 2, END), np.random.default_rng(6).random(400)
    for u in uniforms:
        for last in (0, 2, 6):
            token = draw(add_k(counts[(last,)], V, 0.2), u)
            assert list(twin.generate([last], [u])) == ([] if token == END else [token])


@pytest.mark.parametrize("u", [-1e-9, 1.0, math.nan])
def test_a_draw_outside_the_line_is_refused(u):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        draw(np.array([0.5, 0.5]), u)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="probability 0"):
        draw(np.zeros(3), 0.5)
