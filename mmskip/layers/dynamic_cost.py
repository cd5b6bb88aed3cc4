"""What the options that gates choose cost, for a loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmskip.ops import straight_through

from .soft_modulation_gate import OptionWeights


class DynamicCost(NamedTuple):
    """MACs of one call of a dynamic layer in training.

    Attributes:
        dense: ``C(f_l)``, MACs of one sample in the plain layer.
        ratio: ``r / R`` of Eq. 3.3 for each sample (N,), with gradients.
    """

    dense: int
    ratio: Tensor

    @classmethod
    def of(cls, dense: int, weights: OptionWeights) -> 'DynamicCost':
        """The cost of what a gate chose."""
        axes = [axis for axis in weights if axis is not None]
        ratio = size_of_largest(axes[0])
        for axis in axes[1:]:
            ratio = ratio * size_of_largest(axis)
        return cls(dense, ratio)


def size_of_largest(weights: Tensor) -> Tensor:
    """Share that the largest option with a non-zero weight computes.

    VA-RED^2, Eq. 3.6: ``r^s``, or ``1 / R^s``. It is piecewise constant in
    the weights; the thesis does not say how it is learned. Ours: the
    gradient is that of its expectation if every option were open with a
    probability equal to its weight. It pushes the large options towards
    0, and a small one only as far as no larger one is open.

    Args:
        weights: (N, S), at least one of a row above 0.

    Returns:
        (N,), 1 / 2**i.
    """
    options = weights.shape[1]
    sizes = [0.5**index for index in range(options)]
    open_ = weights > 0
    hard = weights.new_tensor(sizes)[open_.to(torch.uint8).argmax(1)]
    closed, soft = 1, sizes[-1]
    for index in range(options - 1):
        closed = closed * (1 - weights[:, index])
        soft = soft + (sizes[index] - sizes[index + 1]) * (1 - closed)
    return straight_through(hard, soft)
