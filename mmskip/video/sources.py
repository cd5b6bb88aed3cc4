"""Opening whatever holds frames: a file, a folder, an address, a camera.

Of a live source :class:`LiveReader` gives the newest frame, whatever the
camera and the network do.
"""

import os.path
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
import cv2
import numpy as np
from av.container import InputContainer

from mmskip.reading import InputError

from .decoding import (
    PictureConverter,
    interruptible,
    open_video,
    pictures,
    reason_of,
    video_of,
    without_password,
)
from .reader import (
    DEFAULT_FPS,
    TIMEOUT,
    Frame,
    FrameReader,
    ImageReader,
    Lost,
    VideoReader,
    is_image,
    open_file,
)

# Seconds that closing waits for the thread that reads.
PATIENCE = 0.3
# Of other addresses only their server knows whether they have an end.
LIVE_SCHEMES = ('rtmp', 'rtmps', 'rtp', 'rtsp', 'rtsps', 'srt', 'tcp', 'udp')


@dataclass(frozen=True)
class LiveOptions:
    """Patience with a live source.

    Attributes:
        timeout: Seconds without data after which a connection is lost. A
            named pipe waits for its writer as long as it takes.
        first_wait: Seconds from a loss to the first attempt to reconnect;
            each further attempt waits twice as long.
        longest_wait: The most seconds between two attempts.
        max_reconnects: Attempts without a frame after which the source has
            ended; ``None`` goes on for ever.
        waits: Wait for a source that is not there at the start, as for one
            that is lost later.
    """

    timeout: float = TIMEOUT
    first_wait: float = 0.5
    longest_wait: float = 30.0
    max_reconnects: int | None = None
    waits: bool = False

    def wait(self, failed: int) -> float:
        """Return the seconds to wait after so many attempts in a row."""
        return min(self.first_wait * 2 ** min(failed, 16), self.longest_wait)


class _Arrival(NamedTuple):
    """A frame of a live source that nobody has taken yet.

    Attributes:
        pixels: An image, or a picture to convert once it is taken.
        aspect: Width of a pixel by its height.
        frame: The rest of the frame, still without an image.
    """

    pixels: np.ndarray | av.VideoFrame
    aspect: float | None
    frame: Frame


# An image or a picture, the aspect of its pixels, and whether it is damaged.
_Pixels = tuple[np.ndarray | av.VideoFrame | None, float | None, bool]


class LiveReader(FrameReader):
    """The newest frame of a camera, a network stream or a named pipe.

    A thread reads all the time. Whoever iterates gets the frame that came
    last, and waits if it has got that already; frames that came in between
    are dropped. A connection that is lost is opened again, ever more rarely,
    and the first frame after that has ``restarts`` set. ``Frame.time`` is
    the wall clock at which a frame arrived.

    Ctrl-C is heard at once, also while the source hangs or is not yet open.

    Args:
        source: An address, the path of a named pipe, or the number of a
            camera, which OpenCV reads.
        warn: Takes each warning.
        options: See :class:`LiveOptions`.
        container: The source, if it is open already.

    Attributes:
        dropped: Frames that arrived and were not taken, since the first one
            was asked for.
        reconnects: How often the source came back.

    Raises:
        InputError: The source cannot be opened. Only once it has been open
            is it waited for, unless ``options.waits``.
    """

    is_live = True

    def __init__(
        self,
        source: str | int,
        warn: Callable[[str], Any] = print,
        options: LiveOptions | None = None,
        container: InputContainer | None = None,
    ) -> None:
        is_number = isinstance(source, int)
        name = f'camera {source}' if is_number else without_password(source)
        super().__init__(name, DEFAULT_FPS, None, warn)
        self.dropped = 0
        self.reconnects = 0
        self._source = source
        self._options = options or LiveOptions()
        self._convert = PictureConverter(name, self._notices.append)
        self._stopped = threading.Event()
        # Guards the newest frame and all that the thread counts.
        self._changed = threading.Condition()
        self._newest: _Arrival | None = None
        self._error: BaseException | None = None
        self._arrived = 0
        self._is_asked = False
        self._lost_at: float | None = None
        if container is not None:
            feed = self._stream(container)
        else:
            feed = None if self._options.waits else self._connect()
        self._thread = threading.Thread(
            target=self._run, args=(feed,), daemon=True
        )
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True if no frame will come any more."""
        return self.cut_short is not None or self._stopped.is_set()

    def poll(self, seconds: float = 0.0) -> Frame | None:
        """Take the newest frame.

        Args:
            seconds: How long to wait for one that has not been taken.

        Returns:
            The frame; ``None`` if none came in time or none will come any
            more, see :attr:`ended`.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._pass_on_notices()
            with self._changed:
                arrival, self._newest = self._newest, None
                self._is_asked = True
                left = deadline - time.monotonic()
                is_over = self.ended or self._error is not None or left <= 0
                if arrival is None and not is_over:
                    self._changed.wait(left)
                    continue
            if arrival is not None:
                return self._take(arrival)
            self._pass_on_notices()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Stop reading; a thread that waits for the source is left behind."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(PATIENCE)
        self._pass_on_notices()
        self._sum_up()

    def _account(self) -> Iterator[Frame]:
        while True:
            frame = self.poll(1.0)
            if frame is not None:
                yield frame
            elif self.ended:
                return

    def _take(self, arrival: _Arrival) -> Frame:
        image = arrival.pixels
        if not isinstance(image, np.ndarray):
            # Here and not in the thread: it is not done for what is dropped.
            image = self._convert(image, arrival.aspect)
        frame = arrival.frame._replace(image=image)
        self._count(frame)
        return frame

    def _run(self, feed: Iterator[_Pixels] | None) -> None:
        """Read until stopped, and connect again after each loss."""
        failed = 0
        try:
            while not self._stopped.is_set():
                reason = self._follow(feed)
                feed = None
                # No longer lost: a frame has come since the last attempt.
                failed = 0 if self._lost_at is None else failed + 1
                if not self._wait(reason, failed):
                    return
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _follow(self, feed: Iterator[_Pixels] | None) -> str:
        """Read a connection to its end and return why it ended."""
        try:
            with closing(self._connect() if feed is None else feed) as feed:
                for pixels, aspect, damaged in feed:
                    if self._stopped.is_set():
                        break
                    self._arrive(pixels, aspect, damaged)
        except (av.FFmpegError, OSError) as error:
            return reason_of(error)
        except InputError as error:
            return str(error)
        return 'the source has ended it'

    def _arrive(
        self,
        pixels: np.ndarray | av.VideoFrame | None,
        aspect: float | None,
        damaged: bool,
    ) -> None:
        now = time.time()
        with self._changed:
            last = self._newest
            if not self._is_asked:
                self._arrived = 0
            index = self._arrived
            self._arrived += 1
            if pixels is None:
                self._skip(Lost(index, self.name))
                return
            restarts = self._lost_at is not None
            if restarts:
                self._come_back()
            if last is not None:
                restarts = restarts or last.frame.restarts
                self.dropped += self._is_asked
            frame = Frame(index, None, now, restarts, damaged)
            self._newest = _Arrival(pixels, aspect, frame)
            self._changed.notify_all()

    def _come_back(self) -> None:
        self.reconnects += 1
        gone = time.monotonic() - self._lost_at
        self._lost_at = None
        self._notices.append(
            f'{self.name} is back after {gone:.1f} s '
            f'(reconnect {self.reconnects})'
        )

    def _wait(self, reason: str, failed: int) -> bool:
        """Wait before the next attempt; returns whether there is to be one."""
        limit = self._options.max_reconnects
        is_over = limit is not None and failed > limit
        with self._changed:
            if is_over:
                self.cut_short = f'{self.name} stopped delivering: {reason}'
            elif self._lost_at is None and not self._stopped.is_set():
                # Not once more for each attempt that fails.
                self._lost_at = time.monotonic()
                self._notices.append(
                    f'{self.name} is lost ({reason}): trying to reconnect'
                )
            self._changed.notify_all()
        return not is_over and not self._stopped.wait(
            self._options.wait(failed)
        )

    def _connect(self) -> Iterator[_Pixels]:
        if isinstance(self._source, int):
            return self._camera(self._source)
        if Path(self._source).is_fifo():
            # Closing one whose writer is slow would end the writer.
            return self._stream(open_video(f'file:{self._source}', self.name))
        # Packets lost on UDP give damaged pictures.
        options = {'rtsp_flags': 'prefer_tcp'}
        return self._stream(
            open_video(self._source, self.name, self._options.timeout, options)
        )

    def _stream(self, container: InputContainer) -> Iterator[_Pixels]:
        video = video_of(container)
        self._set_fps(float(video.average_rate or 0))
        return _stream_pixels(container)

    def _camera(self, number: int) -> Iterator[_Pixels]:
        capture = interruptible(lambda: cv2.VideoCapture(number))
        if not capture.isOpened():
            raise InputError(
                f'cannot open {self.name}; is it connected, and in use '
                'elsewhere?'
            )
        self._set_fps(capture.get(cv2.CAP_PROP_FPS))
        return _camera_pixels(capture)

    def _set_fps(self, fps: float) -> None:
        if 0 < fps <= 1000:
            self.fps = fps


def _stream_pixels(container: InputContainer) -> Iterator[_Pixels]:
    with closing(container):
        aspect = video_of(container).sample_aspect_ratio
        for frame, damaged in pictures(container):
            yield frame, aspect, damaged


def _camera_pixels(capture: cv2.VideoCapture) -> Iterator[_Pixels]:
    try:
        while True:
            success, image = capture.read()
            if not success:
                return
            yield image, None, False
    finally:
        capture.release()


def open_reader(
    source: str | Path | int,
    warn: Callable[[str], Any] = print,
    options: LiveOptions | None = None,
) -> FrameReader:
    """Open whatever holds frames.

    Args:
        source: A video file or an image, also as ``file://...``, a folder of
            images, a named pipe, a network address (``rtsp://...``,
            ``http://...``) or the number of a camera, also as text or as
            ``/dev/video0``.
        warn: Takes each warning, one line of text.
        options: For live sources, see :class:`LiveOptions`.

    Returns:
        A reader to iterate over and to close (or to use as a context): a
        :class:`LiveReader` for cameras, named pipes and addresses without an
        end.

    Raises:
        InputError: There is no such source or it cannot be read.
    """
    if device := re.fullmatch(r'/dev/video(\d+)', str(source)):
        source = int(device[1])
    path = local_path(source)
    if path is None:
        return _open_address(source, warn, options)
    if not os.path.exists(path):
        raise InputError(f'video not found: {path}')
    if path.is_fifo():
        return LiveReader(str(path), warn, options)
    if path.is_dir() or (is_image(path) and path.is_file()):
        return ImageReader(path, warn)
    return VideoReader(str(path), warn)


def local_path(source: str | Path | int) -> Path | None:
    """Return the path of a source on this machine.

    Args:
        source: See :func:`open_reader`.

    Returns:
        The path, whether it exists or not; ``None`` for a camera and an
        address on a network.
    """
    if isinstance(source, int):
        return None
    text = str(source)
    if isinstance(source, Path) or os.path.exists(text):
        return Path(source)
    if text.isdecimal():
        return None
    if text.startswith('file:'):
        return Path(url2pathname(urlsplit(text).path))
    return None if '://' in text else Path(text)


def _open_address(
    source: str | int,
    warn: Callable[[str], Any],
    options: LiveOptions | None,
) -> FrameReader:
    text = str(source)
    if text.isdecimal():
        return LiveReader(int(text), warn, options)
    if urlsplit(text).scheme.lower() in LIVE_SCHEMES:
        return LiveReader(text, warn, options)
    options = options or LiveOptions()
    try:
        container = open_file(text, options.timeout)
    except InputError:
        if options.waits:
            return LiveReader(text, warn, options)
        raise
    if container.duration is None:
        return LiveReader(text, warn, options, container)
    return VideoReader(text, warn, container)
