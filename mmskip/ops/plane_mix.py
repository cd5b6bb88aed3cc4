"""Weighted sums of planes: one sparse matrix over channels and frames.

Rebuilding the channels and frames of VA-RED^2 that were not computed is
linear and treats every position alike, so each (channel, frame) plane of the
output is a sum of a few computed planes. As one sparse sum it reads and
writes every plane once, where the same in steps, one per option and axis,
took as long as the convolution.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class PlanePattern(NamedTuple):
    """Which planes of a sample are summed; K terms, those of a sum in a row.

    Attributes:
        sources: (K,) computed plane of each term.
        starts: (P_out,) first term of each sum.
        order: (K,) terms in the order of their sources.
        targets: (K,) sum that each of ``order`` belongs to.
        source_starts: (P_in,) first of ``order`` of each computed plane.
    """

    sources: Tensor
    starts: Tensor
    order: Tensor
    targets: Tensor
    source_starts: Tensor

    @classmethod
    def of(
        cls, sources: Tensor, targets: Tensor, planes: tuple[int, int]
    ) -> 'PlanePattern':
        """From the terms, in the order of their targets.

        Args:
            sources: (K,).
            targets: (K,), ascending.
            planes: P_in and P_out; every output has a term.
        """
        order = sources.argsort(stable=True)
        return cls(
            sources,
            _starts(targets, planes[1]),
            order,
            targets[order],
            _starts(sources[order], planes[0]),
        )


def mix_planes(y: Tensor, values: Tensor, pattern: PlanePattern) -> Tensor:
    """Sum planes.

    Args:
        y: (N, P_in, L), contiguous.
        values: (N, K) factors of the terms.
        pattern: The terms.

    Returns:
        (N, P_out, L).
    """
    if torch.is_grad_enabled() and (y.requires_grad or values.requires_grad):
        return _MixPlanes.apply(y, values, *pattern)
    return _sum_planes(y, values, pattern.sources, pattern.starts)


class _MixPlanes(Function):
    """With a backward of its own: that of the operator sorts and scatters."""

    @staticmethod
    def forward(ctx, y: Tensor, values: Tensor, *pattern: Tensor) -> Tensor:
        ctx.save_for_backward(y, values, *pattern)
        terms = PlanePattern(*pattern)
        return _sum_planes(y, values, terms.sources, terms.starts)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, values, *pattern = ctx.saved_tensors
        terms = PlanePattern(*pattern)
        grad = grad.contiguous()
        of_y = of_values = None
        if ctx.needs_input_grad[0]:
            transposed = values.index_select(1, terms.order)
            of_y = _sum_planes(
                grad, transposed, terms.targets, terms.source_starts
            )
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                values = values.detach().requires_grad_()
                again = _sum_planes(y, values, terms.sources, terms.starts)
            (of_values,) = torch.autograd.grad(again, values, grad)
        return of_y, of_values, *[None] * len(pattern)


def _sum_planes(
    y: Tensor, values: Tensor, sources: Tensor, starts: Tensor
) -> Tensor:
    samples, planes, _ = y.shape
    sample = torch.arange(samples, device=y.device)[:, None]
    summed = F.embedding_bag(
        (sources + sample * planes).flatten(),
        y.flatten(0, 1),
        (starts + sample * len(sources)).flatten(),
        mode='sum',
        per_sample_weights=values.flatten(),
    )
    return summed.unflatten(0, (samples, len(starts)))


def _starts(ascending: Tensor, size: int) -> Tensor:
    values = torch.arange(size, device=ascending.device)
    return torch.searchsorted(ascending, values)
