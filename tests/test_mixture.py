"""The mixture: it averages probabilities, sums to one, comes back from its arrays, and its weight is the best one."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.evaluation.evaluate import token_log_probs
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.mixture import Mixture, MixtureConfig, fit_mixture_weight, mix_log_probs
from minilm.models.registry import build_model

V, CONTEXT, EOT = 13, 10, 12


def text(n: int, seed: int) -> np.ndarray:
    """Three documents of about n tokens in which a token is often followed by the next one."""
    rng = np.random.default_rng(seed)
    ids = [EOT, 3]
    while len(ids) < n:
        ids.append((ids[-1] + 1) % EOT if rng.random() < 0.7 else int(rng.integers(EOT)))
    ids[n // 3] = ids[n // 2] = EOT
    return np.array(ids)


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    generator = torch.Generator().manual_seed(6)
    neural = GPT(GPTConfig(V, CONTEXT, d_model=12, n_layers=2, n_heads=2)).double().eval()
    with torch.no_grad():
        for weight in neural.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    counted = CountedLM(NgramLM(NgramConfig(vocab_size=V, order=3)).fit(text(300, 1), EOT))
    return Mixture(neural, counted, 0.37)


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits.double(), -1)


def test_it_averages_probabilities_and_sums_to_one(mixture: Mixture) -> None:
    ids = torch.randint(0, V, (3, CONTEXT), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        log_probs = mixture(ids)
        expected = 0.37 * probabilities(mixture.neural(ids)) + 0.63 * probabilities(mixture.counted(ids))
    assert log_probs.shape == (3, CONTEXT, V)
    torch.testing.assert_close(log_probs.exp(), expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, CONTEXT).double(), atol=1e-12, rtol=0)


def test_impossible_for_one_is_possible_for_both() -> None:
    scores = mix_log_probs(np.array([-math.inf, -1.0]), np.array([-2.0, -math.inf]), 0.25)
    np.testing.assert_allclose(scores, [math.log(0.75) - 2, math.log(0.25) - 1])


def test_cached_steps_equal_the_whole_for_every_split(mixture: Mixture) -> None:
    ids = torch.randint(0, V, (2, CONTEXT), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = mixture(ids)
        for split in range(1, CONTEXT):
            cache = mixture.new_cache(2)
            parts = [
                mixture(ids[:, :split], cache=cache),
                *(mixture(ids[:, t, None], cache=cache) for t in range(split, CONTEXT)),
            ]
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=0)
            assert cache.lengths.tolist() == [CONTEXT, CONTEXT]


def test_cache_goes_back_forks_and_selects_both_ways(mixture: Mixture) -> None:
    ids = torch.randint(0, V, (3, CONTEXT), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        whole = mixture(ids)
        cache = mixture.new_cache(3, CONTEXT)
        mixture(ids[:, :7], cache=cache)
        twin = cache.fork()
        cache.rollback(torch.tensor([3, 3, 3]))
        assert cache.lengths.tolist() == [4, 4, 4] and twin.lengths.tolist() == [7, 7, 7]
        torch.testing.assert_close(mixture(ids[:, 4:], cache=cache), whole[:, 4:], atol=1e-12, rtol=0)
        twin.select(torch.tensor([2, 0]))
        rows = [2, 0]
        torch.testing.assert_close(mixture(ids[rows][:, 7:], cache=twin), whole[rows][:, 7:], atol=1e-12, rtol=0)


def test_it_comes_back_from_config_and_arrays(mixture: Mixture) -> None:
    """Through JSON, as in a checkpoint, and without sharing memory with the original."""
    config = json.loads(json.dumps(asdict(mixture.config)))
    arrays = {name: np.asarray(array).copy() for name, array in mixture.arrays().items()}
    assert {name.split(".")[0] for name in arrays} == {"neural", "counted"}
    back = build_model("mixture", config, arrays).double()
    ids = torch.randint(0, V, (2, 6), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(back(ids), mixture(ids), atol=1e-6, rtol=0)  # weights are built in float32
    assert back.config == mixture.config and back.kind == "mixture"
    assert (back.config.vocab_size, back.config.context_length) == (V, CONTEXT)
    with pytest.raises(ValueError, match=r"neural\.\* and counted\.\*"):
        build_model("mixture", config, {**arrays, "third.x": arrays["counted.end_of_text"]})


def test_token_scores_are_those_of_the_parts(mixture: Mixture) -> None:
    """By windows for the one, by full history for the other; <|endoftext|> stays at zero."""
    ids = text(90, 7)
    p1, p2 = (np.exp(token_log_probs(part, ids, EOT)) for part in (mixture.neural, mixture.counted))
    found = token_log_probs(mixture, ids, EOT)
    np.testing.assert_allclose(np.exp(found), 0.37 * p1 + 0.63 * p2, atol=1e-14)
    assert abs(found[ids == EOT]).max() < 1e-15
    inside = np.flatnonzero(ids == EOT)[1]  # the first document, which mostly fits one window, through the plain call
    n = min(inside, CONTEXT)
    with torch.no_grad():
        rows = mixture(torch.from_numpy(ids[None, :n]))[0, :-1]
    np.testing.assert_allclose(found[1:n], rows[torch.arange(n - 1), torch.from_numpy(ids[1:n])].numpy(), atol=1e-12)


def likelihood(p1: np.ndarray, p2: np.ndarray, weight: float) -> float:
    return float(np.log(weight * p1 + (1 - weight) * p2).mean())


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_fitted_weight_is_the_best(strength: float) -> None:
    """Against a grid of 2,000 weights; at the best one the mixture is at least as good as either part."""
    rng = np.random.default_rng(int(10 * strength))
    p1, p2 = np.exp(-1.1 - strength * rng.random(700) ** 2), np.exp(-0.9 - strength * rng.random(700))
    weight = fit_mixture_weight(np.log(p1), np.log(p2))
    grid = [(i + 0.5) / 2000 for i in range(2000)]
    best = max(grid, key=lambda w: likelihood(p1, p2, w))
    assert abs(weight - best) <= 1 / 2000
    assert likelihood(p1, p2, weight) >= likelihood(p1, p2, best) - 1e-12
    mixed = mix_log_probs(np.log(p1), np.log(p2), weight).mean()
    assert mixed == pytest.approx(likelihood(p1, p2, weight), abs=1e-12)
    assert mixed >= max(np.log(p1).mean(), np.log(p2).mean()) - 1e-12


def test_fitted_weight_knows_which_model_is_which() -> None:
    """p1 is right three times in four, each is certain: the weight is 3/4."""
    right, wrong = math.log(0.9), -60.0
    assert fit_mixture_weight(np.array([right] * 3 + [wrong]), np.array([wrong] * 3 + [right])) == pytest.approx(0.75)


def test_fitted_weight_stays_between_0_and_1() -> None:
    better, worse = np.full(5, -1.0), np.full(5, -1e4)
    assert 0.999 < fit_mixture_weight(better, worse) < 1
    assert 0 < fit_mixture_weight(worse, better) < 0.001
    assert 0 < fit_mixture_weight(np.array([-1.0, -math.inf]), np.array([-math.inf, -1.0])) < 1


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_bad_weights(mixture: Mixture, weight: float) -> None:
    with pytest.raises(ValueError, match="weight of a mixture"):
        Mixture(mixture.neural, mixture.counted, weight)


def test_bad_parts() -> None:
    with pytest.raises(ValueError, match="one vocabulary, got 5 and 6"):
        parts = {"kind": "gpt", "config": {"vocab_size": 5}}, {"kind": "ngram", "config": {"vocab_size": 6}}
        MixtureConfig(neural=parts[0], counted=parts[1], weight=0.5)
    for pair in ((np.zeros(2), np.zeros(3)), (np.zeros(0), np.zeros(0))):
        with pytest.raises(ValueError, match="two scores"):
            fit_mixture_weight(*pair)
