"""Kneser-Ney in dictionaries, against figures by hand and against the arrays of NgramLM, which count in another way."""

from itertools import product

import numpy as np
import pytest

from minilm.classical.config import NgramConfig
from minilm.classical.discounting import absolute_discount, continuation_counts, kneser_ney, kneser_ney_counts
from minilm.classical.ngram import NgramLM

V, EOT = 7, 3


def stream(seed: int, documents: int = 6, longest: int = 9) -> list[int]:
    """Documents of very different lengths, one of them empty, over all tokens but 6, which never occurs."""
    rng, ids = np.random.default_rng(seed), [EOT]
    for length in [0, 1, *rng.integers(2, longest, documents)]:
        ids += [int(token) for token in rng.choice([0, 1, 2, 4, 5], length, p=[0.4, 0.3, 0.15, 0.1, 0.05])] + [EOT]
    return ids


def contexts(ids: list[int], longest: int) -> list[tuple[int, ...]]:
    """Every context that occurs, and every one of two tokens whether it does or not."""
    seen = {tuple(ids[t - m : t]) for t in range(len(ids) + 1) for m in range(min(t, longest) + 1)}
    return sorted(seen | set(product(range(V), repeat=2)))


def test_absolute_discounting_by_hand() -> None:
    shorter = np.array([0.1, 0.2, 0.3, 0.4])
    p = absolute_discount({1: 5, 3: 2, 0: 1}, 0.4, shorter)  # three tokens give up 1.2 of 8
    np.testing.assert_allclose(p, [0.6 / 8 + 0.015, 4.6 / 8 + 0.03, 0.045, 1.6 / 8 + 0.06], rtol=1e-14)
    assert p.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(shorter, [0.1, 0.2, 0.3, 0.4])  # untouched
    np.testing.assert_array_equal(absolute_discount({}, 0.4, shorter), shorter)


@pytest.mark.parametrize(("discount", "expected"), [(0.0, [0.75, 0.25, 0.0]), (1.0, [0.6, 0.15, 0.25])])
def test_discounts_at_their_bounds(discount: float, expected: list[float]) -> None:
    shorter = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(absolute_discount({0: 3, 1: 1}, discount, shorter), expected, rtol=1e-14)


@pytest.mark.parametrize("discount", [-0.01, 1.01, float("nan")])
def test_a_discount_out_of_range(discount: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        absolute_discount({0: 3}, discount, np.array([1.0]))


@pytest.mark.parametrize("counts", [{0: 2, 3: 1}, {-1: 1, 2: 1}])
def test_a_token_that_is_none(counts: dict[int, int]) -> None:
    with pytest.raises(ValueError, match=r"go beyond 0\.\.2: check vocab_size"):
        absolute_discount(counts, 0.5, np.array([0.2, 0.3, 0.5]))


def test_continuation_counts_by_hand() -> None:
    trigrams = {(1, 2): {5: 9, 6: 1}, (4, 2): {5: 1}, (2, 2): {2: 3}, (1, 4): {5: 2}, (1, 1): {}}
    assert continuation_counts(trigrams) == {(2,): {5: 2, 6: 1, 2: 1}, (4,): {5: 1}, (1,): {}}
    assert continuation_counts({(0,): {1: 3, 2: 1}, (8,): {1: 1}}) == {(): {1: 2, 2: 1}}
    with pytest.raises(ValueError, match="order 1"):
        continuation_counts({(): {1: 3}})


def test_levels_by_hand() -> None:
    """Two documents, 0 1 0 and 1 0: what begins at <|endoftext|> keeps its real count, what else is shorter does not."""
    ids = [EOT, 0, 1, 0, EOT, 1, 0, EOT]
    level0, level1, level2 = kneser_ney_counts(ids, 3, EOT)
    assert level2 == {(EOT, 0): {1: 1}, (0, 1): {0: 1}, (1, 0): {EOT: 2}, (EOT, 1): {0: 1}}
    assert level1 == {(EOT,): {0: 1, 1: 1}, (0,): {1: 1, EOT: 1}, (1,): {0: 2}}
    assert level0 == {(): {0: 2, 1: 2, EOT: 1}}


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [4, 9])
def test_equal_to_the_arrays(order: int, seed: int) -> None:
    ids = stream(seed)
    discounts = [0.31, 0.55, 0.72, 0.9, 1.0][:order]
    levels = kneser_ney_counts(ids, order, EOT)
    assert len(levels) == order
    for smoothing in ("interpolated-kneser-ney", "kneser-ney"):
        config = NgramConfig(V, order, smoothing, discounts=tuple((d, d, d) for d in discounts))
        model = NgramLM(config).fit(np.array(ids), EOT)
        for context in contexts(ids, order + 1):
            p = kneser_ney(levels, context, discounts, V)
            np.testing.assert_allclose(
                p, np.exp(model.next_log_probs(np.array(context, dtype=int))), rtol=0, atol=1e-14
            )
            assert p.sum() == pytest.approx(1, abs=1e-12) and p.min() > 0


def test_equal_to_the_arrays_with_estimated_discounts() -> None:
    ids = stream(seed=2, documents=40, longest=30)
    model = NgramLM(NgramConfig(V, 4, "interpolated-kneser-ney")).fit(np.array(ids), EOT)
    levels = kneser_ney_counts(ids, 4, EOT)
    nats = 0.0
    for t in range(1, len(ids)):
        start = max(i for i in range(t) if ids[i] == EOT)  # the document's <|endoftext|>
        nats -= np.log(kneser_ney(levels, tuple(ids[start:t]), model.discounts[:, 1].tolist(), V)[ids[t]])
    assert nats == pytest.approx(-model.token_log_probs(np.array(ids))[1:].sum(), rel=1e-12)


def test_francisco_is_unlikely_after_a_new_word() -> None:
    """It is frequent, but after one word only: a model that falls back on plain counts would expect it everywhere."""
    san, francisco, *others, cup = 0, 1, 2, 4, 5, 6
    ids = [EOT, *[san, francisco, EOT] * 9, *(token for other in others for token in (other, cup, EOT))]
    levels = kneser_ney_counts(ids, 2, EOT)
    p = kneser_ney(levels, (cup,), (0.75, 0.75), V)
    assert levels[0][()][francisco] == 1 and levels[0][()][cup] == 3
    assert p[cup] > p[francisco]


def test_a_discount_for_each_level() -> None:
    with pytest.raises(ValueError, match="1 discounts for 2 levels"):
        kneser_ney([{}, {}], (), (0.5,), V)
