"""Surroundings of a toy road: ground, buildings, trees."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .scene import CROSSING, LANE_WIDTH, Camera, Scene
from .traffic import box_around

ASPHALT = (98, 96, 94)
CONCRETE = (150, 156, 158)
GRASS = (62, 108, 92)
MARKING = (214, 216, 214)
YELLOW = (70, 170, 206)
SKY_LOW, SKY_HIGH = (226, 214, 204), (206, 170, 136)
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


def paint_ground(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint sky and ground as the camera sees them, without what stands on it.

    Args:
        scene: The scene.
        rng: Source of randomness.

    Returns:
        A float32 image in blue, green, red from 0 to 255, of the size of the
        scene's canvas.
    """
    x, y = scene.camera.ground()
    above = np.isnan(x)
    x, y = np.nan_to_num(x), np.nan_to_num(y, nan=1e3)
    fine = _noise(rng, x, y, 2.2)
    coarse = _noise(rng, x, y, 0.35)
    fade = np.clip(24 / np.maximum(y, 1), 0, 1)[..., None]
    left, right = scene.edges

    image = np.empty((*x.shape, 3), np.float32)
    image[:] = GRASS
    image += (fine * 16 * fade[..., 0] + coarse * 26)[..., None] * (
        0.6,
        1,
        0.9,
    )
    pavement = (x > left - 3) & (x < right + 3)
    tiles = ((np.floor(x / 0.8) + np.floor(y / 0.8)) % 2 - 0.5) * 10
    image[pavement] = np.float32(CONCRETE)
    image += (pavement * (tiles * fade[..., 0] + coarse * 14))[..., None]
    kerb = (x > left - 0.35) & (x < right + 0.35)
    image[kerb] = np.float32(CONCRETE) * 1.16

    road = (x > left) & (x < right)
    for lot, row, _ in scene.parked:
        road |= (np.abs(x - lot) < 2.4) & (np.abs(y - row) < 4)
    wear = np.cos((x - left) / LANE_WIDTH * 4 * np.pi) * 5
    asphalt = (
        np.float32(ASPHALT)
        + (fine * 9 * fade[..., 0] + coarse * 13 + wear)[..., None]
    )
    image[road] = asphalt[road]
    for where, colour in _markings(scene, x, y):
        worn = 1 - 0.25 * np.clip(coarse + 0.6, 0, 1)
        image[where] = (np.float32(colour) * worn[..., None])[where]
    image[above] = _paint_sky(scene, rng)[above]
    return np.clip(image, 0, 255)


@dataclass(frozen=True)
class Sprite:
    """A tree or a lamp post, which may stand in front of vehicles.

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
    """Return the distance from the camera's mast to a place, in metres."""
    return float(np.hypot(x - camera.position[0], y - camera.position[1]))


def _markings(scene: Scene, x: np.ndarray, y: np.ndarray) -> list:
    """List where which colour is painted on the road."""
    left, right = scene.edges
    line, stripes = np.float32(0.09), []
    lines = (np.abs(x - left - 0.3) < line) | (np.abs(x - right + 0.3) < line)
    for lane, following in pairwise(scene.lanes):
        if lane.direction == following.direction:
            middle = (lane.x + following.x) / 2
            lines |= (np.abs(x - middle) < line) & (y % 6.0 < 3.0)
    double = np.abs(np.abs(x - scene.median) - 0.16) < line
    if scene.stop_line is not None:
        zebra = scene.stop_line - CROSSING
        free = (y > zebra - 2) & (y < scene.stop_line)
        lines &= ~free
        double &= ~free
        on_road = (x > left + 0.4) & (x < right - 0.4)
        towards = (np.abs(y - scene.stop_line) < 0.25) & (x < scene.median)
        ahead = (np.abs(y - zebra + 1.6) < 0.25) & (x > scene.median)
        bars = (y > zebra) & (y < zebra + 3.2) & (x % 1.1 < 0.55)
        stripes = [(on_road & (towards | ahead | bars), MARKING)]
    return [(lines, MARKING), (double, YELLOW), *stripes]


def _paint_sky(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint a sky with soft clouds."""
    width, height = scene.camera.size
    horizon = max(scene.camera.horizon, 1.0)
    up = np.clip(1 - np.arange(height) / horizon, 0, 1)[:, None, None]
    sky = np.float32(SKY_LOW) * (1 - up) + np.float32(SKY_HIGH) * up
    seeds = rng.normal(size=(6, 8)).astype(np.float32)
    clouds = cv2.resize(seeds, (width, height), interpolation=cv2.INTER_CUBIC)
    if scene.light.weather == 'cloudy':
        sky = sky * 0.25 + 0.75 * 205
    return (sky + clouds[..., None] * 9).astype(np.float32)


def _noise(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, frequency: float
) -> np.ndarray:
    """Return smooth noise fixed to the ground, about -1 to 1.

    Args:
        rng: Source of randomness.
        x: World X of each pixel, in metres.
        y: World Y of each pixel, in metres.
        frequency: Details per metre; a second octave is four times as fine.

    Returns:
        float32, shape of ``x``.
    """
    total = np.zeros_like(x)
    for octave, strength in ((1.0, 0.6), (4.0, 0.4)):
        tile = rng.uniform(-1, 1, (256, 256)).astype(np.float32)
        tile = np.pad(tile, ((0, 1), (0, 1)), mode='wrap')
        scale = frequency * octave
        columns = np.mod(x * scale, 256).astype(np.float32)
        lines = np.mod(y * scale, 256).astype(np.float32)
        total += strength * cv2.remap(tile, columns, lines, cv2.INTER_LINEAR)
    return total


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
    box = box_around(
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
    box = box_around(camera.project(corners), camera.size[::-1], margin=6)
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
    """Return an empty image and mask of a box; None if the box is empty."""
    width, height = box[2] - box[0], box[3] - box[1]
    if width <= 0 or height <= 0:
        return None, None
    return (
        np.zeros((height, width, 3), np.uint8),
        np.zeros((height, width), np.uint8),
    )
