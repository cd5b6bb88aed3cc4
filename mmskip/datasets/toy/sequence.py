"""Film a toy sequence: frames and their annotation."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .annotation import Annotator, Box, Sighting
from .painting import Outline, Placed, cover, paint_shadow, paint_vehicle
from .scene import FAR, choose_light, choose_scene
from .scenery import distance_to, make_sprites, paint_background
from .traffic import Traffic, Vehicle
from .vehicle_types import make_shape

# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
FRAMES_PER_SECOND = 12.5
# Standard deviation of the sensor's noise at middle grey, of 255.
NOISE = 2.2
# Numbers in the map of what is seen where; vehicles in traffic have 1, 2, ...
PARKED, SCENERY = 254, 255


@dataclass(frozen=True)
class SequencePlan:
    """What happens in a sequence.

    Args:
        frames: Number of frames.
        size: ``(width, height)`` of the images, in pixels.
        place: Number of the place where the camera stands.
        density: Vehicles per lane and second that want to enter.
        busy: False: the road is empty at first.
        traffic_light: Whether vehicles wait at a red light for a while.
        light_change: Whether it slowly gets darker.
        parking: Whether there are parked vehicles, not annotated.
    """

    frames: int
    size: tuple[int, int]
    place: int
    density: float
    busy: bool = True
    traffic_light: bool = False
    light_change: bool = False
    parking: bool = False


class ToySequence:
    """A sequence ready to be filmed.

    Args:
        plan: What happens in it.
        seed: Seed of the places. Sequences of one seed and place share
            the camera, the road and what stands beside it.
        number: Number of the sequence; light and traffic depend on it too.

    Attributes:
        plan: What happens in it.
        scene: The scene.
    """

    def __init__(self, plan: SequencePlan, seed: int, number: int) -> None:
        self.plan = plan
        self._rng = rng = np.random.default_rng([seed, number])
        # Numbers of sequences are positive, so the place has its own seed.
        place = np.random.default_rng([seed, 0, plan.place])
        self.scene = choose_scene(
            place,
            (plan.size[0] * OVERSAMPLING, plan.size[1] * OVERSAMPLING),
            light=choose_light(rng, plan.light_change),
            traffic_light=plan.traffic_light,
            parking=plan.parking,
        )
        self._canvas = paint_background(self.scene, place)
        self._sprites = make_sprites(self.scene, place)
        green_at = 0.2 * plan.frames / FRAMES_PER_SECOND
        self._traffic = Traffic(
            self.scene, rng, plan.density, plan.busy, green_at
        )
        self._ids = np.zeros(self._canvas.shape[:2], np.uint8)
        self._annotator = Annotator(self.scene.camera, OVERSAMPLING)
        regions = (*self._far_regions(), self._park())
        self._annotator.ignored_regions += filter(None, regions)

    @property
    def ignored_regions(self) -> list[Box]:
        """Boxes ``(x1, y1, x2, y2)`` in pixels from 0, without annotation.

        The far end of the road, one box for each direction, and the parked
        vehicles.
        """
        return self._annotator.ignored_regions

    def film(self) -> Iterator[tuple[np.ndarray, list[Sighting]]]:
        """Film the sequence, once.

        Yields:
            For each frame the image, uint8 of shape (height, width, 3) in
            blue, green, red, and what is annotated in it.
        """
        for index in range(self.plan.frames):
            canvas, ids = self._canvas.copy(), self._ids.copy()
            vehicles = self._traffic.vehicles
            outlines, hidden = self._paint(canvas, ids, vehicles)
            sightings = self._annotator.annotate(
                vehicles, outlines, ids, hidden
            )
            yield self._expose(canvas, index), sightings
            for _ in range(2):
                self._traffic.step(0.5 / FRAMES_PER_SECOND)

    def _far_regions(self) -> list[Box | None]:
        """Where on the road vehicles are too small to annotate."""
        left, right = self.scene.edges
        boxes = []
        for sides in ((left, self.scene.median), (self.scene.median, right)):
            road = [
                (x, y, z)
                for x in sides
                for y in (FAR, FAR + 60)
                for z in (0.0, 3.2)
            ]
            pixels = self.scene.camera.project(np.array(road))
            box = (*pixels.min(0), *pixels.max(0))
            boxes.append(self._annotator.clip(box))
        return boxes

    def _park(self) -> Box | None:
        """Paint the parked vehicles, and return the box around them."""
        camera, light = self.scene.camera, self.scene.light
        corners = []
        for x, y, side in sorted(self.scene.parked, key=lambda p: -p[1]):
            kind = str(self._rng.choice(('car', 'car', 'van')))
            placed = Placed(make_shape(kind, self._rng), x, y, side)
            paint_shadow(self._canvas, camera, placed, light)
            outline = paint_vehicle(
                self._canvas, self._ids, camera, placed, light, PARKED
            )
            if outline is not None:
                corners.append(np.reshape(outline.box, (2, 2)))
        if not corners:
            return None
        points = np.concatenate(corners)
        return self._annotator.clip((*points.min(0), *points.max(0)))

    def _paint(
        self, canvas: np.ndarray, ids: np.ndarray, vehicles: list[Vehicle]
    ) -> tuple[list[Outline | None], dict[int, tuple[int, int, int, int]]]:
        """Paint the traffic and what stands in front of it, far to near.

        Returns:
            Where each vehicle is, and by number what the scenery hides of
            it.
        """
        camera, light = self.scene.camera, self.scene.light
        placed = [vehicle.placed() for vehicle in vehicles]
        for vehicle in placed:
            paint_shadow(canvas, camera, vehicle, light)
        things = [
            (distance_to(camera, thing.x, thing.y), index)
            for index, thing in enumerate(placed)
        ] + [
            (sprite.distance, -1 - index)
            for index, sprite in enumerate(self._sprites)
        ]
        outlines: list[Outline | None] = [None] * len(vehicles)
        hidden: dict[int, tuple[int, int, int, int]] = {}
        for _, index in sorted(things, reverse=True):
            if index >= 0:
                outlines[index] = paint_vehicle(
                    canvas, ids, camera, placed[index], light, index + 1
                )
            else:
                sprite = self._sprites[-1 - index]
                sprite.paint(canvas)
                hidden |= cover(ids, sprite.mask, sprite.corner, SCENERY)
        return outlines, hidden

    def _expose(self, canvas: np.ndarray, index: int) -> np.ndarray:
        """Take a picture: shrink, light, noise of the sensor.

        Args:
            canvas: What is to be seen.
            index: Index of the frame, from 0.

        Returns:
            The image, uint8.
        """
        image = cv2.resize(
            canvas, self.plan.size, interpolation=cv2.INTER_AREA
        )
        light = self.scene.light
        passed = index / max(self.plan.frames - 1, 1)
        gain = light.gain[0] + (light.gain[1] - light.gain[0]) * passed
        lit = image * (np.float32(light.tint) * np.float32(gain))
        noise = self._rng.standard_normal(lit.shape, np.float32)
        lit += noise * (NOISE * (0.6 + 0.4 / 128 * lit))
        return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
