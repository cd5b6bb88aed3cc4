"""The conversion of convolutions to dynamic ones (VA-RED^2)."""

from torch import nn

from mmskip.core import ConvConversion, refuse_unknown
from mmskip.core.convert import ROI_REASON
from mmskip.registry import MODELS

from .cheap_maps import TIME_MAPS
from .gate import SoftModulationGate
from .layer import DYNAMIC_CLASSES, refuse_options

SEARCH_SPACES = (2, 3)
KERNELS = ('spatial', 'all')


@MODELS.register_module()
class DynamicConversion(ConvConversion):
    """Converts 2-D and 3-D convolutions to dynamic convolutions.

    B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S.
    thesis, MIT, 2023. As it does "mainly to 2D convolutions in R(2+1)D", by
    default those with a spatial kernel are converted: in pointwise, temporal
    and depthwise ones the cheap maps are a large part of what they save.
    Convolutions of images have the channel axis only.

    Args:
        search_space: Options per axis, 2 (all, half) or 3 (and a quarter).
        time: True makes the temporal axis dynamic (Tables 4.11, 4.12).
        channels: True makes the channel axis dynamic.
        kernels: ``spatial`` as above, or ``all``: pointwise, temporal and
            depthwise convolutions, too.
        hidden_channels: D_h of the gates.
        start: Initial weight of all options but the full one, in sum.
        leak: Share of a gradient that reopens a closed option.
        time_map: ``neighbours`` rebuilds a frame from the computed ones
            around it, ``scale`` from the one before it.
        roi_heads: True also converts layers inside RoI heads.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        search_space: int = 2,
        time: bool = True,
        channels: bool = True,
        kernels: str = 'spatial',
        hidden_channels: int = 16,
        start: float = 0.1,
        leak: float = 0.1,
        time_map: str = 'neighbours',
        roi_heads: bool = False,
    ) -> None:
        for name, value, known in (
            ('search_space', search_space, SEARCH_SPACES),
            ('kernels', kernels, KERNELS),
            ('time_map', time_map, TIME_MAPS),
        ):
            if value not in known:
                raise ValueError(
                    f'expected {name} to be one of {known}, got {value!r}'
                )
        if not (time or channels):
            raise ValueError(
                'expected time or channels to be dynamic, got neither'
            )
        self.search_space = search_space
        self.time = time
        self.channels = channels
        self.kernels = kernels
        self.gate = dict(
            type='SoftModulationGate',
            hidden_channels=hidden_channels,
            start=start,
            leak=leak,
        )
        SoftModulationGate(hidden_channels, start, leak)  # checks them
        self.time_map = time_map
        self.roi_heads = roi_heads
        self._dynamic_class = {
            kind.dense_class: kind for kind in DYNAMIC_CLASSES
        }

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays as it is, None if it can be converted."""
        reason = refuse_unknown(module, self._dynamic_class)
        if reason is not None:
            return reason
        if self.kernels == 'spatial':
            if max(module.kernel_size[-2:]) == 1:
                return "no spatial kernel (kernels='all' converts it)"
            if module.weight.shape[1] == 1 and module.groups > 1:
                return "depthwise (kernels='all' converts it)"
        if not self.roi_heads and 'roi_head' in name.split('.'):
            return ROI_REASON
        return refuse_options(module, *self._options(module))

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; parameters, hooks and name stay."""
        module.__class__ = self._dynamic_class[type(module)]
        module.set_dynamic(*self._options(module), self.gate, self.time_map)
        # Gate and maps follow the layer they belong to.
        for added in (module.gate, module.cheap):
            added.to(module.weight.device).train(module.training)

    def _options(self, module: nn.Module) -> tuple[int, int]:
        """Get S_t and S_c of a layer; 1 for an axis that is not dynamic."""
        clips = module.weight.dim() == 5
        return (
            self.search_space if self.time and clips else 1,
            self.search_space if self.channels else 1,
        )
