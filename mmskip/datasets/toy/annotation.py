"""Decide what is annotated in a toy frame, and how."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .painting import Outline
from .traffic import Vehicle

Box = tuple[float, float, float, float]

# A vehicle of which less than this share can be seen is not annotated.
LEAST_VISIBLE = 0.15


@dataclass(frozen=True)
class Overlap:
    """Where a vehicle and something else cover each other.

    Args:
        other: Track number of the other vehicle, -1 for the background.
        status: 0 hidden by ``other``, 1 hides it, -1 hidden by background.
        box: ``(x1, y1, x2, y2)`` in pixels from 0.
    """

    other: int
    status: int
    box: Box


@dataclass(frozen=True)
class Sighting:
    """A vehicle in a frame, as annotated.

    Args:
        track_id: Number of the vehicle, from 1.
        kind: 'car', 'van', 'bus' or 'others'.
        box: ``(x1, y1, x2, y2)`` in pixels from 0, clipped to the image, of
            all of the vehicle whether hidden or not.
        truncation: Share of the box that is outside of the image.
        orientation: Direction it faces in the image, in degrees from the
            right, anticlockwise.
        overlaps: With what it overlaps.
    """

    track_id: int
    kind: str
    box: Box
    truncation: float
    orientation: float
    overlaps: tuple[Overlap, ...]


class Annotator:
    """Annotates frames that were painted on a larger canvas.

    Args:
        camera: The camera of the canvas.
        scale: How many times the canvas is larger than the image.

    Attributes:
        ignored_regions: Boxes ``(x1, y1, x2, y2)`` in pixels of the image;
            vehicles that stand in one are not annotated.
    """

    def __init__(self, camera: Camera, scale: int) -> None:
        self.camera = camera
        self.scale = scale
        self.ignored_regions: list[Box] = []

    def clip(self, box: Sequence[float]) -> Box | None:
        """Turn a box of the canvas into one of the image.

        Returns:
            The box in pixels of the image; None if it is outside.
        """
        limits = np.tile(self.camera.size, 2)
        x1, y1, x2, y2 = np.clip(box, 0, limits) / self.scale
        if x2 <= x1 or y2 <= y1:
            return None
        return float(x1), float(y1), float(x2), float(y2)

    def annotate(
        self,
        vehicles: Sequence[Vehicle],
        outlines: Sequence[Outline | None],
        ids: np.ndarray,
        hidden: dict[int, Sequence[float]],
    ) -> list[Sighting]:
        """Annotate a frame.

        Args:
            vehicles: The vehicles in traffic; the first has number 1.
            outlines: Where each is on the canvas.
            ids: Number of what is seen at each pixel of the canvas.
            hidden: By number, the part hidden by the background.

        Returns:
            The annotated vehicles, by track number.
        """
        seen = np.bincount(ids.ravel(), minlength=256)
        boxes: dict[int, Box] = {}
        for number, outline in enumerate(outlines, 1):
            box = outline and self.clip(outline.box)
            if (
                box is not None
                and seen[number] >= LEAST_VISIBLE * outline.area
                and not self._is_ignored(box)
            ):
                boxes[number] = box
        overlaps = self._find_overlaps(vehicles, outlines, boxes, hidden)
        sightings = [
            Sighting(
                track_id=vehicles[number - 1].track_id,
                kind=vehicles[number - 1].kind,
                box=box,
                truncation=max(
                    1 - _area(box) / self._full_area(outlines, number), 0.0
                ),
                orientation=self._orientation(vehicles[number - 1]),
                overlaps=tuple(overlaps[number]),
            )
            for number, box in boxes.items()
        ]
        return sorted(sightings, key=lambda sighting: sighting.track_id)

    def _find_overlaps(
        self,
        vehicles: Sequence[Vehicle],
        outlines: Sequence[Outline | None],
        boxes: dict[int, Box],
        hidden: dict[int, Sequence[float]],
    ) -> dict[int, list[Overlap]]:
        """List for each annotated vehicle what it hides or is hidden by."""
        found: dict[int, list[Overlap]] = {number: [] for number in boxes}
        for number in boxes:
            track = vehicles[number - 1].track_id
            if number in hidden:
                box = self.clip(hidden[number])
                found[number].append(Overlap(-1, -1, box))
            for other, region in outlines[number - 1].hides.items():
                if other not in boxes:
                    continue
                box = self.clip(region)
                behind = vehicles[other - 1].track_id
                found[number].append(Overlap(behind, 1, box))
                found[other].append(Overlap(track, 0, box))
        return found

    def _full_area(
        self, outlines: Sequence[Outline | None], number: int
    ) -> float:
        """Area of a vehicle's whole box, in pixels of the image."""
        return _area(outlines[number - 1].box) / self.scale**2

    def _is_ignored(self, box: Box) -> bool:
        """Whether a vehicle stands in an ignored region."""
        x, y = (box[0] + box[2]) / 2, box[3]
        return any(
            left <= x <= right and top <= y <= bottom
            for left, top, right, bottom in self.ignored_regions
        )

    def _orientation(self, vehicle: Vehicle) -> float:
        """Direction of a vehicle's front in the image, in degrees."""
        here = np.array([vehicle.x, vehicle.y, 0.0])
        there = here + np.array([0, vehicle.direction * 0.5, 0])
        start, end = self.camera.project(np.stack([here, there]))
        angle = np.degrees(np.arctan2(start[1] - end[1], end[0] - start[0]))
        return float(angle % 360)


def _area(box: Sequence[float]) -> float:
    """Area of a box ``(x1, y1, x2, y2)``."""
    return (box[2] - box[0]) * (box[3] - box[1])
