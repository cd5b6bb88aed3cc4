"""A video file, written frame by frame, that survives what happens to it."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mmskip.reading import InputError

# Half a second of the video, of which a killed process leaves the rest.
_FRAGMENTS = dict(
    movflags='frag_keyframe+empty_moov+default_base_moof',
    frag_duration='500000',
)
# Suffix -> FFmpeg's name of the container, and options that keep its file
# playable at any time.
CONTAINERS = {
    '.avi': ('avi', {}),
    '.mkv': ('matroska', dict(cluster_time_limit='500')),
    '.mov': ('mov', _FRAGMENTS),
    '.mp4': ('mp4', _FRAGMENTS),
}
# Per second; all usual frame rates are whole, 30000/1001 among them, and
# MPEG-4 allows no more than 65535.
TICKS = 60000
# Frames that wait for the encoder before `write` does.
MAX_WAITING = 4
WRITE_ERRORS = (OSError, av.FFmpegError)


class VideoWriter:
    """A video file of one frame size, encoded in a thread of its own.

    H.264 where PyAV's FFmpeg has it, else MPEG-4; 4:2:0, but for sizes that
    are odd, which only 4:4:4 keeps in H.264 (some players show no 4:4:4).
    Whatever was written stays playable up to the last second when the
    process is killed: an ``.mp4`` or ``.mov`` is written in fragments, an
    ``.mkv`` in clusters. Use it as a context, so that it is also complete
    after an error or Ctrl-C.

    Args:
        path: Its suffix chooses the container.
        size: (width, height) of the video, in pixels. Frames of another
            size are rescaled to it, with a warning at each change.
        fps: Frames per second, for frames without a time; and of the whole
            video in an ``.avi``, which knows no times.
        warn: Takes each warning, one line of text; called in the thread
            that encodes.

    Attributes:
        path: The file that is written.
        frames: Frames written so far.

    Raises:
        InputError: An unknown suffix, or the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float,
        warn: Callable[[str], Any] = print,
    ) -> None:
        self.path = check_video_path(path)
        self.size = size
        self.frames = 0
        self._warn = warn
        self._last_size = size
        self._clock = _Clock(fps)
        self._error: Exception | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container, self._stream = _open(self.path, size, fps)
        except WRITE_ERRORS as error:
            raise self._refusal(error) from error
        self._keeps_times = self.path.suffix.lower() != '.avi'
        self._waiting: queue.Queue = queue.Queue(MAX_WAITING)
        self._encoder = threading.Thread(
            target=self._encode, name=f'writes {self.path.name}', daemon=True
        )
        self._encoder.start()

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        # An error that comes first says more than those that follow from it.
        with suppress(*([InputError] if kind else [])):
            self.close()

    def write(
        self,
        image: np.ndarray | Callable[[], np.ndarray],
        time: float | None = None,
    ) -> None:
        """Append a frame.

        Args:
            image: (H, W, 3) uint8 in BGR, which may be changed afterwards;
                or a function that draws it, called in the thread that
                encodes, beside the caller's own work.
            time: Seconds, counted from whenever; the first frame's time
                becomes 0. A frame that is not later than the one before, and
                one without a time, is shown one frame's duration after it.

        Raises:
            InputError: This frame or an earlier one cannot be written: the
                disk is full, say.
        """
        self._check()
        position = self._clock.tick(time) if self._keeps_times else self.frames
        image = image if callable(image) else image.copy()
        self._waiting.put((position, image))
        self.frames += 1

    def close(self) -> None:
        """Finish the file; a video without a frame is removed.

        Raises:
            InputError: The file cannot be completed.
        """
        if not self._encoder.is_alive():
            return
        self._waiting.put(None)
        self._encoder.join()
        if not self.frames:
            self.path.unlink(missing_ok=True)
        self._check()

    def _encode(self) -> None:
        """Encode frames until a ``None``; after an error they are dropped."""
        while (item := self._waiting.get()) is not None:
            if self._error is None:
                self._guard(self._append, *item)
        if self._error is None:
            self._guard(self._mux, None)
        self._guard(self._container.close)

    def _append(
        self, position: int, image: np.ndarray | Callable[[], np.ndarray]
    ) -> None:
        image = self._resize(image() if callable(image) else image)
        frame = _video_frame(image)
        frame.pts = position
        frame.time_base = self._stream.codec_context.time_base
        self._mux(frame)

    def _resize(self, image: np.ndarray) -> np.ndarray:
        size = (image.shape[1], image.shape[0])
        if size != self._last_size:
            self._last_size = size
            if size != self.size:
                self._warn(
                    f'the frames are now {size[0]}x{size[1]}: rescaled to '
                    f'the {self.size[0]}x{self.size[1]} of {self.path}'
                )
        if size == self.size:
            return image
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        self._container.mux(self._stream.encode(frame))

    def _guard(self, work: Callable[..., Any], *args: Any) -> None:
        try:
            work(*args)
        except Exception as error:
            self._error = self._error or error

    def _check(self) -> None:
        if isinstance(self._error, WRITE_ERRORS):
            raise self._refusal(self._error) from self._error
        if self._error is not None:
            raise self._error

    def _refusal(self, error: Exception) -> InputError:
        why = getattr(error, 'strerror', None) or str(error)
        return InputError(
            f'cannot write {self.path}: expected a file that can be written, '
            f'got "{why}" after {self.frames} frames; check the free space '
            'and the permissions, or write to another disk'
        )


class _Clock:
    """Times of frames as ticks that always grow.

    Args:
        fps: A frame without a later time comes 1 / fps after the last one.
    """

    def __init__(self, fps: float) -> None:
        self._step = max(1, round(TICKS / fps))
        self._last: int | None = None
        self._start = 0

    def tick(self, time: float | None) -> int:
        """Turn the time of the next frame into ticks, the first into 0."""
        now = None if time is None else round(time * TICKS)
        if self._last is None:
            self._start, self._last = now or 0, 0
            return 0
        following = self._last + self._step
        if now is None:
            self._start -= self._step
            self._last = following
        elif now - self._start > self._last:
            self._last = now - self._start
        else:
            # A clock that was set back goes on from here.
            self._start = now - following
            self._last = following
        return self._last


def check_video_path(path: str | Path) -> Path:
    """Check that a video of this name can be written.

    Raises:
        InputError: A folder, or a suffix of no known container.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f'expected a video file to write, got folder {path}')
    if path.suffix.lower() not in CONTAINERS:
        raise InputError(
            f'cannot write {path}: expected a name ending in one of '
            f'{", ".join(CONTAINERS)}, got {path.suffix or "no ending"!r}'
        )
    return path


def _open(
    path: Path, size: tuple[int, int], fps: float
) -> tuple[av.container.OutputContainer, av.VideoStream]:
    """Open a file and write its header."""
    suffix = path.suffix.lower()
    name, options = CONTAINERS[suffix]
    container = av.open(
        # The protocol, or a colon in the name would be taken for one's.
        f'file:{path}',
        'w',
        format=name,
        container_options=dict(options, flush_packets='1'),
    )
    rate = Fraction(fps).limit_denominator(1001)
    has_h264 = 'libx264' in av.codecs_available
    if has_h264:
        options = dict(preset='ultrafast', tune='zerolatency', crf='26')
        stream = container.add_stream('libx264', rate=rate, options=options)
    else:
        stream = container.add_stream('mpeg4', rate=rate)
        stream.bit_rate = int(0.2 * size[0] * size[1] * fps)
    context = stream.codec_context
    context.width, context.height = size
    is_odd = size[0] % 2 or size[1] % 2
    context.pix_fmt = 'yuv444p' if is_odd and has_h264 else 'yuv420p'
    # The matrix of BT.601, limited range: OpenCV's and swscale's.
    context.colorspace, context.color_range = 6, 1
    context.time_base = 1 / rate if suffix == '.avi' else Fraction(1, TICKS)
    context.gop_size = max(1, round(2 * fps))
    # The model needs the other cores.
    context.thread_count = 1
    container.start_encoding()
    return container, stream


def _video_frame(image: np.ndarray) -> av.VideoFrame:
    """Copy an image into a frame, which the encoder converts if it is odd."""
    if image.shape[0] % 2 or image.shape[1] % 2:
        image = np.ascontiguousarray(image)
        return av.VideoFrame.from_ndarray(image, format='bgr24')
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    return av.VideoFrame.from_ndarray(planes, format='yuv420p')
