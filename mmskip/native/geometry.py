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

from .library import (
    activate_,
    address_of,
    fingerprint,
    is_exact_inference,
)

#: Layouts of a layer that are kept, one per size of images and of kernel.
KEPT = 8
#: Words of a kernel that are looked at, to notice other values.
WORDS = 64
#: Vectors that a matrix is laid out for; it serves other numbers, too.
VECTORS = 8
#: MACs from which oneDNN is worth calling; below, its overhead is longer.
LEAST = 1 << 20
#: Positions of a map up to which one call of pooling sums its windows
#: faster than additions of maps, whose calls take longer than the sums.
POOLED = 1 << 12
#: Activations that it applies, and what it calls them.
_ACTIVATIONS = {None: 'none', 'relu': 'relu', 'silu': 'swish'}


class ConvGeometry(NamedTuple):
    """Tells where a convolution reads, apart from its kernel size.

    Attributes:
        stride: Step per spatial dimension.
        padding: ``(before, after)`` per spatial dimension.
        dilation: Spacing of the kernel per spatial dimension.
        groups: Number of channel groups.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    padding_mode: str = 'zeros'


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


class PackedKernels:
    """Keeps the kernels of a layer in the layouts that oneDNN reads fastest.

    Torch lays a kernel out anew in each call, which takes longer than to
    multiply by it where images are few and small, and on one thread it takes
    another library for 1x1 kernels of few images.

    They follow the kernel: other values are noticed by the count that torch
    keeps of writes, and by some of the values.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple, tuple[tuple, Tensor]] = {}

    def conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
        activation: str | None = None,
    ) -> Tensor:
        """Convolve images as ``torch.nn.functional.conv2d`` does.

        Inputs that oneDNN does not take (of training, of a GPU, of another
        precision) and small ones go to that function.

        Args:
            x: (N, C_in, H, W).
            weight: (C_out, C_in / groups, K_h, K_w).
            bias: (C_out,), or None.
            stride: Step, by dimension.
            padding: Zeros on both sides, by dimension.
            dilation: Spacing of the kernel, by dimension.
            groups: Number of channel groups.
            activation: Applied to the output, ``relu`` and ``silu`` in the
                same pass; None: none.

        Returns:
            (N, C_out, H_out, W_out); from oneDNN channels last.
        """
        geometry = padding, stride, dilation, groups
        if not _packs(x, weight, stride):
            y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            return activate(y, activation)
        inside = activation if activation in _ACTIVATIONS else None
        y = torch.ops.mkldnn._convolution_pointwise(
            x,
            self._packed(x, weight, geometry),
            bias,
            *geometry,
            _ACTIVATIONS[inside],
            [],
            '',
        )
        return activate(y, None if inside == activation else activation)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply vectors as ``torch.nn.functional.linear`` does.

        Args:
            x: (N, C_in).
            weight: (C_out, C_in).
            bias: (C_out,), or None.

        Returns:
            (N, C_out).
        """
        # One vector reads the matrix once, however that lies.
        if len(x) < 2 or not _packs(x, weight, ()):
            return F.linear(x, weight, bias)
        packed = self._packed(x[:, :, None], weight, ())
        return torch.ops.mkldnn._linear_pointwise(
            x, packed, bias, 'none', [], ''
        )

    def _packed(self, x: Tensor, weight: Tensor, geometry: tuple) -> Tensor:
        place = x.shape[2:], weight.shape, geometry
        state = (
            address_of(weight),
            -1 if weight.is_inference() else weight._version,
            fingerprint(weight, WORDS),
        )
        known, packed = self._kept.get(place, (None, None))
        if known != state:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            values = weight.detach().contiguous()
            if geometry:
                packed = torch.ops.mkldnn._reorder_convolution_weight(
                    values, *geometry, x.shape
                )
            else:
                packed = torch.ops.mkldnn._reorder_linear_weight(
                    values, VECTORS
                )
            self._kept[place] = state, packed
        return packed

    def __deepcopy__(self, memo: dict) -> 'PackedKernels':
        return PackedKernels()

    def __getstate__(self) -> dict:
        return {'_kept': {}}


def activate(x: Tensor, name: str | None) -> Tensor:
    """Apply the activation that is a part of a layer to its output.

    Args:
        x: Any tensor that nothing else reads.
        name: See :func:`.library.activate_`.
    """
    # A backward may need the values before it.
    return activate_(x.clone() if torch.is_grad_enabled() else x, name)


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
        for dim, (size, (before, _)) in enumerate(
            zip(input_size, geometry.padding, strict=True), start=2
        ):
            padded = padded.narrow(dim, before, size)
        return padded
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
    return tuple(
        (size + a + b - d * (k - 1) - 1) // s + 1
        for size, k, (a, b), d, s in zip(
            input_size,
            kernel_size,
            geometry.padding,
            geometry.dilation,
            geometry.stride,
            strict=True,
        )
    )


def conv_geometry(conv: nn.Module) -> ConvGeometry:
    """Read the geometry of a torch convolution, whatever names its padding."""
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


def _packs(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Tell if oneDNN takes a convolution, and is worth calling.

    Exporters and compilers know torch's own functions only.
    """
    positions = x.numel() // max(x.shape[1], 1) // math.prod(stride)
    return (
        positions * weight.numel() >= LEAST
        and is_exact_inference()
        and x.is_cpu
        and x.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and hasattr(torch.ops.mkldnn, '_convolution_pointwise')
    )
