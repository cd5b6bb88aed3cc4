"""A converted model as one plan for inference: trace, lower, run."""

from .dataflow import find_readers
from .fold import (
    FoldReport,
    PlanarConv3d,
    PlanarMaxPool3d,
    fold,
    fold_activations,
    fold_batch_norms,
    is_planar_conv,
    is_planar_pool,
)
from .propagate import propagate_changes

__all__ = [
    'FoldReport',
    'PlanarConv3d',
    'PlanarMaxPool3d',
    'find_readers',
    'fold',
    'fold_activations',
    'fold_batch_norms',
    'is_planar_conv',
    'is_planar_pool',
    'propagate_changes',
]
