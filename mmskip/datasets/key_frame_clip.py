"""Choose the frames around a key frame."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmskip.registry import TRANSFORMS

KEYS = ('last', 'middle')


@TRANSFORMS.register_module()
class SampleKeyFrameClip(BaseTransform):
    """Choose the T frames of a clip that a key frame belongs to.

    Where the video has no such frame, its first or last one is repeated, so
    that videos may be shorter than clips.

    Required keys: ``frame_id`` (of the key frame, from 0), ``total_frames``,
    ``start_index``. Added: ``frame_inds``, ``clip_len``, ``frame_interval``,
    ``num_clips``.

    Args:
        clip_len: Frames T of a clip.
        frame_interval: Distance of its frames. Defaults to 1.
        key: ``last``: the clip ends at the key frame, nothing of the future
            is seen, as in YOWO. ``middle``: the key frame is frame T // 2.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, clip_len: int = 16, frame_interval: int = 1, key: str = 'last'
    ) -> None:
        if key not in KEYS:
            raise ValueError(f'expected key to be one of {KEYS}, got {key!r}')
        if clip_len < 1 or frame_interval < 1:
            raise ValueError(
                'expected clip_len and frame_interval from 1, got '
                f'{clip_len} and {frame_interval}'
            )
        self.clip_len = clip_len
        self.frame_interval = frame_interval
        self.key = key

    def transform(self, results: dict) -> dict:
        at = self.clip_len - 1 if self.key == 'last' else self.clip_len // 2
        steps = (np.arange(self.clip_len) - at) * self.frame_interval
        frames = np.clip(
            results['frame_id'] + steps, 0, results['total_frames'] - 1
        )
        results['frame_inds'] = frames + results['start_index']
        results['clip_len'] = self.clip_len
        results['frame_interval'] = self.frame_interval
        results['num_clips'] = 1
        return results
