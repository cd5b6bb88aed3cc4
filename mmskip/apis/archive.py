"""Archives: a model over thousands of videos, a file of results for each.

A folder of results holds, beside them, ``archive.json`` with the model and
the options that made them, ``finished.jsonl`` with a line for each video
that is done, and ``errors.jsonl`` with those that could not be read to their
end. A second run goes on where the first one stopped, or does nothing.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mmskip.datasets.videos import natural_key
from mmskip.native import active_backend
from mmskip.reading import InputError, read_json, read_lines
from mmskip.skip_conv import StreamPolicy
from mmskip.video import FrameReader, ResultLog, open_reader
from mmskip.video.reader import IMAGE_SUFFIXES

from .cameras import Camera, Cameras
from .errors import UserError
from .frame_stream import FrameStream, is_converted
from .models import accelerate_model, init_model, load_config
from .workers import Outcome, Workers

SETTINGS = 'archive.json'
FINISHED = 'finished.jsonl'
ERRORS = 'errors.jsonl'
SUFFIX = '.jsonl'
# Ends the names of results that are not complete.
PARTIAL = f'.partial{SUFFIX}'
VIDEO_SUFFIXES = (
    *('.3gp', '.asf', '.avi', '.flv', '.m2ts', '.m4v', '.mjpeg', '.mkv'),
    *('.mov', '.mp4', '.mpeg', '.mpg', '.mts', '.ts', '.webm', '.wmv'),
)
# Warnings of a video that are kept; the rest is counted.
WARNINGS = 3


@dataclass(frozen=True)
class ArchiveModel:
    """A model and how it runs; the options are those of ``mmskip stream``.

    Attributes:
        config: The config file.
        checkpoint: Its weights.
        device: Such as ``cpu``.
        cfg_options: Settings of the config to override.
        precision: See :func:`mmskip.accelerate`.
        calibration: File of the ranges that int8 needs.
        dense: Run without skipping.
        bbox: Where the person is, for top-down pose.
        score_thr: Detections below this score are left out.
        release: Of mmskip; another one may give other results.
    """

    config: str
    checkpoint: str
    device: str = 'cpu'
    cfg_options: dict[str, Any] | None = None
    precision: str = 'float32'
    calibration: str | None = None
    dense: bool = False
    bbox: tuple[float, float, float, float] | None = None
    score_thr: float = 0.3
    release: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return what results depend on, files by their content.

        Raises:
            UserError: The config or a file cannot be read.
        """
        config = load_config(self.config, self.cfg_options).to_dict()
        text = json.dumps(config, sort_keys=True, default=repr)
        return dict(
            config=hashlib.sha256(text.encode()).hexdigest(),
            checkpoint=_digest(self.checkpoint),
            device=self.device.partition(':')[0],
            precision=self.precision,
            calibration=self.calibration and _digest(self.calibration),
            dense=self.dense,
            bbox=self.bbox and list(self.bbox),
            score_thr=self.score_thr,
            release=self.release,
        )


class Video(NamedTuple):
    """A video of an archive.

    Attributes:
        source: A file or a folder of images.
        result: File of its results.
    """

    source: Path
    result: Path

    def stamp(self) -> list[int]:
        """Return bytes and time of the last change; raises OSError."""
        files = [self.source]
        if self.source.is_dir():
            files = [path for path in self.source.iterdir() if path.is_file()]
        found = [path.stat() for path in files]
        return [
            sum(stat.st_size for stat in found),
            max((stat.st_mtime_ns for stat in found), default=0),
        ]


class Finished(NamedTuple):
    """The outcome of a video, as ``finished.jsonl`` has it.

    Attributes:
        frames: Frames that have results.
        dense: MACs that the dense model would have done.
        spent: MACs that were done.
        warnings: The first of what its reader said.
        cut_short: Why it ended early, ``None`` if it did not.
    """

    frames: int
    dense: int
    spent: int
    warnings: tuple[str, ...] = ()
    cut_short: str | None = None


class VideoWork:
    """Runs one model over videos, one after the other.

    Args:
        settings: The model and how it runs.
        threads: CPU threads; ``None`` leaves them as they are.

    Raises:
        UserError: The model cannot be built or run so.
        InputError: Its weights are not those of the model.
    """

    def __init__(
        self, settings: ArchiveModel, threads: int | None = None
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        self._settings = settings
        self._model = init_model(
            settings.config,
            settings.checkpoint,
            settings.device,
            settings.cfg_options,
        )
        accelerate_model(self._model, settings.precision, settings.calibration)

    def __call__(self, video: Video) -> Finished:
        """Write the results of a video; the file is complete or not there.

        Raises:
            InputError: It cannot be read, or its results not be written.
        """
        if not video.source.exists():  # a number would be a camera's
            raise InputError(f'video not found: {video.source}')
        mark = uuid.uuid4().hex[:8]
        stem = video.result.name.removesuffix(SUFFIX)
        partial_path = video.result.with_name(f'{stem}.{mark}{PARTIAL}')
        try:
            finished = self._run(video.source, partial_path)
            os.replace(partial_path, video.result)
        finally:
            partial_path.unlink(missing_ok=True)
        return finished

    def _run(self, source: Path, path: Path) -> Finished:
        warnings: list[str] = []
        reader = open_reader(source, warnings.append)
        camera = self._make_camera(reader, path, warnings)
        dense = self._settings.dense
        with Cameras(self._model, [camera], dense, workers=1) as running:
            for _ in running.wait():
                pass
        if camera.error is not None:
            raise camera.error
        totals = camera.totals
        if not totals.frames:
            raise InputError(f'{source} has no readable frame')
        if len(warnings) > WARNINGS:
            more = f'{len(warnings) - WARNINGS} more warnings'
            warnings = [*warnings[:WARNINGS], more]
        return Finished(
            totals.frames,
            totals.dense,
            totals.spent,
            tuple(warnings),
            reader.cut_short,
        )

    def _make_camera(
        self, reader: FrameReader, path: Path, warnings: list[str]
    ) -> Camera:
        """Make of a video the camera that `mmskip stream` makes of it."""
        settings, model = self._settings, self._model
        is_dense = settings.dense or not is_converted(model)
        backend = 'dense' if is_dense else active_backend()

        def make_sinks(camera: Camera) -> list[ResultLog]:
            log = ResultLog(
                path,
                reader.name,
                lambda: dict(camera.summary(), backend=backend),
                (model.dataset_meta or {}).get('classes'),
                settings.score_thr,
            )
            return [log]

        make_stream = partial(
            FrameStream,
            bbox=settings.bbox,
            with_mask=False,
            policy=StreamPolicy(),
        )
        warn = warnings.append
        return Camera(reader.name, reader, make_stream, make_sinks, None, warn)


class Archive:
    """A folder of results, and which of its videos are finished.

    To be used in a ``with`` statement, by one process at a time.

    Args:
        folder: Made if need be.
        model: The model and how it runs.

    Raises:
        UserError: The folder holds results of another model or of other
            options, cannot be written, or another process works in it;
            raised on entering.
    """

    def __init__(self, folder: str | Path, model: ArchiveModel) -> None:
        self.folder = Path(folder)
        self.model = model
        self._finished: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> 'Archive':
        self._check_settings()
        with contextlib.ExitStack() as stack:
            self._lock(stack.enter_context((self.folder / SETTINGS).open()))
            self._remove_partial()
            self._finished = dict(self._read_finished())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def waiting(self, videos: Iterable[Video]) -> list[tuple[Video, int]]:
        """Return the videos that have no results yet, largest first.

        A video that changed since it was read has none.

        Returns:
            Pairs of a video and its bytes; 0 for one that cannot be found.

        Raises:
            UserError: Its results would take the place of another video's.
        """
        found = []
        for video in videos:
            entry, size = self.entry(video), 0
            with contextlib.suppress(OSError):
                size, _ = stamp = video.stamp()
                if entry.get('stamp') == stamp:
                    continue
            source = str(video.source.resolve())
            if entry.get('video', source) != source:
                raise UserError(
                    f'{video.result} has the results of {entry["video"]}; '
                    f'name another folder with --out for {source}'
                )
            found.append((video, size))
        return sorted(found, key=lambda pair: -pair[1])

    def entry(self, video: Video) -> dict[str, Any]:
        """Return what is known of a finished video; empty if it is not."""
        if not video.result.is_file():
            return {}
        return self._finished.get(str(video.result), {})

    def run(
        self,
        videos: Sequence[Video],
        workers: Workers,
    ) -> Iterator[Outcome]:
        """Make the results of videos.

        Args:
            videos: Those of :meth:`waiting`.
            workers: Each with a :class:`VideoWork`.

        Yields:
            Outcomes as they come; their values are :class:`Finished`.
        """
        stamps = {}
        for video in videos:
            video.result.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                stamps[video] = video.stamp()
        outcomes = contextlib.closing(workers.run(videos))
        path = self.folder / FINISHED
        # The last line may have been cut off.
        _write_lines(path, self._finished.values())
        try:
            with outcomes as found, path.open('a', encoding='utf-8') as file:
                for outcome in found:
                    if outcome.error is None:
                        entry = self._keep(outcome, stamps)
                        file.write(json.dumps(entry) + '\n')
                        file.flush()
                    yield outcome
        finally:
            self._remove_partial()

    def cut_short(self, videos: Iterable[Video]) -> list[tuple[Video, str]]:
        """Return the finished videos that ended early, and what is known."""
        found = [
            (video, self.entry(video).get('cut_short')) for video in videos
        ]
        return [(video, why) for video, why in found if why]

    def write_errors(self, failed: Sequence[tuple[Video, str]]) -> None:
        """Write what is wrong with videos to ``errors.jsonl``, if any."""
        path = self.folder / ERRORS
        path.unlink(missing_ok=True)
        if failed:
            lines = [dict(video=str(v.source), error=e) for v, e in failed]
            _write_lines(path, lines)

    def _keep(self, outcome: Outcome, stamps: dict) -> dict[str, Any]:
        video = outcome.task
        entry = dict(
            video=str(video.source.resolve()),
            result=video.result.relative_to(self.folder).as_posix(),
            stamp=stamps.get(video),
            **outcome.value._asdict(),
        )
        self._finished[str(video.result)] = entry
        return entry

    def _check_settings(self) -> None:
        path = self.folder / SETTINGS
        wanted = self.model.identity()
        if path.exists():
            made = read_json(path, 'the settings of an archive')
            names = sorted({*made, *wanted})
            other = [n for n in names if made.get(n) != wanted.get(n)]
            if other:
                raise UserError(
                    f'{self.folder} holds results made with another '
                    f'{", ".join(other)}; name another folder with --out, or '
                    'remove this one to make them again'
                )
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(wanted, indent=2) + '\n')
        except OSError as error:
            raise UserError(f'cannot write {path}: {error}') from error

    def _lock(self, file: IO[str]) -> None:
        # Not every file system of a network can lock.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f'another process writes results into {self.folder}; '
                    'wait until it has ended'
                ) from error

    def _remove_partial(self) -> None:
        for path in self.folder.rglob(f'*{PARTIAL}'):
            path.unlink(missing_ok=True)

    def _read_finished(self) -> Iterator[tuple[str, dict[str, Any]]]:
        path = self.folder / FINISHED
        if not path.exists():
            return
        for line in path.read_text(encoding='utf-8').splitlines():
            with contextlib.suppress(ValueError):  # a line was cut off
                entry = json.loads(line)
                yield str(self.folder / entry['result']), entry


class ArchiveProgress:
    """A bar with the time left in a terminal, a line now and then elsewhere.

    Args:
        console: Where to show it.
        videos: What there is to do, with bytes, see :meth:`Archive.waiting`.
        interval: Seconds between two lines.

    Attributes:
        done: Videos that have ended.
        frames: Frames of those that could be read.
        dense: MACs that the dense model would have done for these.
        spent: MACs that were done.
    """

    def __init__(
        self,
        console: Console,
        videos: Sequence[tuple[Video, int]],
        interval: float = 10.0,
    ) -> None:
        self.done = self.frames = self.dense = self.spent = 0
        self._console = console
        # Long videos take longer; each takes something.
        self._weights = {video: max(size, 1) for video, size in videos}
        self._total = sum(self._weights.values())
        # Of the first outcome, before which models are loaded.
        self._first: tuple[float, int] | None = None
        self._worked = 0
        self._interval = interval
        self._started = time.perf_counter()
        self._next_line = self._started + interval
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn('{task.fields[text]}', markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task('', total=self._total, text='')

    def __enter__(self) -> 'ArchiveProgress':
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    @property
    def fps(self) -> float:
        """Frames per second of all workers, their beginning included."""
        return self.frames / (time.perf_counter() - self._started)

    def update(self, outcome: Outcome) -> None:
        """Count a video that has ended, and tell what is wrong with it."""
        self.done += 1
        self._worked += self._weights[outcome.task]
        name = outcome.task.source
        if outcome.error is not None:
            self._tell(f'{name} failed: {outcome.error}')
        else:
            finished: Finished = outcome.value
            self.frames += finished.frames
            self.dense += finished.dense
            self.spent += finished.spent
            for text in (*finished.warnings, finished.cut_short):
                if text is not None:
                    self._tell(f'warning: {text}')
        state = self._state()
        self._bar.update(self._task, completed=self._worked, text=state)
        now = time.perf_counter()
        if not self._console.is_terminal and now >= self._next_line:
            self._next_line = now + self._interval
            self._tell(state)

    def _state(self) -> str:
        text = (
            f'{self.done}/{len(self._weights)} videos, {self.fps:.1f} frames/s'
        )
        now = time.perf_counter()
        if self._first is None:
            self._first = now, self._worked
            return text
        began, before = self._first
        left = self._total - self._worked
        seconds = (now - began) * left / (self._worked - before)
        return f'{text}, {timedelta(seconds=round(seconds))} left'

    def _tell(self, text: str) -> None:
        self._console.print(
            text, markup=False, highlight=False, soft_wrap=True
        )


def find_videos(named: Sequence[str], folder: str | Path) -> list[Video]:
    """Find the videos of an archive, and name their results.

    Args:
        named: Files; folders, which are searched; or ``@FILE`` with a line
            for each of those. A folder that holds images and no video is a
            video. What is in a searched folder keeps its place below it.
        folder: Of the results.

    Returns:
        Each video once, in natural order.

    Raises:
        UserError: There is none, one that is named is not there, or two
            would have the same results.
    """
    found: dict[Path, Video] = {}
    sources: dict[Path, Path] = {}
    for source, place in _listed(named):
        result = Path(folder) / place.with_name(f'{place.name}{SUFFIX}')
        key = Path(os.path.abspath(source))
        if key in found:
            continue
        if result in sources:
            raise UserError(
                f'{source} and {sources[result]} would have the same results '
                f'{result}; name the folder that holds both'
            )
        sources[result] = source
        found[key] = Video(source, result)
    if not found:
        raise UserError(
            f'no video in {", ".join(named)}; expected files ending in '
            f'{", ".join(VIDEO_SUFFIXES)}, or folders of images'
        )
    return sorted(found.values(), key=lambda v: natural_key(str(v.source)))


def _listed(named: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Yield what is named, and places for the results."""
    for name in named:
        if name.startswith('@'):
            for _, line in read_lines(name[1:]):
                # A relative path says which of two files of one name it is.
                path = Path(line)
                is_below = not path.is_absolute() and '..' not in path.parts
                if path.is_dir():
                    yield from _searched(path)
                else:
                    yield path, path if is_below else Path(path.name)
        elif Path(name).is_dir():
            yield from _searched(Path(name))
        elif Path(name).exists():
            yield Path(name), Path(Path(name).name)
        else:
            raise UserError(
                f'video not found: {name}; expected files, folders, or @FILE '
                'with a line for each'
            )


def _searched(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the videos in a folder and below it, hidden ones left out."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != '.']
        below = Path(root).relative_to(folder)
        paths = [Path(name) for name in files if name[0] != '.']
        videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES]
        for path in videos:
            yield root / path, below / path
        if not videos and any(
            path.suffix.lower() in IMAGE_SUFFIXES for path in paths
        ):
            place = below if below.parts else Path(folder.resolve().name)
            yield Path(root), place


def _digest(path: str) -> str:
    """Return what tells the content of a file; an address tells itself."""
    if '://' in path:
        return path
    try:
        with open(path, 'rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except FileNotFoundError as error:
        raise UserError(f'{path} not found') from error


def _write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Write a file of JSON Lines in one go."""
    text = ''.join(json.dumps(entry) + '\n' for entry in entries)
    new = path.with_name(f'{path.name}.new')
    new.write_text(text, encoding='utf-8')
    new.replace(path)
