"""mmengine metrics, and the comparison of what they report."""

from .comparison import accuracy_at, compare_at, mean_over_seeds
from .compute_cost import ComputeCost
from .gate_shares import GateShares, GateWatch
from .stages import STAGES, firing_by_stage, stage_of

__all__ = [
    'STAGES',
    'ComputeCost',
    'GateShares',
    'GateWatch',
    'accuracy_at',
    'compare_at',
    'firing_by_stage',
    'mean_over_seeds',
    'stage_of',
]
