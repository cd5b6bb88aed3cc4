"""Gates decide from a residual which outputs are worth computing.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), section 3.2.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmskip.ops import ConvGeometry, Folding, GateParams, gate_macs, gate_mask
from mmskip.registry import MODELS, build_own

BLOCK_SIZES = (1, 2, 4, 8)


class Gate(nn.Module):
    """Decides which outputs of a convolution are worth computing.

    Args:
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.

    Raises:
        ValueError: Another block size.
    """

    kind: str

    def __init__(self, block_size: int = 1) -> None:
        super().__init__()
        if block_size not in BLOCK_SIZES:
            raise ValueError(
                f'expected a block_size of {BLOCK_SIZES}, got {block_size!r}'
            )
        self.block_size = block_size

    def attach(self, conv: nn.Module) -> None:
        """Make what the gate needs for a convolution of this shape."""

    def params(self) -> GateParams:
        """The gate as the operators take it."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Notice what was written past torch's version counters."""

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Overhead of gating one batch, in MACs.

        Args:
            input_shape: (N, C_in, ...).
            output_shape: (N, C_out, ...).
            kernel: Number of kernel positions.
        """
        raise NotImplementedError

    def draw(
        self,
        residual: Tensor,
        frame: Tensor,
        scale: Tensor,
        geometry: ConvGeometry,
        kernel_size: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Decide in training.

        Args:
            residual: (N, C_in, ...).
            frame: The frame it leads to, (N, C_in, ...).
            scale: What a norm gate multiplies its norm by.
            geometry: Of the layer.
            kernel_size: Of the layer.

        Returns:
            The mask, 0 or 1, (N, 1, ...) of the output's size, and the
            probability of a 1; gradients reach learned gates through both.
        """
        raise NotImplementedError


def as_gate(gate: dict | Gate) -> Gate:
    """The gate that an option asks for.

    Args:
        gate: Its config, or a gate.

    Raises:
        ValueError: It is something else.
    """
    built = build_own(gate) if isinstance(gate, dict) else gate
    if not isinstance(built, Gate):
        raise ValueError(
            f'expected gate to be a gate or its config, got {gate!r}'
        )
    return built


class NormGate(Gate):
    """A gate without parameters: fires where the residual is large.

    Args:
        threshold: The margin epsilon, shared by all layers of a model. The
            gate fires iff its statistic is larger. Below 0 it is always
            open.
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.
        order: Order p of the norm, 1 (the paper) or 2.
        relative: Take the threshold as a share of what the picture makes
            of the layer's own signal: of how much neighbours in a row
            differ, see :func:`mmskip.ops.relative_scale`. So one value
            suits all layers and models, by day and by night, where nearly
            all of a signal is an offset that says nothing. It is taken in
            the reference frame, and anew whenever half as many outputs were
            computed as a frame has: a first frame that is black, white or
            empty is forgotten by then, and so is the day at night. Ours;
            the paper's thresholds are absolute.

    Attributes:
        folded: The normalisation that was folded into the layer, which
            thresholds ignore.

    Raises:
        ValueError: An option is not one of the above.
    """

    def __init__(
        self,
        threshold: float,
        block_size: int = 1,
        order: int = 1,
        relative: bool = False,
    ) -> None:
        super().__init__(block_size)
        if order not in (1, 2):
            raise ValueError(f'expected order 1 or 2, got {order!r}')
        self.threshold = float(threshold)
        self.order = order
        self.relative = relative
        self.folded: Folding | None = None
        self._params: GateParams | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__['_params'] = None

    def params(self) -> GateParams:
        """The gate as the operators take it.

        The same object as the last time if nothing was set since.
        """
        if self._params is None:
            self.__dict__['_params'] = GateParams(
                self.kind,
                self.threshold,
                self.block_size,
                self.order,
                self.relative,
                folded=self.folded,
            )
        return self._params

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Overhead of gating one batch; see :func:`mmskip.ops.gate_macs`."""
        return gate_macs(input_shape, output_shape, kernel)

    def draw(
        self,
        residual: Tensor,
        frame: Tensor,
        scale: Tensor,
        geometry: ConvGeometry,
        kernel_size: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """The same decision as in inference: nothing to learn."""
        mask = gate_mask(residual, scale, kernel_size, geometry, self.params())
        mask = mask.to(residual.dtype)
        return mask, mask

    def extra_repr(self) -> str:
        return (
            f'threshold={self.threshold}, block_size={self.block_size}, '
            f'order={self.order}, relative={self.relative}'
        )


@MODELS.register_module()
class InputNormGate(NormGate):
    """Fires on the mean absolute residual in the kernel's support (Eq. 5).

    The threshold is in units of the layer's input. The paper's norm is a
    sum over the support; the mean lets one threshold suit all layers.
    """

    kind = 'input_norm'


@MODELS.register_module()
class OutputNormGate(NormGate):
    """Fires on a bound of the change of the output (Eq. 7).

    The norm of the residual times the norm of the kernel, normalised to
    estimate the mean absolute change of one output channel. The threshold
    is in units of the layer's output before its normalisation.
    """

    kind = 'output_norm'
