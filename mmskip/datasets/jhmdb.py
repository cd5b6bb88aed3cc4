"""J-HMDB for spatio-temporal localisation: who does what in a frame."""

import os
import os.path as osp
from typing import Any

import numpy as np
from mmaction.datasets import BaseActionDataset

from mmskip.options import check_least
from mmskip.registry import DATASETS
from mmskip.runtime import InputError
from mmskip.runtime.reading import reading

from .jhmdb_release import NUM_SPLITS, read_ground_truth

SUBSETS = ('train', 'test')


@DATASETS.register_module()
class JHMDBDataset(BaseActionDataset):
    """Annotated frames of J-HMDB, for mmaction2's pipelines.

    Read from ``JHMDB-GT.pkl`` and the folders of frames
    ``<img prefix>/<action>/<video>/00001.png``. Every annotated frame is a
    sample, a key frame; ``mmskip.SampleKeyFrameClip`` chooses the clip
    around it. Frames without a box are no samples: nobody is known to be
    there or not.

    A sample has ``frame_dir``, ``filename_tmpl``, ``total_frames``,
    ``video_id`` (``action/video``), ``frame_id`` (from 0), ``gt_bboxes``
    (float32, shape (n, 4), as shares of width and height, which is what
    mmaction2's ``RawFrameDecode`` takes) and ``gt_labels`` (int64, (n,)).

    Args:
        ann_file: The pickle. Defaults to ``JHMDB-GT.pkl``.
        data_prefix: ``img`` is the folder of the frames: ``Rename_Images``
            in the original release, the default; ``Frames`` in MOC's copy.
        split: 1, 2 or 3. Results are reported on split 1.
        subset: ``train`` or ``test``.
        frame_stride: Use every n-th annotated frame of each video.
        num_classes: Number of actions, checked if given; of the original
            it is 21.
        filename_tmpl: Name of a frame. Defaults to ``{:05}.png``.
        **options: Further ones of mmaction2's ``BaseActionDataset``.

    Raises:
        FileNotFoundError: The pickle, or a frame, is missing.
        ValueError: An argument is out of range.
        InputError: The pickle is not what it should be.
    """

    def __init__(
        self,
        ann_file: str = 'JHMDB-GT.pkl',
        data_prefix: dict | None = None,
        split: int = 1,
        subset: str = 'train',
        frame_stride: int = 1,
        num_classes: int | None = None,
        filename_tmpl: str = '{:05}.png',
        **options: Any,
    ) -> None:
        if subset not in SUBSETS:
            raise ValueError(
                f'expected subset to be one of {SUBSETS}, got {subset!r}'
            )
        if split not in range(1, NUM_SPLITS + 1):
            raise ValueError(f'expected split 1..{NUM_SPLITS}, got {split!r}')
        if not isinstance(frame_stride, int) or frame_stride < 1:
            raise ValueError(
                f'expected frame_stride 1, 2, ..., got {frame_stride!r}'
            )
        check_least(1, num_classes=num_classes)
        self.split = split
        self.subset = subset
        self.frame_stride = frame_stride
        self.filename_tmpl = filename_tmpl
        super().__init__(
            ann_file,
            data_prefix=data_prefix or dict(img='Rename_Images'),
            num_classes=num_classes,
            start_index=1,
            **options,
        )

    def load_data_list(self) -> list[dict]:
        """Read the boxes and look for the frames."""
        truth = read_ground_truth(self.ann_file)
        with reading(self.ann_file, 'JHMDB-GT.pkl', 'download it again'):
            return self._list_samples(truth)

    def _list_samples(self, truth: dict) -> list[dict]:
        """Samples of the split and subset."""
        labels = list(truth['labels'])
        if self.num_classes not in (None, len(labels)):
            raise InputError(
                f'{self.ann_file}: expected {self.num_classes} classes, got '
                f'{len(labels)} ({", ".join(labels)}); set num_classes of '
                'the data and of the model to it'
            )
        self._metainfo.setdefault('classes', tuple(labels))
        splits = truth[f'{self.subset}_videos']
        if len(splits) < self.split:
            raise ValueError(
                f'{self.ann_file}: expected split {self.split}, got '
                f'{len(splits)} of them'
            )
        videos = splits[self.split - 1]
        samples = [
            info for video in videos for info in self._load(truth, video)
        ]
        if not samples:
            raise InputError(
                f'{self.ann_file}: expected annotated frames in split '
                f'{self.split} ({self.subset}), got none in {len(videos)} '
                'videos'
            )
        return samples

    def _load(self, truth: dict, video: str) -> list[dict]:
        """Samples of one video."""
        folder = osp.join(self.data_prefix['img'], video)
        height, width = truth['resolution'][video]
        frames = int(truth['nframes'][video])
        found: dict[int, list] = {}
        for label, tubes in truth['gttubes'][video].items():
            for frame, *box in (row for tube in tubes for row in tube):
                found.setdefault(int(frame) - 1, []).append((box, label))
        self._check_frames(folder, frames)
        scale = np.array([width, height, width, height], np.float32)
        return [
            dict(
                frame_dir=folder,
                filename_tmpl=self.filename_tmpl,
                total_frames=frames,
                video_id=video,
                frame_id=frame,
                gt_bboxes=np.array(
                    [np.clip(box / scale, 0, 1) for box, _ in found[frame]],
                    np.float32,
                ),
                gt_labels=np.array([label for _, label in found[frame]]),
            )
            for frame in sorted(found)[:: self.frame_stride]
        ]

    def _check_frames(self, folder: str, count: int) -> None:
        """Refuse a folder without the frames 1 to ``count``."""
        present = set(os.listdir(folder)) if osp.isdir(folder) else set()
        for number in range(1, count + 1):
            name = self.filename_tmpl.format(number)
            if name not in present:
                raise FileNotFoundError(
                    f'{osp.join(folder, name)}: expected this frame, because '
                    f'{self.ann_file} lists {count}; extract '
                    'Rename_Images.tar.gz, or set data_prefix and '
                    'filename_tmpl'
                )
