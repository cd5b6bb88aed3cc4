"""Videos in a dataset of frames, and the positions of clips in them."""

import bisect
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .video_keys import describe_keys, find_video, look_up

PADDINGS = ('error', 'drop', 'repeat', 'loop')


def group_videos(
    dataset: Any, video_key: str | Sequence[str], frame_key: str
) -> dict[Any, list[int]]:
    """Collect the samples of every video, frames in order.

    Args:
        dataset: A dataset with ``get_data_info``.
        video_key: Key of a sample's video, or several keys that tell it
            together, see :func:`mmskip.datasets.video_keys.find_video`.
            Samples that have none of them are told apart by the folder of
            their image.
        frame_key: Key of a frame's position in its video. If a sample of a
            video has none, that video keeps the order of the dataset.

    Returns:
        Sample indices by video, in the order in which the dataset first
        shows the videos.

    Raises:
        ValueError: There is no way to tell the video of a sample, or a
            video has two samples at one position.
    """
    found: dict[Any, list[tuple[Any, int]]] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        video = find_video(info, video_key)
        if video is None:
            raise ValueError(
                'expected every sample to tell its video by '
                f'{describe_keys(video_key)}, or by the folder of img_path, '
                f'got sample {index} with the keys {sorted(info)}; set '
                'video_key'
            )
        found.setdefault(video, []).append((look_up(info, frame_key), index))
    keys = (video_key,) if isinstance(video_key, str) else tuple(video_key)
    return {
        video: _order(video, members, keys, frame_key)
        for video, members in found.items()
    }


def find_parts(dataset: Any) -> list[Any]:
    """The datasets of frames that a dataset consists of.

    Args:
        dataset: A dataset with ``prepare_data``, or several concatenated.

    Raises:
        TypeError: It is another one.
    """
    if hasattr(dataset, 'prepare_data'):
        return [dataset]
    if hasattr(dataset, 'cumulative_sizes'):
        return [part for d in dataset.datasets for part in find_parts(d)]
    raise TypeError(
        'expected a dataset with the method prepare_data(idx), as '
        'mmengine.dataset.BaseDataset has, or a ConcatDataset of such, got '
        f'{type(dataset).__name__}; put ClipDataset inside of a wrapper that '
        'repeats, and do without one that mixes samples'
    )


def prepare(dataset: Any, index: int) -> Any:
    """Run the pipeline on a sample, without replacing it by another.

    Args:
        dataset: A dataset with ``prepare_data``, or several concatenated.
        index: Index of the sample.
    """
    if hasattr(dataset, 'prepare_data'):
        return dataset.prepare_data(index)
    number = bisect.bisect_right(dataset.cumulative_sizes, index)
    before = dataset.cumulative_sizes[number - 1] if number else 0
    return prepare(dataset.datasets[number], index - before)


def count_starts(
    video: Any, length: int, span: int, padding: str, num_frames: int
) -> int:
    """Number of positions at which a clip can start.

    Args:
        video: Its id, for the message.
        length: Number of frames of the video.
        span: Number of frames from the first to the last of a clip.
        padding: What to do if the video is shorter, one of ``PADDINGS``.
        num_frames: Number of frames of a clip, for the message.

    Raises:
        ValueError: The video is too short and ``padding`` is 'error'.
    """
    if length >= span:
        return length - span + 1
    if padding == 'error':
        raise ValueError(
            f'expected videos of at least {span} frames for clips of '
            f'{num_frames}, got {length} in video {video!r}; set padding to '
            "'repeat' (the last frame), 'loop' or 'drop', or shorten the "
            'clips by num_frames or stride'
        )
    return 0 if padding == 'drop' else 1


def clip_positions(
    start: int, num_frames: int, stride: int, length: int, padding: str
) -> list[int]:
    """Positions of a clip's frames in a video of ``length`` frames."""
    positions = start + stride * np.arange(num_frames)
    if padding == 'loop':
        return (positions % length).tolist()
    return np.minimum(positions, length - 1).tolist()


def _order(
    video: Any,
    members: list[tuple[Any, int]],
    keys: tuple[str, ...],
    frame_key: str,
) -> list[int]:
    """Sort ``(position, index)`` of one video and return the indices."""
    if any(position is None for position, _ in members):
        return [index for _, index in members]
    members = sorted(members)
    for (position, index), (following, other) in pairwise(members):
        if position == following:
            raise ValueError(
                f'expected each frame of video {video!r} once, got '
                f'{frame_key}={position} in the samples {index} and {other}; '
                'if a sample is one person of a frame, let video_key tell '
                f'persons apart too: video_key={[*keys, "track_id"]}; give '
                'videos from different datasets different ids'
            )
    return [index for _, index in members]
