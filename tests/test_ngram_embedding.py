"""Embeddings of n-grams: rows, sparse gradients, and the step of a table's rows, each against the slow way."""

import math

import pytest
import torch
from torch import Tensor

from minilm.layers.ngram_embedding import NgramEmbedding, RowsOf, ngram_rows
from minilm.training.optim import AdamW, clip_grad_norm
from minilm.training.rows import BETA, update_rows


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_row_depends_on_the_n_tokens_and_on_nothing_else() -> None:
    tokens = torch.randint(0, 50, (3, 7, 5), generator=torch.Generator().manual_seed(1))
    rows = ngram_rows(tokens, 1009)
    assert rows.shape == (3, 7, 4) and rows.min() >= 0 and rows.max() < 1009
    for column in range(5):
        changed = tokens.clone()
        changed[..., column] += 1
        same = ngram_rows(changed, 1009) == rows
        assert same[..., : max(0, column - 1)].all()  # shorter n-grams do not hold that token
        assert same[..., max(0, column - 1) :].float().mean() < 0.05  # longer ones do
    assert (ngram_rows(tokens.flip(-1), 1009)[..., -1] != rows[..., -1]).float().mean() > 0.9  # the order counts


@pytest.mark.parametrize("n_rows", [64, 1000, 4096, 65536])
def test_rows_are_filled_as_evenly_as_by_chance(n_rows: int) -> None:
    """All pairs and triples of 16 tokens: no more meet in a row than balls thrown at random would."""
    grid = torch.cartesian_prod(*[torch.arange(16)] * 3)
    rows = ngram_rows(grid, n_rows)[:, 1]
    used, expected = len(rows.unique()), n_rows * (1 - (1 - 1 / n_rows) ** len(rows))
    assert used == pytest.approx(expected, rel=0.08)
    pairs = ngram_rows(grid, n_rows)[:, 0].unique()
    assert len(pairs) > 0.6 * min(256, n_rows)


def test_large_tokens_do_not_overflow() -> None:
    """The same rows by Python's whole numbers, which have no end."""
    tokens = torch.tensor([[2**31 - 2, 199_999, 0, 2**31 - 2], [50_257, 50_257, 50_257, 50_257]])
    for row, numbers in zip(ngram_rows(tokens, 997).tolist(), tokens.tolist(), strict=True):
        hashed, expected = numbers[0], []
        for n, token in enumerate(numbers[1:], start=1):
            hashed = (hashed * 1_000_003 + token + n) % (2**31 - 1)
            expected.append((hashed ^ (hashed >> 15)) % 997)
        assert row == expected


def test_the_sparse_gradient_is_the_dense_one() -> None:
    table, rows = random(11, 3).requires_grad_(), torch.tensor([[4, 4, 0], [10, 4, 7]])
    upstream = random(2, 3, 3, seed=2)
    (RowsOf.apply(table, rows) * upstream).sum().backward()
    assert table.grad is not None and table.grad.is_sparse
    dense = torch.zeros(11, 3, dtype=torch.float64)
    for row, gradient in zip(rows.flatten().tolist(), upstream.reshape(-1, 3), strict=True):
        dense[row] += gradient
    torch.testing.assert_close(table.grad.to_dense(), dense, rtol=0, atol=1e-15)
    (RowsOf.apply(table, rows[:1]) * upstream[:1]).sum().backward()  # a second batch adds to it
    for row, gradient in zip(rows[0].tolist(), upstream[0], strict=True):
        dense[row] += gradient
    torch.testing.assert_close(table.grad.to_dense(), dense, rtol=0, atol=1e-15)


def test_the_module_sums_the_vectors_of_all_lengths() -> None:
    module = NgramEmbedding(101, 5, 0.0).double()
    assert not module.weight.any()  # it says nothing at first
    with torch.no_grad():
        module.weight.copy_(random(101, 5))
    tokens = torch.tensor([[3, 1, 2, 9]])
    expected = sum(module.weight[row] for row in ngram_rows(tokens, 101)[0])
    torch.testing.assert_close(module(tokens)[0], expected, rtol=0, atol=1e-15)


def test_dropout_leaves_out_whole_vectors_in_training_only() -> None:
    torch.manual_seed(7)
    module = NgramEmbedding(5, 4, dropout=0.75).double()
    with torch.no_grad():
        module.weight.copy_(torch.eye(5, 4))
    tokens = torch.randint(0, 9, (4000, 2), generator=torch.Generator().manual_seed(0))
    vectors, whole = module(tokens), module.eval()(tokens)
    kept = vectors.any(-1) & whole.any(-1)
    torch.testing.assert_close(vectors[kept], whole[kept] / 0.25, rtol=0, atol=1e-12)
    assert kept.sum().item() == pytest.approx(0.25 * whole.any(-1).sum().item(), rel=0.15)
    assert torch.equal(module(tokens), whole)


def test_the_step_of_rows_is_the_formula_row_by_row() -> None:
    table, memory, lr = random(9, 4), {}, 0.03
    expected, squares, reads = table.clone(), [0.0] * 9, [0] * 9
    for step in range(40):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, 8, (5,), generator=generator)  # row 8 is never read
        values = random(5, 4, seed=100 + step) * 10.0 ** (step % 5 - 2)
        gradient = torch.sparse_coo_tensor(rows[None], values, (9, 4), check_invariants=True)
        update_rows(table, gradient, memory, lr)
        for row in set(rows.tolist()):
            summed = values[rows == row].sum(0)
            reads[row] += 1
            squares[row] = BETA * squares[row] + (1 - BETA) * float((summed**2).mean())
            expected[row] -= lr * summed / math.sqrt(squares[row] / (1 - BETA ** reads[row]))
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-12)
    assert torch.equal(table[8], random(9, 4)[8]) and memory["reads"][8] == 0


def test_the_first_step_has_the_size_of_the_rate_and_a_zero_gradient_none() -> None:
    table = torch.zeros(3, 6)
    values = torch.stack([1e-7 * torch.randn(6), torch.zeros(6)])
    gradient = torch.sparse_coo_tensor([[1, 2]], values, (3, 6), check_invariants=True)
    update_rows(table, gradient, {}, lr=0.5)
    assert table[1].square().mean().sqrt().item() == pytest.approx(0.5, rel=1e-5)
    assert torch.equal(table[[0, 2]], torch.zeros(2, 6))


@pytest.mark.parametrize("size", [1e-12, 1e-22, 1e-24, 1e-40])
def test_row_15_gradients_whose_squares_are_0_move_nothing_far(size: float) -> None:
    table, memory = torch.zeros(3, 6), {}
    for _ in range(3):
        values = torch.full((1, 6), size)
        update_rows(table, torch.sparse_coo_tensor([[1]], values, (3, 6), check_invariants=True), memory, lr=0.5)
        assert table.abs().max() <= 0.5 * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_optimizer_steps_sparse_and_dense_side_by_side_and_its_memory_comes_back(dtype: torch.dtype) -> None:
    def run(breaks: bool) -> list[Tensor]:
        torch.manual_seed(4)
        module, other = NgramEmbedding(13, 3, 0.0).to(dtype), torch.nn.Parameter(torch.randn(3).to(dtype))
        optimizer = AdamW([module.weight, other], lr=0.01)
        for step in range(6):
            if breaks and step == 3:
                state = {name: array.clone() for name, array in optimizer.state_arrays().items()}
                optimizer = AdamW([module.weight, other], lr=0.01)
                optimizer.load_state_arrays(state)
            tokens = torch.randint(0, 40, (4, 3), generator=torch.Generator().manual_seed(step))
            ((module(tokens) + 1) * other).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert module.weight.any()
        return [module.weight.detach(), other.detach()]

    for whole, broken in zip(run(False), run(True), strict=True):
        assert torch.equal(whole, broken)


def test_memory_of_another_shape_is_refused() -> None:
    optimizer = AdamW([torch.nn.Parameter(torch.zeros(4, 3))])
    with pytest.raises(ValueError, match=r"0\.0/reads \(5, 1\) fits no parameter"):
        optimizer.load_state_arrays({"0.0/reads": torch.zeros(5, 1)})


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clipping_counts_each_row_once_summed_up(max_norm: float) -> None:
    rows, upstream = torch.tensor([2, 2, 5]), random(3, 4, seed=6)
    sparse, dense, other = (random(7, 4).requires_grad_() for _ in range(3))
    for table, read in ((sparse, RowsOf.apply(sparse, rows)), (dense, dense[rows])):
        ((read * upstream).sum() + (other * other.detach()).sum() * (table is sparse)).backward()
    reference = [dense.grad.clone(), other.grad.clone()]
    length = torch.cat([g.flatten() for g in reference]).norm()
    assert clip_grad_norm([sparse, other], max_norm) == pytest.approx(length.item(), rel=1e-12)
    factor = min(1.0, max_norm / length.item())
    for gradient, expected in zip((sparse.grad.to_dense(), other.grad), reference, strict=True):
        torch.testing.assert_close(gradient, expected * factor, rtol=0, atol=1e-12)
