"""Write a toy UA-DETRAC in the layout of the original release.

    Insight-MVT_Annotation_Train/MVI_90001/img00001.jpg
    Insight-MVT_Annotation_Test/MVI_95001/img00001.jpg
    DETRAC-Train-Annotations-XML/MVI_90001.xml
    DETRAC-Test-Annotations-XML/MVI_95001.xml

The numbers of the sequences do not occur in the original.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2

from .sequence import SequencePlan, ToySequence
from .ua_detrac_xml import format_sequence

MARKER = 'toy_ua_detrac.json'
# Grows when the same arguments give other bytes.
VERSION = 3
JPEG_QUALITY = 95
PLACES = 4
# Frames within which vehicles come into sight on an empty road.
LONG = 20
FIRST_NUMBER = dict(train=90001, test=95001)


def make_toy_ua_detrac(
    root: str | os.PathLike,
    *,
    train_sequences: int = 96,
    test_sequences: int = 6,
    frames: int = 40,
    train_frames: int | None = None,
    size: tuple[int, int] = (448, 256),
    density: float = 0.4,
    seed: int = 0,
    on_frame: Callable[[], None] | None = None,
) -> Path:
    """Write a toy UA-DETRAC, unless it is there already.

    It is written to ``{root}.partial`` and moved when it is complete.

    Four cameras take turns, in training and in test: the first and the third
    see parked vehicles, the third a light that is red at first. Of the
    sequences of each split the second gets slowly darker; the fourth begins
    with an empty road, if it is long enough for vehicles to come. The same
    arguments give the same bytes with the same releases of numpy and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        train_sequences: Number of training sequences.
        test_sequences: Number of test sequences.
        frames: Number of frames of each.
        train_frames: That of training sequences, if it is another: many
            short ones teach more than few long ones.
        size: ``(width, height)`` of the images in pixels.
        density: Vehicles per lane and second that want to enter.
        seed: Seed of all that is random.
        on_frame: Called after each frame written.

    Returns:
        ``root``, for ``data_root`` of ``mmskip.UADETRACDataset``.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=VERSION,
        train_sequences=train_sequences,
        test_sequences=test_sequences,
        frames=frames,
        train_frames=frames if train_frames is None else train_frames,
        size=list(size),
        density=density,
        seed=seed,
    )
    _check(arguments)
    root = Path(root).absolute()
    if not is_complete(root, arguments):
        partial = _start_over(root)
        _write_all(partial, arguments, on_frame)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    return root


def plan_sequence(
    index: int, frames: int, size: tuple[int, int], density: float
) -> SequencePlan:
    """Decide what happens in a sequence, see :func:`make_toy_ua_detrac`."""
    place = index % PLACES
    return SequencePlan(
        frames=frames,
        size=size,
        place=place,
        density=density,
        busy=index != 3 or frames < LONG,
        traffic_light=place == 2,
        light_change=index == 1,
        parking=place in (0, 2),
    )


def is_complete(root: Path, arguments: dict) -> bool:
    """Whether a folder holds this very data set.

    Args:
        root: The folder; it need not exist.
        arguments: What the data set is to be made with.

    Returns:
        True if all is there, False if there is nothing at all.

    Raises:
        FileExistsError: There is something else.
    """
    if root.exists() and not root.is_dir():
        raise FileExistsError(f'{root}: expected a folder, got a file')
    if not root.exists() or not any(root.iterdir()):
        return False
    marker = root / MARKER
    if not marker.is_file():
        raise FileExistsError(
            f'{root}: expected an empty folder or a toy UA-DETRAC, '
            f'got a folder without {MARKER}; remove it or choose another'
        )
    found = json.loads(marker.read_text())
    if found != arguments:
        differing = ', '.join(
            f'{key}={found.get(key)!r} instead of {value!r}'
            for key, value in arguments.items()
            if found.get(key) != value
        )
        raise FileExistsError(
            f'{root}: holds a toy UA-DETRAC made with {differing}; remove it '
            'or choose another folder'
        )
    return True


def _check(arguments: dict) -> None:
    """Refuse arguments out of range."""
    for name, least in (
        ('train_sequences', 0),
        ('test_sequences', 0),
        ('frames', 1),
        ('train_frames', 1),
        ('seed', 0),
    ):
        value = arguments[name]
        if not isinstance(value, int) or value < least:
            raise ValueError(f'expected {name} >= {least}, got {value!r}')
    size = arguments['size']
    if len(size) != 2 or min(size) < 64:
        raise ValueError(
            f'expected size (width, height) of at least 64 each, got {size}'
        )
    if arguments['density'] <= 0:
        raise ValueError(f'expected density > 0, got {arguments["density"]!r}')


def _start_over(root: Path) -> Path:
    """Make an empty folder beside ``root``; remove what was interrupted."""
    partial = root.with_name(f'{root.name}.partial')
    if partial.exists():
        if not (partial / MARKER).is_file():
            raise FileExistsError(
                f'{partial}: expected what an interrupted run left, got '
                'something else; remove it'
            )
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def _write_all(
    root: Path, arguments: dict, on_frame: Callable[[], None] | None
) -> None:
    """Write the marker and every sequence."""
    (root / MARKER).write_text(json.dumps(arguments, indent=2) + '\n')
    lengths = dict(train=arguments['train_frames'], test=arguments['frames'])
    for split, frames in lengths.items():
        for index in range(arguments[f'{split}_sequences']):
            number = FIRST_NUMBER[split] + index
            plan = plan_sequence(
                index, frames, tuple(arguments['size']), arguments['density']
            )
            sequence = ToySequence(plan, arguments['seed'], number)
            _write_sequence(root, split, number, sequence, on_frame)


def _write_sequence(
    root: Path,
    split: str,
    number: int,
    sequence: ToySequence,
    on_frame: Callable[[], None] | None,
) -> None:
    """Write images and annotation of a sequence."""
    name = f'MVI_{number}'
    images = root / f'Insight-MVT_Annotation_{split.capitalize()}' / name
    annotations = root / f'DETRAC-{split.capitalize()}-Annotations-XML'
    images.mkdir(parents=True)
    annotations.mkdir(exist_ok=True)
    frames = []
    for frame, (image, sightings) in enumerate(sequence.film(), 1):
        _, data = cv2.imencode(
            '.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        (images / f'img{frame:05d}.jpg').write_bytes(data.tobytes())
        frames.append(sightings)
        if on_frame is not None:
            on_frame()
    text = format_sequence(
        name,
        frames,
        ignored_regions=sequence.ignored_regions,
        weather=sequence.scene.light.weather,
    )
    (annotations / f'{name}.xml').write_text(text, encoding='utf-8')
