"""Pictures out of FFmpeg, by PyAV: upright, of square pixels, 8 bit BGR."""

import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from mmskip.reading import InputError

# Sample aspect ratios beyond these are taken for a damaged header.
ASPECTS = (0.1, 10.0)

# Windows of deep grey: the percentiles of a frame that they enclose, how far
# they go beyond on either side, by the distance of the two, and the least
# width, below which a frame tells nothing about what else will come.
PERCENTILES = (1, 99)
MARGIN = 0.5
LEAST_WIDTH = 256
# A frame of which more is cut off than this takes a new window.
MOST_CUT = 0.5

Result = TypeVar('Result')


class Picture(NamedTuple):
    """A frame of a video as the decoder gave it.

    Attributes:
        frame: Not yet converted; ``None`` if a packet could not be decoded.
        damaged: The frame, or one that it is based upon, was decoded from
            data that are damaged or lost.
    """

    frame: av.VideoFrame | None
    damaged: bool


def open_video(
    url: str,
    name: str,
    timeout: float | None = None,
    options: Mapping[str, str] | None = None,
) -> InputContainer:
    """Open what holds a video, in a way that Ctrl-C can end.

    Args:
        url: Address, or a path after ``file:``.
        name: What messages call it.
        timeout: Seconds after which opening it, and later each reading of
            it, fails; ``None`` waits for ever.
        options: Of FFmpeg.

    Raises:
        InputError: It cannot be opened or holds no video.
    """

    def work() -> InputContainer:
        # Names of streams and the like are shown nowhere, but may be in any
        # encoding.
        return av.open(
            url,
            options=dict(options or {}),
            timeout=(timeout, timeout),
            metadata_errors='replace',
        )

    try:
        container = interruptible(work)
    except (av.FFmpegError, OSError) as error:
        raise InputError(_why_not(url, name, error)) from error
    if container.streams.best('video') is None:
        container.close()
        raise InputError(
            f'expected a video, got {name} without a picture in it (only '
            'sound?)'
        )
    return container


def video_of(container: InputContainer) -> VideoStream:
    """Return the stream of pictures; one that is mere cover art comes last."""
    return container.streams.best('video')


def pictures(container: InputContainer) -> Iterator[Picture]:
    """Decode a video; packets that cannot be decoded are told, too.

    After a loss every frame counts as damaged until one comes that is based
    on no other.

    Raises:
        av.FFmpegError: The container cannot be read any further.
    """
    video = video_of(container)
    is_jpeg = video.codec_context.name == 'mjpeg'
    if is_jpeg:
        # Damage is not marked there: it is an error, or nobody hears of it.
        video.codec_context.options = {'err_detect': 'explode'}
    damaged = False
    for packet in container.demux(video):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damaged = True
            frame = _mend(packet) if is_jpeg else None
            yield Picture(frame, True)
            continue
        for frame in frames:
            damaged = frame.is_corrupt or (damaged and not frame.key_frame)
            yield Picture(frame, damaged)


class PictureConverter:
    """Turns pictures of one video into images (H, W, 3), uint8, BGR.

    The display matrix (how a phone was held) is applied. Pixels that are
    not square become so: the width is stretched. Alpha is ignored. Colours
    of more than 8 bits keep the 8 highest; grey of more than 8 bits is seen
    through a :class:`GreyWindow`. Odd sizes stay as they are.

    Args:
        name: What warnings call the source.
        warn: Takes each warning.
    """

    def __init__(self, name: str, warn: Callable[[str], Any]) -> None:
        self._reformatter = VideoReformatter()
        self._window = GreyWindow(name, warn)

    def __call__(
        self, frame: av.VideoFrame, aspect: float | None = None
    ) -> np.ndarray:
        """Convert a picture.

        Args:
            frame: As decoded.
            aspect: Width of a pixel by its height, ``None`` if unknown.
        """
        matrix = frame.side_data.get('DISPLAYMATRIX')
        is_deep = _is_deep_grey(frame.format)
        width = frame.width
        if aspect and ASPECTS[0] <= aspect <= ASPECTS[1]:
            width = max(1, round(width * aspect))
        # More threads than one would take turns with the model's.
        converted = self._reformatter.reformat(
            frame,
            width=width,
            format='gray16le' if is_deep else 'bgr24',
            threads=1,
        )
        image = converted.to_ndarray()
        if is_deep:
            image = cv2.cvtColor(self._window(image), cv2.COLOR_GRAY2BGR)
        return image if matrix is None else orient(image, bytes(matrix))


class GreyWindow:
    """Maps grey of more than 8 bits to 8 so that contrast stays.

    A thermal camera uses a few thousand of 65536 values; the 8 highest bits
    of them show nothing. The first frame that has contrast chooses the
    window, from half a span below its 1st percentile to half a span above
    its 99th, where the span is the distance of the two; it is at least 256
    wide. The window is held, so that the same value stays the same grey, and
    chosen anew only by a frame of which more than half is cut off. A warning
    says so each time.

    Args:
        name: What warnings call the source.
        warn: Takes each warning.
    """

    def __init__(self, name: str, warn: Callable[[str], Any]) -> None:
        self._name = name
        self._warn = warn
        self._window: tuple[float, float] | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Map an image (H, W) of any type to uint8."""
        image = np.nan_to_num(image.astype(np.float32))
        window = self._window
        if window is None or _share_outside(image, window) > MOST_CUT:
            window = self._choose(image)
        low, high = window
        scaled = (image - low) * (255 / (high - low))
        return np.rint(scaled.clip(0, 255)).astype(np.uint8)

    def _choose(self, image: np.ndarray) -> tuple[float, float]:
        low, high = (float(x) for x in np.percentile(image, PERCENTILES))
        span = high - low
        width = max((1 + 2 * MARGIN) * span, LEAST_WIDTH)
        middle = (low + high) / 2
        window = (middle - width / 2, middle + width / 2)
        # A shutter or a cold start shows nothing: not for what comes later.
        if width == LEAST_WIDTH:
            return self._window or window
        self._window = window
        self._warn(
            f'{self._name}: grey of more than 8 bits: values from '
            f'{window[0]:.0f} to {window[1]:.0f} become 0 to 255'
        )
        return window


def orient(image: np.ndarray, matrix: bytes) -> np.ndarray:
    """Turn an image as a display matrix says, by multiples of 90 degrees.

    Args:
        image: (H, W, 3).
        matrix: Nine int32 in the machine's order, rows of a matrix that is
            multiplied from the right to (x, y, 1), as FFmpeg has it.
    """
    axes = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
    if abs(axes[0, 1]) > abs(axes[0, 0]):
        image = image.transpose(1, 0, 2)
        axes = axes[::-1]
    to_left, to_top = axes[0, 0] < 0, axes[1, 1] < 0
    image = image[:: -1 if to_top else 1, :: -1 if to_left else 1]
    return np.ascontiguousarray(image)


def interruptible(work: Callable[[], Result]) -> Result:
    """Wait for work in a way that signals can end, unlike the work itself.

    Args:
        work: Runs in a thread of its own, which ends with the process.

    Returns:
        What it returns.
    """
    results: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    result, error = results.get()
    if error is not None:
        raise error
    return result


def without_password(source: str) -> str:
    """Return an address as it may be shown: ``rtsp://admin:***@camera``."""
    return re.sub(r'(://[^/@:]*):[^/]*@', r'\1:***@', source)


def reason_of(error: Exception) -> str:
    """Say in a few words why FFmpeg failed."""
    if isinstance(error, av.error.ExitError):
        return 'no data within the time-out'
    # The whole text has the address in it, and its password.
    reason = getattr(error, 'strerror', None) or type(error).__name__
    return reason[:1].lower() + reason[1:]


def _mend(packet: av.Packet) -> av.VideoFrame | None:
    """Decode as much of a damaged JPEG image as can be."""
    decoder = av.CodecContext.create('mjpeg', 'r')
    with suppress(av.FFmpegError):
        for frame in decoder.decode(packet) + decoder.decode(None):
            return frame
    return None


def _why_not(url: str, name: str, error: Exception) -> str:
    """Say why a video cannot be opened, and what to do."""
    if not url.startswith('file:'):
        return (
            f'cannot open the stream {name} ({reason_of(error)}): is the '
            'address right, is the camera on, and does it take one more '
            'client?'
        )
    if isinstance(error, FileNotFoundError):
        return f'video not found: {name}'
    if isinstance(error, PermissionError):
        return f'cannot read {name}: {reason_of(error)}; change its rights'
    return (
        f'cannot read {name} as a video: it is empty, truncated, or of a '
        f'format that FFmpeg does not know ({reason_of(error)})'
    )


def _is_deep_grey(pixels: av.VideoFormat) -> bool:
    # One component, or one and alpha.
    components = pixels.components
    return len(components) < 3 and components[0].bits > 8


def _share_outside(image: np.ndarray, window: tuple[float, float]) -> float:
    some = image[::8, ::8]
    return float(((some < window[0]) | (some > window[1])).mean())
