"""Several cameras on one model: who has a turn, and what becomes of it.

Each camera has a thread that reads it. Few workers run the model, each with
a copy of it and its share of the CPU's cores; a camera stays with one worker,
so its frames are in order and its results are those of the camera alone.
"""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import nn

from mmskip.video import Frame, FrameReader, FrameResult

from .errors import explain_mistake
from .frame_stream import FrameStream, SharedModel
from .video_stream import StreamTotals

#: Prepared frames of a file that wait for their turn.
AHEAD = 2
#: Seconds after which a thread looks whether it is to end.
LOOK = 0.1


class Sink(Protocol):
    """Takes the results of a camera; a context, entered before the first."""

    def __enter__(self) -> 'Sink': ...

    def __exit__(self, *error: Any) -> None: ...

    def write(self, result: FrameResult) -> None: ...


class Camera:
    """A source of frames, what is done with them, and where results go.

    Args:
        name: Of the camera, in messages.
        open_source: Opens its reader; called in a thread of the camera.
        make_stream: Makes its stream on the model of its worker.
        make_sinks: Makes what takes its results, once it is open.
        max_frames: Number of frames after which it ends; None for all.

    Attributes:
        reader: The source, once it is open.
        totals: Sums over its frames.
        dropped: Frames of a live source that were too old at their turn.
        nbytes: Bytes of its stream's memory.
        age: Seconds between the arrival of the newest frame at a live
            source and its result.
        error: What ended it early, None if nothing did.
        has_ended: True once its last result is written.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], FrameReader],
        make_stream: Callable[[SharedModel], FrameStream],
        make_sinks: Callable[['Camera'], Sequence[Sink]] = lambda _: (),
        max_frames: int | None = None,
    ) -> None:
        self.name = name
        self.reader: FrameReader | None = None
        self.totals = StreamTotals()
        self.dropped = 0
        self.nbytes = 0
        self.age = 0.0
        self.oldest = 0.0
        self.error: Exception | None = None
        self.has_ended = False
        self._open_source = open_source
        self._make_stream = make_stream
        self._make_sinks = make_sinks
        self._max_frames = max_frames
        self._waiting: list[Any] = []
        self._is_read = False
        self._changed = threading.Condition()
        self._stream: FrameStream | None = None
        self._sinks = ExitStack()
        self._taken: list[Sink] = []

    @property
    def is_live(self) -> bool:
        """True if frames come by themselves, and cannot wait."""
        return self.reader is not None and self.reader.is_live

    @property
    def is_ready(self) -> bool:
        """True if it has something to do."""
        return bool(self._waiting) or (self._is_read and not self.has_ended)

    @property
    def num_frames(self) -> int | None:
        """Frames that it announces, at most."""
        known = None if self.reader is None else self.reader.num_frames
        numbers = [n for n in (known, self._max_frames) if n is not None]
        return min(numbers, default=None)

    def read(self, stop: threading.Event, notify: Callable[[], None]) -> None:
        """Read the source until it ends; runs in a thread of its own."""
        try:
            with self._open_source() as reader:
                self.reader = reader
                self._read_frames(reader, stop, notify)
        except Exception as error:
            self.error = error
        finally:
            with self._changed:
                self._is_read = True
            notify()

    def _read_frames(
        self,
        reader: FrameReader,
        stop: threading.Event,
        notify: Callable[[], None],
    ) -> None:
        for count, frame in enumerate(reader, 1):
            if not self._offer(frame, stop):
                return
            notify()
            if count == self._max_frames:
                return

    def _offer(self, frame: Frame, stop: threading.Event) -> bool:
        """Let a frame wait for its turn; returns False if all is to end.

        Those of files are prepared here, beside the model.
        """
        prepared = None if self.is_live else self._stream.prepare(frame)
        with self._changed:
            if self.is_live and self._waiting:
                old, _ = self._waiting.pop()
                self.dropped += 1
                if old.restarts:
                    frame = frame._replace(restarts=True)
            while len(self._waiting) >= AHEAD and not stop.is_set():
                self._changed.wait(LOOK)
            self._waiting.append((frame, prepared))
        return not (stop.is_set() or self.has_ended)

    def take_turn(self) -> FrameResult | None:
        """Run the model on the next frame, or end if there is none.

        Returns:
            The result; None if the camera has ended.
        """
        with self._changed:
            taken = self._waiting.pop(0) if self._waiting else None
            self._changed.notify()
        if taken is None:
            self.close()
            return None
        frame, prepared = taken
        if not self.totals.frames:
            self._open()
        result = self._stream.run(*(prepared or self._stream.prepare(frame)))
        if self.is_live:
            self.age = time.time() - frame.time
            self.oldest = max(self.oldest, self.age)
        for sink in self._taken:
            sink.write(result)
        self.totals.add(result)
        state = self._stream.state
        if state is not None and self.totals.frames <= 2:
            self.nbytes = state.nbytes
        return result

    def bind(self, shared: SharedModel) -> None:
        """Make the stream on the model of a worker."""
        self._stream = self._make_stream(shared)

    def _open(self) -> None:
        self._taken = [
            self._sinks.enter_context(sink) for sink in self._make_sinks(self)
        ]

    def close(self) -> None:
        """Complete what was written. No error is lost: the first counts."""
        try:
            self._sinks.close()
        except Exception as error:
            self.error = self.error or error
        self.has_ended = True
        with self._changed:
            self._waiting.clear()
            self._changed.notify()


class CameraError(Exception):
    """Ends one camera, and no other; the text says why."""


class Cameras:
    """Runs a model on several cameras until all have ended.

    A camera that fails ends alone. Of a live source the newest frame has the
    turn; cameras take turns by who has waited longest.

    Args:
        model: Accelerated, see :func:`mmskip.accelerate`.
        cameras: At least one.
        dense: Run a converted model as the dense one.
        workers: Threads that run the model, each with a copy of it; None
            for as many as there are cameras, or cores if those are fewer.
        max_memory: Bytes that the memory of all streams may take; a camera
            that would take more is refused. None for no limit.
        watch: Called with each camera and its result, in a worker.
    """

    def __init__(
        self,
        model: nn.Module,
        cameras: Sequence[Camera],
        dense: bool = False,
        workers: int | None = None,
        max_memory: int | None = None,
        watch: Callable[[Camera, FrameResult], None] = lambda *_: None,
    ) -> None:
        self.cameras = list(cameras)
        cores = torch.get_num_threads()
        self.workers = min(workers or cores, len(self.cameras))
        self._threads_each = max(1, cores // self.workers)
        copies = (copy.deepcopy(model) for _ in range(self.workers - 1))
        self._shared = [SharedModel(m, dense) for m in (model, *copies)]
        for number, camera in enumerate(self.cameras):
            camera.bind(self._shared[number % self.workers])
        self._max_memory = max_memory
        self._watch = watch
        self._stop = threading.Event()
        self._ready = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None

    def __enter__(self) -> 'Cameras':
        for number, shared in enumerate(self._shared):
            mine = self.cameras[number :: self.workers]
            self._start(self._work, shared, mine)
        for camera in self.cameras:
            self._start(camera.read, self._stop, self._notify)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._notify()
        # A source that hangs is left behind; it ends with the process.
        for thread in self._threads[: self.workers]:
            thread.join()

    def wait(self) -> Iterator[None]:
        """Wait until all cameras have ended, a moment at a time.

        Raises:
            Exception: What went wrong in a worker, but not in a camera.
        """
        while not all(camera.has_ended for camera in self.cameras):
            with self._ready:
                self._ready.wait(LOOK)
            if self._failure is not None:
                raise self._failure
            yield

    def _start(self, work: Callable, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _notify(self) -> None:
        with self._ready:
            self._ready.notify_all()

    def _work(self, shared: SharedModel, cameras: list[Camera]) -> None:
        """Give the cameras of a worker their turns."""
        torch.set_num_threads(self._threads_each)
        try:
            with shared:
                waiting = list(cameras)  # who has waited longest stands first
                while waiting and not self._stop.is_set():
                    camera = self._next(waiting)
                    if camera is None:
                        continue
                    waiting.remove(camera)
                    self._turn(camera)
                    if not camera.has_ended:
                        waiting.append(camera)
        except BaseException as error:
            self._failure = error
        finally:
            for camera in cameras:
                if not camera.has_ended:
                    camera.close()
            self._notify()

    def _next(self, waiting: Sequence[Camera]) -> Camera | None:
        """Wait a moment for a camera that is ready."""
        with self._ready:
            for camera in waiting:
                if camera.is_ready:
                    return camera
            self._ready.wait(LOOK)
        return None

    def _turn(self, camera: Camera) -> None:
        try:
            if not camera.totals.frames:
                self._check_memory(camera)
            result = camera.take_turn()
            if result is not None:
                self._watch(camera, result)
                if camera.totals.frames == 1:
                    self._check_memory()
        except Exception as error:
            camera.error = camera.error or error
            camera.close()
        finally:
            if camera.has_ended:
                self._notify()

    def _check_memory(self, newcomer: Camera | None = None) -> None:
        """Refuse a camera that would take more memory than is allowed."""
        if self._max_memory is None:
            return
        taken = [c.nbytes for c in self.cameras if not c.has_ended]
        needed = sum(taken)
        if newcomer is not None:
            needed += max(taken)
        if needed > self._max_memory:
            raise CameraError(
                f'expected the memory of streams to stay below '
                f'{self._max_memory / 2**20:.0f} MiB (--max-memory), it would '
                f'be {needed / 2**20:.0f}; allow more, or watch fewer cameras'
            )


def describe_error(error: Exception) -> str | None:
    """Say in a line what ended a camera; None for a bug."""
    if isinstance(error, CameraError):
        return str(error)
    return explain_mistake(error)
