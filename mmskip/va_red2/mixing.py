"""Cheap maps of a dynamic convolution, and its sum over options (Eq. 3.5).

VA-RED^2: B. Pan, "Dynamic Neural Network for Efficient Video Recognition",
M.S. thesis, MIT, 2023, section 3.1. Symbols: C channels, T frames, S options
on an axis, K terms, P planes. A plane is one frame of one channel. Cheap
linear maps rebuild what is not computed; the thesis gives no form for them.

Rebuilding the channels and frames that were not computed is linear and treats
every position alike, so each plane of the output is a sum of a few computed
planes. As one sparse sum it reads and writes every plane once; the same in
steps, one per option and axis, took as long as the convolution.

A term is an (output, computed) pair of channels or frames; options that make
an output of the same computed one share it. So there are

- indices: which planes are summed, and which terms an option adds to. They
  depend on sizes and used options only, and are kept.
- factors: what each used option multiplies its terms by. They depend on the
  cheap maps, too, and are made anew when these learn.
"""

import itertools
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmskip.native import address_of, fingerprint

TIME_MAPS = ('scale', 'neighbours')
TAPS = 3
KEPT = 64  # factors of a layer that are kept, one per size and used options
Pairs = tuple[tuple[int, int], ...]


class PlanePattern(NamedTuple):
    """Tells which planes of a sample are summed.

    There are K terms, those of a sum one after the other.

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
        """Make the pattern of terms that are ordered by their sums.

        Args:
            sources: (K,) computed plane of each term.
            targets: (K,) sum that each term belongs to, ascending.
            planes: P_in and P_out; every sum has a term.
        """
        order = sources.argsort(stable=True)
        return cls(
            sources,
            _starts(targets, planes[1]),
            order,
            targets[order],
            _starts(sources[order], planes[0]),
        )


class MixIndices(NamedTuple):
    """Tells which planes a sum has, and where their factors come from.

    Every term of the sum over channels meets every one of that over frames,
    which gives K terms.

    Attributes:
        pattern: Planes of the K terms.
        channel: (K,) term of the sum over channels in each.
        time: (K,) the same over frames, in (C, terms) flattened.
        channel_slots: For each used option, the terms that it adds to, one
            per channel.
        time_slots: The same on the temporal axis, one per factor that is
            not 0.
        time_picks: Positions of these factors in (T, computed frames)
            flattened.
        counts: Number of terms of the sum over channels, and over frames.
    """

    pattern: PlanePattern
    channel: Tensor
    time: Tensor
    channel_slots: tuple[Tensor, ...]
    time_slots: tuple[Tensor, ...]
    time_picks: tuple[Tensor, ...]
    counts: tuple[int, int]


class CheapKernels(NamedTuple):
    """Holds the linear maps that rebuild the rest from what was computed.

    Attributes:
        channels: ``Phi^c``, one per step up: (M,) factors of one computed
            channel each; M is the number of channels that the step adds.
        time: ``Phi^t``, one per step up: (C, 1) factors of the computed
            frame before, or (C, 3) of its predecessor, itself and the next
            computed frame.
    """

    channels: tuple[Tensor, ...] = ()
    time: tuple[Tensor, ...] = ()


class MixKey(NamedTuple):
    """Identifies the sums of a layer, whatever its cheap maps are.

    Attributes:
        full: C and T.
        channels: Indices of the used options on the channel axis; None if it
            is not dynamic.
        time: The same on the temporal axis.
        frames_first: True if the computed planes lie frame by frame, and not
            channel by channel.
    """

    full: tuple[int, int]
    channels: tuple[int, ...] | None
    time: tuple[int, ...] | None
    frames_first: bool


class MixFactors(NamedTuple):
    """Holds the factors of every sum, option by option, before weighting.

    Attributes:
        indices: Planes of the K terms.
        channels: Factor of each term in each used option on the channel
            axis, (used options, K); None if the axis is not dynamic.
        time: The same on the temporal axis.
    """

    indices: MixIndices
    channels: Tensor | None
    time: Tensor | None


def mix_factors(
    key: MixKey, kernels: CheapKernels, like: Tensor
) -> MixFactors:
    """Make the factors of a layer's sums.

    Args:
        key: Sizes and used options.
        kernels: Cheap maps of the layer.
        like: Tensor on the device where the factors are used.
    """
    indices = mix_indices(
        key.full[0],
        key.channels or (0,),
        key.full[1],
        key.time or (0,),
        taps_of(kernels),
        key.frames_first,
        like.device,
    )
    channels = time = None
    if key.channels is not None:
        channels = _channel_factors(key.channels, kernels.channels, indices)
    if key.time is not None:
        time = _time_factors(key.time, kernels.time, key.full, indices)
    return MixFactors(indices, channels, time)


def option_sizes(size: int, options: int) -> tuple[int, ...]:
    """Count the channels or frames that each option computes, full one first.

    Halves are rounded up, so that any size is possible.
    """
    return tuple(-(-size // 2**index) for index in range(options))


@lru_cache(maxsize=128)
@torch.inference_mode(False)  # what is kept may serve a training next
def mix_indices(
    channels: int,
    channel_options: tuple[int, ...],
    frames: int,
    time_options: tuple[int, ...],
    taps: int,
    frames_first: bool,
    device: torch.device,
) -> MixIndices:
    """Find the planes of a layer's sums; the result is kept.

    Args:
        channels: C.
        channel_options: Indices of the used options, ascending; the first
            one is computed.
        frames: T.
        time_options: The same on the temporal axis.
        taps: Number of computed frames that one is rebuilt from in a step.
        frames_first: True if the computed planes lie frame by frame, and not
            channel by channel, as the summed ones do.
        device: Device where the indices are used.
    """
    by_channels = _channel_pairs(channels, channel_options)
    by_time = _time_pairs(frames, time_options, taps)
    of_channels, of_time = _union(by_channels), _union(by_time)
    c, t = torch.tensor(of_channels), torch.tensor(of_time)
    computed = (
        option_sizes(channels, channel_options[0] + 1)[-1],
        option_sizes(frames, time_options[0] + 1)[-1],
    )
    targets = c[:, :1] * frames + t[:, 0]
    if frames_first:
        sources = t[:, 1] * computed[0] + c[:, 1:]
    else:
        sources = c[:, 1:] * computed[1] + t[:, 1]
    order = targets.flatten().argsort(stable=True)
    pattern = PlanePattern.of(
        sources.flatten()[order],
        targets.flatten()[order],
        (computed[0] * computed[1], channels * frames),
    )
    channel = torch.arange(len(c))[:, None].expand_as(targets)
    time = c[:, :1] * len(t) + torch.arange(len(t))
    steps = [2 ** (option - time_options[0]) for option in time_options]
    widths = [option_sizes(frames, option + 1)[-1] for option in time_options]
    picks = (
        torch.tensor([t * width + s // step for t, s in pairs])
        for pairs, step, width in zip(by_time, steps, widths, strict=True)
    )
    return MixIndices(
        PlanePattern(*(index.to(device) for index in pattern)),
        channel.flatten()[order].to(device),
        time.flatten()[order].to(device),
        tuple(i.to(device) for i in _slots(by_channels, of_channels)),
        tuple(i.to(device) for i in _slots(by_time, of_time)),
        tuple(i.to(device) for i in picks),
        (len(of_channels), len(of_time)),
    )


def frame_factors(
    kernels: Sequence[Tensor], like: Tensor, frames: int
) -> Tensor:
    """Make the matrix that rebuilds all frames from computed ones (Eq. 3.1).

    Args:
        kernels: ``Phi^t`` of the steps up, the last one first, (C, taps);
            one per halving.
        like: Tensor of the dtype and on the device of the result.
        frames: T.

    Returns:
        (C, T, ceil(T / R)), or (1, T, T) without kernels.
    """
    sizes = option_sizes(frames, len(kernels) + 1)
    eye = torch.eye(sizes[-1], dtype=like.dtype, device=like.device)
    total = eye[None]
    for size, kernel in zip(sizes[-2::-1], reversed(kernels), strict=True):
        rebuilt = _between(total, kernel)
        both = torch.stack([total.expand_as(rebuilt), rebuilt], 2)
        total = both.flatten(1, 2)[:, :size]
    return total


def taps_of(kernels: CheapKernels) -> int:
    """Count the computed frames that one is rebuilt from in a step."""
    return kernels.time[0].shape[1] if kernels.time else 1


def mix_planes(y: Tensor, values: Tensor, pattern: PlanePattern) -> Tensor:
    """Sum planes, each times a factor.

    Args:
        y: Computed planes (N, P_in, L), contiguous.
        values: (N, K) factors of the terms.
        pattern: Planes of the terms.

    Returns:
        (N, P_out, L).
    """
    if torch.is_grad_enabled() and (y.requires_grad or values.requires_grad):
        return _MixPlanes.apply(y, values, *pattern)
    return _sum_planes(y, values, pattern.sources, pattern.starts)


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


def _channel_factors(
    options: tuple[int, ...], kernels: Sequence[Tensor], indices: MixIndices
) -> Tensor:
    rows = []
    for option, slots in zip(options, indices.channel_slots, strict=True):
        rebuilt = sum(len(kernel) for kernel in kernels[:option])
        factors = kernels[0].new_ones(len(slots) - rebuilt)
        for kernel in reversed(kernels[:option]):
            factors = torch.cat([factors, factors[: len(kernel)] * kernel])
        row = factors.new_zeros(indices.counts[0])
        rows.append(row.index_add(0, slots, factors))
    return torch.stack(rows).index_select(1, indices.channel)


def _time_factors(
    options: tuple[int, ...],
    kernels: Sequence[Tensor],
    full: tuple[int, int],
    indices: MixIndices,
) -> Tensor:
    channels, frames = full
    rows = []
    steps = zip(options, indices.time_slots, indices.time_picks, strict=True)
    for option, slots, picks in steps:
        factors = frame_factors(kernels[:option], kernels[0], frames)
        factors = factors.flatten(1).index_select(1, picks)
        row = factors.new_zeros(channels, indices.counts[1])
        row = row.index_add(1, slots, factors.expand(channels, -1))
        rows.append(row.flatten())
    return torch.stack(rows).index_select(1, indices.time)


def _between(frames: Tensor, kernel: Tensor) -> Tensor:
    """Rebuild the frame behind each of (C, M, ...).

    At the ends of the clip the neighbour that is missing is the frame
    itself.
    """
    if kernel.shape[1] == 1:
        return frames * kernel[:, :, None]
    before, here, after = kernel[:, :, None, None].unbind(1)
    previous = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    following = torch.cat([frames[:, 1:], frames[:, -1:]], 1)
    return frames * here + previous * before + following * after


def _channel_pairs(channels: int, options: Iterable[int]) -> list[Pairs]:
    """Pair channels with computed ones, option by option."""
    pairs = []
    for option in options:
        sizes = option_sizes(channels, option + 1)
        sources = list(range(sizes[-1]))
        for size in reversed(sizes[:-1]):
            sources += sources[: size - len(sources)]
        pairs.append(tuple(enumerate(sources)))
    return pairs


def _time_pairs(
    frames: int, options: tuple[int, ...], taps: int
) -> list[Pairs]:
    """Pair frames with computed ones, option by option.

    The computed frames are counted among those of the first option.
    """
    kernel, pairs = torch.ones(1, taps), []
    for option in options:
        step = 2 ** (option - options[0])
        factors = frame_factors([kernel] * option, kernel, frames)
        where = factors[0].nonzero().tolist()
        pairs.append(tuple((t, s * step) for t, s in where))
    return pairs


def _union(pairs: list[Pairs]) -> Pairs:
    return tuple(sorted({pair for some in pairs for pair in some}))


def _slots(pairs: list[Pairs], union: Pairs) -> list[Tensor]:
    place = {pair: index for index, pair in enumerate(union)}
    return [torch.tensor([place[pair] for pair in some]) for some in pairs]


def _starts(ascending: Tensor, size: int) -> Tensor:
    values = torch.arange(size, device=ascending.device)
    return torch.searchsorted(ascending, values)


class _MixPlanes(Function):
    """Sums planes with a fast backward: the operator's sorts and scatters."""

    @staticmethod
    def forward(ctx, y: Tensor, values: Tensor, *pattern: Tensor) -> Tensor:
        ctx.save_for_backward(y, values, *pattern)
        terms = PlanePattern(*pattern)
        return _sum_planes(y, values, terms.sources, terms.starts)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Sum gradients along the terms, which are sorted already."""
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
