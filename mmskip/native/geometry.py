"""The geometry of a convolution, how it runs and what masks make of it.

Symbols: N images, C channels, ``...`` the 2 or 3 spatial sizes, K kernel
positions. All functions work for 2-D (N, C, H, W) and 3-D (N, C, T, H, W).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

#: Positions of a map up to which one call of pooling sums its windows
#: faster than additions of maps, whose calls take longer than the sums.
POOLED = 1 << 12


class ConvGeometry(NamedTuple):
    """Tells where a convolution reads, apart from its kernel size.

    Attributes:
        stride: Step per spatial dimension.
        padding: ``(before, after)`` per spatial dimension.
        dilation: Spacing of the kernel per spatial dimension.
        groups: Number of channel groups.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        transposed: It is the transposed one of the convolution with all of
            the above, from that one's outputs to its inputs. What torch calls
            its ``output_padding`` is taken from the padding after.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    padding_mode: str = 'zeros'
    transposed: bool = False

    @property
    def phases(self) -> int:
        """Among so many outputs the positions of a kernel are shared out.

        Each output of an ordinary convolution reads through all of them.
        """
        return math.prod(self.stride) if self.transposed else 1


def pad(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """Pad ``x`` (N, C, ...) as the convolution does."""
    # F.pad wants the last dimension first.
    amounts = [p for pair in reversed(geometry.padding) for p in pair]
    if not any(amounts):
        return x
    mode = geometry.padding_mode
    return F.pad(x, amounts, 'constant' if mode == 'zeros' else mode)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    conv2d: Callable[..., Tensor] = F.conv2d,
) -> Tensor:
    """Convolve ``x`` (N, C, ...) densely, with any linear padding.

    On a CPU the two halves of a factorised 3-D convolution, kernels
    (1, K, K) and (K, 1, 1), run as 2-D ones: the same sums, in down to a
    third of the time. The output's memory may then lie frame by frame; it
    lies channels last where that of ``x`` and of the 2-D output does, and
    nothing is copied.

    Args:
        x: Input.
        weight: Kernel (C_out, C_in / groups, ...).
        bias: (C_out,), or None.
        geometry: Where the kernel is applied.
        conv2d: Function that runs the 2-D ones, with the arguments of
            ``torch.nn.functional.conv2d``.
    """
    if geometry.transposed:
        return _convolve_transposed(x, weight, bias, geometry)
    symmetric = all(a == b for a, b in geometry.padding)
    if symmetric and geometry.padding_mode == 'zeros':
        # The convolution pads by itself, without a copy of the input.
        inner = tuple(a for a, _ in geometry.padding)
    else:
        inner, x = (0,) * (x.dim() - 2), pad(x, geometry)
    if x.dim() == 5 and x.device.type == 'cpu':
        if weight.shape[2] == 1 and inner[0] == 0:
            return _convolve_frames(x, weight, bias, geometry, inner, conv2d)
        if weight.shape[3:] == (1, 1) and inner[1:] == (0, 0):
            return _convolve_positions(
                x, weight, bias, geometry, inner, conv2d
            )
    run = conv2d if x.dim() == 4 else F.conv3d
    return run(
        x,
        weight,
        bias,
        geometry.stride,
        inner,
        geometry.dilation,
        geometry.groups,
    )


def support_sum(
    x: Tensor, kernel_size: tuple[int, ...], geometry: ConvGeometry
) -> Tensor:
    """Sum ``x`` (N, 1, ...) over the kernel support of each output.

    Small maps are pooled, others summed along one dimension after the other:
    for one channel both take a fraction of the time of a convolution with
    ones.

    Returns:
        (N, 1, ...) of the output's spatial size. Padding counts as the
        convolution pads (zeros, or the mirrored values).
    """
    if geometry.transposed:
        size = output_size(x.shape[2:], kernel_size, geometry)
        return cover_sum(x, kernel_size, _adjoint(geometry), size)
    # A node of the graph takes longer than small sums.
    if x.requires_grad and torch.is_grad_enabled():
        return _SupportSum.apply(x, kernel_size, geometry)
    return _sum_inputs(x, kernel_size, geometry)


def cover_sum(
    y: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    input_size: tuple[int, ...],
) -> Tensor:
    """Sum ``y`` (N, 1, ...) over the outputs that read each input.

    The adjoint of :func:`support_sum`; the padding is folded back onto the
    inputs that it was made of.

    Args:
        y: Values at the output positions.
        kernel_size: The kernel's spatial size.
        geometry: The convolution's geometry.
        input_size: Spatial size of the convolution's input.

    Returns:
        (N, 1, *input_size).
    """
    if geometry.transposed:
        return support_sum(y, kernel_size, _adjoint(geometry))
    if y.requires_grad and torch.is_grad_enabled():
        return _CoverSum.apply(y, kernel_size, geometry, input_size)
    return _sum_outputs(y, kernel_size, geometry, input_size)


def _sum_inputs(
    x: Tensor, kernel_size: tuple[int, ...], geometry: ConvGeometry
) -> Tensor:
    pooling = _pooling(x.shape[2:], kernel_size, geometry)
    if pooling is not None:
        return torch.ops.aten.avg_pool2d(x, *pooling)
    total = pad(x, geometry)
    for dim, length in enumerate(kernel_size):
        first, *others = _taps(total, dim, length, geometry)
        total = first.clone()
        for tap in others:
            total += tap
    return total


def _sum_outputs(
    y: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    input_size: tuple[int, ...],
) -> Tensor:
    pooling = _pooling(input_size, kernel_size, geometry)
    if pooling is not None:
        x = y.new_empty(len(y), y.shape[1], *input_size)
        return torch.ops.aten.avg_pool2d_backward(y, x, *pooling)
    for dim, length in enumerate(kernel_size):
        shape = list(y.shape)
        shape[2 + dim] = input_size[dim] + sum(geometry.padding[dim])
        total = y.new_zeros(shape)
        for tap in _taps(total, dim, length, geometry):
            tap += y
        y = total
    return _fold_padding(y, geometry, input_size)


class _SupportSum(Function):
    """Sums over the inputs of outputs, see :func:`support_sum`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel_size: tuple[int, ...],
        geometry: ConvGeometry,
    ) -> Tensor:
        ctx.place = kernel_size, geometry, x.shape[2:]
        return _sum_inputs(x, kernel_size, geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return cover_sum(grad, *ctx.place), None, None


class _CoverSum(Function):
    """Sums over the outputs of inputs, see :func:`cover_sum`."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        kernel_size: tuple[int, ...],
        geometry: ConvGeometry,
        input_size: tuple[int, ...],
    ) -> Tensor:
        ctx.place = kernel_size, geometry
        return _sum_outputs(y, kernel_size, geometry, input_size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return support_sum(grad, *ctx.place), None, None, None


def _pooling(
    size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
) -> tuple | None:
    """Make the arguments by which torch's mean pooling sums over windows.

    Args:
        size: Spatial size of the input.
        kernel_size: The kernel's spatial size.
        geometry: The convolution's geometry.

    Returns:
        Those behind the input; None if it cannot, or would be slower.
    """
    if (
        len(size) != 2
        or math.prod(size) > POOLED
        or set(geometry.dilation) != {1}
        or geometry.padding_mode != 'zeros'
        or any(
            a != b or 2 * a > k
            for (a, b), k in zip(geometry.padding, kernel_size, strict=True)
        )
    ):
        return None
    padding = [a for a, _ in geometry.padding]
    return kernel_size, geometry.stride, padding, False, True, 1


def _taps(
    x: Tensor, dim: int, length: int, geometry: ConvGeometry
) -> list[Tensor]:
    """View what each position of a kernel reads along a spatial dimension.

    Args:
        x: Padded input (N, C, ...).
        dim: Number of the spatial dimension.
        length: Size of the kernel in it.
        geometry: Geometry of the convolution.

    Returns:
        Views (N, C, ...) of the output's size in that dimension.
    """
    stride, dilation = geometry.stride[dim], geometry.dilation[dim]
    windows = x.unfold(2 + dim, dilation * (length - 1) + 1, stride)
    return [windows[..., dilation * tap] for tap in range(length)]


def _fold_padding(
    padded: Tensor, geometry: ConvGeometry, input_size: tuple[int, ...]
) -> Tensor:
    """Add what lies on the padding to the inputs that it was made of."""
    if geometry.padding_mode == 'zeros':
        amounts = [-p for pair in reversed(geometry.padding) for p in pair]
        return F.pad(padded, amounts)
    # Index of the input that each padded position copies; exact in float64.
    count = math.prod(input_size)
    index = torch.arange(count, dtype=torch.float64, device=padded.device)
    source = pad(index.view(1, 1, *input_size), geometry).long().flatten()
    folded = padded.new_zeros(len(padded), count)
    folded.index_add_(1, source, padded.flatten(1))
    return folded.view(len(padded), 1, *input_size)


def output_size(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
) -> tuple[int, ...]:
    """Compute the spatial size of the convolution's output."""
    sizes = []
    for size, k, (a, b), d, s in zip(
        input_size,
        kernel_size,
        geometry.padding,
        geometry.dilation,
        geometry.stride,
        strict=True,
    ):
        reach = d * (k - 1) + 1
        if geometry.transposed:
            sizes.append((size - 1) * s + reach - a - b)
        else:
            sizes.append((size + a + b - reach) // s + 1)
    return tuple(sizes)


def conv_geometry(conv: nn.Module) -> ConvGeometry:
    """Read the geometry of a torch convolution, whatever names its padding."""
    if getattr(conv, 'transposed', False):
        pairs = tuple(
            (amount, amount - more)
            for amount, more in zip(
                conv.padding, conv.output_padding, strict=True
            )
        )
        return ConvGeometry(
            conv.stride, pairs, conv.dilation, conv.groups, 'zeros', True
        )
    if conv.padding_mode == 'zeros' and not isinstance(conv.padding, str):
        # Torch reads it then, even if changed after construction.
        pairs = tuple((amount, amount) for amount in conv.padding)
    else:
        # Torch's own record, last dimension first; also for 'same'.
        amounts = conv._reversed_padding_repeated_twice
        pairs = tuple(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    return ConvGeometry(
        conv.stride, pairs, conv.dilation, conv.groups, conv.padding_mode
    )


def swap_channels(weight: Tensor, groups: int) -> Tensor:
    """Turn the kernel of a transposed convolution into an ordinary order.

    Torch keeps it as (C_in, C_out / groups, ...); what comes out is
    (C_out, C_in / groups, ...), and the other way round. With one group it is
    a view.
    """
    split = weight.unflatten(0, (groups, -1))
    return split.transpose(1, 2).flatten(0, 1)


def _adjoint(geometry: ConvGeometry) -> ConvGeometry:
    return geometry._replace(transposed=not geometry.transposed)


def _convolve_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    run = F.conv_transpose2d if x.dim() == 4 else F.conv_transpose3d
    return run(
        x,
        swap_channels(weight, geometry.groups),
        bias,
        geometry.stride,
        [before for before, _ in geometry.padding],
        [before - after for before, after in geometry.padding],
        geometry.groups,
        geometry.dilation,
    )


def _convolve_frames(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    padding: tuple[int, ...],
    conv2d: Callable[..., Tensor],
) -> Tensor:
    """Convolve with a kernel (1, K, K), for which frames are images."""
    frames = x[:, :, :: geometry.stride[0]].transpose(1, 2)
    y = conv2d(
        frames.flatten(0, 1),
        weight[:, :, 0],
        bias,
        geometry.stride[1:],
        padding[1:],
        geometry.dilation[1:],
        geometry.groups,
    )
    return y.unflatten(0, frames.shape[:2]).transpose(1, 2)


def _convolve_positions(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    padding: tuple[int, ...],
    conv2d: Callable[..., Tensor],
) -> Tensor:
    """Convolve with a kernel (K, 1, 1), an image of frames x positions."""
    rows, columns = geometry.stride[1:]
    x = x[..., ::rows, ::columns]
    y = conv2d(
        x.flatten(3),
        weight[..., 0],
        bias,
        (geometry.stride[0], 1),
        (padding[0], 0),
        (geometry.dilation[0], 1),
        geometry.groups,
    )
    return y.unflatten(3, x.shape[3:])
