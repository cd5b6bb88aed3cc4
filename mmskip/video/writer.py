"""A video file, written frame by frame."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmskip.reading import InputError

# Container -> codec that every build of OpenCV with FFmpeg can write.
CODECS = {'.avi': 'MJPG', '.mkv': 'mp4v', '.mov': 'mp4v', '.mp4': 'mp4v'}
FALLBACK_SUFFIX = '.avi'


class VideoWriter:
    """A video file of one frame size.

    The file is complete once the writer is closed; use it as a context, so
    that it is closed after an error or Ctrl-C, too. Where the codec is
    missing, an ``.avi`` of single JPEG images is written instead.

    Args:
        path: Its suffix chooses the container.
        size: (width, height) of the video, in pixels. Frames of another
            size are rescaled to it, with a warning at each change.
        fps: Frames per second.
        warn: Takes each warning, one line of text.

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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = _open(self.path, fps, size)
        if not self._writer.isOpened():
            wanted = self.path
            self.path = wanted.with_suffix(FALLBACK_SUFFIX)
            self._writer = _open(self.path, fps, size)
            if not self._writer.isOpened():
                raise InputError(
                    f'cannot write {wanted}: no permission, or this OpenCV '
                    'was built without FFmpeg'
                )
            warn(
                f'this OpenCV cannot write {wanted.suffix}: '
                f'writing {self.path} instead'
            )

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def write(self, image: np.ndarray) -> None:
        """Append a frame, (H, W, 3) uint8 in BGR."""
        size = (image.shape[1], image.shape[0])
        if size != self._last_size:
            self._last_size = size
            if size != self.size:
                self._warn(
                    f'the frames are now {size[0]}x{size[1]}: rescaled to '
                    f'the {self.size[0]}x{self.size[1]} of {self.path}'
                )
        if size != self.size:
            image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
        self._writer.write(np.ascontiguousarray(image))
        self.frames += 1

    def close(self) -> None:
        """Finish the file; a video without a frame is removed."""
        self._writer.release()
        if not self.frames:
            self.path.unlink(missing_ok=True)


def check_video_path(path: str | Path) -> Path:
    """Check that a video of this name can be written.

    Raises:
        InputError: A folder, or a suffix of no known container.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f'expected a video file to write, got folder {path}')
    if path.suffix.lower() not in CODECS:
        raise InputError(
            f'cannot write {path}: expected a name ending in one of '
            f'{", ".join(CODECS)}, got {path.suffix or "no ending"!r}'
        )
    return path


def _open(path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
    return cv2.VideoWriter(str(path), codec, fps, size)
