"""Which computed planes the options of a dynamic convolution are made of.

VA-RED^2: B. Pan, "Dynamic Neural Network for Efficient Video Recognition",
M.S. thesis, MIT, 2023, section 3.1. A term is an (output, computed) pair of
channels or frames; options that make an output of the same computed one
share it. All of this depends on sizes alone and is kept.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .plane_mix import PlanePattern

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
