"""Paint vehicles on a canvas and keep track of who hides whom."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from .camera import NEAR, Camera
from .scene import Light
from .shapes import Shape

# Image coordinates are handed to OpenCV in sixteenths of a pixel.
SHIFT = 4


@dataclass(frozen=True)
class Placed:
    """A vehicle on the road.

    Args:
        shape: What it looks like.
        x: X of its middle in metres.
        y: Y of its middle in metres.
        direction: -1 if it faces the camera, 1 if it faces away.
    """

    shape: Shape
    x: float
    y: float
    direction: int

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Move local points, shape (..., 3), to the world."""
        turn = (self.direction, self.direction, 1)
        return points * turn + (self.x, self.y, 0.0)

    def corners(self) -> np.ndarray:
        """The eight corners of its box in the world, shape (8, 3)."""
        half = np.array([self.shape.width, self.shape.length]) / 2
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        base = np.column_stack([signs * half, np.zeros(4)])
        top = base + np.array([0, 0, self.shape.height])
        return self.to_world(np.concatenate([base, top]))


@dataclass
class Outline:
    """Where a vehicle is in the image.

    Attributes:
        box: ``(x1, y1, x2, y2)`` in pixels of the canvas; it may stick out.
        area: Area of its outline in square pixels, what sticks out included.
        hides: What it was painted over: ``(x1, y1, x2, y2)`` by number.
    """

    box: tuple[float, float, float, float]
    area: float
    hides: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)


def paint_shadow(
    canvas: np.ndarray, camera: Camera, vehicle: Placed, light: Light
) -> None:
    """Darken the ground in a vehicle's shadow.

    Args:
        canvas: Image, uint8, shape (H, W, 3); changed in place.
        camera: The camera.
        vehicle: The vehicle.
        light: The scene's light.
    """
    corners = vehicle.corners()
    flat = corners.copy()
    if light.weather == 'sunny':
        sun = np.array(light.sun)
        flat[:, :2] -= np.outer(corners[:, 2], sun[:2] / sun[2])
        strength = 0.48
    else:
        middle = corners[:, :2].mean(0)
        flat[:, :2] = middle + (flat[:, :2] - middle) * 1.08
        strength = 0.35
    flat[:, 2] = 0
    if camera.depth(flat).min() < NEAR:
        return
    hull = cv2.convexHull(camera.project(flat).astype(np.float32))[:, 0]
    x1, y1, x2, y2 = clip_box(hull, canvas.shape, margin=8)
    if x2 <= x1 or y2 <= y1:
        return
    mask = np.zeros((y2 - y1, x2 - x1), np.float32)
    cv2.fillConvexPoly(mask, _fixed(hull - (x1, y1)), strength, shift=SHIFT)
    mask = cv2.blur(mask, (5, 5))
    part = canvas[y1:y2, x1:x2]
    part[:] = (part * (1 - mask[..., None])).astype(np.uint8)


def paint_vehicle(
    canvas: np.ndarray,
    ids: np.ndarray,
    camera: Camera,
    vehicle: Placed,
    light: Light,
    number: int,
) -> Outline | None:
    """Paint a vehicle over what is there.

    Args:
        canvas: Image, uint8, shape (H, W, 3); changed in place.
        ids: Number of what is seen at each pixel, uint8, shape (H, W), 0 for
            the background; changed in place.
        camera: The camera.
        vehicle: The vehicle.
        light: The scene's light.
        number: Its number in ``ids``.

    Returns:
        Its outline. None if it is behind the camera.
    """
    polygons = _visible_polygons(camera, vehicle, light)
    if not polygons:
        return None
    points = np.concatenate([pixels for pixels, _ in polygons])
    x1, y1, x2, y2 = clip_box(points, canvas.shape)
    box = (*points.min(0), *points.max(0))
    hull = cv2.convexHull(points.astype(np.float32))
    outline = Outline(tuple(map(float, box)), float(cv2.contourArea(hull)))
    if x2 <= x1 or y2 <= y1:
        return outline
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    for pixels, colour in polygons:
        corners = _fixed(pixels)
        cv2.fillPoly(canvas, [corners], colour, shift=SHIFT)
        corners -= np.int32([x1, y1]) << SHIFT
        cv2.fillPoly(mask, [corners], 1, shift=SHIFT)
    outline.hides = cover(ids, mask, (x1, y1), number)
    return outline


def cover(
    ids: np.ndarray, mask: np.ndarray, corner: tuple[int, int], number: int
) -> dict[int, tuple[int, int, int, int]]:
    """Write a number into ``ids`` and tell what was covered.

    Args:
        ids: Number of what is seen at each pixel; changed in place.
        mask: Where to write, shape (h, w), nonzero inside.
        corner: ``(x, y)`` of the mask's left upper corner in ``ids``.
        number: The number to write.

    Returns:
        By number covered the box ``(x1, y1, x2, y2)`` of what was covered.
    """
    x, y = corner
    part = ids[y : y + mask.shape[0], x : x + mask.shape[1]]
    inside = mask > 0
    covered = {}
    for other in np.unique(part[inside]):
        if other in (0, number):
            continue
        lines, columns = np.nonzero(inside & (part == other))
        covered[int(other)] = (
            int(x + columns.min()),
            int(y + lines.min()),
            int(x + columns.max() + 1),
            int(y + lines.max() + 1),
        )
    part[inside] = number
    return covered


def clip_box(
    points: np.ndarray, shape: tuple[int, ...], margin: int = 1
) -> tuple[int, int, int, int]:
    """Box around points, grown by a margin and clipped to an image.

    Args:
        points: Pixels, shape (n, 2).
        shape: Shape of the image, height and width first.
        margin: Pixels to add on each side.

    Returns:
        ``(x1, y1, x2, y2)``; empty if all points are outside.
    """
    low = np.floor(points.min(0)).astype(int) - margin
    high = np.ceil(points.max(0)).astype(int) + margin
    return (
        max(int(low[0]), 0),
        max(int(low[1]), 0),
        min(int(high[0]), shape[1]),
        min(int(high[1]), shape[0]),
    )


def _visible_polygons(
    camera: Camera, vehicle: Placed, light: Light
) -> list[tuple[np.ndarray, tuple[float, ...]]]:
    """Pixels and colours of what faces the camera, in painting order."""
    world = vehicle.to_world(vehicle.shape.corners)
    splits = vehicle.shape.splits
    if camera.depth(world).min() >= NEAR:
        flat = np.split(camera.project(world), splits)
    else:
        flat = [camera.project_polygon(p) for p in np.split(world, splits)]
    turn = np.array([vehicle.direction, vehicle.direction, 1])
    normals = vehicle.shape.normals * turn
    away = camera.position - vehicle.to_world(vehicle.shape.centres)
    distances = (away**2).sum(1)
    seen = (normals * away).sum(1) > 0
    starts = vehicle.shape.starts
    polygons = []
    for index in np.argsort(-distances, kind='stable'):
        if not seen[index]:
            continue
        face, normal = vehicle.shape.faces[index], normals[index]
        colours = [_shade(face.colour, normal, light)]
        colours += [
            colour if glow else _shade(colour, normal, light)
            for _, colour, glow in face.details
        ]
        pixels = flat[starts[index] : starts[index] + len(colours)]
        pairs = zip(pixels, colours, strict=True)
        polygons += [pair for pair in pairs if len(pair[0])]
    return polygons


def _shade(
    colour: tuple[int, int, int], normal: np.ndarray, light: Light
) -> tuple[float, ...]:
    """Colour of a surface in the scene's light."""
    direct = max(float(normal @ np.array(light.sun)), 0.0)
    if light.weather == 'sunny':
        strength = 0.62 + 0.1 * normal[2] + 0.42 * direct
    else:
        strength = 0.74 + 0.2 * normal[2] + 0.04 * direct
    return tuple(min(c * strength, 255.0) for c in colour)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Pixels as OpenCV's fixed-point integers.

    OpenCV puts the middle of the first pixel at 0, the camera at 0.5.
    """
    return np.round((points - 0.5) * (1 << SHIFT)).astype(np.int32)
