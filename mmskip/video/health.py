"""How cameras fare: cheap checks of each frame, figures for Prometheus."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmskip.reading import InputError

from .reader import Frame, FrameResult

GIGA = 1e9

# Counters of a reader, and what they count.
READER_COUNTERS = dict(
    dropped='frames that came while the model was busy',
    reconnects='times that a lost source was opened again',
    damaged='frames that were damaged or could not be decoded',
)
# Upper ends of the histogram's bins, in seconds.
LATENCIES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
# A time after it, in September 2001, is one of the clock: of a live source.
CLOCK_FROM = 1e9

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


class Metrics:
    """Serves figures of each camera at ``http://host:port/metrics``.

    The server is a thread of its own. Use it as a context, or call
    :meth:`close`.

    Args:
        port: To listen at; 0 takes any that is free.
        host: Who may ask: this machine alone, or all with ``'0.0.0.0'``.

    Attributes:
        port: The port that it listens at.

    Raises:
        InputError: The port is in use or not allowed, or the package
            ``prometheus_client`` is not installed.
    """

    def __init__(self, port: int, host: str = '127.0.0.1') -> None:
        prometheus = _import_prometheus()
        registry = prometheus.CollectorRegistry()

        def make(kind: Any, name: str, text: str, **options: Any) -> Any:
            return kind(
                f'mmskip_{name}',
                text,
                ['camera'],
                registry=registry,
                **options,
            )

        counter, gauge = prometheus.Counter, prometheus.Gauge
        self._frames = make(counter, 'frames', 'frames with a result')
        self._restarts = make(
            counter, 'reference_frames', 'frames computed as a reference frame'
        )
        self._counters = {
            name: make(counter, name, text)
            for name, text in READER_COUNTERS.items()
        }
        self._macs = make(
            gauge, 'gmac_per_frame', '1e9 MACs spent in the newest frame'
        )
        self._share = make(
            gauge, 'cost_share', "newest frame's MACs by the dense model's"
        )
        self._latency = make(
            prometheus.Histogram,
            'latency_seconds',
            'from the arrival of a frame (live) or its reading to its result',
            buckets=LATENCIES,
        )
        self._age = make(
            gauge,
            'result_age_seconds',
            'since the arrival of the frame of the newest result',
        )
        self._arrivals: dict[str, float] = {}
        self._last: dict[tuple[str, str], int] = {}
        try:
            self._server, self._thread = prometheus.start_http_server(
                port, host, registry
            )
        except (OSError, OverflowError) as error:
            raise InputError(
                f'cannot serve metrics at {host}:{port}: {error}; choose '
                'another port'
            ) from error
        self.port: int = self._server.server_port

    def __enter__(self) -> 'Metrics':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def observe(
        self, camera: str, result: FrameResult, reader: object = None
    ) -> None:
        """Note a result.

        Args:
            camera: Name of the camera, the label of its figures.
            result: Its newest result.
            reader: The reader of its frames, whose ``dropped``,
                ``reconnects`` and ``damaged`` are taken if it has them. They
                may begin at 0 again, when there is a new one.
        """
        now = time.time()
        is_live = result.time > CLOCK_FROM
        latency = now - result.time if is_live else result.seconds
        self._frames.labels(camera).inc()
        self._restarts.labels(camera).inc(result.restart is not None)
        for name, counter in self._counters.items():
            total = getattr(reader, name, 0)
            last = self._last.get((camera, name), 0)
            counter.labels(camera).inc(total - last * (last <= total))
            self._last[camera, name] = total
        self._macs.labels(camera).set(result.cost.spent / GIGA)
        if result.cost.dense:
            share = result.cost.spent / result.cost.dense
            self._share.labels(camera).set(share)
        self._latency.labels(camera).observe(latency)
        if camera not in self._arrivals:
            self._age.labels(camera).set_function(
                lambda: time.time() - self._arrivals[camera]
            )
        self._arrivals[camera] = now - latency

    def close(self) -> None:
        """Stop the server; the port is free when this returns."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _import_prometheus() -> Any:
    """Import the client of Prometheus, an optional package.

    Raises:
        InputError: It is not installed.
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise InputError(
            f'expected the package prometheus_client, got: {error}; pip '
            "install 'mmskip[cameras]'"
        ) from error
    return prometheus_client
