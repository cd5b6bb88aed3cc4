"""Videos in a dataset of frames, and the positions of clips in them."""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmskip.runtime import InputError

from .video_frames import Alone, group_frames
from .video_keys import FOLDER, describe_keys

PADDINGS = ('error', 'drop', 'repeat', 'loop')


def group_videos(
    dataset: Any, video_key: str | Sequence[str], frame_key: str
) -> dict[Any, list[int]]:
    """Collect the samples of every video of which clips can be made.

    Args:
        dataset: A dataset with ``get_data_info``.
        video_key: See :func:`mmskip.datasets.video_frames.group_frames`.
        frame_key: Likewise.

    Returns:
        Sample indices by video, frames in order.

    Raises:
        InputError: A sample does not tell its video, or a video has two
            samples at one position.
    """
    videos = group_frames(dataset, video_key, frame_key)
    for video, members in videos.items():
        if isinstance(video, Alone):
            info = dataset.get_data_info(members[0])
            raise InputError(
                'expected every sample to tell its video by '
                f'{describe_keys(video_key)}, got sample {members[0]} with '
                f"the keys {sorted(info)}; set video_key, to '{FOLDER}' if "
                'the folder of an image is its video'
            )
    return videos


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
