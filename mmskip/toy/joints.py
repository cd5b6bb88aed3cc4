"""Film a toy figure with fifteen joints before a wall that stands still.

Coordinates are in body heights, y up from the ground, x to the right of the
image; the figure looks at the camera, so that its right side is on the left.
A cycle of a move has phases from 0 to 1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from typing import NamedTuple

import cv2
import numpy as np

from mmskip.datasets.jhmdb_pose_release import NAMES

# Lengths in body heights.
SPINE, NECK, SHOULDERS, HIPS, PELVIS = 0.25, 0.13, 0.12, 0.07, 0.07
UPPER_ARM, FOREARM, THIGH, SHIN = 0.17, 0.16, 0.24, 0.23
STANDING = PELVIS + THIGH + SHIN  # height of the belly
ARM, LEG = ('shoulder', 'elbow', 'wrist'), ('hip', 'knee', 'ankle')
CHANNELS = (
    *(
        f'{side}_{part}'
        for side in ('right', 'left')
        for part in ('arm', 'elbow', 'leg', 'knee')
    ),
    'lean',
    'rise',
)
# How much the middle of a swing varies from figure to figure.
SPREADS = dict(lean=0.1, rise=0.0, right_leg=0.12, left_leg=0.12)
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


@dataclass(frozen=True)
class Swing:
    """A number that swings once in a cycle.

    Args:
        middle: Its mean.
        reach: How far it goes from there.
        start: Phase at which it passes the middle upwards.
    """

    middle: float = 0.0
    reach: float = 0.0
    start: float = 0.0

    def at(self, phase: float) -> float:
        """Return its value at a phase."""
        return self.middle + self.reach * sin(2 * pi * (phase - self.start))


STILL = Swing()
# What swings, in radians: a limb's angle from hanging down, outwards, and
# the bend of its second half from its first; the lean of the back to the
# figure's left. `rise` is in body heights. Classes are alphabetical, and
# called as in JHMDB and HMDB51.
MOVES: dict[str, Mapping[str, Swing]] = dict(
    catch=dict(
        right_arm=Swing(1.5, 0.5),
        right_elbow=Swing(0.9, 0.5),
        left_arm=Swing(1.5, 0.5),
        left_elbow=Swing(0.9, 0.5),
    ),
    climb_stairs=dict(
        right_arm=Swing(0.3, 0.2, 0.5),
        left_arm=Swing(0.3, 0.2),
        right_leg=Swing(0.45, 0.4),
        right_knee=Swing(-0.6, 0.5, 0.5),
        left_leg=Swing(0.45, 0.4, 0.5),
        left_knee=Swing(-0.6, 0.5),
    ),
    golf=dict(
        right_arm=Swing(-0.3, 0.9),
        right_elbow=Swing(-0.2, 0.3),
        left_arm=Swing(-0.3, 0.9, 0.5),
        left_elbow=Swing(-0.2, 0.3, 0.5),
        right_leg=Swing(0.2),
        left_leg=Swing(0.2),
        lean=Swing(0.0, 0.12, 0.5),
    ),
    jump=dict(
        right_arm=Swing(1.0, 0.6),
        left_arm=Swing(1.0, 0.6),
        right_leg=Swing(0.25, 0.2),
        left_leg=Swing(0.25, 0.2),
        rise=Swing(0.07, 0.07),
    ),
    kick_ball=dict(
        right_arm=Swing(0.5, 0.2),
        left_arm=Swing(0.5, 0.2, 0.5),
        left_leg=Swing(0.55, 0.55),
        left_knee=Swing(-0.3, 0.3, 0.5),
        lean=Swing(-0.08, 0.08, 0.5),
    ),
    pick=dict(
        right_arm=Swing(0.9, 0.4),
        right_elbow=Swing(0.2, 0.2),
        left_arm=Swing(-0.5, 0.2),
        right_leg=Swing(0.5, 0.1),
        right_knee=Swing(-0.5, 0.1),
        left_leg=Swing(0.3, 0.1),
        lean=Swing(-0.55, 0.3),
    ),
    pullup=dict(
        right_arm=Swing(2.3, 0.35),
        right_elbow=Swing(0.7, 0.45, 0.5),
        left_arm=Swing(2.3, 0.35),
        left_elbow=Swing(0.7, 0.45, 0.5),
        rise=Swing(0.05, 0.04, 0.5),
    ),
    push=dict(
        right_arm=Swing(1.3, 0.2),
        right_elbow=Swing(0.5, 0.7),
        left_arm=Swing(1.3, 0.2, 0.5),
        left_elbow=Swing(0.5, 0.7, 0.5),
        right_leg=Swing(0.3),
        left_leg=Swing(0.3),
    ),
)


def vary(
    swings: Mapping[str, Swing],
    rng: np.random.Generator,
    variety: float = 1.0,
) -> dict[str, Swing]:
    """Vary a move, as somebody else makes it.

    Args:
        swings: The move.
        rng: Source of randomness.
        variety: Factor of how far poses differ from figure to figure.
    """
    varied = {}
    for name in CHANNELS:
        swing = swings.get(name, STILL)
        spread = variety * SPREADS.get(name, 0.3)
        varied[name] = Swing(
            swing.middle + rng.uniform(-spread, spread),
            swing.reach * rng.uniform(0.7, 1.3),
            swing.start,
        )
    return varied


def joints_at(swings: Mapping[str, Swing], phase: float) -> np.ndarray:
    """Return the joints of a figure whose belly is above the origin.

    Args:
        swings: A move: what swings, and how.
        phase: Where in the cycle.

    Returns:
        x and y in the order of JHMDB, shape (15, 2).
    """

    def value(name: str) -> float:
        return swings.get(name, STILL).at(phase)

    lean = value('lean')
    up, aside = (sin(lean), cos(lean)), (cos(lean), -sin(lean))
    belly = np.array([0.0, STANDING + value('rise')])
    neck = belly + np.multiply(SPINE, up)
    found = dict(belly=belly, neck=neck, head=neck + np.multiply(NECK, up))
    for side, sign in (('right', -1), ('left', 1)):
        shoulder = neck + np.multiply(sign * SHOULDERS, aside)
        hip = belly + np.array([sign * HIPS, -PELVIS])
        for start, limb, lengths, parts in (
            (shoulder, ('arm', 'elbow'), (UPPER_ARM, FOREARM), ARM),
            (hip, ('leg', 'knee'), (THIGH, SHIN), LEG),
        ):
            angle = value(f'{side}_{limb[0]}')
            middle = start + _reach(sign, angle, lengths[0])
            angle += value(f'{side}_{limb[1]}')
            end = middle + _reach(sign, angle, lengths[1])
            for name, place in zip(parts, (start, middle, end), strict=True):
                found[f'{side}_{name}'] = place
    return np.stack([found[name] for name in NAMES])


class FigureFrame(NamedTuple):
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
        heights: Smallest and largest figure, as shares of the image's height.
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

    def film(self) -> Iterator[FigureFrame]:
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
            yield FigureFrame(
                np.clip(image + 0.5, 0, 255).astype(np.uint8),
                (mask >= 128).astype(np.uint8),
                (joints + 0.5) / OVERSAMPLING - 0.5,
            )


def paint_wall(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Paint a wall with texture, and a floor, uint8, (H, W, 3)."""
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
        colours: Colours of trousers, shirt, sleeves and skin.
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


def _reach(sign: int, angle: float, length: float) -> np.ndarray:
    """Return where a part of a limb ends, from where it starts."""
    return length * np.array([sign * sin(angle), -cos(angle)])


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
    """Return the pixels as OpenCV's fixed-point integers."""
    return np.round(points * (1 << SHIFT)).astype(np.int32)


def _pale(rng: np.random.Generator) -> np.ndarray:
    """Return a rather light colour of little saturation."""
    return rng.uniform(140, 210) + rng.uniform(-25, 25, 3)


def _dress(rng: np.random.Generator) -> dict[str, tuple[int, int, int]]:
    """Draw the colours of a figure."""
    parts = ('trousers', 'shirt', 'sleeves', 'skin')
    return {part: _vivid(rng) for part in parts}


def _vivid(rng: np.random.Generator) -> tuple[int, int, int]:
    """Return a strong, rather dark colour."""
    hue, value = rng.integers(180), rng.uniform(60, 170)
    pixel = np.array([[(hue, 200, value)]], np.uint8)
    colour = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    return tuple(int(part) for part in colour)
