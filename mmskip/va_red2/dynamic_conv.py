"""Convolutions that compute some outputs and rebuild the rest.

VA-RED^2: B. Pan, "Dynamic Neural Network for Efficient Video Recognition",
M.S. thesis, MIT, 2023, sections 3.1-3.3 and A.2. Symbols: N samples, C output
channels, T output frames, S options on an axis; option i computes one in
``2**i`` channels (r = 1 / 2**i) or frames (R = 2**i), so option 0 is full.

Every option is a slice of one computed tensor and every cheap map is linear,
so Eq. 3.5 is one sum of computed planes with few terms per output (see
:mod:`mmskip.va_red2.mixing`); how many options there are hardly changes it.

Ours: rebuilding goes in steps of two (a quarter to a half, the half to all),
and the bias is added after the sum. The thesis says neither; a batch norm
behind the layer can then be folded into it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmskip.native import ConvGeometry, activate, convolve, runs_native
from mmskip.native import library as native
from mmskip.native.geometry import output_size

from .mixing import (
    CheapKernels,
    MixFactors,
    MixKey,
    mix_indices,
    mix_planes,
    option_sizes,
    taps_of,
)

CPU = torch.device('cpu')


class Mix(NamedTuple):
    """Weights the options of an axis.

    Attributes:
        weights: (N, S), 0 for an option that is not used.
        options: Indices of the options that any sample uses, ascending. The
            first is the largest, the one that was computed.
    """

    weights: Tensor
    options: tuple[int, ...]


class Execution(NamedTuple):
    """Tells how inference runs a dynamic layer.

    Attributes:
        conv2d: Function that convolves images, with the arguments of
            ``torch.nn.functional.conv2d``.
        activation: ``relu`` if it is a part of the layer.
    """

    conv2d: Callable[..., Tensor] = F.conv2d
    activation: str | None = None


def dynamic_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    time: Mix | None,
    channels: Mix | None,
    make_factors: Callable[[MixKey, Tensor], MixFactors],
    execution: Execution = Execution(),  # noqa: B008 (it is immutable)
) -> Tensor:
    """Compute the largest used option on each axis, rebuild the rest.

    In training all options are used and one full convolution is the only
    one; in inference the samples share their largest options.

    Args:
        x: (N, C_in, T, H, W), or (N, C_in, H, W) with ``time=None``.
        weight: (C, C_in / groups, ...).
        bias: (C,), or None.
        geometry: Geometry of the convolution.
        time: Weights of the temporal options; None: the axis is not dynamic.
        channels: The same of the channel options.
        make_factors: Function that makes the factors of the sums for a key, on
            the device of a tensor; see :meth:`CheapMaps.factors`.
        execution: How the parts of the layer run.

    Returns:
        (N, C, ...) of the size of the full convolution.
    """
    images = x.dim() == 4
    count, stride = len(weight), 1
    if channels is not None:
        count = option_sizes(count, channels.options[0] + 1)[-1]
    if time is not None:
        stride = 2 ** time.options[0]
    y = convolve_part(x, weight, geometry, count, stride, execution.conv2d)
    size = output_size(x.shape[2:], weight.shape[2:], geometry)
    full = (len(weight), 1 if images else size[0])
    y = y.unsqueeze(2) if images else y
    mixed = mix_options(
        y, full, time, channels, make_factors, bias, execution.activation
    )
    return mixed.squeeze(2) if images else mixed


def dynamic_macs(
    output_shape: Sequence[int],
    fan_in: int,
    time: tuple[int, ...],
    channels: tuple[int, ...],
    kernels: CheapKernels,
) -> tuple[int, int]:
    """Count the MACs of one sample: of the convolution, and of the rest.

    The rest has one per position and term of the weighted sum. Making the
    factors of the terms, which have no positions, is not counted.

    Args:
        output_shape: Shape (C, ...) of the full output.
        fan_in: Number of inputs of one output.
        time: Options used on the temporal axis, (0,) if it is not dynamic.
        channels: The same of the channel axis.
        kernels: Cheap maps of the layer.
    """
    full, *size = output_shape
    frames = size[0] if len(size) == 3 else 1
    area = output_shape[-1] * output_shape[-2]
    count = option_sizes(full, channels[0] + 1)[-1]
    rows = option_sizes(frames, time[0] + 1)[-1]
    indices = mix_indices(
        full, channels, frames, time, taps_of(kernels), False, CPU
    )
    rest = len(indices.channel) * area
    return count * rows * area * fan_in, rest


def convolve_part(
    x: Tensor,
    weight: Tensor,
    geometry: ConvGeometry,
    channels: int,
    stride: int,
    conv2d: Callable[..., Tensor] = F.conv2d,
) -> Tensor:
    """Compute the first channels of every ``stride``-th frame, without bias.

    Args:
        x: (N, C_in, ...).
        weight: (C, C_in / groups, ...).
        geometry: Geometry of the full convolution.
        channels: Number of channels; whole groups if there are groups.
        stride: R; 1 for images.
        conv2d: Function that convolves images.
    """
    if geometry.groups > 1:
        groups = geometry.groups * channels // len(weight)
        x = x[:, : groups * weight.shape[1]]
        geometry = geometry._replace(groups=groups)
    step = geometry.stride[0] * stride
    geometry = geometry._replace(stride=(step, *geometry.stride[1:]))
    return convolve(x, weight[:channels], None, geometry, conv2d)


def mix_options(
    y: Tensor,
    full: tuple[int, int],
    time: Mix | None,
    channels: Mix | None,
    make_factors: Callable[[MixKey, Tensor], MixFactors],
    bias: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Sum the options of both axes by their weights (Eq. 3.5), add the bias.

    Args:
        y: Computed channels and frames, those of the largest used options,
            (N, C', T', H, W) without bias.
        full: C and T.
        time: Weights of the temporal options; None: the axis is not dynamic.
        channels: The same of the channel options.
        make_factors: Function that makes the factors of the sums for a key, on
            the device of a tensor.
        bias: (C,), or None.
        activation: ``relu``, applied to the sums, or None.

    Returns:
        (N, C, T, H, W), channels last if ``y`` is and the sums run in C++.
    """
    by_frames = y.transpose(1, 2)
    last = y.is_contiguous(memory_format=torch.channels_last_3d)
    frames_first = last or by_frames.is_contiguous()
    used = [mix and mix.options for mix in (channels, time)]
    factors = make_factors(MixKey(full, *used, frames_first), y)
    of_time, of_channels = (
        [] if mix is None else [_used(mix), rows]
        for mix, rows in ((time, factors.time), (channels, factors.channels))
    )
    pattern = factors.indices.pattern
    if runs_native(y):
        # One pass over what it writes, in which memory is what limits it.
        relu = activation == 'relu'
        mixed = native.mix_options(
            y if frames_first else y.contiguous(),
            of_time,
            of_channels,
            pattern.sources,
            pattern.starts,
            bias,
            full,
            relu,
        )
        return mixed if relu else activate(mixed, activation)
    values = y.new_ones(())
    for axis in (of_channels, of_time):
        if axis:
            values = values * (axis[0] @ axis[1])
    planes = (by_frames if frames_first else y).contiguous().flatten(1, 2)
    mixed = mix_planes(planes.flatten(2), values.to(y.dtype), pattern)
    mixed = mixed.view(len(y), *full, *y.shape[3:])
    if bias is not None:
        bias = bias.view(-1, 1, 1, 1)
        mixed = mixed + bias if torch.is_grad_enabled() else mixed.add_(bias)
    return activate(mixed, activation)


def _used(mix: Mix) -> Tensor:
    """Return the weights (N, used) of the options that are used."""
    first, last = mix.options[0], mix.options[-1]
    if last - first + 1 == len(mix.options):  # a view
        return mix.weights[:, first : last + 1]
    return mix.weights[:, list(mix.options)]
