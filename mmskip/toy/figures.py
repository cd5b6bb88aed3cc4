"""Toy figures that handle a thing, and how they are painted and filmed.

Coordinates are in body heights, y up from the ground, x to the figure's
front. A cycle of a movement has phases from 0 to 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import cos, pi, sin

import cv2
import numpy as np

Point = tuple[float, float]
# By name: neck, hip, and elbow, hand, knee, foot of either side (0, 1).
Joints = dict[str, Point]

STANDING: Joints = dict(
    neck=(0.0, 0.78),
    hip=(0.0, 0.46),
    elbow0=(-0.13, 0.62),
    hand0=(-0.15, 0.46),
    elbow1=(0.13, 0.62),
    hand1=(0.15, 0.46),
    knee0=(-0.06, 0.24),
    foot0=(-0.09, 0.0),
    knee1=(0.06, 0.24),
    foot1=(0.09, 0.0),
)
Colour = tuple[int, int, int]
# Image coordinates are handed to OpenCV in sixteenths of a pixel.
SHIFT = 4
LIMBS = (
    ('hip', 'knee0', 'foot0', 'trousers'),
    ('hip', 'knee1', 'foot1', 'trousers'),
    ('neck', 'elbow0', 'hand0', 'shirt'),
    ('neck', 'elbow1', 'hand1', 'shirt'),
)
# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
# Standard deviation of the sensor's noise, of 255.
NOISE = 2.0
# Movements per frame, height of the figure and where it may stand, as shares
# of the image.
TEMPO = (0.03, 0.12)
HEIGHTS = (0.38, 0.62)
PLACES = ((0.22, 0.78), (0.72, 0.97))
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Stroke:
    """A part of a thing.

    Args:
        points: Corners of a line or of a filled outline.
        width: Width of the line; 0 fills the outline.
        colour: Which of the thing's two colours.
    """

    points: tuple[Point, ...]
    width: float = 0.0
    colour: int = 0


Pose = tuple[Joints, tuple[Stroke, ...]]


def stand(phase: float) -> Pose:
    """Stand about, with swinging arms and nothing in hand."""
    swing = 0.04 * sin(2 * pi * phase)
    return _move(hand0=(-0.15 + swing, 0.46), hand1=(0.15 + swing, 0.46)), ()


def lift_barbell(phase: float) -> Pose:
    """Push a bar with discs up and down overhead."""
    y = 1.02 + 0.1 * sin(2 * pi * phase)
    joints = _move(
        elbow0=(-0.22, 0.86),
        hand0=(-0.2, y),
        elbow1=(0.22, 0.86),
        hand1=(0.2, y),
    )
    bar = Stroke(((-0.5, y), (0.5, y)), 0.035, 1)
    return joints, (bar, _disc((-0.45, y), 0.12), _disc((0.45, y), 0.12))


def bounce_ball(phase: float) -> Pose:
    """Bounce a ball on the ground."""
    height = abs(sin(2 * pi * phase))
    joints = _move(elbow1=(0.18, 0.66), hand1=(0.33, 0.52 + 0.08 * height))
    return joints, (_disc((0.36, 0.13 + 0.26 * height), 0.13),)


def fly_kite(phase: float) -> Pose:
    """Hold the string of a kite in the wind."""
    x, y = 0.55 + 0.05 * sin(2 * pi * phase), 1.2 + 0.05 * cos(2 * pi * phase)
    joints = _move(elbow1=(0.16, 0.82), hand1=(0.26, 0.92))
    kite = ((x, y + 0.2), (x + 0.15, y), (x, y - 0.22), (x - 0.15, y))
    return joints, (
        Stroke(((0.26, 0.92), (x, y)), 0.02, 1),
        Stroke(kite),
        Stroke((kite[0], kite[2]), 0.025, 1),
    )


def hold_umbrella(phase: float) -> Pose:
    """Stand under an umbrella."""
    x = 0.08 + 0.03 * sin(2 * pi * phase)
    joints = _move(elbow1=(0.15, 0.64), hand1=(0.12, 0.74))
    dome = arc((x, 1.06), (0.46, 0.26), 0.0, pi)
    return joints, (Stroke(((0.12, 0.66), (x, 1.1)), 0.03, 1), Stroke(dome))


def row_boat(phase: float) -> Pose:
    """Sit in a boat and row."""
    lean = 0.1 * sin(2 * pi * phase)
    hand = (0.2 + lean, 0.4)
    joints = dict(
        neck=(-0.08 + lean, 0.54),
        hip=(-0.08, 0.2),
        elbow0=(0.02, 0.4),
        hand0=hand,
        elbow1=(0.04, 0.42),
        hand1=hand,
        knee0=(0.1, 0.34),
        foot0=(0.3, 0.18),
        knee1=(0.12, 0.32),
        foot1=(0.3, 0.16),
    )
    hull = ((-0.6, 0.24), (0.62, 0.24), (0.45, 0.0), (-0.45, 0.0))
    oar = Stroke((hand, (-0.18 - 2 * lean, -0.04)), 0.04, 1)
    return joints, (Stroke(hull), oar)


def ride_unicycle(phase: float) -> Pose:
    """Ride on a single wheel."""
    turn = 2 * pi * phase
    crank = (0.1 * cos(turn), 0.1 * sin(turn))
    sway = 0.06 * sin(turn)
    joints = dict(
        neck=(0.02, 0.98),
        hip=(0.0, 0.66),
        elbow0=(-0.2, 0.9),
        hand0=(-0.34, 0.94 + sway),
        elbow1=(0.2, 0.9),
        hand1=(0.34, 0.94 - sway),
        knee0=(-0.1, 0.46),
        knee1=(0.12, 0.46),
        foot0=(-crank[0], 0.24 - crank[1]),
        foot1=(crank[0], 0.24 + crank[1]),
    )
    tyre = arc((0.0, 0.24), (0.23, 0.23), 0.0, 2 * pi)
    spoke = ((-0.2 * cos(turn), 0.24 - 0.2 * sin(turn)), (0.0, 0.24))
    return joints, (
        Stroke(tyre, 0.06),
        Stroke(spoke, 0.025, 1),
        Stroke(((0.0, 0.24), (0.0, 0.6)), 0.04, 1),
    )


def spin_hoop(phase: float) -> Pose:
    """Spin a hoop around the hips."""
    turn = 2 * pi * phase
    centre = (0.05 * cos(turn), 0.5 + 0.03 * sin(turn))
    joints = _move(
        elbow0=(-0.2, 0.84),
        hand0=(-0.3, 0.98),
        elbow1=(0.2, 0.84),
        hand1=(0.3, 0.98),
        hip=(-0.04 * cos(turn), 0.46),
    )
    hoop = arc(centre, (0.42, 0.13), 0.0, 2 * pi)
    return joints, (Stroke(hoop, 0.055),)


def shoot_arrow(phase: float) -> Pose:
    """Draw a bow."""
    pull = 0.08 + 0.08 * sin(2 * pi * phase)
    joints = _move(
        elbow0=(-0.16, 0.8),
        hand0=(0.16 - pull, 0.76),
        elbow1=(0.2, 0.76),
        hand1=(0.4, 0.76),
    )
    bow = arc((0.2, 0.76), (0.24, 0.42), -pi / 2, pi / 2)
    string = (bow[0], joints['hand0'], bow[-1])
    return joints, (
        Stroke(bow, 0.05),
        Stroke(string, 0.02, 1),
        Stroke((joints['hand0'], (0.56, 0.76)), 0.03, 1),
    )


# Class names, in the alphabetical order of their labels.
ACTIONS: dict[str, Callable[[float], Pose]] = {
    'Bouncing a ball': bounce_ball,
    'Flying a kite': fly_kite,
    'Holding an umbrella': hold_umbrella,
    'Lifting a barbell': lift_barbell,
    'Riding a unicycle': ride_unicycle,
    'Rowing a boat': row_boat,
    'Shooting an arrow': shoot_arrow,
    'Spinning a hoop': spin_hoop,
}


def _move(**joints: Point) -> Joints:
    """Return a standing body with some joints elsewhere."""
    return {**STANDING, **joints}


def arc(
    centre: Point, radii: Point, start: float, end: float
) -> tuple[Point, ...]:
    """Return the points of an elliptic arc, angles in radians."""
    angles = np.linspace(start, end, 25)
    xs = centre[0] + radii[0] * np.cos(angles)
    ys = centre[1] + radii[1] * np.sin(angles)
    return tuple(zip(xs.tolist(), ys.tolist(), strict=True))


def _disc(centre: Point, radius: float) -> Stroke:
    return Stroke(arc(centre, (radius, radius), 0.0, 2 * pi))


@dataclass(frozen=True)
class Stage:
    """A stage for a figure: where it stands, and all colours.

    Colours are blue, green, red.

    Args:
        origin: Pixel of the figure's place on the ground.
        height: Pixels of a standing figure.
        facing: 1 if the figure faces right, -1 left.
        shirt, trousers, skin: Colours of the figure.
        thing: Two colours of what it handles.
        sky, ground: Colours of the background.
        horizon: Row of the horizon.
        bushes: ``(x, radius, colour)`` of each bush on the horizon.
    """

    origin: tuple[float, float]
    height: float
    facing: int
    shirt: Colour
    trousers: Colour
    skin: Colour
    thing: tuple[Colour, Colour]
    sky: Colour
    ground: Colour
    horizon: int
    bushes: tuple[tuple[int, int, Colour], ...]

    def pixels(self, points: tuple[tuple[float, float], ...]) -> np.ndarray:
        """Turn points in body heights into fixed-point pixels, (n, 1, 2)."""
        array = np.asarray(points) * (self.facing, -1) * self.height
        array = (array + self.origin) * (1 << SHIFT)
        return np.round(array).astype(np.int32)[:, None]

    def width(self, width: float) -> int:
        """Return the pixels of a line's width, at least 1."""
        return max(round(width * self.height), 1)


def choose_stage(rng: np.random.Generator, size: tuple[int, int]) -> Stage:
    """Draw a stage, from the same distribution whatever happens on it.

    Args:
        rng: Source of random numbers.
        size: ``(width, height)`` of the canvas in pixels.
    """
    width, height = size
    bushes = tuple(
        (
            int(rng.integers(width)),
            int(rng.uniform(0.04, 0.12) * height),
            _light(rng, 110, 190),
        )
        for _ in range(rng.integers(0, 5))
    )
    return Stage(
        origin=(
            rng.uniform(0.38, 0.62) * width,
            rng.uniform(0.84, 0.95) * height,
        ),
        height=rng.uniform(0.48, 0.6) * height,
        facing=int(rng.choice((-1, 1))),
        shirt=_vivid(rng),
        trousers=_vivid(rng),
        skin=(40, 60, 90),
        thing=(_vivid(rng), _vivid(rng)),
        sky=_light(rng, 185, 250),
        ground=_light(rng, 140, 210),
        horizon=int(rng.uniform(0.6, 0.8) * height),
        bushes=bushes,
    )


def paint_surroundings(stage: Stage, size: tuple[int, int]) -> np.ndarray:
    """Paint sky, ground and bushes.

    Returns:
        Image, uint8, shape (H, W, 3).
    """
    width, height = size
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = stage.sky
    canvas[stage.horizon :] = stage.ground
    for x, radius, colour in stage.bushes:
        cv2.circle(canvas, (x, stage.horizon), radius, colour, -1)
    return canvas


def paint_figure(canvas: np.ndarray, stage: Stage, joints: Joints) -> None:
    """Paint a body onto a canvas, in place."""
    colours = dict(shirt=stage.shirt, trousers=stage.trousers)
    for *names, part in LIMBS:
        points = tuple(joints[name] for name in names)
        _paint_line(canvas, stage, points, 0.07, colours[part])
    trunk = (joints['hip'], joints['neck'])
    _paint_line(canvas, stage, trunk, 0.13, stage.shirt)
    (x, y), (hip_x, _) = joints['neck'], joints['hip']
    head = stage.pixels(((x + 0.3 * (x - hip_x), y + 0.12),))[0, 0]
    radius = round(0.09 * stage.height * (1 << SHIFT))
    centre = (int(head[0]), int(head[1]))
    cv2.circle(canvas, centre, radius, stage.skin, -1, cv2.LINE_AA, SHIFT)


def paint_thing(
    canvas: np.ndarray, stage: Stage, strokes: tuple[Stroke, ...]
) -> None:
    """Paint what a figure handles onto a canvas, in place."""
    for stroke in strokes:
        colour = stage.thing[stroke.colour]
        if stroke.width:
            _paint_line(canvas, stage, stroke.points, stroke.width, colour)
        else:
            points = stage.pixels(stroke.points)
            cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA, SHIFT)


def paint_pose(canvas: np.ndarray, stage: Stage, pose: Pose) -> None:
    """Paint a figure and what it handles onto a canvas, in place."""
    joints, strokes = pose
    paint_figure(canvas, stage, joints)
    paint_thing(canvas, stage, strokes)


def paint_board(canvas: np.ndarray, stage: Stage, x: float) -> None:
    """Paint a board that hides all but the edges of what is behind it.

    Args:
        canvas: Image; changed in place.
        stage: The stage; the board has its ground's colour, darker.
        x: Where its middle is, in body heights from the figure.
    """
    middle = stage.origin[0] + x * stage.height
    left, right = middle - 0.62 * stage.height, middle + 0.62 * stage.height
    top = stage.origin[1] - 1.3 * stage.height
    corners = np.array([(left, top), (right, stage.origin[1])])
    (x1, y1), (x2, y2) = np.round(corners).astype(int).tolist()
    colour = tuple(int(0.8 * part) for part in stage.ground)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, -1)


def _paint_line(
    canvas: np.ndarray,
    stage: Stage,
    points: tuple[tuple[float, float], ...],
    width: float,
    colour: Colour,
) -> None:
    cv2.polylines(
        canvas,
        [stage.pixels(points)],
        False,
        colour,
        stage.width(width),
        cv2.LINE_AA,
        SHIFT,
    )


def _light(rng: np.random.Generator, low: int, high: int) -> Colour:
    """Return a pale colour."""
    grey = rng.uniform(low, high)
    tint = np.clip(grey + rng.uniform(-20, 20, 3), 0, 255)
    return tuple(int(part) for part in tint)


def _vivid(rng: np.random.Generator) -> Colour:
    """Return a strong, rather dark colour."""
    hue, value = rng.integers(180), rng.uniform(70, 170)
    pixel = np.array([[(hue, 210, value)]], np.uint8)
    return tuple(
        int(part) for part in cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    )


@dataclass(frozen=True)
class ActorVideo:
    """A short video of one figure.

    Args:
        action: A key of ``ACTIONS``.
        seed: Seeds of the data set and of the video.
        frames: Number of frames.
        size: ``(width, height)`` of the images in pixels.
    """

    action: str
    seed: tuple[int, ...]
    frames: int
    size: tuple[int, int]

    def film(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Film the video.

        Yields:
            Per frame the image, uint8 of shape (height, width, 3) in blue,
            green, red, and the mask of the figure, without the thing that it
            handles, uint8 of shape (height, width), 1 inside.
        """
        rng = np.random.default_rng(self.seed)
        large = (self.size[0] * OVERSAMPLING, self.size[1] * OVERSAMPLING)
        stage = choose_stage(rng, large)
        stage = replace(stage, height=rng.uniform(*HEIGHTS) * large[1])
        path = np.linspace(_place(rng, large), _place(rng, large), self.frames)
        phases = rng.random() + rng.uniform(*TEMPO) * np.arange(self.frames)
        around = paint_surroundings(stage, large)
        for origin, phase in zip(path, phases % 1, strict=True):
            here = replace(stage, origin=tuple(origin))
            pose = ACTIONS[self.action](float(phase))
            canvas = around.copy()
            paint_pose(canvas, here, pose)
            yield self._photograph(canvas, rng), self._mask(here, pose)

    def _photograph(
        self, canvas: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a canvas of the image's size, with noise."""
        image = cv2.resize(canvas, self.size, interpolation=cv2.INTER_AREA)
        noise = NOISE * rng.standard_normal(image.shape, np.float32)
        return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)

    def _mask(self, stage: Stage, pose: Pose) -> np.ndarray:
        """Find where the figure fills at least half of a pixel."""
        width, height = self.size
        shape = (height * OVERSAMPLING, width * OVERSAMPLING, 3)
        canvas = np.zeros(shape, np.uint8)
        white = replace(stage, shirt=WHITE, trousers=WHITE, skin=WHITE)
        paint_figure(canvas, white, pose[0])
        small = cv2.resize(
            canvas[..., 0], self.size, interpolation=cv2.INTER_AREA
        )
        return (small >= 128).astype(np.uint8)


def _place(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[float, float]:
    """Draw where a figure stands on a canvas."""
    xs, ys = PLACES
    return rng.uniform(*xs) * size[0], rng.uniform(*ys) * size[1]
