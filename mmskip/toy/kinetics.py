"""Write toy action videos in the layout of Kinetics for mmaction2.

videos_train/boats_to_the_left/toyt000000.mp4
videos_val/boats_to_the_left/toyv000000.mp4
train_list_videos.txt  val_list_videos.txt  classes.txt
groups.json                {"toyv000000": "static", ...}
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmskip.datasets.action_lists import (
    ActionEntry,
    index_media,
    write_classes,
    write_list,
)

from .folder import check_video_arguments, write_once, write_video
from .trimmed import MOTIONS, SPEEDS, TrimmedVideo

MARKER = 'toy_kinetics.json'
GROUPS = 'groups.json'
# Grows when the same arguments give other bytes.
VERSION = 2
SPLITS = ('train', 'val')
LEAST = dict(train_videos=0, test_videos=0, frames=8, seed=0)


def make_toy_kinetics(
    root: str | os.PathLike,
    *,
    train_videos: int = 600,
    test_videos: int = 240,
    frames: int = 32,
    size: tuple[int, int] = (96, 80),
    fps: float = 10.0,
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy Kinetics, unless it is there already.

    It is written to ``{root}.partial`` and moved when it is complete. There
    are eight classes in pairs: four patterns of things, each with two
    directions of movement. A third of the videos of each class stands still
    and shows the direction on a sign, a third moves slowly, a third fast
    (:class:`mmskip.toy.trimmed.TrimmedVideo`); ``groups.json``
    names the speed group of every video. The same arguments give the same
    bytes with the same releases of numpy and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Number of training videos.
        test_videos: Number of validation videos.
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
        train_videos=train_videos,
        test_videos=test_videos,
        frames=frames,
        size=list(size),
        fps=fps,
        seed=seed,
    )
    check_video_arguments(arguments, LEAST)

    def write(folder: Path) -> None:
        _write_all(folder, arguments, on_video)

    return write_once(root, 'toy Kinetics', MARKER, arguments, write)


def choose_kinds(seed: tuple[int, ...], videos: int) -> list[tuple[str, str]]:
    """Draw ``(label, group)`` of videos, as many of each pair as can be."""
    order = np.random.default_rng(seed).permutation(videos)
    kinds = [(label, group) for group in SPEEDS for label in MOTIONS]
    return [kinds[index % len(kinds)] for index in order]


def _write_all(
    root: Path, arguments: dict, on_video: Callable[[], None] | None
) -> None:
    """Write every video, the lists and the groups."""
    classes = list(MOTIONS)
    write_classes(root / 'classes.txt', classes)
    groups = {}
    counts = (arguments['train_videos'], arguments['test_videos'])
    for number, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        folder = root / f'videos_{split}'
        entries = []
        kinds = choose_kinds((arguments['seed'], number), count)
        for index, (label, group) in enumerate(kinds):
            name = f'toy{split[0]}{index:06d}'
            video = TrimmedVideo(
                label,
                group,
                (arguments['seed'], number, index),
                arguments['frames'],
                tuple(arguments['size']),
            )
            path = folder / label / f'{name}.mp4'
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, video.film(), arguments['fps'], video.size)
            entries.append(ActionEntry(name, (classes.index(label),)))
            groups[name] = group
            if on_video is not None:
                on_video()
        if entries:
            path = root / f'{split}_list_videos.txt'
            write_list(path, entries, index_media(folder))
    (root / GROUPS).write_text(json.dumps(groups, indent=0) + '\n')
