"""A converted model as one plan for inference: trace, lower, run."""

from .accelerate import (
    PRECISIONS,
    AccelerationReport,
    accelerate,
    propagate_changes,
)
from .dataflow import find_readers
from .dense import DenseReport
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
from .quantize import (
    FEW_FRAMES,
    Calibration,
    calibrate,
    calibration_of,
    observed_inputs,
)

__all__ = [
    'FEW_FRAMES',
    'PRECISIONS',
    'AccelerationReport',
    'Calibration',
    'DenseReport',
    'FoldReport',
    'PackedConv2d',
    'PlanarConv3d',
    'PlanarMaxPool3d',
    'accelerate',
    'calibrate',
    'calibration_of',
    'find_readers',
    'fold',
    'fold_activations',
    'fold_batch_norms',
    'is_planar_conv',
    'is_planar_pool',
    'observed_inputs',
    'propagate_changes',
]
