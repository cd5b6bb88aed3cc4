"""VA-RED^2, which computes some channels and frames and rebuilds the rest."""

from .dynamic_conv import Mix, dynamic_conv, dynamic_macs
from .gate import OptionWeights, SoftModulationGate, Usage
from .layer import (
    DynamicConv2d,
    DynamicConv3d,
    DynamicConversion,
    DynamicConvMixin,
    DynamicCost,
    refuse_options,
)
from .loss import DynamicCostLoss
from .mixing import (
    TIME_MAPS,
    CheapKernels,
    CheapMaps,
    MixFactors,
    MixKey,
    mix_factors,
    option_sizes,
)
from .routing import LayerRouting, RoutingRecord, force_routing, record_routing

__all__ = [
    'TIME_MAPS',
    'CheapKernels',
    'CheapMaps',
    'DynamicConv2d',
    'DynamicConv3d',
    'DynamicConvMixin',
    'DynamicConversion',
    'DynamicCost',
    'DynamicCostLoss',
    'LayerRouting',
    'Mix',
    'MixFactors',
    'MixKey',
    'OptionWeights',
    'RoutingRecord',
    'SoftModulationGate',
    'Usage',
    'dynamic_conv',
    'dynamic_macs',
    'force_routing',
    'mix_factors',
    'option_sizes',
    'record_routing',
    'refuse_options',
]
