"""Folders of toy data sets, and the command line that writes them."""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK

# Pixels; decord fails on videos that are 48 wide.
LEAST_SIDE = 64
# Side of the blobs that the texture is made of, in pixels, and their contrast.
OCTAVES = ((2, 12.0), (4, 18.0), (8, 22.0), (32, 30.0))
# Pixels per frame that the disc moves, (x, y).
OBJECT_STEP = (1.5, 1.0)
# Help and, for two numbers, what they are.
OPTIONS = dict(
    train_videos=('training videos', None),
    test_videos=('test videos', None),
    unused_videos=('videos that splits leave out', None),
    frames=('frames of each video', ('FEWEST', 'MOST')),
    fps=('frames per second', None),
    size=('size of the images in pixels', ('WIDTH', 'HEIGHT')),
    train_sequences=('training sequences', None),
    test_sequences=('test sequences', None),
    train_frames=('frames of each training sequence', None),
    density=('vehicles per lane and second that want to enter', None),
    seed=('random seed', None),
)


def check_integers(arguments: dict, least: dict[str, int]) -> None:
    """Refuse what is no integer, or a smaller one than it may be.

    Args:
        arguments: The arguments of a toy data set.
        least: The smallest value of each of those that are integers.

    Raises:
        ValueError: One of them is something else.
    """
    for name, smallest in least.items():
        value = arguments[name]
        if not isinstance(value, int) or value < smallest:
            raise ValueError(f'expected {name} >= {smallest}, got {value!r}')


def check_video_arguments(arguments: dict, least: dict[str, int]) -> None:
    """Refuse arguments of a toy data set that are out of range.

    Args:
        arguments: With ``size`` (width, height), ``fps``, and integers.
        least: The smallest value of each integer.

    Raises:
        ValueError: One of them is out of range.
    """
    check_integers(arguments, least)
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
    check_integers(arguments, dict(train_videos=1, test_videos=1, seed=0))
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


def pan_video(
    frames: int,
    step: tuple[float, float],
    size: tuple[int, int] = (320, 192),
    noise: float = 0.0,
    seed: int = 0,
) -> list[np.ndarray]:
    """Draw a textured picture as a panning camera sees it.

    Whole steps only cut pixels out; fractions are interpolated. A disc moves
    over the view at a speed of its own.

    Args:
        frames: Number of frames.
        step: By how many pixels the camera moves per frame, (x, y).
        size: Width and height of a frame.
        noise: Standard deviation of the sensor's noise, in grey levels.
        seed: Seed of the picture and the noise.

    Returns:
        Frames (H, W, 3) uint8, BGR.
    """
    rng = np.random.default_rng(seed)
    travel = [int(np.ceil(abs(s) * (frames - 1))) + 4 for s in step]
    picture = _texture(rng, size[0] + travel[0], size[1] + travel[1])
    # The camera ends where the picture does, whichever way it goes.
    start = [t - 2 if s < 0 else 2 for t, s in zip(travel, step, strict=True)]
    colour = rng.integers(0, 256, 3).tolist()
    radius = max(4, min(size) // 10)
    video = []
    for t in range(frames):
        x, y = (a + s * t for a, s in zip(start, step, strict=True))
        matrix = np.float64([[1, 0, x], [0, 1, y]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(picture, matrix, size, flags=flags)
        centre = [
            int(side / 3 + s * t)
            for side, s in zip(size, OBJECT_STEP, strict=True)
        ]
        cv2.circle(view, centre, radius, colour, -1)
        view = view + noise * rng.standard_normal(view.shape)
        video.append(view.round().clip(0, 255).astype(np.uint8))
    return video


def write_toy_data(
    name: str,
    make: Callable[..., Path],
    text: str,
    defaults: Mapping[str, Any],
    total: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
    unit: str = 'video',
) -> int:
    """Write a toy data set and show progress.

    Args:
        name: What it is called.
        make: Writes it: ``make(root, seed=, on_video=, ...)``, with the
            defaults' names.
        text: Text of the tool; its first line says what it does.
        defaults: Defaults of the options, which are keys of ``OPTIONS``.
        total: How many units the arguments make.
        argv: Arguments without the program's name.
        unit: What progress is counted in.

    Returns:
        The exit code.

    Raises:
        UserError: An argument is out of range, or something else is there.
    """
    args = _parse_args(text, dict(defaults, seed=0), argv)
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in vars(args).items()
    }
    progress = Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f'{unit}s'),
        TimeRemainingColumn(),
    )
    with progress:
        task = progress.add_task(name, total=total(args))
        values[f'on_{unit}'] = lambda: progress.advance(task)
        try:
            root = make(values.pop('out_dir'), **values)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        progress.update(task, completed=total(args))
    print(f'{name} is in {root}')
    return EXIT_OK


def _is_complete(root: Path, name: str, marker: str, arguments: dict) -> bool:
    """Tell whether a folder holds this very data set; an empty one is none."""
    if root.exists() and not root.is_dir():
        raise FileExistsError(f'{root}: expected a folder, got a file')
    if not root.exists() or not any(root.iterdir()):
        return False
    if not (root / marker).is_file():
        raise FileExistsError(
            f'{root}: expected an empty folder or a {name}, got a folder '
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


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return smooth random blobs of several sizes, (H, W, 3) float32."""
    picture = np.full((height, width, 3), 128, np.float32)
    for side, contrast in OCTAVES:
        shape = (height // side + 2, width // side + 2, 3)
        blobs = rng.standard_normal(shape).astype(np.float32)
        whole = cv2.resize(
            blobs, None, fx=side, fy=side, interpolation=cv2.INTER_CUBIC
        )
        picture += contrast * whole[:height, :width]
    return picture.clip(0, 255)


def _parse_args(
    text: str, defaults: Mapping[str, Any], argv: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=text.split('\n', 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    for key, default in defaults.items():
        is_pair = isinstance(default, tuple)
        help_text, pair = OPTIONS[key]
        parser.add_argument(
            f'--{key.replace("_", "-")}',
            type=type(default[0] if is_pair else default),
            default=default,
            help=help_text,
            **(dict(nargs=2, metavar=pair) if is_pair else {}),
        )
    return parser.parse_args(argv)
