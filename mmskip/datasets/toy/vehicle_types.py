"""The four vehicle types of UA-DETRAC, drawn with some dozen polygons each."""

import numpy as np

from .shapes import Body, Colour, Face, Shape

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
    """A saloon, or with a longer roof a hatchback."""
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
    """A minibus: short bonnet, high and square."""
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
    """A city bus: two colours, a band of windows, a box on the roof."""
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
    """A lorry: a cab and a box of another colour behind it."""
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
