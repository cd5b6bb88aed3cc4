"""Files of results: JSON, JSON Lines, CSV and MOTChallenge's text."""

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.structures import BaseDataElement

from mmskip.reading import InputError

from .reader import FrameResult

GIGA = 1e9
HOUR = 'hour'
SIZE_UNITS = dict(kB=10**3, MB=10**6, GB=10**9)
COLUMNS = (
    *('index', 'time', 'id', 'label', 'class', 'score'),
    *('x1', 'y1', 'x2', 'y2', 'keypoints'),
)

Entry = dict[str, Any]


class _JsonDocument:
    """``{"source": ..., "frames": [{...}, ...], "summary": {...}}``."""

    rotates = False

    def __init__(self) -> None:
        self._separator = '\n'

    def begin(self, header: Entry) -> str:
        source = json.dumps(header['source'])
        return f'{{"source": {source}, "frames": ['

    def frame(self, entry: Entry) -> str:
        separator, self._separator = self._separator, ',\n'
        return separator + json.dumps(entry)

    def end(self, summary: Entry) -> str:
        return f'\n], "summary": {json.dumps(summary)}}}\n'


class _JsonLines:
    """A line of source and classes, one per frame, one of the summary."""

    rotates = True

    def begin(self, header: Entry) -> str:
        return json.dumps(header) + '\n'

    def frame(self, entry: Entry) -> str:
        return json.dumps(entry) + '\n'

    def end(self, summary: Entry) -> str:
        return json.dumps(dict(summary=summary)) + '\n'


class _Csv:
    """A line per instance, under a line of :data:`COLUMNS`.

    ``keypoints`` is ``x y score x y score ...`` with spaces between.
    """

    rotates = True

    def begin(self, header: Entry) -> str:
        return ','.join(COLUMNS) + '\n'

    def frame(self, entry: Entry) -> str:
        """Write the rows of a frame."""
        text = io.StringIO()
        rows = csv.DictWriter(
            text, COLUMNS, extrasaction='ignore', lineterminator='\n'
        )
        for instance in entry['instances']:
            row = dict(instance, index=entry['index'], time=entry['time'])
            box = instance.get('bbox', ())
            row.update(zip(('x1', 'y1', 'x2', 'y2'), box, strict=False))
            if 'keypoints' in instance:
                scores = instance['keypoint_scores']
                row['keypoints'] = ' '.join(
                    f'{x} {y} {score}'
                    for (x, y), score in zip(
                        instance['keypoints'], scores, strict=True
                    )
                )
            rows.writerow(row)
        return text.getvalue()

    def end(self, summary: Entry) -> str:
        return ''


class _MotChallenge:
    """``frame,id,x,y,width,height,score,-1,-1,-1`` per tracked instance.

    Frames and pixels are counted from 1, see
    https://github.com/dendorferpatrick/MOTChallengeEvalKit.
    """

    rotates = True

    def begin(self, header: Entry) -> str:
        return ''

    def frame(self, entry: Entry) -> str:
        """Write the lines of a frame."""
        lines = []
        for instance in entry['instances']:
            if 'id' not in instance or 'bbox' not in instance:
                continue
            x1, y1, x2, y2 = instance['bbox']
            numbers = (x1 + 1, y1 + 1, x2 - x1, y2 - y1)
            box = ','.join(f'{number:.2f}' for number in numbers)
            lines.append(
                f'{entry["index"] + 1},{instance["id"]},{box},'
                f'{instance.get("score", 1)},-1,-1,-1\n'
            )
        return ''.join(lines)

    def end(self, summary: Entry) -> str:
        return ''


LOG_FORMATS = {
    '.json': _JsonDocument,
    '.jsonl': _JsonLines,
    '.csv': _Csv,
    '.txt': _MotChallenge,
}


class ResultLog:
    """A file of what was found, written frame by frame.

    Its suffix chooses the format: ``.json`` is one document, valid once the
    context is left; ``.jsonl`` (JSON Lines) begins with a line of ``source``
    and ``classes``, has a line per frame and ends with one of ``summary``;
    ``.csv`` has a row per instance; ``.txt`` is MOTChallenge's, of tracked
    instances only. Each frame is in the file before the next one comes: of
    a process that is killed, all but a ``.json`` are complete. Nothing is
    held in memory. :func:`read_results` reads JSON back.

    Args:
        path: The file.
        source: What the frames come from.
        summary: Called at the end for what JSON ends with.
        classes: Names of the labels, if known.
        score_thr: Detections below this score are left out.
        rotate: Begin a new file every ``'hour'`` or when the next frame
            would make it larger than ``'500kB'``, ``'64MB'`` or ``'1GB'``.
            Each file's name has the time (UTC) at which it was begun:
            ``log-20261129T130000Z.jsonl``; no older file is overwritten.

    Attributes:
        path: The file that is written now.

    Raises:
        InputError: Another suffix; the file cannot be written, raised on
            entering and by :meth:`write`.
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        summary: Callable[[], Entry] = dict,
        classes: Sequence[str] | None = None,
        score_thr: float = 0.3,
        rotate: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._format = LOG_FORMATS[check_log_path(path)]()
        self._rotation = None
        if rotate is not None:
            if not self._format.rotates:
                raise InputError(
                    f'cannot rotate {path}, which is one document: expected '
                    'a name ending in .jsonl, .csv or .txt'
                )
            self._rotation = _Rotation(self.path, rotate)
        self._header = dict(source=source)
        if classes is not None:
            self._header['classes'] = list(classes)
        self._summary = summary
        self._score_thr = score_thr
        self._file: io.RawIOBase | None = None

    def __enter__(self) -> 'ResultLog':
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        # An error that comes first says more than those that follow from it.
        with suppress(*([InputError] if kind else [])), self._file:
            self._append(self._format.end(self._summary()))

    def write(self, result: FrameResult) -> None:
        """Append a frame."""
        entry = dict(
            index=result.index,
            time=round(result.time, 3),
            ms=round(1000 * result.seconds, 3),
            gmac=result.cost.spent / GIGA,
            dense_gmac=result.cost.dense / GIGA,
        )
        if result.restart is not None:
            entry['restart'] = result.restart
        entry['instances'] = instances_to_list(
            result.prediction, self._header.get('classes'), self._score_thr
        )
        text = self._format.frame(entry)
        if self._rotation is not None and self._rotation.is_due(len(text)):
            self._file.close()
            self._begin()
        self._append(text)

    def _begin(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a line is in the file, or it is known that it
            # cannot be.
            if self._rotation is None:
                self._file = self.path.open('wb', buffering=0)
            else:
                self.path, self._file = self._rotation.open()
        except OSError as error:
            raise self._refusal(error) from error
        self._append(self._format.begin(self._header))

    def _append(self, text: str) -> None:
        data = memoryview(text.encode())
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._refusal(error) from error
        if self._rotation is not None:
            self._rotation.size += len(text)

    def _refusal(self, error: OSError) -> InputError:
        return InputError(
            f'cannot write {self.path}: expected a file that can be written, '
            f'got "{error.strerror}"; check the free space and the '
            'permissions, or write to another disk'
        )


class _Rotation:
    """Decides when the next file of a log begins, and opens it.

    Args:
        path: Name of the files, to which each adds its time.
        every: ``'hour'`` or a size with its unit.

    Attributes:
        size: Bytes of the file so far.

    Raises:
        InputError: ``every`` is neither.
    """

    def __init__(self, path: Path, every: str) -> None:
        self._path = path
        self._max_size: float | None = None
        self._hour = 0
        self.size = 0
        if every == HOUR:
            return
        found = re.fullmatch(r'([0-9]+) ?(kB|MB|GB)', every)
        if not found or not int(found[1]):
            raise InputError(
                f"expected to rotate a log every 'hour' or by size, such as "
                f"'64MB' (kB, MB or GB), got {every!r}"
            )
        self._max_size = int(found[1]) * SIZE_UNITS[found[2]]

    def is_due(self, size: int) -> bool:
        """Tell if so many more bytes belong into another file."""
        if self._max_size is None:
            return time.time() // 3600 != self._hour
        return self.size > 0 and self.size + size > self._max_size

    def open(self) -> tuple[Path, io.RawIOBase]:
        """Begin a file that is not there yet."""
        now = time.time()
        self._hour, self.size = now // 3600, 0
        moment = time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))
        name = f'{self._path.stem}-{moment}'
        number = 1
        while True:
            path = self._path.with_name(name + self._path.suffix)
            with suppress(FileExistsError):
                return path, path.open('xb', buffering=0)
            number += 1
            name = f'{self._path.stem}-{moment}-{number}'


def check_log_path(path: str | Path) -> str:
    """Check that a log of this name can be written.

    Returns:
        Its suffix.

    Raises:
        InputError: A folder, or a suffix of no known format.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f'cannot write {path}: expected a file, got a folder')
    suffix = path.suffix.lower()
    if suffix not in LOG_FORMATS:
        raise InputError(
            f'cannot write {path}: expected a name ending in one of '
            f'{", ".join(LOG_FORMATS)}, got {path.suffix or "no ending"!r}'
        )
    return suffix


def read_results(path: str | Path) -> Iterator[Entry]:
    """Read the frames of a ``.json`` or ``.jsonl`` of :class:`ResultLog`.

    A last line that was cut short, as a full disk leaves it, is left out.

    Args:
        path: The file.

    Yields:
        The entry of each frame: ``index``, ``time``, ``instances``, ...

    Raises:
        InputError: The file is something else.
    """
    path = Path(path)
    with path.open(encoding='utf-8') as file:
        if path.suffix.lower() != '.jsonl':
            yield from _read_document(path, file.read())
            return
        for number, line in enumerate(file, 1):
            if not line.endswith('\n'):
                return
            entry = _read_json(path, line, f'line {number}')
            if 'instances' in entry:
                yield entry


def _read_document(path: Path, text: str) -> list[Entry]:
    found = _read_json(path, text, 'the whole')
    if not isinstance(found.get('frames'), list):
        raise InputError(
            f'{path}: expected "frames" as `mmskip stream --json` writes '
            'them, got none; write the file again'
        )
    return found['frames']


def _read_json(path: Path, text: str, place: str) -> Entry:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(
            f'{path}: expected JSON, got something else in {place} ({error}); '
            'a .json of a run that was killed is not complete, a .jsonl is'
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            f'{path}: expected a JSON object, got {type(found).__name__} in '
            f'{place}; is it a file of results?'
        )
    return found


def instances_to_list(
    prediction: BaseDataElement,
    classes: Sequence[str] | None = None,
    score_thr: float = 0.3,
) -> list[Entry]:
    """Turn predicted instances into plain numbers.

    Args:
        prediction: Data sample of a detector or a pose estimator.
        classes: Names of the labels, if known.
        score_thr: Detections below this score are left out; keypoints all
            stay, with their scores.

    Returns:
        Per detection ``bbox`` (x1, y1, x2, y2), ``score``, ``label`` and
        ``class``; per person ``keypoints`` (K, 2) and ``keypoint_scores``,
        and ``bbox`` and its ``score`` if there are such. Those that are
        tracked begin with ``id``.
    """
    found = prediction.pred_instances
    is_pose = 'keypoints' in found
    if not is_pose:
        found = found[found.scores >= score_thr]
    ids = _plain(found.get('instances_id', [-1] * len(found)))
    instances = []
    for number, track in enumerate(ids):
        entry = {} if track < 0 else dict(id=int(track))
        if 'bboxes' in found:
            entry['bbox'] = _rounded(found.bboxes[number], 2)
        if is_pose:
            if 'bbox_scores' in found:
                entry['score'] = _rounded(found.bbox_scores[number], 4)
            points = found.keypoints[number]
            scores = found.keypoint_scores[number]
            entry['keypoints'] = _rounded(points[:, :2], 2)
            entry['keypoint_scores'] = _rounded(scores, 4)
        else:
            label = int(found.labels[number])
            entry['score'] = _rounded(found.scores[number], 4)
            entry['label'] = label
            if classes is not None:
                entry['class'] = classes[label]
        instances.append(entry)
    return instances


def _plain(values: Any) -> Any:
    """Turn an array or a tensor into (nested) lists."""
    return values.tolist() if hasattr(values, 'tolist') else values


def _rounded(values: Any, digits: int) -> Any:
    """Round an array's or tensor's numbers to (nested) lists."""
    values = _plain(values)
    if isinstance(values, list):
        return [_rounded(value, digits) for value in values]
    return round(values, digits)
