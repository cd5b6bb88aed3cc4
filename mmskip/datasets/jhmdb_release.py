"""Read J-HMDB as it was released: masks and splits, or boxes in a pickle.

Ground truth here is a dict with the keys of ``JHMDB-GT.pkl``, the file that
comes with ACT-detector, MOC and YOWO: ``labels`` (names of the actions),
``train_videos`` and ``test_videos`` (a list of videos per split),
``nframes`` (video to number of frames), ``resolution`` (video to
``(height, width)``) and ``gttubes`` (video to action to tubes, each an array
of rows ``frame, x1, y1, x2, y2``; frames count from 1). A video is named
``action/video``.

It is checked before anything learns from it. An array of NaN, a frame 0 or a
video in both lists is no error to numpy; the loss becomes NaN, or the numbers
too good, and nobody knows why.
"""

import os
import pickle
import warnings
from collections import Counter
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from mmskip.compat.pickles import read_pickle
from mmskip.datasets.action_lists import read_marks
from mmskip.reading import InputError, reads

from .mat_files import MatReader

_COLUMNS = 5
# Boxes whose edges are the last pixels reach one less than those whose
# edges lie behind them.
_SLACK = 1
_PER_VIDEO = ('gttubes', 'nframes', 'resolution')
KEYS = (
    'labels',
    'gttubes',
    'nframes',
    'train_videos',
    'test_videos',
    'resolution',
)
NUM_SPLITS = 3
# Marks of the split files.
SUBSET_OF_MARK = {'1': 'train_videos', '2': 'test_videos'}
MASK = 'puppet_mask/{}/puppet_mask.mat'


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


@reads('JHMDB-GT.pkl', 'download it again')
def read_ground_truth(path: str | os.PathLike) -> dict:
    """Read ``JHMDB-GT.pkl``, without running code that it may hold.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such pickle, or holds what cannot be, see
            :func:`check_ground_truth`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: expected the boxes of J-HMDB; download JHMDB-GT.pkl, '
            'or make it from the masks with '
            'tools/dataset_converters/jhmdb_actions.py'
        )
    try:
        truth = read_pickle(path.read_bytes())
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path}: expected JHMDB-GT.pkl, got a file that cannot be read '
            f'({error}); download it again'
        ) from error
    missing = set(KEYS) - set(truth if isinstance(truth, dict) else ())
    if missing:
        raise ValueError(
            f'{path}: expected the keys {", ".join(KEYS)}, got none of '
            f'{sorted(missing)}'
        )
    check_ground_truth(truth, str(path))
    return truth


def write_ground_truth(path: str | os.PathLike, truth: dict) -> None:
    """Write a ground truth that :func:`read_ground_truth` reads."""
    with Path(path).open('wb') as file:
        pickle.dump(truth, file, protocol=2)


def read_masks(root: str | os.PathLike) -> dict:
    """Make the ground truth from ``puppet_mask/`` and ``splits/``.

    A box is the tight one around a frame's mask, its far edges being those
    of the last pixels (x2 = last column + 1). A frame whose mask is empty
    has none, and parts a tube into two.

    Args:
        root: Folder with ``puppet_mask/<action>/<video>/puppet_mask.mat``
            and ``splits/<action>_test_split<1..3>.txt``.

    Raises:
        FileNotFoundError: A mask or a split is missing.
        InputError: A file is not what it should be.
    """
    root = Path(root)
    folders = sorted(p for p in root.glob('puppet_mask/*') if p.is_dir())
    if not folders:
        raise FileNotFoundError(
            f'{root}: expected puppet_mask/<action>/<video>/puppet_mask.mat, '
            'got no such folder; extract puppet_mask.zip there'
        )
    truth = dict(
        labels=[folder.name for folder in folders],
        gttubes={},
        nframes={},
        resolution={},
        train_videos=[[] for _ in range(NUM_SPLITS)],
        test_videos=[[] for _ in range(NUM_SPLITS)],
    )
    with MatReader() as reader:
        for label, folder in enumerate(folders):
            listed = {}
            for split in range(NUM_SPLITS):
                path = root / f'splits/{folder.name}_test_split{split + 1}.txt'
                for name, subset in read_split(path).items():
                    truth[subset][split].append(f'{folder.name}/{name}')
                    listed.setdefault(f'{folder.name}/{name}', path)
            for video, path in sorted(listed.items()):
                mask = read_mask(reader, root / MASK.format(video), path)
                truth['resolution'][video] = mask.shape[:2]
                truth['nframes'][video] = mask.shape[2]
                truth['gttubes'][video] = {label: tubes_of(mask)}
    check_ground_truth(truth, str(root))
    return truth


def tubes_of(mask: np.ndarray) -> list[np.ndarray]:
    """Find the boxes around a mask, in tubes of consecutive frames.

    Args:
        mask: Above 0 where the person is, shape (H, W, T).

    Returns:
        Arrays of rows ``frame, x1, y1, x2, y2``, float32; frames from 1.
    """
    rows = []
    for frame in range(mask.shape[2]):
        ys, xs = np.nonzero(mask[:, :, frame] > 0)
        if len(ys):
            box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            rows.append((frame + 1, *box))
    if not rows:
        return []
    table = np.array(rows, np.float32)
    gaps = np.flatnonzero(np.diff(table[:, 0]) > 1) + 1
    return np.split(table, gaps)


def read_mask(
    reader: MatReader, path: Path, listed_in: str | Path = 'a split'
) -> np.ndarray:
    """Read ``part_mask`` of a video, shape (H, W, T).

    Args:
        reader: Reads files of MATLAB.
        path: The file.
        listed_in: What lists the video, for messages.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no such mask.
    """
    mask = read_matrix(reader, path, 'part_mask', listed_in)
    # MATLAB drops the last dimension of a single frame.
    mask = mask[..., None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or not mask.size:
        raise InputError(
            f'{path}: expected part_mask of shape (height, width, frames), '
            f'got {mask.shape}; extract it again'
        )
    return mask


def read_matrix(
    reader: MatReader,
    path: Path,
    name: str,
    listed_in: str | Path = 'a split',
) -> np.ndarray:
    """Read an array of finite numbers from a file of MATLAB.

    Args:
        reader: Reads it.
        path: The file.
        name: Name of the array.
        listed_in: What lists the video, for messages.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It cannot be read, has no such array, or one with other
            numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: expected this file, because {listed_in} lists its '
            f'video; extract {path.stem}.zip again, or take the video off '
            'its split'
        )
    matrix = reader.matrix(path, name)
    if not np.isfinite(matrix).all():
        # Frames are the third axis, which MATLAB drops if there is one.
        frame = (*np.argwhere(~np.isfinite(matrix))[0], 0)[2] + 1
        raise InputError(
            f'{path}: expected numbers, got NaN or infinity in frame {frame} '
            f'of {name}; extract it again'
        )
    return matrix


def read_split(path: Path) -> dict[str, str]:
    """Read lines ``video.avi 1`` as ``{video: 'train_videos'}``.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is empty, has other lines, or lists a video twice.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: expected this split; extract {path.parent.name}.zip'
        )
    return read_marks(path, SUBSET_OF_MARK)


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
