"""A Skip-Convolution at one call site, prepared for the C++ library.

The library keeps the kernel, the geometry and the gate of a layer in one
object (:class:`LayerCache`), and the memory of a call site with it in another
(:class:`NativeCall`), so that a frame is one call with one argument.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmskip.native import ConvGeometry

from .gate_mask import GateParams, signal_norms

MEMORY_RULES = ('previous', 'accumulated')


class SkipParams(NamedTuple):
    """Bundles all that a backend needs to know of a layer.

    Attributes:
        weight: Kernel (C_out, C_in / groups, ...).
        bias: (C_out,) or None; enters in reference frames only.
        geometry: Stride, padding, dilation, groups.
        gate: The gate's parameters.
        rule: ``previous`` (the paper): the residual is taken against the
            previous input, a skipped change is forgotten.
            ``accumulated`` (ours): against the last transmitted input, so
            the output is exactly the convolution of that input and slow
            change adds up until it fires.
        activation: Activation of the output that is returned, see
            :func:`mmskip.native.activate_`; what is remembered, and what gates
            are given, is the output before it.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: ConvGeometry
    gate: GateParams
    rule: str = 'previous'
    activation: str | None = None


def make_layer(params: SkipParams, norms: Tensor | None) -> torch.ScriptObject:
    """Make a layer of the library, which keeps the kernel in its own order.

    Args:
        params: Parameters of a layer that :func:`.library.refusal` does not
            refuse.
        norms: Of a relative gate, what :func:`.gate_mask.signal_norms`
            returned.
    """
    classes = torch.classes.mmskip
    weight, bias, geometry, gate, rule, activation = params
    return classes.Layer(
        weight,
        bias,
        classes.ConvGeometry(
            geometry.stride,
            [amount for pair in geometry.padding for amount in pair],
            geometry.dilation,
            geometry.groups,
            geometry.transposed,
        ),
        classes.Gate(
            gate.threshold,
            gate.block_size,
            gate.order,
            norms,
            gate.weight,
            gate.bias,
            gate.gate_input,
        ),
        rule == 'accumulated',
        activation,
    )


class LayerCache:
    """Keeps the native layer of a Skip-Convolution, and notices its changes.

    The layer is made anew when a setting or the kernel changes. Writes to
    the kernel past torch's version counters (``weight.data.copy_``) are
    noticed where all values are compared, in reference frames. Padding that
    depends on the size of the input makes a layer for each size.

    Args:
        forced: Bool (H_out, W_out); outputs fire nowhere else.

    Attributes:
        norms: What :func:`.gate_mask.signal_norms` returned for the layer
            that was given last, if its gate is relative.
    """

    def __init__(self, forced: Tensor | None = None) -> None:
        self.norms: Tensor | None = None
        self._forced = forced
        self._layers: dict[ConvGeometry, torch.ScriptObject] = {}
        self._params: SkipParams | None = None
        self._mark: tuple = ()
        self._fingerprint = 0

    def get(
        self, params: SkipParams, check: bool = False
    ) -> torch.ScriptObject:
        """Give the native layer of these parameters.

        Args:
            params: Parameters of the layer.
            check: True compares all values of the kernel, too.
        """
        weight = params.weight
        if not self._holds(params) or (
            check and self._fingerprint != _print_of(weight)
        ):
            self._layers.clear()
            # Kept, so that no other tensor can get its address.
            self._params = params._replace(weight=weight.detach())
            self._mark = _mark_of(weight)
            self._fingerprint = _print_of(weight)
            self.norms = None
            if params.gate.relative:
                self.norms = signal_norms(params.gate, weight, params.geometry)
        if params.geometry not in self._layers:
            layer = make_layer(params, self.norms)
            if self._forced is not None:
                layer.force(self._forced)
            self._layers[params.geometry] = layer
        return self._layers[params.geometry]

    def _holds(self, params: SkipParams) -> bool:
        known = self._params
        return (
            known is not None
            # An inference tensor has no version: what it holds is read anew.
            and not params.weight.is_inference()
            and self._mark == _mark_of(params.weight)
            and params.bias is known.bias
            and params.gate is known.gate
            and params[4:] == known[4:]
        )


class NativeCall:
    """Runs one call site in the library, in all but reference frames.

    Preparing it once saves converting the settings of a layer in each frame.

    It is right as long as :meth:`holds` and :meth:`fits` say so.

    Args:
        params: Parameters of the layer.
        layer: The native layer that :class:`LayerCache` keeps of it.
        memory: Memory of the call site: input and output, channels last,
            the gate's factor and, of a relative gate, how much was
            computed. It is updated in place.

    Attributes:
        params: Parameters of the layer.
        layer: The native layer.
        memory: The tensors among the memory.
        site: Layer and memory as the library takes them.
    """

    __slots__ = ('_mark', '_shape', 'layer', 'memory', 'params', 'site')

    def __init__(
        self,
        params: SkipParams,
        layer: torch.ScriptObject,
        memory: Sequence[Tensor | None],
    ) -> None:
        self.params = params
        self.layer = layer
        self.memory = [tensor for tensor in memory[:4] if tensor is not None]
        self.site = torch.classes.mmskip.CallSite(layer, self.memory)
        self._shape = self.memory[0].shape
        weight = params.weight
        self._mark = () if weight.is_inference() else _mark_of(weight)

    def release(self) -> None:
        """Let the memory go; the call cannot run, but tells its settings."""
        self.memory = []
        self.site = None

    def fits(self, x: Tensor) -> bool:
        """Tell if ``x`` may be a next frame."""
        return x.shape == self._shape and x.dtype is torch.float32 and x.is_cpu

    def holds(
        self,
        weight: Tensor,
        bias: Tensor | None,
        gate: GateParams,
        rule: str,
        activation: str | None,
    ) -> bool:
        """Tell if the settings are those of the call."""
        known = self.params
        return (
            gate is known.gate
            and bias is known.bias
            and rule == known.rule
            and activation == known.activation
            and self._mark == _mark_of(weight)
        )

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a frame that is no reference frame.

        Args:
            x: Input (N, C_in, H, W), any layout.

        Returns:
            Output (N, C_out, H_out, W_out), a copy that is laid out as
            torch's convolution would; bool mask (N, 1, H_out, W_out).
        """
        return self.site.run(x)


def _mark_of(weight: Tensor) -> tuple:
    version = 0 if weight.is_inference() else weight._version
    return version, weight.data_ptr(), weight.shape


def _print_of(weight: Tensor) -> int:
    return torch.ops.mmskip.fingerprint(weight.detach(), 0)
