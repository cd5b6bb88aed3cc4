"""Write toy untrimmed videos in the layout of ActivityNet.

activity_net.v1-3.min.json
videos/v_toyt0000000.mp4           training
videos/v_toyv0000000.mp4           validation
train_list_videos.txt  val_list_videos.txt  classes.txt   for mmaction2
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmskip.datasets.action_lists import (
    index_media,
    read_activitynet,
    write_classes,
    write_list,
)

from .acting import ACTIONS
from .folder import check_video_arguments, write_once, write_video
from .untrimmed import ToyVideo

MARKER = 'toy_activitynet.json'
ANNOTATIONS = 'activity_net.v1-3.min.json'
# Grows when the same arguments give other bytes.
VERSION = 2
SPLITS = dict(training='train', validation='val')
LEAST = dict(train_videos=0, test_videos=0, frames=12, seed=0)


def make_toy_activitynet(
    root: str | os.PathLike,
    *,
    train_videos: int = 400,
    test_videos: int = 160,
    frames: int = 60,
    size: tuple[int, int] = (112, 112),
    fps: float = 10.0,
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy ActivityNet, unless it is there already.

    It is written to ``{root}.partial`` and moved when it is complete. In
    every video a figure does one of eight things in 8 to 30 percent of the
    frames; the rest is blank, titles, scenery, figures that
    do nothing and things that nobody uses, none of which depends on the
    label. Single frames tell the action, except where a board hides it.
    The same arguments give the same bytes with the same releases of numpy
    and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Number of videos of the subset ``training``.
        test_videos: Number of videos of the subset ``validation``.
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
        _write_lists(folder)

    return write_once(root, 'toy ActivityNet', MARKER, arguments, write)


def choose_labels(seed: tuple[int, ...], videos: int) -> list[str]:
    """Draw the actions of videos, as many of each as can be."""
    order = np.random.default_rng(seed).permutation(videos)
    names = list(ACTIONS)
    return [names[index % len(names)] for index in order]


def _write_all(
    root: Path, arguments: dict, on_video: Callable[[], None] | None
) -> None:
    """Write every video and the annotation."""
    (root / 'videos').mkdir()
    counts = (arguments['train_videos'], arguments['test_videos'])
    database = {}
    for split, (subset, count) in enumerate(zip(SPLITS, counts, strict=True)):
        labels = choose_labels((arguments['seed'], split), count)
        for number, label in enumerate(labels):
            name = f'toy{subset[0]}{number:07d}'
            video = ToyVideo(
                label,
                (arguments['seed'], split, number),
                arguments['frames'],
                tuple(arguments['size']),
                arguments['fps'],
            )
            path = root / 'videos' / f'v_{name}.mp4'
            write_video(path, video.film(), video.fps, video.size)
            database[name] = _annotate(video, arguments, subset)
            if on_video is not None:
                on_video()
    release = dict(
        database=database, taxonomy=_taxonomy(), version='VERSION 1.3'
    )
    (root / ANNOTATIONS).write_text(json.dumps(release) + '\n')


def _annotate(video: ToyVideo, arguments: dict, subset: str) -> dict:
    """The entry of a video in the release's database."""
    width, height = video.size
    return dict(
        duration=arguments['frames'] / video.fps,
        subset=subset,
        resolution=f'{width}x{height}',
        url='',
        annotations=[
            dict(label=video.label, segment=list(segment))
            for segment in video.segments
        ],
    )


def _taxonomy() -> list[dict]:
    """The tree of classes: one root and its leaves."""
    root = dict(nodeId=0, nodeName='Root', parentId=None, parentName=None)
    return [
        root,
        *(
            dict(nodeId=n, nodeName=name, parentId=0, parentName='Root')
            for n, name in enumerate(ACTIONS, 1)
        ),
    ]


def _write_lists(root: Path) -> None:
    """Write what mmaction2 reads."""
    classes, entries = read_activitynet(root / ANNOTATIONS)
    write_classes(root / 'classes.txt', classes)
    if not any(entries.values()):
        return
    media = index_media(root / 'videos')
    for subset, split in SPLITS.items():
        if entries[subset]:
            path = root / f'{split}_list_videos.txt'
            write_list(path, entries[subset], media)
