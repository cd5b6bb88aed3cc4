"""The conversion of convolutions into two factors, and its ranks.

:class:`SVDConversion` takes a share of MACs for all layers or a rank for each;
:func:`choose_ranks` finds ranks within a budget, after section 2.4 of
X. Zhang, J. Zou, K. He, J. Sun, TPAMI 2015; :func:`check_factors` compares
the factors of a checkpoint with those of the model that is to load it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmskip.core import ConvConversion, dense_macs, refuse_unknown
from mmskip.reading import InputError
from mmskip.registry import MODELS

from .factorized_conv import (
    SVD_METHODS,
    FactorizedConv,
    factorize_conv,
    full_rank,
    macs_per_rank,
    singular_values,
    split_of,
)

#: Classes that only convolve, with a padding that no input changes.
PLAIN_CLASSES = {nn.Conv2d, nn.Conv3d}
try:
    from mmcv.cnn.bricks import Conv2d, Conv3d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    PLAIN_CLASSES |= {Conv2d, Conv3d}

_FIRST, _SECOND = '.first.weight', '.second.weight'
_WRAPPER = 'module.'
_REMEDY = (
    'use the config that was written or trained with the checkpoint (an '
    'SVDConversion of the same method and ranks), or plain weights'
)


@MODELS.register_module()
class SVDConversion(ConvConversion):
    """Compresses convolutions by a truncated SVD of their kernels.

    The methods are the baselines S-SVD and W-SVD of Skip-Convolutions
    (CVPR 2021), section 4.2; see :class:`mmskip.compression.FactorizedConv`
    for the layer that a convolution becomes. The paper searches ranks
    greedily with the toolkit AIMET, by the accuracy on data; here ``ranks``
    may come from :func:`mmskip.compression.choose_ranks`
    (``tools/compress.py``), which needs none. Compose it with another method
    by a list: ``conversions=[SVDConversion, SkipConversion]``.

    Args:
        method: ``spatial`` or ``weight``.
        macs: Share of its MACs that each layer may cost at most; it gets the
            largest such rank (for inputs whose size its stride divides).
        ranks: In place of ``macs`` the rank of each layer, by name; the
            others stay.

    Raises:
        ValueError: An option is out of range, or not one of ``macs`` and
            ``ranks`` is given.
    """

    def __init__(
        self,
        method: str = 'spatial',
        macs: float | None = None,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        if method not in SVD_METHODS:
            raise ValueError(
                f'expected method to be one of {SVD_METHODS}, got {method!r}'
            )
        if (macs is None) == (ranks is None):
            raise ValueError(
                'expected either macs (a share) or ranks (by layer), got '
                f'macs={macs!r} and ranks={ranks!r}'
            )
        if macs is not None and not 0 < macs <= 1:
            raise ValueError(f'expected macs from 0 to 1, got {macs!r}')
        for name, rank in (ranks or {}).items():
            if not isinstance(rank, int) or rank < 1:
                raise ValueError(
                    f'expected a positive int as the rank of {name}, got '
                    f'{rank!r}'
                )
        self.method = method
        self.macs = macs
        self.ranks = None if ranks is None else dict(ranks)

    @property
    def layers(self) -> Collection[str]:
        """Names of the layers that it has settings for."""
        return () if self.ranks is None else self.ranks

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays as it is, None if it can be converted."""
        reason = refuse_svd(module, self.method)
        if reason is not None:
            return reason
        if self.ranks is not None and name not in self.ranks:
            return 'no rank is given for it'
        rank = self._rank(name, module)
        if not rank:
            return f'rank 1 costs more than macs={self.macs} of it'
        most = full_rank(module.weight.shape, split_of(module, self.method))
        if rank > most:
            return f'its full rank is {most}, less than {rank}'
        return None

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; hooks and name stay."""
        factorize_conv(module, self.method, self._rank(name, module))

    def _rank(self, name: str, conv: nn.Module) -> int:
        if self.ranks is not None:
            return self.ranks[name]
        axes = len(conv.kernel_size)
        # Each output position stands for `stride` ones of the input.
        inputs = (1, conv.in_channels, *conv.stride)
        outputs = (1, conv.out_channels, *[1] * axes)
        each = macs_per_rank(conv, self.method, inputs, outputs)
        most = full_rank(conv.weight.shape, split_of(conv, self.method))
        return min(int(self.macs * conv.weight.numel() / each), most)


class Spectrum(NamedTuple):
    """Describes a layer for the choice of its rank.

    Attributes:
        name: Name of the layer.
        values: Singular values of its kernel, largest first (R_max,).
        dense: MACs of the plain layer.
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
        layers: Layers that may be factorised.
        budget: MACs that all of them together may have.

    Returns:
        Rank by name, for the layers that are to be factorised.

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


def measure_spectra(
    model: nn.Module, forward: Callable[[], Any], method: str
) -> list[Spectrum]:
    """Measure all layers that can be factorised.

    Args:
        model: A plain model.
        forward: Function that runs it once, on an input of the size that is
            to be cheap.
        method: ``spatial`` or ``weight``.

    Returns:
        One spectrum for each layer that ran, in the order of the model.
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


def refuse_svd(module: nn.Module, method: str) -> str | None:
    """Say why a layer cannot be factorised, None if it can."""
    reason = refuse_unknown(module, PLAIN_CLASSES, ', with a fixed padding')
    if reason is not None:
        return reason
    if 'weight' not in module._parameters:
        return 'its weight is computed from others'
    if module.groups > 1:
        return 'grouped: its kernel is several small matrices'
    if method == 'spatial' and module.weight.dim() != 4:
        return "not of images (method='weight' converts it)"
    return None


def check_factors(
    model: nn.Module, saved: Mapping[str, Tensor], path: str
) -> None:
    """Check that weights have plain kernels, or the model's factors.

    mmengine loads what fits, warns of the rest and goes on: with factors of
    random weights where the ranks differ.

    Args:
        model: Model that they are loaded into, wrapped or not.
        saved: Weights by name.
        path: Name of their file, for the message.

    Raises:
        InputError: Factors of another rank or method, or of layers that the
            model has whole.
    """
    saved = {name.removeprefix(_WRAPPER): v for name, v in saved.items()}
    modules = {
        name.removeprefix(_WRAPPER): module
        for name, module in model.named_modules(remove_duplicate=False)
    }
    for key, value in saved.items():
        name = key.removesuffix(_FIRST)
        if name == key or f'{name}{_SECOND}' not in saved:
            continue
        module = modules.get(name)
        if isinstance(module, FactorizedConv):
            _compare(name, module, value.shape, path)
        elif isinstance(module, _ConvNd):
            raise InputError(
                f'expected the weights of {name} in {path}, got two factors: '
                f'they are of a compressed model, this one is not; {_REMEDY}'
            )


def _compare(
    name: str, module: FactorizedConv, found: tuple[int, ...], path: str
) -> None:
    axes = len(module.kernel_size)
    split = split_of(module, module.method)
    kernel = (*module.kernel_size[:split], *[1] * (axes - split))
    shape = (module.rank, module.in_channels, *kernel)
    if tuple(found) != shape:
        raise InputError(
            f'expected the first factor of {name} of shape {shape} (rank '
            f'{module.rank}, method {module.method!r}) in {path}, got '
            f'{tuple(found)}; {_REMEDY}'
        )


class _Steps:
    """Lists the levels of a layer: rank 1, 2, ..., and the plain layer."""

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
        """Count the MACs at a level."""
        if level == self.last:
            return self.layer.dense
        return self.layer.per_rank * (level + 1)

    def from_(
        self, level: int, index: int
    ) -> list[tuple[float, int, int, int]]:
        """List the steps up that gain something, the best as the least."""
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
