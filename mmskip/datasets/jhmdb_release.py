"""Read J-HMDB as it was released: masks and splits, or boxes in a pickle.

Ground truth here is a dict with the keys of ``JHMDB-GT.pkl``, the file that
comes with ACT-detector, MOC and YOWO: ``labels`` (names of the actions),
``train_videos`` and ``test_videos`` (a list of videos per split),
``nframes`` (video to number of frames), ``resolution`` (video to
``(height, width)``) and ``gttubes`` (video to action to tubes, each an array
of rows ``frame, x1, y1, x2, y2``; frames count from 1). A video is named
``action/video``.
"""

import os
import pickle
from pathlib import Path

import numpy as np

from mmskip.compat.pickles import read_pickle
from mmskip.runtime import InputError
from mmskip.runtime.reading import reads

from .action_lists import read_marks
from .jhmdb_checks import check_ground_truth
from .mat_files import MatReader

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
    """Boxes around a mask, in tubes of consecutive frames.

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
        name: Of the array.
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
