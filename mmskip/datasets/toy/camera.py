"""A pinhole camera on a mast, looking down on a road.

World coordinates are metres: X to the right, Y along the road away from the
camera, Z up; the ground is Z = 0. Image coordinates are pixels from the left
upper corner of the image, as in OpenCV.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Nothing closer than this to the camera is drawn, in metres.
NEAR = 1.0


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and where it looks.

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
        """Distance along the viewing axis, in metres.

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
        """World X and Y of the ground seen by each pixel.

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
