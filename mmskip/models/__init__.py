"""Whole models that the hosts lack."""

from .keyframe import KeyframeMixin, build_keyframe_model, use_keyframes

__all__ = ['KeyframeMixin', 'build_keyframe_model', 'use_keyframes']
