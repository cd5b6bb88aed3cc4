"""Datasets of videos and clips, and samplers that keep frames in order."""

import warnings
from importlib.util import find_spec

from .clip_draws import AllWindows, ClipSampler, RandomStart
from .clips import ClipDataset, clip_collate
from .videos import VideoOrderSampler

__all__ = [
    'AllWindows',
    'ClipDataset',
    'ClipSampler',
    'RandomStart',
    'VideoOrderSampler',
    'clip_collate',
]

try:
    from .ua_detrac import UADETRACDataset

    __all__ += ['UADETRACDataset']
except (ImportError, AssertionError) as error:
    # mmdet refuses by an AssertionError to work with other releases of mmcv.
    if find_spec('mmdet') is not None:
        warnings.warn(
            f'mmdet is installed but cannot be imported ({error}), so '
            'UADETRACDataset is not available',
            stacklevel=2,
        )

try:
    from .action_videos import ActionFrameDataset, ActionVideoDataset

    __all__ += ['ActionFrameDataset', 'ActionVideoDataset']

    from .jhmdb import JHMDBDataset, LoadActorBoxes, SampleKeyFrameClip

    __all__ += ['JHMDBDataset', 'LoadActorBoxes', 'SampleKeyFrameClip']
except (ImportError, AssertionError) as error:
    if find_spec('mmaction') is not None:
        warnings.warn(
            f'mmaction2 is installed but cannot be imported ({error}), so '
            'ActionVideoDataset, ActionFrameDataset and JHMDBDataset are not '
            'available',
            stacklevel=2,
        )

try:
    from .jhmdb_pose import JHMDBPoseDataset

    __all__ += ['JHMDBPoseDataset']
except (ImportError, AssertionError) as error:
    if find_spec('mmpose') is not None:
        warnings.warn(
            f'mmpose is installed but cannot be imported ({error}), so '
            'JHMDBPoseDataset is not available',
            stacklevel=2,
        )
