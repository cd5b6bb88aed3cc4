"""The conversion of convolutions to Skip-Convolutions (CVPR 2021)."""

from torch import nn

from mmskip.core import ConvConversion, refuse_unknown
from mmskip.core.convert import ROI_REASON
from mmskip.registry import MODELS, build_own

from .gates import as_gate
from .layer import SKIP_CLASSES
from .native_layer import MEMORY_RULES

COSTLY_REASON = (
    'depthwise: a learned gate would cost as much as the layer (a norm gate '
    'would not)'
)


@MODELS.register_module()
class SkipConversion(ConvConversion):
    """Converts 2-D and 3-D convolutions to Skip-Convolutions.

    Args:
        gate: Config of the gate; every layer gets its own.
        memory: ``previous`` (the paper) or ``accumulated``.
        roi_heads: Also convert layers inside RoI heads.
        motion: Config of an estimator of the camera's motion, e.g.
            ``dict(type='HomographyMotion')``. In streams, what a layer
            remembers then moves with the picture before the residual is
            taken; see :mod:`mmskip.skip_conv.motion`. In inference, frame by
            frame, on the torch reference. Interpolating motion needs
            ``accumulated`` memory, which computes what fires from the whole
            input: under ``previous`` what interpolation does to an output
            would stay in it.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        gate: dict,
        memory: str = 'previous',
        roi_heads: bool = False,
        motion: dict | None = None,
    ) -> None:
        if memory not in MEMORY_RULES:
            raise ValueError(
                f'expected memory to be one of {MEMORY_RULES}, got {memory!r}'
            )
        # A faulty gate is reported before a model changes.
        self.adds_parameters = as_gate(gate).kind == 'learned'
        self.gate = gate
        self.memory = memory
        self.roi_heads = roi_heads
        self.motion = None if motion is None else build_own(motion)
        interpolates = getattr(self.motion, 'interpolate', False)
        if interpolates and memory != 'accumulated':
            raise ValueError(
                "expected memory='accumulated' with motion that "
                f'interpolates, got {memory!r}, which computes changes of an '
                'output and never the output anew: the errors of '
                'interpolation would add up. Use whole steps '
                '(interpolate=False) or the other memory'
            )
        self._skip_class = {kind.dense_class: kind for kind in SKIP_CLASSES}

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays dense, None if it can be converted."""
        reason = refuse_unknown(module, self._skip_class)
        if reason is not None:
            return reason
        if self.motion is not None and isinstance(module, nn.Conv3d):
            return 'motion compensation is for 2-D convolutions'
        if self.adds_parameters and module.out_channels <= module.groups:
            return COSTLY_REASON
        if not self.roi_heads and 'roi_head' in name.split('.'):
            return ROI_REASON
        return None

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; parameters, hooks and name stay."""
        module.__class__ = self._skip_class[type(module)]
        module.set_skip(self.gate, self.memory)
        if self.motion is not None:
            module.motion = self.motion
        # Gates follow the layer they belong to.
        module.gate.to(module.weight.device).train(module.training)
