"""Whole models that the hosts lack."""

import warnings
from importlib.util import find_spec

from .feature_flow import (
    FeatureFlowMixin,
    build_feature_flow_model,
    use_feature_flow,
)
from .keyframe import KeyframeMixin, build_keyframe_model, use_keyframes
from .sof import EveryKthFrame, RandomFrames

__all__ = [
    'EveryKthFrame',
    'FeatureFlowMixin',
    'KeyframeMixin',
    'RandomFrames',
    'build_feature_flow_model',
    'build_keyframe_model',
    'use_feature_flow',
    'use_keyframes',
]


def _tell(host: str, missing: str, error: Exception) -> None:
    """Warn of a host that is there and broken, not of one that is not."""
    if find_spec(host) is not None:
        warnings.warn(
            f'{host} is installed but cannot be imported ({error}), so '
            f'{missing} is not available',
            stacklevel=3,
        )


try:
    from .efficientdet.bifpn import BiFPN

    __all__ += ['BiFPN']

    from .efficientdet.head import EfficientDetHead

    __all__ += ['EfficientDetHead']

    from .yowo.detector import YOWO
    from .yowo.fusion import ChannelFusion

    __all__ += ['YOWO', 'ChannelFusion']
except (ImportError, AssertionError) as error:
    # mmdet refuses by an AssertionError to work with other releases of mmcv.
    _tell('mmdet', 'EfficientDetHead or YOWO', error)

try:
    from .inception3d import I3DInceptionV2
    from .narrow_resnet import NarrowResNet
    from .r2plus1d import CorrNet, R2Plus1D
    from .sof.recognizer import SoFRecognizer
    from .x3d import X3DSwishInSE

    __all__ += [
        'CorrNet',
        'I3DInceptionV2',
        'NarrowResNet',
        'R2Plus1D',
        'SoFRecognizer',
        'X3DSwishInSE',
    ]
except (ImportError, AssertionError) as error:
    _tell('mmaction', 'SoFRecognizer and the models of clips', error)

try:
    from .action_roi_head import ActionRoIHead

    __all__ += ['ActionRoIHead']
except (ImportError, AssertionError) as error:
    if find_spec('mmdet') is not None:  # mmaction2 has it beside mmdet only
        _tell('mmaction', 'ActionRoIHead', error)

try:
    from .narrow_hrnet import NarrowHRNet

    __all__ += ['NarrowHRNet']
except (ImportError, AssertionError) as error:
    _tell('mmpose', 'NarrowHRNet', error)
