"""Paint the ground of a toy scene: asphalt, markings, pavement, grass."""

from itertools import pairwise

import cv2
import numpy as np

from .scene import CROSSING, LANE_WIDTH, Scene

ASPHALT = (98, 96, 94)
CONCRETE = (150, 156, 158)
GRASS = (62, 108, 92)
MARKING = (214, 216, 214)
YELLOW = (70, 170, 206)
SKY_LOW, SKY_HIGH = (226, 214, 204), (206, 170, 136)


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
    """Smooth noise fixed to the ground, about -1 to 1.

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
