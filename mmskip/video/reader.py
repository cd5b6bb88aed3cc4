"""Frames from a video file, a camera, a network stream or a folder."""

import math
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from mmskip.datasets.videos import natural_key
from mmskip.reading import InputError

from .frame import Frame

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

DEFAULT_FPS = 25.0

Result = TypeVar('Result')

# After so many frames in a row that cannot be decoded the source has ended.
MAX_UNREADABLE_RUN = 50


class FrameReader:
    """Frames of one source in order, one in memory at a time.

    A frame that cannot be decoded is skipped with a warning that names it.
    Frames keep their own size, also when it changes on the way.

    Args:
        name: What messages call the source.
        fps: Frames per second.
        num_frames: How many the source announces, ``None`` if unknown.
        warn: Takes each warning.

    Attributes:
        unreadable: Frames skipped so far.
        cut_short: Why fewer frames came than announced, ``None`` if they
            all did.
    """

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
        self.cut_short: str | None = None
        self.is_live = False
        self._warn = warn

    def __enter__(self) -> 'FrameReader':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def close(self) -> None:
        """Release the source."""

    def _skip(self, index: int, what: str) -> None:
        self.unreadable += 1
        self._warn(f'{what} (frame {index}) cannot be read: skipped')


class VideoReader(FrameReader):
    """Frames of a video file, a camera or a network stream.

    Ctrl-C is heard while the source keeps one waiting, which may be for half
    a minute in OpenCV: it then is left behind in a thread of its own.

    Args:
        source: Path or address, or the number of a camera.
        warn: Takes each warning.

    Raises:
        InputError: The source cannot be opened.
    """

    def __init__(
        self, source: str | int, warn: Callable[[str], Any] = print
    ) -> None:
        name = f'camera {source}' if isinstance(source, int) else source
        capture = _interruptible(lambda: cv2.VideoCapture(source))
        if not capture.isOpened():
            raise InputError(_why_not(source, name))
        self._capture: cv2.VideoCapture | None = capture
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        is_count = 0 < announced < math.inf
        is_address = isinstance(source, int) or '://' in source
        self._is_live = is_address and not is_count
        fps = capture.get(cv2.CAP_PROP_FPS)
        super().__init__(
            name=name,
            fps=fps if 0 < fps <= 1000 else DEFAULT_FPS,
            num_frames=int(announced) if is_count else None,
            warn=warn,
        )

    def __iter__(self) -> Iterator[Frame]:
        index, pending = 0, []
        while len(pending) < MAX_UNREADABLE_RUN:
            success, image = self._read()
            if success:
                # Only what lies between two frames is a gap, not the end.
                for missed in pending:
                    self._skip(missed, self.name)
                pending.clear()
                yield Frame(index, image)
            elif self.num_frames is None or index >= self.num_frames:
                break
            else:
                pending.append(index)
            index += 1
        self._note_end(index - len(pending))

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()

    def _read(self) -> tuple[bool, np.ndarray | None]:
        capture, self._capture = self._capture, None
        found = _interruptible(capture.read)
        # Not after an interrupt: the thread that still reads will free it.
        self._capture = capture
        return found

    def _note_end(self, ended: int) -> None:
        announced = self.num_frames or 0
        if self._is_live:
            self.cut_short = f'{self.name} stopped delivering at frame {ended}'
        # Containers without an index estimate the count from the duration.
        elif ended < announced - max(2, announced // 100):
            self.cut_short = (
                f'{self.name} announces {announced} frames but ends after '
                f'{ended}: the file seems truncated'
            )


class ImageFolderReader(FrameReader):
    """Images of a folder in natural order (``img2`` before ``img10``).

    Args:
        folder: Holds the images; its subfolders are not searched.
        warn: Takes each warning.

    Raises:
        InputError: No image in the folder.
    """

    def __init__(
        self, folder: str | Path, warn: Callable[[str], Any] = print
    ) -> None:
        self._files = sorted(
            (
                path
                for path in Path(folder).iterdir()
                if path.suffix.lower() in IMAGE_SUFFIXES
            ),
            key=lambda path: natural_key(path.name),
        )
        if not self._files:
            raise InputError(
                f'no image in folder {folder}; expected files ending in '
                f'{", ".join(IMAGE_SUFFIXES)}'
            )
        super().__init__(
            name=str(folder),
            fps=DEFAULT_FPS,
            num_frames=len(self._files),
            warn=warn,
        )

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._files):
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                self._skip(index, str(path))
            else:
                yield Frame(index, image)


def open_reader(
    source: str | Path | int, warn: Callable[[str], Any] = print
) -> FrameReader:
    """Open whatever holds frames.

    Args:
        source: A video file, a folder of images, a network address
            (``rtsp://...``) or the number of a camera, also as text.
        warn: Takes each warning, one line of text.

    Returns:
        A reader to iterate over and to close (or to use as a context).

    Raises:
        InputError: There is no such source or it cannot be read.
    """
    text = str(source)
    if Path(text).is_dir():
        return ImageFolderReader(text, warn)
    if text.isdecimal() and not Path(text).exists():
        return VideoReader(int(text), warn)
    return VideoReader(text, warn)


def _interruptible(work: Callable[[], Result]) -> Result:
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


def _why_not(source: str | int, name: str) -> str:
    """Say why a source cannot be opened, and what to do."""
    if isinstance(source, int):
        return f'cannot open {name}; is it connected, and in use elsewhere?'
    if '://' in source:
        return f'cannot open the stream {name}'
    if not Path(source).exists():
        return f'video not found: {name}'
    return (
        f'cannot read {name} as a video: it is empty, truncated, or of a '
        'format that OpenCV does not know'
    )
