"""What toy data sets of videos have in common on disk."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

# Pixels; decord fails on videos that are 48 wide.
LEAST_SIDE = 64


def check_video_arguments(arguments: dict, least: dict[str, int]) -> None:
    """Refuse arguments of a toy data set that are out of range.

    Args:
        arguments: With ``size`` (width, height), ``fps``, and integers.
        least: The smallest value of each integer.

    Raises:
        ValueError: One of them is out of range.
    """
    for name, smallest in least.items():
        value = arguments[name]
        if not isinstance(value, int) or value < smallest:
            raise ValueError(f'expected {name} >= {smallest}, got {value!r}')
    size = arguments['size']
    if (
        len(size) != 2
        or min(size) < LEAST_SIDE
        or any(side % 2 for side in size)
    ):
        raise ValueError(
            'expected size (width, height) of even numbers from '
            f'{LEAST_SIDE}, got {size}'
        )
    if not arguments['fps'] > 0:
        raise ValueError(f'expected fps > 0, got {arguments["fps"]!r}')


def check_split_arguments(arguments: dict) -> None:
    """Refuse arguments of toy data in splits that are out of range.

    Args:
        arguments: With ``train_videos``, ``test_videos``, ``seed``,
            ``frames`` (fewest, most) and ``size`` (width, height).

    Raises:
        ValueError: One of them is out of range.
    """
    for name, least in (('train_videos', 1), ('test_videos', 1), ('seed', 0)):
        value = arguments[name]
        if not isinstance(value, int) or value < least:
            raise ValueError(f'expected {name} >= {least}, got {value!r}')
    frames, size = arguments['frames'], arguments['size']
    if len(frames) != 2 or not 1 <= frames[0] <= frames[1]:
        raise ValueError(
            f'expected frames (fewest, most) from 1, got {frames}'
        )
    if len(size) != 2 or min(size) < LEAST_SIDE:
        raise ValueError(
            f'expected size (width, height) from {LEAST_SIDE}, got {size}'
        )


def write_once(
    root: str | os.PathLike,
    name: str,
    marker: str,
    arguments: dict,
    write: Callable[[Path], None],
) -> Path:
    """Write a data set, unless this very one is there already.

    It is written to ``{root}.partial`` and moved when it is complete.

    Args:
        root: Folder of the data set; made if need be.
        name: What messages call it.
        marker: Name of a JSON file in it that keeps the arguments.
        arguments: What it is made with, of JSON's types.
        write: Writes all else into the folder that it is given.

    Returns:
        ``root``, absolute.

    Raises:
        FileExistsError: ``root`` holds something else.
    """
    root = Path(root).absolute()
    if _is_complete(root, name, marker, arguments):
        return root
    partial = _start_over(root, marker)
    (partial / marker).write_text(json.dumps(arguments, indent=2) + '\n')
    write(partial)
    if root.exists():
        root.rmdir()
    return partial.rename(root)


def _is_complete(root: Path, name: str, marker: str, arguments: dict) -> bool:
    """Whether a folder holds this very data set; False if it is empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / marker).is_file():
        raise FileExistsError(
            f'{root}: expected an empty folder or a {name}, got something '
            f'without {marker}; remove it or choose another'
        )
    found = json.loads((root / marker).read_text())
    if found != arguments:
        differing = ', '.join(
            f'{key}={found.get(key)!r} instead of {value!r}'
            for key, value in arguments.items()
            if found.get(key) != value
        )
        raise FileExistsError(
            f'{root}: holds a {name} made with {differing}; remove it or '
            'choose another folder'
        )
    return True


def _start_over(root: Path, marker: str) -> Path:
    """Make an empty folder beside ``root``; remove what was interrupted."""
    partial = root.with_name(f'{root.name}.partial')
    if partial.exists():
        if not (partial / marker).is_file():
            raise FileExistsError(
                f'{partial}: expected what an interrupted run left, got '
                'something else; remove it'
            )
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def write_video(
    path: str | os.PathLike,
    images: Iterable[np.ndarray],
    fps: float,
    size: tuple[int, int],
) -> None:
    """Write an MPEG-4 video.

    Args:
        path: The file.
        images: uint8, shape (height, width, 3) in blue, green, red.
        fps: Frames per second.
        size: ``(width, height)`` in pixels.

    Raises:
        OSError: OpenCV has no encoder.
    """
    fourcc = cv2.VideoWriter_fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), fourcc, fps, size)
    if not writer.isOpened():
        raise OSError(
            f'{path}: OpenCV cannot write MPEG-4 here; install '
            'opencv-python, whose wheel brings an encoder'
        )
    try:
        for image in images:
            writer.write(image)
    finally:
        writer.release()
