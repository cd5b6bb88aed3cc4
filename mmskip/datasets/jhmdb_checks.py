"""Is a ground truth of J-HMDB one that can be learned from?

An array of NaN, a frame 0 or a video in both lists is no error to numpy; the
loss becomes NaN, or the numbers too good, and nobody knows why.
"""

import warnings
from collections import Counter
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np

_COLUMNS = 5
# Boxes whose edges are the last pixels reach one less than those whose
# edges lie behind them.
_SLACK = 1
_PER_VIDEO = ('gttubes', 'nframes', 'resolution')


def check_ground_truth(truth: dict[str, Any], path: str) -> None:
    """Check splits, sizes, frames and boxes.

    Boxes that reach beyond the image by more than a pixel are counted in a
    warning; they are cut when they are used.

    Args:
        truth: See :mod:`mmskip.datasets.jhmdb_release`.
        path: What messages call it.

    Raises:
        ValueError: A video is twice in a split, or has no boxes, size or
            number of frames; a label, frame or box cannot be.
    """
    for key in _PER_VIDEO:
        _check_kind(truth[key], dict, f'{path}: {key}')
    for key in ('labels', 'train_videos', 'test_videos'):
        _check_kind(truth[key], (list, tuple), f'{path}: {key}')
    _check_splits(truth, path)
    beyond = sum(
        _check_video(truth, video, f'{path}: {video}')
        for video in truth['gttubes']
    )
    if beyond:
        warnings.warn(
            f'{path}: {beyond:,} boxes reach beyond the image; they are cut',
            stacklevel=3,
        )


def _check_kind(value: Any, kind: Any, where: str) -> None:
    if not isinstance(value, kind):
        expected = kind if isinstance(kind, type) else kind[0]
        raise ValueError(
            f'{where}: expected a {expected.__name__}, got '
            f'{type(value).__name__}'
        )


def _check_splits(truth: dict, path: str) -> None:
    """Refuse a video that is listed twice, or of which nothing is known."""
    train, test = truth['train_videos'], truth['test_videos']
    if len(train) != len(test):
        raise ValueError(
            f'{path}: expected as many lists of test_videos as of '
            f'train_videos, got {len(test)} and {len(train)}'
        )
    for number, lists in enumerate(zip(train, test, strict=True), 1):
        for videos in lists:
            _check_kind(videos, (list, tuple), f'{path}: split {number}')
        for video, times in Counter(chain(*lists)).items():
            if times > 1:
                both = all(video in videos for videos in lists)
                where = 'training and test' if both else 'one list'
                raise ValueError(
                    f'{path}: expected {video} once in split {number}, got it '
                    f'{times} times ({where}); take the others off'
                )
            missing = [key for key in _PER_VIDEO if video not in truth[key]]
            if missing:
                raise ValueError(
                    f'{path}: expected {", ".join(missing)} of {video}, which '
                    f'split {number} lists, got none'
                )


def _check_video(truth: dict, video: str, where: str) -> int:
    """Check one video; returns how many boxes reach beyond its frames."""
    size = truth['resolution'].get(video)
    frames = truth['nframes'].get(video)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f'{where}: expected (height, width), got {size!r}')
    for name, value in dict(
        height=size[0], width=size[1], frames=frames
    ).items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(
                f'{where}: expected 1, 2, ... as {name}, got {value!r}'
            )
    beyond = 0
    _check_kind(truth['gttubes'][video], dict, where)
    for label, tubes in truth['gttubes'][video].items():
        _check_label(label, len(truth['labels']), where)
        _check_kind(tubes, (list, tuple), where)
        for tube in tubes:
            _check_kind(tube, np.ndarray, where)
            beyond += _check_tube(tube, size, frames, where)
    return beyond


def _check_label(label: Any, count: int, where: str) -> None:
    if not isinstance(label, Integral) or not 0 <= label < count:
        raise ValueError(
            f'{where}: expected labels 0..{count - 1}, got {label!r}'
        )


def _check_tube(
    table: np.ndarray, size: tuple, frames: int, where: str
) -> int:
    """Check one tube; returns how many boxes reach beyond the frame."""
    if table.shape[1:] != (_COLUMNS,) or table.dtype.kind not in 'iuf':
        raise ValueError(
            f'{where}: expected rows frame, x1, y1, x2, y2, got an array of '
            f'shape {table.shape} and dtype {table.dtype}'
        )
    height, width = size
    number, x1, y1, x2, y2 = table.astype(float).T
    in_order = np.append(True, number[1:] > number[:-1])
    whole = (number == np.floor(number)) & (number >= 1) & (number <= frames)
    inside = (x1 < width) & (y1 < height) & (x2 > 0) & (y2 > 0)
    for expected, is_right in (
        ('finite numbers', np.isfinite(table).all(1)),
        (f'frames 1..{frames}', whole),
        ('frames in order, each once in a tube', in_order[: len(table)]),
        ('boxes with x1 < x2 and y1 < y2', (x1 < x2) & (y1 < y2)),
        (f'boxes in an image of {width} x {height}', inside),
    ):
        if not is_right.all():
            row = table[~is_right][0].tolist()
            raise ValueError(
                f'{where}: expected {expected}, got the row (frame, x1, y1, '
                f'x2, y2) {row}; mend the file, or take the video off'
            )
    far = np.stack([-x1, -y1, x2 - width, y2 - height]).max(0)
    return int((far > _SLACK).sum())
