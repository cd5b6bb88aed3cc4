"""The learned gate of Skip-Convolutions (CVPR 2021), section 3.2.2."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskip.ops import (
    ConvGeometry,
    GateParams,
    address_of,
    fingerprint,
    gate_logits,
    sample_gate,
)
from mmskip.registry import MODELS

from .gates import Gate

SIGHTS = ('residual', 'magnitude', 'frame')


@MODELS.register_module()
class GumbelGate(Gate):
    """A one-channel convolution on the residual decides (Eq. 8).

    It has its layer's kernel, stride, padding and dilation. In training its
    decisions are drawn, with straight-through gradients; in inference the
    sigmoid is rounded. It starts open everywhere: in inference the converted
    model equals the dense one.

    It learns whenever its model does, whatever the host freezes with its
    layer (``frozen_stages``). One that is frozen alone
    (``gate.requires_grad_(False)``) decides in training as in inference.

    Ours: the kernel is kept as multiples of ``sensitivity / (C_in * K)``, so
    that one learning rate suits layers of all sizes, and it starts at 1 if
    the gate sees magnitudes (a norm gate that is still open), else at 0.

    Args:
        bias: Initial bias; an output starts open with the probability
            ``sigmoid(bias)``. Ours (0.6 in the official code).
        temperature: Of the relaxation; 2 / 3 in the official code.
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.
        sees: ``residual`` (the paper), its ``magnitude`` (the official
            code), or the ``frame`` (the paper's conditional-computation
            baseline, section 4.2).
        sensitivity: Score of a residual of mean magnitude 1 through a kernel
            of ones. Ours.

    Raises:
        ValueError: An option is out of range.
    """

    kind = 'learned'

    def __init__(
        self,
        bias: float = 2.0,
        temperature: float = 2 / 3,
        block_size: int = 1,
        sees: str = 'residual',
        sensitivity: float = 20.0,
    ) -> None:
        super().__init__(block_size)
        if not temperature > 0:
            raise ValueError(f'expected temperature > 0, got {temperature!r}')
        if not bias > 0:
            raise ValueError(
                f'expected bias > 0, got {bias!r}: the gate has to start open'
            )
        if not sensitivity > 0:
            raise ValueError(f'expected sensitivity > 0, got {sensitivity!r}')
        if sees not in SIGHTS:
            raise ValueError(
                f'expected sees to be one of {SIGHTS}, got {sees!r}'
            )
        self.initial_bias = float(bias)
        self.temperature = float(temperature)
        self.sees = sees
        self.sensitivity = float(sensitivity)
        self.register_parameter('weight', None)
        self.register_parameter('bias', None)
        self._kept: tuple[tuple, Tensor, GateParams] | None = None
        self._fingerprint = 0

    def attach(self, conv: nn.Module) -> None:
        """Make the gate's kernel (1, C_in, ...) and bias (1,)."""
        shape = (1, conv.in_channels, *conv.weight.shape[2:])
        start = 1.0 if self.sees == 'magnitude' else 0.0
        self.weight = nn.Parameter(conv.weight.new_full(shape, start))
        self.bias = nn.Parameter(conv.weight.new_full((1,), self.initial_bias))

    def params(self) -> GateParams:
        """The gate as the operators take it.

        Without gradients, the same object as the last time if nothing was
        written since (past torch's version counters: until
        :meth:`refresh`).
        """
        if torch.is_grad_enabled() or self.weight.is_inference():
            return self._scaled()
        key = (
            self.weight._version,
            address_of(self.weight),
            address_of(self.bias),
            self.block_size,
            self.sees,
            self.sensitivity,
        )
        if self._kept is None or self._kept[0] != key:
            # The weight is kept, so that no other can get its address.
            self._kept = key, self.weight.detach(), self._scaled()
            if self.weight.is_cpu:
                self._fingerprint = fingerprint(self.weight)
        return self._kept[2]

    def refresh(self) -> None:
        """See :meth:`Gate.refresh`."""
        weight = self.weight
        # Values elsewhere are not read: that would wait for the device.
        if not weight.is_cpu or self._fingerprint != fingerprint(weight):
            self._kept = None

    def _scaled(self) -> GateParams:
        return GateParams(
            self.kind,
            0.0,
            self.block_size,
            sees=self.sees,
            weight=self.weight * (self.sensitivity / self.weight.numel()),
            bias=self.bias,
        )

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Overhead: a convolution with one output channel."""
        positions = output_shape[0] * output_shape[2:].numel()
        return positions * input_shape[1] * kernel

    def draw(
        self,
        residual: Tensor,
        frame: Tensor,
        scale: Tensor,
        geometry: ConvGeometry,
        kernel_size: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Draw decisions; see :meth:`Gate.draw`.

        Blocks share the largest of their scores: the mask of Eq. 8 pooled,
        with one draw per block.
        """
        logits = gate_logits(residual, frame, geometry, self.params())
        size, shape = self.block_size, logits.shape
        logits = logits.reshape(-1, 1, *shape[-2:])
        if size > 1:
            logits = F.max_pool2d(logits, size, ceil_mode=True)
        if self.weight.requires_grad:
            mask = sample_gate(logits, self.temperature)
        else:
            mask = (~(logits <= 0)).to(logits.dtype)
        both = torch.cat([mask, logits.sigmoid()], 1)
        if size > 1:
            both = both.repeat_interleave(size, -2)
            both = both.repeat_interleave(size, -1)
            both = both[..., : shape[-2], : shape[-1]]
        mask, probability = both.unbind(1)
        return mask.reshape(shape), probability.reshape(shape)

    def extra_repr(self) -> str:
        return (
            f'temperature={self.temperature:.3g}, '
            f'block_size={self.block_size}, sees={self.sees!r}'
        )
