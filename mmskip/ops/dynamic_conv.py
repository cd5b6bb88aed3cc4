"""Convolutions of which a part is computed and the rest rebuilt.

VA-RED^2: B. Pan, "Dynamic Neural Network for Efficient Video Recognition",
M.S. thesis, MIT, 2023, sections 3.1-3.3 and A.2. Symbols: N samples, C output
channels, T output frames, S options on an axis; option i computes one in
``2**i`` channels (r = 1 / 2**i) or frames (R = 2**i), so option 0 is full.

Every option is a slice of one computed tensor and every cheap map is linear,
so Eq. 3.5 is summed from the smallest option up: the sum of the smaller
options is rebuilt once to the size of the next one and the next one is added.
The work is a geometric series, whatever the number of options.

Ours: rebuilding goes in steps of two (a quarter to a half, the half to all),
and the bias is added after the sum. The thesis says neither; a batch norm
behind the layer can then be folded into it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import ConvGeometry, convolve, output_size

_DEPTHWISE = {4: F.conv2d, 5: F.conv3d}


class CheapKernels(NamedTuple):
    """The linear maps that rebuild what was not computed.

    Attributes:
        channels: ``Phi^c``, one per step up: (M,) factors of one computed
            channel each, or (M, 1, K, K) depthwise kernels; M is the number
            of channels that the step adds.
        time: ``Phi^t``, one per step up: (C, 1) factors of the computed
            frame before, or (C, 3) of its predecessor, itself and the next
            computed frame.
    """

    channels: tuple[Tensor, ...] = ()
    time: tuple[Tensor, ...] = ()


class Mix(NamedTuple):
    """How much each option of an axis counts.

    Attributes:
        weights: (N, S), 0 for an option that is not used.
        options: Indices of those that are used by any sample, ascending. The
            first is the largest, the one that was computed.
    """

    weights: Tensor
    options: tuple[int, ...]


def option_sizes(size: int, options: int) -> tuple[int, ...]:
    """Channels or frames that each option computes, full one first.

    Rounded up, so that any size is possible.
    """
    return tuple(-(-size // 2**index) for index in range(options))


def rebuild_channels(y: Tensor, kernel: Tensor) -> Tensor:
    """Channels that a step up adds, from the first computed ones.

    Args:
        y: (N, >= M, ...).
        kernel: See :class:`CheapKernels`.

    Returns:
        (N, M, ...).
    """
    source = y[:, : len(kernel)]
    if kernel.dim() == 1:
        return source * _per_channel(kernel, y.dim())
    pad = kernel.shape[-1] // 2
    if y.dim() == 5:
        kernel, pad = kernel.unsqueeze(2), (0, pad, pad)
    convolution = _DEPTHWISE[y.dim()]
    return convolution(source, kernel, None, 1, pad, 1, len(kernel))


def rebuild_frames(y: Tensor, kernel: Tensor) -> Tensor:
    """The frame behind each computed one (Eq. 3.1 with R = 2).

    Args:
        y: (N, C, M, H, W), computed frames.
        kernel: See :class:`CheapKernels`. At the ends of the clip the
            neighbour that is missing is the frame itself.

    Returns:
        (N, C, M, H, W).
    """
    if kernel.shape[1] == 1:
        return y * _per_channel(kernel[:, 0], 5)
    before, here, after = (_per_channel(k, 5) for k in kernel.unbind(1))
    rebuilt = y * here
    previous = torch.cat([y[:, :, :1], y[:, :, :-1]], 2)
    following = torch.cat([y[:, :, 1:], y[:, :, -1:]], 2)
    return rebuilt.addcmul(previous, before).addcmul(following, after)


def mix_channels(
    y: Tensor, mix: Mix, kernels: Sequence[Tensor], sizes: Sequence[int]
) -> Tensor:
    """Weighted sum over the channel options (Eq. 3.5, left).

    Args:
        y: (N, sizes[largest], ...), without bias.
        mix: Of the channel axis.
        kernels: ``Phi^c`` of each step, the last to the full size first.
        sizes: Channels of each option.

    Returns:
        (N, C, ...).
    """
    total = None
    for index in reversed(range(mix.options[-1] + 1)):
        used = index in mix.options
        scale = _per_sample(mix, index, y) if used else None
        if total is None:
            total = y[:, : sizes[index]] * scale
            continue
        rebuilt = rebuild_channels(total, kernels[index])
        if used:
            start = sizes[index + 1]
            total = torch.addcmul(total, y[:, :start], scale)
            added = y[:, start : sizes[index]]
            rebuilt = torch.addcmul(rebuilt, added, scale)
        total = torch.cat([total, rebuilt], 1)
    return total


def mix_frames(
    y: Tensor, mix: Mix, kernels: Sequence[Tensor], frames: int
) -> Tensor:
    """Weighted sum over the temporal options (Eq. 3.5, right).

    Args:
        y: (N, C, ceil(T / R), H, W), R of the largest option, without bias.
        mix: Of the temporal axis.
        kernels: ``Phi^t`` of each step, the last to the full size first.
        frames: T.

    Returns:
        (N, C, T, H, W).
    """
    sizes = option_sizes(frames, mix.options[-1] + 1)
    total = None
    for index in reversed(range(mix.options[-1] + 1)):
        used = index in mix.options
        scale = _per_sample(mix, index, y) if used else None
        step = 2 ** max(index - mix.options[0], 0)
        if total is None:
            total = y[:, :, ::step] * scale
            continue
        count = sizes[index] - sizes[index + 1]
        rebuilt = rebuild_frames(total, kernels[index])[:, :, :count]
        if used:
            own = y[:, :, ::step]
            total = torch.addcmul(total, own[:, :, ::2], scale)
            rebuilt = torch.addcmul(rebuilt, own[:, :, 1::2], scale)
        total = interleave(total, rebuilt)
    return total


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Frames in turn, (N, C, M, ...) and as many or one less."""
    paired = odd.shape[2]
    both = torch.stack([even[:, :, :paired], odd], 3).flatten(2, 3)
    if paired == even.shape[2]:
        return both
    return torch.cat([both, even[:, :, paired:]], 2)


def convolve_part(
    x: Tensor,
    weight: Tensor,
    geometry: ConvGeometry,
    channels: int,
    stride: int,
) -> Tensor:
    """The first output channels of every ``stride``-th frame, without bias.

    A kernel of one frame runs as a 2-D convolution, which on a CPU takes up
    to half the time for the same sum.

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
    weight = weight[:channels]
    if x.dim() == 4:
        return convolve(x, weight, None, geometry)
    step = geometry.stride[0] * stride
    if weight.shape[2] > 1 or any(geometry.padding[0]):
        geometry = geometry._replace(stride=(step, *geometry.stride[1:]))
        return convolve(x, weight, None, geometry)
    frames = x[:, :, ::step].transpose(1, 2)
    flat = ConvGeometry(*(part[1:] for part in geometry[:3]), *geometry[3:])
    y = convolve(frames.flatten(0, 1), weight[:, :, 0], None, flat)
    return y.unflatten(0, frames.shape[:2]).transpose(1, 2)


def dynamic_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    time: Mix | None,
    channels: Mix | None,
    kernels: CheapKernels,
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
        kernels: The cheap maps.

    Returns:
        (N, C, ...) of the size of the full convolution.
    """
    count, stride = len(weight), 1
    if channels is not None:
        sizes = option_sizes(count, channels.weights.shape[1])
        count = sizes[channels.options[0]]
    if time is not None:
        stride = 2 ** time.options[0]
    y = convolve_part(x, weight, geometry, count, stride)
    if channels is not None:
        y = mix_channels(y, channels, kernels.channels, sizes)
    if time is not None:
        size = output_size(x.shape[2:], weight.shape[2:], geometry)
        y = mix_frames(y, time, kernels.time, size[0])
    return y if bias is None else y + _per_channel(bias, y.dim())


def dynamic_macs(
    output_shape: Sequence[int],
    fan_in: int,
    time: tuple[int, ...],
    channels: tuple[int, ...],
    kernels: CheapKernels,
) -> tuple[int, int]:
    """MACs of one sample: of the convolution, and of the rest.

    The rest: one per element and option in a weighted sum, one per tap.

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
    rows = option_sizes(frames, time[-1] + 1)
    columns = option_sizes(full, channels[-1] + 1)
    plane = rows[time[0]] * area
    rest = 0
    if kernels.channels:
        rest += sum(columns[index] for index in channels) * plane
        steps = kernels.channels[: channels[-1]]
        rest += sum(kernel.numel() for kernel in steps) * plane
    if kernels.time:
        rest += sum(rows[index] for index in time) * full * area
        for index, kernel in enumerate(kernels.time[: time[-1]]):
            added = rows[index] - rows[index + 1]
            rest += added * kernel.numel() * area
    return columns[channels[0]] * plane * fan_in, rest


def _per_sample(mix: Mix, index: int, y: Tensor) -> Tensor:
    weights = mix.weights[:, index].to(y.dtype)
    return weights.view(-1, *[1] * (y.dim() - 1))


def _per_channel(values: Tensor, dims: int) -> Tensor:
    return values.view(-1, *[1] * (dims - 2))
