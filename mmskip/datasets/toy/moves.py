"""How a toy figure with fifteen joints moves, seen from the front.

Coordinates are in body heights, y up from the ground, x to the right of the
image; the figure looks at the camera, so that its right side is on the left.
A cycle of a move has phases from 0 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from mmskip.datasets.jhmdb_pose_json import NAMES

# Lengths in body heights.
SPINE, NECK, SHOULDERS, HIPS, PELVIS = 0.25, 0.13, 0.12, 0.07, 0.07
UPPER_ARM, FOREARM, THIGH, SHIN = 0.17, 0.16, 0.24, 0.23
STANDING = PELVIS + THIGH + SHIN  # height of the belly
ARM, LEG = ('shoulder', 'elbow', 'wrist'), ('hip', 'knee', 'ankle')


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
        """Its value at a phase."""
        return self.middle + self.reach * sin(2 * pi * (phase - self.start))


STILL = Swing()
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
    """The same move as somebody else makes it.

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
    """Joints of a figure whose belly is above the origin.

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


def _reach(sign: int, angle: float, length: float) -> np.ndarray:
    """Where a part of a limb ends, from where it starts."""
    return length * np.array([sign * sin(angle), -cos(angle)])
