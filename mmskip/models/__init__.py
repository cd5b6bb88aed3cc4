"""Whole models that the hosts lack."""

import warnings
from importlib.util import find_spec

from .keyframe import KeyframeMixin, build_keyframe_model, use_keyframes

__all__ = ['KeyframeMixin', 'build_keyframe_model', 'use_keyframes']

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
