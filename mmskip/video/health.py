"""Cheap checks of each frame that tell when a camera is not well."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .frame import Frame

# Pixels that are looked at, (width, height): a frame is sampled, not scaled.
SAMPLES = (64, 36)

# Black, and white, in all three channels.
BLACK = 20
WHITE = 250

# What a decoder leaves where it got nothing: grey in the middle of the
# range, or the green that zeros are in YCbCr of BT.601 and BT.709.
EMPTY_GREY = (126, 132)
EMPTY_GREENS = (76, 77, 78, 134, 135, 136)

# Of Gaussian noise, the median of its absolute value by its deviation.
MEDIAN_OF_NOISE = 0.6745


@dataclass(frozen=True)
class HealthLimits:
    """Where a frame ceases to be well.

    Attributes:
        black: Share of black pixels from which a frame is black.
        overexposed: Share of white pixels from which it is overexposed.
        empty: Share of the pixels that a decoder left empty, grey or green,
            from which it is damaged.
        noise: Standard deviation of the noise, in grey levels, from which it
            is noisy. A camera at night has about 5.
        frozen: Seconds without any change from which a source is frozen.
            A compressed video of a still scene may not change for as long as
            there are no key frames. ``None``: never.
        recovery: So many frames in a row must be well until a state has
            ended.
    """

    black: float = 0.98
    overexposed: float = 0.6
    empty: float = 0.3
    noise: float = 25.0
    frozen: float | None = 10.0
    recovery: int = 25


class FrameHealth:
    """Looks for damaged, black, overexposed, noisy and frozen frames.

    A warning says when such a state begins, and one says after how many
    frames it has ended. A state that comes and goes within
    ``limits.recovery`` frames is one.

    Args:
        name: What warnings call the source.
        warn: Takes each warning.
        limits: See :class:`HealthLimits`.

    Attributes:
        counts: Frames so far of each state: ``damaged``, ``black``,
            ``overexposed``, ``noisy`` and ``frozen``.
    """

    def __init__(
        self,
        name: str,
        warn: Callable[[str], Any] = print,
        limits: HealthLimits | None = None,
    ) -> None:
        self.counts = dict.fromkeys(
            ('damaged', 'black', 'overexposed', 'noisy', 'frozen'), 0
        )
        self._name = name
        self._warn = warn
        self._limits = limits or HealthLimits()
        # Of each state that lasts: frames, and frames since that were well.
        self._states: dict[str, list[int]] = {}
        self._last: np.ndarray | None = None
        self._last_change = 0.0

    def check(self, frame: Frame) -> tuple[str, ...]:
        """Check a frame.

        Returns:
            The states that it is in, keys of :attr:`counts`; none if all is
            well.
        """
        found = self._look(frame)
        for state in found:
            self.counts[state] += 1
            if state not in self._states:
                self._states[state] = [0, 0]
                self._warn(
                    f'{self._name} is {state} from frame {frame.index} on'
                )
            self._states[state][0] += 1
            self._states[state][1] = 0
        for state in self._states.keys() - set(found):
            self._states[state][1] += 1
            if self._states[state][1] >= self._limits.recovery:
                self._end(state)
        return found

    def close(self) -> None:
        """Tell of the states that last to the end."""
        for state in tuple(self._states):
            self._end(state)

    def _end(self, state: str) -> None:
        frames, _ = self._states.pop(state)
        self._warn(f'{self._name} was {state} for {frames} frames')

    def _look(self, frame: Frame) -> tuple[str, ...]:
        limits = self._limits
        height, width = frame.image.shape[:2]
        rows = max(1, height // SAMPLES[1])
        columns = max(1, width // SAMPLES[0])
        # By channels, which numpy is much faster with.
        some = np.moveaxis(frame.image[::rows, ::columns], 2, 0).copy()
        blue, green, red = some
        lowest = np.minimum(np.minimum(blue, green), red)
        highest = np.maximum(np.maximum(blue, green), red)
        checks = dict(
            damaged=frame.damaged or _share_empty(some) >= limits.empty,
            black=(highest <= BLACK).mean() >= limits.black,
            overexposed=(lowest >= WHITE).mean() >= limits.overexposed,
            noisy=_noise(frame.image, rows, columns) >= limits.noise,
            frozen=self._is_frozen(some, frame.time),
        )
        return tuple(state for state, is_found in checks.items() if is_found)

    def _is_frozen(self, some: np.ndarray, time: float) -> bool:
        if self._last is None or not np.array_equal(some, self._last):
            self._last = some
            self._last_change = time
        limit = self._limits.frozen
        return limit is not None and time - self._last_change >= limit


def _share_empty(some: np.ndarray) -> float:
    """Return the share of pixels (3, h, w) that no data were decoded for."""
    blue, green, red = some
    is_grey = (blue == green) & (green == red)
    is_middle = (green >= EMPTY_GREY[0]) & (green <= EMPTY_GREY[1])
    is_empty_green = np.isin(green, EMPTY_GREENS) & ((blue | red) == 0)
    return max((is_grey & is_middle).mean(), is_empty_green.mean())


def _noise(image: np.ndarray, rows: int, columns: int) -> float:
    """Estimate the deviation of noise from squares of 2 x 2 pixels.

    The difference of the diagonals of a square, halved, has the deviation of
    noise that is independent from pixel to pixel; edges along an axis and
    slopes fall out of it, and the median leaves other edges aside.
    """
    green = image[:, :, 1]
    if min(green.shape) < 2:
        return 0.0
    corners = [green[y::rows, x::columns] for y in (0, 1) for x in (0, 1)]
    height = min(corner.shape[0] for corner in corners)
    width = min(corner.shape[1] for corner in corners)
    a, b, c, d = (
        corner[:height, :width].astype(np.int16) for corner in corners
    )
    return float(np.median(abs(a - b - c + d))) / 2 / MEDIAN_OF_NOISE
