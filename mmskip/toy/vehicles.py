"""Toy vehicles: their surfaces and types.

Local coordinates are metres: x to the vehicle's right, y to its front, z up;
(0, 0, 0) is on the ground below its middle. Colours are blue, green, red.
"""

from dataclasses import dataclass, field

import numpy as np

TYRE = (34, 32, 32)
RIM = (150, 150, 150)

Colour = tuple[int, int, int]
GLASS = (78, 66, 56)
HEADLIGHT = (232, 242, 246)
TAILLIGHT = (46, 40, 196)
PLATE = (170, 84, 36)
GRILL = (48, 46, 46)
CAR_COLOURS = (
    (232, 232, 232),
    (196, 198, 198),
    (52, 50, 50),
    (44, 40, 168),
    (150, 92, 44),
    (86, 92, 96),
    (140, 176, 196),
    (58, 84, 40),
)
VAN_COLOURS = ((238, 240, 240), (206, 208, 206), (150, 190, 206))
BUS_COLOURS = ((44, 176, 222), (70, 150, 62), (60, 52, 190), (190, 120, 40))
CAB_COLOURS = ((52, 60, 186), (172, 96, 36), (226, 228, 228), (52, 150, 190))
CARGO_COLOURS = (
    (206, 206, 200),
    (150, 110, 60),
    (74, 110, 70),
    (90, 120, 160),
)


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
        width: Width of the widest part.
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
        """Return points of the left (-1) or right (1) side, shape (n, 3)."""
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


def make_shape(kind: str, rng: np.random.Generator) -> Shape:
    """Make a vehicle of a random colour and size.

    Args:
        kind: 'car', 'van', 'bus' or 'others'.
        rng: Source of randomness.

    Returns:
        Its shape.
    """
    makers = dict(car=_car, van=_van, bus=_bus, others=_lorry)
    faces = makers[kind](rng)
    scale = rng.uniform(0.96, 1.06)
    for face in faces:
        face.points = face.points * scale
        face.details = [(p * scale, c, g) for p, c, g in face.details]
    return Shape(faces)


def _pick(rng: np.random.Generator, colours: tuple) -> Colour:
    """Choose a colour and vary it a little."""
    base = np.array(colours[rng.integers(len(colours))])
    return tuple(
        int(c) for c in np.clip(base + rng.integers(-12, 13, 3), 20, 245)
    )


def _car(rng: np.random.Generator) -> list[Face]:
    """Make a saloon, or with a longer roof a hatchback."""
    boot = rng.choice([-1.75, -2.0])
    body = Body(
        [
            (2.15, 0.28),
            (2.2, 0.62),
            (2.05, 0.8),
            (1.0, 0.96),
            (0.35, 1.44),
            (-1.1, 1.46),
            (boot, 1.02),
            (-2.15, 0.98),
            (-2.2, 0.6),
            (-2.15, 0.28),
        ],
        _pick(rng, CAR_COLOURS),
        half=0.9,
        waist=0.95,
        lean=0.2,
    )
    body.on_strip(0, [(0.25, 0.3, 0.75, 0.95)], GRILL)
    body.on_strip(0, [(0.4, 0.1, 0.6, 0.4)], PLATE)
    lamps = [(0.03, 0.1, 0.27, 0.9), (0.73, 0.1, 0.97, 0.9)]
    body.on_strip(1, lamps, HEADLIGHT, glow=True)
    body.on_strip(3, [(0.06, 0.05, 0.94, 0.92)], GLASS)
    body.on_strip(5, [(0.08, 0.08, 0.92, 0.92)], GLASS)
    lamps = [(0.03, 0.1, 0.27, 0.8), (0.73, 0.1, 0.97, 0.8)]
    body.on_strip(7, lamps, TAILLIGHT, glow=True)
    body.on_strip(7, [(0.4, 0.4, 0.6, 0.9)], PLATE)
    windows = [
        [(0.85, 1.0), (0.3, 1.37), (-0.28, 1.38), (-0.28, 1.0)],
        [(-0.38, 1.0), (-0.38, 1.38), (-1.05, 1.39), (boot + 0.3, 1.04)],
    ]
    body.on_sides(windows, GLASS).wheels([1.35, -1.35], 0.34)
    return body.faces + body.sides


def _van(rng: np.random.Generator) -> list[Face]:
    """Make a minibus: short bonnet, high and square."""
    body = Body(
        [
            (2.45, 0.3),
            (2.5, 0.85),
            (2.1, 1.1),
            (1.35, 1.95),
            (1.0, 2.1),
            (-2.45, 2.1),
            (-2.5, 1.1),
            (-2.45, 0.3),
        ],
        _pick(rng, VAN_COLOURS),
        half=0.95,
        waist=1.1,
        lean=0.08,
    )
    body.on_strip(0, [(0.2, 0.45, 0.8, 0.8)], GRILL)
    body.on_strip(0, [(0.4, 0.1, 0.6, 0.35)], PLATE)
    lamps = [(0.03, 0.05, 0.22, 0.75), (0.78, 0.05, 0.97, 0.75)]
    body.on_strip(1, lamps, HEADLIGHT, glow=True)
    body.on_strip(2, [(0.05, 0.08, 0.95, 0.95)], GLASS)
    body.on_strip(5, [(0.08, 0.15, 0.92, 0.9)], GLASS)
    lamps = [(0.02, 0.05, 0.13, 0.6), (0.87, 0.05, 0.98, 0.6)]
    body.on_strip(6, lamps, TAILLIGHT, glow=True)
    body.on_strip(6, [(0.4, 0.35, 0.6, 0.55)], PLATE)
    windows = [
        [(1.75, 1.18), (1.2, 1.85), (0.5, 1.9), (0.5, 1.18)],
        [(0.38, 1.18), (0.38, 1.9), (-0.9, 1.9), (-0.9, 1.18)],
        [(-1.02, 1.18), (-1.02, 1.9), (-2.3, 1.9), (-2.3, 1.18)],
    ]
    body.on_sides(windows, GLASS).wheels([1.5, -1.5], 0.36)
    return body.faces + body.sides


def _bus(rng: np.random.Generator) -> list[Face]:
    """Make a city bus: two colours, a band of windows, a box on top."""
    paint = _pick(rng, BUS_COLOURS)
    body = Body(
        [
            (5.2, 0.35),
            (5.25, 1.1),
            (5.1, 2.95),
            (4.9, 3.1),
            (-5.2, 3.1),
            (-5.25, 1.2),
            (-5.2, 0.35),
        ],
        paint,
        half=1.27,
        waist=2.7,
        lean=0.04,
    )
    lamps = [(0.03, 0.4, 0.2, 0.8), (0.8, 0.4, 0.97, 0.8)]
    body.on_strip(0, lamps, HEADLIGHT, glow=True)
    body.on_strip(0, [(0.4, 0.1, 0.6, 0.4)], PLATE)
    body.on_strip(1, [(0.04, 0.1, 0.96, 0.8)], GLASS)
    body.on_strip(1, [(0.2, 0.85, 0.8, 0.98)], (40, 190, 240), glow=True)
    body.on_strip(3, [(0.2, 0.3, 0.8, 0.5)], (190, 192, 192))
    body.on_strip(4, [(0.1, 0.08, 0.9, 0.5)], GLASS)
    lamps = [(0.02, 0.1, 0.14, 0.7), (0.86, 0.1, 0.98, 0.7)]
    body.on_strip(5, lamps, TAILLIGHT, glow=True)
    band = [(5.15, 0.95), (5.15, 1.3), (-5.2, 1.3), (-5.2, 0.95)]
    body.on_sides([band], (232, 234, 234))
    panes = [
        [(y, 1.5), (y, 2.55), (y - 1.3, 2.55), (y - 1.3, 1.5)]
        for y in np.arange(4.9, -4.0, -1.45)
    ]
    body.on_sides(panes, GLASS).wheels([3.2, -3.0], 0.5)
    return body.faces + body.sides


def _lorry(rng: np.random.Generator) -> list[Face]:
    """Make a lorry: a cab and a box of another colour behind it."""
    cab = Body(
        [
            (3.6, 0.45),
            (3.7, 1.3),
            (3.45, 2.35),
            (3.2, 2.5),
            (2.0, 2.5),
            (2.0, 0.45),
        ],
        _pick(rng, CAB_COLOURS),
        half=1.1,
    )
    lamps = [(0.03, 0.1, 0.22, 0.45), (0.78, 0.1, 0.97, 0.45)]
    cab.on_strip(0, lamps, HEADLIGHT, glow=True)
    cab.on_strip(0, [(0.28, 0.35, 0.72, 0.9)], GRILL)
    cab.on_strip(1, [(0.06, 0.1, 0.94, 0.92)], GLASS)
    window = [(3.45, 1.4), (3.3, 2.2), (2.5, 2.2), (2.5, 1.4)]
    cab.on_sides([window], GLASS).wheels([2.9], 0.48)
    paint = _pick(rng, CARGO_COLOURS)
    box = Body(
        [(1.85, 0.7), (1.85, 3.1), (-3.7, 3.1), (-3.7, 0.7)], paint, half=1.2
    )
    rib = tuple(int(c * 0.72) for c in paint)
    ribs = [
        [(y, 0.8), (y, 3.0), (y - 0.14, 3.0), (y - 0.14, 0.8)]
        for y in np.arange(1.2, -3.5, -0.9)
    ]
    box.on_sides(ribs, rib).wheels([-1.6, -2.7], 0.48)
    box.on_strip(2, [(0.48, 0.05, 0.52, 0.9)], rib)
    lamps = [(0.03, 0.86, 0.17, 0.96), (0.83, 0.86, 0.97, 0.96)]
    box.on_strip(2, lamps, TAILLIGHT, glow=True)
    return box.faces + box.sides + cab.faces + cab.sides
