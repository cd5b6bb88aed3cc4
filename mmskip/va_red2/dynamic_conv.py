"""Convolutions of which a part is computed and the rest rebuilt."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmskip.native import ConvGeometry, convolve, runs_native
from mmskip.native import library as native
from mmskip.native.geometry import output_size

from .options import (
    CheapKernels,
    OptionTables,
    TableKey,
    mix_planes,
    option_sizes,
    option_terms,
    taps_of,
)

CPU = torch.device('cpu')


class Mix(NamedTuple):
    """How much each option of an axis counts.

    Attributes:
        weights: (N, S), 0 for an option that is not used.
        options: Indices of those that are used by any sample, ascending. The
            first is the largest, the one that was computed.
    """

    weights: Tensor
    options: tuple[int, ...]


def mix_options(
    y: Tensor,
    full: tuple[int, int],
    time: Mix | None,
    channels: Mix | None,
    tables: Callable[[TableKey, Tensor], OptionTables],
    bias: Tensor | None = None,
) -> Tensor:
    """Weighted sum over the options of both axes (Eq. 3.5), and the bias.

    Args:
        y: What was computed, (N, C', T', H, W) without bias: channels and
            frames of the largest used options.
        full: C and T.
        time: Of the temporal axis; None: it is not dynamic.
        channels: Of the channel axis; None: it is not dynamic.
        tables: Gives the tables for a key and a tensor like them.
        bias: (C,), or None.

    Returns:
        (N, C, T, H, W).
    """
    by_frames = y.transpose(1, 2)
    frames_first = by_frames.is_contiguous()
    used = [mix and mix.options for mix in (channels, time)]
    table = tables(TableKey(full, *used, frames_first), y)
    tables_of = [(channels, table.channels), (time, table.time)]
    of_channels, of_time = (
        [] if mix is None else [_used(mix), rows] for mix, rows in tables_of
    )
    if runs_native(y):
        # One pass over what it writes, in which memory is what limits it.
        pattern = table.terms.pattern
        return native.mix_options(
            y if frames_first else y.contiguous(),
            of_time,
            of_channels,
            pattern.sources,
            pattern.starts,
            bias,
            full,
        )
    values = y.new_ones(())
    for axis in (of_channels, of_time):
        if axis:
            values = values * (axis[0] @ axis[1])
    planes = (by_frames if frames_first else y.contiguous()).flatten(1, 2)
    mixed = mix_planes(
        planes.flatten(2), values.to(y.dtype), table.terms.pattern
    )
    mixed = mixed.view(len(y), *full, *y.shape[3:])
    if bias is None:
        return mixed
    bias = bias.view(-1, 1, 1, 1)
    return mixed + bias if torch.is_grad_enabled() else mixed.add_(bias)


def _used(mix: Mix) -> Tensor:
    """The weights (N, used) of the options that are used."""
    if mix.weights.shape[1] == len(mix.options):
        return mix.weights
    return mix.weights[:, list(mix.options)]


def convolve_part(
    x: Tensor,
    weight: Tensor,
    geometry: ConvGeometry,
    channels: int,
    stride: int,
) -> Tensor:
    """The first output channels of every ``stride``-th frame, without bias.

    Args:
        x: (N, C_in, ...).
        weight: (C, C_in / groups, ...).
        geometry: Of the full convolution.
        channels: How many; whole groups if there are groups.
        stride: R; 1 for images.
    """
    if geometry.groups > 1:
        groups = geometry.groups * channels // len(weight)
        x = x[:, : groups * weight.shape[1]]
        geometry = geometry._replace(groups=groups)
    step = geometry.stride[0] * stride
    geometry = geometry._replace(stride=(step, *geometry.stride[1:]))
    return convolve(x, weight[:channels], None, geometry)


def dynamic_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    time: Mix | None,
    channels: Mix | None,
    tables: Callable[[TableKey, Tensor], OptionTables],
) -> Tensor:
    """Compute the largest used option on each axis, rebuild the rest.

    In training all options are used and one full convolution is the only
    one; in inference the samples share their largest options.

    Args:
        x: (N, C_in, T, H, W), or (N, C_in, H, W) with ``time=None``.
        weight: (C, C_in / groups, ...).
        bias: (C,), or None.
        geometry: Of the convolution.
        time: Weights of the temporal options; None: the axis is not dynamic.
        channels: The same of the channel options.
        tables: See :func:`option_tables`, for the cheap maps of the layer.

    Returns:
        (N, C, ...) of the size of the full convolution.
    """
    images = x.dim() == 4
    count, stride = len(weight), 1
    if channels is not None:
        count = option_sizes(count, channels.options[0] + 1)[-1]
    if time is not None:
        stride = 2 ** time.options[0]
    y = convolve_part(x, weight, geometry, count, stride)
    size = output_size(x.shape[2:], weight.shape[2:], geometry)
    full = (len(weight), 1 if images else size[0])
    mixed = mix_options(
        y.unsqueeze(2) if images else y, full, time, channels, tables, bias
    )
    return mixed.squeeze(2) if images else mixed


def dynamic_macs(
    output_shape: Sequence[int],
    fan_in: int,
    time: tuple[int, ...],
    channels: tuple[int, ...],
    kernels: CheapKernels,
) -> tuple[int, int]:
    """MACs of one sample: of the convolution, and of the rest.

    The rest: one per position and term of the weighted sum; what makes the
    factors of the terms, which have no positions, is not counted.

    Args:
        output_shape: (C, ...) of the full output.
        fan_in: Inputs of one output.
        time: Options used on the temporal axis, (0,) if it is not dynamic.
        channels: The same of the channel axis.
        kernels: The cheap maps.
    """
    full, *size = output_shape
    frames = size[0] if len(size) == 3 else 1
    area = output_shape[-1] * output_shape[-2]
    count = option_sizes(full, channels[0] + 1)[-1]
    rows = option_sizes(frames, time[0] + 1)[-1]
    terms = option_terms(
        full, channels, frames, time, taps_of(kernels), False, CPU
    )
    rest = len(terms.channel) * area
    return count * rows * area * fan_in, rest
