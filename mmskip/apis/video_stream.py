"""Run a model over a video, frame by frame, and account for each frame."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import nn

from mmskip.skip_conv import StreamPolicy
from mmskip.video import Frame, FrameResult

from .frame_stream import FrameStream, SharedModel

GIGA = 1e9


def stream_video(
    model: nn.Module,
    frames: Iterable[Frame | np.ndarray],
    bbox: Sequence[float] | None = None,
    dense: bool = False,
    with_mask: bool = True,
    policy: StreamPolicy | None = None,
) -> Iterator[FrameResult]:
    """Show a model one video and yield its results one by one.

    Nothing of earlier frames is kept but the stream's memory of one frame.
    When the size of the frames changes, the stream starts again with a
    reference frame. The model is in the stream until the generator ends or
    is closed; do not use it otherwise meanwhile.

    Args:
        model: A detector or a top-down pose estimator with ``cfg``, in eval
            mode, see :func:`init_model`. One without converted layers runs
            densely.
        frames: Such as a reader from :func:`open_reader`, or BGR images.
        bbox: For pose estimators, see :class:`FramePipeline`.
        dense: Run a converted model as the dense one.
        with_mask: Work out ``computed_mask``.
        policy: When the stream restarts by itself; None for never.

    Yields:
        A result per frame.
    """
    with SharedModel(model, dense) as shared:
        camera = FrameStream(shared, bbox, with_mask, policy)
        for position, item in enumerate(frames):
            yield camera(_unpack(position, item))


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
        restarts: Number of reference frames by their reason.
        started: ``time.perf_counter()`` at the beginning.
    """

    frames: int = 0
    dense: int = 0
    spent: int = 0
    model_seconds: float = 0.0
    first_seconds: float = 0.0
    restarts: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.perf_counter)

    def add(self, result: FrameResult) -> None:
        """Count one more frame."""
        self.frames += 1
        self.dense += result.cost.dense
        self.spent += result.cost.spent
        if result.restart is not None:
            self.restarts[result.restart] += 1
        if self.frames > 1:
            self.model_seconds += result.seconds
        else:
            self.first_seconds = result.seconds

    @classmethod
    def of_all(cls, some: 'Iterable[StreamTotals]') -> 'StreamTotals':
        """Add up those of several streams that run side by side."""
        some = list(some)
        started = min(one.started for one in some)
        totals = cls(started=started)
        for one in some:
            totals.frames += one.frames
            totals.dense += one.dense
            totals.spent += one.spent
            totals.model_seconds += one.model_seconds
            totals.first_seconds += one.first_seconds
            totals.restarts.update(one.restarts)
        return totals

    @property
    def fps(self) -> float:
        """Frames per second of everything: reading, model, drawing."""
        elapsed = time.perf_counter() - self.started
        return self.frames / elapsed if elapsed > 0 else 0.0

    @property
    def reduction(self) -> float:
        """The dense model's MACs by those that were spent; 1 at first."""
        return self.dense / self.spent if self.spent else 1.0

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds of the model per frame after the first."""
        if self.frames < 2:
            return 1000 * self.first_seconds
        return 1000 * self.model_seconds / (self.frames - 1)

    def summary(self) -> dict[str, Any]:
        """Return the totals as numbers per frame, for a table or a file."""
        frames = max(self.frames, 1)
        return dict(
            frames=self.frames,
            gmac_per_frame=self.spent / GIGA / frames,
            dense_gmac_per_frame=self.dense / GIGA / frames,
            reduction=self.reduction,
            ms_per_frame=self.ms_per_frame,
            ms_first=1000 * self.first_seconds,
            fps=self.fps,
            restarts=dict(self.restarts),
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


def _unpack(position: int, item: Frame | np.ndarray) -> Frame:
    frame = item if isinstance(item, Frame) else Frame(position, item)
    image = frame.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            'expected frames of shape (H, W, 3) and dtype uint8, got '
            f'{image.shape} and {image.dtype} at frame {frame.index}'
        )
    return frame
