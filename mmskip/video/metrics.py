"""The state of cameras, served to Prometheus."""

import time
from typing import Any

from mmskip.reading import InputError

from .frame import FrameResult

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
