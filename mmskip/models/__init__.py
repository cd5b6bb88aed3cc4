"""Whole models that the hosts lack."""

import warnings
from importlib.util import find_spec

from .feature_flow import (
    FeatureFlowMixin,
    build_feature_flow_model,
    use_feature_flow,
)
from .keyframe import KeyframeMixin, build_keyframe_model, use_keyframes

__all__ = [
    'FeatureFlowMixin',
    'KeyframeMixin',
    'build_feature_flow_model',
    'build_keyframe_model',
    'use_feature_flow',
    'use_keyframes',
]

try:
    from .efficientdet.bifpn import BiFPN

    __all__ += ['BiFPN']

    from .efficientdet.head import EfficientDetHead

    __all__ += ['EfficientDetHead']
except (ImportError, AssertionError) as error:
    # mmdet refuses by an AssertionError to work with other releases of mmcv.
    if find_spec('mmdet') is not None:
        warnings.warn(
            f'mmdet is installed but cannot be imported ({error}), so '
            'EfficientDetHead is not available',
            stacklevel=2,
        )
