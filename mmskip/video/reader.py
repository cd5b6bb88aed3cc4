"""Frames from a video file, or from a folder of images."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import cv2
import numpy as np
from av.container import InputContainer
from mmengine.structures import BaseDataElement

from mmskip.core import MacCount
from mmskip.datasets.videos import natural_key
from mmskip.reading import InputError

from .decoding import (
    GreyWindow,
    PictureConverter,
    open_video,
    pictures,
    reason_of,
    video_of,
    without_password,
)

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

DEFAULT_FPS = 25.0

# Frames that are decoded while the model is at work.
AHEAD = 2

# Seconds that a server may be silent.
TIMEOUT = 10.0

# So many frames that cannot be read are named; then they are only counted.
NAMED = 10

Item = TypeVar('Item')


class Frame(NamedTuple):
    """A frame of a source.

    Attributes:
        index: Position in the source from 0, unreadable and dropped frames
            included.
        image: (H, W, 3) uint8, BGR, upright, of square pixels.
        time: Seconds since the first frame of a file; seconds since 1970 at
            which a frame of a live source arrived.
        restarts: True if the source was lost before this frame, which a
            stream then takes as a reference frame.
        damaged: True if the frame, or one that it is based upon, was
            decoded from data that are damaged or lost.
    """

    index: int
    image: np.ndarray
    time: float = 0.0
    restarts: bool = False
    damaged: bool = False


@dataclass(frozen=True)
class FrameResult:
    """The result of a model for one frame, and what it cost.

    Attributes:
        index: Position of the frame in its source, from 0.
        frame: (H, W, 3) uint8, BGR, as it was read.
        prediction: Data sample on the CPU, in coordinates of ``frame``.
            Tracked objects have ``pred_instances.instances_id``, -1 for
            those that are on no track yet.
        cost: MACs of this frame.
        computed_mask: float32 (h, w) of any size, the share of converted
            outputs that were computed at each place of the frame; ``None``
            if not asked for or when the model ran densely.
        seconds: Wall clock of preparing the frame and running the model.
        time: Of the frame, see :class:`Frame`.
        restart: Why the frame was computed as a reference frame; ``None``
            if it was not.
    """

    index: int
    frame: np.ndarray
    prediction: BaseDataElement
    cost: MacCount
    computed_mask: np.ndarray | None
    seconds: float
    time: float = 0.0
    restart: str | None = None


class Lost(NamedTuple):
    """A frame that cannot be read.

    Attributes:
        index: Its position.
        what: What messages call what cannot be read.
    """

    index: int
    what: str


class CutShort(NamedTuple):
    """An end before the end.

    Attributes:
        reason: Why fewer frames came than announced.
    """

    reason: str


class FrameReader:
    """Frames of one source in order, a few in memory at a time.

    A thread decodes a few frames ahead, so that this costs the model no
    time. Like a file, a reader goes on where it stopped when it is iterated
    over again. A frame that cannot be decoded is skipped with a warning that
    names it, one that is damaged is counted. Frames keep their own size,
    also when it changes on the way. Warnings come in the thread that takes
    the frames.

    Args:
        name: What messages call the source.
        fps: Frames per second.
        num_frames: How many the source announces, ``None`` if unknown.
        warn: Takes each warning.

    Attributes:
        unreadable: Frames skipped so far.
        damaged: Frames so far that were decoded from damaged data, or are
            based on such.
        cut_short: Why fewer frames came than announced, ``None`` if they
            all did.
        is_live: True if frames come when they come, and not when asked for.
    """

    is_live = False

    def __init__(
        self,
        name: str,
        fps: float,
        num_frames: int | None,
        warn: Callable[[str], Any],
    ) -> None:
        self.name = name
        self.fps = fps
        self.num_frames = num_frames
        self.unreadable = 0
        self.damaged = 0
        self.cut_short: str | None = None
        self._warn = warn
        self._notices: deque[str] = deque()
        self._frames: Iterator[Frame] | None = None
        self._delivered = 0

    def __enter__(self) -> 'FrameReader':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._frames is None:
            self._frames = self._account()
        return self._frames

    def close(self) -> None:
        """Release the source, and say how many frames were damaged."""
        if self._frames is None:
            self._frames = iter(())
            self._release()
        elif hasattr(self._frames, 'close'):
            self._frames.close()

    def _read(self) -> Iterator[Frame | Lost | CutShort]:
        """Read the source, in a thread."""
        raise NotImplementedError

    def _release(self) -> None:
        """Let go of the source; called once, in the thread if there is one."""

    def _items(self) -> Iterator[Frame | Lost | CutShort]:
        try:
            yield from self._read()
        finally:
            self._release()

    def _account(self) -> Iterator[Frame]:
        try:
            with closing(read_ahead(self._items(), AHEAD)) as items:
                for item in items:
                    if isinstance(item, Frame):
                        self._count(item)
                        self._pass_on_notices()
                        yield item
                    elif isinstance(item, Lost):
                        self._skip(item)
                    else:
                        self.cut_short = item.reason
        finally:
            self._pass_on_notices()
            self._sum_up()

    def _count(self, frame: Frame) -> None:
        self._delivered += 1
        self.damaged += frame.damaged

    def _skip(self, lost: Lost) -> None:
        self.unreadable += 1
        if self.unreadable <= NAMED:
            self._notices.append(
                f'{lost.what} (frame {lost.index}) cannot be read: skipped'
            )

    def _pass_on_notices(self) -> None:
        """Warn of what was noticed in another thread."""
        while self._notices:
            self._warn(self._notices.popleft())

    def _sum_up(self) -> None:
        if self.unreadable > NAMED:
            self._warn(
                f'{self.name}: {self.unreadable} frames in all cannot be read'
            )
        if self.damaged:
            self._warn(
                f'{self.name}: {self.damaged} of {self._delivered} frames '
                'are damaged: data were lost or changed on the way'
            )


class VideoReader(FrameReader):
    """Frames of a video that has an end: a file, here or on a server.

    See :class:`~mmskip.video.decoding.PictureConverter` for how pictures are
    converted. ``Frame.time`` is the time of presentation since the first
    frame, so that a variable frame rate is kept; ``fps`` is the average.

    Args:
        source: Path or address.
        warn: Takes each warning.
        container: The source, if it is open already.

    Raises:
        InputError: The source cannot be opened.
    """

    def __init__(
        self,
        source: str,
        warn: Callable[[str], Any] = print,
        container: InputContainer | None = None,
    ) -> None:
        name = without_password(source)
        if container is None:
            container = open_file(source)
        video = video_of(container)
        rate = float(video.average_rate or 0)
        fps = rate if 0 < rate <= 1000 else DEFAULT_FPS
        self._container = container
        self._seconds = _announced_seconds(container)
        frames = video.frames or round((self._seconds or 0) * fps)
        super().__init__(name, fps, frames or None, warn)

    def _read(self) -> Iterator[Frame | Lost | CutShort]:
        convert = PictureConverter(self.name, self._notices.append)
        aspect = video_of(self._container).sample_aspect_ratio
        clock = _Clock(self.fps)
        index, pending, failure = 0, [], None
        try:
            for picture, damaged in pictures(self._container):
                if picture is None:
                    pending.append(Lost(index, self.name))
                else:
                    # Only what lies between two frames is a gap: the last
                    # packet of a truncated file cannot be decoded either.
                    yield from pending
                    pending.clear()
                    time = clock.tell(picture)
                    image = convert(picture, aspect)
                    yield Frame(index, image, time, damaged=damaged)
                index += 1
        except av.FFmpegError as error:
            failure = reason_of(error)
        ended = index - len(pending)
        if failure is not None:
            yield CutShort(f'{self.name} ends after {ended} frames: {failure}')
        elif self._is_short(clock):
            yield CutShort(
                f'{self.name} announces {self.num_frames} frames but ends '
                f'after {ended}: the file seems truncated'
            )
        else:
            yield from pending

    def _release(self) -> None:
        self._container.close()

    def _is_short(self, clock: '_Clock') -> bool:
        # Times and not numbers of frames: these are often estimated, and
        # include what an edit list leaves out.
        if self._seconds is None:
            return False
        tolerance = max(2 / self.fps, self._seconds / 100)
        return clock.end < self._seconds - tolerance


class ImageReader(FrameReader):
    """Images of a folder in natural order (``img2`` before ``img10``).

    They are read by OpenCV, as the hosts' data sets are, so that a model
    gets the same pixels. The orientation in EXIF data is applied, alpha
    ignored; see :class:`~mmskip.video.decoding.GreyWindow` for grey of more
    than 8 bits. Files whose name begins with a dot are left out: macOS puts
    such beside images.

    Args:
        source: The folder, its subfolders are not searched; or one image.
        warn: Takes each warning.

    Raises:
        InputError: No image in the folder.
    """

    def __init__(
        self, source: str | Path, warn: Callable[[str], Any] = print
    ) -> None:
        source = Path(source)
        self._files = sorted(
            filter(
                is_image, source.iterdir() if source.is_dir() else [source]
            ),
            key=lambda path: natural_key(path.name),
        )
        if not self._files:
            raise InputError(
                f'no image in folder {source}; expected files ending in '
                f'{", ".join(IMAGE_SUFFIXES)}'
            )
        super().__init__(str(source), DEFAULT_FPS, len(self._files), warn)

    def _read(self) -> Iterator[Frame | Lost]:
        window = GreyWindow(self.name, self._notices.append)
        for index, path in enumerate(self._files):
            image = _read_image(path, window)
            if image is None:
                yield Lost(index, str(path))
            else:
                yield Frame(index, image, index / self.fps)


def read_ahead(items: Iterable[Item], size: int = AHEAD) -> Iterator[Item]:
    """Iterate in a thread, so that the next items are there when asked for.

    ``read_ahead(map(prepare, frames))`` prepares frames while the model
    works on the one before. Closing the generator ends the thread and closes
    ``items`` if it can be closed.

    Args:
        items: Runs in the thread, from the first time that one is asked for.
        size: The most items that wait.

    Yields:
        The items in order. An error comes at its place, too.
    """
    waiting: queue.Queue = queue.Queue(size)
    stopped = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                waiting.put((item, error), timeout=0.1)
                return True
        return False

    thread = threading.Thread(
        target=_hand_over, args=(items, put), daemon=True
    )
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        # One that waits for a silent server is left behind.
        thread.join(0.5)


def _hand_over(
    items: Iterable[Item],
    put: Callable[[Item | None, BaseException | None], bool],
) -> None:
    try:
        iterator = iter(items)
        try:
            while put(next(iterator), None):
                pass
        finally:
            if hasattr(iterator, 'close'):
                iterator.close()
    except BaseException as error:
        put(None, error)


def open_file(source: str, timeout: float = TIMEOUT) -> InputContainer:
    """Open a video by path or address.

    Args:
        source: The one or the other.
        timeout: Seconds that a server may be silent.

    Raises:
        InputError: It cannot be opened.
    """
    name = without_password(source)
    if '://' in source:
        return open_video(source, name, timeout)
    return open_video(f'file:{source}', name)


def is_image(path: Path) -> bool:
    """Tell from its name whether a file is an image."""
    is_hidden = path.name.startswith('.')
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden


class _Clock:
    """Seconds since the first frame; they grow whatever the file says.

    Args:
        fps: For frames that do not tell.
    """

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._first: float | None = None
        self._last = -self._step
        self.end = 0.0

    def tell(self, frame: av.VideoFrame) -> float:
        """Return the time of the next frame."""
        time = frame.time
        if time is not None:
            if self._first is None:
                self._first = time
            time -= self._first
        if time is None or time <= self._last:
            time = self._last + self._step
        self._last = time
        length = float((frame.duration or 0) * (frame.time_base or 0))
        self.end = time + max(length, self._step)
        return time


def _announced_seconds(container: InputContainer) -> float | None:
    """Return the length of the video, ``None`` if only that of all is known.

    The sound of a file may be longer than its pictures.
    """
    video = video_of(container)
    if container.format.name == 'avi' and video.frames and video.average_rate:
        # FFmpeg shortens the duration to what is there.
        return float(video.frames / video.average_rate)
    if video.duration:
        return float(video.duration * video.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _read_image(path: Path, window: GreyWindow) -> np.ndarray | None:
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:
        return None
    if image is None:
        return None
    if image.ndim == 2 and image.dtype != np.uint8:
        image = window(image)
    elif image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    elif image.dtype != np.uint8:
        image = cv2.convertScaleAbs(image, alpha=255)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return image
