"""Kernels as products of two smaller ones."""

import pytest
import torch

from mmskip.compression import factorize, full_rank, recompose, singular_values

# Shape, split and the full rank: the smaller side of the matrix.
KERNELS = [
    ((6, 4, 3, 3), 1, 12),
    ((6, 4, 3, 3), 2, 6),
    ((2, 4, 5, 3), 1, 6),
    ((6, 4, 1, 3), 1, 4),
    ((6, 4, 1, 1), 2, 4),
    ((5, 2, 3, 1, 1), 3, 5),
]


@pytest.mark.parametrize(('shape', 'split', 'rank'), KERNELS)
def test_the_full_rank_gives_the_kernel_back(shape, split, rank):
    weight = torch.randn(shape, dtype=torch.float64)
    assert full_rank(weight.shape, split) == rank

    first, second = factorize(weight, split, rank)

    ones = [1] * len(shape[2:])
    assert first.shape == (rank, shape[1], *shape[2:][:split], *ones[split:])
    assert second.shape == (shape[0], rank, *ones[:split], *shape[2:][split:])
    torch.testing.assert_close(recompose(first, second), weight)


@pytest.mark.parametrize(('shape', 'split', 'rank'), KERNELS)
def test_what_a_rank_loses_is_the_energy_of_the_other_values(
    shape, split, rank
):
    weight = torch.randn(shape, dtype=torch.float64)
    values = singular_values(weight, split)
    assert len(values) == rank

    for kept in range(1, rank + 1):
        error = recompose(*factorize(weight, split, kept)) - weight
        lost = values[kept:].square().sum()
        torch.testing.assert_close(error.square().sum(), lost)


def test_a_separable_kernel_has_spatial_rank_one():
    weight = torch.randn(1, 1, 5, 1) * torch.randn(1, 1, 1, 3)

    first, second = factorize(weight, 1, 1)

    torch.testing.assert_close(recompose(first, second), weight)


def test_factors_have_the_dtype_of_the_kernel():
    weight = torch.randn(4, 3, 3, 3).half()

    first, second = factorize(weight, 1, 2)

    assert first.dtype == second.dtype == torch.float16
    assert first.is_contiguous()
    assert second.is_contiguous()


@pytest.mark.parametrize('rank', [0, 7])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match='rank from 1 to 6'):
        factorize(torch.randn(6, 4, 3, 3), 2, rank)
