"""The hidden Markov model's contests compare the same work: plain loops, or a stand-in for hmmlearn, must say what ours says."""

import importlib.util
import logging
import sys
import types

import numpy as np
import pytest

from minilm.bench import classical, classical_hmm
from minilm.classical.config import HMMConfig
from minilm.classical.hmm import HMM
from minilm.classical.hmm_train import expected_counts, maximise

SMALL = {"n_documents": 4, "length": 12, "n_states": 3, "vocab_size": 7}


def without(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else found(name, *a))


def test_plain_loops_say_the_same(monkeypatch, caplog) -> None:
    without("hmmlearn", monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = classical_hmm.contests(**SMALL)
    assert "no comparison with hmmlearn" in caplog.text
    (ours, plain), (best, plain_best) = found.values()
    firsts, moves, tokens = plain()
    for expected, loops in zip(ours()[:3], (firsts, moves, tokens), strict=True):
        np.testing.assert_allclose(expected, loops, rtol=0, atol=1e-12)
    assert best().tolist() == [state for row in plain_best() for state in row]


@pytest.mark.parametrize("wrong", ["plain_counts", "plain_viterbi"])
def test_a_peer_that_says_something_else_is_refused(wrong: str, monkeypatch) -> None:
    without("hmmlearn", monkeypatch)
    right = getattr(classical_hmm, wrong)

    def other(start, transition, emission, documents):
        if wrong == "plain_counts":
            return right(start, transition, emission, documents[:-1])
        return [1 - min(state, 1) for state in right(start, transition, emission, documents)]

    monkeypatch.setattr(classical_hmm, wrong, other)
    with pytest.raises(ValueError, match="is rounding"):
        classical_hmm.contests(**SMALL)


class CategoricalHMM:
    """hmmlearn's class, as far as the contest asks, made of our parts."""

    shift = 0.0

    def __init__(self, n_components: int, n_iter: int = 10, init_params: str = "ste", n_features: int = 0) -> None:
        self.config = HMMConfig(n_features, n_components)
        assert init_params == ""

    def model(self) -> HMM:
        return HMM(self.config, self.startprob_, self.transmat_, self.emissionprob_, self.config.vocab_size - 1)

    def fit(self, column: np.ndarray, lengths: list[int]) -> "CategoricalHMM":
        better = maximise(expected_counts(self.model(), column[:, 0]), self.model(), 0.0)
        self.startprob_, self.transmat_, self.emissionprob_ = better.start, better.transition, better.emission
        self.transmat_ = self.transmat_ + self.shift
        return self

    def score(self, column: np.ndarray, lengths: list[int]) -> float:
        return expected_counts(self.model(), column[:, 0]).log_prob

    def predict(self, column: np.ndarray, lengths: list[int]) -> np.ndarray:
        return self.model().states(column[:, 0])


def test_hmmlearn_is_asked_the_same(monkeypatch) -> None:
    module = types.SimpleNamespace(CategoricalHMM=CategoricalHMM)
    monkeypatch.setitem(sys.modules, "hmmlearn", types.SimpleNamespace(hmm=module))
    monkeypatch.setitem(sys.modules, "hmmlearn.hmm", module)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: True if name == "hmmlearn" else found(name, *a))
    pairs = list(classical_hmm.contests(**SMALL).values())
    assert len(pairs) == 4
    np.testing.assert_allclose(pairs[2][0]().emission, pairs[2][1]().emissionprob_, rtol=0, atol=1e-12)
    assert pairs[3][0]().tolist() == pairs[3][1]().tolist()
    monkeypatch.setattr(CategoricalHMM, "shift", 0.25)
    with pytest.raises(ValueError, match="hmmlearn's transitions"):
        classical_hmm.contests(**SMALL)


def test_the_topic_joins_its_parts(monkeypatch) -> None:
    assert "classical_hmm" in classical.PARTS
    for part in classical.PARTS:
        monkeypatch.setattr(f"minilm.bench.{part}.contests", lambda part=part: {part: (len, len)})
    assert list(classical.contests()) == list(classical.PARTS)
