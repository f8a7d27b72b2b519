"""The log-linear mixture: powers of products that sum to one, and the powers are the best ones."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.evaluation.evaluate import token_log_probs
from minilm.evaluation.ladder import model_rung, n_parameters
from minilm.evaluation.mix import mix, mix_log_linear, rows_of
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.log_linear import LEAST, LogLinear, LogLinearConfig, fit_powers
from minilm.models.mixture import Mixture
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import CharTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

V, CONTEXT, EOT = 11, 8, 10


def text(n: int, seed: int) -> np.ndarray:
    """Three documents in which a token is often the double of the one before it."""
    rng = np.random.default_rng(seed)
    ids = [EOT, 3]
    while len(ids) < n:
        ids.append((ids[-1] * 2 + 1) % EOT if rng.random() < 0.6 else int(rng.integers(EOT)))
    ids[n // 4] = ids[n // 2] = EOT
    return np.array(ids)


def parts(smoothing: str = "kneser-ney") -> tuple[GPT, CountedLM]:
    generator = torch.Generator().manual_seed(1)
    neural = GPT(GPTConfig(V, CONTEXT, d_model=12, n_layers=1, n_heads=2)).double().eval()
    with torch.no_grad():
        for weight in neural.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return neural, CountedLM(NgramLM(NgramConfig(V, 3, smoothing)).fit(text(250, 2), EOT))


@pytest.fixture(scope="module")
def pair() -> LogLinear:
    return LogLinear(*parts(), (0.7, 0.45))


def expected(pair: LogLinear, ids: torch.Tensor) -> np.ndarray:
    """By the formula, with probabilities and a sum over all tokens."""
    a, b = pair.config.powers
    with torch.no_grad():
        neural = torch.softmax(pair.neural(ids), -1).numpy()
    counted = np.stack([np.exp(pair.counted.model.log_probs(row)) for row in ids.numpy()])
    product = neural**a * counted**b
    return product / product.sum(-1, keepdims=True)


def test_it_multiplies_powers_and_sums_to_one(pair: LogLinear) -> None:
    ids = torch.randint(0, V, (3, CONTEXT), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        log_probs = pair(ids)
    assert log_probs.shape == (3, CONTEXT, V)
    np.testing.assert_allclose(log_probs.exp().numpy(), expected(pair, ids), rtol=0, atol=1e-13)
    np.testing.assert_allclose(log_probs.exp().sum(-1).numpy(), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("powers", "which"), [((1.0, 0.0), 0), ((0.0, 1.0), 1)])
def test_one_alone(pair: LogLinear, powers: tuple[float, float], which: int) -> None:
    ids = torch.randint(0, V, (2, CONTEXT), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        alone = pair.both(ids)[which]
        torch.testing.assert_close(LogLinear(pair.neural, pair.counted, powers)(ids), alone, atol=1e-12, rtol=0)


def test_impossible_for_one_is_unlikely_for_both() -> None:
    """Maximum likelihood rules tokens out; the mixture stays finite, and order among them is the other model's."""
    neural, counted = parts("maximum-likelihood")
    ids = torch.from_numpy(text(60, 5)[None, :CONTEXT])
    with torch.no_grad():
        log_probs = LogLinear(neural, counted, (1.0, 1.0))(ids)[0]
        ruled_out = torch.isneginf(counted(ids)[0])
        wanted = neural(ids)[0].log_softmax(-1)
    assert ruled_out.any(1).all() and torch.isfinite(log_probs).all()
    assert log_probs[ruled_out].max() < LEAST / 2
    for t in range(CONTEXT):
        out = ruled_out[t]
        assert log_probs[t, out].argsort().tolist() == wanted[t, out].argsort().tolist()


def test_cached_steps_equal_the_whole(pair: LogLinear) -> None:
    ids = torch.randint(0, V, (2, CONTEXT), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        whole = pair(ids)
        for split in range(1, CONTEXT):
            cache = pair.new_cache(2)
            rows = [pair(ids[:, :split], cache=cache)]
            rows += [pair(ids[:, t, None], cache=cache) for t in range(split, CONTEXT)]
            torch.testing.assert_close(torch.cat(rows, 1), whole, atol=1e-12, rtol=0)
        cache.rollback(3)
        torch.testing.assert_close(pair(ids[:, -3:], cache=cache), whole[:, -3:], atol=1e-12, rtol=0)


def test_it_comes_back_from_config_and_arrays(pair: LogLinear) -> None:
    config = LogLinearConfig(**json.loads(json.dumps(asdict(pair.config))))
    arrays = {name: np.asarray(array).copy() for name, array in pair.arrays().items()}
    back = LogLinear.from_arrays(config, arrays).double()
    ids = torch.randint(0, V, (2, 5), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(back(ids), pair(ids), atol=1e-6, rtol=0)  # weights are built in float32
    assert back.config == pair.config and back.config.powers == (0.7, 0.45)
    assert (back.config.vocab_size, back.config.context_length) == (V, CONTEXT)


def test_evaluation_scores_it_in_windows(pair: LogLinear) -> None:
    """Of the first document, which is longer than a window: the first window, then each half a window more."""
    ids = text(200, 8)
    found = token_log_probs(pair, ids, EOT)
    rows = np.log(expected(pair, torch.from_numpy(ids[None, :CONTEXT])))[0]
    np.testing.assert_allclose(found[1 : CONTEXT + 1], rows[np.arange(CONTEXT), ids[1 : CONTEXT + 1]], atol=1e-12)
    half = CONTEXT // 2
    rows = np.log(expected(pair, torch.from_numpy(ids[None, half : half + CONTEXT])))[0]
    new = np.arange(CONTEXT + 1, CONTEXT + half + 1)
    np.testing.assert_allclose(found[new], rows[new - half - 1, ids[new]], atol=1e-12)


def likelihood(neural: np.ndarray, counted: np.ndarray, targets: np.ndarray, a: float, b: float) -> float:
    product = np.exp(neural) ** a * np.exp(counted) ** b
    return float(np.log(product[np.arange(len(targets)), targets] / product.sum(1)).mean())


@pytest.mark.parametrize("truth", [(0.8, 0.5), (0.1, 1.4), (2.5, 0.3)])
def test_fitted_powers_are_the_best(truth: tuple[float, float]) -> None:
    """Targets drawn from the product with known powers: no step on a fine grid around the fit is better, and the fit is near."""
    rng = np.random.default_rng(9)
    n, v = 3001, 7
    neural, counted = (np.log(rng.dirichlet(np.full(v, 0.8), n)) for _ in range(2))
    p = np.exp(truth[0] * np.maximum(neural, LEAST) + truth[1] * np.maximum(counted, LEAST))
    p /= p.sum(1, keepdims=True)
    targets = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    a, b = fit_powers(neural, counted, targets)
    assert (a, b) == pytest.approx(truth, abs=0.15)
    best = likelihood(neural, counted, targets, a, b)
    for da in (-1e-3, 0, 1e-3):
        for db in (-1e-3, 0, 1e-3):
            assert likelihood(neural, counted, targets, a + da, b + db) <= best + 1e-12


def test_impossible_targets_can_be_fitted() -> None:
    rng = np.random.default_rng(14)
    neural, counted = (np.log(rng.dirichlet(np.ones(5), 300)) for _ in range(2))
    targets = rng.integers(0, 5, 300)
    counted[np.arange(0, 300, 3), targets[::3]] = -math.inf
    a, b = fit_powers(neural, counted, targets)
    assert math.isfinite(a) and -0.2 < b < 0.2  # wrong one time in three, and it cannot be more wrong


def test_fitted_powers_where_newton_would_jump_too_far() -> None:
    """Very sure models that are wrong one time in four: the first full steps overshoot."""
    n = 400
    targets = np.arange(n) % 5
    said = np.where(np.arange(n) % 4 == 0, (targets + 1) % 5, targets)
    neural = np.full((n, 5), -30.0)
    neural[np.arange(n), said] = 0.0
    counted = np.full((n, 5), math.log(1 / 5))
    a, b = fit_powers(neural, counted, targets)
    p = math.exp(30 * a) / (math.exp(30 * a) + 4)
    assert p == pytest.approx(0.75, abs=1e-3)
    assert math.isfinite(b)


def test_mix_log_linear_fits_on_text_that_was_held_out() -> None:
    neural, ngram = parts()
    learned, held_out = text(250, 2), text(400, 11)
    found = mix_log_linear(neural, ngram, learned, held_out, EOT)
    assert found.neural is neural and found.counted is ngram
    best = token_log_probs(found, held_out, EOT).mean()
    for da, db in ((-0.02, 0), (0.02, 0), (0, -0.02), (0, 0.02)):
        a, b = found.config.powers
        other = LogLinear(neural, ngram, (a + da, b + db))
        assert token_log_probs(other, held_out, EOT).mean() < best
    assert best > max(token_log_probs(model, held_out, EOT).mean() for model in (neural, ngram))
    assert 0 < mix(neural, ngram, learned, held_out, EOT).config.weight < 1


@pytest.mark.parametrize("join", [mix, mix_log_linear])
def test_a_twin_stands_in_for_what_has_counted_the_held_out_text(join) -> None:
    """An n-gram that has counted the text of the fit is not believed more for that."""
    neural, _ = parts()
    learned, held_out = text(250, 2), text(400, 13)
    config = NgramConfig(V, 3)
    all_of_it, only_learned = (
        CountedLM(NgramLM(config).fit(ids, EOT)) for ids in (np.concatenate([learned, held_out]), learned)
    )
    knows, does_not = (join(neural, ngram, learned, held_out, EOT).config for ngram in (all_of_it, only_learned))
    assert vars(knows) == vars(does_not)


def test_rows_of_are_those_of_every_token_once() -> None:
    neural, ngram = parts()
    ids, linear = text(120, 12), Mixture(neural, ngram, 0.3)
    rows = rows_of(linear, ids, EOT, 1000)
    assert rows[0].shape == rows[1].shape == ((ids != EOT).sum(), V)
    np.testing.assert_array_equal(rows[2], ids[ids != EOT])
    for model, found in zip((neural, ngram), rows, strict=False):
        scores = token_log_probs(model, ids, EOT)[ids != EOT]
        np.testing.assert_allclose(found[np.arange(len(found)), rows[2]], scores, rtol=0, atol=1e-5)
    assert 40 <= len(rows_of(linear, ids, EOT, 60)[2]) <= 70


@pytest.mark.parametrize("powers", [(math.nan, 1.0), (1.0, math.inf), (1.0,), (1.0, 1.0, 1.0)])
def test_bad_powers(pair: LogLinear, powers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="two finite numbers"):
        LogLinear(pair.neural, pair.counted, powers)  # type: ignore[arg-type]


def test_bad_rows() -> None:
    rows = np.zeros((4, 3))
    for bad in ((rows, rows[:3], np.zeros(4, int)), (rows, rows, np.zeros(3, int)), (rows[:0], rows[:0], rows[:0, 0])):
        with pytest.raises(ValueError, match="rows"):
            fit_powers(*bad)


def test_a_checkpoint_keeps_it_and_the_ladder_knows_it(pair: LogLinear, tmp_path) -> None:
    tokenizer = CharTokenizer("abcdefghij")
    save_checkpoint(tmp_path / "run", pair, tokenizer)
    loaded = load_checkpoint(tmp_path / "run").model
    ids = torch.from_numpy(text(2 * CONTEXT, 4).reshape(2, CONTEXT))
    assert isinstance(loaded, LogLinear) and loaded.config.powers == (0.7, 0.45)
    assert torch.allclose(loaded.double()(ids), pair(ids), atol=1e-6)
    validation = encode_corpus(["abcabj", "iab"], tokenizer)
    rung = model_rung("both", loaded, validation, tokenizer, 1.0)
    assert rung.parameters == n_parameters(pair.neural) + n_parameters(pair.counted) and "both" in rung.sentence
