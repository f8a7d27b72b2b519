"""What an n-gram model knows before it predicts: its config and its discounts, given, estimated or tuned."""

import logging
from fractions import Fraction

import numpy as np
import pytest

from minilm.classical.config import NgramConfig
from minilm.classical.discounts import FALLBACK, estimate_discounts
from minilm.classical.ngram import NgramLM
from minilm.classical.tuning import split_last_tenth, tune_ngram

V, EOT = 11, 4


def text_of_pairs() -> np.ndarray:
    """60 documents of 30 tokens, in which a token depends on the one before it and on nothing else."""
    rng, ids = np.random.default_rng(14), []
    for _ in range(60):
        ids.append(EOT)
        for _ in range(30):
            ids.append((ids[-1] * 3 + int(rng.geometric(0.5))) % 6 + 5)
    return np.array(ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"order": 0}, "order is 0"),
        ({"smoothing": "good-turing"}, "choose one of"),
        ({"k": 0.0}, "k is 0"),
        ({"k": float("nan")}, "k is nan"),
        ({"discounts": ((0.5, 1.0, 1.5),)}, "one row an order"),
        ({"order": 1, "discounts": ((0.5, 2.1, 1.5),)}, "0 <= Dj <= j"),
        ({"order": 1, "discounts": ((0.5, 1.0),)}, "three numbers"),
        ({"order": 1, "smoothing": "add-k", "discounts": ((0.5, 1.0, 1.5),)}, "has no discounts"),
    ],
)
def test_bad_config(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NgramConfig(**changes)


def test_discounts_survive_json() -> None:
    assert NgramConfig(5, 1, discounts=[[0.5, 1, 1.5]]) == NgramConfig(5, 1, discounts=((0.5, 1.0, 1.5),))  # type: ignore[arg-type]


def test_discounts_by_hand() -> None:
    counts = np.repeat([0, 1, 2, 3, 4, 5], [9, 8, 3, 2, 1, 6])  # Y = 8 / (8 + 2 * 3) = 4 / 7
    assert estimate_discounts(counts, modified=True) == pytest.approx((4 / 7, 6 / 7, 13 / 7), rel=1e-14)
    assert estimate_discounts(counts, modified=False) == pytest.approx((4 / 7, 4 / 7, 4 / 7), rel=1e-14)
    odd = np.repeat([1, 2, 3, 4], [50, 2, 40, 3])  # D2 would be 2 - 3 Y * 20, far below 0
    assert estimate_discounts(odd, modified=True) is None


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_discounts_of_a_tiny_corpus(missing: int, caplog: pytest.LogCaptureFixture) -> None:
    """Bigrams occur j times for each j in 1..4 but one: no estimate, so the standard discounts and one warning."""
    text = [99]
    for j in (1, 2, 3, 4):
        text += [10 * j, 10 * j + 1, 99] * (j if j != missing else 5)
    with caplog.at_level(logging.WARNING):
        model = NgramLM(NgramConfig(100, 2)).fit(np.array(text), 99)
    (record,) = caplog.records
    assert "order" in record.getMessage() and "[2]" in record.getMessage()
    np.testing.assert_array_equal(model.discounts[1], [0, *FALLBACK])
    rows = np.exp(model.log_probs(np.array(text)))
    assert rows.min() > 0
    np.testing.assert_allclose(rows.sum(1), 1, rtol=0, atol=1e-12)
    NgramLM.from_arrays(model.config, model.arrays())
    assert len(caplog.records) == 1  # loading does not repeat it


@pytest.mark.parametrize("modified", [True, False])
def test_estimated_discounts_lie_between_0_and_j(modified: bool) -> None:
    """For any n1..n4, odd ones too: by the formula with fractions, or none where it gives no number in (0, j]."""
    rng, refused = np.random.default_rng(23), 0
    for _ in range(2000):
        n = [int(x) for x in rng.integers(0, [6, 5, 9, 9])] if rng.random() < 0.5 else rng.integers(1, 400, 4).tolist()
        found = estimate_discounts(np.repeat([1, 2, 3, 4], n), modified)
        n1, n2, n3, n4 = map(Fraction, n)
        possible = n1 > 0 and n2 > 0 and (not modified or (n3 > 0 and n4 > 0))
        if possible:
            y = n1 / (n1 + 2 * n2)
            exact = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3) if modified else (y, y, y)
            possible = min(exact) > 0
        if not possible:
            assert found is None
            refused += 1
            continue
        assert found is not None and found == pytest.approx([float(d) for d in exact], abs=1e-12)
        assert all(0 < d <= j for j, d in enumerate(found, start=1))
    assert 200 < refused < 1800


def test_tuning_takes_what_predicts_the_last_tenth_best() -> None:
    train = text_of_pairs()
    for smoothing in ("kneser-ney", "interpolated-kneser-ney", "add-k"):
        tuned = tune_ngram(NgramConfig(V, 7, smoothing, k=0.3), train, EOT, orders=(1, 2, 3, 4), scales=(0.5, 1.3))
        counted, held_out = split_last_tenth(train, EOT)

        def loss(config: NgramConfig, counted: np.ndarray = counted, held_out: np.ndarray = held_out) -> float:
            return -NgramLM(config).fit(counted, EOT).token_log_probs(held_out)[held_out != EOT].mean()

        plain = {order: loss(NgramConfig(V, order, smoothing, k=0.3)) for order in (1, 2, 3, 4)}
        assert tuned.order == min(plain, key=lambda order: plain[order]) == 2
        assert (tuned.smoothing, tuned.k) == (smoothing, 0.3)
        if smoothing == "add-k":
            assert tuned.discounts == ()
        else:
            assert loss(tuned) <= plain[2]
            own = NgramLM(NgramConfig(V, 2, smoothing)).fit(counted, EOT).discounts[:, 1:]
            for scale in (0.5, 1.0, 1.3):
                scaled = np.minimum(own * scale, [1, 2, 3])
                assert loss(tuned) <= loss(NgramConfig(V, 2, smoothing, discounts=tuple(map(tuple, scaled)))) + 1e-12


def test_split_prefers_the_beginning_of_a_document() -> None:
    ids = np.full(200, 3)
    assert [len(part) for part in split_last_tenth(ids, EOT)] == [180, 20]
    ids[[0, 100, 173, 187]] = EOT
    assert [len(part) for part in split_last_tenth(ids, EOT)] in ([173, 27], [187, 13])
    ids[182] = EOT
    assert [len(part) for part in split_last_tenth(ids, EOT)] == [182, 18]
    with pytest.raises(ValueError, match="19 tokens"):
        split_last_tenth(ids[:19], EOT)
