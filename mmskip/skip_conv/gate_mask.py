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

from mmskip.core import gate_gradient, relax_gate
from mmskip.native import ConvGeometry, convolve, cover_sum, support_sum
from mmskip.native.geometry import output_size

#: Added to a power that may be 0, and has a logarithm.
TINY = 1e-12
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


class GatePlace(NamedTuple):
    """Tells where a gate decides in clips.

    Attributes:
        scale: Factor by which a norm gate multiplies its norm.
        geometry: Geometry of the layer.
        kernel_size: Kernel size of the layer.
    """

    scale: Tensor
    geometry: ConvGeometry
    kernel_size: tuple[int, ...]


def gate_scale(
    gate: GateParams, weight: Tensor, geometry: ConvGeometry | None = None
) -> Tensor:
    """Compute the factor by which a gate multiplies the residual's norm.

    1 for Eq. 5 and 8. For Eq. 7 the norm of the kernel, ``|w|_p``,
    normalised by the number of filters: with p = 1 the mean L1 norm of a
    filter, so that the statistic estimates the mean absolute change of an
    output channel whatever the number of channels, the kernel size and the
    groups.

    Args:
        gate: The gate.
        weight: Kernel (C_out, C_in / groups, ...).
        geometry: Geometry of the layer, if it is a transposed one: its
            filters are those of one phase.

    Returns:
        A scalar tensor of the kernel's dtype.
    """
    if gate.kind != 'output_norm':
        return weight.new_ones(())
    if gate.folded is not None:
        weight = gate.folded.undo_weight(weight)
    power = weight.detach().abs().pow(gate.order)
    # Not the sum over all filters: it overflows in half precision.
    size = weight[0].numel() / (1 if geometry is None else geometry.phases)
    return (power.mean() * size).pow(1 / gate.order)


def signal_norms(
    gate: GateParams, weight: Tensor, geometry: ConvGeometry | None = None
) -> Tensor | None:
    """Tell what a residual of norm 1 does to each channel of the signal.

    The signal of Eq. 5 is the layer's input, that of Eq. 7 its output, whose
    channels a normalisation that is folded into the layer has stretched.

    Args:
        gate: A norm gate.
        weight: Kernel (C_out, C_in / groups, ...).
        geometry: See :func:`gate_scale`.

    Returns:
        (C_out,), float32; None, for ones, of Eq. 5.
    """
    if gate.kind == 'input_norm':
        return None
    scale = gate_scale(gate, weight, geometry)
    norms = scale.float().expand(len(weight))
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


def level_rows(
    x: Tensor, kernel_size: tuple[int, ...], geometry: ConvGeometry
) -> ConvGeometry:
    """Make the geometry by which a layer computes the rows of its level.

    They are the rows of its output that :func:`relative_scale` looks at.

    Args:
        x: Input, (N, C_in, ...).
        kernel_size: Kernel size of the layer.
        geometry: Its geometry.
    """
    if geometry.transposed:
        return geometry  # its rows are not those of another stride
    rows = output_size(x.shape[2:], kernel_size, geometry)[-2]
    *others, row_stride, column_stride = geometry.stride
    row_stride *= -(-rows // LEVEL_ROWS)
    return geometry._replace(stride=(*others, row_stride, column_stride))


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
    return support_sum(power, kernel_size, geometry) / num_positions(
        kernel_size, geometry
    )


def num_positions(
    kernel_size: tuple[int, ...], geometry: ConvGeometry
) -> float:
    """Tell how many positions of the input an output reads.

    Outputs of a transposed convolution read so many on average.
    """
    return math.prod(kernel_size) / geometry.phases


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
    if residual.requires_grad and torch.is_grad_enabled():
        return _LogPower.apply(residual, kernel_size, geometry, order)
    return (support_power(residual, kernel_size, geometry, order) + TINY).log()


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
        power = support_power(residual, kernel_size, geometry, order) + TINY
        ctx.save_for_backward(residual, power)
        ctx.place, ctx.order = (kernel_size, geometry), order
        return power.log()

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, None, None, None]:
        residual, power = ctx.saved_tensors
        grad = power_gradient(grad / power, residual, *ctx.place, ctx.order)
        return grad, None, None, None


def power_gradient(
    grad: Tensor,
    residual: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    order: int,
) -> Tensor:
    """Compute the gradient of the residual from that of its support power."""
    if not is_pointwise(kernel_size, geometry):
        grad = cover_sum(grad, kernel_size, geometry, residual.shape[2:])
    count = residual.shape[1] * num_positions(kernel_size, geometry)
    return (residual if order == 2 else residual.sign()) * (
        grad * (order / count)
    )


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


class Drawn(NamedTuple):
    """Holds what a gate decided in training.

    Attributes:
        mask: 0 or 1, (N, 1, ...) of the output's size.
        probability: Probability of a 1, of the same size.
        soft: What the decisions would be if they were not rounded, one for
            each block; None if they were not drawn.
        temperature: Temperature of the relaxation, 1 if there was none.
        largest: Index of the output in each block that has the largest
            score; None without blocks.
    """

    mask: Tensor
    probability: Tensor
    soft: Tensor | None = None
    temperature: float = 1.0
    largest: Tensor | None = None


def draw_mask(
    score: Tensor, block_size: int, temperature: float | None
) -> Drawn:
    """Draw decisions, one for each block, which has its largest score.

    Args:
        score: (N, 1, ...).
        block_size: Side of the blocks.
        temperature: Of the relaxation; None decides as in inference.
    """
    size, largest, planes = score.shape[-2:], None, score
    if block_size > 1:
        planes, largest = F.max_pool2d(
            score.reshape(-1, 1, *size),
            block_size,
            ceil_mode=True,
            return_indices=True,
        )
    probability, soft = planes.sigmoid(), None
    if temperature is None:
        mask = (~(planes <= 0)).to(score.dtype)
    else:
        soft = relax_gate(planes, temperature)
        mask = soft.round()
    if block_size > 1:
        both = torch.cat([mask, probability], 1)
        both = both.repeat_interleave(block_size, -2)
        both = both.repeat_interleave(block_size, -1)
        both = both[..., : size[0], : size[1]]
        mask, probability = (m.reshape(score.shape) for m in both.unbind(1))
    return Drawn(mask, probability, soft, temperature or 1.0, largest)


def drawn_gradient(
    score: Tensor,
    drawn: Drawn,
    block_size: int,
    of_mask: Tensor | None,
    of_probability: Tensor | None,
) -> Tensor | None:
    """Compute the gradient of the scores of :func:`draw_mask`, if any.

    Args:
        score: The scores.
        drawn: What was drawn for them.
        block_size: Side of the blocks.
        of_mask: Gradient of the mask, or None.
        of_probability: Gradient of the probability, or None.
    """
    if drawn.soft is None:
        of_mask = None
    if of_mask is None and of_probability is None:
        return None
    probability = drawn.probability
    grads = [
        torch.zeros_like(score) if grad is None else grad
        for grad in (of_mask, of_probability)
    ]
    if block_size > 1:
        planes = [t.reshape(-1, 1, *score.shape[-2:]) for t in grads]
        grads = [
            F.avg_pool2d(p, block_size, ceil_mode=True, divisor_override=1)
            for p in planes
        ]
        probability = probability.reshape(planes[0].shape)
        probability = probability[..., ::block_size, ::block_size]
    soft = probability if drawn.soft is None else drawn.soft
    found = gate_gradient(soft, probability, drawn.temperature, *grads)
    if block_size == 1:
        return found
    whole = torch.zeros_like(planes[0]).flatten(2)
    whole.scatter_(2, drawn.largest.flatten(2), found.flatten(2))
    return whole.view_as(score)


class Opening(NamedTuple):
    """Tells which inputs a mask of outputs lets through.

    An input is transmitted where no output that reads it is closed: it is
    the product over the outputs' gates, with its gradient. An input that one
    gate alone holds back would be transmitted if that gate opened, so that
    gate has to get its gradient; else a gate that has closed would never
    open again.

    Attributes:
        whole: 1 for inputs that are transmitted, else 0; (N, 1, ...).
        closed: 1 where a gate is closed, of the output's size; None if every
            output reads the input at its place alone.
        held: Number of closed gates that read an input, or None.
    """

    whole: Tensor
    closed: Tensor | None = None
    held: Tensor | None = None

    @classmethod
    def of(cls, mask: Tensor, place: GatePlace, size: torch.Size) -> 'Opening':
        """Find the inputs, of a spatial ``size``, that a mask transmits."""
        if math.prod(place.kernel_size) == 1 and mask.shape[2:] == size:
            return cls(mask)
        closed = 1 - mask
        held = cover_sum(closed, place.kernel_size, place.geometry, size)
        return cls((1 - held).relu_(), closed, held)

    def gradient(self, grad: Tensor, place: GatePlace) -> Tensor:
        """Compute the gradient of the mask from that of ``whole``."""
        if self.closed is None:
            return grad
        # By none, and by one alone, which is a closed one.
        both = torch.cat([grad * (self.held < 1), grad * (self.held == 1)])
        both = support_sum(both, place.kernel_size, place.geometry)
        free, held = both.chunk(2)
        return free.addcmul(self.closed, held)
