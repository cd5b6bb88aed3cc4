"""Several cameras on one model: who has a turn, and what becomes of it.

Each camera has a thread that reads it. Few workers run the model, each with
a copy of it and its share of the CPU's cores; a camera stays with one worker,
so its frames are in order and its results are those of the camera alone. Each
has its own options, from the command line or a YAML file.
"""

import copy
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import nn

from mmskip.reading import reading
from mmskip.video import (
    Frame,
    FrameHealth,
    FrameReader,
    FrameResult,
    HealthLimits,
)
from mmskip.video.regions import Region

from .errors import UserError
from .frame_stream import SharedModel
from .video_stream import StreamTotals

#: In the name of an output it stands for the name of the camera.
NAME = '{name}'
#: Prepared frames of a file that wait for their turn.
AHEAD = 2
#: Seconds after which a thread looks whether it is to end.
LOOK = 0.1
LOOK_LIVE = 0.005
#: Seconds that the end waits for a thread that reads.
PATIENCE = 0.3


@dataclass(frozen=True)
class CameraOptions:
    """Keeps the options of a camera.

    Attributes:
        source: A file, a folder, an address or the number of a camera.
        name: In messages and in the names of outputs.
        out: Annotated video to write.
        results: Files of results to write, see
            :class:`mmskip.video.ResultLog`.
        region: Polygons around what is watched.
        ignore: Polygons of what is not, or pictures that are white there.
        bbox: Of a pose estimator.
    """

    source: str
    name: str = ''
    out: str | None = None
    results: Sequence[str] = ()
    region: Sequence[Any] = ()
    ignore: Sequence[Any] = ()
    bbox: Sequence[float] | None = None

    def make_region(self) -> Region | None:
        """Return the region, None if everything is watched."""
        if not self.region and not self.ignore:
            return None
        return Region(self.region, self.ignore)


def read_cameras(path: str | Path, common: CameraOptions) -> list:
    """Read the cameras of a YAML file.

    It holds a list of cameras, or a dict with such a list as ``cameras``;
    each camera has the attributes of :class:`CameraOptions`, of which only
    ``source`` is needed.

    Args:
        path: The file.
        common: What holds for cameras that do not say otherwise.

    Returns:
        A list of :class:`CameraOptions`.

    Raises:
        UserError: Not such a file, or an unknown key.
    """
    if not Path(path).is_file():
        raise UserError(f'expected a YAML file of cameras, found no {path}')
    with reading(path, 'a YAML file of cameras', 'see `mmskip stream -h`'):
        content = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    items = content.get('cameras') if isinstance(content, dict) else content
    if not isinstance(items, list) or not items:
        raise UserError(
            f'{path}: expected a list of cameras, each with a source, got '
            f'{type(items).__name__}'
        )
    return [_read_camera(path, item, common) for item in items]


def _read_camera(
    path: str | Path, item: Any, common: CameraOptions
) -> CameraOptions:
    known = [field.name for field in fields(CameraOptions)]
    if not isinstance(item, dict) or 'source' not in item:
        raise UserError(
            f'{path}: expected a camera with a source, got {item!r}'
        )
    unknown = sorted(map(str, item.keys() - set(known)))
    if unknown:
        raise UserError(
            f'{path}: expected of a camera {", ".join(known)}, got '
            f'{", ".join(unknown)}'
        )
    item = {**item, 'source': str(item['source'])}
    # One of what there may be several of.
    for key in ('results', 'region', 'ignore'):
        if isinstance(item.get(key), str) or _is_polygon(item.get(key)):
            item[key] = [item[key]]
    for key in ('region', 'ignore'):
        if key in item:
            item[key] = [_polygon(path, shape) for shape in item[key]]
    return replace(common, **item)


def _is_polygon(value: Any) -> bool:
    """Tell a polygon, ``[x, y, x, y, ...]``, from a list of them."""
    return isinstance(value, list) and any(
        isinstance(number, (int, float)) for number in value
    )


def _polygon(path: str | Path, shape: Any) -> Any:
    """Pair the numbers of a polygon; leave the path of a picture alone."""
    if isinstance(shape, str):
        return shape
    if not _is_polygon(shape) or len(shape) < 6 or len(shape) % 2:
        raise UserError(
            f'{path}: expected a polygon [x1, y1, x2, y2, x3, y3, ...], got '
            f'{shape!r}'
        )
    return list(zip(shape[::2], shape[1::2], strict=True))


def name_cameras(cameras: Sequence[CameraOptions]) -> list[CameraOptions]:
    """Give each camera a name of its own, and its outputs.

    Raises:
        UserError: Two cameras have one name, or would write one file.
    """
    names: list[str] = []
    for number, camera in enumerate(cameras):
        name = camera.name or _short(camera.source)
        if name in names and not camera.name:
            name = f'{name}-{number}'
        if name in names:
            raise UserError(f'expected cameras of different names, got {name}')
        names.append(name)
    named = []
    for camera, name in zip(cameras, names, strict=True):
        out = camera.out and camera.out.replace(NAME, name)
        results = [path.replace(NAME, name) for path in camera.results]
        named.append(replace(camera, name=name, out=out, results=results))
    _check_places(named)
    return named


def _check_places(cameras: Sequence[CameraOptions]) -> None:
    taken: dict[Path, str] = {}
    for camera in cameras:
        for place in filter(None, (camera.out, *camera.results)):
            path = Path(place).resolve()
            other = taken.setdefault(path, camera.name)
            if other != camera.name:
                raise UserError(
                    f'expected an output for each camera, got {place} for '
                    f'{other} and {camera.name}; write {NAME} into it, such '
                    f'as results/{NAME}{path.suffix}'
                )


def _short(source: str) -> str:
    """Make a name of a source, without what a file's name cannot have."""
    if source.isdecimal():
        return f'camera{source}'
    if '://' in source:
        # Not the password that may stand before the host.
        rest = source.split('://', 1)[1].rpartition('@')[2]
        return re.sub(r'[^\w.-]+', '-', rest).strip('-')
    return Path(source).stem or 'camera'


class Sink(Protocol):
    """Takes the results of a camera; a context, entered before the first."""

    def __enter__(self) -> 'Sink': ...

    def __exit__(self, *error: Any) -> None: ...

    def write(self, result: FrameResult) -> None: ...


class VideoStream(Protocol):
    """Makes results of the frames of a camera, see :class:`FrameStream`."""

    nbytes: int

    def prepare(self, frame: Frame) -> tuple: ...

    def run(
        self, frame: Frame, data: dict[str, Any], seconds: float
    ) -> FrameResult: ...


class Camera:
    """A source of frames, the stream they are of, and where results go.

    Args:
        name: Of the camera, in messages.
        reader: Its source; it is closed when the camera ends.
        make_stream: Makes its stream of the models of its worker.
        make_sinks: Makes what takes its results, before the first of them.
        max_frames: Number of frames after which it ends; None for all.
        warn: Takes each warning, one line of text.

    Attributes:
        reader: The source.
        totals: Sums over its frames.
        health: Counts frames that are black, frozen and the like.
        nbytes: Bytes of its stream's memory.
        age: Seconds between the arrival of the newest frame at a live
            source and its result.
        oldest: The largest of these.
        error: What ended it early, None if nothing did.
        has_ended: True once its last result is written.
    """

    def __init__(
        self,
        name: str,
        reader: FrameReader,
        make_stream: Callable[..., VideoStream],
        make_sinks: Callable[['Camera'], Sequence[Sink]] = lambda _: (),
        max_frames: int | None = None,
        warn: Callable[[str], Any] = print,
    ) -> None:
        self.name = name
        self.reader = reader
        self.totals = StreamTotals()
        # In a file a picture may stand still.
        limits = None if reader.is_live else HealthLimits(frozen=None)
        self.health = FrameHealth(name, warn, limits)
        self.nbytes = 0
        self.age = 0.0
        self.oldest = 0.0
        self.error: Exception | None = None
        self.has_ended = False
        self._make_stream = make_stream
        self._make_sinks = make_sinks
        self._max_frames = max_frames
        self._waiting: list[tuple[Frame, Any]] = []
        self._is_read = False
        self._changed = threading.Condition()
        self._stream: VideoStream | None = None
        self._sinks = ExitStack()
        self._taken: list[Sink] = []

    @property
    def is_live(self) -> bool:
        """True if frames come by themselves, and cannot wait."""
        return self.reader.is_live

    @property
    def num_frames(self) -> int | None:
        """Frames that it announces, at most."""
        numbers = (self.reader.num_frames, self._max_frames)
        return min((n for n in numbers if n is not None), default=None)

    @property
    def paths(self) -> list[Any]:
        """Files that its results are in."""
        paths = (getattr(sink, 'path', None) for sink in self._taken)
        return [path for path in paths if path is not None]

    def bind(self, *models: SharedModel) -> None:
        """Make the stream on the models of a worker."""
        self._stream = self._make_stream(*models)

    def is_ready(self) -> bool:
        """Tell if it has something to do: a frame, or to end."""
        if self.is_live and not (self._waiting or self._is_read):
            try:
                frame = self.reader.poll()
            except Exception as error:
                self.error, frame = error, None
            if frame is not None:
                self._waiting.append((frame, None))
            self._is_read = self.error is not None or self.reader.ended
        return bool(self._waiting) or self._is_read

    def read(self, stop: threading.Event, notify: Callable[[], None]) -> None:
        """Read a file to its end, in a thread of its own.

        Its frames are prepared here, beside the model.
        """
        try:
            with self.reader:
                for frame in self.reader:
                    prepared = self._stream.prepare(frame)
                    with self._changed:
                        while len(self._waiting) >= AHEAD and not (
                            stop.is_set() or self.has_ended
                        ):
                            self._changed.wait(LOOK)
                        self._waiting.append((frame, prepared))
                    notify()
                    if stop.is_set() or self.has_ended:
                        break
        except Exception as error:
            self.error = error
        finally:
            self._is_read = True
            notify()

    def take_turn(self) -> FrameResult | None:
        """Run the model on the next frame, or end if there is none.

        Returns:
            The result; None if there was no frame any more.
        """
        with self._changed:
            taken = self._waiting.pop(0) if self._waiting else None
            self._changed.notify()
        if taken is None:
            self.close()
            return None
        frame, prepared = taken
        if not self.totals.frames:
            self._taken = [
                self._sinks.enter_context(sink)
                for sink in self._make_sinks(self)
            ]
        self.health.check(frame)
        result = self._stream.run(*(prepared or self._stream.prepare(frame)))
        if self.is_live:
            self.age = time.time() - frame.time
            self.oldest = max(self.oldest, self.age)
        for sink in self._taken:
            sink.write(result)
        self.totals.add(result)
        self.nbytes = self._stream.nbytes
        if self.totals.frames == self._max_frames:
            self.close()
        return result

    def close(self) -> None:
        """Complete what was written. No error is lost: the first counts."""
        if self.has_ended:
            return
        for finish in (self._sinks.close, self.health.close):
            try:
                finish()
            except Exception as error:
                self.error = self.error or error
        self.has_ended = True
        if self.is_live:
            self.reader.close()
        with self._changed:
            self._waiting.clear()
            self._changed.notify()

    def summary(self) -> dict[str, Any]:
        """Return the totals, and what became of the source, as numbers."""
        numbers = self.totals.summary()
        numbers['mib'] = self.nbytes / 2**20
        for key in ('unreadable', 'dropped', 'reconnects'):
            numbers[key] = getattr(self.reader, key, 0)
        numbers.update(self.health.counts)
        # The decoder knows better what came damaged.
        numbers['damaged'] = max(self.reader.damaged, numbers['damaged'])
        if self.is_live:
            numbers.update(age=self.age, oldest=self.oldest)
        return numbers


class CameraError(UserError):
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
        pose: Pose estimator for the people that the model finds, accelerated;
            streams are made of both.
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
        pose: nn.Module | None = None,
        max_memory: int | None = None,
        watch: Callable[[Camera, FrameResult], None] = lambda *_: None,
    ) -> None:
        self.cameras = list(cameras)
        cores = torch.get_num_threads()
        self.workers = min(workers or cores, len(self.cameras))
        self._threads_each = max(1, cores // self.workers)
        models = [model] if pose is None else [model, pose]
        copies = (copy.deepcopy(models) for _ in range(self.workers - 1))
        self._shared = [
            [SharedModel(one, dense) for one in some]
            for some in (models, *copies)
        ]
        for number, camera in enumerate(self.cameras):
            camera.bind(*self._shared[number % self.workers])
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
            if not camera.is_live:
                self._start(camera.read, self._stop, self._notify)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._notify()
        for number, thread in enumerate(self._threads):
            # A source that hangs is left behind; it ends with the process.
            is_worker = number < self.workers
            thread.join(None if is_worker else PATIENCE)

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

    def _work(
        self, models: Sequence[SharedModel], cameras: list[Camera]
    ) -> None:
        """Give the cameras of a worker their turns."""
        torch.set_num_threads(self._threads_each)
        try:
            with ExitStack() as stack:
                for model in models:
                    stack.enter_context(model)
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
                camera.close()
            self._notify()

    def _next(self, waiting: Sequence[Camera]) -> Camera | None:
        """Wait a moment for a camera that is ready."""
        with self._ready:
            for camera in waiting:
                if camera.is_ready():
                    return camera
            # A live source does not tell when a frame has come.
            is_live = any(camera.is_live for camera in waiting)
            self._ready.wait(LOOK_LIVE if is_live else LOOK)
        return None

    def _turn(self, camera: Camera) -> None:
        try:
            if not camera.totals.frames:
                self._check_memory(camera)
            before = camera.nbytes
            result = camera.take_turn()
            if result is not None:
                self._watch(camera, result)
                # More people have streams of their own.
                if camera.nbytes > before:
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
