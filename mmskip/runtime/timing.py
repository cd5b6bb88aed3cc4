"""Time that a model takes for a batch."""

from time import perf_counter

import torch


class Stopwatch:
    """Measures one interval at a time, on the device's clock and the CPU's.

    Work that a GPU has yet to do is waited for at both ends.
    """

    def __init__(self) -> None:
        self._started: float | None = None

    def start(self) -> None:
        """Begin an interval."""
        _wait()
        self._started = perf_counter()

    def stop(self) -> float | None:
        """End the interval.

        Returns:
            Its seconds; None if none had begun.
        """
        if self._started is None:
            return None
        _wait()
        seconds = perf_counter() - self._started
        self._started = None
        return seconds


class StopwatchReader:
    """Something that stops a watch which a hook starts (a metric)."""

    stopwatch: Stopwatch | None = None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
