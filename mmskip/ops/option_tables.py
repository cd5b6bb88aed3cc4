"""What the options of a dynamic convolution add to each term of its sum.

VA-RED^2: B. Pan, "Dynamic Neural Network for Efficient Video Recognition",
M.S. thesis, MIT, 2023, section 3.1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .option_terms import OptionTerms, frame_factors, option_terms


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
