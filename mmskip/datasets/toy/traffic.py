"""Vehicles that follow each other along lanes and stop at a red light."""

from dataclasses import dataclass

import numpy as np

from .painting import Placed
from .scene import CROSSING, FAR, Lane, Scene
from .shapes import Shape
from .vehicle_types import make_shape

# How many of each type come in random order before all come again: enough of
# each, also in a short sequence.
DECK = dict(car=9, van=4, bus=2, others=3)

# Road that is simulated, along Y, in metres.
NEAR_END, FAR_END = 2.0, FAR + 30.0

# Intelligent driver model: acceleration, comfortable braking (m/s^2), time
# headway (s) and gap in a queue (m).
ACCELERATION, BRAKING, HEADWAY, QUEUE_GAP = 2.6, 3.0, 0.9, 1.8


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
        """Where it is, for the painter."""
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
        """Room in front of a vehicle, in metres, and how fast it shrinks."""
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
