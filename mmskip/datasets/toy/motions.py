"""What moves in a toy action video, and the sign that tells its direction.

Things come in patterns that repeat, so that a movement can go on for ever:
boats in a row, kites in columns, the spokes of a wheel, hoops in each
other. A phase counts periods: at 1 the pattern looks as at 0, and phases
that fall show the movement of the other class. Coordinates are those of
:mod:`mmskip.datasets.toy.acting`.
"""

from collections.abc import Callable
from math import cos, floor, pi, sin
from typing import NamedTuple

import cv2
import numpy as np

from .acting import Point, Stroke, arc
from .stage import Stage

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


class Motion(NamedTuple):
    """A class of toy videos.

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
    """A row of boats on the ground, to the right as the phase rises."""
    hull = ((-0.28, 0.22), (0.28, 0.22), (0.18, 0.0), (-0.18, 0.0))
    shift = phase - floor(phase)
    return tuple(
        Stroke(tuple(((k + shift) * BOATS + x, y) for x, y in hull))
        for k in range(-4, 4)
    )


def kites(phase: float) -> tuple[Stroke, ...]:
    """Two columns of kites, upwards as the phase rises."""
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
    """A wheel with spokes, counterclockwise as the phase rises."""
    centre = (0.0, 0.56)
    strokes = [Stroke(arc(centre, (0.52, 0.52), 0.0, 2 * pi), 0.07)]
    for spoke in range(round(1 / WHEEL)):
        angle = 2 * pi * WHEEL * (spoke + phase)
        end = (0.52 * cos(angle), 0.56 + 0.52 * sin(angle))
        strokes.append(Stroke((centre, end), 0.07, 1))
    return tuple(strokes)


def hoops(phase: float) -> tuple[Stroke, ...]:
    """Hoops in each other, growing as the phase rises."""
    shift = phase - floor(phase)
    radii = [(k + shift) * HOOPS for k in range(3)]
    return tuple(
        Stroke(arc((0.0, 0.6), (radius, radius), 0.0, 2 * pi), 0.09)
        for radius in radii
        if radius > 0
    )


# Class names in alphabetical order, as folders: without white space.
MOTIONS: dict[str, Motion] = dict(
    boats_to_the_left=Motion(boats, -1, 2),
    boats_to_the_right=Motion(boats, 1, 0),
    hoops_growing=Motion(hoops, 1, 0),
    hoops_shrinking=Motion(hoops, -1, 2),
    kites_falling=Motion(kites, -1, 3),
    kites_rising=Motion(kites, 1, 1),
    wheel_clockwise=Motion(wheel, -1, 3),
    wheel_counterclockwise=Motion(wheel, 1, 1),
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
