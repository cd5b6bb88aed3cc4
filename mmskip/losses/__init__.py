"""Efficiency losses: read what layers cost, return a scalar."""

from .gate_cost_loss import GateCostLoss

__all__ = ['GateCostLoss']
