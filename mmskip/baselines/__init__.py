"""Baselines that users run instead: whole frames skipped, features moved."""

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
