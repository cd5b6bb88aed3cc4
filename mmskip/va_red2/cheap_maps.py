"""Cheap linear maps of VA-RED^2, which rebuild what is not computed.

B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S. thesis,
MIT, 2023, section 3.1. The thesis gives no form for them.
"""

import itertools

import torch
from torch import Tensor, nn

from mmskip.native import address_of, fingerprint

from .mixing import (
    CheapKernels,
    MixFactors,
    MixKey,
    mix_factors,
    option_sizes,
)

TIME_MAPS = ('scale', 'neighbours')
TAPS = 3
KEPT = 64  # factors of a layer that are kept, one per size and used options


class CheapMaps(nn.Module):
    """Rebuilds what a layer does not compute, by ``Phi^t`` and ``Phi^c``.

    They are those of Eq. 3.1 and section 3.1. The forms are ours:

    - channels: a computed channel times a number, one MAC per output.
    - time, ``neighbours`` (default): a weighted sum of the computed frame
      before, its predecessor and its successor, three MACs per output, which
      begins as the linear interpolation; ``scale``: the computed frame before
      times a number, as Eq. 3.1 has it, which begins as a copy.

    They are the cheapest that follow what they replace: motion is smooth, so
    a frame between two is near their mean, while nothing relates the
    neighbouring pixels of another channel more than the pixel itself. As none
    looks at neighbouring pixels, all of them are one sum of planes.

    A channel's number begins as the least squares fit of its filter by that
    of the computed channel: what it would be for white input.

    Args:
        conv: Convolution that they belong to.
        time_options: S_t, 0 if the axis is not dynamic.
        channel_options: S_c, the same.
        time_map: ``neighbours`` or ``scale``.
    """

    def __init__(
        self,
        conv: nn.Module,
        time_options: int,
        channel_options: int,
        time_map: str = 'neighbours',
    ) -> None:
        super().__init__()
        self.time_map = time_map
        sizes = option_sizes(conv.out_channels, channel_options)
        taps = 1 if time_map == 'scale' else TAPS
        weight = conv.weight
        self.channels = nn.ParameterList(
            nn.Parameter(weight.new_zeros(larger - smaller))
            for larger, smaller in itertools.pairwise(sizes)
        )
        self.time = nn.ParameterList(
            nn.Parameter(weight.new_zeros(conv.out_channels, taps))
            for _ in range(time_options - 1)
        )
        self._kept: dict[tuple, MixFactors] = {}
        self._kept_of: list[tuple] = []
        self.fit(weight)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Begin near the convolution.

        Args:
            weight: Its filters (C, ...).
        """
        filters = weight.flatten(1)
        for kernel in self.channels:
            source, target = self._filters(filters, kernel)
            norm = source.square().sum(1)
            fit = (source * target).sum(1) / norm
            kernel.copy_(fit.where(norm > 0, 0))
        for kernel in self.time:
            kernel.copy_(
                kernel.new_tensor([0.0, 0.5, 0.5][-kernel.shape[1] :])
            )
            if kernel.shape[1] == 1:
                kernel.fill_(1)

    @torch.no_grad()
    def follow(self, old: Tensor, new: Tensor) -> None:
        """Stay right when a factor per channel goes into the filters.

        A folded batch norm does that, also with a negative factor.

        Args:
            old: Filters (C, ...) before.
            new: Filters after.

        Raises:
            ValueError: A factor of 0 at a channel that others are rebuilt
                from.
        """
        old, new = old.flatten(1), new.flatten(1)
        norm = old.square().sum(1)
        factors = ((old * new).sum(1) / norm).where(norm > 0, 1)
        changes = [self._ratio(factors, kernel) for kernel in self.channels]
        for kernel, change in zip(self.channels, changes, strict=True):
            kernel.mul_(change)

    def kernels(self) -> CheapKernels:
        """Give the maps in the form that the operators take."""
        return CheapKernels(tuple(self.channels), tuple(self.time))

    def factors(self, key: MixKey, like: Tensor) -> MixFactors:
        """Make the factors of the weighted sums, kept without gradients.

        Args:
            key: Sizes and used options.
            like: Tensor on the device where the factors are used.
        """
        kernels = self.kernels()
        flat = [kernel for axis in kernels for kernel in axis]
        if torch.is_grad_enabled() or any(k.is_inference() for k in flat):
            return mix_factors(key, kernels, like)
        # Their values, too: what goes through .data is not counted. Values
        # on another device are not read, which would wait for it.
        state = [
            (
                address_of(k),
                k._version,
                k.dtype,
                fingerprint(k) if k.is_cpu else 0,
            )
            for k in flat
        ]
        if state != self._kept_of or len(self._kept) >= KEPT:
            self._kept_of, self._kept = state, {}
        place = (key, like.device)
        if place not in self._kept:
            self._kept[place] = mix_factors(key, kernels, like)
        return self._kept[place]

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_kept': {}, '_kept_of': []}

    def extra_repr(self) -> str:
        return f'time_map={self.time_map!r}'

    def _filters(
        self, filters: Tensor, kernel: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Split the rows that a step rebuilds from, and those it rebuilds."""
        index = next(i for i, k in enumerate(self.channels) if k is kernel)
        size = option_sizes(len(filters), index + 1)[-1]
        added = len(kernel)
        return filters[:added], filters[size - added : size]

    def _ratio(self, factors: Tensor, kernel: Tensor) -> Tensor:
        source, target = self._filters(factors, kernel)
        lost = (source == 0) & (target != 0)
        if lost.any():
            raise ValueError(
                f'{int(lost.sum())} channels are rebuilt from channels whose '
                'new filters are 0; a batch norm with a weight of 0 cannot '
                'be folded into this layer: leave it unfolded'
            )
        return (target / source).where(source != 0, 0)
