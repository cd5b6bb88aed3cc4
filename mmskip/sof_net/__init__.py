"""SoF-Net, whose frames stop at a stage or go forward (for mmaction2)."""

import warnings
from importlib.util import find_spec

from .decisions import EarlyExit, EveryKthFrame, RandomFrames
from .policy import (
    EfficiencyLoss,
    PolicyDecision,
    PolicyGuidanceLoss,
    PolicyStep,
    RecurrentState,
    StackedPolicies,
    StopOrForwardHead,
    inner_classification_loss,
    self_supervision_loss,
)

__all__ = [
    'EarlyExit',
    'EfficiencyLoss',
    'EveryKthFrame',
    'PolicyDecision',
    'PolicyGuidanceLoss',
    'PolicyStep',
    'RandomFrames',
    'RecurrentState',
    'StackedPolicies',
    'StopOrForwardHead',
    'inner_classification_loss',
    'self_supervision_loss',
]

try:
    from .recognizer import SoFRecognizer, SoFStream, StreamPrediction
    from .stages import list_stages

    __all__ += [
        'SoFRecognizer',
        'SoFStream',
        'StreamPrediction',
        'list_stages',
    ]
except (ImportError, AssertionError) as error:
    # mmaction2 refuses by an AssertionError to work with other mmcv's.
    if find_spec('mmaction') is not None:
        warnings.warn(
            f'mmaction is installed but cannot be imported ({error}), so '
            'SoFRecognizer is not available',
            stacklevel=2,
        )
