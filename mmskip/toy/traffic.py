"""Toy vehicles on lanes: how they move, are painted and are annotated."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from .scene import CROSSING, FAR, NEAR, Camera, Lane, Light, Scene
from .vehicles import Shape, make_shape

Box = tuple[float, float, float, float]

# Image coordinates are handed to OpenCV in sixteenths of a pixel.
SHIFT = 4
# How many of each type come in random order before all come again: enough of
# each, also in a short sequence.
DECK = dict(car=9, van=4, bus=2, others=3)
# A vehicle of which less than this share can be seen is not annotated.
LEAST_VISIBLE = 0.15
# Road that is simulated, along Y, in metres.
NEAR_END, FAR_END = 2.0, FAR + 30.0
# Intelligent driver model: acceleration, comfortable braking (m/s^2), time
# headway (s) and gap in a queue (m).
ACCELERATION, BRAKING, HEADWAY, QUEUE_GAP = 2.6, 3.0, 0.9, 1.8


@dataclass(frozen=True)
class Placed:
    """A vehicle on the road.

    Args:
        shape: What it looks like.
        x: X of its middle in metres.
        y: Y of its middle in metres.
        direction: -1 if it faces the camera, 1 if it faces away.
    """

    shape: Shape
    x: float
    y: float
    direction: int

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Move local points, shape (..., 3), to the world."""
        turn = (self.direction, self.direction, 1)
        return points * turn + (self.x, self.y, 0.0)

    def corners(self) -> np.ndarray:
        """Return the eight corners of its box in the world, shape (8, 3)."""
        half = np.array([self.shape.width, self.shape.length]) / 2
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        base = np.column_stack([signs * half, np.zeros(4)])
        top = base + np.array([0, 0, self.shape.height])
        return self.to_world(np.concatenate([base, top]))


@dataclass
class Outline:
    """The outline of a vehicle in the image.

    Attributes:
        box: ``(x1, y1, x2, y2)`` in pixels of the canvas; it may stick out.
        area: Area of its outline in square pixels, what sticks out included.
        hides: What it was painted over: ``(x1, y1, x2, y2)`` by number.
    """

    box: tuple[float, float, float, float]
    area: float
    hides: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)


def paint_shadow(
    canvas: np.ndarray, camera: Camera, vehicle: Placed, light: Light
) -> None:
    """Darken the ground in a vehicle's shadow.

    Args:
        canvas: Image, uint8, shape (H, W, 3); changed in place.
        camera: The camera.
        vehicle: The vehicle.
        light: The scene's light.
    """
    corners = vehicle.corners()
    flat = corners.copy()
    if light.weather == 'sunny':
        sun = np.array(light.sun)
        flat[:, :2] -= np.outer(corners[:, 2], sun[:2] / sun[2])
        strength = 0.48
    else:
        middle = corners[:, :2].mean(0)
        flat[:, :2] = middle + (flat[:, :2] - middle) * 1.08
        strength = 0.35
    flat[:, 2] = 0
    if camera.depth(flat).min() < NEAR:
        return
    hull = cv2.convexHull(camera.project(flat).astype(np.float32))[:, 0]
    x1, y1, x2, y2 = box_around(hull, canvas.shape, margin=8)
    if x2 <= x1 or y2 <= y1:
        return
    mask = np.zeros((y2 - y1, x2 - x1), np.float32)
    cv2.fillConvexPoly(mask, _fixed(hull - (x1, y1)), strength, shift=SHIFT)
    mask = cv2.blur(mask, (5, 5))
    part = canvas[y1:y2, x1:x2]
    part[:] = (part * (1 - mask[..., None])).astype(np.uint8)


def paint_vehicle(
    canvas: np.ndarray,
    ids: np.ndarray,
    camera: Camera,
    vehicle: Placed,
    light: Light,
    number: int,
) -> Outline | None:
    """Paint a vehicle over what is there.

    Args:
        canvas: Image, uint8, shape (H, W, 3); changed in place.
        ids: Number of what is seen at each pixel, uint8, shape (H, W), 0 for
            the background; changed in place.
        camera: The camera.
        vehicle: The vehicle.
        light: The scene's light.
        number: Its number in ``ids``.

    Returns:
        Its outline. None if it is behind the camera.
    """
    polygons = _visible_polygons(camera, vehicle, light)
    if not polygons:
        return None
    points = np.concatenate([pixels for pixels, _ in polygons])
    x1, y1, x2, y2 = box_around(points, canvas.shape)
    box = (*points.min(0), *points.max(0))
    hull = cv2.convexHull(points.astype(np.float32))
    outline = Outline(tuple(map(float, box)), float(cv2.contourArea(hull)))
    if x2 <= x1 or y2 <= y1:
        return outline
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    for pixels, colour in polygons:
        corners = _fixed(pixels)
        cv2.fillPoly(canvas, [corners], colour, shift=SHIFT)
        corners -= np.int32([x1, y1]) << SHIFT
        cv2.fillPoly(mask, [corners], 1, shift=SHIFT)
    outline.hides = cover(ids, mask, (x1, y1), number)
    return outline


def cover(
    ids: np.ndarray, mask: np.ndarray, corner: tuple[int, int], number: int
) -> dict[int, tuple[int, int, int, int]]:
    """Write a number into ``ids`` and tell what was covered.

    Args:
        ids: Number of what is seen at each pixel; changed in place.
        mask: Where to write, shape (h, w), nonzero inside.
        corner: ``(x, y)`` of the mask's left upper corner in ``ids``.
        number: The number to write.

    Returns:
        By number covered the box ``(x1, y1, x2, y2)`` of what was covered.
    """
    x, y = corner
    part = ids[y : y + mask.shape[0], x : x + mask.shape[1]]
    inside = mask > 0
    covered = {}
    for other in np.unique(part[inside]):
        if other in (0, number):
            continue
        lines, columns = np.nonzero(inside & (part == other))
        covered[int(other)] = (
            int(x + columns.min()),
            int(y + lines.min()),
            int(x + columns.max() + 1),
            int(y + lines.max() + 1),
        )
    part[inside] = number
    return covered


def box_around(
    points: np.ndarray, shape: tuple[int, ...], margin: int = 1
) -> tuple[int, int, int, int]:
    """Return the box around points, grown by a margin and clipped.

    Args:
        points: Pixels, shape (n, 2).
        shape: Shape of the image, height and width first.
        margin: Pixels to add on each side.

    Returns:
        ``(x1, y1, x2, y2)``; empty if all points are outside.
    """
    low = np.floor(points.min(0)).astype(int) - margin
    high = np.ceil(points.max(0)).astype(int) + margin
    return (
        max(int(low[0]), 0),
        max(int(low[1]), 0),
        min(int(high[0]), shape[1]),
        min(int(high[1]), shape[0]),
    )


@dataclass
class Vehicle:
    """A vehicle in traffic.

    Attributes:
        track_id: Number of the vehicle, from 1.
        kind: 'car', 'van', 'bus' or 'others'.
        shape: What it looks like.
        lane: Index of its lane.
        x: X of its middle, in metres.
        y: Y of its middle, in metres.
        direction: -1 towards the camera, 1 away from it.
        speed: In metres per second, never negative.
        wish: The speed it would like to have.
    """

    track_id: int
    kind: str
    shape: Shape
    lane: int
    x: float
    y: float
    direction: int
    speed: float
    wish: float

    def placed(self) -> Placed:
        """Return where it is, for the painter."""
        return Placed(self.shape, self.x, self.y, self.direction)


class Traffic:
    """All vehicles of a sequence.

    Args:
        scene: The scene.
        rng: Source of randomness.
        density: Vehicles per lane and second that want to enter.
        busy: Whether the road has traffic at time 0; otherwise nothing is in
            sight yet.
        green_at: Time in seconds at which a traffic light turns green. It
            was red before.
    """

    def __init__(
        self,
        scene: Scene,
        rng: np.random.Generator,
        density: float,
        busy: bool = True,
        green_at: float = 0.0,
    ) -> None:
        self.scene = scene
        self.rng = rng
        self.density = density
        self.green_at = green_at
        self.vehicles: list[Vehicle] = []
        self.time = -16.0 if busy else -0.8
        self._made = 0
        self._deck: list[str] = []
        self._next = [
            self.time + rng.exponential(0.4 / density) for _ in scene.lanes
        ]
        if not busy:
            # One is about to come into sight from below the camera.
            self._next[-1] = self.time
        while self.time < 0:
            self.step(0.1)

    def step(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: A small time step.
        """
        for index, lane in enumerate(self.scene.lanes):
            if self.time >= self._next[index]:
                self._enter(index, lane)
            self._drive(index, lane, seconds)
        self.vehicles = [
            v for v in self.vehicles if NEAR_END - 12 < v.y < FAR_END + 12
        ]
        self.time += seconds

    def _enter(self, index: int, lane: Lane) -> None:
        """Let a vehicle enter a lane if there is room for it."""
        y = NEAR_END if lane.direction > 0 else FAR_END
        if not self._deck:
            kinds = [kind for kind, n in DECK.items() for _ in range(n)]
            self._deck = [str(kind) for kind in self.rng.permutation(kinds)]
        kind = self._deck[-1]
        shape = make_shape(kind, self.rng)
        room = QUEUE_GAP + 4
        for other in self.vehicles:
            gap = abs(other.y - y) - (other.shape.length + shape.length) / 2
            if other.lane == index and gap < room:
                self._next[index] = self.time + 0.3
                return
        wish = self.rng.uniform(8.0, 14.0) * (1 if kind == 'car' else 0.85)
        self._deck.pop()
        self._made += 1
        self.vehicles.append(
            Vehicle(
                track_id=self._made,
                kind=kind,
                shape=shape,
                lane=index,
                x=lane.x + self.rng.uniform(-0.25, 0.25),
                y=y,
                direction=lane.direction,
                speed=wish * 0.9,
                wish=wish,
            )
        )
        wait = 0.9 + self.rng.exponential(1 / self.density)
        self._next[index] = self.time + wait

    def _drive(self, index: int, lane: Lane, seconds: float) -> None:
        """Move the vehicles of a lane, the first one first."""
        queue = [v for v in self.vehicles if v.lane == index]
        queue.sort(key=lambda v: -v.y * lane.direction)
        leader = None
        for vehicle in queue:
            gap, closing = self._look_ahead(vehicle, leader)
            wanted = QUEUE_GAP + max(
                vehicle.speed * HEADWAY
                + vehicle.speed
                * closing
                / (2 * np.sqrt(ACCELERATION * BRAKING)),
                0,
            )
            pull = ACCELERATION * (
                1
                - (vehicle.speed / vehicle.wish) ** 4
                - (wanted / max(gap, 0.1)) ** 2
            )
            speed = max(vehicle.speed + max(pull, -8.0) * seconds, 0.0)
            step = (vehicle.speed + speed) / 2 * seconds
            vehicle.y += vehicle.direction * min(step, max(gap - 0.5, 0.0))
            vehicle.speed = speed
            leader = vehicle

    def _look_ahead(
        self, vehicle: Vehicle, leader: Vehicle | None
    ) -> tuple[float, float]:
        """Return the room in front, in metres, and how fast it shrinks."""
        gap, closing = 200.0, 0.0
        if leader is not None:
            gap = (
                abs(leader.y - vehicle.y)
                - (leader.shape.length + vehicle.shape.length) / 2
            )
            closing = vehicle.speed - leader.speed
        line = self.scene.stop_line
        if line is not None and self.time < self.green_at:
            stop = line if vehicle.direction < 0 else line - CROSSING - 1.6
            room = (stop - vehicle.y) * vehicle.direction
            room -= vehicle.shape.length / 2
            if 0 < room < gap:
                gap, closing = room, vehicle.speed
        return gap, closing


@dataclass(frozen=True)
class Overlap:
    """A place where a vehicle and something else cover each other.

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
        """Return the area of a vehicle's whole box, in pixels of the image."""
        return _area(outlines[number - 1].box) / self.scale**2

    def _is_ignored(self, box: Box) -> bool:
        """Tell whether a vehicle stands in an ignored region."""
        x, y = (box[0] + box[2]) / 2, box[3]
        return any(
            left <= x <= right and top <= y <= bottom
            for left, top, right, bottom in self.ignored_regions
        )

    def _orientation(self, vehicle: Vehicle) -> float:
        """Return where a vehicle's front points in the image, in degrees."""
        here = np.array([vehicle.x, vehicle.y, 0.0])
        there = here + np.array([0, vehicle.direction * 0.5, 0])
        start, end = self.camera.project(np.stack([here, there]))
        angle = np.degrees(np.arctan2(start[1] - end[1], end[0] - start[0]))
        return float(angle % 360)


def _visible_polygons(
    camera: Camera, vehicle: Placed, light: Light
) -> list[tuple[np.ndarray, tuple[float, ...]]]:
    """Return what faces the camera: pixels and colours, in order."""
    world = vehicle.to_world(vehicle.shape.corners)
    splits = vehicle.shape.splits
    if camera.depth(world).min() >= NEAR:
        flat = np.split(camera.project(world), splits)
    else:
        flat = [camera.project_polygon(p) for p in np.split(world, splits)]
    turn = np.array([vehicle.direction, vehicle.direction, 1])
    normals = vehicle.shape.normals * turn
    away = camera.position - vehicle.to_world(vehicle.shape.centres)
    distances = (away**2).sum(1)
    seen = (normals * away).sum(1) > 0
    starts = vehicle.shape.starts
    polygons = []
    for index in np.argsort(-distances, kind='stable'):
        if not seen[index]:
            continue
        face, normal = vehicle.shape.faces[index], normals[index]
        colours = [_shade(face.colour, normal, light)]
        colours += [
            colour if glow else _shade(colour, normal, light)
            for _, colour, glow in face.details
        ]
        pixels = flat[starts[index] : starts[index] + len(colours)]
        pairs = zip(pixels, colours, strict=True)
        polygons += [pair for pair in pairs if len(pair[0])]
    return polygons


def _shade(
    colour: tuple[int, int, int], normal: np.ndarray, light: Light
) -> tuple[float, ...]:
    """Return the colour of a surface in the scene's light."""
    direct = max(float(normal @ np.array(light.sun)), 0.0)
    if light.weather == 'sunny':
        strength = 0.62 + 0.1 * normal[2] + 0.42 * direct
    else:
        strength = 0.74 + 0.2 * normal[2] + 0.04 * direct
    return tuple(min(c * strength, 255.0) for c in colour)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Return the pixels as OpenCV's fixed-point integers.

    OpenCV puts the middle of the first pixel at 0, the camera at 0.5.
    """
    return np.round((points - 0.5) * (1 << SHIFT)).astype(np.int32)


def _area(box: Sequence[float]) -> float:
    """Return the area of a box ``(x1, y1, x2, y2)``."""
    return (box[2] - box[0]) * (box[3] - box[1])
