"""mmengine metrics, and the comparison of what they report."""

import warnings
from importlib.util import find_spec

from .action_accuracy import ActionAccuracy
from .average_precision import (
    average_precision,
    interpolated_average_precision,
)
from .clip_accuracy import ClipAccuracy
from .clip_cost import ClipCost
from .comparison import accuracy_at, compare_at, mean_over_seeds
from .compute_cost import ComputeCost
from .gate_shares import GateShares, GateWatch
from .output_error import OutputError, norm_gates
from .stages import STAGES, firing_by_stage, stage_of
from .task import DETECTION, POSE, RECOGNITION, TASKS, Task
from .threshold_search import (
    Budget,
    Choice,
    Cost,
    fit_scale,
    scaled,
    search_thresholds,
    share_at,
)
from .video_cost import VideoCost

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
    'GateShares',
    'GateWatch',
    'OutputError',
    'Task',
    'VideoCost',
    'accuracy_at',
    'average_precision',
    'compare_at',
    'firing_by_stage',
    'fit_scale',
    'interpolated_average_precision',
    'mean_over_seeds',
    'norm_gates',
    'scaled',
    'search_thresholds',
    'share_at',
    'stage_of',
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
