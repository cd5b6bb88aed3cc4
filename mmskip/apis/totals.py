"""What a stream has cost so far, and the bar or lines that show it."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.apis.video_stream import FrameResult

GIGA = 1e9


@dataclass
class StreamTotals:
    """Running sums over the frames of a stream.

    Attributes:
        frames: Frames so far.
        dense: MACs that the dense model would have done.
        spent: MACs that were done, gates included.
        model_seconds: Preparing frames and running the model, without the
            first frame, which pays for warming up.
        first_seconds: The same for the first frame.
        started: ``time.perf_counter()`` at the beginning.
    """

    frames: int = 0
    dense: int = 0
    spent: int = 0
    model_seconds: float = 0.0
    first_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, result: FrameResult) -> None:
        """Count one more frame."""
        self.frames += 1
        self.dense += result.cost.dense
        self.spent += result.cost.spent
        if self.frames > 1:
            self.model_seconds += result.seconds
        else:
            self.first_seconds = result.seconds

    @property
    def fps(self) -> float:
        """Frames per second of everything: reading, model, drawing."""
        elapsed = time.perf_counter() - self.started
        return self.frames / elapsed if elapsed > 0 else 0.0

    @property
    def reduction(self) -> float:
        """How many times fewer MACs than the dense model; 1 at first."""
        return self.dense / self.spent if self.spent else 1.0

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds of the model per frame after the first."""
        if self.frames < 2:
            return 1000 * self.first_seconds
        return 1000 * self.model_seconds / (self.frames - 1)

    def summary(self) -> dict[str, Any]:
        """The totals as numbers per frame, for a table or a file."""
        frames = max(self.frames, 1)
        return dict(
            frames=self.frames,
            gmac_per_frame=self.spent / GIGA / frames,
            dense_gmac_per_frame=self.dense / GIGA / frames,
            reduction=self.reduction,
            ms_per_frame=self.ms_per_frame,
            fps=self.fps,
        )

    def __str__(self) -> str:
        numbers = self.summary()
        return (
            f'{numbers["fps"]:.1f} fps, '
            f'{numbers["gmac_per_frame"]:.3g} GMAC/frame, '
            f'{numbers["reduction"]:.2f}x fewer than dense'
        )


class StreamProgress:
    """A progress bar in a terminal, a plain line now and then elsewhere.

    Args:
        console: Where to show it.
        num_frames: Frames to come, ``None`` if unknown.
        interval: Seconds between two plain lines.
    """

    def __init__(
        self,
        console: Console,
        num_frames: int | None,
        interval: float = 10.0,
    ) -> None:
        self._console = console
        self._num_frames = num_frames
        self._interval = interval
        self._next_line = time.perf_counter() + interval
        self._bar = Progress(
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn('{task.fields[cost]}'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task('frames', total=num_frames, cost='')

    def __enter__(self) -> 'StreamProgress':
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, totals: StreamTotals) -> None:
        """Show the state after a frame."""
        if self._console.is_terminal:
            self._bar.update(
                self._task, completed=totals.frames, cost=str(totals)
            )
        elif time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + self._interval
            self._console.print(self._line(totals), soft_wrap=True)

    def _line(self, totals: StreamTotals) -> str:
        line = f'frame {totals.frames}'
        if self._num_frames is not None:
            left = (self._num_frames - totals.frames) / max(totals.fps, 1e-9)
            return f'{line}/{self._num_frames}: {totals}, {left:.0f} s left'
        return f'{line}: {totals}'
