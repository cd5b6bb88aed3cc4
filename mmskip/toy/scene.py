"""The scene of a toy sequence: camera, road, light.

World coordinates are metres: X to the right, Y along the road away from the
camera, Z up; the ground is Z = 0. Image coordinates are pixels from the left
upper corner of the image, as in OpenCV.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Nothing closer than this to the camera is drawn, in metres.
NEAR = 1.0
LANE_WIDTH = 3.5
# Distance along the road from a stop line to the far edge of the crossing.
CROSSING = 5.5
# Beyond this distance along the road vehicles are too small to annotate.
FAR = 40.0


@dataclass(frozen=True)
class Camera:
    """A camera on a mast: where it stands and where it looks.

    Args:
        size: ``(width, height)`` of its images in pixels.
        focal: Focal length in pixels.
        position: X, Y and Z of the camera in metres.
        yaw: Angle to the right of the road's direction, in radians.
        pitch: Angle below the horizon, in radians.
    """

    size: tuple[int, int]
    focal: float
    position: tuple[float, float, float]
    yaw: float
    pitch: float

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors to the right, down and ahead; shape (3, 3)."""
        right = np.array([np.cos(self.yaw), -np.sin(self.yaw), 0.0])
        ahead = np.array(
            [
                np.sin(self.yaw) * np.cos(self.pitch),
                np.cos(self.yaw) * np.cos(self.pitch),
                -np.sin(self.pitch),
            ]
        )
        return np.stack([right, np.cross(ahead, right), ahead])

    @property
    def horizon(self) -> float:
        """Image row of the horizon, in pixels."""
        return self.size[1] / 2 - self.focal * np.tan(self.pitch)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return the distance along the viewing axis, in metres.

        Args:
            points: World points, shape (..., 3).

        Returns:
            Shape (...). Points with depth <= 0 are behind the camera.
        """
        return (np.asarray(points) - self.position) @ self.axes[2]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points of positive depth into the image.

        Args:
            points: World points, shape (..., 3).

        Returns:
            Pixels, shape (..., 2).
        """
        local = (np.asarray(points) - self.position) @ self.axes.T
        centre = np.array(self.size) / 2
        return centre + self.focal * local[..., :2] / local[..., 2:]

    def project_polygon(self, points: np.ndarray) -> np.ndarray:
        """Project a polygon, cut off where it comes too close to the camera.

        Args:
            points: World points in order, shape (n, 3).

        Returns:
            Pixels, shape (m, 2); empty if all of it is too close or behind.
        """
        points = np.asarray(points)
        room = self.depth(points) - NEAR
        if room.min() >= 0:
            return self.project(points)
        kept = []
        for i in range(len(points)):
            a, b = room[i - 1], room[i]
            if a * b < 0:
                kept.append(
                    points[i - 1] + (points[i] - points[i - 1]) * a / (a - b)
                )
            if b >= 0:
                kept.append(points[i])
        return self.project(np.reshape(kept, (-1, 3)))

    def ground(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the world X and Y of the ground at each pixel.

        Returns:
            Two float32 arrays of shape (height, width), NaN above the
            horizon.
        """
        width, height = self.size
        u = (np.arange(width) + 0.5 - width / 2) / self.focal
        v = (np.arange(height) + 0.5 - height / 2) / self.focal
        right, down, ahead = self.axes
        rays = ahead + u[None, :, None] * right + v[:, None, None] * down
        with np.errstate(divide='ignore'):
            reach = np.where(
                rays[..., 2] < -1e-3, -self.position[2] / rays[..., 2], np.nan
            )
        x = self.position[0] + reach * rays[..., 0]
        y = self.position[1] + reach * rays[..., 1]
        return x.astype(np.float32), y.astype(np.float32)


@dataclass(frozen=True)
class Lane:
    """A lane along the road.

    Args:
        x: Its middle, in metres.
        direction: -1 towards the camera, 1 away from it.
    """

    x: float
    direction: int


@dataclass(frozen=True)
class Light:
    """The light of a scene.

    Args:
        weather: 'sunny' or 'cloudy'.
        sun: Unit vector from the ground to the sun.
        gain: Brightness at the first and at the last frame.
        tint: Factors of blue, green and red.
    """

    weather: str
    sun: tuple[float, float, float]
    gain: tuple[float, float]
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Everything that stays the same during a sequence.

    Args:
        camera: Camera of the supersampled canvas.
        lanes: The road's lanes from left to right.
        edges: X of the road's left and right edge, in metres.
        median: X of the line between the directions, in metres.
        light: How the scene is lit.
        stop_line: Y of the stop line of the traffic light, in metres. None
            where there is no traffic light.
        parked: X, Y and direction of the parked vehicles.
        trees: X, Y and height of the trees beside the road, in metres.
        poles: X and Y of the lamp posts, in metres.
    """

    camera: Camera
    lanes: tuple[Lane, ...]
    edges: tuple[float, float]
    median: float
    light: Light
    stop_line: float | None
    parked: tuple[tuple[float, float, int], ...]
    trees: tuple[tuple[float, float, float], ...]
    poles: tuple[tuple[float, float], ...]


def choose_scene(
    rng: np.random.Generator,
    size: tuple[int, int],
    light: Light,
    traffic_light: bool = False,
    parking: bool = False,
) -> Scene:
    """Choose a scene.

    Args:
        rng: Source of randomness; the same state gives the same place.
        size: ``(width, height)`` of the canvas, in pixels.
        light: How it is lit.
        traffic_light: Whether there is one.
        parking: Whether vehicles are parked beside the road.

    Returns:
        The scene.
    """
    ahead, towards = rng.integers(1, 3), rng.integers(2, 4)
    left = -LANE_WIDTH * towards
    lanes = tuple(
        Lane(left + LANE_WIDTH * (i + 0.5), -1 if i < towards else 1)
        for i in range(ahead + towards)
    )
    edges = (left, LANE_WIDTH * float(ahead))
    middle = sum(edges) / 2
    side = 1 if rng.random() < 0.5 else -1
    yaw = -side * np.radians(rng.uniform(6, 24))
    camera = Camera(
        size=size,
        focal=size[0] * rng.uniform(0.76, 0.94),
        position=(
            middle + side * rng.uniform(2, 7),
            0.0,
            rng.uniform(13.0, 17.0),
        ),
        yaw=yaw,
        pitch=np.radians(rng.uniform(19, 23)),
    )
    lot = edges[0] - 8.5 if side > 0 else edges[1] + 8.5
    rows = rng.uniform(30, 34) + 5.9 * np.arange(5)
    kept = rows[rng.random(len(rows)) < 0.8] if parking else ()
    return Scene(
        camera=camera,
        lanes=lanes,
        edges=edges,
        median=0.0,
        light=light,
        stop_line=rng.uniform(26, 31) if traffic_light else None,
        parked=tuple((lot, float(y), int(np.sign(lot))) for y in kept),
        trees=_choose_trees(rng, edges, lot, parking),
        poles=tuple(
            (edges[i] + (-1.2, 1.2)[i], float(rng.uniform(19, 27) + 17 * k))
            for i in range(2)
            for k in range(3)
        ),
    )


def choose_light(rng: np.random.Generator, change: bool = False) -> Light:
    """Choose weather and sun.

    Args:
        rng: Source of randomness.
        change: Whether the light fades during the sequence.

    Returns:
        The light.
    """
    sunny = bool(rng.random() < 0.6)
    height = np.radians(rng.uniform(35, 60))
    side = rng.uniform(0, 2 * np.pi)
    gain = float(rng.uniform(0.85, 1.05) if sunny else rng.uniform(0.75, 0.9))
    warmth = rng.uniform(-0.04, 0.04)
    return Light(
        weather='sunny' if sunny else 'cloudy',
        sun=(
            float(np.cos(height) * np.cos(side)),
            float(np.cos(height) * np.sin(side)),
            float(np.sin(height)),
        ),
        gain=(gain, gain * 0.65 if change else gain),
        tint=(1 - warmth, 1.0, 1 + warmth),
    )


def _choose_trees(
    rng: np.random.Generator,
    edges: tuple[float, float],
    lot: float,
    parking: bool,
) -> tuple[tuple[float, float, float], ...]:
    """Plant a row of trees on either side, but not among parked vehicles."""
    trees = []
    for edge, sign in zip(edges, (-1, 1), strict=True):
        if parking and sign * lot > 0:
            first, step = 56.0, 7.0
        else:
            first, step = rng.uniform(26, 33), 9.0
        while first < 90:
            x = edge + sign * rng.uniform(3.5, 5.0)
            trees.append((float(x), float(first), float(rng.uniform(4, 7))))
            first += step * rng.uniform(0.8, 1.4)
    return tuple(trees)
