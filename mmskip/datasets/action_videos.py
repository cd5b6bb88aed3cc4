"""mmaction2's lists of videos, with what untrimmed test sets need."""

import os.path as osp
import re
import warnings
from typing import Any

from mmaction.datasets import RawframeDataset, VideoDataset
from mmengine.fileio import list_from_file

from mmskip.reading import InputError, excerpt, reading
from mmskip.registry import DATASETS

ON_BROKEN = ('raise', 'skip')
UNREADABLE = frozenset('\0\ufeff')
INTEGER = re.compile(r'-?\d{1,18}')
# After so many failures in a row it is not the videos that are broken.
ATTEMPTS = 8
# Meta key of stand-ins: why the video cannot be decoded.
BROKEN = 'broken'


class BrokenVideoError(RuntimeError):
    """A video cannot be decoded, or none can."""


class _ActionList:
    """Additions to mmaction2's lists that both data sets share.

    Every sample gets a ``video_id``: its path in the list.
    """

    def __init__(
        self, *args: Any, on_broken: str = 'raise', **kwargs: Any
    ) -> None:
        if on_broken not in ON_BROKEN:
            raise ValueError(
                f'expected on_broken to be one of {ON_BROKEN}, got '
                f'{on_broken!r}'
            )
        self.on_broken = on_broken
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the list.

        Raises:
            FileNotFoundError: There is no such list.
            InputError: A line cannot be read, or has a label that is not
                one of the classes, or none where there must be one.
        """
        if '://' not in self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{self.ann_file}: expected a list of videos, found none; '
                'write it with tools/dataset_converters'
            )
        with reading(self.ann_file, 'a list of videos'):
            self._check_lines(list_from_file(self.ann_file))
            videos = super().load_data_list()
        prefix = next(iter(self.data_prefix.values()), None) or ''
        for video in videos:
            if self.multi_class and video['label'] == [-1]:
                # mmaction2's label of lines without one would be the last
                # class.
                video['label'] = []
            path = video.get('frame_dir', video.get('filename'))
            video['video_id'] = osp.relpath(path, prefix) if prefix else path
        return videos

    def prepare_data(self, idx: int) -> dict | None:
        """Load a video, see the class for one that cannot be decoded.

        Raises:
            BrokenVideoError: It cannot, and is not to be skipped; or many
                in a row cannot.
        """
        try:
            return super().prepare_data(idx)
        # What a decoder raises depends on it: decord's DECORDError,
        # OpenCV's error, an AttributeError of a frame that is None ...
        except Exception as error:
            info = self.get_data_info(idx)
            why = f'{type(error).__name__}: {" ".join(str(error).split())}'
            message = f'{info["video_id"]}: expected a video, got {why}'
            if self.on_broken == 'raise':
                raise BrokenVideoError(
                    f"{message}; mend it, or set on_broken='skip' of the "
                    'data set to leave out such videos'
                ) from error
            warnings.warn(f'{message}; it is left out', stacklevel=2)
            if not self.test_mode:
                return None
            return self._stand_in(idx, info, why[:200])

    def _stand_in(self, idx: int, info: dict, why: str) -> dict:
        """Load the next video that can be decoded, under this one's name.

        Loops and batches stay as they are; the metrics know it by its mark.
        """
        for step in range(1, ATTEMPTS + 1):
            try:
                data = super().prepare_data((idx + step) % len(self))
            except Exception as error:
                why = f'{why}; {error}' if step == 1 else why
                continue
            sample = data['data_samples']
            sample.set_gt_label(info['label'])
            marks = {
                key: info[key]
                for key in ('video_id', 'filename', 'frame_dir')
                if key in info
            }
            sample.set_metainfo({**marks, BROKEN: why})
            return data
        raise BrokenVideoError(
            f'expected broken videos to be rare, got {ATTEMPTS + 1} in a row '
            f'from {info["video_id"]}; look at data_prefix and the pipeline: '
            f'{why}'
        )

    def _check_lines(self, lines: list[str]) -> None:
        """Refuse lines that mmaction2 would misread, and warn of odd ones."""
        if self.multi_class and self.num_classes is None:
            raise InputError(
                f'{self.ann_file}: expected num_classes with '
                'multi_class=True, got None'
            )
        if not lines:
            raise InputError(
                f'{self.ann_file}: expected lines "{self._columns}", got an '
                'empty file; write it with tools/dataset_converters'
            )
        first: dict[tuple, int] = {}
        bare, twice = [], []
        for number, line in enumerate(lines, 1):
            video, labels = self._check_line(number, line)
            if not self.multi_class and labels in ([], [-1]):
                bare.append(number)
            if first.setdefault(video, number) != number:
                twice.append((video[0], first[video], number))
        if bare and (len(bare) < len(lines) or not self.test_mode):
            raise InputError(
                f'{self.ann_file}: line {bare[0]}: expected a label, got '
                f'{excerpt(lines[bare[0] - 1])}, and {len(bare)} of '
                f'{len(lines)} lines without one; a video without classes '
                'needs multi_class=True'
            )
        if bare:
            warnings.warn(
                f'{self.ann_file}: none of {len(lines)} lines has a label; '
                'predictions are made, but metrics mean nothing',
                stacklevel=3,
            )
        if twice:
            warnings.warn(
                f'{self.ann_file}: {len(twice)} lines list a video again, '
                f'the first of them {excerpt(twice[0][0])} in the lines '
                f'{twice[0][1]} and {twice[0][2]}; each counts',
                stacklevel=3,
            )

    def _check_line(self, number: int, line: str) -> tuple[tuple, list[int]]:
        """Return what a line lists, its offset included, and its labels."""
        name, *columns = line.strip().split(self._delimiter)
        counts = self._columns.count(' ') - 1  # between path and labels
        numbers = [int(c) for c in columns if INTEGER.fullmatch(c)]
        labels = numbers[counts:]
        if (
            not name
            or not UNREADABLE.isdisjoint(name)
            or len(numbers) != len(columns)
            or len(numbers) < counts
            or (counts and numbers[counts - 1] < 1)
            or min(numbers[:counts], default=0) < 0
            or (len(labels) > 1 and not self.multi_class)
        ):
            raise InputError(
                f'{self.ann_file}: line {number}: expected '
                f'"{self._columns}", at least one frame, and several labels '
                f'only if multi_class=True, got {excerpt(line)}'
            )
        known = self.num_classes or len(self.metainfo.get('classes', ()))
        if labels != [-1] and not all(
            label >= 0 and (not known or label < known) for label in labels
        ):
            wanted = (
                f'0..{known - 1} of {known} classes' if known else 'from 0'
            )
            raise InputError(
                f'{self.ann_file}: line {number}: expected labels {wanted}, '
                f'got {excerpt(labels)}; set num_classes, or use the list of '
                'this data set'
            )
        return (name, *numbers[: max(counts - 1, 0)]), labels

    @property
    def _columns(self) -> str:
        """The columns of a line, as a message names them."""
        raise NotImplementedError

    @property
    def _delimiter(self) -> str | None:
        """The text between columns; None is any white space."""
        return None


@DATASETS.register_module()
class ActionVideoDataset(_ActionList, VideoDataset):
    """mmaction2's ``VideoDataset`` that can go on without broken videos.

    Lists are checked against ``num_classes``, or the classes of
    ``metainfo``, and samples get a ``video_id``.

    Args:
        *args: Passed on to ``VideoDataset``.
        on_broken: What happens to a video that cannot be decoded. With
            ``raise``, an error names it. With ``skip``, a warning does, and
            in training another is drawn; in test mode the next video that
            can be decoded stands in, marked by the meta key ``broken``:
            ``mmskip.ActionAccuracy`` and ``mmskip.VideoCost`` leave it out
            and report it, other metrics do not know of it.
        **kwargs: Passed on to ``VideoDataset``.

    Raises:
        ValueError: ``on_broken`` is something else.
        InputError: The list cannot be read, has labels that are not classes,
            or no label in some lines of a data set of single labels. Where
            no line of a test set has one, a warning says so.
    """

    @property
    def _columns(self) -> str:
        return 'path label'

    @property
    def _delimiter(self) -> str:
        return self.delimiter


@DATASETS.register_module()
class ActionFrameDataset(_ActionList, RawframeDataset):
    """mmaction2's ``RawframeDataset``, like :class:`ActionVideoDataset`."""

    @property
    def _columns(self) -> str:
        return f'path {"offset " if self.with_offset else ""}frames label'
