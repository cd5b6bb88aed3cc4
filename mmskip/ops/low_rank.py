"""Kernels of convolutions as products of two smaller ones.

A kernel (C_out, C_in, k_1, ..., k_n) is read as a matrix. Its rows are the
input channels with the first ``split`` axes of the kernel, its columns the
rest of them with the output channels. A matrix of rank R is a convolution
to R channels along the first axes, and one from there along the rest.
"""

from math import prod

import torch
from torch import Tensor


def full_rank(shape: torch.Size, split: int) -> int:
    """The rank beyond which a kernel of this shape gains nothing.

    Args:
        shape: (C_out, C_in, ...).
        split: Number of kernel axes that go into the first factor.
    """
    rows = shape[1] * prod(shape[2 : 2 + split])
    return min(rows, shape[0] * prod(shape[2 + split :]))


def singular_values(weight: Tensor, split: int) -> Tensor:
    """Of the matrix of a kernel, largest first, in double precision.

    Args:
        weight: (C_out, C_in, ...).
        split: Number of kernel axes that go into the first factor.
    """
    return torch.linalg.svdvals(_matrix(weight.detach().double(), split))


def factorize(weight: Tensor, split: int, rank: int) -> tuple[Tensor, Tensor]:
    """The best factors of a rank, by a truncated SVD.

    Both get the square root of the singular values. The decomposition is
    done in double precision.

    Args:
        weight: (C_out, C_in, ...).
        split: Number of kernel axes that go into the first factor.
        rank: R, from 1 to :func:`full_rank`.

    Returns:
        (R, C_in, ...) and (C_out, R, ...), with size 1 along the kernel axes
        of the other one, of the dtype of ``weight``.

    Raises:
        ValueError: ``rank`` is out of range.
    """
    most = full_rank(weight.shape, split)
    if not 1 <= rank <= most:
        raise ValueError(
            f'expected a rank from 1 to {most} for a kernel of shape '
            f'{tuple(weight.shape)}, got {rank}'
        )
    kernel = weight.shape[2:]
    matrix = _matrix(weight.detach().double(), split)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    first = (left[:, :rank] * root).T.reshape(
        rank, weight.shape[1], *kernel[:split], *[1] * len(kernel[split:])
    )
    second = (root[:, None] * right[:rank]).reshape(
        rank, *[1] * split, *kernel[split:], weight.shape[0]
    )
    return (
        first.to(weight.dtype).contiguous(),
        second.movedim(-1, 0).to(weight.dtype).contiguous(),
    )


def recompose(first: Tensor, second: Tensor) -> Tensor:
    """The kernel that two factors stand for.

    Args:
        first: (R, C_in, ...), of :func:`factorize`.
        second: (C_out, R, ...).

    Returns:
        (C_out, C_in, ...).
    """
    rank = len(first)
    rows = first.double().reshape(rank, -1)
    columns = second.double().movedim(0, -1).reshape(rank, -1)
    # Along each axis one of the two has size 1.
    sizes = zip(first.shape[2:], second.shape[2:], strict=True)
    shape = (first.shape[1], *(a * b for a, b in sizes), len(second))
    weight = (rows.T @ columns).reshape(shape).movedim(-1, 0)
    return weight.to(first.dtype).contiguous()


def _matrix(weight: Tensor, split: int) -> Tensor:
    rows = weight.shape[1] * prod(weight.shape[2 : 2 + split])
    return weight.movedim(0, -1).reshape(rows, -1)
