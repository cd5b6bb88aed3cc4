"""Write toy action videos in the layout of HMDB51.

videos/<class>/<video>.avi
testTrainMulti_7030_splits/<class>_test_split<1..3>.txt    video.avi 0|1|2
train_split_1_list_videos.txt ...    lists for mmaction2, and classes.txt
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmskip.datasets.action_lists import write_hmdb51_lists

from .folder import check_video_arguments, write_once, write_video
from .joints import MOVES, FigureVideo

MARKER = 'toy_hmdb51.json'
# Grows when the same arguments give other bytes.
VERSION = 1
LEAST = dict(train_videos=1, test_videos=1, unused_videos=0, frames=8, seed=0)
SPLITS = 'testTrainMulti_7030_splits'
NUM_SPLITS = 3
# Least and greatest height of the figure, as a share of the image's.
HEIGHTS = (0.55, 0.7)


@dataclass(frozen=True)
class ClassVideos:
    """The numbers of videos of each class, by what a split does with them.

    Args:
        train: Videos that it trains on.
        test: Videos that it tests on.
        unused: Videos that it leaves out, as the original does.
    """

    train: int = 40
    test: int = 30
    unused: int = 2


def make_toy_hmdb51(
    root: str | os.PathLike,
    *,
    videos: ClassVideos = ClassVideos(),
    frames: int = 32,
    size: tuple[int, int] = (112, 96),
    fps: float = 10.0,
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy HMDB51, unless it is there already.

    A class is a move of a figure; what is around it stands still. The same
    arguments give the same bytes with the same releases of numpy and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        videos: Numbers of videos of each class.
        frames: Number of frames of each.
        size: ``(width, height)`` of the images in pixels, even numbers.
        fps: Frames per second.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` in a config.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=VERSION,
        train_videos=videos.train,
        test_videos=videos.test,
        unused_videos=videos.unused,
        frames=frames,
        size=list(size),
        fps=fps,
        seed=seed,
    )
    check_video_arguments(arguments, LEAST)

    def write(folder: Path) -> None:
        (folder / SPLITS).mkdir()
        for name in MOVES:
            _write_class(folder, arguments, name, on_video)
        for split in range(1, NUM_SPLITS + 1):
            write_hmdb51_lists(
                folder / SPLITS, folder / 'videos', folder, split
            )

    return write_once(root, 'toy HMDB51', MARKER, arguments, write)


def _write_class(
    root: Path,
    arguments: dict,
    name: str,
    on_video: Callable[[], None] | None,
) -> None:
    """Write the videos and the splits of one class."""
    seed, number = arguments['seed'], list(MOVES).index(name)
    # Marks of the split files: 1 trains, 2 tests, 0 does neither.
    marks = [
        mark
        for mark, key in ((1, 'train'), (2, 'test'), (0, 'unused'))
        for _ in range(arguments[f'{key}_videos'])
    ]
    folder = root / 'videos' / name
    folder.mkdir(parents=True)
    names = [f'toy_{name}_{index}.avi' for index in range(len(marks))]
    for index, file in enumerate(names):
        video = FigureVideo(
            name,
            (seed, number, index),
            arguments['frames'],
            tuple(arguments['size']),
            HEIGHTS,
            clutter=False,
            variety=1.0,
        )
        images = (shot.image for shot in video.film())
        write_video(folder / file, images, arguments['fps'], video.size)
        if on_video is not None:
            on_video()
    for split in range(1, NUM_SPLITS + 1):
        order = np.random.default_rng((seed, number, split)).permutation(marks)
        lines = [
            f'{file} {mark}\n'
            for file, mark in zip(names, order.tolist(), strict=True)
        ]
        path = root / SPLITS / f'{name}_test_split{split}.txt'
        path.write_text(''.join(lines))
