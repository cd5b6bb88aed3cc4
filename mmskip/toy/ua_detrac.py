"""Write a toy UA-DETRAC in the layout of the original release.

It lies on disk so::

    Insight-MVT_Annotation_Train/MVI_90001/img00001.jpg
    Insight-MVT_Annotation_Test/MVI_95001/img00001.jpg
    DETRAC-Train-Annotations-XML/MVI_90001.xml
    DETRAC-Test-Annotations-XML/MVI_95001.xml

The numbers of the sequences do not occur in the original.

In its annotations pixels count from 1, frames too, and a frame without
vehicles has no element.
"""

import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .folder import LEAST_SIDE, check_integers, write_once
from .scene import FAR, choose_light, choose_scene
from .scenery import distance_to, make_sprites, paint_background
from .traffic import (
    Annotator,
    Box,
    Outline,
    Placed,
    Sighting,
    Traffic,
    Vehicle,
    cover,
    paint_shadow,
    paint_vehicle,
)
from .vehicles import make_shape

MARKER = 'toy_ua_detrac.json'
# Grows when the same arguments give other bytes.
VERSION = 3
LEAST = dict(
    train_sequences=0, test_sequences=0, frames=1, train_frames=1, seed=0
)
FIRST_NUMBER = dict(train=90001, test=95001)
JPEG_QUALITY = 95
PLACES = 4
# Frames within which vehicles come into sight on an empty road.
LONG = 20
# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
FRAMES_PER_SECOND = 12.5
# Standard deviation of the sensor's noise at middle grey, of 255.
NOISE = 2.2
# Numbers in the map of what is seen where; vehicles in traffic have 1, 2, ...
PARKED, SCENERY = 254, 255


@dataclass(frozen=True)
class Sequences:
    """The sequences of a split: how many, and how long.

    Args:
        number: Number of sequences.
        frames: Number of frames of each.
    """

    number: int
    frames: int


def make_toy_ua_detrac(
    root: str | os.PathLike,
    *,
    train: Sequences = Sequences(96, 40),
    test: Sequences = Sequences(6, 40),
    size: tuple[int, int] = (448, 256),
    density: float = 0.4,
    seed: int = 0,
    on_frame: Callable[[], None] | None = None,
) -> Path:
    """Write a toy UA-DETRAC, unless it is there already.

    It is written to ``{root}.partial`` and moved when it is complete.

    Four cameras take turns, in training and in test: the first and the third
    see parked vehicles, the third a light that is red at first. Of the
    sequences of each split the second gets slowly darker; the fourth begins
    with an empty road, if it is long enough for vehicles to come. The same
    arguments give the same bytes with the same releases of numpy and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        train: The training sequences: many short ones teach more than few
            long ones.
        test: The test sequences.
        size: ``(width, height)`` of the images in pixels.
        density: Vehicles per lane and second that want to enter.
        seed: Seed of all that is random.
        on_frame: Called after each frame written.

    Returns:
        ``root``, for ``data_root`` of ``mmskip.UADETRACDataset``.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=VERSION,
        train_sequences=train.number,
        test_sequences=test.number,
        frames=test.frames,
        train_frames=train.frames,
        size=list(size),
        density=density,
        seed=seed,
    )
    _check(arguments)

    def write(folder: Path) -> None:
        _write_all(folder, arguments, on_frame)

    return write_once(root, 'toy UA-DETRAC', MARKER, arguments, write)


@dataclass(frozen=True)
class SequencePlan:
    """A plan of what happens in a sequence.

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
        """Find where on the road vehicles are too small to annotate."""
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


def format_sequence(
    name: str,
    frames: Sequence[Sequence[Sighting]],
    ignored_regions: Sequence[Box],
    weather: str,
) -> str:
    """Format the annotation of a sequence.

    Args:
        name: Name of the sequence.
        frames: What is annotated in each frame.
        ignored_regions: Boxes ``(x1, y1, x2, y2)`` in pixels from 0.
        weather: 'sunny' or 'cloudy'.

    Returns:
        The text of the XML file.
    """
    root = ET.Element('sequence', name=name)
    # 'sence' is how the original spells it.
    ET.SubElement(
        root,
        'sequence_attribute',
        camera_state='stable',
        sence_weather=weather,
    )
    regions = ET.SubElement(root, 'ignored_region')
    for box in ignored_regions:
        ET.SubElement(regions, 'box', _format_box(box))
    lengths = Counter(s.track_id for frame in frames for s in frame)
    before: dict[int, Box] = {}
    for number, sightings in enumerate(frames, 1):
        if sightings:
            frame = ET.SubElement(
                root, 'frame', density=str(len(sightings)), num=str(number)
            )
            targets = ET.SubElement(frame, 'target_list')
            for sighting in sightings:
                length = lengths[sighting.track_id]
                speed = _speed(sighting.box, before.get(sighting.track_id))
                _add_target(targets, sighting, length, speed)
        before = {s.track_id: s.box for s in sightings}
    ET.indent(root, space='   ')
    body = ET.tostring(root, encoding='unicode')
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def plan_sequence(
    index: int, frames: int, size: tuple[int, int], density: float
) -> SequencePlan:
    """Decide what happens in a sequence, see :func:`make_toy_ua_detrac`."""
    place = index % PLACES
    return SequencePlan(
        frames=frames,
        size=size,
        place=place,
        density=density,
        busy=index != 3 or frames < LONG,
        traffic_light=place == 2,
        light_change=index == 1,
        parking=place in (0, 2),
    )


def _add_target(
    parent: ET.Element, sighting: Sighting, length: int, speed: float
) -> None:
    """Add one ``<target>``."""
    target = ET.SubElement(parent, 'target', id=str(sighting.track_id))
    ET.SubElement(target, 'box', _format_box(sighting.box))
    ET.SubElement(
        target,
        'attribute',
        orientation=_format(sighting.orientation),
        speed=_format(speed),
        trajectory_length=str(length),
        truncation_ratio=_format(sighting.truncation),
        vehicle_type=sighting.kind,
    )
    if sighting.overlaps:
        occlusion = ET.SubElement(target, 'occlusion')
        for overlap in sighting.overlaps:
            ET.SubElement(
                occlusion,
                'region_overlap',
                _format_box(overlap.box),
                occlusion_id=str(overlap.other),
                occlusion_status=str(overlap.status),
            )


def _speed(box: Box, before: Box | None) -> float:
    """Return how many pixels a box moved since the frame before."""
    if before is None:
        return 0.0
    moved = np.reshape(box, (2, 2)).mean(0) - np.reshape(before, (2, 2)).mean(
        0
    )
    return float(np.hypot(*moved))


def _format_box(box: Box) -> dict[str, str]:
    """Return a box as attributes, pixels from 1."""
    x1, y1, x2, y2 = box
    return dict(
        left=_format(x1 + 1),
        top=_format(y1 + 1),
        width=_format(x2 - x1),
        height=_format(y2 - y1),
    )


def _format(value: float) -> str:
    """Return a number with at most four digits behind the point."""
    return f'{value:.4f}'.rstrip('0').rstrip('.')


def _check(arguments: dict) -> None:
    """Refuse arguments out of range."""
    check_integers(arguments, LEAST)
    size = arguments['size']
    if len(size) != 2 or min(size) < LEAST_SIDE:
        raise ValueError(
            f'expected size (width, height) of at least {LEAST_SIDE} each, '
            f'got {size}'
        )
    if arguments['density'] <= 0:
        raise ValueError(f'expected density > 0, got {arguments["density"]!r}')


def _write_all(
    root: Path, arguments: dict, on_frame: Callable[[], None] | None
) -> None:
    """Write every sequence."""
    lengths = dict(train=arguments['train_frames'], test=arguments['frames'])
    for split, frames in lengths.items():
        for index in range(arguments[f'{split}_sequences']):
            number = FIRST_NUMBER[split] + index
            plan = plan_sequence(
                index, frames, tuple(arguments['size']), arguments['density']
            )
            sequence = ToySequence(plan, arguments['seed'], number)
            _write_sequence(root, split, number, sequence, on_frame)


def _write_sequence(
    root: Path,
    split: str,
    number: int,
    sequence: ToySequence,
    on_frame: Callable[[], None] | None,
) -> None:
    """Write images and annotation of a sequence."""
    name = f'MVI_{number}'
    images = root / f'Insight-MVT_Annotation_{split.capitalize()}' / name
    annotations = root / f'DETRAC-{split.capitalize()}-Annotations-XML'
    images.mkdir(parents=True)
    annotations.mkdir(exist_ok=True)
    frames = []
    for frame, (image, sightings) in enumerate(sequence.film(), 1):
        _, data = cv2.imencode(
            '.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        (images / f'img{frame:05d}.jpg').write_bytes(data.tobytes())
        frames.append(sightings)
        if on_frame is not None:
            on_frame()
    text = format_sequence(
        name,
        frames,
        ignored_regions=sequence.ignored_regions,
        weather=sequence.scene.light.weather,
    )
    (annotations / f'{name}.xml').write_text(text, encoding='utf-8')
