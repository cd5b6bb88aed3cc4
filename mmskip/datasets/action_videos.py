"""mmaction2's lists of videos, with what untrimmed test sets need."""

import os.path as osp
import warnings
from typing import Any

from mmaction.datasets import RawframeDataset, VideoDataset

from mmskip.registry import DATASETS

ON_BROKEN = ('raise', 'skip')
# After so many failures in a row it is not the videos that are broken.
ATTEMPTS = 8
# Meta key of stand-ins: why the video cannot be decoded.
BROKEN = 'broken'


class BrokenVideoError(RuntimeError):
    """A video cannot be decoded, or none can."""


class _ActionList:
    """What both data sets add to mmaction2's.

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
            ValueError: A line cannot be read, or has a label that is not
                one of the classes.
        """
        if '://' not in self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{self.ann_file}: expected a list of videos, found none; '
                'write it with tools/dataset_converters'
            )
        try:
            videos = super().load_data_list()
        except (AssertionError, IndexError, ValueError) as error:
            raise ValueError(
                f'{self.ann_file}: expected lines "path label" (videos) or '
                '"path frames label" (frames), with several labels only if '
                f'multi_class=True and num_classes is set; got another ('
                f'{error})'
            ) from error
        prefix = next(iter(self.data_prefix.values()), None) or ''
        for video in videos:
            self._check(video)
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
        """The next video that can be decoded, under the name of this one.

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

    def _check(self, video: dict) -> None:
        """Refuse unknown labels, and read a folder without labels as such."""
        if not self.multi_class:
            labels = [video['label']]
        elif video['label'] == [-1]:
            # mmaction2's label of lines without one would be the last class.
            video['label'] = []
            return
        else:
            labels = video['label']
        known = self.num_classes or len(self.metainfo.get('classes', ()))
        if known and not all(-1 <= label < known for label in labels):
            path = video.get('frame_dir', video.get('filename'))
            raise ValueError(
                f'{self.ann_file}: {path}: expected labels 0..{known - 1} of '
                f'{known} classes, got {labels}; set num_classes, or use '
                'the list of this data set'
            )


@DATASETS.register_module()
class ActionVideoDataset(_ActionList, VideoDataset):
    """mmaction2's ``VideoDataset`` that can go on without broken videos.

    Lists are checked against ``num_classes``, or the classes of
    ``metainfo``, and samples get a ``video_id``.

    Args:
        *args: As of ``VideoDataset``.
        on_broken: What happens to a video that cannot be decoded. With
            ``raise``, an error names it. With ``skip``, a warning does, and
            in training another is drawn; in test mode the next video that
            can be decoded stands in, marked by the meta key ``broken``:
            ``mmskip.ActionAccuracy`` and ``mmskip.VideoCost`` leave it out
            and report it, other metrics do not know of it.
        **kwargs: As of ``VideoDataset``.

    Raises:
        ValueError: ``on_broken`` is something else, or the list has labels
            that are not classes.
    """


@DATASETS.register_module()
class ActionFrameDataset(_ActionList, RawframeDataset):
    """mmaction2's ``RawframeDataset``, like :class:`ActionVideoDataset`."""
