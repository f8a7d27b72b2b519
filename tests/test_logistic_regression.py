"""Logistic regression: the loss and its slopes against torch, the minimum against torch's L-BFGS and closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from minilm.classical import logistic_regression
from minilm.classical.bag_of_ngrams import BagOfNgrams
from minilm.classical.classifier import cross_validated_nats, one_hot
from minilm.classical.logistic_regression import (
    LogisticRegression,
    Objective,
    conjugate_gradients,
    newton,
    tune_strength,
)


def collection(n: int = 30, classes: int = 3) -> tuple[list[str], list[str]]:
    """n texts of 0 to 12 words; each class likes some of the words."""
    rng = np.random.default_rng(n + classes)
    labels = [f"class {i % classes}" for i in range(n - 1)] + ["class 0"]  # of unequal sizes
    likes = rng.dirichlet(np.full(9, 0.7), classes)
    texts = [" ".join(rng.choice(list("abcdefghi"), size=i % 13, p=likes[i % classes])) for i in range(n)]
    return texts, labels


def dense(texts: list[str], bag: BagOfNgrams) -> tuple[torch.Tensor, list[tuple[str, ...]]]:
    vocabulary = bag.vocabulary(texts)
    rows = [[sum(g == ngram for g in bag.ngrams(text)) for ngram in vocabulary] for text in texts]
    return torch.tensor(rows, dtype=torch.float64), list(vocabulary)


def loss_by_definition(X: torch.Tensor, y: torch.Tensor, theta: torch.Tensor, strength: float) -> torch.Tensor:
    scores = X @ theta[:-1] + theta[-1]
    nats = torch.logsumexp(scores, 1) - scores[torch.arange(len(y)), y]
    return nats.mean() + strength / 2 * theta[:-1].square().sum()


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_value_gradient_and_hessian_are_those_of_autograd(classes: int) -> None:
    texts, labels = collection(17, classes)
    bag, strength = BagOfNgrams(longest=2), 0.07
    X, ngrams = dense(texts, bag)
    _, Y = one_hot(texts, labels)
    y = torch.tensor(Y.argmax(axis=1))
    rng = np.random.default_rng(5)
    theta, v = rng.normal(size=(2, len(ngrams) + 1, classes))
    ours = Objective(bag.counts(texts, bag.vocabulary(texts)), Y, strength)
    at = torch.tensor(theta, requires_grad=True)
    value = loss_by_definition(X, y, at, strength)
    (gradient,) = torch.autograd.grad(value, at, create_graph=True)
    (curved,) = torch.autograd.grad((gradient * torch.tensor(v)).sum(), at)
    assert math.isclose(ours.value(theta), value.item(), rel_tol=1e-13)
    np.testing.assert_allclose(ours.gradient(theta), gradient.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(ours.hessian_times(theta)(v), curved.numpy(), atol=1e-12)
    numeric = (ours.value(theta + 1e-5 * v) - ours.value(theta - 1e-5 * v)) / 2e-5
    assert math.isclose(numeric, float((ours.gradient(theta) * v).sum()), rel_tol=1e-7)


@pytest.mark.parametrize(("classes", "strength"), [(2, 1.0), (2, 0.01), (3, 0.1), (3, 0.003), (4, 0.03)])
def test_the_minimum_is_the_one_that_lbfgs_finds(classes: int, strength: float) -> None:
    texts, labels = collection(30, classes)
    model = LogisticRegression(BagOfNgrams(longest=2, min_count=2), strength).fit(texts, labels)
    X, ngrams = dense(texts, model.bag)
    y = torch.tensor([model.labels.index(label) for label in labels])
    theta = torch.zeros(len(ngrams) + 1, classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [theta], max_iter=3000, tolerance_grad=1e-11, tolerance_change=0, history_size=50, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = loss_by_definition(X, y, theta, strength)
        loss.backward()
        return loss

    search.step(closure)
    assert ngrams == list(model.vocabulary)
    np.testing.assert_allclose(model.weights, theta[:-1].detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(model.bias, theta[-1].detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(model.weights.sum(axis=1), 0, atol=1e-8)  # what the file says of the minimum


@pytest.mark.parametrize("strength", [10.0, 0.1, 1e-4, 1e-7])
def test_two_texts_in_closed_form(strength: float) -> None:
    """Texts "a" and "b" of two classes: by symmetry all weights are +-w, with 2 * strength * w = 1 - sigmoid(2w)."""
    model = LogisticRegression(strength=strength).fit(["a", "b"], ["x", "y"])
    low, high = 0.0, 20.0
    for _ in range(200):
        w = (low + high) / 2
        low, high = (w, high) if 2 * strength * w < 1 / (1 + math.exp(2 * w)) else (low, w)
    np.testing.assert_allclose(model.weights, [[w, -w], [-w, w]], rtol=1e-3 if strength < 1e-6 else 1e-5)
    np.testing.assert_allclose(model.bias, 0, atol=1e-9)


def test_the_bias_goes_free() -> None:
    """Texts without any difference: all the penalty in the world leaves the shares of the classes."""
    model = LogisticRegression(strength=1e6).fit(["a"] * 7, ["x"] * 2 + ["y"] * 4 + ["z"])
    np.testing.assert_allclose(model.predict_proba(["a", "b"]), [[2 / 7, 4 / 7, 1 / 7]] * 2, atol=1e-8)


def test_it_ends_at_a_small_gradient_and_always_at_the_same() -> None:
    texts, labels = collection(40, 3)
    texts = [text * 40 for text in texts]  # long texts: scores in the hundreds on the way
    model = LogisticRegression(strength=1e-4).fit(texts, labels)
    X = model.bag.counts(texts, model.vocabulary)
    gradient = Objective(X, one_hot(texts, labels)[1], 1e-4).gradient(np.vstack([model.weights, model.bias]))
    assert np.linalg.norm(gradient) <= 1e-9
    again = LogisticRegression(strength=1e-4).fit(texts, labels)
    np.testing.assert_array_equal(again.weights, model.weights)
    np.testing.assert_array_equal(again.bias, model.bias)


def test_a_search_that_does_not_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "MOST_STEPS", 2)
    with pytest.raises(ValueError, match=r"no minimum after 2 steps, the gradient is .* choose a greater strength"):
        LogisticRegression(strength=1e-3).fit(*collection())


@pytest.mark.parametrize("strength", [0.0, -0.1, math.inf, math.nan])
def test_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength is .*: it must be a number above 0"):
        LogisticRegression(strength=strength)


def test_conjugate_gradients_solve() -> None:
    rng = np.random.default_rng(2)
    half = rng.normal(size=(6, 6))
    A, target = half @ half.T + np.eye(6), rng.normal(size=(3, 2))
    x = conjugate_gradients(lambda v: (A @ v.ravel()).reshape(3, 2), target, 1e-12)
    np.testing.assert_allclose(x.ravel(), np.linalg.solve(A, target.ravel()), atol=1e-10)
    rough = conjugate_gradients(lambda v: (A @ v.ravel()).reshape(3, 2), target, 0.3)
    assert 1e-6 < np.linalg.norm(A @ rough.ravel() - target.ravel()) <= 0.3  # no better than asked for


class Valley:
    """The sum of sqrt(1 + x^2): from beyond 1, whole steps of Newton's method (to -x^3) lead ever farther away."""

    def value(self, x: np.ndarray) -> float:
        return float(np.sqrt(1 + x * x).sum())

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(1 + x * x)

    def hessian_times(self, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda v: v / (1 + x * x) ** 1.5


def test_a_step_that_climbs_is_halved() -> None:
    np.testing.assert_allclose(newton(Valley(), np.array([[2.0], [-3.0]])), 0, atol=1e-8)


def test_pairs_show_what_single_words_hide() -> None:
    """Pitfall of bags: in these texts no word tells anything, only the pairs do."""
    texts = ["not good but fine", "not fine but good", "good but not fine", "fine but not good"] * 2
    labels = ["fine" if "not good" in text else "good" for text in texts]
    alone = LogisticRegression(strength=0.01).fit(texts, labels)
    np.testing.assert_allclose(alone.predict_proba(texts), 0.5, atol=1e-8)
    pairs = LogisticRegression(BagOfNgrams(longest=2), strength=0.01).fit(texts, labels)
    assert pairs.predict(texts) == labels
    assert [name for name, _ in pairs.heaviest("fine", 1)] == ["not good"]
    assert [name for name, _ in pairs.heaviest("good", 1)] == ["not fine"]
    weights = dict(pairs.heaviest("fine", 99))
    np.testing.assert_allclose(weights["not good"], pairs.weights[pairs.vocabulary[("not", "good")], 0], atol=1e-8)


def test_the_strength_is_the_best_of_the_folds() -> None:
    texts, labels = collection(40, 2)
    bag, strengths = BagOfNgrams(min_count=2), (30.0, 1.0, 0.1, 0.001, 1e-5)
    nats = [cross_validated_nats(lambda s=s: LogisticRegression(bag, s), texts, labels, 4) for s in strengths]
    best = tune_strength(texts, labels, bag, strengths, folds=4)
    assert best == strengths[int(np.argmin(nats))]
    assert best not in (strengths[0], strengths[-1])  # neither end: both kinds of error are felt


def test_tuning_asks_each_strength_with_its_own_bag_and_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = collection(12, 2)
    bag, asked = BagOfNgrams(longest=3), []

    def nats(make: Callable[[], LogisticRegression], *data: object) -> float:
        asked.append((make().bag, make().strength, *data))
        return abs(make().strength - 0.3)

    monkeypatch.setattr(logistic_regression, "cross_validated_nats", nats)
    assert tune_strength(texts, labels, bag, (1.0, 0.3, 0.1), folds=3) == 0.3
    assert asked == [(bag, strength, texts, labels, 3) for strength in (1.0, 0.3, 0.1)]
