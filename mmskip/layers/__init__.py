"""Modules with the signature of the torch layer they replace; gates."""

from .gate_cost import GateCost
from .gates import Gate, InputNormGate, NormGate, OutputNormGate
from .gumbel_gate import GumbelGate
from .self_counting import CountedWhole, SelfCounting, dense_macs
from .skip_conv import SkipConv2d, SkipConv3d, SkipConvMixin
from .stop_policy import PolicyStep, StopOrForwardHead

SKIP_CLASSES = (SkipConv2d, SkipConv3d)
try:
    from .skip_conv_mmcv import (
        SkipConv2dAdaptivePadding,
        SkipMMCVConv2d,
        SkipMMCVConv3d,
    )
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    SKIP_CLASSES += (
        SkipMMCVConv2d,
        SkipMMCVConv3d,
        SkipConv2dAdaptivePadding,
    )

__all__ = [
    'SKIP_CLASSES',
    'CountedWhole',
    'Gate',
    'GateCost',
    'GumbelGate',
    'InputNormGate',
    'NormGate',
    'OutputNormGate',
    'PolicyStep',
    'SelfCounting',
    'SkipConv2d',
    'SkipConv3d',
    'SkipConvMixin',
    'StopOrForwardHead',
    'dense_macs',
]
