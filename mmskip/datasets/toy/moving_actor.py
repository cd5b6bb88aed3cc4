"""Film a toy figure that does something while it moves through the image."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .acting import ACTIONS, Pose
from .stage import (
    Stage,
    choose_stage,
    paint_figure,
    paint_pose,
    paint_surroundings,
)

# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
# Standard deviation of the sensor's noise, of 255.
NOISE = 2.0
# Movements per frame, height of the figure and where it may stand, as shares
# of the image.
TEMPO = (0.03, 0.12)
HEIGHTS = (0.38, 0.62)
PLACES = ((0.22, 0.78), (0.72, 0.97))
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class ActorVideo:
    """A short video of one figure.

    Args:
        action: A key of ``ACTIONS``.
        seed: Seeds of the data set and of the video.
        frames: Number of frames.
        size: ``(width, height)`` of the images in pixels.
    """

    action: str
    seed: tuple[int, ...]
    frames: int
    size: tuple[int, int]

    def film(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Film the video.

        Yields:
            Per frame the image, uint8 of shape (height, width, 3) in blue,
            green, red, and the mask of the figure, without the thing that it
            handles, uint8 of shape (height, width), 1 inside.
        """
        rng = np.random.default_rng(self.seed)
        large = (self.size[0] * OVERSAMPLING, self.size[1] * OVERSAMPLING)
        stage = choose_stage(rng, large)
        stage = replace(stage, height=rng.uniform(*HEIGHTS) * large[1])
        path = np.linspace(_place(rng, large), _place(rng, large), self.frames)
        phases = rng.random() + rng.uniform(*TEMPO) * np.arange(self.frames)
        around = paint_surroundings(stage, large)
        for origin, phase in zip(path, phases % 1, strict=True):
            here = replace(stage, origin=tuple(origin))
            pose = ACTIONS[self.action](float(phase))
            canvas = around.copy()
            paint_pose(canvas, here, pose)
            yield self._photograph(canvas, rng), self._mask(here, pose)

    def _photograph(
        self, canvas: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """A canvas of the image's size, with noise."""
        image = cv2.resize(canvas, self.size, interpolation=cv2.INTER_AREA)
        noise = NOISE * rng.standard_normal(image.shape, np.float32)
        return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)

    def _mask(self, stage: Stage, pose: Pose) -> np.ndarray:
        """Where the figure fills at least half of a pixel."""
        width, height = self.size
        shape = (height * OVERSAMPLING, width * OVERSAMPLING, 3)
        canvas = np.zeros(shape, np.uint8)
        white = replace(stage, shirt=WHITE, trousers=WHITE, skin=WHITE)
        paint_figure(canvas, white, pose[0])
        small = cv2.resize(
            canvas[..., 0], self.size, interpolation=cv2.INTER_AREA
        )
        return (small >= 128).astype(np.uint8)


def _place(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[float, float]:
    """Draw where a figure stands on a canvas."""
    xs, ys = PLACES
    return rng.uniform(*xs) * size[0], rng.uniform(*ys) * size[1]
