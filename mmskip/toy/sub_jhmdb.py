"""Write toy pose data in the layout of sub-JHMDB.

Rename_Images/<action>/<video>/00001.png
joint_positions/<action>/<video>/joint_positions.mat    pos_img (2 x 15 x T)
puppet_mask/<action>/<video>/puppet_mask.mat            part_mask (H x W x T)
sub_splits/<action>_test_split_<1..3>.txt               video.avi 1|2
splits/<action>_test_split<1..3>.txt                    the same
"""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat

from mmskip.datasets.jhmdb_pose_release import VARIANTS
from mmskip.datasets.jhmdb_release import NUM_SPLITS

from .folder import check_split_arguments, write_once
from .joints import MOVES, FigureVideo

MARKER = 'toy_sub_jhmdb.json'
# Grows when the same arguments give other bytes.
VERSION = 1
# MATLAB's header has 116 bytes of text, in which scipy writes the time.
HEADER = b'MATLAB 5.0 MAT-file, written by mmskip'.ljust(116)


def make_toy_sub_jhmdb(
    root: str | os.PathLike,
    *,
    train_videos: int = 16,
    test_videos: int = 4,
    frames: tuple[int, int] = (16, 32),
    size: tuple[int, int] = (128, 96),
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy sub-JHMDB, unless it is there already.

    In every video a figure with fifteen joints makes one of eight moves in
    front of a textured wall that stands still. The same arguments give the
    same bytes with the same releases of numpy, OpenCV and scipy.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Videos of each action that a split trains on.
        test_videos: Videos of each action that it tests on.
        frames: Fewest and most frames of a video; JHMDB has 15 to 40.
        size: ``(width, height)`` of the images in pixels.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` of ``mmskip.JHMDBPoseDataset``.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=VERSION,
        train_videos=train_videos,
        test_videos=test_videos,
        frames=list(frames),
        size=list(size),
        seed=seed,
    )
    check_split_arguments(arguments)

    def write(folder: Path) -> None:
        for action in MOVES:
            _write_action(folder, arguments, action, on_video)

    return write_once(root, 'toy sub-JHMDB', MARKER, arguments, write)


def write_matrices(path: Path, matrices: Mapping[str, Any]) -> None:
    """Write a file of MATLAB that does not tell when it was written."""
    buffer = io.BytesIO()
    savemat(buffer, dict(matrices), do_compression=True)
    content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER + content[len(HEADER) :])


def _write_action(
    root: Path,
    arguments: dict,
    action: str,
    on_video: Callable[[], None] | None,
) -> None:
    """Write the videos and the splits of one action."""
    seed, train = arguments['seed'], arguments['train_videos']
    number = list(MOVES).index(action)
    count = train + arguments['test_videos']
    names = [f'toy_{action}_{index}' for index in range(count)]
    low, high = arguments['frames']
    for index, name in enumerate(names):
        seeds = (seed, number, index)
        length = np.random.default_rng((*seeds, 1)).integers(low, high + 1)
        video = FigureVideo(
            action, seeds, int(length), tuple(arguments['size'])
        )
        _write_video(root, f'{action}/{name}', action, video)
        if on_video is not None:
            on_video()
    for split in range(1, NUM_SPLITS + 1):
        order = np.random.default_rng((seed, number, count, split))
        trained = set(order.permutation(count)[:train].tolist())
        text = ''.join(
            f'{name}.avi {1 if index in trained else 2}\n'
            for index, name in enumerate(names)
        )
        for folder, ending in VARIANTS.values():
            path = root / folder / f'{action}{ending.format(split)}'
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def _write_video(
    root: Path, name: str, action: str, video: FigureVideo
) -> None:
    """Write frames, masks and joints of one video."""
    images = root / 'Rename_Images' / name
    images.mkdir(parents=True)
    shots = list(video.film())
    for number, shot in enumerate(shots, 1):
        _, data = cv2.imencode('.png', shot.image)
        (images / f'{number:05d}.png').write_bytes(data.tobytes())
    masks = np.stack([shot.mask for shot in shots], -1)
    write_matrices(
        root / 'puppet_mask' / name / 'puppet_mask.mat', dict(part_mask=masks)
    )
    joints = np.stack([shot.joints.T for shot in shots], -1) + 1  # from 1
    width, height = video.size
    middle = np.array([width, height])[:, None, None] / 2
    write_matrices(
        root / 'joint_positions' / name / 'joint_positions.mat',
        dict(
            pos_img=joints,
            pos_world=(joints - middle) / middle,
            scale=np.ones((1, len(shots))),
            viewpoint='S',
            action=action,
        ),
    )
