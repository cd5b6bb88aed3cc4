"""Write toy localisation data in the layout of J-HMDB.

Rename_Images/<action>/<video>/00001.png
puppet_mask/<action>/<video>/puppet_mask.mat    part_mask (H x W x T)
splits/<action>_test_split<1..3>.txt            video.avi 1|2
JHMDB-GT.pkl                                    boxes, made from the masks
"""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from mmskip.datasets.jhmdb_release import (
    NUM_SPLITS,
    read_masks,
    write_ground_truth,
)

from .figures import ACTIONS, ActorVideo
from .folder import check_split_arguments, write_once

MARKER = 'toy_jhmdb.json'
# Grows when the same arguments give other bytes.
VERSION = 1


def make_toy_jhmdb(
    root: str | os.PathLike,
    *,
    train_videos: int = 12,
    test_videos: int = 6,
    frames: tuple[int, int] = (12, 24),
    size: tuple[int, int] = (128, 96),
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy J-HMDB, unless it is there already.

    In every video one figure does one of eight things and walks through the
    image meanwhile. Its box is that of the figure alone. The same arguments
    give the same images and boxes with the same releases of numpy and
    OpenCV; a file of MATLAB tells when it was written.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Videos of each action that a split trains on.
        test_videos: Videos of each action that it tests on.
        frames: Fewest and most frames of a video; J-HMDB has 15 to 40.
        size: ``(width, height)`` of the images in pixels.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` of ``mmskip.JHMDBDataset``.

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
        for action, name in enumerate(sorted(ACTIONS)):
            _write_action(folder, arguments, action, name, on_video)
        write_ground_truth(folder / 'JHMDB-GT.pkl', read_masks(folder))

    return write_once(root, 'toy J-HMDB', MARKER, arguments, write)


def folder_of(action: str) -> str:
    """Name of an action as the release writes it: ``bounce_ball``."""
    return ACTIONS[action].__name__


def _write_action(
    root: Path,
    arguments: dict,
    number: int,
    action: str,
    on_video: Callable[[], None] | None,
) -> None:
    """Write the videos and the splits of one action."""
    folder, seed = folder_of(action), arguments['seed']
    train = arguments['train_videos']
    count = train + arguments['test_videos']
    names = [f'toy_{folder}_{index}' for index in range(count)]
    low, high = arguments['frames']
    for index, name in enumerate(names):
        seeds = (seed, number, index)
        length = np.random.default_rng((*seeds, 1)).integers(low, high + 1)
        video = ActorVideo(
            action, seeds, int(length), tuple(arguments['size'])
        )
        _write_video(root, f'{folder}/{name}', video)
        if on_video is not None:
            on_video()
    (root / 'splits').mkdir(exist_ok=True)
    for split in range(1, NUM_SPLITS + 1):
        order = np.random.default_rng((seed, number, count, split))
        trained = set(order.permutation(count)[:train].tolist())
        lines = [
            f'{name}.avi {1 if index in trained else 2}\n'
            for index, name in enumerate(names)
        ]
        path = root / 'splits' / f'{folder}_test_split{split}.txt'
        path.write_text(''.join(lines))


def _write_video(root: Path, name: str, video: ActorVideo) -> None:
    """Write frames and masks of one video."""
    images = root / 'Rename_Images' / name
    masks = root / 'puppet_mask' / name
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    found = []
    for number, (image, mask) in enumerate(video.film(), 1):
        _, data = cv2.imencode('.png', image)
        (images / f'{number:05d}.png').write_bytes(data.tobytes())
        found.append(mask)
    savemat(
        masks / 'puppet_mask.mat',
        dict(part_mask=np.stack(found, -1)),
        do_compression=True,
    )
