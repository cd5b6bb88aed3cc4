"""What toy figures do: the joints of a body and the thing it handles.

Coordinates are in body heights, y up from the ground, x to the figure's
front. A cycle of a movement has phases from 0 to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

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
    """A standing body with some joints elsewhere."""
    return {**STANDING, **joints}


def arc(
    centre: Point, radii: Point, start: float, end: float
) -> tuple[Point, ...]:
    """Points of an elliptic arc, angles in radians."""
    angles = np.linspace(start, end, 25)
    xs = centre[0] + radii[0] * np.cos(angles)
    ys = centre[1] + radii[1] * np.sin(angles)
    return tuple(zip(xs.tolist(), ys.tolist(), strict=True))


def _disc(centre: Point, radius: float) -> Stroke:
    return Stroke(arc(centre, (radius, radius), 0.0, 2 * pi))
