"""mmengine metrics, and the comparison of what they report."""

from .comparison import accuracy_at, compare_at, mean_over_seeds
from .compute_cost import ComputeCost

__all__ = ['ComputeCost', 'accuracy_at', 'compare_at', 'mean_over_seeds']
