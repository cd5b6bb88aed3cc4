"""Read the video-level annotation of THUMOS'14 (101 classes).

``validation_set.mat`` holds the struct array ``validation_videos``,
``test_set_meta.mat`` the struct array ``test_videos``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from .lists import ActionEntry

THUMOS14_SIZES = dict(validation=(1_010,), test=(1_574,))
NUM_CLASSES = 101
FIELD = 'primary_action_index'


def read_thumos14(path: str | os.PathLike) -> list[ActionEntry]:
    """Read the videos of a split with their primary action.

    Indices count from 1 in the file and from 0 here. Background videos, and
    videos whose index is empty or 0, get no label: they are negatives of
    every class.

    Args:
        path: ``validation_set.mat`` or ``test_set_meta.mat``.

    Raises:
        ValueError: The file is not one of the two, or an index is not one
            of 1..101.
    """
    try:
        content = loadmat(path, squeeze_me=True)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f'{path}: expected a file of MATLAB, got one that cannot be read '
            f'({error}); extract it again'
        ) from error
    arrays = [
        np.atleast_1d(value)
        for value in content.values()
        if isinstance(value, np.ndarray)
        and {'video_name', FIELD} <= set(value.dtype.names or ())
    ]
    if len(arrays) != 1:
        raise ValueError(
            f'{path}: expected one struct array with video_name and {FIELD}, '
            f'got {len(arrays)}; use validation_set.mat or test_set_meta.mat'
        )
    fields = arrays[0].dtype.names
    return [
        ActionEntry(
            Path(str(video['video_name'])).stem,
            _labels(path, video, 'background_video' in fields),
        )
        for video in arrays[0]
    ]


def read_class_index(path: str | os.PathLike) -> list[str]:
    """Read ``class_index.txt``, lines ``1 ApplyEyeMakeup``.

    Raises:
        ValueError: It does not number 101 classes from 1.
    """
    lines = Path(path).read_text(encoding='utf-8').split('\n')
    pairs: Sequence[list[str]] = [line.split() for line in lines if line]
    numbers = [str(number) for number in range(1, NUM_CLASSES + 1)]
    if [pair[0] for pair in pairs if len(pair) == 2] != numbers:
        raise ValueError(
            f'{path}: expected {NUM_CLASSES} lines "number name", numbered '
            f'from 1, got {len(pairs)} lines; use the list of all classes, '
            'not that of the 20 with temporal annotation'
        )
    return [pair[1] for pair in pairs]


def _labels(path: Any, video: np.void, has_background: bool) -> tuple:
    if has_background and str(video['background_video']).upper() == 'YES':
        return ()
    index = np.atleast_1d(video[FIELD])
    if index.size == 0 or not index[0]:
        return ()
    label = int(index[0])
    if not 1 <= label <= NUM_CLASSES:
        raise ValueError(
            f'{path}: {video["video_name"]}: expected {FIELD} 1..'
            f'{NUM_CLASSES}, got {label}'
        )
    return (label - 1,)
