"""Modules with the signature of the torch layer they replace; gates."""

from .cheap_maps import TIME_MAPS, CheapMaps
from .dynamic_conv import (
    DynamicConv2d,
    DynamicConv3d,
    DynamicConvMixin,
)
from .dynamic_cost import DynamicCost
from .dynamic_options import Usage, refuse_options
from .factorized_conv import (
    SVD_METHODS,
    FactorizedConv,
    factorize_conv,
    macs_per_rank,
    split_of,
)
from .gate_cost import GateCost
from .gates import (
    Gate,
    InputNormGate,
    NormGate,
    OutputNormGate,
    as_gate,
)
from .gumbel_gate import GumbelGate
from .hard_concrete_gate import HardConcreteGate
from .judges import Judges, Recollection, Verdict
from .kernel_layout import lay_kernels_last
from .l0_conv import L0Conv2d, L0Conv3d, L0ConvMixin
from .planar import (
    PlanarConv3d,
    PlanarMaxPool3d,
    is_planar_conv,
    is_planar_pool,
)
from .self_counting import (
    Converted,
    CountedWhole,
    SelfCounting,
    dense_macs,
    follow_mode,
)
from .skip_conv import SkipConv2d, SkipConv3d, SkipConvMixin
from .soft_modulation_gate import OptionWeights, SoftModulationGate
from .stop_policy import PolicyStep, StopOrForwardHead

SKIP_CLASSES = (SkipConv2d, SkipConv3d)
DYNAMIC_CLASSES = (DynamicConv2d, DynamicConv3d)
L0_CLASSES = (L0Conv2d, L0Conv3d)
try:
    from .dynamic_conv_mmcv import DynamicMMCVConv2d, DynamicMMCVConv3d
    from .l0_conv_mmcv import L0MMCVConv2d, L0MMCVConv3d
    from .skip_conv_mmcv import (
        SkipConv2dAdaptivePadding,
        SkipMMCVConv2d,
        SkipMMCVConv3d,
    )
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    SKIP_CLASSES += (
        SkipMMCVConv2d,
        SkipMMCVConv3d,
        SkipConv2dAdaptivePadding,
    )
    DYNAMIC_CLASSES += (DynamicMMCVConv2d, DynamicMMCVConv3d)
    L0_CLASSES += (L0MMCVConv2d, L0MMCVConv3d)

__all__ = [
    'DYNAMIC_CLASSES',
    'L0_CLASSES',
    'SKIP_CLASSES',
    'SVD_METHODS',
    'TIME_MAPS',
    'CheapMaps',
    'Converted',
    'CountedWhole',
    'DynamicConv2d',
    'DynamicConv3d',
    'DynamicConvMixin',
    'DynamicCost',
    'FactorizedConv',
    'Gate',
    'GateCost',
    'GumbelGate',
    'HardConcreteGate',
    'InputNormGate',
    'Judges',
    'L0Conv2d',
    'L0Conv3d',
    'L0ConvMixin',
    'NormGate',
    'OptionWeights',
    'OutputNormGate',
    'PlanarConv3d',
    'PlanarMaxPool3d',
    'PolicyStep',
    'Recollection',
    'SelfCounting',
    'SkipConv2d',
    'SkipConv3d',
    'SkipConvMixin',
    'SoftModulationGate',
    'StopOrForwardHead',
    'Usage',
    'Verdict',
    'as_gate',
    'dense_macs',
    'factorize_conv',
    'follow_mode',
    'is_planar_conv',
    'is_planar_pool',
    'lay_kernels_last',
    'macs_per_rank',
    'refuse_options',
    'split_of',
]
