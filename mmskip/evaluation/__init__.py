"""mmengine metrics."""

from .compute_cost import ComputeCost

__all__ = ['ComputeCost']
