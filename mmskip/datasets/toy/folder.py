"""What toy data sets of action videos have in common on disk."""

import json
import os
import shutil
from collections.abc import Iterable
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


def is_complete(
    root: Path, name: str, marker_name: str, arguments: dict
) -> bool:
    """Whether a folder holds this very data set; False if it is empty.

    Args:
        root: The folder; it need not exist.
        name: What messages call the data set.
        marker_name: Name of the file that holds its arguments.
        arguments: What it is to be made with.

    Raises:
        FileExistsError: There is something else.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    marker = root / marker_name
    if not marker.is_file():
        raise FileExistsError(
            f'{root}: expected an empty folder or a {name}, got something '
            f'without {marker_name}; remove it or choose another'
        )
    found = json.loads(marker.read_text())
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


def start_over(root: Path, marker_name: str, arguments: dict) -> Path:
    """Make ``{root}.partial`` with a marker; remove what was interrupted.

    Returns:
        The folder.

    Raises:
        FileExistsError: It holds something else.
    """
    partial = root.with_name(f'{root.name}.partial')
    if partial.exists():
        if not (partial / marker_name).is_file():
            raise FileExistsError(
                f'{partial}: expected what an interrupted run left, got '
                'something else; remove it'
            )
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    text = json.dumps(arguments, indent=2) + '\n'
    (partial / marker_name).write_text(text)
    return partial


def finish(partial: Path, root: Path) -> None:
    """Move a complete data set to its place."""
    if root.exists():
        root.rmdir()
    partial.rename(root)


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
