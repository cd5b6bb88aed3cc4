"""The options of a dynamic convolution: which there are, and their terms."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .gate import OptionWeights


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


Options = tuple[int, ...]


class Usage(NamedTuple):
    """Options with a non-zero weight, per axis; (0,) if it is not dynamic.

    The first is the largest, which is computed.
    """

    time: Options
    channels: Options


def used_options(weights: OptionWeights, samples: int) -> list[Usage]:
    """The options with a non-zero weight of each sample."""
    axes = [axis for axis in weights if axis is not None]
    # One copy from the device.
    rows = torch.cat([axis > 0 for axis in axes], 1).tolist()
    split = 0 if weights.time is None else weights.time.shape[1]
    usages = []
    for row in rows:
        parts = row[:split], row[split:]
        usages.append(
            Usage(
                *(
                    tuple(i for i, w in enumerate(p) if w) or (0,)
                    for p in parts
                )
            )
        )
    return usages


def union(usages: list[Usage]) -> Usage:
    """The options that any of the samples uses."""
    return Usage(
        *(
            tuple(sorted({option for used in axis for option in used}))
            for axis in zip(*usages, strict=True)
        )
    )


def refuse_options(
    conv: nn.Module, time_options: int, channel_options: int
) -> str | None:
    """Why a convolution cannot have this many options, None if it can."""
    if time_options < 2 and channel_options < 2:
        return 'no axis with at least two options'
    if time_options > 1 and conv.weight.dim() < 5:
        return 'a temporal axis on a convolution of images'
    sizes = option_sizes(conv.out_channels, channel_options)
    if len(set(sizes)) < len(sizes):
        return (
            f'{conv.out_channels} output channels, too few for '
            f'{channel_options} options that differ'
        )
    if conv.groups > 1 and any(
        size * conv.groups % conv.out_channels for size in sizes
    ):
        return (
            f'{conv.groups} groups, which {channel_options} channel options '
            'would cut in parts'
        )
    return None


Pairs = tuple[tuple[int, int], ...]


class OptionTerms(NamedTuple):
    """Every term of the sum over channels with every one over frames.

    Attributes:
        pattern: The planes; K terms.
        channel: (K,) term of the sum over channels in each.
        time: (K,) the same over frames, in (C, terms) flattened.
        channel_slots: For each used option, the terms that it adds to, one
            per channel.
        time_slots: The same on the temporal axis, one per factor that is
            not 0.
        time_picks: Where these factors lie in (T, computed frames)
            flattened.
        counts: Terms of the sum over channels, and over frames.
    """

    pattern: PlanePattern
    channel: Tensor
    time: Tensor
    channel_slots: tuple[Tensor, ...]
    time_slots: tuple[Tensor, ...]
    time_picks: tuple[Tensor, ...]
    counts: tuple[int, int]


def option_sizes(size: int, options: int) -> tuple[int, ...]:
    """Channels or frames that each option computes, full one first.

    Rounded up, so that any size is possible.
    """
    return tuple(-(-size // 2**index) for index in range(options))


@lru_cache(maxsize=128)
@torch.inference_mode(False)  # what is kept may serve a training next
def option_terms(
    channels: int,
    channel_options: tuple[int, ...],
    frames: int,
    time_options: tuple[int, ...],
    taps: int,
    frames_first: bool,
    device: torch.device,
) -> OptionTerms:
    """The terms of a layer.

    Args:
        channels: C.
        channel_options: Indices of those that are used, ascending; what is
            computed is that of the first.
        frames: T.
        time_options: The same on the temporal axis.
        taps: Computed frames that one is rebuilt from in a step.
        frames_first: Whether computed planes lie frame by frame, and not
            channel by channel. The summed ones do not.
        device: Where the indices are used.
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
    return OptionTerms(
        PlanePattern(*(part.to(device) for part in pattern)),
        channel.flatten()[order].to(device),
        time.flatten()[order].to(device),
        tuple(part.to(device) for part in _slots(by_channels, of_channels)),
        tuple(part.to(device) for part in _slots(by_time, of_time)),
        tuple(part.to(device) for part in picks),
        (len(of_channels), len(of_time)),
    )


def frame_factors(kernels: Sequence[Tensor], like: Tensor, frames: int):
    """What each computed frame gives to each frame (Eq. 3.1).

    Args:
        kernels: ``Phi^t`` of the steps up, the last one first, (C, taps);
            one per halving.
        like: Gives dtype and device.
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


def _between(frames: Tensor, kernel: Tensor) -> Tensor:
    """The frame behind each of (C, M, ...).

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
    """Of each option, in the order of the channels."""
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
    """Of each option, computed frames counted among those of the first."""
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


class CheapKernels(NamedTuple):
    """The linear maps that rebuild what was not computed.

    Attributes:
        channels: ``Phi^c``, one per step up: (M,) factors of one computed
            channel each; M is the number of channels that the step adds.
        time: ``Phi^t``, one per step up: (C, 1) factors of the computed
            frame before, or (C, 3) of its predecessor, itself and the next
            computed frame.
    """

    channels: tuple[Tensor, ...] = ()
    time: tuple[Tensor, ...] = ()


class OptionTables(NamedTuple):
    """What the options add to each term, before they are weighted.

    Attributes:
        terms: K terms.
        channels: (used options, K), None if the axis is not dynamic.
        time: The same on the temporal axis.
    """

    terms: OptionTerms
    channels: Tensor | None
    time: Tensor | None


class TableKey(NamedTuple):
    """What the tables of a layer depend on, its cheap maps apart.

    Attributes:
        full: C and T.
        channels: Indices of the used options; None: not dynamic.
        time: The same on the temporal axis.
        frames_first: Whether the computed planes lie frame by frame.
    """

    full: tuple[int, int]
    channels: tuple[int, ...] | None
    time: tuple[int, ...] | None
    frames_first: bool


def option_tables(
    key: TableKey, kernels: CheapKernels, like: Tensor
) -> OptionTables:
    """Make the tables of a layer.

    Args:
        key: The sizes and the used options.
        kernels: The cheap maps.
        like: Gives the device.
    """
    terms = option_terms(
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
        channels = _channel_table(key.channels, kernels.channels, terms)
    if key.time is not None:
        time = _time_table(key.time, kernels.time, key.full, terms)
    return OptionTables(terms, channels, time)


def taps_of(kernels: CheapKernels) -> int:
    """Computed frames that one is rebuilt from in a step."""
    return kernels.time[0].shape[1] if kernels.time else 1


def _channel_table(
    options: tuple[int, ...], kernels: Sequence[Tensor], terms: OptionTerms
) -> Tensor:
    rows = []
    for option, slots in zip(options, terms.channel_slots, strict=True):
        rebuilt = sum(len(kernel) for kernel in kernels[:option])
        factors = kernels[0].new_ones(len(slots) - rebuilt)
        for kernel in reversed(kernels[:option]):
            factors = torch.cat([factors, factors[: len(kernel)] * kernel])
        row = factors.new_zeros(terms.counts[0])
        rows.append(row.index_add(0, slots, factors))
    return torch.stack(rows).index_select(1, terms.channel)


def _time_table(
    options: tuple[int, ...],
    kernels: Sequence[Tensor],
    full: tuple[int, int],
    terms: OptionTerms,
) -> Tensor:
    channels, frames = full
    rows = []
    parts = zip(options, terms.time_slots, terms.time_picks, strict=True)
    for option, slots, picks in parts:
        factors = frame_factors(kernels[:option], kernels[0], frames)
        factors = factors.flatten(1).index_select(1, picks)
        row = factors.new_zeros(channels, terms.counts[1])
        row = row.index_add(1, slots, factors.expand(channels, -1))
        rows.append(row.flatten())
    return torch.stack(rows).index_select(1, terms.time)
