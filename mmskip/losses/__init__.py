"""Efficiency losses: read what layers cost, return a scalar."""

from .dynamic_cost_loss import DynamicCostLoss
from .gate_cost_loss import GateCostLoss
from .l0_loss import L0Loss
from .policy_guidance_loss import (
    PolicyGuidanceLoss,
    inner_classification_loss,
    self_supervision_loss,
)
from .stop_cost_loss import EfficiencyLoss

__all__ = [
    'DynamicCostLoss',
    'EfficiencyLoss',
    'GateCostLoss',
    'L0Loss',
    'PolicyGuidanceLoss',
    'inner_classification_loss',
    'self_supervision_loss',
]
