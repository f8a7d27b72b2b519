"""The nearest matrix of a rank against its error by eigenvalues and against all others tried; the merged matrix against loops."""

import doctest
import itertools

import pytest
import torch
from torch import Tensor

from minilm.finetuning import lora as lora_module
from minilm.finetuning import low_rank
from minilm.finetuning.lora import merged_weight
from minilm.finetuning.low_rank import closest_of_rank


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n_out", "n_in"), [(5, 8), (9, 4), (6, 6), (1, 3)])
def test_its_error_is_the_sum_of_the_eigenvalues_left_out(n_out: int, n_in: int) -> None:
    """The squares that are lost are the smallest eigenvalues of M M^T: nothing of rank R loses less (Eckart and Young)."""
    M = drawn(n_out, n_in)
    lost = torch.linalg.eigvalsh(M @ M.mT).flip(0)  # the largest first
    for rank in range(1, min(n_out, n_in) + 1):
        near = closest_of_rank(M, rank)
        assert near.shape == M.shape and torch.linalg.matrix_rank(near) == rank
        assert ((M - near) ** 2).sum().item() == pytest.approx(lost[rank:].sum().item(), abs=1e-10)


def test_no_other_matrix_of_the_rank_is_nearer() -> None:
    """Tried are its own neighbours, and the best B for many a random A (a least-squares fit)."""
    M, rank = drawn(7, 5), 2
    least = (M - closest_of_rank(M, rank)).norm()
    for seed in range(50):
        A = drawn(rank, 5, seed=seed)
        B = torch.linalg.lstsq(A.mT, M.mT).solution.mT
        assert (M - B @ A).norm() > least
        near = closest_of_rank(closest_of_rank(M, rank) + 0.01 * drawn(7, 5, seed=seed), rank)
        assert (M - near).norm() > least


def test_a_rank_beyond_the_whole_changes_nothing_and_a_matrix_of_the_rank_stays() -> None:
    M, thin = drawn(4, 6), drawn(4, 2) @ drawn(2, 6, seed=1)
    assert torch.allclose(closest_of_rank(M, 4), M, rtol=0, atol=1e-12)
    assert torch.equal(closest_of_rank(M, 9), closest_of_rank(M, 4))
    assert torch.allclose(closest_of_rank(thin, 2), thin, rtol=0, atol=1e-12)
    assert closest_of_rank(M.float(), 3).dtype == torch.float32


def test_the_merged_matrix_in_loops() -> None:
    W, A, B, scale = drawn(4, 5), drawn(3, 5, seed=1), drawn(4, 3, seed=2), 2.5
    kept = W.clone()
    merged = merged_weight(W, A, B, scale)
    for o, i in itertools.product(range(4), range(5)):
        expected = W[o, i].item() + scale * sum(B[o, r].item() * A[r, i].item() for r in range(3))
        assert merged[o, i].item() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(W, kept) and merged.data_ptr() != W.data_ptr()


@pytest.mark.parametrize("name", ["closest_of_rank", "lora", "merged_weight"])
def test_examples_in_docstrings(name: str) -> None:
    module = low_rank if name == "closest_of_rank" else lora_module
    [example] = doctest.DocTestFinder(recurse=False).find(getattr(module, name), name, globs={**vars(module)})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
