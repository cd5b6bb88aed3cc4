"""Film a toy figure with fifteen joints before a wall that stands still."""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from mmskip.datasets.jhmdb_pose_json import NAMES

from .moves import MOVES, joints_at, vary

# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
# Standard deviation of the sensor's noise, of 255.
NOISE = 1.0
# Cycles per frame: one takes 14 to 30 frames.
TEMPO = (1 / 30, 1 / 14)
# Image coordinates are handed to OpenCV in sixteenths of a pixel.
SHIFT = 4
# Lines of the body: names, width in body heights, which of the colours.
LIMBS = (
    (('right_hip', 'right_knee', 'right_ankle'), 0.075, 'trousers'),
    (('left_hip', 'left_knee', 'left_ankle'), 0.075, 'trousers'),
    (('right_hip', 'left_hip'), 0.09, 'trousers'),
    (('belly', 'neck'), 0.17, 'shirt'),
    (('right_shoulder', 'left_shoulder'), 0.08, 'shirt'),
    (('right_shoulder', 'right_elbow', 'right_wrist'), 0.06, 'sleeves'),
    (('left_shoulder', 'left_elbow', 'left_wrist'), 0.06, 'sleeves'),
)
HEAD = 0.075
BELLY = NAMES.index('belly')
# What is easily taken for a limb: strokes on the wall, and how often somebody
# who does nothing stands behind the figure.
STROKES = 10
BYSTANDER = 0.5
# Of an image's height: the figure's, and from where to where it may reach.
HEIGHTS = (0.5, 0.66)
MARGIN = 0.04


class Shot(NamedTuple):
    """A frame.

    Attributes:
        image: uint8, (height, width, 3), in blue, green, red.
        mask: uint8, (height, width), 1 where the figure is.
        joints: x and y in pixels from 0, (15, 2).
    """

    image: np.ndarray
    mask: np.ndarray
    joints: np.ndarray


class FigureVideo(NamedTuple):
    """A video in which a figure makes one move again and again.

    Args:
        move: A key of ``MOVES``.
        seed: Seeds of the data set and of the video.
        frames: Number of frames.
        size: ``(width, height)`` of the images in pixels.
        heights: Of the figure, smallest and largest, of the image's height.
        clutter: Whether there is what is easily taken for the figure.
        variety: Factor of how far poses differ from figure to figure.
    """

    move: str
    seed: tuple[int, ...]
    frames: int
    size: tuple[int, int]
    heights: tuple[float, float] = HEIGHTS
    clutter: bool = True
    variety: float = 2.5

    def film(self) -> Iterator[Shot]:
        """Film the video."""
        rng = np.random.default_rng(self.seed)
        width, height = (side * OVERSAMPLING for side in self.size)
        scale = rng.uniform(*self.heights) * height
        phases = rng.random() + rng.uniform(*TEMPO) * np.arange(self.frames)
        swings = vary(MOVES[self.move], rng, self.variety)
        poses = np.stack([joints_at(swings, phase) for phase in phases])
        places = poses * (scale, -scale)
        places += _place(rng, places, (width, height))
        wall = paint_wall(rng, (width, height))
        if self.clutter:
            paint_strokes(rng, wall)
        if self.clutter and rng.random() < BYSTANDER:
            aside = scale * rng.uniform(0.25, 0.6) * rng.choice((-1, 1))
            other = joints_at(vary({}, rng, self.variety), 0.0) * (
                scale,
                -scale,
            )
            other += places[0, BELLY] - other[BELLY] + (aside, 0)
            paint_body(wall, other, scale, _dress(rng))
        colours = _dress(rng)
        white = dict.fromkeys(colours, (255, 255, 255))
        for joints in places:
            canvas = wall.copy()
            paint_body(canvas, joints, scale, colours)
            image = cv2.resize(
                canvas, self.size, interpolation=cv2.INTER_AREA
            ).astype(np.float32)
            image += NOISE * rng.standard_normal(image.shape, np.float32)
            blank = np.zeros_like(wall)
            paint_body(blank, joints, scale, white)
            mask = cv2.resize(
                blank[..., 0], self.size, interpolation=cv2.INTER_AREA
            )
            yield Shot(
                np.clip(image + 0.5, 0, 255).astype(np.uint8),
                (mask >= 128).astype(np.uint8),
                (joints + 0.5) / OVERSAMPLING - 0.5,
            )


def paint_wall(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A wall with texture, and a floor, uint8, (H, W, 3)."""
    width, height = size
    wall = np.empty((height, width, 3), np.float32)
    wall[:] = _pale(rng)
    wall[int(rng.uniform(0.7, 0.9) * height) :] = 0.85 * _pale(rng)
    for cells, strength in ((4, 30), (16, 22), (48, 12)):
        grid = (max(cells * height // width, 2), cells, 3)
        noise = rng.uniform(-1, 1, grid).astype(np.float32)
        wall += strength * cv2.resize(
            noise, size, interpolation=cv2.INTER_CUBIC
        )
    return np.clip(wall, 0, 255).astype(np.uint8)


def paint_strokes(rng: np.random.Generator, wall: np.ndarray) -> None:
    """Paint strokes like limbs onto a wall, in place."""
    height, width = wall.shape[:2]
    for _ in range(STROKES):
        start = rng.random(2) * (width, height)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.3)
        way = np.array([np.cos(angle), np.sin(angle)]) * length * height
        line = _fixed(np.stack([start, start + way]))
        thickness = max(round(rng.uniform(0.02, 0.05) * height), 1)
        cv2.polylines(
            wall, [line], False, _vivid(rng), thickness, cv2.LINE_AA, SHIFT
        )


def paint_body(
    canvas: np.ndarray,
    joints: np.ndarray,
    scale: float,
    colours: dict[str, tuple[int, int, int]],
) -> None:
    """Paint a figure onto a canvas, in place.

    Args:
        canvas: Image; changed in place.
        joints: x and y in its pixels, (15, 2).
        scale: Pixels of a body height.
        colours: Of trousers, shirt, sleeves and skin.
    """
    places = dict(zip(NAMES, joints, strict=True))
    for names, wide, part in LIMBS:
        line = _fixed(np.stack([places[name] for name in names]))
        thickness = max(round(wide * scale), 1)
        cv2.polylines(
            canvas,
            [line],
            False,
            colours[part],
            thickness,
            cv2.LINE_AA,
            SHIFT,
        )
    x, y = _fixed(places['head']).tolist()
    radius = round(HEAD * scale * (1 << SHIFT))
    cv2.circle(canvas, (x, y), radius, colours['skin'], -1, cv2.LINE_AA, SHIFT)


def _place(
    rng: np.random.Generator, places: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Draw a shift that keeps all joints in the image, if they fit."""
    low, high = places.min((0, 1)), places.max((0, 1))
    margin = MARGIN * size[1] + HEAD * (high - low)[1]
    least, most = margin - low, np.array(size) - margin - high
    share = rng.random(2)
    return np.where(
        most > least, least + share * (most - least), (least + most) / 2
    )


def _fixed(points: np.ndarray) -> np.ndarray:
    """Pixels as OpenCV's fixed-point integers."""
    return np.round(points * (1 << SHIFT)).astype(np.int32)


def _pale(rng: np.random.Generator) -> np.ndarray:
    """A rather light colour of little saturation."""
    return rng.uniform(140, 210) + rng.uniform(-25, 25, 3)


def _dress(rng: np.random.Generator) -> dict[str, tuple[int, int, int]]:
    """Draw the colours of a figure."""
    parts = ('trousers', 'shirt', 'sleeves', 'skin')
    return {part: _vivid(rng) for part in parts}


def _vivid(rng: np.random.Generator) -> tuple[int, int, int]:
    """A strong, rather dark colour."""
    hue, value = rng.integers(180), rng.uniform(60, 170)
    pixel = np.array([[(hue, 200, value)]], np.uint8)
    colour = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    return tuple(int(part) for part in colour)
