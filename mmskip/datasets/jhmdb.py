"""J-HMDB for spatio-temporal localisation: who does what in a frame."""

import os
import os.path as osp
import pickle
from typing import Any

import numpy as np
from mmaction.datasets import BaseActionDataset
from mmcv.transforms import BaseTransform
from mmengine.fileio import get

from mmskip.compat.pickles import read_pickle
from mmskip.options import check_least
from mmskip.reading import InputError, reading, reads
from mmskip.registry import DATASETS, TRANSFORMS

from .jhmdb_release import NUM_SPLITS, read_ground_truth

SUBSETS = ('train', 'test')
KEYS = ('last', 'middle')


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
        """List the samples of the split and subset."""
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
        """List the samples of one video."""
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


@TRANSFORMS.register_module()
class LoadActorBoxes(BaseTransform):
    """Propose boxes of the persons in a key frame.

    From a file of a person detector, in the format of mmaction2's AVA
    proposals: a pickled dict from ``'<video_id>,<number of the frame>'``,
    four digits, counted from ``start_index`` (``'run/v1,0007'``), to boxes
    (n, 4) as shares of width and height, or (n, 5) with their scores last.
    A frame without persons has (0, 4).

    Without a file, **the ground truth's boxes are proposed**. To train on
    them is usual; measured on them, recall is 100 by construction and
    frame-mAP is that of telling actions apart where persons are known.

    Stands before the transform that decodes, which scales both kinds of
    boxes. Required keys: ``gt_bboxes`` and, for a file, ``video_id``,
    ``frame_id``, ``start_index``. Added: ``proposals``, float32 (n, 4).

    Args:
        proposal_file: Boxes of a detector. None: the ground truth.
        score_thr: Least score of a proposal; if none has it, the one of the
            highest score is taken, as mmaction2 does. Defaults to its 0.9.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: ``score_thr`` is out of range.
        InputError: The file holds something else.
    """

    def __init__(
        self, proposal_file: str | None = None, score_thr: float = 0.9
    ) -> None:
        if not 0 <= score_thr <= 1:
            raise ValueError(
                f'expected score_thr in [0, 1], got {score_thr!r}'
            )
        self.proposal_file = proposal_file
        self.score_thr = score_thr
        self._found = (
            None if proposal_file is None else _read_boxes(proposal_file)
        )

    def transform(self, results: dict) -> dict:
        """Add ``proposals``.

        Raises:
            InputError: The file has no such frame, or its boxes are no
                shares of it.
        """
        if self._found is None:
            results['proposals'] = results['gt_bboxes'].copy()
        else:
            with reading(self.proposal_file, 'boxes of frames'):
                results['proposals'] = self._of_file(results)
        return results

    def _of_file(self, results: dict) -> np.ndarray:
        frame = results['frame_id'] + results['start_index']
        key = f'{results["video_id"]},{frame:04d}'
        if key not in self._found:
            raise InputError(
                f'{self.proposal_file}: expected boxes of the frame {key!r}, '
                f'got {len(self._found)} frames without it; give frames '
                'without persons an array of shape (0, 4)'
            )
        try:
            table = np.asarray(self._found[key], np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{self.proposal_file}: {key}: expected an array of boxes, '
                f'got {type(self._found[key]).__name__} ({error})'
            ) from error
        if table.ndim != 2 or table.shape[1] not in (4, 5):
            raise InputError(
                f'{self.proposal_file}: {key}: expected boxes of shape (n, 4)'
                f' or (n, 5), got {table.shape}'
            )
        boxes = table[:, :4]
        is_right = (boxes[:, :2] <= boxes[:, 2:]).all(1)
        is_right &= np.isfinite(table).all(1)
        if not is_right.all():
            raise ValueError(
                f'{self.proposal_file}: {key}: expected finite boxes with '
                f'x1 <= x2 and y1 <= y2, got {table[~is_right][0].tolist()}'
            )
        if boxes.size and not 0 <= boxes.min() <= boxes.max() <= 1:
            raise InputError(
                f'{self.proposal_file}: {key}: expected boxes as shares of '
                f'width and height, got {boxes.min()} to {boxes.max()}; '
                'divide them by the size of the frame'
            )
        if len(table) and table.shape[1] == 5:
            least = min(self.score_thr, table[:, 4].max())
            boxes = boxes[table[:, 4] >= least]
        return boxes


@TRANSFORMS.register_module()
class SampleKeyFrameClip(BaseTransform):
    """Choose the T frames of a clip that a key frame belongs to.

    Where the video has no such frame, its first or last one is repeated, so
    that videos may be shorter than clips.

    Required keys: ``frame_id`` (of the key frame, from 0), ``total_frames``,
    ``start_index``. Added: ``frame_inds``, ``clip_len``, ``frame_interval``,
    ``num_clips``.

    Args:
        clip_len: Frames T of a clip.
        frame_interval: Distance of its frames. Defaults to 1.
        key: ``last``: the clip ends at the key frame, nothing of the future
            is seen, as in YOWO. ``middle``: the key frame is frame T // 2.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, clip_len: int = 16, frame_interval: int = 1, key: str = 'last'
    ) -> None:
        if key not in KEYS:
            raise ValueError(f'expected key to be one of {KEYS}, got {key!r}')
        if clip_len < 1 or frame_interval < 1:
            raise ValueError(
                'expected clip_len and frame_interval from 1, got '
                f'{clip_len} and {frame_interval}'
            )
        self.clip_len = clip_len
        self.frame_interval = frame_interval
        self.key = key

    def transform(self, results: dict) -> dict:
        at = self.clip_len - 1 if self.key == 'last' else self.clip_len // 2
        steps = (np.arange(self.clip_len) - at) * self.frame_interval
        frames = np.clip(
            results['frame_id'] + steps, 0, results['total_frames'] - 1
        )
        results['frame_inds'] = frames + results['start_index']
        results['clip_len'] = self.clip_len
        results['frame_interval'] = self.frame_interval
        results['num_clips'] = 1
        return results


@reads('a pickled dict from frames to boxes')
def _read_boxes(path: str) -> dict:
    """Read proposals, without running code that the file may hold.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    try:
        found = read_pickle(get(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path}: expected a pickled dict from frames to boxes, got a '
            f'file that cannot be read: {error}'
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f'{path}: expected a dict from frames to boxes, got '
            f'{type(found).__name__}'
        )
    return found
