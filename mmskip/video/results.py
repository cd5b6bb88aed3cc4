"""Results of a stream as an annotated video and as a JSON file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.structures import BaseDataElement

from mmskip.reading import InputError
from mmskip.visualization import PredictionDrawer, caption, tint

from .frame import FrameResult
from .writer import VideoWriter, check_video_path

GIGA = 1e9


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
        InputError: An unknown suffix.
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
        InputError: The file cannot be written; raised on entering.
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
            raise InputError(f'cannot write {self.path}: {error}') from error
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


def _rounded(values: Any, digits: int) -> Any:
    """Round an array's or tensor's numbers to (nested) lists."""
    values = values.tolist() if hasattr(values, 'tolist') else values
    if isinstance(values, list):
        return [_rounded(value, digits) for value in values]
    return round(values, digits)
