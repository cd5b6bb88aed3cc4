"""Film toy action videos that stand still, move slowly or move fast."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from .acting import stand
from .motions import MOTIONS, paint_sign
from .stage import (
    Stage,
    choose_stage,
    paint_figure,
    paint_surroundings,
    paint_thing,
)

# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
# Standard deviation of the sensor's noise, of 255. More makes single frames
# harder.
NOISE = 3.0
# How often somebody who does nothing stands in front of the pattern.
BYSTANDER = 0.5
# Periods per frame of the video. Of two frames, the movement is seen up to
# half a period; of every fourth frame, slow videos still show it and of fast
# ones little is left. Faster is harder, and slower is harder with few pixels.
SPEEDS = dict(static=(0.0, 0.0), slow=(0.03, 0.05), fast=(0.075, 0.1))


class TrimmedVideo(NamedTuple):
    """What a toy action video shows.

    The pattern tells a pair of classes. Which of the two is told by the
    direction in which it moves; by the arrow on the sign, where it stands
    still. The sign of a moving pattern is empty. So every class occurs at
    every speed, a static video is told by any of its frames, and a moving
    one by no single frame.

    Args:
        label: Name of the class, a key of ``MOTIONS``.
        group: A key of ``SPEEDS``.
        seed: Seeds of the data set and of the video.
        frames: Number of frames.
        size: ``(width, height)`` of the images in pixels.
    """

    label: str
    group: str
    seed: tuple[int, ...]
    frames: int = 32
    size: tuple[int, int] = (96, 80)

    def film(self) -> Iterator[np.ndarray]:
        """Film the video.

        Nothing but the pattern and the arrow depends on label and group.

        Yields:
            The frames, uint8 of shape (height, width, 3) in blue, green,
            red.
        """
        rng = np.random.default_rng(self.seed)
        motion = MOTIONS[self.label]
        canvas_size = tuple(side * OVERSAMPLING for side in self.size)
        # Facing right, so that directions are as they are called.
        stage = replace(choose_stage(rng, canvas_size), facing=1)
        around = paint_surroundings(stage, canvas_size)
        bystander = _place_bystander(rng, stage)
        place = (rng.uniform(-0.2, 0.2), rng.uniform(0.15, 0.22))
        start, speed = rng.random(2)
        slowest, fastest = SPEEDS[self.group]
        step = motion.sense * (slowest + speed * (fastest - slowest))
        arrow = motion.arrow if self.group == 'static' else None
        for index in range(self.frames):
            canvas = around.copy()
            paint_thing(canvas, stage, motion.draw(start + index * step))
            if bystander is not None:
                paint_figure(canvas, bystander, stand(0.0)[0])
            paint_sign(canvas, stage, place, arrow)
            image = cv2.resize(
                canvas, self.size, interpolation=cv2.INTER_AREA
            ).astype(np.float32)
            image += NOISE * rng.standard_normal(image.shape, np.float32)
            yield np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _place_bystander(rng: np.random.Generator, stage: Stage) -> Stage | None:
    """A stage of his own for somebody who does nothing, if there is one."""
    shift, size, there = rng.random(3)
    if there >= BYSTANDER:
        return None
    x, y = stage.origin
    x += (2 * shift - 1) * stage.height
    return replace(
        stage, origin=(x, y), height=(0.6 + 0.3 * size) * stage.height
    )
