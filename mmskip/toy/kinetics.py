"""Write toy action videos in the layout of Kinetics for mmaction2.

videos_train/boats_to_the_left/toyt000000.mp4
videos_val/boats_to_the_left/toyv000000.mp4
train_list_videos.txt  val_list_videos.txt  classes.txt
groups.json                {"toyv000000": "static", ...}

The videos stand still, move slowly or move fast. Things come in patterns
that repeat, so that a movement can go on for ever: boats in a row, kites in
columns, the spokes of a wheel, hoops in each other. A phase counts periods:
at 1 the pattern looks as at 0, and phases that fall show the movement of the
other class. Coordinates are those of :mod:`mmskip.toy.figures`.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import cos, floor, pi, sin
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmskip.datasets.action_lists import (
    ActionEntry,
    index_media,
    write_classes,
    write_list,
)

from .figures import (
    Point,
    Stage,
    Stroke,
    arc,
    choose_stage,
    paint_figure,
    paint_surroundings,
    paint_thing,
    stand,
)
from .folder import check_video_arguments, write_once, write_video

MARKER = 'toy_kinetics.json'
GROUPS = 'groups.json'
# Grows when the same arguments give other bytes.
VERSION = 2
SPLITS = ('train', 'val')
LEAST = dict(train_videos=0, test_videos=0, frames=8, seed=0)
# Periods in body heights, of the wheel in turns.
BOATS, KITES, WHEEL, HOOPS = 0.7, 0.6, 1 / 5, 0.32
SIGN_SIDE = 0.45  # of the height of the image
ARROW: tuple[Point, ...] = (
    (0.8, 0.0),
    (0.1, 0.7),
    (0.1, 0.3),
    (-0.8, 0.3),
    (-0.8, -0.3),
    (0.1, -0.3),
    (0.1, -0.7),
)
# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
# Standard deviation of the sensor's noise, of 255. More makes single frames
# harder.
NOISE = 3.0
# How often somebody who does nothing stands in front of the pattern.
BYSTANDER = 0.5
# Periods per frame of the video. Of two frames, the movement is seen up to
# half a period; of every fourth frame, slow videos still show it and of fast
# ones little is left. Faster is harder, and slower is harder with few pixels.
SPEEDS = dict(static=(0.0, 0.0), slow=(0.03, 0.05), fast=(0.075, 0.1))


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
    (:class:`mmskip.toy.kinetics.TrimmedVideo`); ``groups.json``
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


class MovingPattern(NamedTuple):
    """A class of toy videos: a pattern and the direction it moves in.

    Attributes:
        draw: Paints the pattern at a phase.
        sense: 1 if phases rise, -1 if they fall.
        arrow: Where the arrow on the sign points: right 0, up 1, left 2,
            down 3.
    """

    draw: Callable[[float], tuple[Stroke, ...]]
    sense: int
    arrow: int


def boats(phase: float) -> tuple[Stroke, ...]:
    """Draw a row of boats on the ground, to the right as the phase rises."""
    hull = ((-0.28, 0.22), (0.28, 0.22), (0.18, 0.0), (-0.18, 0.0))
    shift = phase - floor(phase)
    return tuple(
        Stroke(tuple(((k + shift) * BOATS + x, y) for x, y in hull))
        for k in range(-4, 4)
    )


def kites(phase: float) -> tuple[Stroke, ...]:
    """Draw two columns of kites, upwards as the phase rises."""
    strokes = []
    for column, x in enumerate((-0.4, 0.4)):
        shift = phase + column / 2
        shift -= floor(shift)
        for k in range(-1, 5):
            y = (k + shift) * KITES
            corners = ((x, y + 0.2), (x + 0.15, y), (x, y - 0.2))
            strokes.append(Stroke((*corners, (x - 0.15, y))))
            strokes.append(Stroke((corners[0], corners[2]), 0.025, 1))
    return tuple(strokes)


def wheel(phase: float) -> tuple[Stroke, ...]:
    """Draw a wheel with spokes, counterclockwise as the phase rises."""
    centre = (0.0, 0.56)
    strokes = [Stroke(arc(centre, (0.52, 0.52), 0.0, 2 * pi), 0.07)]
    for spoke in range(round(1 / WHEEL)):
        angle = 2 * pi * WHEEL * (spoke + phase)
        end = (0.52 * cos(angle), 0.56 + 0.52 * sin(angle))
        strokes.append(Stroke((centre, end), 0.07, 1))
    return tuple(strokes)


def hoops(phase: float) -> tuple[Stroke, ...]:
    """Draw hoops in each other, growing as the phase rises."""
    shift = phase - floor(phase)
    radii = [(k + shift) * HOOPS for k in range(3)]
    return tuple(
        Stroke(arc((0.0, 0.6), (radius, radius), 0.0, 2 * pi), 0.09)
        for radius in radii
        if radius > 0
    )


# Class names in alphabetical order, as folders: without white space.
MOTIONS: dict[str, MovingPattern] = dict(
    boats_to_the_left=MovingPattern(boats, -1, 2),
    boats_to_the_right=MovingPattern(boats, 1, 0),
    hoops_growing=MovingPattern(hoops, 1, 0),
    hoops_shrinking=MovingPattern(hoops, -1, 2),
    kites_falling=MovingPattern(kites, -1, 3),
    kites_rising=MovingPattern(kites, 1, 1),
    wheel_clockwise=MovingPattern(wheel, -1, 3),
    wheel_counterclockwise=MovingPattern(wheel, 1, 1),
)


def paint_sign(
    canvas: np.ndarray,
    stage: Stage,
    place: tuple[float, float],
    arrow: int | None,
) -> None:
    """Paint a sign with an arrow, or an empty one.

    Args:
        canvas: Image; changed in place.
        stage: Gives the colour of the arrow.
        place: Middle of the sign, ``(x, y)`` as shares of the image's
            height, x from the middle of the image.
        arrow: Quarter turns from an arrow to the right; None for no arrow.
    """
    height, width = canvas.shape[:2]
    middle = np.array([width / 2, 0]) + np.array(place) * height
    half = SIGN_SIDE * height / 2
    (x1, y1), (x2, y2) = np.round([middle - half, middle + half]).astype(int)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (250, 250, 250), -1)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (90, 90, 90), 2)
    if arrow is None:
        return
    cosine, sine = ((1, 0), (0, -1), (-1, 0), (0, 1))[arrow]
    turn = np.array([[cosine, sine], [-sine, cosine]])
    points = middle + half * (np.array(ARROW) @ turn)
    corners = np.round(points).astype(np.int32)
    cv2.fillPoly(canvas, [corners], stage.thing[0], cv2.LINE_AA)


class TrimmedVideo(NamedTuple):
    """A toy action video: a pattern that moves at some speed.

    The pattern tells a pair of classes. Which of the two is told by the
    direction in which it moves; by the arrow on the sign, where it stands
    still. The sign of a moving pattern is empty. So every class occurs at
    every speed, a static video is told by any of its frames, and a moving
    one by no single frame.

    Args:
        label: Name of the class, a key of ``MOTIONS``.
        group: A key of ``SPEEDS``.
        seed: Seeds of the data set and of the video.
        frames: Number of frames.
        size: ``(width, height)`` of the images in pixels.
    """

    label: str
    group: str
    seed: tuple[int, ...]
    frames: int = 32
    size: tuple[int, int] = (96, 80)

    def film(self) -> Iterator[np.ndarray]:
        """Film the video.

        Nothing but the pattern and the arrow depends on label and group.

        Yields:
            The frames, uint8 of shape (height, width, 3) in blue, green,
            red.
        """
        rng = np.random.default_rng(self.seed)
        motion = MOTIONS[self.label]
        canvas_size = tuple(side * OVERSAMPLING for side in self.size)
        # Facing right, so that directions are as they are called.
        stage = replace(choose_stage(rng, canvas_size), facing=1)
        around = paint_surroundings(stage, canvas_size)
        bystander = _place_bystander(rng, stage)
        place = (rng.uniform(-0.2, 0.2), rng.uniform(0.15, 0.22))
        start, speed = rng.random(2)
        slowest, fastest = SPEEDS[self.group]
        step = motion.sense * (slowest + speed * (fastest - slowest))
        arrow = motion.arrow if self.group == 'static' else None
        for index in range(self.frames):
            canvas = around.copy()
            paint_thing(canvas, stage, motion.draw(start + index * step))
            if bystander is not None:
                paint_figure(canvas, bystander, stand(0.0)[0])
            paint_sign(canvas, stage, place, arrow)
            image = cv2.resize(
                canvas, self.size, interpolation=cv2.INTER_AREA
            ).astype(np.float32)
            image += NOISE * rng.standard_normal(image.shape, np.float32)
            yield np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _place_bystander(rng: np.random.Generator, stage: Stage) -> Stage | None:
    """Draw a stage for somebody who does nothing, if there is one."""
    shift, size, there = rng.random(3)
    if there >= BYSTANDER:
        return None
    x, y = stage.origin
    x += (2 * shift - 1) * stage.height
    return replace(
        stage, origin=(x, y), height=(0.6 + 0.3 * size) * stage.height
    )
