"""What stands beside the road of a toy scene: buildings, trees, lamp posts."""

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera
from .ground import SKY_LOW, paint_ground
from .painting import clip_box
from .scene import Scene

WALLS = (
    (150, 166, 182),
    (128, 138, 150),
    (170, 176, 178),
    (110, 132, 164),
    (142, 150, 142),
)
PANE = (104, 88, 74)
LEAVES = ((46, 96, 62), (52, 110, 84), (38, 82, 52))
TRUNK = (50, 66, 82)
STEEL = (122, 124, 124)


@dataclass(frozen=True)
class Sprite:
    """Something that may stand in front of vehicles.

    Args:
        distance: Distance from the camera, in metres.
        corner: ``(x, y)`` of the image in the canvas.
        image: Its colours, uint8, shape (h, w, 3).
        mask: Where it is, uint8, shape (h, w), 1 inside.
    """

    distance: float
    corner: tuple[int, int]
    image: np.ndarray
    mask: np.ndarray

    def paint(self, canvas: np.ndarray) -> None:
        """Paint it over a canvas, uint8, shape (H, W, 3)."""
        x, y = self.corner
        height, width = self.mask.shape
        part = canvas[y : y + height, x : x + width]
        np.copyto(part, self.image, where=self.mask[..., None] > 0)


def paint_background(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint all that never moves and is never in front of a vehicle.

    Args:
        scene: The scene.
        rng: Source of randomness.

    Returns:
        uint8, shape (H, W, 3), of the size of the scene's canvas.
    """
    image = paint_ground(scene, rng)
    _paint_tree_shadows(image, scene)
    _, y = scene.camera.ground()
    haze = _haze(np.nan_to_num(y, nan=0.0))[..., None]
    image += (np.float32(SKY_LOW) - image) * haze
    left, right = scene.edges
    far = [(x, 105.0, 16.0, 12.0) for x in np.arange(-80.0, 81.0, 17.0)]
    beside = [
        (edge + sign * rng.uniform(20, 26), float(y), 13.0, 12.0)
        for y in np.arange(96.0, 26.0, -15.0)
        for edge, sign in ((left, -1), (right, 1))
    ]
    for x, y, width, depth in far + beside:
        _paint_building(image, scene, rng, (x, y, width, depth))
    return np.clip(image, 0, 255).astype(np.uint8)


def make_sprites(scene: Scene, rng: np.random.Generator) -> list[Sprite]:
    """Make the trees and the lamp posts.

    Args:
        scene: The scene.
        rng: Source of randomness.

    Returns:
        Those within the image.
    """
    found = [_make_tree(scene.camera, rng, *tree) for tree in scene.trees]
    found += [
        _make_pole(scene.camera, x, y, -1 if x > scene.median else 1)
        for x, y in scene.poles
    ]
    return [sprite for sprite in found if sprite is not None]


def distance_to(camera: Camera, x: float, y: float) -> float:
    """Distance from the camera's mast to a place, in metres."""
    return float(np.hypot(x - camera.position[0], y - camera.position[1]))


def _paint_building(
    image: np.ndarray,
    scene: Scene,
    rng: np.random.Generator,
    place: tuple[float, float, float, float],
) -> None:
    """Paint the walls that face the camera, with rows of windows."""
    x, y, width, depth = place
    camera = scene.camera
    height = rng.uniform(9, 24)
    wall = np.array(WALLS[rng.integers(len(WALLS))]) + rng.integers(-14, 15)
    haze = _haze(y)
    wall, glass = (
        colour + (np.array(SKY_LOW) - colour) * haze
        for colour in (wall, np.array(PANE))
    )
    x1, x2 = x - width / 2, x + width / 2
    y1, y2 = y, y + depth
    side = x1 if x1 > camera.position[0] else x2
    walls = [((side, y2), (side, y1)), ((x1, y1), (x2, y1))]
    for (start, end), dim in zip(walls, (0.78, 1.0), strict=True):
        start, end = np.array(start), np.array(end)
        length = np.linalg.norm(end - start)

        def quad(s0, s1, z0, z1, start=start, end=end):
            corners = [(s0, z0), (s1, z0), (s1, z1), (s0, z1)]
            return np.array(
                [[*(start + (end - start) * s), z] for s, z in corners]
            )

        _fill(image, camera, quad(0, 1, 0, height), wall * dim)
        for floor in np.arange(1.2, height - 1.6, 3.2):
            for s in np.arange(0.9, length - 1.2, 2.4) / length:
                tone = rng.uniform(0.75, 1.25) * dim
                pane = quad(s, s + 1.3 / length, floor, floor + 1.6)
                _fill(image, camera, pane, glass * tone)


def _haze(distance: np.ndarray | float) -> np.ndarray | float:
    """Share of the sky's colour at a distance in metres."""
    return 1 - np.exp(-np.minimum(distance, 200) / 350)


def _fill(
    image: np.ndarray, camera: Camera, points: np.ndarray, colour: np.ndarray
) -> None:
    """Fill a polygon of the world."""
    pixels = camera.project_polygon(points)
    if len(pixels):
        corners = [np.round(pixels * 16).astype(np.int32)]
        cv2.fillPoly(image, corners, tuple(map(float, colour)), shift=4)


def _paint_tree_shadows(image: np.ndarray, scene: Scene) -> None:
    """Darken the ground below the trees."""
    mask = np.zeros(image.shape[:2], np.float32)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    sun = np.array(scene.light.sun)
    shift = -sun[:2] / sun[2] * (scene.light.weather == 'sunny')
    for x, y, height in scene.trees:
        middle = np.array([x, y]) + shift * height * 0.7
        rim = np.column_stack(
            [
                middle[0] + np.cos(angles) * height * 0.33,
                middle[1] + np.sin(angles) * height * 0.33,
                np.zeros_like(angles),
            ]
        )
        _fill(mask, scene.camera, rim, np.array([0.3]))
    image *= 1 - cv2.blur(mask, (7, 7))[..., None]


def _make_tree(
    camera: Camera,
    rng: np.random.Generator,
    x: float,
    y: float,
    height: float,
) -> Sprite | None:
    """Make a tree of some dozens of leafy blobs."""
    scale = camera.focal / float(camera.depth(np.array([x, y, height / 2])))
    foot, top = camera.project(np.array([[x, y, 0], [x, y, height]]))
    radius = height * 0.3 * scale
    box = clip_box(
        np.array([foot, top - 1.3 * radius, top + 1.3 * radius]),
        camera.size[::-1],
        margin=int(radius * 0.4),
    )
    image, mask = _blank(box)
    if mask is None:
        return None
    corner = np.array(box[:2])
    middle = top + (foot - top) * 0.3 - corner
    line = [tuple(np.int32(p)) for p in (foot - corner, middle)]
    for target, colour in ((image, TRUNK), (mask, 1)):
        cv2.line(target, *line, colour, max(int(0.24 * scale), 1))
    base = np.array(LEAVES[rng.integers(len(LEAVES))])
    blobs = rng.normal(0, 0.45, (70, 2)) * (radius, radius * 1.1)
    for blob in blobs[np.argsort(-blobs[:, 1])]:
        centre = tuple(np.int32(middle + blob))
        size = max(int(rng.uniform(0.16, 0.34) * radius), 1)
        tone = 1 - 0.4 * blob[1] / max(radius, 1) + rng.uniform(-0.15, 0.15)
        colour = tuple(map(float, np.clip(base * tone, 0, 255)))
        cv2.circle(image, centre, size, colour, -1)
        cv2.circle(mask, centre, size, 1, -1)
    return Sprite(distance_to(camera, x, y), box[:2], image, mask)


def _make_pole(camera: Camera, x: float, y: float, arm: int) -> Sprite | None:
    """Make a lamp post with an arm over the road."""
    corners = np.array([[x, y, 0], [x, y, 8], [x + 2.2 * arm, y, 8.4]])
    if camera.depth(corners).min() < 1:
        return None
    box = clip_box(camera.project(corners), camera.size[::-1], margin=6)
    image, mask = _blank(box)
    if mask is None:
        return None
    bars = [
        [(x - 0.12, 0), (x + 0.12, 0), (x + 0.08, 8.2), (x - 0.08, 8.2)],
        [(x, 8.0), (x + 2.2 * arm, 8.4), (x + 2.2 * arm, 8.5), (x, 8.2)],
    ]
    for bar in bars:
        points = np.array([[px, y, pz] for px, pz in bar])
        pixels = camera.project(points) - box[:2]
        flat = [np.round(pixels * 16).astype(np.int32)]
        cv2.fillPoly(image, flat, STEEL, shift=4)
        cv2.fillPoly(mask, flat, 1, shift=4)
    return Sprite(distance_to(camera, x, y), box[:2], image, mask)


def _blank(
    box: tuple[int, int, int, int],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """An empty image and mask of a box; None if the box is empty."""
    width, height = box[2] - box[0], box[3] - box[1]
    if width <= 0 or height <= 0:
        return None, None
    return (
        np.zeros((height, width, 3), np.uint8),
        np.zeros((height, width), np.uint8),
    )
