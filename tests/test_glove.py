"""GloVe: gradients three ways, training beside torch's AdaGrad and L-BFGS, what is saved, and what is refused."""

import dataclasses
import doctest
from pathlib import Path

import numpy as np
import pytest
import torch

from minilm.classical import glove, glove_config
from minilm.classical.bag_of_ngrams import SparseCounts
from minilm.classical.cooccurrence import cooccurrences
from minilm.classical.glove import GloVe, VectorsFailed, adagrad, slopes, sum_by_row, train_glove, weight
from minilm.classical.glove_config import GloveConfig
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

SMALL = GloveConfig(vocab_size=7, dimensions=3, window=4, x_max=6.0, epochs=3, batch_size=5, learning_rate=0.1)


def counts(V: int = 7, n: int = 120, seed: int = 0) -> SparseCounts:
    rng = np.random.default_rng(seed)
    ids = rng.choice(V, size=n, p=rng.dirichlet(np.full(V, 0.7)))
    return cooccurrences([ids[:50], ids[50:]], V, window=4)


def fresh(config: GloveConfig = SMALL, seed: int = 1) -> GloVe:
    return GloVe(config, [f"w{i}" for i in range(config.vocab_size)], np.random.default_rng(seed))


class Reference:
    """The objective of the paper in torch, of tables as ours: the last column is the bias."""

    def __init__(self, model: GloVe, X: SparseCounts) -> None:
        config = model.config
        self.w, self.c = (torch.tensor(t, requires_grad=True) for t in (model.word_table, model.context_table))
        self.i, self.j, x = torch.tensor(X.rows), torch.tensor(X.columns), torch.tensor(X.values)
        self.log_x, self.f = x.log(), torch.where(x < config.x_max, (x / config.x_max) ** config.alpha, 1.0)

    def loss(self, batch: np.ndarray | slice = slice(None)) -> torch.Tensor:
        w, c = self.w[self.i[batch]], self.c[self.j[batch]]
        scores = (w[:, :-1] * c[:, :-1]).sum(1) + w[:, -1] + c[:, -1]
        return 0.5 * (self.f[batch] * (scores - self.log_x[batch]) ** 2).sum()


def test_the_weight() -> None:
    x = np.array([1e-3, 0.5, 1, 99, 100, 101, 1e9])
    assert weight(x, 100, 0.75) == pytest.approx([min(1, (v / 100) ** 0.75) for v in x], rel=1e-14)
    assert weight(x, 100, 0.0).tolist() == [1] * 7


# ---- gradients three ways


def pairs(N: int, D: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    w, c = rng.normal(size=(2, N, D))
    b, d, log_x = rng.normal(size=(3, N))
    return w, c, b, d, log_x, rng.random(N)


@pytest.mark.parametrize(("N", "D"), [(1, 4), (5, 3), (11, 2)])
def test_slopes_are_those_of_autograd_and_of_differences(N: int, D: int) -> None:
    """PITFALLS row 100: the sign of log X among others."""
    w, c, b, d, log_x, f = pairs(N, D)
    objective, dw, dc, db = slopes(w, c, b, d, log_x, f)
    at = [torch.tensor(a, requires_grad=True) for a in (w, c, b, d)]
    scores = (at[0] * at[1]).sum(1) + at[2] + at[3]
    loss = 0.5 * (torch.tensor(f) * (scores - torch.tensor(log_x)) ** 2).sum()
    loss.backward()
    assert objective == pytest.approx(loss.item(), rel=1e-13)
    for ours, theirs in zip((dw, dc, db, db), at, strict=True):
        assert theirs.grad is not None
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-12)
    for which, gradient in ((0, dw), (1, dc), (2, db), (3, db)):
        arguments = [w, c, b, d]
        direction = np.random.default_rng(9).normal(size=arguments[which].shape)
        ahead, behind = (
            slopes(*(a + s * direction if k == which else a for k, a in enumerate(arguments)), log_x, f)[0]
            for s in (1e-5, -1e-5)
        )
        assert (ahead - behind) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-7, abs=1e-9)


def test_gradients_of_a_word_that_comes_again_are_added() -> None:
    """PITFALLS row 24: against np.add.at, which adds one by one."""
    rng = np.random.default_rng(4)
    rows, gradients = rng.integers(0, 6, size=40) * 3, rng.normal(size=(40, 5))
    expected = np.zeros((18, 5))
    np.add.at(expected, rows, gradients)
    found, sums = sum_by_row(rows, gradients)
    assert found.tolist() == sorted(set(rows.tolist()))
    np.testing.assert_allclose(sums, expected[found], atol=1e-13)


def test_adagrad_gives_rows_that_come_again_one_step() -> None:
    table, squares = np.arange(8.0).reshape(4, 2), np.full((4, 2), 9.0)
    rows, gradients = np.array([2, 0, 2]), np.array([[1.0, 0.0], [-4.0, 12.0], [3.0, 0.0]])
    touched, new, grown = adagrad(table, squares, rows, gradients, learning_rate=0.5)
    assert touched.tolist() == [0, 2] and grown.tolist() == [[25, 153], [25, 9]]
    np.testing.assert_allclose(new, [[0.4, 1 - 0.5 * 12 / 153**0.5], [3.6, 5]], rtol=0, atol=1e-10)
    assert table.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]] and (squares == 9).all()


# ---- training beside references


def test_objective_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    model, X = fresh().fit(counts(), np.random.default_rng(2)), counts()
    expected = Reference(model, X).loss().item()
    assert model.objective(X) == pytest.approx(expected, rel=1e-13)
    monkeypatch.setattr(glove, "AT_ONCE", 4)
    assert model.objective(X) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_training_is_torch_adagrad_on_the_same_batches(batch_size: int) -> None:
    config, X = dataclasses.replace(SMALL, batch_size=batch_size, epochs=4), counts()
    model = fresh(config)
    reference = Reference(model, X)
    optimizer = torch.optim.Adagrad([reference.w, reference.c], lr=config.learning_rate, eps=1e-10)
    order_of, means = np.random.default_rng(3), []
    for _ in range(config.epochs):
        order, total = order_of.permutation(len(X.values)), 0.0
        for start in range(0, len(order), batch_size):
            optimizer.zero_grad()
            loss = reference.loss(order[start : start + batch_size])
            loss.backward()
            optimizer.step()
            total += loss.item()
        means.append(total / len(order))
    seen: list[tuple[int, float]] = []
    model.fit(X, np.random.default_rng(3), lambda epoch, mean: seen.append((epoch, mean)))
    np.testing.assert_allclose(model.word_table, reference.w.detach().numpy(), atol=1e-10)
    np.testing.assert_allclose(model.context_table, reference.c.detach().numpy(), atol=1e-10)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert [mean for _, mean in seen] == pytest.approx(means, rel=1e-10)


@pytest.mark.parametrize(("V", "D"), [(6, 1), (7, 2)])
def test_the_whole_as_one_batch_comes_to_the_minimum_of_lbfgs(V: int, D: int) -> None:
    """One or two numbers a word are too few for so many words, so the minimum is above 0: both find the same one."""
    config = dataclasses.replace(
        SMALL, vocab_size=V, dimensions=D, batch_size=10_000, epochs=3000, learning_rate=1.0, x_max=30.0
    )
    X = cooccurrences([np.random.default_rng(0).integers(0, V, size=10 * V)], V, window=4)
    model = fresh(config)
    reference = Reference(model, X)
    search = torch.optim.LBFGS(
        [reference.w, reference.c],
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = reference.loss()
        loss.backward()
        return loss

    search.step(closure)
    least, start = reference.loss().item(), model.objective(X)
    model.fit(X, np.random.default_rng(0))
    assert start > 5 * least > 0.1
    assert model.objective(X) == pytest.approx(least, rel=1e-8)


def test_fifty_epochs_at_four_times_the_rate_are_finite_and_fall() -> None:
    """PITFALLS row 100: NaN after some epochs."""
    defaults = GloveConfig()
    config = dataclasses.replace(
        defaults, vocab_size=40, dimensions=8, epochs=50, learning_rate=4 * defaults.learning_rate, batch_size=64
    )
    X, seen = counts(40, 3000), []
    model = fresh(config).fit(X, np.random.default_rng(0), lambda _, mean: seen.append(mean))
    assert len(seen) == 50 and np.isfinite(seen).all() and np.isfinite(model.vectors.matrix).all()
    assert seen[-1] < seen[9] < seen[0]


def test_the_seed_decides() -> None:
    X = counts()
    one, same, other = (fresh(seed=s).fit(X, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.word_table, same.word_table)
    np.testing.assert_array_equal(one.context_table, same.context_table)
    assert not np.allclose(one.word_table, other.word_table)


def test_the_order_of_pairs_is_drawn_anew_for_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[list[int]] = []
    step = GloVe._step

    def spy(self: GloVe, i: np.ndarray, j: np.ndarray, *rest: np.ndarray) -> float:
        orders.append((i * 7 + j).tolist())
        return step(self, i, j, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GloVe, "_step", spy)
    X = counts()
    fresh(dataclasses.replace(SMALL, batch_size=10_000, epochs=2)).fit(X, np.random.default_rng(0))
    first, second = orders
    assert first != second and sorted(first) == sorted(second) == (X.rows * 7 + X.columns).tolist()


def test_a_fresh_model() -> None:
    table = fresh(dataclasses.replace(SMALL, vocab_size=500, dimensions=20)).word_table
    assert (table[:, -1] == 0).all()
    assert 0.024 < np.abs(table[:, :-1]).max() <= 0.025 and abs(table[:, :-1].mean()) < 0.001
    model = fresh()
    assert not np.array_equal(model.word_table, model.context_table)  # else they would stay the same for ever
    assert model.n_parameters == 2 * 7 * 4


def test_the_vector_of_a_word_is_the_sum_of_its_two() -> None:
    model = fresh().fit(counts(), np.random.default_rng(0))
    vectors = model.vectors
    assert vectors.words == model.words and vectors.matrix.shape == (7, 3)
    np.testing.assert_array_equal(vectors.matrix[2], model.word_table[2, :3] + model.context_table[2, :3])


# ---- from texts


def test_from_texts_to_vectors() -> None:
    texts = ["the cat saw the dog", "the dog saw a cat, and the cat ran", "once"] * 3
    config = GloveConfig(vocab_size=4, dimensions=2, min_count=4, window=3, epochs=2, batch_size=4)
    model = train_glove(texts, config, np.random.default_rng(1))
    assert model.words == ("the", "cat", "dog", "saw")  # the most frequent ones, equals in sorted order
    assert model.config == config
    few = train_glove(texts, dataclasses.replace(config, vocab_size=100), np.random.default_rng(1))
    assert few.config.vocab_size == len(few.words) == 4
    np.testing.assert_array_equal(few.word_table, model.word_table)
    by_sign = train_glove(["abab", "ba"], dataclasses.replace(config, min_count=1), np.random.default_rng(1), cut=list)
    assert by_sign.words == ("a", "b")


def test_texts_are_read_twice() -> None:
    with pytest.raises(ValueError, match="give a list, not an iterator"):
        train_glove(iter(["a b"]), SMALL, np.random.default_rng(0))


# ---- saving


def test_a_checkpoint_gives_back_the_same(tmp_path: Path) -> None:
    names = ["the", "naïve", "дом", "a b", "'s", "%20x", "7"]
    model = GloVe(SMALL, names, np.random.default_rng(0)).fit(counts(), np.random.default_rng(0))
    save_checkpoint(tmp_path, model, ByteTokenizer(), state={"data": "x"})
    loaded = load_checkpoint(tmp_path).model
    assert (type(loaded), loaded.kind, loaded.config, loaded.words) == (GloVe, "glove", SMALL, tuple(names))
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(loaded.arrays()[name], array)
        assert loaded.arrays()[name].dtype == array.dtype
    again = loaded.fit(counts(), np.random.default_rng(4)), model.fit(counts(), np.random.default_rng(4))
    np.testing.assert_array_equal(again[0].word_table, again[1].word_table)  # it can be trained on


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word_table": np.zeros((7, 3))}, r"word_table has shape \(7, 3\), the config needs \(7, 4\)"),
        ({"context_table": np.zeros((6, 4))}, "context_table has shape"),
        ({"words": np.frombuffer(b"a\nb", dtype=np.uint8)}, "2 words, 2 different ones, for vocab_size 7"),
        ({"words": np.frombuffer(b"a\nb\nc\nd\ne\nf\na", dtype=np.uint8)}, "7 words, 6 different ones"),
        ({"words": np.frombuffer(b"a\nb\nc\nd\ne\nf\n", dtype=np.uint8)}, "a word is empty"),
        ({"bias": np.zeros(7)}, "are not those of word vectors"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GloVe.from_arrays(SMALL, {**fresh().arrays(), **changes})


# ---- what is refused


def test_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"the counts are \(5, 5\), there are 7 words"):
        fresh().fit(counts(5), np.random.default_rng(0))
    with pytest.raises(ValueError, match="no two words meet"):
        fresh().fit(cooccurrences([], 7, 2), np.random.default_rng(0))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_only_pairs_that_occur(value: float) -> None:
    """PITFALLS row 100: log 0."""
    X = counts()
    values = X.values.copy()
    values[3] = value
    for use in (lambda m, Y: m.fit(Y, np.random.default_rng(0)), GloVe.objective):
        with pytest.raises(ValueError, match="a count that is not above 0, which has no logarithm"):
            use(fresh(), SparseCounts(X.starts, X.columns, values, 7))


def test_numbers_that_run_away() -> None:
    model = fresh()
    model.word_table[:] = 1e200
    model.context_table[:] = 1e200
    with pytest.raises(VectorsFailed, match=r"epoch 1: the objective is .*choose a lower learning_rate") as failed:
        model.fit(counts(), np.random.default_rng(0))
    assert failed.value.exit_code == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 0}, "dimensions is 0: it must be at least 1"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"x_max": float("nan")}, "x_max is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GloveConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [glove, glove_config])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
