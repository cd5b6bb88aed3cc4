"""Paint a toy figure, the thing it handles, and what is around them."""

from dataclasses import dataclass

import cv2
import numpy as np

from .acting import Joints, Pose, Stroke

Colour = tuple[int, int, int]

# Image coordinates are handed to OpenCV in sixteenths of a pixel.
SHIFT = 4
LIMBS = (
    ('hip', 'knee0', 'foot0', 'trousers'),
    ('hip', 'knee1', 'foot1', 'trousers'),
    ('neck', 'elbow0', 'hand0', 'shirt'),
    ('neck', 'elbow1', 'hand1', 'shirt'),
)


@dataclass(frozen=True)
class Stage:
    """Where something happens and what it looks like.

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
        """Fixed-point pixels of points in body heights, shape (n, 1, 2)."""
        array = np.asarray(points) * (self.facing, -1) * self.height
        array = (array + self.origin) * (1 << SHIFT)
        return np.round(array).astype(np.int32)[:, None]

    def width(self, width: float) -> int:
        """Pixels of a line's width, at least 1."""
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
    """Sky, ground and bushes.

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
    """A pale colour."""
    grey = rng.uniform(low, high)
    tint = np.clip(grey + rng.uniform(-20, 20, 3), 0, 255)
    return tuple(int(part) for part in tint)


def _vivid(rng: np.random.Generator) -> Colour:
    """A strong, rather dark colour."""
    hue, value = rng.integers(180), rng.uniform(70, 170)
    pixel = np.array([[(hue, 210, value)]], np.uint8)
    return tuple(
        int(part) for part in cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    )
