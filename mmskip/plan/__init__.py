"""A converted model as one plan for inference: trace, lower, run."""

from .accelerate import (
    PRECISIONS,
    AccelerationReport,
    accelerate,
    propagate_changes,
)
from .dataflow import find_readers
from .fold import (
    FoldReport,
    PackedConv2d,
    PlanarConv3d,
    PlanarMaxPool3d,
    fold,
    fold_activations,
    fold_batch_norms,
    is_planar_conv,
    is_planar_pool,
)

__all__ = [
    'PRECISIONS',
    'AccelerationReport',
    'FoldReport',
    'PackedConv2d',
    'PlanarConv3d',
    'PlanarMaxPool3d',
    'accelerate',
    'find_readers',
    'fold',
    'fold_activations',
    'fold_batch_norms',
    'is_planar_conv',
    'is_planar_pool',
    'propagate_changes',
]
