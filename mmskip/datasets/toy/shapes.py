"""Surfaces of vehicles, made of coloured polygons.

Local coordinates are metres: x to the vehicle's right, y to its front, z up;
(0, 0, 0) is on the ground below its middle. Colours are blue, green, red.
"""

from dataclasses import dataclass, field

import numpy as np

TYRE = (34, 32, 32)
RIM = (150, 150, 150)

Colour = tuple[int, int, int]


@dataclass
class Face:
    """A polygon of a vehicle's surface.

    Args:
        points: Corners, shape (n, 3).
        normal: Unit vector outwards.
        colour: Its colour in white light.
        details: Polygons on it: corners, colour, whether they glow.
    """

    points: np.ndarray
    normal: np.ndarray
    colour: Colour
    details: list[tuple[np.ndarray, Colour, bool]] = field(
        default_factory=list
    )


class Shape:
    """A vehicle's surface and its extent.

    Args:
        faces: The polygons.

    Attributes:
        faces: The polygons.
        length: In metres, like the other two.
        width: Of the widest part.
        height: Above the ground.
        corners: The points of all faces and details, face by face and each
            followed by its details, shape (n, 3).
        splits: Where in ``corners`` a new polygon begins.
        starts: Which of the polygons is the first of each face.
        centres: Middle of each face, shape (f, 3).
        normals: Unit vector outwards of each face, shape (f, 3).
    """

    def __init__(self, faces: list[Face]) -> None:
        self.faces = faces
        polygons = [
            polygon
            for face in faces
            for polygon in (face.points, *(d[0] for d in face.details))
        ]
        self.corners = np.concatenate(polygons)
        self.splits = np.cumsum([len(polygon) for polygon in polygons])[:-1]
        sizes = [1 + len(face.details) for face in faces]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self.centres = np.array([face.points.mean(0) for face in faces])
        self.normals = np.array([face.normal for face in faces])
        self.width = float(2 * np.abs(self.corners[:, 0]).max())
        self.length = float(np.ptp(self.corners[:, 1]))
        self.height = float(self.corners[:, 2].max())


class Body:
    """A side view, extruded over the width and tapered towards the roof.

    Args:
        outline: Corners (y, z) of the side view from the lower front over
            the roof to the lower rear.
        colour: Colour of the paint.
        half: Half of the width in metres.
        waist: Height from which the sides lean inwards.
        lean: How much of the width is lost at the roof.
    """

    def __init__(
        self,
        outline: list[tuple[float, float]],
        colour: Colour,
        half: float,
        waist: float = 9.0,
        lean: float = 0.0,
    ) -> None:
        self.outline = np.array(outline)
        self.half = half
        self.waist = waist
        self.lean = lean
        self.top = self.outline[:, 1].max()
        self.faces = [self._strip(i, colour) for i in range(len(outline) - 1)]
        self.sides = [self._side(sign, colour) for sign in (-1, 1)]

    def at(self, yz: np.ndarray, sign: int) -> np.ndarray:
        """Points of the left (-1) or right (1) side, shape (n, 3)."""
        yz = np.asarray(yz, float)
        rise = np.clip(yz[:, 1] - self.waist, 0, None)
        lean = self.lean * rise / max(self.top - self.waist, 0.1)
        return np.column_stack([sign * self.half * (1 - lean), yz])

    def on_strip(
        self, i: int, boxes: list[tuple], colour: Colour, glow: bool = False
    ) -> 'Body':
        """Paint boxes ``(s0, t0, s1, t1)`` on a strip, s over the width."""
        corners = self.faces[i].points.reshape(2, 2, 3)
        for s0, t0, s1, t1 in boxes:
            quad = [
                (1 - t) * ((1 - s) * corners[0, 0] + s * corners[0, 1])
                + t * ((1 - s) * corners[1, 1] + s * corners[1, 0])
                for s, t in ((s0, t0), (s1, t0), (s1, t1), (s0, t1))
            ]
            self.faces[i].details.append((np.array(quad), colour, glow))
        return self

    def on_sides(
        self, polygons: list[list[tuple[float, float]]], colour: Colour
    ) -> 'Body':
        """Paint polygons ``(y, z)`` on both sides."""
        for sign, side in zip((-1, 1), self.sides, strict=True):
            side.details += [
                (self.at(p, sign), colour, False) for p in polygons
            ]
        return self

    def wheels(self, axles: list[float], radius: float) -> 'Body':
        """Put wheels on both sides."""
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        circle = np.column_stack([np.cos(angles), np.sin(angles)])
        for y in axles:
            for size, colour in ((1.0, TYRE), (0.55, RIM)):
                self.on_sides([circle * radius * size + (y, radius)], colour)
        return self

    def _strip(self, i: int, colour: Colour) -> Face:
        ends = self.outline[i : i + 2]
        left, right = self.at(ends, -1), self.at(ends, 1)
        along = ends[1] - ends[0]
        normal = np.array([0.0, along[1], -along[0]])
        return Face(
            np.array([left[0], right[0], right[1], left[1]]),
            normal / np.linalg.norm(normal),
            colour,
        )

    def _side(self, sign: int, colour: Colour) -> Face:
        normal = np.array([float(sign), 0.0, 0.0])
        return Face(self.at(self.outline, sign), normal, colour)
