"""mmengine metrics."""

from .action_accuracy import ActionAccuracy
from .average_precision import (
    average_precision,
    interpolated_average_precision,
)
from .compute_cost import ComputeCost
from .video_cost import VideoCost

__all__ = [
    'ActionAccuracy',
    'ComputeCost',
    'VideoCost',
    'average_precision',
    'interpolated_average_precision',
]
