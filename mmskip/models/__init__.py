"""Whole models that the hosts lack."""

import warnings
from importlib.util import find_spec

__all__ = []


def _tell(host: str, missing: str, error: Exception) -> None:
    """Warn of a host that is there and broken, not of one that is not."""
    if find_spec(host) is not None:
        warnings.warn(
            f'{host} is installed but cannot be imported ({error}), so '
            f'{missing} is not available',
            stacklevel=3,
        )


try:
    from .efficientdet import BiFPN, EfficientDetHead
    from .yowo import YOWO, ChannelFusion

    __all__ += ['YOWO', 'BiFPN', 'ChannelFusion', 'EfficientDetHead']
except (ImportError, AssertionError) as error:
    # mmdet refuses by an AssertionError to work with other releases of mmcv.
    _tell('mmdet', 'EfficientDetHead or YOWO', error)

try:
    from .clip_backbones import (
        CorrNet,
        I3DInceptionV2,
        NarrowResNet,
        R2Plus1D,
        X3DSwishInSE,
    )

    __all__ += [
        'CorrNet',
        'I3DInceptionV2',
        'NarrowResNet',
        'R2Plus1D',
        'X3DSwishInSE',
    ]
except (ImportError, AssertionError) as error:
    _tell('mmaction', 'the models of clips', error)

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
