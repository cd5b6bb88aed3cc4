"""Which rank each layer gets, under a budget of MACs."""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmskip.layers import dense_macs, macs_per_rank, split_of
from mmskip.ops import singular_values
from mmskip.runtime import InputError

from .svd import refuse_svd


class Spectrum(NamedTuple):
    """What is to be known of a layer to choose its rank.

    Attributes:
        name: Of the layer.
        values: Singular values of its kernel, largest first (R_max,).
        dense: Its MACs as it is.
        per_rank: MACs per rank once it is factorised.
    """

    name: str
    values: Tensor
    dense: int
    per_rank: int


def choose_ranks(layers: Sequence[Spectrum], budget: int) -> dict[str, int]:
    """Choose ranks greedily, by the energy that they keep per MAC.

    Maximises the product over the layers of the share of energy (of squared
    singular values) that is kept, as section 2.4 of Zhang et al. (TPAMI 2015)
    does. All layers begin with rank 1. Of all steps that the budget allows,
    one more rank of a layer or the whole layer as it was, the one is taken
    that adds the most to the logarithm of the product per MAC, until none is
    left that adds something. Equal steps are taken in the order of the layers.

    Deviations: Zhang et al. go down from the full ranks and take the energy
    of responses to data, not that of kernels.

    Args:
        layers: The layers that may be factorised.
        budget: MACs that all of them together may have.

    Returns:
        Rank by name, of the layers that are to be factorised.

    Raises:
        InputError: Not even rank 1 everywhere is within the budget.
    """
    steps = [_Steps(layer) for layer in layers]
    left = budget - sum(step.cost(0) for step in steps)
    if left < 0:
        raise InputError(
            f'expected a budget of at least {budget - left:,} MACs for these '
            f'layers (rank 1 everywhere), got {budget:,}'
        )
    chosen = [0] * len(steps)
    queue = [
        entry
        for index, step in enumerate(steps)
        for entry in step.from_(0, index)
    ]
    heapq.heapify(queue)
    while queue:
        _, index, start, end = heapq.heappop(queue)
        if start != chosen[index]:
            continue  # the layer has moved on
        extra = steps[index].cost(end) - steps[index].cost(start)
        if extra > left:
            continue  # nor will it fit later
        left -= extra
        chosen[index] = end
        for entry in steps[index].from_(end, index):
            heapq.heappush(queue, entry)
    return {
        layer.name: level + 1
        for layer, step, level in zip(layers, steps, chosen, strict=True)
        if level < step.last
    }


class _Steps:
    """The levels of a layer: rank 1, 2, ..., and last the plain layer."""

    def __init__(self, layer: Spectrum) -> None:
        self.layer = layer
        # Only ranks that cost less than the plain layer are worth having.
        self.last = min((layer.dense - 1) // layer.per_rank, len(layer.values))
        energy = layer.values.double().square().cumsum(0)
        if not energy[-1] > 0:
            energy = energy + 1.0  # nothing to lose
        share = (energy / energy[-1]).tolist()
        self.gains = [log(value) for value in share[: self.last]] + [0.0]

    def cost(self, level: int) -> int:
        """MACs at a level."""
        if level == self.last:
            return self.layer.dense
        return self.layer.per_rank * (level + 1)

    def from_(
        self, level: int, index: int
    ) -> list[tuple[float, int, int, int]]:
        """Steps up from a level that add something, the best the least."""
        ends = [
            end
            for end in sorted({min(level + 1, self.last), self.last})
            if self.gains[end] > self.gains[level]
        ]
        return [
            (
                (self.gains[level] - self.gains[end])
                / (self.cost(end) - self.cost(level)),
                index,
                level,
                end,
            )
            for end in ends
        ]


def measure_spectra(
    model: nn.Module, forward: Callable[[], Any], method: str
) -> list[Spectrum]:
    """Singular values and MACs of all layers that can be factorised.

    Args:
        model: A plain model.
        forward: Runs it once, on an input of the size that is to be cheap.
        method: ``spatial`` or ``weight``.

    Returns:
        Of each layer that ran, in the order of the model.
    """
    dense: Counter[nn.Module] = Counter()
    per_rank: Counter[nn.Module] = Counter()

    def note(conv: nn.Module, inputs: tuple, output: Tensor) -> None:
        dense[conv] += dense_macs(conv, output.shape)
        per_rank[conv] += macs_per_rank(
            conv, method, inputs[0].shape, output.shape
        )

    names = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd) and refuse_svd(module, method) is None
    }
    handles = [conv.register_forward_hook(note) for conv in names]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return [
        Spectrum(
            name,
            singular_values(conv.weight, split_of(conv, method)),
            dense[conv],
            per_rank[conv],
        )
        for conv, name in names.items()
        if dense[conv]
    ]
