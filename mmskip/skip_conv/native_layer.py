"""A Skip-Convolution at one call site, prepared for the C++ library."""

import torch
from torch import Tensor

from mmskip.native import ConvGeometry
from mmskip.native import library as native

from .gate_mask import GateParams, signal_norms


class PackedWeight:
    """A kernel in the order in which the native operator reads it.

    It is packed anew when the kernel is written to or replaced. What writes
    past torch's version counters (``weight.data.copy_``) is noticed where
    all values are compared, in reference frames.
    """

    def __init__(self) -> None:
        self._source: Tensor | None = None
        self._version = 0
        self._fingerprint = 0
        self._packed: Tensor | None = None

    def get(self, weight: Tensor, groups: int, check: bool = False) -> Tensor:
        """The packed kernel.

        Args:
            weight: Kernel (C_out, C_in / groups, h, w).
            groups: Of the convolution.
            check: Compare its values, too, all of them.
        """
        print_of = torch.ops.mmskip.fingerprint
        # An inference tensor has no version: what it holds is read anew.
        version = -1 if weight.is_inference() else weight._version
        if (
            self._source is None
            or version < 0
            or self._version != version
            or self._source.data_ptr() != weight.data_ptr()
            or self._source.shape != weight.shape
            or (check and self._fingerprint != print_of(weight.detach(), 0))
        ):
            # Kept, so that no other tensor can get its address.
            self._source = weight.detach()
            self._version = version
            self._fingerprint = print_of(self._source, 0)
            self._packed = torch.ops.mmskip.pack_weight(self._source, groups)
        return self._packed


class NativeCall:
    """A call site with all that the native operator asks for but the frame.

    It is right as long as :meth:`holds` and :meth:`fits` say so.

    Args:
        shape: Of the input (N, C_in, H, W).
        memory: What the call site remembers: input and output, channels
            last, updated in place, and the gate's factor.
        weight: Kernel (C_out, C_in / groups, h, w).
        packed: The same as :class:`PackedWeight` keeps it.
        bias: (C_out,) or None.
        geometry: Of the layer.
        gate: The gate's parameters.
        rule: Which of the memories it is.
        activation: Of what is returned, see :func:`mmskip.native.activate_`.
    """

    __slots__ = (
        '_activation',
        '_bias',
        '_gate',
        '_pointer',
        '_rule',
        '_source',
        '_version',
        'arguments',
        'shape',
    )

    def __init__(
        self,
        shape: torch.Size,
        memory: tuple[Tensor, Tensor, Tensor, Tensor | None],
        weight: Tensor,
        packed: Tensor,
        bias: Tensor | None,
        geometry: ConvGeometry,
        gate: GateParams,
        rule: str,
        activation: str | None,
    ) -> None:
        self.shape = shape
        self._bias = bias
        self._rule = rule
        self._activation = activation
        self._gate = gate
        self._version = -1 if weight.is_inference() else weight._version
        # Kept, so that no other tensor can get its address.
        self._source = weight.detach()
        self._pointer = weight.data_ptr()
        self.arguments = (
            *memory[:4],
            None if memory[3] is None else signal_norms(gate, weight),
            packed,
            bias,
            gate.region,
            tuple(weight.shape[2:]),
            geometry.stride,
            (*geometry.padding[0], *geometry.padding[1]),
            geometry.dilation,
            geometry.groups,
            # A tensor, so that graphs take any threshold.
            torch.tensor(gate.threshold, dtype=torch.float32),
            gate.block_size,
            gate.order,
            rule == 'accumulated',
            gate.weight,
            gate.bias,
            gate.sees,
            activation,
        )

    @property
    def memory(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The memory of the call site: input, output, scale, count."""
        return self.arguments[:4]

    @property
    def norms(self) -> Tensor | None:
        """The units of a relative gate's level, by channel."""
        return self.arguments[4]

    @property
    def packed(self) -> Tensor:
        """The packed kernel."""
        return self.arguments[5]

    def fits(self, x: Tensor) -> bool:
        """Whether ``x`` may be a next frame."""
        return x.shape == self.shape and x.dtype is torch.float32 and x.is_cpu

    def holds(
        self,
        weight: Tensor,
        bias: Tensor | None,
        gate: GateParams,
        rule: str,
        activation: str | None,
    ) -> bool:
        """Whether the settings are those of the call."""
        return (
            gate is self._gate
            and bias is self._bias
            and rule == self._rule
            and activation == self._activation
            and self._version >= 0
            and weight.data_ptr() == self._pointer
            and weight._version == self._version
        )

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a frame that is no reference frame.

        Args:
            x: Input (N, C_in, H, W), any layout.

        Returns:
            Output (N, C_out, H_out, W_out), a copy; bool mask
            (N, 1, H_out, W_out).
        """
        return native.skip_frame(x, *self.arguments)
