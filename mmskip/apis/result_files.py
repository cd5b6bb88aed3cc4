"""Results of a stream as an annotated video and as a JSON file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

from mmskip.visualization import PredictionDrawer, caption, tint

from .errors import UserError
from .video_stream import GIGA, FrameResult

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
        UserError: An unknown suffix, or the file cannot be written.
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
                raise UserError(
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
        UserError: A folder, or a suffix of no known container.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f'expected a video file to write, got folder {path}')
    if path.suffix.lower() not in CODECS:
        raise UserError(
            f'cannot write {path}: expected a name ending in one of '
            f'{", ".join(CODECS)}, got {path.suffix or "no ending"!r}'
        )
    return path


class ResultVideo:
    """A video of predictions over a layer that shows the computed pixels.

    The file is opened at the first frame: a source that gives none leaves
    an older file of that name alone.

    Args:
        path: See :class:`VideoWriter`.
        fps: Frames per second.
        drawer: Draws the predictions.
        warn: Takes each warning, one line of text.

    Raises:
        UserError: An unknown suffix.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        drawer: PredictionDrawer,
        warn: Callable[[str], Any] = print,
    ) -> None:
        self._path = check_video_path(path)
        self._fps = fps
        self._drawer = drawer
        self._warn = warn
        self._writer: VideoWriter | None = None

    def __enter__(self) -> 'ResultVideo':
        return self

    def __exit__(self, *_: Any) -> None:
        if self._writer is not None:
            self._writer.close()

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._path if self._writer is None else self._writer.path

    def write(self, result: FrameResult) -> None:
        """Append a frame."""
        image = result.frame
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            self._writer = VideoWriter(self._path, size, self._fps, self._warn)
        if result.computed_mask is not None:
            image = tint(image, result.computed_mask)
        image = self._drawer(image, result.prediction)
        cost = result.cost
        text = (
            f'{result.index}: {cost.spent / GIGA:.3g} of '
            f'{cost.dense / GIGA:.3g} GMAC'
        )
        if result.computed_mask is not None:
            text += ', tinted: computed'
        self._writer.write(caption(image, text))


class ResultLog:
    """A JSON file, written frame by frame, valid once the context is left.

    ``{"source": ..., "frames": [{...}, ...], "summary": {...}}``; nothing is
    held in memory.

    Args:
        path: The file.
        source: What the frames come from.
        summary: Called at the end for what the file ends with.
        classes: Names of the labels, if known.
        score_thr: Detections below this score are left out.

    Attributes:
        path: The file.

    Raises:
        UserError: The file cannot be written; raised on entering.
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        summary: Callable[[], dict[str, Any]],
        classes: Sequence[str] | None = None,
        score_thr: float = 0.3,
    ) -> None:
        self.path = Path(path)
        self._source = source
        self._summary = summary
        self._classes = classes
        self._score_thr = score_thr
        self._separator = '\n'

    def __enter__(self) -> 'ResultLog':
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open('w', encoding='utf-8')
        except OSError as error:
            raise UserError(f'cannot write {self.path}: {error}') from error
        source = json.dumps(self._source)
        self._file.write(f'{{"source": {source}, "frames": [')
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.write(f'\n], "summary": {json.dumps(self._summary())}}}\n')
        self._file.close()

    def write(self, result: FrameResult) -> None:
        """Append a frame."""
        entry = dict(
            index=result.index,
            ms=round(1000 * result.seconds, 3),
            gmac=result.cost.spent / GIGA,
            dense_gmac=result.cost.dense / GIGA,
            instances=instances_to_list(
                result.prediction, self._classes, self._score_thr
            ),
        )
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ',\n'


def instances_to_list(
    prediction: BaseDataElement,
    classes: Sequence[str] | None = None,
    score_thr: float = 0.3,
) -> list[dict[str, Any]]:
    """Turn predicted instances into plain numbers.

    Args:
        prediction: Data sample of a detector or a pose estimator.
        classes: Names of the labels, if known.
        score_thr: Detections below this score are left out; keypoints all
            stay, with their scores.

    Returns:
        Per detection ``bbox`` (x1, y1, x2, y2), ``score``, ``label`` and
        ``class``; per person ``keypoints`` (K, 2) and ``keypoint_scores``.
    """
    found = prediction.pred_instances
    if 'keypoints' in found:
        return [
            dict(
                keypoints=_rounded(points[:, :2], 2),
                keypoint_scores=_rounded(scores, 4),
            )
            for points, scores in zip(
                found.keypoints, found.keypoint_scores, strict=True
            )
        ]
    found = found[found.scores >= score_thr]
    instances = []
    for box, score, label in zip(
        found.bboxes, found.scores, found.labels, strict=True
    ):
        entry = dict(
            bbox=_rounded(box, 2), score=_rounded(score, 4), label=int(label)
        )
        if classes is not None:
            entry['class'] = classes[int(label)]
        instances.append(entry)
    return instances


def _open(path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
    return cv2.VideoWriter(str(path), codec, fps, size)


def _rounded(values: Any, digits: int) -> Any:
    """Round an array's or tensor's numbers to (nested) lists."""
    values = values.tolist() if hasattr(values, 'tolist') else values
    if isinstance(values, list):
        return [_rounded(value, digits) for value in values]
    return round(values, digits)
