"""mmengine metrics, and the comparison of what they report."""

import warnings
from importlib.util import find_spec

from .accuracy import (
    ActionAccuracy,
    ClipAccuracy,
    ClipCost,
    average_precision,
    interpolated_average_precision,
)
from .agreement import (
    DenseDetectorLoss,
    DistillLoss,
    FeatureLoss,
    LogitsLoss,
    loss_for,
)
from .comparison import (
    DETECTION,
    POSE,
    RECOGNITION,
    TASKS,
    Task,
    accuracy_at,
    compare_at,
    mean_over_seeds,
)
from .compute_cost import ComputeCost, VideoCost
from .gate_statistics import (
    STAGES,
    GateShares,
    GateWatch,
    firing_by_stage,
    stage_of,
)
from .thresholds import (
    Budget,
    Choice,
    Cost,
    OutputError,
    fit_scale,
    norm_gates,
    scaled,
    search_thresholds,
    share_at,
    tensors_of,
)

__all__ = [
    'DETECTION',
    'POSE',
    'RECOGNITION',
    'STAGES',
    'TASKS',
    'ActionAccuracy',
    'Budget',
    'Choice',
    'ClipAccuracy',
    'ClipCost',
    'ComputeCost',
    'Cost',
    'DenseDetectorLoss',
    'DistillLoss',
    'FeatureLoss',
    'GateShares',
    'GateWatch',
    'LogitsLoss',
    'OutputError',
    'Task',
    'VideoCost',
    'accuracy_at',
    'average_precision',
    'compare_at',
    'firing_by_stage',
    'fit_scale',
    'interpolated_average_precision',
    'loss_for',
    'mean_over_seeds',
    'norm_gates',
    'scaled',
    'search_thresholds',
    'share_at',
    'stage_of',
    'tensors_of',
]

try:
    from .frame_map import FrameMAP

    __all__ += ['FrameMAP']
except (ImportError, AssertionError) as error:
    # mmdet refuses by an AssertionError to work with other releases of mmcv.
    if find_spec('mmdet') is not None:
        warnings.warn(
            f'mmdet is installed but cannot be imported ({error}), so '
            'FrameMAP is not available',
            stacklevel=2,
        )
