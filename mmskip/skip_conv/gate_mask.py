"""From a residual to a mask of outputs worth computing.

Symbols: r residual (N, C_in, ...), w kernel (C_out, C_in / groups, ...),
K number of kernel positions, p order of the norm. Skip-Convolutions for
Efficient Video Processing (CVPR 2021), section 3.2.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from mmskip.native import ConvGeometry, convolve, cover_sum, support_sum

#: Rows of a map, evenly spread, from which its level is taken, at most.
LEVEL_ROWS = 32


class Folding(NamedTuple):
    """Keeps a normalisation that was folded into a layer: factor * z + shift.

    Attributes:
        factor: (C_out,), not 0.
        shift: (C_out,).
    """

    factor: Tensor
    shift: Tensor

    def undo(self, output: Tensor) -> Tensor:
        """Compute the output (N, C_out, ...) before the normalisation."""
        shape = 1, -1, *[1] * (output.dim() - 2)
        shift, factor = (
            t.to(output).view(shape) for t in (self.shift, self.factor)
        )
        return (output - shift) / factor

    def undo_weight(self, weight: Tensor) -> Tensor:
        """Compute the kernel (C_out, ...) before the normalisation."""
        return (weight.flatten(1) / self.factor.to(weight)[:, None]).view_as(
            weight
        )


class GateParams(NamedTuple):
    """Bundles all that a backend needs to know of a gate.

    Attributes:
        kind: ``input_norm`` (Eq. 5), ``output_norm`` (Eq. 7) or ``learned``
            (Eq. 8): the norm that says how residuals are scaled.
        threshold: The margin epsilon; fire iff the statistic exceeds it.
        block_size: Side of the square blocks that fire together.
        order: The norm's order p, 1 or 2.
        relative: The threshold is a share of how much neighbours differ in
            the layer's signal, see :func:`relative_scale`.
        gate_input: ``residual``, its ``magnitude`` or ``square``, or the
            ``frame``: the map that a gate with a kernel convolves.
        weight: Kernel (1, C_in, ...) of a learned gate; None of a gate
            without.
        bias: Its bias (1,).
        folded: Normalisation that was folded into the layer since its
            threshold was set.
    """

    kind: str
    threshold: float
    block_size: int = 1
    order: int = 1
    relative: bool = False
    gate_input: str = 'residual'
    weight: Tensor | None = None
    bias: Tensor | None = None
    folded: Folding | None = None


def gate_scale(gate: GateParams, weight: Tensor) -> Tensor:
    """Compute the factor by which a gate multiplies the residual's norm.

    1 for Eq. 5 and 8. For Eq. 7 the norm of the kernel, ``|w|_p``,
    normalised by the number of filters: with p = 1 the mean L1 norm of a
    filter, so that the statistic estimates the mean absolute change of an
    output channel whatever the number of channels, the kernel size and the
    groups.

    Returns:
        A scalar tensor of the kernel's dtype.
    """
    if gate.kind != 'output_norm':
        return weight.new_ones(())
    if gate.folded is not None:
        weight = gate.folded.undo_weight(weight)
    power = weight.detach().abs().pow(gate.order)
    # Not the sum over all filters: it overflows in half precision.
    return (power.mean() * weight[0].numel()).pow(1 / gate.order)


def signal_norms(gate: GateParams, weight: Tensor) -> Tensor | None:
    """Tell what a residual of norm 1 does to each channel of the signal.

    The signal of Eq. 5 is the layer's input, that of Eq. 7 its output, whose
    channels a normalisation that is folded into the layer has stretched.

    Args:
        gate: A norm gate.
        weight: Kernel (C_out, C_in / groups, ...).

    Returns:
        (C_out,), float32; None, for ones, of Eq. 5.
    """
    if gate.kind == 'input_norm':
        return None
    norms = gate_scale(gate, weight).float().expand(len(weight))
    if gate.folded is not None:
        norms = norms * gate.folded.factor.to(norms).abs()
    return norms.clamp_min(1e-12)


def relative_scale(signal: Tensor, norms: Tensor | None) -> Tensor:
    """Compute the factor of a relative gate, which is 1 / level.

    Ours, not the paper's. A normalisation behind a convolution undoes any
    scale of its weights, so the size of its outputs says nothing, and no
    one absolute threshold suits all layers. The level that a threshold is a
    share of is how much the picture makes neighbours in a row differ: of
    each channel the mean absolute difference, of all channels the root mean
    square. What is everywhere the same tells nothing about what is in the
    picture, and of a dark one it is nearly all there is: with the mean
    absolute output as the level, people vanish at night. Nor does the
    deviation from a mean do: an image that is padded to a square varies
    most, at night, between picture and padding.

    Args:
        signal: (N, C, ...), in which a few rows stand for all.
        norms: Norms that :func:`signal_norms` returned.

    Returns:
        (N, 1, ...) with sizes 1, float32: every stream has its own.
    """
    step = -(-signal.shape[-2] // LEVEL_ROWS)
    rows = signal.detach()[..., ::step, :].float()
    steps = rows.diff(dim=-1).abs().flatten(2)
    level = steps.sum(-1) / max(steps.shape[-1], 1)
    if norms is not None:
        level = level / norms
    # A signal that is the same everywhere fires on any change.
    level = level.square().mean(1).sqrt().clamp_min(1e-6)
    return level.reciprocal().view(-1, *[1] * (signal.dim() - 1))


def support_power(
    residual: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    order: int,
) -> Tensor:
    """Average ``|residual|^p`` over the kernel support of each output.

    Returns:
        (N, 1, ...) of the output's spatial size.
    """
    power = residual.square() if order == 2 else residual.abs()
    power = power.mean(1, keepdim=True)
    if is_pointwise(kernel_size, geometry):
        return power
    positions = math.prod(kernel_size)
    return support_sum(power, kernel_size, geometry) / positions


def is_pointwise(kernel_size: tuple[int, ...], geometry: ConvGeometry) -> bool:
    """Tell if every output reads the input at its own position alone."""
    return (
        math.prod(kernel_size) == 1
        and set(geometry.stride) == {1}
        and not any(map(any, geometry.padding))
    )


def log_power(
    residual: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    order: int,
) -> Tensor:
    """Take the logarithm of :func:`support_power`, with gradients.

    There is no root in it, which has no gradient where nothing has changed.

    Returns:
        (N, 1, ...) of the output's spatial size.
    """
    return _LogPower.apply(residual, kernel_size, geometry, order)


class _LogPower(Function):
    """Has a backward that passes over the residual once."""

    @staticmethod
    def forward(
        ctx: Any,
        residual: Tensor,
        kernel_size: tuple[int, ...],
        geometry: ConvGeometry,
        order: int,
    ) -> Tensor:
        power = support_power(residual, kernel_size, geometry, order) + 1e-12
        ctx.save_for_backward(residual, power)
        ctx.place, ctx.order = (kernel_size, geometry), order
        return power.log()

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, None, None, None]:
        residual, power = ctx.saved_tensors
        kernel_size, geometry = ctx.place
        grad = grad / power
        if not is_pointwise(kernel_size, geometry):
            grad = cover_sum(grad, kernel_size, geometry, residual.shape[2:])
        grad *= ctx.order / (residual.shape[1] * math.prod(kernel_size))
        values = residual if ctx.order == 2 else residual.sign()
        return values * grad, None, None, None


def gate_statistic(
    residual: Tensor,
    scale: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    order: int,
) -> Tensor:
    """Take the residual's norm in the kernel support of each output, scaled.

    The norm is normalised by the support, C_in * K: it is the mean absolute
    residual for p = 1, the root mean square for p = 2.

    Returns:
        (N, 1, ...) of the output's spatial size.
    """
    mean = support_power(residual, kernel_size, geometry, order)
    return scale * mean.pow(1 / order)


def gate_logits(
    residual: Tensor,
    frame: Tensor,
    geometry: ConvGeometry,
    gate: GateParams,
    scale: Tensor | None = None,
) -> Tensor:
    """Compute the scores of a learned gate, before the sigmoid of Eq. 8.

    Args:
        residual: (N, C_in, ...).
        frame: The frame it leads to, (N, C_in, ...).
        geometry: Geometry of the layer; the gate reads all groups.
        gate: A gate with a kernel.
        scale: Factor of the residual, of a gate that has one.

    Returns:
        (N, 1, ...) of the output's spatial size.
    """
    values = frame if gate.gate_input == 'frame' else residual
    if gate.gate_input == 'magnitude':
        values = residual.abs()
    elif gate.gate_input == 'square':
        values = residual.square()
    if scale is not None:
        values = values * scale.pow(gate.order)
    geometry = geometry._replace(groups=1)
    return convolve(values, gate.weight, gate.bias, geometry)


def gate_mask(
    residual: Tensor,
    scale: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    gate: GateParams,
) -> Tensor:
    """Decide for a norm gate which outputs are computed.

    The paper's ``round(sigmoid(statistic - epsilon))`` is a comparison:
    strict, so that nothing fires on a zero residual at threshold 0.

    Returns:
        Bool (N, 1, ...) of the output's spatial size.
    """
    # A comparison has no gradient to keep a graph for.
    statistic = gate_statistic(
        residual.detach(), scale, kernel_size, geometry, gate.order
    )
    # Not `>`: a NaN residual must be computed, not hidden.
    return block_mask(~(statistic <= gate.threshold), gate.block_size)


def block_mask(mask: Tensor, block_size: int) -> Tensor:
    """Make whole square blocks fire if any of their positions does.

    Max-pooling and nearest up-sampling (section 3.2.2, Structured
    Sparsity), for any feature size: the blocks at the far borders are cut.
    Blocks are spatial; along T of a 3-D mask they have length 1.

    Args:
        mask: Bool (N, 1, H, W) or (N, 1, T, H, W).
        block_size: Side of the blocks in output positions.
    """
    if block_size == 1:
        return mask
    height, width = mask.shape[-2:]
    planes = mask.reshape(-1, 1, height, width).float()
    pooled = F.max_pool2d(planes, block_size, ceil_mode=True).bool()
    grown = pooled.repeat_interleave(block_size, -2)
    grown = grown.repeat_interleave(block_size, -1)
    return grown[..., :height, :width].reshape(mask.shape)


def gate_macs(
    input_shape: torch.Size, output_shape: torch.Size, kernel: int
) -> int:
    """Count the MACs of a norm gate for a batch: its overhead in the ledger.

    One accumulation per input element (the sum over channels of ``|r|``)
    and one per kernel position and output position (the pooling).

    Args:
        input_shape: (N, C_in, ...).
        output_shape: (N, C_out, ...).
        kernel: Number of kernel positions K.
    """
    positions = output_shape[0] * output_shape[2:].numel()
    return input_shape.numel() + kernel * positions
