"""VA-RED^2: compute some channels and frames, and rebuild the others."""

from .cheap_maps import TIME_MAPS, CheapMaps
from .conversion import DynamicConversion
from .dynamic_conv import Mix, dynamic_conv, dynamic_macs
from .gate import OptionWeights, SoftModulationGate
from .layer import DynamicConv2d, DynamicConv3d, DynamicConvMixin, DynamicCost
from .loss import DynamicCostLoss
from .options import (
    CheapKernels,
    OptionTables,
    TableKey,
    Usage,
    option_sizes,
    option_tables,
    refuse_options,
)
from .routing import ChoiceRecord, LayerChoices, force_choices, record_choices

__all__ = [
    'TIME_MAPS',
    'CheapKernels',
    'CheapMaps',
    'ChoiceRecord',
    'DynamicConv2d',
    'DynamicConv3d',
    'DynamicConvMixin',
    'DynamicConversion',
    'DynamicCost',
    'DynamicCostLoss',
    'LayerChoices',
    'Mix',
    'OptionTables',
    'OptionWeights',
    'SoftModulationGate',
    'TableKey',
    'Usage',
    'dynamic_conv',
    'dynamic_macs',
    'force_choices',
    'option_sizes',
    'option_tables',
    'record_choices',
    'refuse_options',
]
